//! The next step of a job: what is to be put on the broker before its input may be let go of.

use std::time::Duration;

use jiff::Timestamp;

use super::{Context, settle::machine::Outcome};
use crate::{
    broker::publisher::Outgoing,
    delivery::{
        ladder,
        outcome::{FailReason, RetryReason},
    },
    job::{HistoryEntry, Job},
    limits::{DeferReason, Turn},
};

/// Decided once for a copy of a job; kept in memory until the broker has it.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// The receiver has the lead: nothing more to do.
    Delivered,
    /// Of an event: no attempt is made here, the job goes onto the jobs queue.
    Forward,
    /// The receiver does not take the lead: nothing more to do, unless refused jobs are kept.
    Refuse {
        /// The attempt.
        entry: HistoryEntry,
        /// Whether it goes to the failed queue.
        keep: bool,
        /// In words, for support.
        detail: String,
    },
    /// One attempt spent, another after `wait`.
    Retry {
        /// The attempt.
        entry: HistoryEntry,
        /// Why again.
        reason: RetryReason,
        /// Not yet rounded to a rung.
        wait: Duration,
    },
    /// To the failed queue.
    Fail {
        /// The attempt that decided it, if there was one.
        entry: Option<HistoryEntry>,
        /// Why.
        reason: FailReason,
        /// In words, for support.
        detail: String,
    },
    /// Back for later, no attempt spent.
    Defer {
        /// Why.
        reason: Deferral,
        /// Not yet rounded to a rung.
        wait: Duration,
    },
    /// The rest of a wait that no rung holds.
    Wait {
        /// What remains of it.
        remaining: Duration,
    },
}

/// Why a job is deferred; the word is a metric label.
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
    /// The egress proxy refused to connect, because of our credentials or of the receiver.
    ProxyRefused,
    /// This machine lacks files, memory or ports.
    Local,
    /// A suspect whose target its child process does not know.
    Suspect,
}

impl Deferral {
    /// The metric label.
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

impl Outcome for Step {
    fn has_successor(&self) -> bool {
        match self {
            Step::Delivered | Step::Refuse { keep: false, .. } => false,
            Step::Refuse { keep: true, .. }
            | Step::Forward
            | Step::Retry { .. }
            | Step::Fail { .. }
            | Step::Defer { .. }
            | Step::Wait { .. } => true,
        }
    }
}

impl Step {
    /// The word for it.
    pub fn name(&self) -> &'static str {
        match self {
            Step::Delivered => "delivered",
            Step::Forward => "forward",
            Step::Refuse { .. } => "refuse",
            Step::Retry { .. } => "retry",
            Step::Fail { .. } => "fail",
            Step::Defer { .. } => "defer",
            Step::Wait { .. } => "wait",
        }
    }

    /// The message to be confirmed before the input is acked; none when there is nothing more to do.
    pub fn message(&self, context: &Context, job: &Job, now: Timestamp) -> Option<Outgoing> {
        match self {
            Step::Delivered | Step::Refuse { keep: false, .. } => None,
            Step::Forward => Some(job.to_message(&context.plan.names().jobs)),
            Step::Refuse { entry, keep: true, detail } => {
                let job = job.attempted(entry.clone());
                Some(job.to_failed(&context.plan.names().failed, FailReason::Refused, detail, now))
            }
            Step::Retry { entry, wait, .. } => Some(delayed(context, job.attempted(entry.clone()), *wait, now)),
            Step::Defer { reason, wait } => Some(deferred(context, job, *reason, *wait, now)),
            Step::Wait { remaining } => Some(put_on(context, job.clone(), context.ladder.step(*remaining), job.due)),
            Step::Fail { entry, reason, detail } => {
                let job = entry.as_ref().map_or_else(|| job.clone(), |entry| job.attempted(entry.clone()));
                Some(job.to_failed(&context.plan.names().failed, *reason, detail, now))
            }
        }
    }
}

/// A deferral does not move the time at which the job was due.
fn deferred(context: &Context, job: &Job, reason: Deferral, wait: Duration, now: Timestamp) -> Outgoing {
    let (next, step) = match reason {
        Deferral::TargetDisabled | Deferral::TargetRemoved => {
            (job.deferred_unknown(wait, now), context.ladder.step(wait))
        }
        // A pause is not to be cut short.
        Deferral::Circuit(DeferReason::Paused, _)
        | Deferral::Proxy
        | Deferral::ProxyRefused
        | Deferral::Local
        | Deferral::Suspect => (job.deferred(wait), context.ladder.step(wait)),
        Deferral::Circuit(DeferReason::Rate, turn) => {
            (Job { turn, ..job.deferred(wait) }, context.ladder.step_finely(wait))
        }
        Deferral::Circuit(DeferReason::Saturated | DeferReason::Crowded | DeferReason::Failing, _) => {
            (job.deferred(wait), context.ladder.step_evenly(wait))
        }
    };
    put_on(context, next, step, job.due)
}

/// The job on its rung; what the longest rung cannot hold travels along.
fn delayed(context: &Context, job: Job, wait: Duration, now: Timestamp) -> Outgoing {
    let step = context.ladder.step(wait);
    put_on(context, job, step, now.saturating_add(wait).ok())
}

fn put_on(context: &Context, mut job: Job, step: ladder::Step, due: Option<Timestamp>) -> Outgoing {
    job.remaining = Some(step.remaining).filter(|remaining| !remaining.is_zero());
    job.due = due;
    job.to_message(&context.plan.names().delay(step.rung))
}
