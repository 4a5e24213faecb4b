//! The settling rules as a model, and an explorer that visits all its states. It shows that no order of steps, with a
//! few faults at any point, loses an event or a job or acks too soon. Nor does any order repeat an attempt or fork a
//! job unless a fault explains it.
//!
//! **A state** consists of:
//! - the broker's messages: copy id, attempt, redelivered, holder;
//! - the workers' memories and tasks, with the progress of each delivery and whether the receipt is valid;
//! - the answers of the receivers, and the number of faults left.
//!
//! A fingerprint of 128 bits identifies it.
//!
//! **Real code.** The model calls the worker's code and copies none of it: the order of the steps (`settle::machine`),
//! the judgement of an answer (`outcome::judge`, `attempt::after`) and the meaning of the publisher's answer
//! (`record::meaning`). [`memory`] compares the model's memory with the real one.
//!
//! **Checks.** [`checks::Wrong`] lists the rules that can break. "Stuck" is checked in states that only a fault can
//! leave. No path leads in a circle, so every path ends in a state in which all is settled. Protocols that are broken
//! on purpose ([`Broken`]) show that the checks can fail.
//!
//! **Bounds.** One retry. A job with two faults of every kind (47,639 states), an event with one (27,003), an event for
//! two targets, two events, two workers; [`tests`] has each figure. In total 185,366 states, about 20 s in a debug
//! build, below 64 MiB.
//!
//! **Simplifications**, for fewer states:
//! - A publish and its arrival are one step. A publish that never arrives changes nothing. A publish that arrives late
//!   is one that arrives and is not taken for a while.
//! - A confirm, the ack that it permits and the broker's processing of that ack are one step. An ack that is lost on
//!   its way is a channel that was lost before the confirm came. A restart may let a confirm through and lose its ack.
//! - A wait on a delay queue is not a state: a waiting message is one that no worker takes. A message that was sent
//!   ahead and never started is one that comes back redelivered.
//! - A task without its channel gives up or remembers at once (`hurry`).
//! - The workers notice a restart at once. A broker that is gone unnoticed is a cut and a lost publishing channel.
//!
//! **Left out.** The publisher's own work (which confirm belongs to which message) has its own tests. The gate and the
//! slots only delay steps, so the model allows more orders than the worker. A graceful stop is a kill at a quiet
//! moment. A worker's two consuming channels are one channel here: a cut takes the messages of both. The model does not
//! include:
//! - panics, jobs that crash a worker, and deferrals;
//! - the bound of the memory, and changes of the store;
//! - messages that the broker drops or dead-letters by its delivery limit, and a broker that loses confirmed messages.
//!
//! A general model checker was considered, but this is a few hundred lines and needs no dependency.

mod answers;
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

/// The bounds of an exploration.
#[derive(Clone, Copy, Debug)]
pub struct Setting {
    /// The events that upstream has published.
    pub events: &'static [Kind],
    /// For each target, the statuses that its receiver may answer with, in any order.
    pub answers: &'static [&'static [u16]],
    /// Number of workers.
    pub workers: usize,
    /// Number of faults that may happen.
    pub faults: u8,
    /// The faults that may happen.
    pub kinds: &'static [Fault],
}

/// The result of dispatching an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A job for each target.
    Wanted,
    /// No target.
    Unwanted,
    /// A message on the rejected queue.
    Unusable,
    /// It is already dispatched: its jobs are on the jobs queue.
    Dispatched,
}

/// A fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// A worker is killed.
    Kill,
    /// The broker loses a consuming channel, and the worker notices later.
    Cut,
    /// A publishing channel is lost, or a confirm does not come in time: publishes of this worker without a confirm are
    /// not done.
    Lost,
    /// A single publish is not done: nacked, returned, or unclear because something else was returned.
    NotDone,
    /// The broker restarts: consuming and publishing channels of all workers are lost at once.
    Restart,
    /// The broker dead-letters a waiting message twice.
    Twice,
}

/// All faults.
const EVERY_FAULT: &[Fault] = &[Fault::Kill, Fault::Cut, Fault::Lost, Fault::NotDone, Fault::Restart, Fault::Twice];

/// A protocol that is broken on purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Broken {
    /// The ack goes out with the publish.
    AckBeforeConfirm,
    /// A returned message counts as confirmed.
    ReturnedIsDone,
    /// A publish without a confirm counts as confirmed.
    TimedOutIsDone,
    /// A successor is published although the input's channel is gone.
    PublishWithoutInput,
    /// Nothing is remembered.
    NoMemory,
    /// An outcome that could not be recorded is remembered as recorded.
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

/// A protocol, real or broken, in a setting.
#[derive(Clone, Copy, Debug)]
pub struct Model {
    pub setting: Setting,
    pub broken: Option<Broken>,
    /// The broken rules to look for.
    pub sought: &'static [Wrong],
}
