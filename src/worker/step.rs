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
    fairness::ParkReason,
    job::{HistoryEntry, Job},
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
    Park {
        /// Why.
        reason: Parking,
        /// Not yet rounded to a rung.
        wait: Duration,
    },
    /// The rest of a wait that no rung holds.
    Wait {
        /// What remains of it.
        remaining: Duration,
    },
}

/// Why a job is put back without an attempt; the word is a metric label.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parking {
    /// Its target is disabled in this worker's store.
    TargetDisabled,
    /// Its target is not in this worker's store.
    TargetRemoved,
    /// Its lane has no room.
    Lane(ParkReason),
    /// The egress proxy could not be used.
    Proxy,
    /// This machine lacks files, memory or ports.
    Local,
    /// A suspect whose target its child process does not know.
    Suspect,
}

impl Parking {
    /// The metric label.
    pub fn label(self) -> &'static str {
        match self {
            Parking::TargetDisabled => "target_disabled",
            Parking::TargetRemoved => "target_removed",
            Parking::Lane(reason) => reason.label(),
            Parking::Proxy => "proxy",
            Parking::Local => "local",
            Parking::Suspect => "suspect",
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
            | Step::Park { .. }
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
            Step::Park { .. } => "park",
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
            Step::Retry { entry, wait, .. } => Some(delayed(context, job.attempted(entry.clone()), *wait, None, now)),
            Step::Park { reason, wait } => Some(parked(context, job, *reason, *wait, now)),
            Step::Wait { remaining } => Some(delayed(context, job.clone(), *remaining, job.due, now)),
            Step::Fail { entry, reason, detail } => {
                let job = entry.as_ref().map_or_else(|| job.clone(), |entry| job.attempted(entry.clone()));
                Some(job.to_failed(&context.plan.names().failed, *reason, detail, now))
            }
        }
    }
}

fn parked(context: &Context, job: &Job, reason: Parking, wait: Duration, now: Timestamp) -> Outgoing {
    match reason {
        Parking::TargetDisabled | Parking::TargetRemoved => {
            delayed(context, job.parked_unknown(wait, now), wait, None, now)
        }
        // No promise says when it is looked at again, but a push-back, and that is not to be cut short.
        Parking::Lane(ParkReason::PushedBack) | Parking::Proxy | Parking::Local | Parking::Suspect => {
            delayed(context, job.parked(wait), wait, None, now)
        }
        Parking::Lane(ParkReason::Saturated | ParkReason::Crowded | ParkReason::Failing) => {
            put_on(context, job.parked(wait), context.ladder.step_evenly(wait), now.saturating_add(wait).ok())
        }
    }
}

/// The job on its rung; what the longest rung cannot hold travels along.
fn delayed(context: &Context, job: Job, wait: Duration, due: Option<Timestamp>, now: Timestamp) -> Outgoing {
    let step = context.ladder.step(wait);
    put_on(context, job, step, due.or_else(|| now.saturating_add(wait).ok()))
}

fn put_on(context: &Context, mut job: Job, step: ladder::Step, due: Option<Timestamp>) -> Outgoing {
    job.remaining = Some(step.remaining).filter(|remaining| !remaining.is_zero());
    job.due = due;
    job.to_message(&context.plan.names().delay(step.rung))
}
