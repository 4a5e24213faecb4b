//! All circuits of a worker, and the slots that they share. Pure: time and the draw are arguments.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::sync::Notify;

use super::{
    breaker::Breaker,
    circuit::Circuit,
    deferral::{self, Due, LONGEST, PATIENCE, Turn, WAITING_DIVISOR},
    rate::Quota,
    share::{DOUBT, Slots},
    signal::Signal,
};
use crate::store::TargetKey;

/// How long an unused circuit is remembered, and how often that is checked.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(600);
const SWEEP_EVERY: Duration = Duration::from_secs(60);

/// Why a job is deferred by the limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeferReason {
    /// The circuit or the target has as many requests in flight as it may.
    Saturated,
    /// Other circuits hold the slots.
    Crowded,
    /// The breaker is open.
    Failing,
    /// The receiver asked for a pause.
    Paused,
    /// The target's `max_per_second` is used up.
    Rate,
}

impl DeferReason {
    /// Every reason.
    pub const ALL: [DeferReason; 5] =
        [DeferReason::Saturated, DeferReason::Crowded, DeferReason::Failing, DeferReason::Paused, DeferReason::Rate];

    /// Returns the metric label.
    pub fn label(self) -> &'static str {
        ["saturated", "crowded", "failing", "paused", "rate"][self as usize]
    }
}

/// A request that wants to start.
#[derive(Clone, Debug)]
pub(super) struct Ask {
    /// `<organization> <origin>`.
    pub(super) circuit: Arc<str>,
    pub(super) target: TargetKey,
    /// This worker's share of the target's `max_in_flight`.
    pub(super) most: Option<usize>,
    /// This worker's share of the target's `max_per_second`.
    pub(super) rate: Option<f64>,
    pub(super) due: Due,
}

impl Ask {
    fn has_quota(&self) -> bool {
        self.most.is_some() || self.rate.is_some()
    }
}

/// How far the wait of a job in the process has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// It has just arrived.
    Comes,
    /// It waits, and may go on waiting.
    Waits,
    /// It has waited for [`PATIENCE`], and must not go on.
    Leaves,
}

/// The answer to a request that wants to start.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Answer {
    /// It counts as in flight and may start at this time, at most [`PATIENCE`] from now.
    Go(Instant),
    /// It waits for its circuit's bell, and then asks again.
    Wait,
    /// The job must be deferred.
    Defer(DeferReason, Duration, Turn),
}

/// One origin, for all organizations.
#[derive(Debug, Default)]
struct Origin {
    /// Opens only by silence.
    breaker: Breaker,
    in_flight: usize,
}

/// All circuits of a worker, and the slots that they share.
#[derive(Debug)]
pub(super) struct Table {
    pub(super) circuits: HashMap<Arc<str>, Circuit>,
    /// Stops one organization after the other from asking a host that answers none of them.
    origins: HashMap<Box<str>, Origin>,
    /// State of targets with limits of their own.
    quotas: HashMap<TargetKey, Quota>,
    slots: Slots,
    /// Number of circuits that have deferred jobs, or had some since the last sweep.
    sharing: u64,
    /// Most requests that a circuit may have in flight.
    most: usize,
    swept: Instant,
}

impl Table {
    pub(super) fn new(slots: usize, most: usize, now: Instant) -> Table {
        let slots = Slots { all: slots, in_flight: 0, on_probation: 0, waiting: 0 };
        let (origins, quotas) = (HashMap::new(), HashMap::new());
        Table { circuits: HashMap::new(), origins, quotas, slots, sharing: 0, most, swept: now }
    }

    /// Answers a job that asks for room, and starts its request if it may. A job waits only for a healthy circuit with
    /// requests in flight, which will end. At most as many jobs wait there as its limit.
    pub(super) fn enter(&mut self, ask: &Ask, stage: Stage, now: Instant, draw: f64) -> Answer {
        self.sweep(now);
        let admitted = self.admit(ask, false, now);
        let Some(circuit) = self.circuits.get_mut(&ask.circuit) else { unreachable!("admit adds it") };
        let is_short = stage == Stage::Waits
            || (circuit.waiting < circuit.limit.get() && self.slots.waiting < self.slots.all / WAITING_DIVISOR);
        let may_wait = stage != Stage::Leaves && is_short && circuit.breaker.is_closed() && circuit.in_flight > 0;
        let answer = match admitted {
            Ok(start) => Answer::Go(start),
            Err((DeferReason::Saturated | DeferReason::Crowded, ..)) if may_wait => Answer::Wait,
            Err((reason, turn)) => self.defer(ask, reason, turn, now, draw),
        };
        let waits = [stage != Stage::Comes, answer == Answer::Wait].map(usize::from);
        self.slots.waiting = self.slots.waiting + waits[1] - waits[0];
        self.circuits
            .entry(ask.circuit.clone())
            .and_modify(|circuit| circuit.waiting = circuit.waiting + waits[1] - waits[0]);
        answer
    }

