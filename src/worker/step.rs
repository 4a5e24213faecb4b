//! The next step of a job: what is to be put on the broker before its input may be let go of.

use std::time::Duration;

use jiff::Timestamp;

use super::Context;
use crate::{
    broker::publisher::Outgoing,
    delivery::outcome::{FailReason, RetryReason},
    job::{HistoryEntry, Job},
};

/// Decided once for a copy of a job; kept in memory until the broker has it.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// 2xx: nothing more to do.
    Delivered,
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
        /// Why, a metric label.
        reason: &'static str,
        /// Not yet rounded to a rung.
        wait: Duration,
    },
    /// The rest of a wait that no rung holds.
    Wait {
        /// What remains of it.
        remaining: Duration,
    },
}

impl Step {
    /// The word for it.
    pub fn name(&self) -> &'static str {
        match self {
            Step::Delivered => "delivered",
            Step::Retry { .. } => "retry",
            Step::Fail { .. } => "fail",
            Step::Park { .. } => "park",
            Step::Wait { .. } => "wait",
        }
    }

    /// The message to be confirmed before the input is acked; none when there is nothing more to do.
    pub fn message(&self, context: &Context, job: &Job, now: Timestamp) -> Option<Outgoing> {
        match self {
            Step::Delivered => None,
            Step::Retry { entry, wait, .. } => Some(delayed(context, job.attempted(entry.clone()), *wait, None, now)),
            Step::Park { wait, .. } => Some(delayed(context, job.parked(now), *wait, None, now)),
            Step::Wait { remaining } => Some(delayed(context, job.clone(), *remaining, job.due, now)),
            Step::Fail { entry, reason, detail } => {
                let job = entry.as_ref().map_or_else(|| job.clone(), |entry| job.attempted(entry.clone()));
                Some(job.to_failed(&context.plan.names().failed, *reason, detail, now))
            }
        }
    }
}

/// The job on its rung; what the longest rung cannot hold travels along.
fn delayed(context: &Context, mut job: Job, wait: Duration, due: Option<Timestamp>, now: Timestamp) -> Outgoing {
    let step = context.ladder.step(wait);
    job.remaining = Some(step.remaining).filter(|remaining| !remaining.is_zero());
    job.due = due.or_else(|| now.saturating_add(wait).ok());
    job.to_message(&context.plan.names().delay(step.rung))
}
