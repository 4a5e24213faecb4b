//! One URL origin, whoever's lanes lead there.
//!
//! Lanes are judged by their own answers. But an origin that many organizations use hangs for all of them at once, and each lane
//! that had nothing in flight then would have to lose an attempt of its own to learn it: together they would have all slots.
//!
//! It may as well hang for some and answer others. So there are two sides: the lanes that are down (a whole window failed, and no answer
//! since) and the others. Those that are down are told by answers to their like alone: were they told by any, they would all try again
//! after each answer to a healthy neighbour, and leave it no room for a timeout.

use std::time::{Duration, Instant};

use super::{
    lane::{DOUBT, PROBE_EVERY},
    signal::Signal,
};

/// The so manieth part of the slots from which lanes on a side that is not answered count as uncertain.
pub const DOUBTED: usize = 8;

/// The so manieth part of the slots that a side that is not answered begins nothing more from.
pub const HELD: usize = 4;

/// The so manieth part of the slots that is kept on top of those for lanes that are not down.
const LEFT: usize = 16;

/// No less than so many, however few slots there are.
const LEAST: usize = 4;

/// See the module's words.
#[derive(Clone, Debug, Default)]
pub struct Origin {
    /// Of lanes that are not down, and of those that are.
    sides: [Side; 2],
    /// Mean seconds of an answer.
    latency: f64,
}

/// The attempts of one side: of lanes that were not down when they began, or were.
#[derive(Clone, Debug, Default)]
struct Side {
    in_flight: usize,
    /// When the first attempt since the last answer began. What began before that answer is left out: it may hang, and a target
    /// that answers again must not wait for it.
    unanswered: Option<Instant>,
    /// When the latest attempt began.
    began: Option<Instant>,
}

impl Origin {
    /// Whether lanes that are `down`, or those that are not, get no answers, and so much is in flight that they count as uncertain.
    pub fn is_doubted(&self, slots: usize, down: bool, now: Instant) -> bool {
        self.hanging(down, now) >= (slots / DOUBTED).max(LEAST)
    }

    /// Whether they get no answers, and have all that they may have then. Those that are down leave a few slots to those that are
    /// not, or they would take every one that becomes free, having the most jobs.
    pub fn is_held(&self, slots: usize, down: bool, now: Instant) -> bool {
        let left = if down { 0 } else { (slots / LEFT).max(1) };
        self.hanging(down, now) >= (slots / HELD).max(LEAST) + left && !self.is_overdue(down, now)
    }

    /// Whether it is time to ask once more on that side, although it is not answered.
    pub fn is_overdue(&self, down: bool, now: Instant) -> bool {
        self.side(down).began.is_none_or(|began| now.saturating_duration_since(began) >= PROBE_EVERY)
    }

    /// Attempts in flight of those who get no answers: of this side, and of the other one if it gets none either.
    fn hanging(&self, down: bool, now: Instant) -> usize {
        let of = |down| if self.is_quiet(down, now) { self.side(down).in_flight } else { 0 };
        match of(down) {
            0 => 0,
            own => own + of(!down),
        }
    }

    fn is_quiet(&self, down: bool, now: Instant) -> bool {
        let usual = Duration::try_from_secs_f64(4.0 * self.latency).unwrap_or(DOUBT);
        self.side(down).unanswered.is_some_and(|since| now.saturating_duration_since(since) >= usual.max(DOUBT))
    }

    fn side(&self, down: bool) -> &Side {
        &self.sides[usize::from(down)]
    }

    /// An attempt begins, of a lane that is `down` or is not.
    pub fn begin(&mut self, down: bool, now: Instant) {
        let side = &mut self.sides[usize::from(down)];
        side.in_flight += 1;
        side.began = Some(now);
        side.unanswered.get_or_insert(now);
    }

    /// An attempt that began at `begun` has ended; `down` is whether its lane was down when it began, and right before it ended.
    pub fn end(&mut self, begun: Instant, signal: Signal, down: [bool; 2], now: Instant) {
        let side = &mut self.sides[usize::from(down[0])];
        side.in_flight = side.in_flight.saturating_sub(1);
        match signal {
            Signal::Answered => {
                self.answers(down);
                let took = now.saturating_duration_since(begun).as_secs_f64();
                self.latency = if self.latency == 0.0 { took } else { self.latency + (took - self.latency) / 8.0 };
            }
            Signal::PushedBack(_) => self.answers(down),
            Signal::Failing | Signal::Nothing => {
                if side.in_flight == 0 {
                    side.unanswered = None;
                }
            }
        }
    }

