//! The adaptive limit of one lane: how many attempts may be in flight, by what became of those before.

use std::time::Instant;

/// The limit of a lane that nothing is known of. Small, because a receiver that hangs shows it only when its timeout is over, and
/// not one, because a lane that answers at once would begin with a queue.
pub const FIRST: f64 = 4.0;

/// How much one attempt counts in the share of those that fail.
const GAIN: f64 = 1.0 / 8.0;

/// The share of failing attempts from which a lane counts as troubled: one failure is forgotten after twenty answers.
const TROUBLE: f64 = 0.01;

/// See the module's words.
#[derive(Clone, Debug)]
pub struct Limit {
    /// At least 1, at most `most`.
    value: f64,
    most: f64,
    /// Below it the limit grows by one for each answer, above it by one for each round.
    threshold: f64,
    /// Share of attempts that fail, 0 to 1, the latest ones counting most.
    failing: f64,
    /// Failures since the last answer.
    in_a_row: u32,
    /// When it was cut last. Attempts begun before say nothing new.
    cut: Option<Instant>,
    /// When the latest attempt began that was answered.
    alive: Option<Instant>,
}

impl Limit {
    /// The limit of a lane that nothing is known of; `most` is what it may grow to, 1 or more.
    pub fn new(most: usize) -> Limit {
        let most = (most.max(1)) as f64;
        Limit { value: FIRST.min(most), most, threshold: most, failing: 0.0, in_a_row: 0, cut: None, alive: None }
    }

    /// How many attempts may be in flight now.
    pub fn get(&self) -> usize {
        self.value as usize
    }

    /// How many that will be soon, if all goes well: while it grows by one for each answer, four times as many two rounds on.
    pub fn soon(&self) -> usize {
        match self.value < self.threshold {
            true => (4.0 * self.value).min(self.threshold) as usize,
            false => self.get(),
        }
    }

    /// Whether one attempt at a time is all that is left.
    pub fn is_one(&self) -> bool {
        self.value < 2.0
    }

    /// Whether it has grown as far as it may.
    #[cfg(test)]
    pub fn is_full(&self) -> bool {
        self.value >= self.most
    }

    /// Whether attempts have failed lately.
    pub fn is_troubled(&self) -> bool {
        self.failing >= TROUBLE
    }

    /// When the latest attempt began that was answered.
    pub fn alive(&self) -> Option<Instant> {
        self.alive
    }

    /// Failures since the last answer.
    pub fn in_a_row(&self) -> u32 {
        self.in_a_row
    }

    /// An attempt that began at `begun` was answered, when up to `used` were in flight. A limit of which less than half is used
    /// does not grow: nothing says that the target could take more (as RFC 7661 has it for TCP), and a lane that hangs takes all
    /// of its limit.
    pub fn answered(&mut self, begun: Instant, used: usize) {
        self.in_a_row = 0;
        self.alive = self.alive.max(Some(begun));
        self.failing -= self.failing * GAIN;
        if (used as f64) < self.value / 2.0 {
            return;
        }
        self.value += if self.value < self.threshold { 1.0 } else { self.value.recip() };
        self.value = self.value.min(self.most);
    }

    /// An attempt that began at `begun` failed in a way that says something of the target's capacity.
    ///
    /// One that began before another that has been answered is no sign that nobody is there: a target that hung and answers
    /// again would otherwise be taken for dead once more by each old attempt that times out.
    pub fn failed(&mut self, begun: Instant, now: Instant) {
        let old = self.alive.is_some_and(|alive| begun < alive);
        if self.in_a_row == 0 && !old {
            self.threshold = (self.value / 2.0).max(2.0);
        }
        self.in_a_row = self.in_a_row.saturating_add(u32::from(!old));
        self.failing += (1.0 - self.failing) * GAIN;
        let whole_window = !old && f64::from(self.in_a_row) >= self.value;
        if whole_window {
            self.value = 1.0;
        } else if self.cut.is_none_or(|cut| begun >= cut) {
            self.value = (self.value * (1.0 - self.failing / 2.0)).max(1.0);
            self.cut = Some(now);
        }
    }