    /// Starts a direct attempt if it may start at once, and returns whether it does. While jobs are away, it gets at
    /// most every other turn.
    pub(super) fn try_enter(&mut self, ask: &Ask, now: Instant) -> bool {
        self.sweep(now);
        let is_next = self.circuits.get_mut(&ask.circuit).is_none_or(|circuit| {
            let is_behind = circuit.last_was_direct && circuit.away.jobs(now) > 0;
            circuit.breaker.is_closed() && circuit.waiting == 0 && !is_behind
        });
        is_next && self.admit(ask, true, now).is_ok()
    }

    /// Notes that a request that began at `begun` has ended. Wakes as many jobs as there is room for.
    pub(super) fn end(&mut self, ask: &Ask, begun: Instant, signal: Signal, now: Instant) {
        self.slots.in_flight = self.slots.in_flight.saturating_sub(1);
        if let Some(quota) = self.quotas.get_mut(&ask.target).filter(|_| ask.has_quota()) {
            quota.in_flight = quota.in_flight.saturating_sub(1);
        }
        if let Some(origin) = self.origins.get_mut(origin(&ask.circuit)) {
            // A pause is meant for one organization, and an error may be as well.
            let signal = if let Signal::Error | Signal::Paused(_) = signal { Signal::Answered } else { signal };
            origin.breaker.end(begun, signal, usize::MAX, now);
            origin.in_flight = origin.in_flight.saturating_sub(1);
        }
        if let Some(circuit) = self.circuits.get_mut(&ask.circuit) {
            let before = circuit.slots_on_probation();
            circuit.end(begun, signal, now);
            self.slots.on_probation = (self.slots.on_probation + circuit.slots_on_probation()).saturating_sub(before);
            (0..circuit.waiting.min(circuit.room(self.most, now))).for_each(|_| circuit.bell.notify_one());
        }
    }

    /// Returns whether the circuit's breaker is open.
    pub(super) fn is_open(&self, circuit: &str) -> bool {
        self.circuits.get(circuit).is_some_and(|circuit| !circuit.breaker.is_closed())
    }

    /// Returns the bell that wakes the jobs that wait for a circuit.
    pub(super) fn bell(&mut self, ask: &Ask) -> Arc<Notify> {
        self.circuits.get(&ask.circuit).map(|circuit| circuit.bell.clone()).unwrap_or_default()
    }

    /// Starts a request if all limits allow it.
    fn admit(
        &mut self,
        ask: &Ask,
        direct: bool,
        now: Instant,
    ) -> Result<Instant, (DeferReason, Option<(Duration, Turn)>)> {
        let Table { circuits, origins, quotas, slots, most, .. } = self;
        let circuit = circuits.entry(ask.circuit.clone()).or_insert_with(|| Circuit::new(*most, now));
        let origin = match origins.get_mut(origin(&ask.circuit)) {
            Some(origin) => origin,
            None => origins.entry(origin(&ask.circuit).into()).or_default(),
        };
        let before = circuit.slots_on_probation();
        let may_start = circuit.may_start(now) && origin.breaker.may_start(now);
        let in_doubt = origin.breaker.is_silent(DOUBT, now).then_some(origin.in_flight);
        circuit.on_probation |= in_doubt.is_some();
        slots.on_probation = slots.on_probation + circuit.slots_on_probation() - before;
        let mut quota = ask.has_quota().then(|| quotas.entry(ask.target.clone()).or_insert_with(|| Quota::new(now)));
        let is_full = ask.most.is_some_and(|most| quota.as_ref().is_some_and(|quota| quota.in_flight >= most));
        let (room, is_failing) = (circuit.room(*most, now), !circuit.breaker.is_closed() || circuit.is_erring());
        let reason = match circuit.on_probation.then(|| in_doubt.unwrap_or_default()) {
            _ if !may_start && !circuit.breaker.pause(now).is_zero() => Some(DeferReason::Paused),
            _ if !may_start => Some(DeferReason::Failing),
            _ if is_failing && (is_full || room == 0) => Some(DeferReason::Failing),
            _ if is_full || room == 0 => Some(DeferReason::Saturated),
            on_probation if slots.admits(circuit.in_flight, on_probation, circuit.is_erring()) => None,
            // A probe that finds no slot.
            _ if is_failing || !origin.breaker.is_closed() => Some(DeferReason::Failing),
            _ => Some(DeferReason::Crowded),
        };
        if let Some(reason) = reason {
            return Err((reason, None));
        }
        let mut start = now;
        if let (Some(quota), Some(rate)) = (&mut quota, ask.rate) {
            // A direct attempt does not wait for a token.
            let ahead = if direct { Duration::ZERO } else { PATIENCE };
            start = quota.take(ask.due, rate, ahead, now).map_err(|turn| (DeferReason::Rate, Some(turn)))?;
        }
        if let Some(quota) = quota {
            quota.in_flight += 1;
        }
        origin.breaker.begin(start);
        origin.in_flight += 1;
        circuit.begin(start, direct);
        slots.in_flight += 1;
        slots.on_probation += usize::from(circuit.on_probation);
        Ok(start)
    }