    /// Whoever is not down may take heart from any answer; whoever is, from those to its like.
    fn answers(&mut self, [began_down, down]: [bool; 2]) {
        let told = if began_down || down { &mut self.sides[..] } else { &mut self.sides[..1] };
        told.iter_mut().for_each(|side| side.unanswered = None);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);
    const UP: [bool; 2] = [false; 2];
    const DOWN: [bool; 2] = [true; 2];

    fn begun(count: usize, down: bool, now: Instant) -> Origin {
        let mut origin = Origin::default();
        (0..count).for_each(|_| origin.begin(down, now));
        origin
    }

    #[test]
    fn one_that_answers_nobody_has_a_quarter_of_the_slots() {
        let now = Instant::now();
        let is = |count, after| {
            let origin = begun(count, false, now);
            (origin.is_doubted(80, false, now + after), origin.is_held(80, false, now + after))
        };
        assert_eq!(is(30, DOUBT / 2), (false, false), "it may answer still");
        assert_eq!(is(9, DOUBT), (false, false));
        assert_eq!(is(10, DOUBT), (true, false));
        assert_eq!(is(24, DOUBT), (true, false));
        assert_eq!(is(25, DOUBT), (true, true));
        assert_eq!(is(25, PROBE_EVERY), (true, false), "and is asked again");
        let held = |count, slots| begun(count, true, now).is_held(slots, true, now + DOUBT);
        assert!(held(20, 80) && !held(19, 80), "a quarter for those that are down");
        assert!(held(4, 8) && !held(3, 8), "four in any case");
    }

    #[test]
    fn both_sides_together_have_that_where_neither_is_answered() {
        let now = Instant::now();
        let mut origin = begun(15, false, now);
        (0..5).for_each(|_| origin.begin(true, now));
        let later = now + DOUBT;
        assert!(origin.is_held(80, true, later) && !origin.is_held(80, false, later), "a few are left");
        (0..5).for_each(|_| origin.begin(false, now));
        assert!(origin.is_held(80, false, later));
    }

    #[test]
    fn one_answer_is_enough_whatever_else_hangs() {
        let start = Instant::now();
        let mut origin = begun(20, false, start);
        let now = start + SECOND;
        origin.begin(false, now);
        origin.end(now, Signal::Answered, UP, now);
        assert!(!origin.is_doubted(80, false, now + 10 * SECOND), "nothing began since");
        origin.begin(false, now + 10 * SECOND);
        let doubted = |after| origin.is_doubted(80, false, now + 10 * SECOND + after);
        assert!(!doubted(Duration::ZERO) && doubted(DOUBT));
    }

    #[test]
    fn answers_to_others_tell_nothing_to_those_that_are_down() {
        let start = Instant::now();
        let mut origin = begun(25, true, start);
        let now = start + SECOND;
        origin.begin(false, now);
        origin.end(now, Signal::Answered, UP, now);
        assert!(origin.is_held(80, true, now) && !origin.is_held(80, false, now + 9 * SECOND));
        assert!(!origin.is_held(80, true, start + PROBE_EVERY), "and they are asked again, whoever else is");
        for down in [DOWN, [false, true], [true, false]] {
            let mut origin = origin.clone();
            origin.begin(down[0], now);
            origin.end(now, Signal::Answered, down, now);
            assert!(!origin.is_held(80, true, now + 9 * SECOND), "an answer to one of them is one to all: {down:?}");
        }
    }

    #[test]
    fn what_is_answered_counts_for_nobody_else() {
        let start = Instant::now();
        let mut origin = begun(30, false, start);
        origin.begin(true, start);
        let now = start + SECOND;
        origin.end(start, Signal::Answered, UP, now);
        assert!(!origin.is_held(80, true, now), "one that fails at once, beside thirty that are answered");
    }

    #[test]
    fn a_side_with_nothing_in_flight_is_not_quiet() {
        let start = Instant::now();
        let mut origin = begun(30, true, start);
        (0..5).for_each(|_| origin.begin(false, start));
        let now = start + 30 * SECOND;
        // Their lanes are down with that, and what they begin next is on the other side.
        (0..5).for_each(|n| origin.end(start, Signal::Failing, [false, n > 2], now));
        origin.begin(false, now);
        assert!(!origin.is_doubted(80, false, now), "whoever is new is not taken for one of them");
        assert!(origin.is_doubted(80, true, now));
    }

    #[test]
    fn one_whose_answers_take_long_has_time_for_them() {
        let start = Instant::now();
        let mut origin = begun(20, true, start);
        (0..10).for_each(|_| origin.end(start, Signal::Answered, DOWN, start + SECOND));
        (0..10).for_each(|_| origin.begin(true, start + SECOND));
        assert!(!origin.is_held(80, true, start + 4 * SECOND) && origin.is_held(80, true, start + 5 * SECOND));
    }
}
