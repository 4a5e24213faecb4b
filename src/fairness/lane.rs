//! One lane: the attempts of one organization to one URL origin.

use std::{
    collections::{HashMap, VecDeque},
    time::{Duration, Instant},
};

use super::{
    limit::Limit,
    parked::Parked,
    quota::{Own, Quota},
    signal::Signal,
    standing::{ParkReason, Standing},
};
use crate::store::TargetKey;

/// No answer for so long, with attempts in flight, and the lane counts as silent; longer for lanes whose answers take long.
pub const SILENCE: Duration = Duration::from_secs(2);

/// No answer for so long (or four times its usual time), with attempts in flight, and a lane counts among those whose answers are
/// uncertain, which share a part of the slots: long before it is silent, since a busy one that hangs takes its whole limit by then.
pub const DOUBT: Duration = Duration::from_millis(250);

/// How often a lane that is silent, or has one attempt left, starts one more although others are still in flight. Bounds how
/// late is seen that a target answers again, whatever its timeout.
pub const PROBE_EVERY: Duration = Duration::from_secs(5);

/// The so manieth part of what a target allows is kept for those: one that hangs while all of it is in flight could not be asked
/// again until its timeouts are over.
pub const PROBES: usize = 8;

/// A job waits in the process if its turn is expected to come within this time.
pub const MOMENT: Duration = Duration::from_millis(100);

/// What an answer takes at least, in seconds.
const SHORTEST_ANSWER: f64 = 0.000_1;

/// Pause after the first 429 in a row that names none; it doubles up to [`PUSH_BACK_MOST`].
const PUSH_BACK: Duration = Duration::from_secs(1);
const PUSH_BACK_MOST: Duration = Duration::from_secs(30);

/// Over which time the rate of answers is taken.
const RATE_OVER: f64 = 10.0;

/// How fast is forgotten what a lane could once take, in seconds.
const FORGOTTEN_OVER: f64 = 300.0;

/// See the module's words.
#[derive(Clone, Debug)]
pub struct Lane {
    limit: Limit,
    /// The oldest first.
    in_flight: VecDeque<Flight>,
    /// Jobs that wait in the process for room.
    pub(super) waiting: usize,
    /// The place of its origin among all of them.
    pub(super) origin: usize,
    /// Whether it is counted among those with jobs parked, while it answered and while it was in trouble.
    pub(super) sharing: [bool; 2],
    /// The most in flight in this round; it began at that time, and ends with an attempt that began after it.
    peak: usize,
    round: Instant,
    /// Those of targets that allow less than the lane.
    quotas: HashMap<TargetKey, Quota>,
    /// Has answered since the start, since its last whole window that failed, and since it was last in [`DOUBT`].
    proven: bool,
    /// When it last answered or failed, or when the first of those in flight began.
    heard: Instant,
    /// When the latest attempt began, in flight or not.
    began: Option<Instant>,
    /// Mean seconds of an answer.
    latency: f64,
    rate: Rate,
    /// Answers a second that it could give: its limit over the time of an answer (Little's law). The best of late, slowly
    /// forgotten, so that a lane in trouble is still known for what it was. Not the rate that it was seen to give: that is
    /// low where few jobs come, and waits that follow from it would keep it low.
    capacity: f64,
    /// Jobs this worker has parked that are still away.
    parked: Parked,
    /// Not before this time.
    closed: Option<Instant>,
    /// Push-backs since the last answer; those of one round count as one.
    pushed_back: u32,
    /// When the latest of them came. Attempts begun before say nothing new.
    pushed_back_at: Option<Instant>,
    /// When anything last happened.
    pub(super) used: Instant,
    /// Up to when `capacity` has faded.
    aged: Instant,
}

/// One attempt in flight.
#[derive(Clone, Copy, Debug)]
struct Flight {
    begun: Instant,
    /// The lane was down then.
    down: bool,
}

impl Lane {
    /// A lane that nothing is known of.
    pub fn new(most: usize, now: Instant) -> Lane {
        Lane {
            limit: Limit::new(most - most / PROBES),
            in_flight: VecDeque::new(),
            waiting: 0,
            origin: 0,
            sharing: [false; 2],
            peak: 0,
            round: now,
            quotas: HashMap::new(),
            proven: false,
            heard: now,
            began: None,
            latency: 0.0,
            rate: Rate { value: 0.0, at: now },
            capacity: 0.0,
            parked: Parked::new(now),
            closed: None,
            pushed_back: 0,
            pushed_back_at: None,
            used: now,
            aged: now,
        }
    }

    /// Attempts in flight.
    pub fn in_flight(&self) -> usize {
        self.in_flight.len()
    }

    /// The limit as it is now.
    pub fn limit(&self) -> usize {
        self.limit.get()
    }

    /// Answers a second, over about the last ten seconds.
    pub fn rate(&self, now: Instant) -> f64 {
        self.rate.now(now)
    }

    /// Has answered since its last trouble.
    pub fn is_proven(&self) -> bool {
        self.proven
    }

    /// Nothing is known against it.
    pub fn is_unblemished(&self) -> bool {
        !self.limit.is_troubled() && self.limit.in_a_row() == 0
    }

