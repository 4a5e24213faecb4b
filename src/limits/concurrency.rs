//! Limits how many requests a circuit may have in flight: additive increase, multiplicative decrease (Chiu and Jain
//! 1989).
//!
//! The limit starts at [`START`] and grows by one for each success (slow start, RFC 5681). Above a threshold, which
//! follows from where trouble last began, it grows by one for each round. A limit that is not used does not grow (RFC
//! 7661). In each round with failures it shrinks once, in proportion to their recent share (DCTCP, RFC 8257). So a
//! receiver that fails one lead in twenty keeps most of its limit. Limits by latency (Vegas, gradients) were rejected:
//! a slow receiver is not a sick one.

use std::time::Instant;

/// The limit of a new circuit, and of one whose breaker has opened. A higher one would lose more slots to a receiver
/// that hangs.
pub const START: usize = 4;

/// Weight of one attempt in the recent share of failures.
const GAIN: f64 = 1.0 / 8.0;

/// Recent share of failures from which a circuit counts as limited: one failure is forgotten after 19 successes.
const LIMITED: f64 = 0.01;

/// The concurrency limit of one circuit.
#[derive(Clone, Debug)]
pub struct Limit {
    /// From 1 to `most`.
    value: f64,
    most: f64,
    /// Below it the limit grows by one for each success, above it by one for each round.
    threshold: f64,
    /// Recent share of failures, 0 to 1.
    failing: f64,
    /// When it last shrank. Failures of attempts that began earlier belong to the same round.
    shrunk: Option<Instant>,
}

impl Limit {
    /// Returns the limit of a new circuit, which may grow to `most` (at least 1).
    pub fn new(most: usize) -> Limit {
        let most = most.max(1) as f64;
        Limit { value: most.min(START as f64), most, threshold: most, failing: 0.0, shrunk: None }
    }

    /// Returns how many requests may be in flight now.
    pub fn get(&self) -> usize {
        self.value as usize
    }

    /// Returns whether attempts have failed recently.
    pub fn has_failures(&self) -> bool {
        self.failing >= LIMITED
    }

    /// Notes that an attempt succeeded. `is_used`: at least half of the limit was in flight, or work waited for it.
    pub fn succeeded(&mut self, is_used: bool) {
        self.failing -= self.failing * GAIN;
        if is_used {
            self.value += if self.value < self.threshold { 1.0 } else { self.value.recip() };
            self.value = self.value.min(self.most);
        }
    }

    /// Notes that an attempt that began at `begun` failed.
    pub fn failed(&mut self, begun: Instant, now: Instant) {
        self.failing += (1.0 - self.failing) * GAIN;
        if self.shrunk.is_none_or(|shrunk| begun >= shrunk) {
            self.value = (self.value * (1.0 - self.failing / 2.0)).max(1.0);
            self.threshold = self.value;
            self.shrunk = Some(now);
        }
    }

    /// Notes that a receiver answers again after a run of errors, before which its limit was `before`: it grows fast up to
    /// half of that.
    pub fn recover(&mut self, before: usize) {
        self.threshold = self.threshold.max(before as f64 / 2.0);
    }

    /// Starts again after the breaker has opened, with slow start up to half of the limit.
    pub fn restart(&mut self) {
        self.threshold = (self.value / 2.0).max(2.0);
        self.value = self.most.min(START as f64);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// Plays one round: a whole window is in flight, and every n-th attempt of it fails.
    fn round(limit: &mut Limit, now: &mut Instant, every: usize) {
        let begun = *now;
        *now += Duration::from_millis(10);
        for n in 1..=limit.get() {
            match every > 0 && n % every == 0 {
                true => limit.failed(begun, *now),
                false => limit.succeeded(true),
            }
        }
        *now += Duration::from_millis(1);
    }

    fn grown(limit: &mut Limit, rounds: usize) -> Vec<usize> {
        let mut now = Instant::now();
        let after = |_| {
            round(limit, &mut now, 0);
            limit.get()
        };
        (0..rounds).map(after).collect()
    }

    #[test]
    fn it_starts_at_four_and_doubles_in_each_round_up_to_the_most() {
        let mut limit = Limit::new(64);
        assert_eq!(limit.get(), 4);
        assert_eq!(grown(&mut limit, 5), [8, 16, 32, 64, 64]);
        assert_eq!(Limit::new(1).get(), 1);
    }

    #[test]
    fn a_limit_that_is_not_used_does_not_grow() {
        let mut limit = Limit::new(64);
        (0..100).for_each(|_| limit.succeeded(false));
        assert_eq!(limit.get(), 4);
    }

    #[test]
    fn after_the_breaker_has_opened_it_grows_fast_to_half_and_then_slowly() {
        let mut limit = Limit::new(64);
        grown(&mut limit, 4);
        limit.restart();
        assert_eq!(limit.get(), 4);
        assert_eq!(grown(&mut limit, 6), [8, 16, 32, 32, 33, 34]);
    }

    #[test]
    fn one_round_shrinks_it_once_however_many_attempts_fail() {
        let (mut limit, begun) = (Limit::new(64), Instant::now());
        grown(&mut limit, 4);
        let later = begun + Duration::from_secs(1);
        (0..20).for_each(|_| limit.failed(begun, later));
        assert_eq!(limit.get(), 60);
        limit.failed(later, later);
        assert!(limit.get() < 60, "the next round shrinks it again");
    }

    #[test]
    fn it_shrinks_in_proportion_to_the_share_of_failures() {
        let settled = |every| {
            let (mut limit, mut now) = (Limit::new(64), Instant::now());
            (0..200).for_each(|_| round(&mut limit, &mut now, every));
            limit.get()
        };
        assert!(settled(20) >= 16, "one in twenty: {}", settled(20));
        assert!((1..=8).contains(&settled(2)), "every other one: {}", settled(2));
    }

    #[test]
    fn one_failure_is_forgotten_after_nineteen_successes() {
        let (mut limit, now) = (Limit::new(64), Instant::now());
        limit.failed(now, now);
        (0..18).for_each(|_| limit.succeeded(true));
        assert!(limit.has_failures());
        limit.succeeded(true);
        assert!(!limit.has_failures());
    }
}
