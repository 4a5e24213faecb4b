//! One circuit: the requests of one organization to one origin, in this worker.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::sync::Notify;

use super::{
    breaker::{Breaker, LAST_PROBE},
    concurrency::{Limit, START},
    deferral::Away,
    signal::Signal,
};

/// The state of a circuit, as people see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// Its requests are answered.
    Healthy,
    /// Some of its requests failed recently, or a pause is over and no request has followed.
    Limited,
    /// Its breaker is open and only probes are sent. Or all its answers are errors, and one request is sent at a time.
    Failing,
    /// The receiver asked for a pause.
    Paused,
}

impl State {
    /// Every state, from the best to the worst.
    pub const ALL: [State; 4] = [State::Healthy, State::Limited, State::Failing, State::Paused];

    /// Returns the word in tables and metrics.
    pub fn label(self) -> &'static str {
        ["healthy", "limited", "failing", "paused"][self as usize]
    }
}

/// Why an attempt failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cause {
    /// The label of the reason.
    pub reason: &'static str,
    /// The status of the answer, if there was one.
    pub status: Option<u16>,
}

/// Least time between two requests to a receiver that answers only errors: at most 50 a second spend an attempt.
pub const PACE: Duration = Duration::from_millis(20);

/// The limits and the state of one circuit.
#[derive(Debug)]
pub(super) struct Circuit {
    pub(super) limit: Limit,
    pub(super) breaker: Breaker,
    pub(super) in_flight: usize,
    /// When its breaker last closed.
    recovered: Option<Instant>,
    /// Requests from before then that are still in flight. They do not count against the limit, or a receiver that has
    /// recovered would have to wait for them.
    hanging: usize,
    /// Errors since the last answer of another kind, and the limit before the first of them.
    errors: usize,
    limit_before_errors: usize,
    /// When the latest request began, if one has.
    latest: Option<Instant>,
    /// True until the circuit first answers. Becomes true again when its breaker opens, its origin falls silent, or
    /// [`START`] errors arrive in a row.
    pub(super) on_probation: bool,
    /// Jobs that wait in the process, and the bell that wakes them.
    pub(super) waiting: usize,
    pub(super) bell: Arc<Notify>,
    pub(super) away: Away,
    /// Whether it is counted among the circuits with deferred jobs.
    pub(super) is_sharing: bool,
    /// Whether the last request was a direct attempt.
    pub(super) last_was_direct: bool,
    /// Why the latest attempt failed, if it did.
    pub(super) cause: Option<Cause>,
    pub(super) used: Instant,
}

impl Circuit {
    /// Returns a new circuit, whose limit may grow to 15/16 of `most`. The rest is kept for probes. Without it, a
    /// receiver that hangs with `most` in flight could not be asked again before the first timeout.
    pub(super) fn new(most: usize, now: Instant) -> Circuit {
        Circuit {
            limit: Limit::new(most - most / 16),
            breaker: Breaker::default(),
            in_flight: 0,
            recovered: None,
            hanging: 0,
            errors: 0,
            limit_before_errors: START,
            latest: None,
            on_probation: true,
            waiting: 0,
            bell: Arc::default(),
            away: Away::default(),
            is_sharing: false,
            last_was_direct: false,
            cause: None,
            used: now,
        }
    }

    pub(super) fn state(&self, now: Instant) -> State {
        if !self.breaker.pause(now).is_zero() {
            State::Paused
        } else if self.breaker.is_failing(now) || self.is_erring() {
            State::Failing
        } else if !self.breaker.is_closed() || self.limit.has_failures() {
            State::Limited
        } else {
            State::Healthy
        }
    }

    /// Returns whether it answers only errors, and gets one request at a time.
    pub(super) fn is_erring(&self) -> bool {
        self.errors >= START && self.limit.get() == 1
    }

    /// Returns how many more requests may start now, of at most `most` in flight. A probe may exceed the limit. A circuit
    /// that answers only errors gets a request every [`PACE`] at most. An error that takes long does not delay the
    /// next request by more than [`LAST_PROBE`].
    pub(super) fn room(&self, most: usize, now: Instant) -> usize {
        let limit = match self.breaker.is_closed() {
            true if self.errors >= START => {
                let since = self.latest.map_or(Duration::MAX, |latest| now.saturating_duration_since(latest));
                match since {
                    since if self.is_erring() && since < PACE => 0,
                    since if since < LAST_PROBE => self.limit.get() + self.hanging,
                    _ => self.in_flight + 1,
                }
            }
            true => self.limit.get() + self.hanging,
            false => most,
        };
        limit.min(most).saturating_sub(self.in_flight)
    }

    /// Returns about how long one request keeps the others waiting, in seconds. `None` before the first answer.
    pub(super) fn mean(&self) -> Option<f64> {
        match self.is_erring() {
            true => Some(PACE.as_secs_f64()),
            false => self.breaker.mean(),
        }
    }

    /// Returns whether the breaker lets a request start.
    pub(super) fn may_start(&mut self, now: Instant) -> bool {
        let was_closed = self.breaker.is_closed();
        let may_start = self.breaker.may_start(now);
        if was_closed && !may_start {
            self.opened();
        }
        may_start
    }

    /// Returns how many of the slots for circuits on probation it holds.
    pub(super) fn slots_on_probation(&self) -> usize {
        if self.on_probation { self.in_flight } else { 0 }
    }

    /// Notes that a request begins.
    pub(super) fn begin(&mut self, start: Instant, direct: bool) {
        self.breaker.begin(start);
        self.in_flight += 1;
        self.last_was_direct = direct;
        (self.latest, self.used) = (Some(start), start);
    }

    /// Notes that a request that began at `begun` has ended.
    pub(super) fn end(&mut self, begun: Instant, signal: Signal, now: Instant) {
        let is_used = 2 * self.in_flight >= self.limit.get() || self.waiting > 0;
        let was_closed = self.breaker.is_closed();
        self.in_flight = self.in_flight.saturating_sub(1);
        self.hanging -= usize::from(self.hanging > 0 && self.recovered.is_some_and(|at| begun < at));
        self.used = now;
        if self.breaker.end(begun, signal, self.limit.get(), now) {
            self.opened();
        } else if !was_closed && self.breaker.is_closed() && signal == Signal::Answered {
            (self.recovered, self.hanging) = (Some(now), self.in_flight);
        }
        match signal {
            Signal::Answered => {
                if std::mem::take(&mut self.errors) >= START {
                    self.limit.recover(self.limit_before_errors);
                }
                self.limit.succeeded(is_used);
                self.on_probation &= !self.breaker.is_closed();
            }
            Signal::Error => {
                if self.errors == 0 {
                    self.limit_before_errors = self.limit.get();
                }
                self.errors = self.errors.saturating_add(1);
                self.limit.failed(begun, now);
                self.on_probation |= self.errors >= START;
            }
            Signal::Failing if self.breaker.is_closed() => self.limit.failed(begun, now),
            Signal::Paused(_) => self.errors = 0,
            Signal::Failing | Signal::Nothing => {}
        }
    }

    fn opened(&mut self) {
        if !self.is_erring() {
            self.limit.restart();
        }
        self.on_probation = true;
    }
}
