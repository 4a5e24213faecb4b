//! The lanes of this worker, with clock, dice and a lock: what the tasks that make attempts ask for room.

use std::{
    collections::HashMap,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use tokio::sync::{Notify, futures::OwnedNotified};

use super::trouble::{Change, Look, Troubles};
use crate::{
    fairness::{
        Admission, Asked, Lanes as Table, Own, ParkReason, Queue, Signal, Standing, Turn, View,
        lanes::{ASK_AGAIN, PATIENCE},
    },
    store::{Target, TargetKey},
};

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
    /// Why the latest attempt of a lane failed, of those whose latest attempt did.
    causes: HashMap<Arc<str>, Cause>,
}

/// Why an attempt failed: a reason's label, and the status if there was an answer.
#[derive(Clone, Copy, Debug)]
pub struct Cause {
    /// The label.
    pub reason: &'static str,
    /// Of the answer.
    pub status: Option<u16>,
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
        Lanes(Arc::new(Mutex::new(Inner {
            table,
            most,
            lanes: HashMap::new(),
            targets: HashMap::new(),
            causes: HashMap::new(),
        })))
    }

    /// Asks for room for one attempt at this target, and waits for it for a moment where it is likely to come. `parked`
    /// is how often the job was parked since its last attempt.
    pub async fn enter(&self, target: &Target, parked: u32) -> Entry {
        match self.ask(target, parked, Turn::Fresh, None) {
            Ok(entry) => entry,
            // Few wait: the tasks of all others need no room for it.
            Err(place) => Box::pin(self.wait(target, parked, place)).await,
        }
    }

    /// Asks for room for one direct attempt, at once or not at all.
    pub fn try_enter(&self, target: &Target) -> Option<Pass> {
        match self.ask(target, 0, Turn::Last, None) {
            Ok(Entry::Go(pass)) => Some(pass),
            Ok(Entry::Park(..)) | Err(_) => None,
        }
    }

    async fn wait(&self, target: &Target, parked: u32, mut place: Place) -> Entry {
        let patience = tokio::time::Instant::now() + PATIENCE;
        let queue = place.queue;
        loop {
            let soon = patience.min(tokio::time::Instant::now() + ASK_AGAIN);
            let turn = match tokio::time::timeout_at(soon, place.told()).await {
                Err(_) if soon == patience => Turn::Last,
                Ok(()) | Err(_) => Turn::Waiting,
            };
            match self.ask(target, parked, turn, Some(place)) {
                Ok(entry) => {
                    self.leave(target, queue);
                    return entry;
                }
                Err(same) => place = same,
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

    /// What the log has to say about lanes in trouble. The only place where it asks for their states.
    pub(super) fn look(&self, troubles: &mut Troubles) -> Vec<Change> {
        let (mut inner, now) = (self.lock(), Instant::now());
        let Inner { table, causes, .. } = &mut *inner;
        causes.retain(|lane, _| table.knows(lane));
        let looks = table.states(now).map(|(circuit, standing, answers)| {
            let trouble = match standing {
                Standing::Open | Standing::Limited => None,
                Standing::Probing => Some("failing"),
                Standing::PushedBack => Some("paused"),
            };
            Look { circuit, trouble, answers }
        });
        troubles.look(looks, now)
    }

    /// Why the latest attempt of a lane failed, if it did.
    pub(super) fn cause(&self, lane: &Arc<str>) -> Option<Cause> {
        self.lock().causes.get(lane).copied()
    }

    /// Whoever is to wait has its place when the lock is let go of, and is told of all that ends from then on.
    fn ask(&self, target: &Target, parked: u32, turn: Turn, place: Option<Place>) -> Result<Entry, Place> {
        let lane = &target.circuit;
        let mut inner = self.lock();
        // Asked under the lock, so that times come in their order.
        let now = Instant::now();
        let own = target.max_in_flight.map(|own| own as usize).filter(|own| *own < inner.most);
        let own = own.map(|most| Own { target: &target.key, most });
        let asked = Asked { lane, own, parked, turn };
        match inner.table.admit(asked, now, fastrand::f64()) {
            Admission::Go => Ok(Entry::Go(Pass {
                lanes: self.clone(),
                lane: lane.clone(),
                target: target.key.clone(),
                counted: own.is_some(),
                begun: now,
                waited: turn != Turn::Fresh,
                given_back: false,
            })),
            Admission::Park { reason, wait } => Ok(Entry::Park(reason, wait)),
            Admission::Wait(queue) => Err(match place {
                // It stays where it is told.
                Some(place) => place.kept(),
                None => Place::new(queue, inner.bell(queue, target)),
            }),
        }
    }

    fn leave(&self, target: &Target, queue: Queue) {
        let mut inner = self.lock();
        if inner.table.waits_no_longer(&target.circuit, &target.key, queue) == 0 {
            match queue {
                Queue::Lane => drop(inner.lanes.remove(&target.circuit)),
                Queue::Target => drop(inner.targets.remove(&target.key)),
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn bell(&mut self, queue: Queue, target: &Target) -> Arc<Notify> {
        let bell = match queue {
            Queue::Lane => self.lanes.entry(target.circuit.clone()).or_default(),
            Queue::Target => self.targets.entry(target.key.clone()).or_default(),
        };
        bell.clone()
    }
}

/// A place among those that wait for room. Taken under the lock: of what is told to nobody in particular, [`Notify`] keeps
/// one word only, so that of two attempts that end before two jobs listen, one job would not be told.
struct Place {
    queue: Queue,
    bell: Arc<Notify>,
    /// None once it was told. Dropped untold or unheard, what it was told goes to the next one.
    listens: Option<Pin<Box<OwnedNotified>>>,
}

impl Place {
    fn new(queue: Queue, bell: Arc<Notify>) -> Place {
        Place { queue, bell, listens: None }.kept()
    }

    /// Listens again if it was told, and keeps its place in the order if not.
    fn kept(mut self) -> Place {
        if self.listens.is_none() {
            let mut listens = Box::pin(self.bell.clone().notified_owned());
            listens.as_mut().enable();
            self.listens = Some(listens);
        }
        self
    }

    /// Waits until it is told.
    async fn told(&mut self) {
        if let Some(listens) = &mut self.listens {
            listens.await;
        }
        self.listens = None;
    }
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

    /// The attempt has ended, and says this of its target; `cause` says why it did not deliver.
    pub fn give_back(mut self, signal: Signal, cause: Option<Cause>) {
        self.end(signal, cause);
    }

    fn end(&mut self, signal: Signal, cause: Option<Cause>) {
        self.given_back = true;
        let mut inner = self.lanes.lock();
        if let (Signal::Failing | Signal::PushedBack(_), Some(cause)) = (signal, cause) {
            inner.causes.insert(self.lane.clone(), cause);
        } else if signal == Signal::Answered && !inner.causes.is_empty() {
            inner.causes.remove(&self.lane);
        }
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
            self.end(Signal::Nothing, None);
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    fn target() -> Target {
        let url = "https://crm.acme.example/hooks".parse().unwrap();
        Target::plain(TargetKey::new("acme", None, None), "acme", url)
    }

    /// As many attempts as a young lane may begin.
    fn four(lanes: &Lanes, target: &Target) -> Vec<Pass> {
        let asked = (0..4).map(|_| lanes.ask(target, 0, Turn::Fresh, None));
        let passes: Vec<_> =
            asked.map(|asked| if let Ok(Entry::Go(pass)) = asked { Some(pass) } else { None }).collect();
        passes.into_iter().flatten().collect()
    }

    #[test]
    fn all_that_wait_are_told_although_they_do_not_listen_yet() {
        let (lanes, target) = (Lanes::new(100, 64), target());
        let passes = four(&lanes, &target);
        assert_eq!(passes.len(), 4);
        let places: Vec<_> = (0..2).filter_map(|_| lanes.ask(&target, 0, Turn::Fresh, None).err()).collect();
        assert_eq!(places.len(), 2, "both wait");
        // Their tasks have not come as far as listening.
        passes.into_iter().take(2).for_each(|pass| pass.give_back(Signal::Answered, None));
        for mut place in places {
            assert!(place.told().now_or_never().is_some(), "told");
        }
    }

    #[test]
    fn what_is_told_to_one_that_leaves_is_told_to_the_next() {
        let (lanes, target) = (Lanes::new(100, 64), target());
        let mut passes = four(&lanes, &target);
        let ask = || lanes.ask(&target, 0, Turn::Fresh, None).err().expect("it waits");
        let (first, mut second) = (ask(), ask());
        passes.pop().expect("four").give_back(Signal::Nothing, None);
        assert!(second.told().now_or_never().is_none(), "one has ended, and the first was told");
        let mut second = second.kept();
        drop(first);
        assert!(second.told().now_or_never().is_some());
    }

    #[tokio::test]
    async fn whoever_waits_where_nobody_answers_any_more_leaves_before_its_patience_ends() {
        let (lanes, target) = (Lanes::new(9, 64), target());
        let _hanging = four(&lanes, &target);
        let patience = tokio::time::sleep(PATIENCE - ASK_AGAIN);
        tokio::select! {
            biased;
            entry = lanes.enter(&target, 0) => assert!(matches!(entry, Entry::Park(ParkReason::Saturated, _))),
            () = patience => panic!("it waits on"),
        }
    }
}
