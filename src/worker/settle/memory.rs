//! Remembers what this process did with each copy, in case the broker delivers it again. Events have their own memory,
//! whose key is `webhook_id` and a digest of the body instead of a copy id (`worker::dispatch`).
//!
//! An ack that is lost with its connection brings the same copy back, marked `redelivered`. Without this memory it
//! would be POSTed a second time, or fork into a second successor. The key is the copy's own id and its attempt number.
//! So another copy of the same job (a fork, a replay) is never mistaken for it. The memory is bounded. A forgotten copy
//! costs a duplicate with the same `webhook-id`, which the contract allows. The broker always stays authoritative.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
};

use tokio::sync::watch;

use super::{
    machine,
    transition::{Successor, Transition},
};

/// Most finished copies remembered. Most of them are delivered, and those take less than 200 bytes each.
const FINISHED: usize = 10_000;

/// One copy and one of its attempts.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Key {
    /// Copy id of a job; for an event, the `webhook-id` for one of its targets.
    pub id: Arc<str>,
    /// Number of earlier attempts of a job; for an event, a digest of its body.
    pub part: u64,
}

/// The result of a delivery.
pub type Settlement = machine::Settlement<Transition>;

/// The state of one copy.
enum Known {
    /// An attempt is running. Its result goes to the tasks that wait for it.
    Running(Arc<Waiting>),
    /// Delivered, as nearly all are.
    Delivered,
    /// The job is on the jobs queue.
    Forwarded,
    /// Boxed, because thousands are kept.
    Otherwise(Box<Settlement>),
}

/// Made for the first task that waits, which is rare.
type Waiting = OnceLock<watch::Sender<Option<Settlement>>>;

impl Known {
    fn finished(settlement: &Settlement) -> Known {
        match settlement {
            Settlement { decision: Transition::Delivered, .. } => Known::Delivered,
            Settlement { decision: Transition::Successor(Successor::Forward), recorded: true } => Known::Forwarded,
            other => Known::Otherwise(Box::new(other.clone())),
        }
    }
}

/// Remembers what this worker did with messages whose ack may have been lost.
#[derive(Clone, Default)]
pub struct Memory(Arc<Mutex<Inner>>);

#[derive(Default)]
struct Inner {
    known: HashMap<Key, Known>,
    finished: VecDeque<Key>,
}

impl Memory {
    /// Notes that an attempt begins. If the ticket is dropped unfinished, the attempt is forgotten.
    pub fn begin(&self, key: Key) -> Ticket {
        let waiting = Arc::new(Waiting::new());
        // A copy that was recalled is already listed as finished.
        let again = self.lock().known.insert(key.clone(), Known::Running(waiting.clone())).is_some();
        Ticket { memory: self.clone(), key, waiting, again, finished: false }
    }

