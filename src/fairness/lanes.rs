//! All lanes of a worker, and what each of them may take of its slots.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use super::{
    lane::Lane,
    origin::Origin,
    pace::{self, Backlog},
    parked::Parked,
    peak::Peak,
    quota::Own,
    signal::Signal,
    standing::{ParkReason, Standing},
};
use crate::store::TargetKey;

/// A lane may have this many times as many attempts in flight as slots are free.
pub const SHARE: usize = 2;

/// The last so manieth part of the slots is for lanes that have nothing in flight.
pub const RESERVED: usize = 8;

/// So many eighths of the slots are for lanes that have not answered since their trouble, since the start, or for a while.
pub const UNCERTAIN: usize = 4;

/// And so many for those of them of which nothing is known yet, for their first attempt: whoever is new must not wait
/// for others' timeouts.
pub const UNHEARD_OF: usize = 5;

/// Longest wait in the process for room, whatever was expected.
pub const PATIENCE: Duration = Duration::from_millis(250);

/// How often whoever waits asks again without being told: a lane that hangs tells nobody.
pub const ASK_AGAIN: Duration = Duration::from_millis(50);

/// The so manieth part of the slots is left for lanes that answer, however little they needed of late.
pub const KEPT: usize = 4;

/// Lanes unused for so long are forgotten: what was learnt of them is old.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(600);

/// How often is looked for those.
const SWEEP_EVERY: Duration = Duration::from_secs(60);

/// What a job asks for.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    /// The lane's name.
    pub lane: &'a Arc<str>,
    /// What its target allows, if that is less than any target may have.
    pub own: Option<Own<'a>>,
    /// How often the job was parked since its last attempt.
    pub parked: u32,
    /// Whether it has waited in the process already.
    pub turn: Turn,
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
    Wait(Queue),
    /// Park it.
    Park {
        /// Why.
        reason: ParkReason,
        /// For how long, not yet rounded to a rung.
        wait: Duration,
    },
}

/// What a job waits for in the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Queue {
    /// Room in its lane.
    Lane,
    /// The end of an attempt at its own target.
    Target,
}

/// How many of those that wait may try again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Freed {
    /// Of those that wait for room in the lane.
    pub lane: usize,
    /// Of those that wait for the target whose attempt has ended.
    pub target: usize,
}

/// See the module's words.
#[derive(Debug)]
pub struct Lanes {
    lanes: HashMap<Arc<str>, Lane>,
    /// Where they lead; each lane knows the place of its own here.
    origins: Vec<Origin>,
    places: HashMap<Box<str>, usize>,
    /// Attempts in flight that the worker allows.
    slots: usize,
    /// What a target, and a lane, may have in flight.
    most: usize,
    /// Attempts in flight.
    in_flight: usize,
    /// Those of them in lanes that have not answered since their trouble.
    unproven: usize,
    /// Jobs that wait in the process: each of them holds a slot as well.
    waiting: usize,
    /// Jobs parked, of all lanes that answer, and of all that are in trouble.
    parked: [Parked; 2],
    /// How many lanes have some of those, as of the last sweep or more.
    sharing: [usize; 2],
    /// Slots that lanes which answer have needed at once of late.
    needed: Peak,
    swept: Instant,
}

impl Lanes {
    /// `slots` attempts in flight altogether, `most` for each lane.
    pub fn new(slots: usize, most: usize, now: Instant) -> Lanes {
        Lanes {
            lanes: HashMap::new(),
            origins: Vec::new(),
            places: HashMap::new(),
            slots,
            most,
            in_flight: 0,
            unproven: 0,
            waiting: 0,
            parked: [Parked::new(now), Parked::new(now)],
            sharing: [0; 2],
            // Of what they need nothing is known yet.
            needed: Peak::new(slots.div_ceil(4), now),
            swept: now,
        }
    }