    fn defer(
        &mut self,
        ask: &Ask,
        reason: DeferReason,
        turn: Option<(Duration, Turn)>,
        now: Instant,
        draw: f64,
    ) -> Answer {
        let Some(circuit) = self.circuits.get_mut(&ask.circuit) else { unreachable!("admit adds it") };
        let mut quota = self.quotas.get_mut(&ask.target).filter(|_| ask.has_quota());
        let (wait, turn) = turn.unwrap_or_else(|| {
            let away = quota.as_mut().map_or(&mut circuit.away, |quota| &mut quota.away).jobs(now);
            let at_a_time = circuit.limit.get().min(ask.most.unwrap_or(self.most));
            let is_answering = matches!(reason, DeferReason::Saturated | DeferReason::Crowded) || circuit.is_erring();
            let mean = circuit.mean().filter(|_| is_answering && circuit.breaker.is_closed());
            self.sharing += u64::from(!std::mem::replace(&mut circuit.is_sharing, true));
            // However many circuits answer only errors, their jobs together return no faster than all others.
            let share = if circuit.is_erring() { self.sharing as f64 / deferral::RETURNS } else { 0.0 };
            let queue = mean.map(|mean| away as f64 * (mean / at_a_time as f64).max(share));
            let pause = circuit.breaker.pause(now);
            let wait = deferral::wait(ask.due.late, away * self.sharing, queue, pause, draw);
            // Jobs that take turns return earlier, because they still have to wait for their turn.
            (if ask.rate.is_some() { wait.min(2 * LONGEST / 3) } else { wait }, Turn::None)
        });
        circuit.used = now;
        if reason != DeferReason::Rate {
            circuit.away.add(wait, now);
        }
        if let Some(quota) = quota {
            quota.away.add(wait, now);
            if let (Turn::Paid, Some(rate), false) = (turn, ask.rate, ask.due.turn == Turn::Paid) {
                quota.pay(rate);
            }
        }
        Answer::Defer(reason, wait, turn)
    }

    fn sweep(&mut self, now: Instant) {
        if now.saturating_duration_since(self.swept) < SWEEP_EVERY {
            return;
        }
        self.swept = now;
        self.circuits.retain(|_, circuit| {
            let is_used = now.saturating_duration_since(circuit.used) < FORGOTTEN_AFTER || circuit.in_flight > 0;
            is_used || circuit.waiting > 0 || !circuit.breaker.pause(now).is_zero()
        });
        let is_sharing = |circuit: &mut Circuit| {
            circuit.is_sharing &= circuit.away.jobs(now) > 0;
            circuit.is_sharing
        };
        self.sharing = self.circuits.values_mut().map(|circuit| u64::from(is_sharing(circuit))).sum();
        let used: HashSet<_> = self.circuits.keys().map(|circuit| origin(circuit)).collect();
        self.origins.retain(|origin, _| used.contains(&**origin));
        self.quotas.retain(|_, quota| !quota.is_idle(now));
    }
}

fn origin(circuit: &str) -> &str {
    circuit.split_once(' ').map_or(circuit, |(_, origin)| origin)
}
