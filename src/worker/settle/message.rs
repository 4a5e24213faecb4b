//! Makes the message that a delivery becomes, for its next queue.

use std::time::Duration;

use jiff::Timestamp;

use super::transition::{Deferral, Refusal, Successor};
use crate::{
    broker::publisher::Outgoing,
    delivery::{ladder, reason::FailReason},
    job::Job,
    limits::DeferReason,
    worker::context::Context,
};

/// Returns the message that must be confirmed before the input is acked.
pub(super) fn message(context: &Context, job: &Job, successor: &Successor, now: Timestamp) -> Outgoing {
    let failed = &context.plan.names().failed;
    match successor {
        Successor::Forward => job.to_message(&context.plan.names().jobs),
        Successor::Refused(Refusal { entry, detail }) => {
            job.attempted(entry.clone()).to_failed(failed, FailReason::Refused, detail, now)
        }
        Successor::Retry { entry, wait, .. } => delayed(context, job.attempted(entry.clone()), *wait, now),
        Successor::Defer { reason, wait } => deferred(context, job, *reason, *wait, now),
        Successor::Wait { remaining } => put_on(context, job.clone(), context.ladder.hop(*remaining), job.due),
        Successor::Fail { entry, reason, detail } => {
            let job = entry.as_ref().map_or_else(|| job.clone(), |entry| job.attempted(entry.clone()));
            job.to_failed(failed, *reason, detail, now)
        }
    }
}

/// Returns a deferred job for its delay queue. The time at which the job was due does not change.
fn deferred(context: &Context, job: &Job, reason: Deferral, wait: Duration, now: Timestamp) -> Outgoing {
    let (next, hop) = match reason {
        Deferral::TargetDisabled | Deferral::TargetRemoved => {
            (job.deferred_unknown(wait, now), context.ladder.hop(wait))
        }
        // A pause must not be cut short.
        Deferral::Circuit(DeferReason::Paused, _)
        | Deferral::Proxy
        | Deferral::ProxyRefused
        | Deferral::Local
        | Deferral::Suspect => (job.deferred(wait), context.ladder.hop(wait)),
        Deferral::Circuit(DeferReason::Rate, turn) => {
            (Job { turn, ..job.deferred(wait) }, context.ladder.hop_finely(wait))
        }
        Deferral::Circuit(DeferReason::Saturated | DeferReason::Crowded | DeferReason::Failing, _) => {
            (job.deferred(wait), context.ladder.hop_evenly(wait))
        }
    };
    put_on(context, next, hop, job.due)
}

/// Returns the job for its delay queue. It carries the part of the wait that the longest delay cannot hold.
fn delayed(context: &Context, job: Job, wait: Duration, now: Timestamp) -> Outgoing {
    let hop = context.ladder.hop(wait);
    put_on(context, job, hop, now.saturating_add(wait).ok())
}

fn put_on(context: &Context, mut job: Job, hop: ladder::Hop, due: Option<Timestamp>) -> Outgoing {
    job.remaining = Some(hop.remaining).filter(|remaining| !remaining.is_zero());
    job.due = due;
    job.to_message(&context.plan.names().delay(hop.delay))
}
