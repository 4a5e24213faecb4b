//! All lanes of a worker, and what each of them may take of its slots.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use super::{
    lane::{Lane, ParkReason, Standing},
    pace,
    parked::Parked,
    signal::Signal,
};

/// A lane may have this many times as many attempts in flight as slots are free.
pub const SHARE: usize = 2;

/// The last so manieth part of the slots is for lanes that have nothing in flight.
pub const RESERVED: usize = 8;

/// Lanes unused for so long are forgotten: what was learnt of them is old.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(600);

/// How often is looked for those.
const SWEEP_EVERY: Duration = Duration::from_secs(60);

/// What a job asks for.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    /// The lane's name.
    pub lane: &'a Arc<str>,
    /// Most attempts in flight that the target allows.
    pub most: usize,
    /// How often the job was parked since its last attempt.
    pub parked: u32,
    /// Whether it has waited in the process already.
    pub turn: Turn,
    /// It runs alone in this worker, see rule 4: it must not be parked, which would hide how often it was given out.
    pub alone: bool,
}

/// Whether a job has waited in the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// It has just come.
    Fresh,
    /// It waits, and may go on to.
    Waiting,
    /// It has waited for long enough.
    Last,
}

/// The answer.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Admission {
    /// The attempt may start; it counts from now on.
    Go,
    /// Wait for room, for a moment; to be told to [`Lanes::waits_no_longer`] in the end.
    Wait,
    /// Park it.
    Park {
        /// Why.
        reason: ParkReason,
        /// For how long, not yet rounded to a rung.
        wait: Duration,
    },
}

/// See the module's words.
#[derive(Debug)]
pub struct Lanes {
    lanes: HashMap<Arc<str>, Lane>,
    /// Attempts in flight that the worker allows.
    slots: usize,
    /// What a lane's limit may grow to.
    most: usize,
    /// The longest wait that one rung holds.
    longest: Duration,
    /// Attempts in flight.
    in_flight: usize,
    /// Those of them in lanes that have not answered since their trouble.
    unproven: usize,
    /// Jobs parked, all lanes together.
    parked: Parked,
    swept: Instant,
}

impl Lanes {
    /// `slots` attempts in flight altogether, `most` for each lane, `longest` the longest rung.
    pub fn new(slots: usize, most: usize, longest: Duration, now: Instant) -> Lanes {
        Lanes {
            lanes: HashMap::new(),
            slots,
            most,
            longest,
            in_flight: 0,
            unproven: 0,
            parked: Parked::new(now),
            swept: now,
        }
    }

    /// Whether a job may start its attempt. `draw` from 0 to 1 spreads what is parked.
    pub fn admit(&mut self, asked: Asked<'_>, now: Instant, draw: f64) -> Admission {
        self.sweep(now);
        let free = self.slots.saturating_sub(self.in_flight);
        let unproven_full = self.unproven >= self.slots.div_ceil(2);
        let most = self.most;
        let lane = match self.lanes.get_mut(asked.lane) {
            Some(lane) => lane,
            None => self.lanes.entry(asked.lane.clone()).or_insert_with(|| Lane::new(most, now)),
        };
        let fair = match lane.in_flight() {
            0 => free > 0,
            some => some <= SHARE * free && free > self.slots / RESERVED,
        };
        let share = fair && (lane.is_proven() || !unproven_full);
        let turn = asked.turn != Turn::Fresh || lane.waiting == 0;
        if asked.alone || (turn && share && lane.has_room(asked.most, now)) {
            lane.begin(now);
            self.in_flight += 1;
            self.unproven += usize::from(!lane.is_proven());
            return Admission::Go;
        }
        match asked.turn {
            Turn::Fresh if share && lane.turns_soon(now) => {
                lane.waiting += 1;
                return Admission::Wait;
            }
            Turn::Waiting => return Admission::Wait,
            Turn::Fresh | Turn::Last => {}
        }
        let (reason, closed) = (lane.why(now), lane.closed_for(now));
        let backlog = lane.backlog(self.parked.away(now), now);
        let wait = pace::wait(backlog, asked.parked, closed, self.longest, draw);
        lane.park(wait, now);
        self.parked.add(wait, now);
        Admission::Park { reason, wait }
    }

