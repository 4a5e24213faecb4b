//! How many jobs this worker has parked that are still away, by when they are due.
//!
//! Counted by due time and not by what comes back: with several workers, each sees only its share of what all have parked, and
//! a count that is kept by comings and goings never recovers from a worker that starts or stops.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

/// Due times are kept to a sixteenth of the wait, so that a lane with any backlog needs some hundred counts at most.
const PRECISION: u64 = 16;

/// See the module's words.
#[derive(Clone, Debug)]
pub struct Parked {
    start: Instant,
    /// From the millisecond since `start` when they are due to those that are.
    due: BTreeMap<u64, Due>,
    away: u64,
    /// Jobs a second that come back.
    returning: f64,
}

/// Those that are due together.
#[derive(Clone, Copy, Debug, Default)]
struct Due {
    jobs: u64,
    /// What they add to the rate of return.
    returning: f64,
}

impl Parked {
    /// None yet.
    pub fn new(now: Instant) -> Parked {
        Parked { start: now, due: BTreeMap::new(), away: 0, returning: 0.0 }
    }

    /// One more is away for `wait`.
    pub fn add(&mut self, wait: Duration, now: Instant) {
        let wait = millis(wait);
        let step = (wait / PRECISION).next_power_of_two().max(128);
        let due = millis(now.saturating_duration_since(self.start)).saturating_add(wait);
        let returning = 1_000.0 / wait.max(1) as f64;
        let together = self.due.entry((due / step + 1).saturating_mul(step)).or_default();
        together.jobs += 1;
        together.returning += returning;
        self.away += 1;
        self.returning += returning;
    }

    /// How many are still away.
    pub fn away(&mut self, now: Instant) -> u64 {
        let now = millis(now.saturating_duration_since(self.start));
        while let Some(first) = self.due.first_entry().filter(|first| *first.key() <= now) {
            let due = first.remove();
            self.away -= due.jobs;
            self.returning -= due.returning;
        }
        if self.away == 0 {
            self.returning = 0.0;
        }
        self.away
    }

    /// Jobs a second that come back, if as many go as come: one that is away for a minute comes back a sixtieth time a second.
    pub fn returning(&mut self, now: Instant) -> f64 {
        self.away(now);
        self.returning.max(0.0)
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn they_are_away_until_they_are_due() {
        let now = Instant::now();
        let mut parked = Parked::new(now);
        for seconds in [1, 60, 60, 3600] {
            parked.add(Duration::from_secs(seconds), now);
        }
        let away = [0, 2, 59, 65, 3599, 4000].map(|after| parked.away(now + Duration::from_secs(after)));
        assert_eq!(away, [4, 3, 3, 1, 1, 0]);
    }

    #[test]
    fn the_rate_of_return_is_what_goes_away_each_second() {
        let start = Instant::now();
        let mut parked = Parked::new(start);
        let second = |n| start + Duration::from_secs(n);
        // Ten a second, for ten or for a hundred seconds each.
        for n in 0..1_000 {
            (0..5).for_each(|_| parked.add(Duration::from_secs(10), second(n)));
            (0..5).for_each(|_| parked.add(Duration::from_secs(100), second(n)));
        }
        let rate = parked.returning(second(1_000));
        assert!((9.0..11.5).contains(&rate), "{rate}");
        assert_eq!(parked.returning(second(2_000)), 0.0);
    }

    #[test]
    fn a_large_backlog_takes_few_counts() {
        let start = Instant::now();
        let mut parked = Parked::new(start);
        for n in 0..200_000u64 {
            parked.add(Duration::from_millis(n * 18), start + Duration::from_millis(n / 10));
        }
        assert!(parked.due.len() < 300, "{}", parked.due.len());
        let half = parked.away(start + Duration::from_secs(1800));
        assert!((95_000..115_000).contains(&half), "{half}");
    }
}