    /// Returns what this process did with a redelivered copy. Waits for an attempt that is still running.
    pub async fn recall(&self, key: &Key) -> Option<Settlement> {
        let mut outcome = match self.lock().known.get(key)? {
            // Under the lock, so that the attempt cannot finish before this task subscribes.
            Known::Running(waiting) => waiting.get_or_init(|| watch::channel(None).0).subscribe(),
            Known::Delivered => return Some(Settlement { decision: Transition::Delivered, recorded: true }),
            Known::Forwarded => return Some(Settlement { decision: Successor::Forward.into(), recorded: true }),
            Known::Otherwise(settlement) => return Some(Settlement::clone(settlement)),
        };
        let settled = outcome.wait_for(Option::is_some).await.ok()?;
        settled.clone()
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An attempt that is running.
pub struct Ticket {
    memory: Memory,
    key: Key,
    waiting: Arc<Waiting>,
    again: bool,
    finished: bool,
}

impl Ticket {
    /// Remembers the result of the attempt.
    pub fn finish(mut self, settlement: Settlement) {
        self.finished = true;
        let mut inner = self.memory.lock();
        let before = inner.known.insert(self.key.clone(), Known::finished(&settlement));
        if let Some(waiting) = self.waiting.get() {
            waiting.send_replace(Some(settlement));
        }
        // A copy that was begun again is already listed, unless it was dropped or forgotten meanwhile.
        if !self.again || before.is_none() {
            inner.finished.push_back(self.key.clone());
        }
        while inner.finished.len() > FINISHED
            && let Some(oldest) = inner.finished.pop_front()
        {
            // A running attempt is never forgotten, however long it takes.
            if let Some(Known::Running(_)) = inner.known.get(&oldest) {
                inner.finished.push_back(oldest);
                break;
            }
            inner.known.remove(&oldest);
        }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        if self.finished {
            return;
        }
        let mut inner = self.memory.lock();
        // Another attempt of the same copy may have begun meanwhile.
        if let Some(Known::Running(waiting)) = inner.known.get(&self.key)
            && Arc::ptr_eq(waiting, &self.waiting)
        {
            inner.known.remove(&self.key);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use futures::FutureExt;

    use super::*;

    fn key(copy: usize) -> Key {
        Key { id: copy.to_string().into(), part: 0 }
    }

    fn delivered() -> Settlement {
        Settlement { decision: Transition::Delivered, recorded: true }
    }

    #[tokio::test]
    async fn finished_attempts_are_recalled_and_others_are_not() {
        let memory = Memory::default();
        memory.begin(key(1)).finish(delivered());
        assert_eq!(memory.recall(&key(1)).await, Some(delivered()));
        assert_eq!(memory.recall(&Key { part: 1, ..key(1) }).await, None);
        assert_eq!(memory.recall(&key(2)).await, None);
    }

    #[tokio::test]
    async fn what_still_lacks_its_successor_is_recalled_so() {
        let memory = Memory::default();
        for (copy, successor) in
            [Successor::Wait { remaining: Duration::from_secs(7) }, Successor::Forward].into_iter().enumerate()
        {
            let unrecorded = Settlement { decision: successor.into(), recorded: false };
            memory.begin(key(copy)).finish(unrecorded.clone());
            assert_eq!(memory.recall(&key(copy)).await, Some(unrecorded));
        }
    }

    #[tokio::test]
    async fn a_running_attempt_is_waited_for() {
        let memory = Memory::default();
        let ticket = memory.begin(key(1));
        let recalled = tokio::spawn({
            let memory = memory.clone();
            async move { memory.recall(&key(1)).await }
        });
        tokio::task::yield_now().await;
        ticket.finish(delivered());
        assert_eq!(recalled.await.unwrap(), Some(delivered()));
    }

    #[tokio::test]
    async fn an_abandoned_attempt_is_forgotten() {
        let memory = Memory::default();
        drop(memory.begin(key(1)));
        assert_eq!(memory.recall(&key(1)).await, None);
    }

    #[tokio::test]
    async fn whoever_waits_for_an_attempt_that_is_abandoned_is_told() {
        let memory = Memory::default();
        let ticket = memory.begin(key(1));
        let asked = key(1);
        let mut recalling = Box::pin(memory.recall(&asked));
        assert!((&mut recalling).now_or_never().is_none(), "it still runs");
        drop(ticket);
        assert_eq!(recalling.await, None);
    }

    #[tokio::test]
    async fn an_attempt_that_is_abandoned_leaves_another_one_of_its_copy_known() {
        let memory = Memory::default();
        let (first, second) = (memory.begin(key(1)), memory.begin(key(1)));
        drop(first);
        let asked = key(1);
        let mut recalling = Box::pin(memory.recall(&asked));
        assert!((&mut recalling).now_or_never().is_none(), "it still runs");
        second.finish(delivered());
        assert_eq!(recalling.await, Some(delivered()));
    }

    #[tokio::test]
    async fn a_recalled_copy_is_listed_once() {
        let memory = Memory::default();
        for _ in 0..3 {
            memory.begin(key(1)).finish(delivered());
        }
        assert_eq!(memory.lock().finished.len(), 1);
    }

    #[tokio::test]
    async fn the_oldest_are_forgotten() {
        let memory = Memory::default();
        for copy in 0..=FINISHED {
            memory.begin(key(copy)).finish(delivered());
        }
        assert_eq!(memory.recall(&key(0)).await, None);
        assert!(memory.recall(&key(1)).await.is_some());
        assert_eq!(memory.lock().known.len(), FINISHED);
    }
}
