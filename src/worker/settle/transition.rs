//! The transition of a delivery: it ends, or goes on as another message.

use std::time::Duration;

use super::machine;
use crate::{
    delivery::reason::{FailReason, RetryReason},
    job::HistoryEntry,
    limits::{DeferReason, Turn},
};

/// The next state of a delivery. It is decided once for each copy of its message, and remembered in case the ack is
/// lost.
#[derive(Clone, Debug, PartialEq)]
pub enum Transition {
    /// The receiver has the lead: nothing more to do.
    Delivered,
    /// The receiver does not take the lead, and the target does not keep refused deliveries: nothing more to do.
    Refused(Refusal),
    /// The delivery goes on as a message on another queue, which is confirmed before this one is acked.
    Successor(Successor),
}

/// An attempt that the receiver refused.
#[derive(Clone, Debug, PartialEq)]
pub struct Refusal {
    /// The attempt.
    pub entry: HistoryEntry,
    /// The reason in words, for support.
    pub detail: String,
}

/// The message that a delivery becomes.
#[derive(Clone, Debug, PartialEq)]
pub enum Successor {
    /// Events only: no attempt is made here, and the job goes to the jobs queue.
    Forward,
    /// To the failed queue, because the target keeps refused deliveries.
    Refused(Refusal),
    /// One attempt is spent, and another follows after `wait`.
    Retry {
        /// The attempt.
        entry: HistoryEntry,
        /// Why it is retried.
        reason: RetryReason,
        /// Not yet rounded to a delay queue.
        wait: Duration,
    },
    /// To the failed queue.
    Fail {
        /// The attempt that decided it, if there was one.
        entry: Option<HistoryEntry>,
        /// Why it failed.
        reason: FailReason,
        /// The reason in words, for support.
        detail: String,
    },
    /// To be tried later, without spending an attempt.
    Defer {
        /// Why it is deferred.
        reason: Deferral,
        /// Not yet rounded to a delay queue.
        wait: Duration,
    },
    /// The rest of a wait that is longer than the longest delay.
    Wait {
        /// The rest of the wait.
        remaining: Duration,
    },
}

/// Why a job is deferred. The word is a metric label.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deferral {
    /// Its target is disabled in this worker's store.
    TargetDisabled,
    /// Its target is not in this worker's store.
    TargetRemoved,
    /// Its circuit has no room.
    Circuit(DeferReason, Turn),
    /// The egress proxy could not be used.
    Proxy,
    /// The egress proxy refused to connect, because of our credentials or because of the receiver.
    ProxyRefused,
    /// This machine lacks files, memory or ports.
    Local,
    /// The child process of a suspect does not know the target.
    Suspect,
}

impl Deferral {
    /// Returns the metric label.
    pub fn label(self) -> &'static str {
        match self {
            Deferral::TargetDisabled => "target_disabled",
            Deferral::TargetRemoved => "target_removed",
            Deferral::Circuit(reason, _) => reason.label(),
            Deferral::Proxy => "proxy",
            Deferral::ProxyRefused => "proxy_refused",
            Deferral::Local => "local",
            Deferral::Suspect => "suspect",
        }
    }
}

impl machine::Decision for Transition {
    type Successor = Successor;

    fn successor(&self) -> Option<&Successor> {
        match self {
            Transition::Delivered | Transition::Refused(_) => None,
            Transition::Successor(successor) => Some(successor),
        }
    }
}

impl From<Successor> for Transition {
    fn from(successor: Successor) -> Transition {
        Transition::Successor(successor)
    }
}

impl Transition {
    /// Returns the word for it in fail points.
    pub fn name(&self) -> &'static str {
        match self {
            Transition::Delivered => "delivered",
            Transition::Refused(_) | Transition::Successor(Successor::Refused(_)) => "refuse",
            Transition::Successor(Successor::Forward) => "forward",
            Transition::Successor(Successor::Retry { .. }) => "retry",
            Transition::Successor(Successor::Fail { .. }) => "fail",
            Transition::Successor(Successor::Defer { .. }) => "defer",
            Transition::Successor(Successor::Wait { .. }) => "wait",
        }
    }
}
