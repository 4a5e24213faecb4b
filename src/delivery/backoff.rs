//! The retry schedule: how long to wait before retry n (docs/explanation/retry-ladder.md).
//!
//! | | with the defaults (15 s, times 2, at most 1 h, jitter 0.2) |
//! |---|---|
//! | retry 1 | 12 s to 18 s |
//! | retry 2 | 24 s to 36 s |
//! | retry 3 | 48 s to 72 s |
//! | retry 9 and later | 48 min to 72 min |
//!
//! The maximum caps the schedule, and the jitter is applied around the capped value. A cap after the jitter would give
//! all long-failing jobs of an outage the same wait, so they would return at the same moment. [`super::ladder`] rounds
//! a wait up to a delay queue.

use std::time::Duration;

use crate::settings::Backoff;

/// Returns the wait before retry `retry` without jitter: `min(maximum, initial * multiplier^(retry-1))`. Retries count
/// from 1, and 0 counts as 1. Never panics or overflows, whatever the policy says.
pub fn nominal(policy: &Backoff, retry: u32) -> Duration {
    let growth = policy.multiplier.powf(f64::from(retry.saturating_sub(1)));
    scale(policy.initial, growth).min(policy.maximum)
}

/// Returns the shortest and the longest wait before retry `retry`, with jitter around the nominal wait.
pub fn bounds(policy: &Backoff, retry: u32) -> (Duration, Duration) {
    let nominal = nominal(policy, retry);
    (scale(nominal, 1.0 - policy.jitter), scale(nominal, 1.0 + policy.jitter))
}

/// Returns the wait before retry `retry`: `draw` selects it evenly between the [`bounds`], from 0 (shortest) to 1
/// (longest). A draw outside that range counts as the nearer end.
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

/// Returns the longest wait of this policy: the maximum plus jitter.
pub fn longest(policy: &Backoff) -> Duration {
    scale(policy.maximum, 1.0 + policy.jitter)
}

/// Returns the shortest wait of this policy: the first one minus jitter.
pub fn shortest(policy: &Backoff) -> Duration {
    bounds(policy, 1).0
}

/// Returns `duration * factor`: the largest `Duration` on overflow, and zero for a factor that is negative or not a
/// number.
fn scale(duration: Duration, factor: f64) -> Duration {
    let seconds = duration.as_secs_f64() * factor;
    if seconds > 0.0 { Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX) } else { Duration::ZERO }
}

#[cfg(test)]
mod tests;
