//! Sends the acks of one channel and gives messages back. Each ack goes out at once, and acks that are due at the same
//! moment share frames.
//!
//! A delayed ack forks its job if the worker dies (ARCHITECTURE.md), so no ack waits for others. The first ack that is
//! due starts a task, and acks that become due before the task runs go with it. Under load that makes a batch. Alone it
//! is one ack, one task switch later.

use std::{
    mem,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use futures::FutureExt;
use lapin::{
    Channel,
    options::{BasicAckOptions, BasicNackOptions, BasicRejectOptions},
};

use crate::broker::acks::{Frame, Outstanding};

/// Sends the acks of one channel. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Acker(Arc<Shared>);

struct Shared {
    channel: Channel,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    outstanding: Outstanding,
    due: Vec<u64>,
    /// Whether a task runs that will send the acks that are due.
    sending: bool,
}

impl Acker {
    /// Returns the acker for the deliveries of this channel.
    pub(crate) fn new(channel: Channel) -> Acker {
        Acker(Arc::new(Shared { channel, state: Mutex::default() }))
    }

    /// Notes a delivery. Deliveries must be noted in their order.
    pub(crate) fn taken(&self, tag: u64) {
        self.0.lock().outstanding.taken(tag);
    }

    /// Gives a delivery back to its queue.
    pub(crate) fn give_back(&self, tag: u64) {
        // Under the lock: an ack of all deliveries up to a later one must not overtake this, or it would cover this
        // one.
        let mut state = self.0.lock();
        let options = BasicNackOptions { requeue: true, ..BasicNackOptions::default() };
        let _ = self.0.channel.basic_nack(tag, options).now_or_never();
        state.outstanding.given_back(tag);
    }

    /// Gives a delivery back to its queue and raises its delivery count. From RabbitMQ 4.3 on, a nack does not raise
    /// it.
    pub(crate) fn reject(&self, tag: u64) {
        let mut state = self.0.lock();
        let _ = self.0.channel.basic_reject(tag, BasicRejectOptions { requeue: true }).now_or_never();
        state.outstanding.given_back(tag);
    }

    /// Notes that the ack of a delivery is due, and sends it. Needs a tokio runtime.
    pub(crate) fn ack(&self, tag: u64) {
        let mut state = self.0.lock();
        state.due.push(tag);
        if !mem::replace(&mut state.sending, true) {
            tokio::spawn(self.clone().send());
        }
    }

    async fn send(self) {
        // Lets tasks run first that are ready now: they may have acks that are due too.
        tokio::task::yield_now().await;
        while let Some(frames) = self.0.due() {
            for Frame { tag, multiple } in frames {
                // The first poll hands the frame to the connection. Nothing waits until it is written: if it never is,
                // the channel is gone and the messages come again.
                let _ = self.0.channel.basic_ack(tag, BasicAckOptions { multiple }).now_or_never();
            }
        }
    }
}

impl Shared {
    /// Returns the frames of all acks that are due. Returns `None` if there are none, and the task must end.
    fn due(&self) -> Option<Vec<Frame>> {
        let mut state = self.lock();
        let due = mem::take(&mut state.due);
        if due.is_empty() {
            state.sending = false;
            return None;
        }
        Some(state.outstanding.ack(&due))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
