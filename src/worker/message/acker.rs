//! Sends the acks of one channel, and what is given back: each at once, and those that are due in the same moment in as few frames as may be.
//!
//! An ack that is held back forks its job when the worker dies (ARCHITECTURE.md), so nothing here waits for more. The first
//! ack that is due starts a task; whatever else becomes due before that task has its turn goes with it. Under load that is a
//! batch, and alone it is one ack, a task switch later.

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
    /// A task is there that will see what is due.
    sending: bool,
}

impl Acker {
    /// For the deliveries of this channel.
    pub(crate) fn new(channel: Channel) -> Acker {
        Acker(Arc::new(Shared { channel, state: Mutex::default() }))
    }

    /// A delivery has come; to be told in their order.
    pub(crate) fn taken(&self, tag: u64) {
        self.0.lock().outstanding.taken(tag);
    }

    /// Gives one back to its queue.
    pub(crate) fn give_back(&self, tag: u64) {
        // Under the lock: an ack of everything before a later one must not get ahead of this, or it would count for it too.
        let mut state = self.0.lock();
        let options = BasicNackOptions { requeue: true, ..BasicNackOptions::default() };
        let _ = self.0.channel.basic_nack(tag, options).now_or_never();
        state.outstanding.given_back(tag);
    }

    /// Gives one back to its queue, and its delivery count rises: from RabbitMQ 4.3 on a nack does not count.
    pub(crate) fn reject(&self, tag: u64) {
        let mut state = self.0.lock();
        let _ = self.0.channel.basic_reject(tag, BasicRejectOptions { requeue: true }).now_or_never();
        state.outstanding.given_back(tag);
    }

    /// This ack is due. Needs a tokio runtime.
    pub(crate) fn ack(&self, tag: u64) {
        let mut state = self.0.lock();
        state.due.push(tag);
        if !mem::replace(&mut state.sending, true) {
            tokio::spawn(self.clone().send());
        }
    }

    async fn send(self) {
        // Those that are ready to run now may have acks that are due now.
        tokio::task::yield_now().await;
        while let Some(frames) = self.0.due() {
            for Frame { tag, multiple } in frames {
                // The first poll hands the frame to the connection. That it was written need not be waited for: if it is
                // not, the channel is gone, and what it was to ack comes again.
                let _ = self.0.channel.basic_ack(tag, BasicAckOptions { multiple }).now_or_never();
            }
        }
    }
}

impl Shared {
    /// The frames of all acks that are due; none, and the task is to end.
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