    /// Whether a job may start its attempt. `draw` from 0 to 1 spreads what is parked.
    pub fn admit(&mut self, asked: Asked<'_>, now: Instant, draw: f64) -> Admission {
        self.sweep(now);
        let free = self.slots.saturating_sub(self.in_flight);
        let most = self.most;
        let lane = match self.lanes.get_mut(asked.lane) {
            Some(lane) => lane,
            None => {
                let lane = self.lanes.entry(asked.lane.clone()).or_insert_with(|| Lane::new(most, now));
                lane.origin = place(&mut self.origins, &mut self.places, asked.lane);
                lane
            }
        };
        let needed = self.needed.note(self.in_flight.saturating_sub(self.unproven) + self.waiting, now);
        let idle = self.slots.saturating_sub((2 * needed).max(self.slots / KEPT));
        let origin = &mut self.origins[lane.origin];
        let down = lane.is_down();
        let (doubted, held) = (origin.is_doubted(self.slots, down, now), origin.is_held(self.slots, down, now));
        if lane.comes_into_doubt(doubted, now) {
            self.unproven += lane.in_flight();
        }
        let fair = match lane.in_flight() {
            0 => free > 0,
            some => some <= SHARE * free && free > self.slots / RESERVED,
        };
        let first = lane.in_flight() == 0 && lane.is_unblemished() && (!doubted || origin.is_overdue(down, now));
        let uncertain = match first {
            true => (self.slots * UNHEARD_OF).div_ceil(8).max(idle + self.slots * (UNHEARD_OF - UNCERTAIN) / 8),
            false => (self.slots * UNCERTAIN).div_ceil(8).max(idle),
        };
        let share = fair && !held && (lane.is_proven() || self.unproven < uncertain);
        let full = asked.own.filter(|own| lane.is_full(*own));
        let queued = lane.waiting + asked.own.map_or(0, |own| lane.quota(own.target, now).waiting);
        let turn = asked.turn != Turn::Fresh || queued == 0;
        if turn && share && full.is_none() && lane.has_room(most, now) {
            origin.begin(lane.begin(now), now);
            if let Some(own) = asked.own {
                lane.quota(own.target, now).in_flight += 1;
            }
            self.in_flight += 1;
            self.unproven += usize::from(!lane.is_proven());
            return Admission::Go;
        }
        // One that is behind others of its target waits with them.
        let own = asked.own.filter(|own| full.is_some() || lane.quota(own.target, now).waiting > 0);
        let (queue, soon) = match own {
            Some(own) => (Queue::Target, lane.own_turns_soon(own, now)),
            None => (Queue::Lane, lane.turns_soon(now)),
        };
        // Half of the slots are too many for what waits where nobody answers. While there are others, a short pause is
        // waited out.
        let scarce = self.in_flight + self.waiting >= self.slots.div_ceil(2);
        let hopeless = held || (scarce && lane.is_late(now));
        // Where the slots are scarce, an attempt of its own lane will soon give back the one that it has.
        let may_wait = share || (lane.is_proven() && lane.in_flight() > 0);
        match (asked.turn, own) {
            (Turn::Waiting, _) if !hopeless => return Admission::Wait(queue),
            (Turn::Fresh, Some(own)) if may_wait && soon && !hopeless => lane.quota(own.target, now).waiting += 1,
            (Turn::Fresh, None) if may_wait && soon && !hopeless => lane.waiting += 1,
            (Turn::Fresh | Turn::Waiting | Turn::Last, _) => return self.park(asked, full, share, now, draw),
        }
        self.waiting += 1;
        Admission::Wait(queue)
    }

    /// Parks a job, whose target may be `full`, and whose lane may have no `share` of the slots left.
    fn park(&mut self, asked: Asked<'_>, full: Option<Own<'_>>, share: bool, now: Instant, draw: f64) -> Admission {
        let most = self.most;
        let lane = self.lanes.entry(asked.lane.clone()).or_insert_with(|| Lane::new(most, now));
        let (reason, closed) = match lane.why(now) {
            ParkReason::Saturated if self.origins[lane.origin].is_held(self.slots, lane.is_down(), now) => {
                (ParkReason::Failing, Duration::ZERO)
            }
            ParkReason::Saturated if !share => (ParkReason::Crowded, Duration::ZERO),
            why => (why, lane.closed_for(now)),
        };
        if let (ParkReason::Saturated, Some(own)) = (reason, full) {
            let latency = lane.latency();
            let quota = lane.quota(own.target, now);
            let wait = pace::wait(quota.backlog(own.most, latency, now), asked.parked, closed, draw);
            quota.park(wait, now);
            lane.used = now;
            return Admission::Park { reason, wait };
        }
        let troubled = matches!(reason, ParkReason::Failing | ParkReason::PushedBack);
        let all = &mut self.parked[usize::from(troubled)];
        let sharing = &mut self.sharing[usize::from(troubled)];
        *sharing += usize::from(!std::mem::replace(&mut lane.sharing[usize::from(troubled)], true));
        let backlog = Backlog {
            lane: lane.parked(now) as f64,
            all: all.away(now) as f64,
            lanes: *sharing as f64,
            returning: all.returning(now),
            rate: lane.capacity(),
        };
        let wait = pace::wait(backlog, asked.parked, closed, draw);
        lane.park(wait, now);
        all.add(wait, now);
        Admission::Park { reason, wait }
    }