    /// A job that waited in the process does so no longer. Returns how many still do.
    pub fn waits_no_longer(&mut self, lane: &Arc<str>) -> usize {
        let Some(lane) = self.lanes.get_mut(lane) else { return 0 };
        lane.waiting = lane.waiting.saturating_sub(1);
        lane.waiting
    }

    /// An attempt that began at `begun` has ended. Returns how many of those that wait in the process may try again.
    pub fn ended(&mut self, lane: &Arc<str>, begun: Instant, signal: Signal, now: Instant) -> usize {
        self.in_flight = self.in_flight.saturating_sub(1);
        let Some(lane) = self.lanes.get_mut(lane) else { return 0 };
        let (was, in_flight) = (lane.is_proven(), lane.in_flight());
        lane.end(begun, signal, now);
        // Those of a lane count as unproven together, or not at all.
        let before = if was { 0 } else { in_flight };
        let after = if lane.is_proven() { 0 } else { lane.in_flight() };
        self.unproven = (self.unproven + after).saturating_sub(before);
        match lane.has_room(self.most, now) {
            true => lane.limit().saturating_sub(lane.in_flight()).clamp(1, lane.waiting.max(1)),
            false => 0,
        }
    }

    /// Attempts in flight.
    pub fn in_flight(&self) -> usize {
        self.in_flight
    }

    /// How many lanes stand how, in the order of [`Standing::ALL`].
    pub fn standings(&self, now: Instant) -> [usize; 4] {
        Standing::ALL.map(|standing| self.lanes.values().filter(|lane| lane.standing(now) == standing).count())
    }

    /// Each lane, for people.
    pub fn view(&mut self, now: Instant) -> Vec<View> {
        let view = |(name, lane): (&Arc<str>, &mut Lane)| {
            let (organization, origin) = name.split_once(' ').unwrap_or((name, ""));
            View {
                organization: organization.to_owned(),
                origin: origin.to_owned(),
                standing: lane.standing(now).label().to_owned(),
                in_flight: lane.in_flight(),
                limit: lane.limit(),
                answers_per_second: (lane.rate(now) * 10.0).round() / 10.0,
                parked: lane.parked(now),
                pushed_back_for_seconds: lane.closed_for(now).as_secs_f64().ceil() as u64,
            }
        };
        self.lanes.iter_mut().map(view).collect()
    }

    fn sweep(&mut self, now: Instant) {
        if now.saturating_duration_since(self.swept) < SWEEP_EVERY {
            return;
        }
        self.swept = now;
        self.lanes.values_mut().for_each(|lane| lane.age(now));
        self.lanes.retain(|_, lane| !lane.is_idle(now, FORGOTTEN_AFTER));
    }
}

