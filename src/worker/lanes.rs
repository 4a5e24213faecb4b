//! The lanes of this worker, with clock, dice and a lock: what the tasks that make attempts ask for room.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use tokio::sync::Notify;

use crate::{
    fairness::{Admission, Asked, Lanes as Table, Own, ParkReason, Queue, Signal, Standing, Turn, View},
    store::{Target, TargetKey},
};

/// Longest wait in the process for room, whatever was expected.
const PATIENCE: Duration = Duration::from_millis(250);

/// See the module's words. Cheap to clone.
#[derive(Clone)]
pub struct Lanes(Arc<Mutex<Inner>>);

struct Inner {
    table: Table,
    /// What a target may have in flight unless it says otherwise.
    most: usize,
    /// Who waits in the process for room in a lane.
    lanes: HashMap<Arc<str>, Arc<Notify>>,
    /// Who waits for an attempt at a target to end.
    targets: HashMap<TargetKey, Arc<Notify>>,
}

/// Whether an attempt may start.
pub enum Entry {
    /// It may; the pass is to be given back with what became of it.
    Go(Pass),
    /// The job is to be parked.
    Park(ParkReason, Duration),
}

impl Lanes {
    /// `slots` attempts in flight altogether, `most` for each lane.
    pub fn new(slots: usize, most: usize) -> Lanes {
        let table = Table::new(slots, most, Instant::now());
        Lanes(Arc::new(Mutex::new(Inner { table, most, lanes: HashMap::new(), targets: HashMap::new() })))
    }

    /// Asks for room for one attempt at this target, and waits for it for a moment where it is likely to come. `parked` is how
    /// often the job was parked since its last attempt. A job that runs `alone` is never parked.
    pub async fn enter(&self, target: &Target, parked: u32, alone: bool) -> Entry {
        let (queue, told) = match self.ask(target, parked, alone, Turn::Fresh) {
            Answer::Entry(entry) => return entry,
            Answer::Wait(queue, told) => (queue, told),
        };
        let patience = tokio::time::Instant::now() + PATIENCE;
        loop {
            // Whoever is told tries again; whoever is not, once more at the end of its patience.
            let turn = match tokio::time::timeout_at(patience, told.notified()).await {
                Ok(()) => Turn::Waiting,
                Err(_) => Turn::Last,
            };
            if let Answer::Entry(entry) = self.ask(target, parked, alone, turn) {
                self.leave(target, queue);
                return entry;
            }
        }
    }

    /// Each lane, for people.
    pub fn view(&self) -> Vec<View> {
        self.lock().table.view(Instant::now())
    }

    /// How many lanes stand how.
    pub fn standings(&self) -> [(&'static str, usize); 4] {
        let counts = self.lock().table.standings(Instant::now());
        std::array::from_fn(|at| (Standing::ALL[at].label(), counts[at]))
    }

    fn ask(&self, target: &Target, parked: u32, alone: bool, turn: Turn) -> Answer {
        let lane = &target.lane;
        let mut inner = self.lock();
        // Asked under the lock, so that times come in their order.
        let now = Instant::now();
        let own = target.max_in_flight.map(|own| own as usize).filter(|own| *own < inner.most);
        let own = own.map(|most| Own { target: &target.key, most });
        let asked = Asked { lane, own, parked, turn, alone };
        match inner.table.admit(asked, now, fastrand::f64()) {
            Admission::Go => Answer::Entry(Entry::Go(Pass {
                lanes: self.clone(),
                lane: lane.clone(),
                target: target.key.clone(),
                counted: own.is_some(),
                begun: now,
                waited: turn != Turn::Fresh,
                given_back: false,
            })),
            Admission::Park { reason, wait } => Answer::Entry(Entry::Park(reason, wait)),
            // It knows already where it is told.
            Admission::Wait(queue) if turn != Turn::Fresh => Answer::Wait(queue, Arc::default()),
            Admission::Wait(queue) => {
                let told = match queue {
                    Queue::Lane => inner.lanes.entry(lane.clone()).or_default(),
                    Queue::Target => inner.targets.entry(target.key.clone()).or_default(),
                };
                Answer::Wait(queue, told.clone())
            }
        }
    }

    fn leave(&self, target: &Target, queue: Queue) {
        let mut inner = self.lock();
        if inner.table.waits_no_longer(&target.lane, &target.key, queue) == 0 {
            match queue {
                Queue::Lane => drop(inner.lanes.remove(&target.lane)),
                Queue::Target => drop(inner.targets.remove(&target.key)),
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

enum Answer {
    Entry(Entry),
    Wait(Queue, Arc<Notify>),
}

/// The right to have one attempt in flight. Dropping it without a word says nothing of the target.
pub struct Pass {
    lanes: Lanes,
    lane: Arc<str>,
    target: TargetKey,
    /// Whether the target had a limit of its own when the attempt began.
    counted: bool,
    begun: Instant,
    waited: bool,
    given_back: bool,
}

impl Pass {
    /// Whether it was waited for: what was asked before may not hold any more.
    pub fn was_waited_for(&self) -> bool {
        self.waited
    }

    /// The attempt has ended, and says this of its target.
    pub fn give_back(mut self, signal: Signal) {
        self.end(signal);
    }

    fn end(&mut self, signal: Signal) {
        self.given_back = true;
        let mut inner = self.lanes.lock();
        let freed =
            inner.table.ended(&self.lane, self.counted.then_some(&self.target), self.begun, signal, Instant::now());
        let lane = inner.lanes.get(&self.lane).map(|told| (freed.lane, told));
        let target = inner.targets.get(&self.target).map(|told| (freed.target, told));
        for (free, told) in lane.into_iter().chain(target) {
            (0..free).for_each(|_| told.notify_one());
        }
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        if !self.given_back {
            self.end(Signal::Nothing);
        }
    }
}
