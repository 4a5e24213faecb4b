//! What this process has done with the copies it was given, in case the broker gives them again (rule 6). Events have a
//! memory of their own, by `webhook_id` and digest of the body instead of a copy id (`worker::dispatch`).
//!
//! An ack that is lost with its connection brings the same copy back, marked `redelivered`. Without this memory it would
//! be POSTed a second time, or fork into a second successor. The key is the copy's own id and its attempt number, so
//! another copy of the same job (a fork, a replay) is never mistaken for it. Bounded: what is forgotten costs a duplicate
//! with the same `webhook-id`, which the contract allows. Authoritative is always the broker.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
};

use tokio::sync::watch;

use super::{
    machine,
    transition::{Successor, Transition},
};

/// Finished copies remembered; mostly delivered, and those take below 200 bytes each.
const FINISHED: usize = 10_000;

/// Which copy, and which attempt of it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Key {
    /// A job's copy id; of an event the `webhook-id` for one of its targets.
    pub id: Arc<str>,
    /// Attempts that a job has behind it; of an event a digest of its body.
    pub part: u64,
}

/// What a delivery came to.
pub type Settlement = machine::Settlement<Transition>;

/// What is known of one.
enum Known {
    /// Those who wait are told what it comes to.
    Running(Arc<Waiting>),
    /// As nearly all do: there is nothing more to it.
    Delivered,
    /// Its job is on the jobs queue.
    Forwarded,
    /// Boxed: thousands are kept.
    Otherwise(Box<Settlement>),
}

/// Made when the first one waits, which hardly ever happens.
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
    /// Notes that an attempt begins. Dropping the ticket unfinished forgets it.
    pub fn begin(&self, key: Key) -> Ticket {
        let waiting = Arc::new(Waiting::new());
        // A copy that was recalled is listed as finished already.
        let again = self.lock().known.insert(key.clone(), Known::Running(waiting.clone())).is_some();
        Ticket { memory: self.clone(), key, waiting, again, finished: false }
    }

    /// What this process did with a redelivered copy: waits for an attempt that is still running.
    pub async fn recall(&self, key: &Key) -> Option<Settlement> {
        let mut outcome = match self.lock().known.get(key)? {
            // Under the lock: it cannot finish untold meanwhile.
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
    /// Remembers what it came to.
    pub fn finish(mut self, settlement: Settlement) {
        self.finished = true;
        let mut inner = self.memory.lock();
        let before = inner.known.insert(self.key.clone(), Known::finished(&settlement));
        if let Some(waiting) = self.waiting.get() {
            waiting.send_replace(Some(settlement));
        }
        // One that was begun again is listed already, unless it was dropped or forgotten meanwhile.
        if !self.again || before.is_none() {
            inner.finished.push_back(self.key.clone());
        }
        while inner.finished.len() > FINISHED
            && let Some(oldest) = inner.finished.pop_front()
        {
            // An attempt that runs is waited for, however long it takes.
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
        assert!((&mut recalling).now_or_never().is_none(), "it runs still");
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
        assert!((&mut recalling).now_or_never().is_none(), "it runs still");
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