/// How one lane stands. Holds nothing of a URL but scheme, host and port.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct View {
    /// Whose.
    pub organization: String,
    /// Scheme, host and port.
    pub origin: String,
    /// `open`, `limited`, `probing` or `pushed_back`.
    pub standing: String,
    /// Attempts in flight in this worker.
    pub in_flight: usize,
    /// How many there may be now.
    pub limit: usize,
    /// Over about the last ten seconds.
    pub answers_per_second: f64,
    /// Jobs that this worker has parked and that are still away.
    pub parked: u64,
    /// How long it is still to be left alone.
    pub pushed_back_for_seconds: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);
    const LONGEST: Duration = Duration::from_secs(3600);

    fn name(n: usize) -> Arc<str> {
        format!("org{n} https://receiver.example").into()
    }

    fn asked(lane: &Arc<str>) -> Asked<'_> {
        Asked { lane, most: 64, parked: 0, turn: Turn::Fresh, alone: false }
    }

    /// Starts as many attempts as may.
    fn fill(lanes: &mut Lanes, lane: &Arc<str>, now: Instant) -> usize {
        (0..1000).take_while(|_| lanes.admit(asked(lane), now, 0.5) == Admission::Go).count()
    }

    fn prove(lanes: &mut Lanes, lane: &Arc<str>, now: Instant) {
        for _ in 0..70 {
            assert_eq!(lanes.admit(asked(lane), now, 0.5), Admission::Go);
            lanes.ended(lane, now, Signal::Answered, now);
        }
    }

    #[test]
    fn a_lane_has_its_limit_in_flight_and_no_more() {
        let now = Instant::now();
        let (mut lanes, lane) = (Lanes::new(1000, 64, LONGEST, now), name(1));
        assert_eq!(fill(&mut lanes, &lane, now), 4);
        assert_eq!(lanes.admit(asked(&lane), now, 0.5), Admission::Wait, "a young lane's queue is short");
        let other = name(2);
        prove(&mut lanes, &other, now);
        assert_eq!(fill(&mut lanes, &other, now), 56);
        assert_eq!(lanes.admit(Asked { alone: true, ..asked(&other) }, now, 0.5), Admission::Go);
    }

    #[test]
    fn what_its_own_target_allows_is_the_limit_if_that_is_less() {
        let now = Instant::now();
        let (mut lanes, lane) = (Lanes::new(1000, 64, LONGEST, now), name(1));
        prove(&mut lanes, &lane, now);
        let few = Asked { most: 2, ..asked(&lane) };
        let started = (0..10).take_while(|_| lanes.admit(few, now, 0.5) == Admission::Go).count();
        assert_eq!(started, 2);
    }

    #[test]
    fn lanes_that_have_never_answered_have_half_of_the_slots_at_most() {
        let now = Instant::now();
        let mut lanes = Lanes::new(100, 64, LONGEST, now);
        let healthy = name(0);
        prove(&mut lanes, &healthy, now);
        let taken: usize = (1..100).map(|n| fill(&mut lanes, &name(n), now)).sum();
        assert_eq!(taken, 50);
        assert!(fill(&mut lanes, &healthy, now) >= 30, "the healthy one still has its share");
        assert!(matches!(lanes.admit(asked(&name(1)), now, 0.5), Admission::Park { .. }));
    }

    #[test]
    fn however_many_lanes_are_slow_something_is_left() {
        let now = Instant::now();
        let mut lanes = Lanes::new(256, 64, LONGEST, now);
        (0..20).for_each(|n| prove(&mut lanes, &name(n), now));
        let taken: Vec<_> = (0..19).map(|n| fill(&mut lanes, &name(n), now)).collect();
        assert!(taken[0] == 56 && taken.iter().all(|taken| *taken >= 1), "{taken:?}");
        assert!(fill(&mut lanes, &name(19), now) >= 1);
    }

    #[test]
    fn those_that_wait_go_before_those_that_come() {
        let now = Instant::now();
        let (mut lanes, lane) = (Lanes::new(1000, 64, LONGEST, now), name(1));
        fill(&mut lanes, &lane, now);
        assert_eq!(lanes.admit(asked(&lane), now, 0.5), Admission::Wait);
        assert_eq!(lanes.admit(asked(&lane), now, 0.5), Admission::Wait);
        assert_eq!(lanes.ended(&lane, now, Signal::Answered, now), 2, "one is free, and the limit has grown by one");
        assert_eq!(lanes.admit(Asked { turn: Turn::Waiting, ..asked(&lane) }, now, 0.5), Admission::Go);
        assert_eq!(lanes.waits_no_longer(&lane), 2, "two others are there still");
    }

    #[test]
    fn a_backlog_is_counted_until_it_is_due() {
        let now = Instant::now();
        let (mut lanes, lane) = (Lanes::new(1000, 64, LONGEST, now), name(1));
        fill(&mut lanes, &lane, now);
        let silent = now + 3 * SECOND;
        for _ in 0..10 {
            let parked = lanes.admit(asked(&lane), silent, 0.0);
            assert_eq!(parked, Admission::Park { reason: ParkReason::Failing, wait: SECOND });
        }
        assert_eq!(lanes.view(silent)[0].parked, 10);
        assert_eq!(lanes.view(silent + 2 * SECOND)[0].parked, 0);
    }

    #[test]
    fn lanes_in_no_use_are_forgotten() {
        let now = Instant::now();
        let mut lanes = Lanes::new(1000, 64, LONGEST, now);
        (0..50).for_each(|n| prove(&mut lanes, &name(n), now));
        let busy = name(99);
        lanes.admit(asked(&busy), now, 0.5);
        lanes.admit(asked(&name(0)), now + FORGOTTEN_AFTER, 0.5);
        let left: Vec<_> = lanes.view(now).into_iter().map(|view| view.organization).collect();
        assert_eq!(left.len(), 2, "{left:?}");
        assert_eq!((lanes.in_flight(), lanes.unproven), (2, 2));
    }
}
