//! The state of one consumer: how many messages it holds, and how long it has waited.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use lapin::types::ShortString;
use tokio::sync::Notify;

/// The state of one consumer, shared by its intake, its session and its messages.
pub(crate) struct ConsumerState {
    queue: ShortString,
    /// Largest number of unacked messages; 0 while nothing is consumed.
    window: AtomicUsize,
    /// Messages taken and not yet settled.
    held: AtomicUsize,
    /// Notified when the last held message is settled.
    settled: Notify,
    /// When the intake began to wait for the next message, if it waits.
    since: Mutex<Option<Instant>>,
    /// Messages that have arrived.
    arrived: AtomicUsize,
    /// Whether the session has abandoned its connection.
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

    /// Sets how many messages may be unacked from now on.
    pub(crate) fn set_window(&self, window: u16) {
        self.window.store(window.into(), Ordering::Relaxed);
    }

    /// Notes that the intake waits, until the guard is dropped.
    pub(crate) fn waits(self: &Arc<ConsumerState>) -> Waits {
        *self.since.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
        Waits(self.clone())
    }

    /// Notes that a message is held, until the guard is dropped.
    pub(crate) fn holds(self: &Arc<ConsumerState>) -> Holds {
        self.held.fetch_add(1, Ordering::Relaxed);
        self.arrived.fetch_add(1, Ordering::Relaxed);
        Holds(self.clone())
    }

    /// Waits until no message is held.
    pub(crate) async fn settled(&self) {
        loop {
            // Listens before it looks: the last message may be settled in between.
            let settled = self.settled.notified();
            if self.held.load(Ordering::Acquire) == 0 {
                return;
            }
            settled.await;
        }
    }

    /// Returns whether the connection has been abandoned. Its messages come again over another one.
    pub(crate) fn is_abandoned(&self) -> bool {
        self.abandoned.load(Ordering::Acquire)
    }

    /// Marks the connection as abandoned.
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

    /// Returns how long the consumer has waited for the next message, or `None` unless it waits with room in its
    /// window.
    pub(crate) fn waited(&self, now: Instant) -> Option<Duration> {
        let room = self.held.load(Ordering::Relaxed) < self.window.load(Ordering::Relaxed);
        let since = *self.since.lock().unwrap_or_else(PoisonError::into_inner);
        since.filter(|_| room).map(|since| now.duration_since(since))
    }
}

/// Guard of [`ConsumerState::waits`].
pub(crate) struct Waits(Arc<ConsumerState>);

impl Drop for Waits {
    fn drop(&mut self) {
        *self.0.since.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

/// Guard of [`ConsumerState::holds`].
pub(crate) struct Holds(Arc<ConsumerState>);

impl Holds {
    /// Returns the state of the consumer that took the message.
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
        assert!((&mut settled).now_or_never().is_none(), "the other one is still held");
        drop(other);
        settled.await;
        state.settled().await;
    }
}
