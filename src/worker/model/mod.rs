//! The settling rules as a model, and an explorer that goes through all its states: no order of steps, with a few faults
//! wherever they can strike, loses an event or a job, acks too soon, or repeats and forks with no fault to explain it.
//!
//! **What a state is.** The broker's messages (by copy id, attempt, redelivered, who holds them), the workers' tasks
//! (where each of its deliveries stands, and whether its receipt is good) and memories, what the receivers have answered,
//! and how many faults are left. A state is known again by a fingerprint of 128 bits.
//!
//! **What is the code itself.** The order of the steps (`settle::machine`), what an answer means (`outcome::judge`,
//! `backoff::next_wait`) and what the publisher's answer means (`record::meaning`) are called, not copied. The model's memory
//! is held against the real one ([`memory`]).
//!
//! **What is looked for** is listed as [`checks::Wrong`]. "Stuck" is looked for where nothing but a fault can follow, and
//! no way leads in a circle, so each way comes to an end at which all is settled. That the checks can fail is shown by
//! protocols that are broken on purpose ([`Broken`]).
//!
//! **Bounds.** One retry. A job with two faults of every kind (47,639 states), an event with one (27,003), an event
//! for two targets, two events, two workers; [`tests`] has each with its figure. All in all 185,366 states, about 20 s of
//! a debug build's time, below 64 MiB.
//!
//! **What is folded**, for fewer states:
//! - A publish and its arrival are one step. A publish that never arrives changes nothing, one that arrives late is one
//!   that arrives and is not taken for a while.
//! - A confirm, the ack that it sets free and the broker's taking that ack are one step. An ack that is lost on its way
//!   is a channel that was lost before the confirm came, and a restart may let a confirm through and lose its ack.
//! - A wait on a delay queue is no state: what waits is what nobody takes. What was sent ahead and never started is what
//!   comes back redelivered.
//! - A task without its channel gives up or remembers at once (`hurry`).
//! - A restart is seen by the workers at once. A broker that is gone unseen is a cut and a lost publishing channel.
//!
//! **What is left out.** The publisher's own work (which confirm belongs to which message) has its tests. The gate and
//! the slots only hold steps back, so the model makes more of them than the worker. A graceful stop is a kill at a
//! quiet moment. A worker's two consuming channels are one here: a cut takes the messages of both. Panics,
//! jobs that crash a worker, deferrals, the bound of the memory, the store's changes, messages that the broker drops or
//! dead-letters by its delivery limit, and a broker that loses what it has confirmed are not in it. A general model
//! checker was considered: this is a few hundred lines and needs no dependency.

mod broker;
mod checks;
mod explorer;
mod fingerprint;
mod memory;
mod state;
mod task;
mod tests;
mod trace;

use checks::Wrong;

/// What is explored.
#[derive(Clone, Copy, Debug)]
pub struct Setting {
    /// What upstream has published.
    pub events: &'static [Kind],
    /// For each target, the statuses that its receiver may answer with, in any order.
    pub answers: &'static [&'static [u16]],
    /// How many workers.
    pub workers: usize,
    /// How many faults may happen.
    pub faults: u8,
    /// Which ones.
    pub kinds: &'static [Fault],
}

/// What dispatch makes of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A job for each target.
    Wanted,
    /// Nothing.
    Unwanted,
    /// A message on the rejected queue.
    Unusable,
    /// It has been dispatched: its jobs are on the jobs queue.
    Dispatched,
}

/// What can go wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// A worker is killed.
    Kill,
    /// The broker loses a consuming channel; the worker sees it later.
    Cut,
    /// A publishing channel is lost, or a confirm does not come in time: what is under way to this worker is not done.
    Lost,
    /// A single publish is not done: nacked, returned, or unclear because something else was returned.
    NotDone,
    /// The broker restarts: consuming and publishing channels of all workers are lost at once.
    Restart,
    /// The broker dead-letters a waiting message twice.
    Twice,
}

/// All of them.
const EVERY_FAULT: &[Fault] = &[Fault::Kill, Fault::Cut, Fault::Lost, Fault::NotDone, Fault::Restart, Fault::Twice];

/// A protocol that is broken on purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Broken {
    /// The ack goes out with the publish.
    AckBeforeConfirm,
    /// A returned message counts as confirmed.
    ReturnedIsDone,
    /// A confirm that does not come counts as confirmed.
    TimedOutIsDone,
    /// Published although the input's channel is gone.
    PublishWithoutInput,
    /// Nothing is remembered.
    NoMemory,
    /// What could not be recorded is remembered as if it had been.
    RememberTooMuch,
    /// A job whose outcome cannot be recorded at once is given back.
    GiveBackAfterPost,
    /// A delivered job is given back instead of acked.
    GiveBackDelivered,
    /// A redelivery counts as an attempt.
    CountRedelivery,
    /// An event is acked when some of its jobs are confirmed.
    AckWhenSomeAreDone,
    /// A task that waited for the memory goes on although its channel is gone.
    WaiterGoesOn,
}

/// A protocol in its surroundings.
#[derive(Clone, Copy, Debug)]
pub struct Model {
    pub setting: Setting,
    pub broken: Option<Broken>,
    /// What to look for.
    pub sought: &'static [Wrong],
}