    /// A job that waited in the process, in this queue of its target's or lane's, does so no longer. Returns how many
    /// still do.
    pub fn waits_no_longer(&mut self, lane: &Arc<str>, target: &TargetKey, queue: Queue) -> usize {
        let Some(lane) = self.lanes.get_mut(lane) else { return 0 };
        let waiting = match queue {
            Queue::Lane => &mut lane.waiting,
            Queue::Target => match lane.quota_mut(target) {
                Some(quota) => &mut quota.waiting,
                None => return 0,
            },
        };
        *waiting = waiting.saturating_sub(1);
        self.waiting = self.waiting.saturating_sub(1);
        *waiting
    }

    /// An attempt that began at `begun` has ended. `own` is its target if that had a limit of its own when it began:
    /// what was not counted then must not be taken off now, after the store was read again.
    pub fn ended(
        &mut self,
        lane: &Arc<str>,
        own: Option<&TargetKey>,
        begun: Instant,
        signal: Signal,
        now: Instant,
    ) -> Freed {
        self.in_flight = self.in_flight.saturating_sub(1);
        let Some(lane) = self.lanes.get_mut(lane) else { return Freed { lane: 0, target: 0 } };
        let (was, in_flight) = (lane.is_proven(), lane.in_flight());
        let down = lane.is_down();
        let began_down = lane.end(begun, signal, now);
        self.origins[lane.origin].end(begun, signal, [began_down, down], now);
        // Those of a lane count as unproven together, or not at all.
        let before = if was { 0 } else { in_flight };
        let after = if lane.is_proven() { 0 } else { lane.in_flight() };
        self.unproven = (self.unproven + after).saturating_sub(before);
        let quota = own.and_then(|target| lane.quota_mut(target));
        let own = quota.map_or(0, |quota| {
            quota.in_flight = quota.in_flight.saturating_sub(1);
            quota.waiting.min(1)
        });
        let room = match lane.has_room(self.most, now) {
            true => lane.limit().saturating_sub(lane.in_flight()).clamp(1, lane.waiting.max(1)),
            false => 0,
        };
        Freed { lane: room, target: own }
    }

    /// Attempts in flight.
    pub fn in_flight(&self) -> usize {
        self.in_flight
    }

    /// How many lanes stand how, in the order of [`Standing::ALL`].
    pub fn standings(&self, now: Instant) -> [usize; 4] {
        Standing::ALL.map(|standing| self.lanes.values().filter(|lane| lane.standing(now) == standing).count())
    }

    /// Whether anything is known of a lane.
    pub fn knows(&self, lane: &str) -> bool {
        self.lanes.contains_key(lane)
    }

    /// Each lane's name, how it stands, and whether it has answered since its last trouble.
    pub fn states(&self, now: Instant) -> impl Iterator<Item = (&Arc<str>, Standing, bool)> {
        self.lanes.iter().map(move |(name, lane)| (name, lane.standing(now), lane.is_proven()))
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
                parked: lane.all_parked(now),
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
        self.forget_origins();
        self.sharing = [0; 2];
        for lane in self.lanes.values_mut() {
            let away = lane.parked(now) > 0;
            for (sharing, one) in self.sharing.iter_mut().zip(&mut lane.sharing) {
                *one &= away;
                *sharing += usize::from(*one);
            }
        }
    }

    /// Forgets origins that no lane leads to.
    fn forget_origins(&mut self) {
        let (mut kept, mut moved) = (Vec::new(), HashMap::new());
        for lane in self.lanes.values_mut() {
            lane.origin = *moved.entry(lane.origin).or_insert_with(|| {
                kept.push(std::mem::take(&mut self.origins[lane.origin]));
                kept.len() - 1
            });
        }
        self.origins = kept;
        self.places.retain(|_, place| {
            let to = moved.get(place).copied();
            *place = to.unwrap_or_default();
            to.is_some()
        });
    }
}

/// The place of the origin that this lane leads to.
fn place(origins: &mut Vec<Origin>, places: &mut HashMap<Box<str>, usize>, lane: &str) -> usize {
    let origin = lane.split_once(' ').map_or(lane, |(_, origin)| origin);
    *places.entry(origin.into()).or_insert_with(|| {
        origins.push(Origin::default());
        origins.len() - 1
    })
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
mod tests;
