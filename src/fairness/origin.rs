//! One URL origin, whoever's lanes lead there.
//!
//! Lanes are judged by their own answers. But an origin that many organizations use hangs for all of them at once, and each lane
//! that had nothing in flight then would have to lose an attempt of its own to learn it: together they would have all slots.
//!
//! It may as well hang for some and answer others. So lanes that have failed are told by the answers of such lanes alone: were they told
//! by any, they would all try again after each answer to a healthy neighbour, and leave it no room for a timeout.

use std::time::{Duration, Instant};

use super::{
    lane::{DOUBT, PROBE_EVERY},
    signal::Signal,
};

/// The so manieth part of the slots from which lanes to an origin that answers nobody count as uncertain.
pub const DOUBTED: usize = 8;

/// The so manieth part of the slots that an origin that answers nobody has at most, for all its lanes.
pub const HELD: usize = 4;

/// The so manieth part of the slots that is kept on top of those for its lanes that have not failed.
const LEFT: usize = 16;

/// No less than so many, however few slots there are.
const LEAST: usize = 4;

/// See the module's words.
#[derive(Clone, Debug, Default)]
pub struct Origin {
    in_flight: usize,
    /// Of lanes that have not failed, and of those that have.
    sides: [Side; 2],
    /// Mean seconds of an answer.
    latency: f64,
}

/// The attempts of some lanes of an origin.
#[derive(Clone, Debug, Default)]
struct Side {
    /// When the first attempt since the last answer began. What began before that answer is left out: it may hang, and a target
    /// that answers again must not wait for it.
    unanswered: Option<Instant>,
    /// When the latest attempt began.
    began: Option<Instant>,
}

impl Origin {
    /// Whether it answers nobody, and has so much in flight that its lanes count as uncertain: those that have failed (`blemished`),
    /// or those that have not.
    pub fn is_doubted(&self, slots: usize, blemished: bool, now: Instant) -> bool {
        self.in_flight >= (slots / DOUBTED).max(LEAST) && self.is_quiet(blemished, now)
    }

    /// Whether it answers nobody, and has all that it may have then. Lanes that have failed leave a few slots to those that have
    /// not, or they would take every one that becomes free, having the most jobs.
    pub fn is_held(&self, slots: usize, blemished: bool, now: Instant) -> bool {
        let left = if blemished { 0 } else { (slots / LEFT).max(1) };
        self.in_flight >= (slots / HELD).max(LEAST) + left
            && self.is_quiet(blemished, now)
            && !self.is_overdue(blemished, now)
    }

    /// Whether it is time to ask once more, although it answers nobody.
    pub fn is_overdue(&self, blemished: bool, now: Instant) -> bool {
        self.side(blemished).began.is_none_or(|began| now.saturating_duration_since(began) >= PROBE_EVERY)
    }

    fn is_quiet(&self, blemished: bool, now: Instant) -> bool {
        let usual = Duration::try_from_secs_f64(4.0 * self.latency).unwrap_or(DOUBT);
        self.side(blemished).unanswered.is_some_and(|since| now.saturating_duration_since(since) >= usual.max(DOUBT))
    }

    fn side(&self, blemished: bool) -> &Side {
        &self.sides[usize::from(blemished)]
    }

    /// An attempt begins.
    pub fn begin(&mut self, blemished: bool, now: Instant) {
        self.in_flight += 1;
        let side = &mut self.sides[usize::from(blemished)];
        side.began = Some(now);
        side.unanswered.get_or_insert(now);
    }

    /// An attempt that began at `begun` has ended.
    pub fn end(&mut self, begun: Instant, signal: Signal, blemished: bool, now: Instant) {
        self.in_flight = self.in_flight.saturating_sub(1);
        match signal {
            Signal::Answered => {
                self.answers(blemished);
                let took = now.saturating_duration_since(begun).as_secs_f64();
                self.latency = if self.latency == 0.0 { took } else { self.latency + (took - self.latency) / 8.0 };
            }
            Signal::PushedBack(_) => self.answers(blemished),
            Signal::Failing | Signal::Nothing => {
                if self.in_flight == 0 {
                    self.answers(true);
                }
            }
        }
    }

    /// Whoever has not failed may take heart from any answer; whoever has, from those to its like.
    fn answers(&mut self, blemished: bool) {
        let told = if blemished { &mut self.sides[..] } else { &mut self.sides[..1] };
        told.iter_mut().for_each(|side| side.unanswered = None);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn begun(count: usize, now: Instant) -> Origin {
        let mut origin = Origin::default();
        (0..count).for_each(|_| origin.begin(false, now));
        origin
    }

    #[test]
    fn one_that_answers_nobody_has_a_quarter_of_the_slots() {
        let now = Instant::now();
        let is = |count, after| {
            let origin = begun(count, now);
            (origin.is_doubted(80, false, now + after), origin.is_held(80, false, now + after))
        };
        assert_eq!(is(30, DOUBT / 2), (false, false), "it may answer still");
        assert_eq!(is(9, DOUBT), (false, false));
        assert_eq!(is(10, DOUBT), (true, false));
        assert_eq!(is(24, DOUBT), (true, false));
        assert_eq!(is(25, DOUBT), (true, true));
        assert_eq!(is(25, PROBE_EVERY), (true, false), "and is asked again");
        let failed = |count| {
            let mut origin = begun(count, now);
            origin.begin(true, now);
            origin
        };
        assert!(failed(19).is_held(80, true, now + DOUBT), "a quarter for those that have failed");
        assert!(!failed(2).is_held(8, true, now + DOUBT), "four in any case");
    }

    #[test]
    fn one_answer_is_enough_whatever_else_hangs() {
        let start = Instant::now();
        let mut origin = begun(20, start);
        let now = start + SECOND;
        origin.begin(false, now);
        origin.end(now, Signal::Answered, false, now);
        assert!(!origin.is_doubted(80, false, now + 10 * SECOND), "nothing began since");
        origin.begin(false, now + 10 * SECOND);
        let doubted = |after| origin.is_doubted(80, false, now + 10 * SECOND + after);
        assert!(!doubted(Duration::ZERO) && doubted(DOUBT));
    }

    #[test]
    fn answers_to_others_tell_nothing_to_those_that_have_failed() {
        let start = Instant::now();
        let mut origin = Origin::default();
        (0..25).for_each(|_| origin.begin(true, start));
        let now = start + SECOND;
        origin.begin(false, now);
        origin.end(now, Signal::Answered, false, now);
        assert!(origin.is_held(80, true, now) && !origin.is_held(80, false, now + 9 * SECOND));
        assert!(!origin.is_held(80, true, start + PROBE_EVERY), "and they are asked again, whoever else is");
        origin.begin(true, now);
        origin.end(now, Signal::Answered, true, now);
        assert!(!origin.is_held(80, true, now + 9 * SECOND), "an answer to one of them is one to all");
    }

    #[test]
    fn one_whose_answers_take_long_has_time_for_them() {
        let start = Instant::now();
        let mut origin = begun(20, start);
        (0..10).for_each(|_| origin.end(start, Signal::Answered, true, start + SECOND));
        (0..10).for_each(|_| origin.begin(true, start + SECOND));
        assert!(!origin.is_held(80, true, start + 4 * SECOND) && origin.is_held(80, true, start + 5 * SECOND));
        (0..20).for_each(|_| origin.end(start, Signal::Failing, true, start + 5 * SECOND));
        assert!(!origin.is_held(0, false, start + 9 * SECOND), "nothing is in flight");
    }
}
