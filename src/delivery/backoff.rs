//! The retry schedule: how long to wait before retry n (docs/explanation/retry-ladder.md).
//!
//! | | with the defaults (15 s, times 2, at most 1 h, jitter 0.2) |
//! |---|---|
//! | retry 1 | 12 s to 18 s |
//! | retry 2 | 24 s to 36 s |
//! | retry 3 | 48 s to 72 s |
//! | retry 9 and later | 48 min to 72 min |
//!
//! The maximum caps the schedule, and the jitter is laid around the capped value. (Jitter below the maximum only would
//! send all long-failing jobs of an outage back in the same moment.) Rounding up to a rung is the ladder's business.

use std::time::Duration;

use crate::settings::Backoff;

/// The wait before retry `retry` (1-based; 0 counts as 1) without jitter: `min(maximum, initial * multiplier^(retry-1))`.
/// Never panics and never overflows, whatever the policy says.
pub fn nominal(policy: &Backoff, retry: u32) -> Duration {
    let growth = policy.multiplier.powf(f64::from(retry.saturating_sub(1)));
    scale(policy.initial, growth).min(policy.maximum)
}

/// The shortest and the longest wait before retry `retry` once jitter is laid around the nominal wait.
pub fn bounds(policy: &Backoff, retry: u32) -> (Duration, Duration) {
    let nominal = nominal(policy, retry);
    (scale(nominal, 1.0 - policy.jitter), scale(nominal, 1.0 + policy.jitter))
}

/// The wait before retry `retry`: drawn evenly between the [`bounds`] by `draw`, a number from 0 (shortest) to 1 (longest).
/// A draw outside of that counts as the nearer end.
pub fn wait(policy: &Backoff, retry: u32, draw: f64) -> Duration {
    let (shortest, longest) = bounds(policy, retry);
    shortest.saturating_add(scale(longest.saturating_sub(shortest), draw.clamp(0.0, 1.0))).min(longest)
}

/// Returns the wait after failed attempt number `attempt` (from 1) of a target with `retry_attempts` retries: the schedule's, or
/// the receiver's wish `not_before` if that is later. `None`: it was the last attempt. `draw` is as for [`wait`].
pub fn next_wait(
    policy: &Backoff,
    attempt: u32,
    retry_attempts: u32,
    not_before: Option<Duration>,
    draw: f64,
) -> Option<Duration> {
    (attempt <= retry_attempts).then(|| wait(policy, attempt, draw).max(not_before.unwrap_or_default()))
}

/// The longest wait that this policy can come to: maximum plus jitter.
pub fn longest(policy: &Backoff) -> Duration {
    scale(policy.maximum, 1.0 + policy.jitter)
}

/// The shortest wait that this policy can come to: the first one, less jitter.
pub fn shortest(policy: &Backoff) -> Duration {
    bounds(policy, 1).0
}

/// `duration * factor`; what no `Duration` can hold becomes the largest one, a negative or meaningless factor zero.
fn scale(duration: Duration, factor: f64) -> Duration {
    let seconds = duration.as_secs_f64() * factor;
    if seconds > 0.0 { Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX) } else { Duration::ZERO }
}

#[cfg(test)]
mod tests;
