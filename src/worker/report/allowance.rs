//! Limits the log lines about one subject in a minute: the first few show what happens, and the rest are counted.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

/// Most lines in a minute about one subject.
const EACH: u32 = 3;

/// Most lines in a minute about all subjects together.
const ALL: u32 = 60;

const MINUTE: Duration = Duration::from_secs(60);

/// Lines of one kind. Pure: `now` is an argument. Holds at most [`ALL`] subjects.
#[derive(Debug)]
pub(crate) struct Allowance {
    /// When the current minute began.
    begun: Instant,
    /// Lines in it, by subject.
    lines: HashMap<Box<str>, u32>,
    /// Lines that were not allowed and are not reported yet.
    held_back: u64,
}

impl Allowance {
    pub(crate) fn new(now: Instant) -> Allowance {
        Allowance { begun: now, lines: HashMap::new(), held_back: 0 }
    }

    /// Returns whether a line about `subject` may be written now.
    pub(crate) fn allows(&mut self, subject: &str, now: Instant) -> bool {
        self.allows_up_to(EACH, subject, now)
    }

    /// Returns the same for one line a minute.
    pub(crate) fn allows_first(&mut self, subject: &str, now: Instant) -> bool {
        self.allows_up_to(1, subject, now)
    }

    fn allows_up_to(&mut self, each: u32, subject: &str, now: Instant) -> bool {
        if now.saturating_duration_since(self.begun) >= MINUTE {
            self.begun = now;
            self.lines.clear();
        }
        let all: u32 = self.lines.values().sum();
        let lines = self.lines.get(subject).copied().unwrap_or_default();
        if lines >= each || all >= ALL {
            self.held_back += 1;
            return false;
        }
        self.lines.insert(subject.into(), lines + 1);
        true
    }

    /// Returns how many lines were held back since the last call.
    pub(crate) fn take_held_back(&mut self) -> u64 {
        std::mem::take(&mut self.held_back)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_subject_gets_three_lines_a_minute() {
        let begun = Instant::now();
        let mut lines = Allowance::new(begun);
        let second = |n| begun + Duration::from_secs(n);
        let allowed = (0..50).filter(|n| lines.allows("acme", second(*n))).count();
        assert_eq!((allowed, lines.take_held_back(), lines.take_held_back()), (3, 47, 0));
        assert!(lines.allows("globex", second(59)), "one subject takes nothing from another");
        assert!(!lines.allows("acme", second(59)));
        assert!(lines.allows("acme", second(60)), "the next minute");
    }

    #[test]
    fn one_line_a_minute_is_the_first() {
        let begun = Instant::now();
        let mut lines = Allowance::new(begun);
        let allowed: Vec<u64> =
            (0..120).filter(|n| lines.allows_first("timestamp", begun + Duration::from_secs(*n))).collect();
        assert_eq!(allowed, [0, 60]);
    }

    #[test]
    fn many_subjects_together_get_sixty_lines_a_minute() {
        let now = Instant::now();
        let mut lines = Allowance::new(now);
        let allowed = (0..1000).filter(|n| lines.allows(&format!("target-{n}"), now)).count();
        assert_eq!((allowed, lines.lines.len(), lines.take_held_back()), (60, 60, 940));
    }
}