    /// The target asked to be left alone: afterwards it begins with one attempt.
    pub fn pushed_back(&mut self) {
        self.value = 1.0;
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// One round: a whole window in flight, of which every n-th fails, and all of it is answered in the end.
    fn round(limit: &mut Limit, now: &mut Instant, every: usize) {
        let begun = *now;
        *now += Duration::from_millis(10);
        for n in 1..=limit.get() {
            match every > 0 && n % every == 0 {
                true => limit.failed(begun, *now),
                false => limit.answered(begun, 64),
            }
        }
        *now += Duration::from_millis(1);
    }

    #[test]
    fn answers_double_it_in_each_round_up_to_the_most() {
        let (mut limit, mut now) = (Limit::new(64), Instant::now());
        let mut grown = vec![limit.get()];
        while !limit.is_full() {
            round(&mut limit, &mut now, 0);
            grown.push(limit.get());
        }
        assert_eq!(grown, [4, 8, 16, 32, 64]);
        round(&mut limit, &mut now, 0);
        assert_eq!(limit.get(), 64);
        assert_eq!(Limit::new(1).get(), 1);
    }

    #[test]
    fn what_it_will_be_soon_is_two_rounds_ahead_of_it() {
        let (mut limit, mut now) = (Limit::new(64), Instant::now());
        let mut seen = vec![limit.soon()];
        for _ in 0..5 {
            round(&mut limit, &mut now, 0);
            seen.push(limit.soon());
        }
        assert_eq!(seen, [16, 32, 64, 64, 64, 64]);
    }

    #[test]
    fn what_is_not_used_does_not_grow() {
        let (mut limit, now) = (Limit::new(64), Instant::now());
        (0..100).for_each(|_| limit.answered(now, 1));
        assert_eq!(limit.get(), 4);
        (0..100).for_each(|_| limit.answered(now, 5));
        assert_eq!(limit.get(), 11, "twice what was in flight, and a little");
    }

    #[test]
    fn a_window_that_fails_whole_leaves_one_attempt() {
        let (mut limit, begun) = (Limit::new(64), Instant::now());
        (0..60).for_each(|_| limit.answered(begun, 64));
        assert_eq!(limit.get(), 64);
        (0..64).for_each(|_| limit.failed(begun, begun));
        assert_eq!((limit.get(), limit.is_one()), (1, true));
        limit.failed(begun, begun);
        assert_eq!(limit.get(), 1, "never less");
    }

    #[test]
    fn after_trouble_it_grows_fast_to_half_of_what_it_was_and_then_slowly() {
        let (mut limit, mut now) = (Limit::new(64), Instant::now());
        (0..60).for_each(|_| limit.answered(now, 64));
        (0..64).for_each(|_| limit.failed(now, now));
        let grown: Vec<_> = (0..8)
            .map(|_| {
                round(&mut limit, &mut now, 0);
                limit.get()
            })
            .collect();
        assert_eq!(grown, [2, 4, 8, 16, 32, 32, 33, 34]);
    }

    #[test]
    fn one_round_cuts_once_however_many_of_it_fail() {
        let (mut limit, begun) = (Limit::new(64), Instant::now());
        (0..60).for_each(|_| limit.answered(begun, 64));
        let later = begun + Duration::from_secs(1);
        limit.failed(begun, later);
        let cut = limit.get();
        assert_eq!(cut, 60);
        (0..20).for_each(|_| limit.failed(begun, later));
        assert_eq!(limit.get(), cut);
        limit.failed(later, later);
        assert!(limit.get() < cut, "the next round cuts again");
    }

    #[test]
    fn a_few_failures_among_many_answers_cost_little() {
        let settled = |every| {
            let (mut limit, mut now) = (Limit::new(64), Instant::now());
            (0..200).for_each(|_| round(&mut limit, &mut now, every));
            limit.get()
        };
        assert!(settled(20) >= 16, "one in twenty: {}", settled(20));
        assert!((2..=16).contains(&settled(2)), "every other one: {}", settled(2));
    }

    #[test]
    fn old_attempts_that_time_out_do_not_undo_a_recovery() {
        let (mut limit, start) = (Limit::new(64), Instant::now());
        let second = |n| start + Duration::from_secs(n);
        (0..4).for_each(|_| limit.failed(start, second(30)));
        limit.answered(second(31), 64);
        limit.answered(second(32), 64);
        for begun in [5, 10, 15] {
            limit.failed(second(begun), second(33));
        }
        assert!(!limit.is_one() && limit.in_a_row() == 0);
    }

    #[test]
    fn pushed_back_it_begins_with_one() {
        let mut limit = Limit::new(64);
        limit.pushed_back();
        assert!(limit.is_one());
        limit.answered(Instant::now(), 64);
        assert_eq!(limit.get(), 2);
    }
}
