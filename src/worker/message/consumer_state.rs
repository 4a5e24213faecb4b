//! The state of one consumer: what it has taken, and for how long it has waited.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use lapin::types::ShortString;
use tokio::sync::Notify;

/// What an intake shows of itself.
pub(crate) struct ConsumerState {
    queue: ShortString,
    /// How many messages the broker sends ahead at most.
    window: AtomicUsize,
    /// Messages taken and not yet done with.
    held: AtomicUsize,
    /// Told when the last of them is done with.
    settled: Notify,
    /// Since when the intake waits for the next message, if it does.
    since: Mutex<Option<Instant>>,
    /// Messages that have arrived.
    arrived: AtomicUsize,
    /// The session has given its connection up.
    abandoned: AtomicBool,
}

impl ConsumerState {
    pub(crate) fn new(queue: &ShortString) -> Arc<ConsumerState> {
        Arc::new(ConsumerState {
            queue: queue.clone(),
            window: AtomicUsize::new(0),
            held: AtomicUsize::new(0),
            settled: Notify::new(),
            since: Mutex::default(),
            arrived: AtomicUsize::new(0),
            abandoned: AtomicBool::new(false),
        })
    }

    /// So many messages may be sent ahead from now on.
    pub(crate) fn set_window(&self, window: u16) {
        self.window.store(window.into(), Ordering::Relaxed);
    }

    /// The intake waits, for as long as the guard lives.
    pub(crate) fn waits(self: &Arc<ConsumerState>) -> Waits {
        *self.since.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
        Waits(self.clone())
    }

    /// One message is held, for as long as the guard lives.
    pub(crate) fn holds(self: &Arc<ConsumerState>) -> Holds {
        self.held.fetch_add(1, Ordering::Relaxed);
        self.arrived.fetch_add(1, Ordering::Relaxed);
        Holds(self.clone())
    }

    /// Waits until no message is held.
    pub(crate) async fn settled(&self) {
        loop {
            // Listens before it looks: the last message may be done with in between.
            let settled = self.settled.notified();
            if self.held.load(Ordering::Acquire) == 0 {
                return;
            }
            settled.await;
        }
    }

    /// Whether the connection has been given up: what it brought comes again by another.
    pub(crate) fn is_abandoned(&self) -> bool {
        self.abandoned.load(Ordering::Acquire)
    }

    /// Gives the connection up.
    pub(crate) fn abandon(&self) {
        self.abandoned.store(true, Ordering::Release);
    }

    /// Returns the queue's full name.
    pub(crate) fn queue(&self) -> &ShortString {
        &self.queue
    }

    /// Returns how many messages have arrived so far.
    pub(crate) fn arrived(&self) -> usize {
        self.arrived.load(Ordering::Relaxed)
    }

    /// Returns for how long the consumer has waited for the next message with room in its window, if it does.
    pub(crate) fn waited(&self, now: Instant) -> Option<Duration> {
        let room = self.held.load(Ordering::Relaxed) < self.window.load(Ordering::Relaxed);
        let since = *self.since.lock().unwrap_or_else(PoisonError::into_inner);
        since.filter(|_| room).map(|since| now.duration_since(since))
    }
}

/// See [`ConsumerState::waits`].
pub(crate) struct Waits(Arc<ConsumerState>);

impl Drop for Waits {
    fn drop(&mut self) {
        *self.0.since.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

/// See [`ConsumerState::holds`].
pub(crate) struct Holds(Arc<ConsumerState>);

impl Holds {
    /// The intake that it came from.
    pub(crate) fn state(&self) -> &ConsumerState {
        &self.0
    }
}

impl Drop for Holds {
    fn drop(&mut self) {
        if self.0.held.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.0.settled.notify_waiters();
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    #[test]
    fn an_intake_waits_only_with_room_in_its_window() {
        let state = ConsumerState::new(&"jobs".into());
        let now = Instant::now;
        state.set_window(1);
        assert_eq!(state.waited(now()), None);
        let waits = state.waits();
        assert!(state.waited(now()).is_some());
        let held = state.holds();
        assert_eq!(state.waited(now()), None, "the window is full");
        state.set_window(2);
        assert!(state.waited(now()).is_some());
        drop(held);
        drop(waits);
        assert_eq!(state.waited(now()), None);
    }

    #[tokio::test]
    async fn an_intake_is_settled_when_nothing_is_held() {
        let state = ConsumerState::new(&"events".into());
        let (one, other) = (state.holds(), state.holds());
        let mut settled = Box::pin(state.settled());
        assert!((&mut settled).now_or_never().is_none());
        drop(one);
        assert!((&mut settled).now_or_never().is_none(), "the other one is held still");
        drop(other);
        settled.await;
        state.settled().await;
    }
}
