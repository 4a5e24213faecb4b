//! (to be written)

use std::time::Duration;

use crate::settings::Backoff;

/// STUB: the wait before retry `retry` (1-based) without jitter.
pub fn nominal(policy: &Backoff, retry: u32) -> Duration {
    let seconds = policy.initial.as_secs_f64() * policy.multiplier.powi(retry.saturating_sub(1) as i32);
    Duration::from_secs_f64(seconds.min(policy.maximum.as_secs_f64()))
}

/// STUB: least and most that jitter can make of it.
pub fn bounds(policy: &Backoff, retry: u32) -> (Duration, Duration) {
    let nominal = nominal(policy, retry);
    (nominal.mul_f64(1.0 - policy.jitter), nominal.mul_f64(1.0 + policy.jitter))
}
