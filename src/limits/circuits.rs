//! The circuits of this worker behind a lock, with clock and random draws. Tasks that make attempts ask here for room.

use std::{
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use tokio::sync::{futures::OwnedNotified, watch};

use super::{
    circuit::{Cause, State},
    deferral::{Due, PATIENCE, Turn},
    rate,
    signal::Signal,
    table::{Answer, Ask, DeferReason, Stage, Table},
};
use crate::store::Target;

/// All circuits of a worker. Cheap to clone.
#[derive(Clone)]
pub struct Circuits {
    table: Arc<Mutex<Table>>,
    /// The number of workers, which share a target's own limits.
    workers: watch::Receiver<usize>,
}

/// The answer to a job that asks for room.
pub enum Entry {
    /// The attempt may start. The pass must be given back with its result.
    Go(Pass),
    /// The job must be deferred.
    Defer {
        /// The reason.
        reason: DeferReason,
        /// How long, not yet rounded to a delay queue.
        wait: Duration,
        /// Must be kept with the job until it returns.
        turn: Turn,
    },
}

impl Circuits {
    /// Returns the circuits of a worker, one of `workers`. It may have `slots` attempts in flight in total, and `most`
    /// for each circuit.
    pub fn new(slots: usize, most: usize, workers: watch::Receiver<usize>) -> Circuits {
        Circuits { table: Arc::new(Mutex::new(Table::new(slots, most, Instant::now()))), workers }
    }

    /// Asks for room for an attempt at this target. Waits for room up to [`PATIENCE`] if the circuit is healthy.
    pub async fn enter(&self, target: &Target, due: Due) -> Entry {
        let entry = match self.ask(target, due, Stage::Comes) {
            Ok(entry) => entry,
            // Boxed to keep the futures of jobs that do not wait small.
            Err(bell) => Box::pin(self.wait(target, due, bell)).await,
        };
        let Entry::Go(mut pass) = entry else { return entry };
        if pass.begun > Instant::now() {
            pass.has_waited = true;
            tokio::time::sleep_until(pass.begun.into()).await;
        }
        Entry::Go(pass)
    }

    /// Returns whether the breaker of this target's circuit is open, so that a direct attempt is pointless.
    pub fn is_open(&self, target: &Target) -> bool {
        self.lock().is_open(&target.circuit)
    }

    /// Asks for room for a direct attempt, and does not wait for it. While a circuit has deferred jobs, at most half of
    /// its requests are direct attempts.
    pub fn try_enter(&self, target: &Target) -> Option<Pass> {
        let (ask, now) = (self.to_ask(target, Due::default()), Instant::now());
        let may_start = self.lock().try_enter(&ask, now);
        may_start.then(|| Pass { circuits: self.clone(), ask, begun: now, has_waited: false, given_back: false })
    }

    async fn wait(&self, target: &Target, due: Due, mut bell: Bell) -> Entry {
        let until = tokio::time::Instant::now() + PATIENCE;
        loop {
            let is_woken = tokio::time::timeout_at(until, bell).await.is_ok();
            match self.ask(target, due, if is_woken { Stage::Waits } else { Stage::Leaves }) {
                Ok(entry) => return entry,
                Err(next) => bell = next,
            }
        }
    }

    fn ask(&self, target: &Target, due: Due, stage: Stage) -> Result<Entry, Bell> {
        let ask = self.to_ask(target, due);
        let mut table = self.lock();
        // Under the lock, so that times stay in order.
        match table.enter(&ask, stage, Instant::now(), fastrand::f64()) {
            Answer::Go(begun) => {
                let has_waited = stage != Stage::Comes;
                Ok(Entry::Go(Pass { circuits: self.clone(), ask, begun, has_waited, given_back: false }))
            }
            Answer::Defer(reason, wait, turn) => Ok(Entry::Defer { reason, wait, turn }),
            // Enabled before the lock is released: `Notify` keeps only one permit for all waiters that are not yet
            // registered.
            Answer::Wait => {
                let mut bell = Box::pin(table.bell(&ask).notified_owned());
                bell.as_mut().enable();
                Err(bell)
            }
        }
    }

    fn to_ask(&self, target: &Target, due: Due) -> Ask {
        let workers = (*self.workers.borrow()).max(1);
        Ask {
            circuit: target.circuit.clone(),
            target: target.key.clone(),
            most: target.max_in_flight.map(|most| rate::share_of_concurrency(most, workers)),
            rate: target.max_per_second.map(|rate| rate / workers as f64),
            due,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

type Bell = Pin<Box<OwnedNotified>>;

/// The right to make one attempt. Dropping it reports nothing about the receiver.
pub struct Pass {
    circuits: Circuits,
    /// As it was when the attempt was admitted, because the store may change meanwhile.
    ask: Ask,
    begun: Instant,
    has_waited: bool,
    given_back: bool,
}

impl Pass {
    /// Returns whether it was waited for, so that earlier checks may no longer hold.
    pub fn was_waited_for(&self) -> bool {
        self.has_waited
    }

    /// Ends the attempt with this sign of the receiver's health. `cause` says why it did not deliver.
    pub fn give_back(mut self, signal: Signal, cause: Option<Cause>) {
        self.end(signal, cause);
    }

    fn end(&mut self, signal: Signal, cause: Option<Cause>) {
        self.given_back = true;
        let mut table = self.circuits.lock();
        table.end(&self.ask, self.begun, signal, Instant::now());
        if let Some(circuit) = table.circuits.get_mut(&self.ask.circuit).filter(|_| signal != Signal::Nothing) {
            circuit.cause = if signal == Signal::Answered { None } else { cause.or(circuit.cause) };
        }
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        if !self.given_back {
            self.end(Signal::Nothing, None);
        }
    }
}

/// One circuit, for people. Contains nothing of a URL but scheme, host and port.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct View {
    /// Its organization.
    pub organization: String,
    /// Scheme, host and port.
    pub origin: String,
    /// Its state.
    pub state: State,
    /// Requests in flight in this worker.
    pub in_flight: usize,
    /// How many requests there may be now.
    pub limit: usize,
    /// Recent answers per second.
    pub answers_per_second: f64,
    /// Jobs that this worker has deferred and that are still away.
    pub deferred: u64,
    /// The rest of the pause that the receiver asked for.
    pub paused_for_seconds: u64,
    /// Whether it has answered since its start or since its breaker last opened. For the log.
    #[serde(skip)]
    pub answers: bool,
    /// Why its latest attempt failed, if it did. For the log.
    #[serde(skip)]
    pub cause: Option<Cause>,
}

impl Circuits {
    /// Returns each circuit, for people.
    pub fn view(&self) -> Vec<View> {
        let (mut table, now) = (self.lock(), Instant::now());
        let views = table.circuits.iter_mut().map(|(name, circuit)| {
            let (organization, origin) = name.split_once(' ').unwrap_or((name, ""));
            View {
                organization: organization.to_owned(),
                origin: origin.to_owned(),
                state: circuit.state(now),
                in_flight: circuit.in_flight,
                limit: circuit.limit.get(),
                answers_per_second: (circuit.breaker.rate(now) * 10.0).round() / 10.0,
                deferred: circuit.away.jobs(now),
                paused_for_seconds: circuit.breaker.pause(now).as_secs_f64().ceil() as u64,
                answers: !circuit.on_probation,
                cause: circuit.cause,
            }
        });
        views.collect()
    }

    /// Returns how many circuits are in each state, in the order of [`State::ALL`].
    pub fn states(&self) -> [usize; 4] {
        let (table, now) = (self.lock(), Instant::now());
        State::ALL.map(|state| table.circuits.values().filter(|circuit| circuit.state(now) == state).count())
    }
}

#[cfg(test)]
mod tests;
