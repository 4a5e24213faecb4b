//! The most of something over the last minute or two.

use std::time::{Duration, Instant};

/// The least that it reaches back; twice as much at most.
pub const WINDOW: Duration = Duration::from_secs(60);

/// See the module's words.
#[derive(Clone, Copy, Debug)]
pub struct Peak {
    /// In the window that runs, and in the one before.
    most: [usize; 2],
    since: Instant,
}

impl Peak {
    /// As if it had been so much until now.
    pub fn new(value: usize, now: Instant) -> Peak {
        Peak { most: [value, 0], since: now }
    }

    /// It is so much now. Returns the most.
    pub fn note(&mut self, value: usize, now: Instant) -> usize {
        let passed = now.saturating_duration_since(self.since);
        if passed >= WINDOW {
            let last = if passed < 2 * WINDOW { self.most[0] } else { 0 };
            *self = Peak { most: [0, last], since: now };
        }
        self.most[0] = self.most[0].max(value);
        self.most[0].max(self.most[1])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_the_most_of_one_window_at_least_and_of_two_at_most() {
        let start = Instant::now();
        let mut peak = Peak::new(5, start);
        let noted = [(0, 3), (10, 9), (59, 1), (60, 1), (119, 1), (120, 2), (400, 0)]
            .map(|(second, value)| peak.note(value, start + Duration::from_secs(second)));
        assert_eq!(noted, [5, 9, 9, 9, 9, 2, 0]);
    }
}
