//! Limits how many attempts run at once. Slots that become free alternate between events and jobs, so that neither new
//! leads nor old ones starve.

use std::{sync::Arc, time::Duration};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// How long an event waits for a slot for a direct attempt. Then it becomes a job.
const PATIENCE: Duration = Duration::from_millis(50);

/// The slots of a worker.
pub struct Slots {
    free: Arc<Semaphore>,
    /// Held by the job and by the event that are next in line. The semaphore serves its waiters in order. One job and
    /// one event wait at a time, so they alternate.
    next: [Semaphore; 2],
    /// Bounds the events that are attempted directly at once.
    direct: Arc<Semaphore>,
}

/// The right to have one attempt in flight.
pub struct Slot {
    _slot: OwnedSemaphorePermit,
    _direct: Option<OwnedSemaphorePermit>,
    /// Whether it was waited for: earlier checks may no longer hold.
    pub was_waited_for: bool,
}

impl Slots {
    /// Returns this many slots for attempts. Half of the event window may be attempted directly. The rest is
    /// left for events whose targets need the jobs queue.
    pub fn new(slots: usize, event_window: u16) -> Slots {
        let direct = usize::from(event_window).div_ceil(2);
        Slots {
            free: Arc::new(Semaphore::new(slots)),
            next: std::array::from_fn(|_| Semaphore::new(1)),
            direct: Arc::new(Semaphore::new(direct)),
        }
    }

    /// Waits for a slot for a job.
    pub async fn job(&self) -> Option<Slot> {
        let now = self.free.clone().try_acquire_owned().ok();
        let was_waited_for = now.is_none();
        let slot = match now {
            Some(slot) => slot,
            None => {
                let _next = self.next[0].acquire().await.ok()?;
                self.free.clone().acquire_owned().await.ok()?
            }
        };
        Some(Slot { _slot: slot, _direct: None, was_waited_for })
    }

    /// Waits at most 50 ms for a slot for an event.
    pub async fn direct(&self) -> Option<Slot> {
        if let Some(slot) = self.direct_now() {
            return Some(slot);
        }
        // Boxed: few events wait, and the tasks of all others need no room for it.
        Box::pin(tokio::time::timeout(PATIENCE, self.direct_later())).await.ok()?
    }

    fn direct_now(&self) -> Option<Slot> {
        let direct = self.direct.clone().try_acquire_owned().ok()?;
        let slot = self.free.clone().try_acquire_owned().ok()?;
        Some(Slot { _slot: slot, _direct: Some(direct), was_waited_for: false })
    }

    async fn direct_later(&self) -> Option<Slot> {
        let direct = self.direct.clone().acquire_owned().await.ok()?;
        let _next = self.next[1].acquire().await.ok()?;
        let slot = self.free.clone().acquire_owned().await.ok()?;
        Some(Slot { _slot: slot, _direct: Some(direct), was_waited_for: true })
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    #[tokio::test]
    async fn slots_that_become_free_alternate_between_events_and_jobs() {
        let slots = Slots::new(1, 20);
        let mut taken = slots.job().await;
        let mut events: Vec<_> = (0..4).map(|_| Box::pin(slots.direct_later())).collect();
        let mut turns = String::new();
        let mut job = Box::pin(slots.job());
        for _ in 0..8 {
            events.iter_mut().for_each(|event| assert!(event.now_or_never().is_none()));
            assert!((&mut job).now_or_never().is_none(), "no slot is free");
            drop(taken.take());
            // The first waiter in the line has the slot now.
            let event = events.iter_mut().position(|event| {
                let got = event.now_or_never().flatten();
                let has = got.is_some();
                taken = taken.take().or(got);
                has
            });
            match event {
                Some(at) => {
                    turns.push('e');
                    events[at] = Box::pin(slots.direct_later());
                }
                None => {
                    turns.push('j');
                    taken = (&mut job).now_or_never().flatten();
                    assert!(taken.is_some(), "{turns}");
                    job = Box::pin(slots.job());
                }
            }
        }
        assert!(turns == "ejejejej" || turns == "jejejeje", "{turns}");
    }

    #[tokio::test]
    async fn half_of_the_window_is_left_for_events_that_are_not_attempted_directly() {
        let slots = Slots::new(100, 9);
        let taken: Vec<_> = futures::future::join_all((0..9).map(|_| slots.direct())).await;
        assert_eq!(taken.iter().flatten().count(), 5);
    }
}
