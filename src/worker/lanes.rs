//! The lanes of this worker, with clock, dice and a lock: what the tasks that make attempts ask for room.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use tokio::sync::Notify;

use crate::{
    fairness::{Admission, Asked, Lanes as Table, ParkReason, Signal, Standing, Turn, View},
    store::Target,
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
    /// Who waits in the process, by lane.
    queues: HashMap<Arc<str>, Arc<Notify>>,
}

/// Whether an attempt may start.
pub enum Entry {
    /// It may; the pass is to be given back with what became of it.
    Go(Pass),
    /// The job is to be parked.
    Park(ParkReason, Duration),
}

impl Lanes {
    /// `slots` attempts in flight altogether, `most` for each lane, `longest` the longest rung.
    pub fn new(slots: usize, most: usize, longest: Duration) -> Lanes {
        let table = Table::new(slots, most, longest, Instant::now());
        Lanes(Arc::new(Mutex::new(Inner { table, most, queues: HashMap::new() })))
    }

    /// Asks for room for one attempt at this target, and waits for it for a moment where it is likely to come. `parked` is how
    /// often the job was parked since its last attempt. A job that runs `alone` is never parked.
    pub async fn enter(&self, target: &Target, parked: u32, alone: bool) -> Entry {
        let lane = &target.lane;
        let queue = match self.ask(target, parked, alone, Turn::Fresh) {
            Answer::Entry(entry) => return entry,
            Answer::Wait(queue) => queue,
        };
        let patience = tokio::time::Instant::now() + PATIENCE;
        loop {
            // Whoever is told tries again; whoever is not, once more at the end of its patience.
            let told = tokio::time::timeout_at(patience, queue.notified()).await.is_ok();
            let turn = if told { Turn::Waiting } else { Turn::Last };
            if let Answer::Entry(entry) = self.ask(target, parked, alone, turn) {
                self.leave(lane);
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
        let most = target.max_in_flight.map_or(inner.most, |own| inner.most.min(own as usize));
        let asked = Asked { lane, most, parked, turn, alone };
        match inner.table.admit(asked, now, fastrand::f64()) {
            Admission::Go => Answer::Entry(Entry::Go(Pass {
                lanes: self.clone(),
                lane: lane.clone(),
                begun: now,
                given_back: false,
            })),
            Admission::Park { reason, wait } => Answer::Entry(Entry::Park(reason, wait)),
            Admission::Wait => Answer::Wait(inner.queues.entry(lane.clone()).or_default().clone()),
        }
    }

    fn leave(&self, lane: &Arc<str>) {
        let mut inner = self.lock();
        if inner.table.waits_no_longer(lane) == 0 {
            inner.queues.remove(lane);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

enum Answer {
    Entry(Entry),
    Wait(Arc<Notify>),
}

/// The right to have one attempt in flight. Dropping it without a word says nothing of the target.
pub struct Pass {
    lanes: Lanes,
    lane: Arc<str>,
    begun: Instant,
    given_back: bool,
}

impl Pass {
    /// The attempt has ended, and says this of its target.
    pub fn give_back(mut self, signal: Signal) {
        self.end(signal);
    }

    fn end(&mut self, signal: Signal) {
        self.given_back = true;
        let mut inner = self.lanes.lock();
        let room = inner.table.ended(&self.lane, self.begun, signal, Instant::now());
        if room > 0
            && let Some(queue) = inner.queues.get(&self.lane)
        {
            (0..room).for_each(|_| queue.notify_one());
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