    /// A whole window of it has failed, and it has not answered since; of one that never answered, a single attempt.
    pub(super) fn is_down(&self) -> bool {
        self.limit.in_a_row() > 0 && (self.limit.is_one() || self.limit.alive().is_none())
    }

    /// A proven lane that gives no answer for a while, or whose origin is `doubted`, has to prove itself again. Returns whether it
    /// just lost that.
    pub(super) fn comes_into_doubt(&mut self, doubted: bool, now: Instant) -> bool {
        let doubted = self.proven && (doubted || self.is_quiet(self.usually(DOUBT), now));
        self.proven &= !doubted;
        doubted
    }

    /// How it stands.
    pub fn standing(&self, now: Instant) -> Standing {
        if self.closed_for(now) > Duration::ZERO {
            Standing::PushedBack
        } else if self.is_silent(now) || (self.limit.is_one() && !self.proven) {
            Standing::Probing
        } else if self.limit.is_troubled() {
            Standing::Limited
        } else {
            Standing::Open
        }
    }

    /// For how long it is still to be left alone.
    pub fn closed_for(&self, now: Instant) -> Duration {
        self.closed.map_or(Duration::ZERO, |until| until.saturating_duration_since(now))
    }

    /// Whether one more attempt may start; `most` is what a target may have in flight.
    pub(super) fn has_room(&self, most: usize, now: Instant) -> bool {
        if self.closed_for(now) > Duration::ZERO {
            return false;
        }
        let probing = self.is_silent(now) || self.limit.is_one();
        let overdue = self.began.is_none_or(|began| now.saturating_duration_since(began) >= PROBE_EVERY);
        let within = self.limit.get().min(most - most / PROBES);
        let room = !self.is_silent(now) && self.in_flight.len() - self.overtaken(now) < within;
        // What hangs counts for what the target allows, and for nothing else: what was kept for probes is used by a target that
        // answers again.
        self.in_flight.len() < most && (room || (probing && overdue))
    }

    /// Whether a job that finds no room in the lane is likely to have its turn within a [`MOMENT`].
    pub(super) fn turns_soon(&self, now: Instant) -> bool {
        self.answers(now) && self.is_short(self.waiting, self.limit.soon())
    }

    /// The same for one whose target has as many attempts in flight as it allows itself.
    pub(super) fn own_turns_soon(&self, own: Own<'_>, now: Instant) -> bool {
        let waiting = self.quotas.get(own.target).map_or(0, |quota| quota.waiting);
        self.answers(now) && self.is_short(waiting, own.most)
    }

    fn answers(&self, now: Instant) -> bool {
        !self.is_silent(now) && self.closed_for(now).is_zero() && (self.proven || !self.limit.is_one())
    }

    /// Whether a queue is worked off within a [`MOMENT`], so many attempts at a time (Little's law). Of a young lane no time is
    /// known: as many as it works on, or soon will, are no long queue.
    fn is_short(&self, waiting: usize, at_a_time: usize) -> bool {
        match self.latency > 0.0 {
            true => waiting as f64 * self.latency < MOMENT.as_secs_f64() * at_a_time as f64,
            false => waiting < at_a_time,
        }
    }

    /// Whether a target has as many attempts in flight as it allows itself.
    pub(super) fn is_full(&self, own: Own<'_>) -> bool {
        self.quotas.get(own.target).is_some_and(|quota| quota.in_flight >= own.most)
    }

    /// What is kept of a target that allows less than the lane.
    pub(super) fn quota(&mut self, target: &TargetKey, now: Instant) -> &mut Quota {
        self.quotas.entry(target.clone()).or_insert_with(|| Quota::new(now))
    }

    /// The same, if there is anything.
    pub(super) fn quota_mut(&mut self, target: &TargetKey) -> Option<&mut Quota> {
        self.quotas.get_mut(target)
    }

    /// Why there is no room.
    pub(super) fn why(&self, now: Instant) -> ParkReason {
        match self.standing(now) {
            Standing::PushedBack => ParkReason::PushedBack,
            Standing::Probing => ParkReason::Failing,
            Standing::Open | Standing::Limited => ParkReason::Saturated,
        }
    }

    /// Jobs of it that this worker has parked and that are still away.
    pub fn parked(&mut self, now: Instant) -> u64 {
        self.parked.away(now)
    }

    /// Those that are away because of their target's own limit as well.
    pub(super) fn all_parked(&mut self, now: Instant) -> u64 {
        self.parked(now) + self.quotas.values_mut().map(|quota| quota.parked(now)).sum::<u64>()
    }

    /// Answers a second that it could give.
    pub(super) fn capacity(&self) -> f64 {
        self.capacity
    }

    /// Mean seconds of an answer.
    pub(super) fn latency(&self) -> f64 {
        self.latency.max(SHORTEST_ANSWER)
    }

    /// A job was parked.
    pub(super) fn park(&mut self, wait: Duration, now: Instant) {
        self.used = now;
        self.parked.add(wait, now);
    }

