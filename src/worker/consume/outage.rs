//! How the log reports an unreachable broker: at the first failed try, then at growing intervals, and once when it is
//! back.
//!
//! The worker tries every few seconds, for as long as necessary. One line per try would make hundreds of equal lines an
//! hour, which hide everything else.

use std::{
    collections::BTreeSet,
    fmt,
    time::{Duration, Instant},
};

use crate::broker::Intake;

/// Longest time without a line.
const LONGEST_SILENCE: Duration = Duration::from_secs(300);

/// The time from the first lost connection until all connections are back. Pure: `now` is an argument.
#[derive(Debug)]
pub(crate) struct Outage {
    since: Instant,
    tries: u32,
    /// The number of the try that gets the next line.
    next: u32,
    /// When the last line was due.
    said: Instant,
}

/// The state of both intakes' connections so far.
#[derive(Debug, Default)]
pub(crate) struct Course {
    /// Intakes that have consumed before.
    begun: BTreeSet<Intake>,
    /// Intakes that have no connection.
    away: BTreeSet<Intake>,
    outage: Option<Outage>,
}

impl Course {
    /// Notes that an intake has no connection, and returns the outage.
    pub(crate) fn lost(&mut self, intake: Intake, now: Instant) -> &mut Outage {
        self.away.insert(intake);
        self.outage.get_or_insert_with(|| Outage::new(now))
    }

    /// Returns whether an intake has no connection.
    pub(crate) fn is_outage(&self) -> bool {
        self.outage.is_some()
    }

    /// Notes that an intake has a connection. Returns the outage if this ends it.
    pub(crate) fn connected(&mut self, intake: Intake) -> Option<Outage> {
        self.away.remove(&intake);
        self.outage.take_if(|_| self.away.is_empty())
    }

    /// Notes that an intake consumes. Returns whether it does so for the first time.
    pub(crate) fn begun(&mut self, intake: Intake) -> bool {
        self.begun.insert(intake)
    }

    /// Returns whether an intake has consumed before.
    pub(crate) fn has_begun(&self, intake: Intake) -> bool {
        self.begun.contains(&intake)
    }

    /// Returns whether both intakes have consumed before.
    pub(crate) fn all_begun(&self) -> bool {
        [Intake::Events, Intake::Jobs].iter().all(|intake| self.begun.contains(intake))
    }
}

/// The text in a log line: `for 44 s, try 9`.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Failed {
    seconds: u64,
    tries: u32,
}

impl Outage {
    pub(crate) fn new(now: Instant) -> Outage {
        Outage { since: now, tries: 0, next: 1, said: now }
    }

    /// Counts a failed try. Returns a line for tries 1, 2, 4, 8 and so on, and for any try after five minutes without
    /// one.
    pub(crate) fn failed(&mut self, now: Instant) -> Option<Failed> {
        self.tries = self.tries.saturating_add(1);
        let silence = now.saturating_duration_since(self.said);
        if self.tries < self.next && silence < LONGEST_SILENCE {
            return None;
        }
        self.next = self.tries.saturating_mul(2);
        self.said = now;
        Some(Failed { seconds: self.seconds(now), tries: self.tries })
    }

    /// Returns how long it has lasted, in whole seconds.
    pub(crate) fn seconds(&self, now: Instant) -> u64 {
        now.saturating_duration_since(self.since).as_secs()
    }
}

impl fmt::Display for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "for {} s, try {}", self.seconds, self.tries)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::broker::pause::Pause;

    /// Returns the lines of an outage of this length, with the worker's pauses between tries.
    fn lines(length: Duration) -> Vec<Failed> {
        let begun = Instant::now();
        let (mut outage, mut pause, mut now) = (Outage::new(begun), Pause::for_connecting(), begun);
        let mut lines = Vec::new();
        while now < begun + length {
            lines.extend(outage.failed(now));
            now += pause.next(0.5);
        }
        lines
    }

    #[test]
    fn lines_grow_rarer() {
        let lines = lines(Duration::from_secs(61));
        assert_eq!(lines.iter().map(|line| line.tries).collect::<Vec<_>>(), [1, 2, 4, 8]);
        assert_eq!(lines[3].to_string(), "for 9 s, try 8");
    }

    #[test]
    fn a_long_outage_is_told_about_every_five_minutes() {
        let lines = lines(Duration::from_secs(6 * 3600));
        let gaps: Vec<_> = lines.windows(2).map(|pair| pair[1].seconds - pair[0].seconds).collect();
        assert!(gaps.iter().all(|gap| *gap <= 310), "{gaps:?}");
        assert!(gaps.iter().skip(10).all(|gap| *gap >= 290), "{gaps:?}");
        assert!((72..85).contains(&lines.len()), "{}", lines.len());
    }

    #[test]
    fn an_outage_lasts_until_both_intakes_are_back() {
        let (now, mut course) = (Instant::now(), Course::default());
        assert!(course.connected(Intake::Jobs).is_none());
        course.lost(Intake::Jobs, now);
        course.lost(Intake::Events, now + Duration::from_secs(1));
        assert!(course.connected(Intake::Jobs).is_none() && course.is_outage());
        let outage = course.connected(Intake::Events).expect("the outage ends");
        assert_eq!(outage.seconds(now + Duration::from_secs(9)), 9);
        assert!(!course.is_outage());
    }

    #[test]
    fn its_length_is_counted_from_its_begin() {
        let begun = Instant::now();
        let mut outage = Outage::new(begun);
        assert_eq!(outage.failed(begun), Some(Failed { seconds: 0, tries: 1 }));
        assert_eq!(outage.seconds(begun + Duration::from_millis(61_900)), 61);
    }
}