    /// An attempt begins. Returns whether the lane is down.
    pub(super) fn begin(&mut self, now: Instant) -> bool {
        if self.in_flight.len() == self.overtaken(now) {
            self.heard = now;
        }
        let down = self.is_down();
        self.in_flight.push_back(Flight { begun: now, down });
        self.peak = self.peak.max(self.in_flight.len());
        self.began = Some(now);
        self.used = now;
        down
    }

    /// An attempt that began at `begun` has ended. Returns whether the lane was down when it began.
    pub(super) fn end(&mut self, begun: Instant, signal: Signal, now: Instant) -> bool {
        let peak = self.peak;
        if begun > self.round {
            (self.round, self.peak) = (now, self.in_flight.len());
        }
        let at = self.in_flight.iter().position(|one| one.begun == begun);
        let ended = at.and_then(|at| self.in_flight.remove(at));
        self.heard = now;
        self.used = now;
        match signal {
            Signal::Answered => self.answered(begun, peak, now),
            Signal::Failing => self.failed(begun, now),
            Signal::PushedBack(pause) => {
                self.failed(begun, now);
                self.limit.pushed_back();
                if self.pushed_back_at.is_none_or(|at| begun >= at) {
                    self.pushed_back = self.pushed_back.saturating_add(1);
                    self.pushed_back_at = Some(now);
                }
                let own = PUSH_BACK.saturating_mul(1 << (self.pushed_back.saturating_sub(1)).min(16));
                // "Retry-After: 0" asks for nothing, and is no reason to ask without a pause.
                let asked = pause.filter(|pause| !pause.is_zero());
                let until = now.checked_add(asked.unwrap_or(own.min(PUSH_BACK_MOST)));
                self.closed = self.closed.max(until);
            }
            Signal::Nothing => {}
        }
        ended.is_some_and(|ended| ended.down)
    }

    /// Lets the capacity fade, and forgets targets that have nothing in flight.
    pub(super) fn age(&mut self, now: Instant) {
        self.quotas.retain(|_, quota| !quota.is_idle(now));
        let kept = (-now.saturating_duration_since(self.aged).as_secs_f64() / FORGOTTEN_OVER).exp();
        self.aged = now;
        self.capacity *= kept;
    }

    /// Whether forgetting it loses nothing.
    pub(super) fn is_idle(&mut self, now: Instant, after: Duration) -> bool {
        let unused = now.saturating_duration_since(self.used) >= after;
        unused
            && self.in_flight.is_empty()
            && self.waiting == 0
            && self.quotas.is_empty()
            && self.parked(now) == 0
            && self.closed_for(now).is_zero()
    }

    fn answered(&mut self, begun: Instant, peak: usize, now: Instant) {
        self.limit.answered(begun, peak);
        self.pushed_back = 0;
        self.proven = true;
        self.rate.count(now);
        let took = now.saturating_duration_since(begun).as_secs_f64();
        self.latency = if self.latency == 0.0 { took } else { self.latency + (took - self.latency) / 8.0 };
        self.capacity = self.capacity.max(self.limit.get() as f64 / self.latency.max(SHORTEST_ANSWER));
    }

    fn failed(&mut self, begun: Instant, now: Instant) {
        self.limit.failed(begun, now);
        if self.limit.is_one() {
            self.proven = false;
        }
    }

    /// No answer for longer than anybody would have waited for one: whoever waits for room may wait in vain.
    pub(super) fn is_late(&self, now: Instant) -> bool {
        self.is_quiet(self.usually(MOMENT), now)
    }

    fn is_silent(&self, now: Instant) -> bool {
        self.is_quiet(self.patience(), now)
    }

    fn is_quiet(&self, patience: Duration, now: Instant) -> bool {
        let quiet = now.saturating_duration_since(self.heard) >= patience;
        quiet && self.in_flight.len() > self.overtaken(now)
    }

    /// How many of those in flight are given up for the limit's purposes: out for long, and overtaken by one that was answered.
    /// They hang and will time out; a target that answers again must not wait for them.
    fn overtaken(&self, now: Instant) -> usize {
        let Some(alive) = self.limit.alive() else { return 0 };
        let long_ago = now.checked_sub(self.patience());
        self.in_flight.partition_point(|one| one.begun < alive && long_ago.is_some_and(|long_ago| one.begun < long_ago))
    }

    /// How long an answer may take before its absence says something.
    fn patience(&self) -> Duration {
        self.usually(SILENCE)
    }

    /// Four times the usual time of an answer, or `least`.
    fn usually(&self, least: Duration) -> Duration {
        least.max(Duration::try_from_secs_f64(4.0 * self.latency).unwrap_or(least))
    }
}

/// Events a second, the latest ones counting most.
#[derive(Clone, Copy, Debug)]
struct Rate {
    value: f64,
    at: Instant,
}

impl Rate {
    fn count(&mut self, now: Instant) {
        self.value = self.now(now) + 1.0 / RATE_OVER;
        self.at = now;
    }

    fn now(&self, now: Instant) -> f64 {
        self.value * (-now.saturating_duration_since(self.at).as_secs_f64() / RATE_OVER).exp()
    }
}

#[cfg(test)]
mod tests;
