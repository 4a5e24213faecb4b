//! Writes the worker's entries into the delivery log.
//!
//! An attempt is written when it has been made, whatever becomes of its outcome, so the log and the receiver tell the
//! same story. The end or deferral of a job without an attempt is written when it is recorded.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use lapin::types::ShortString;

use super::Attempt;
use crate::{
    delivery::{exchange::ANSWER_INCOMPLETE, reason::FailReason},
    delivery_log::{Entry, What},
    event::Event,
    job::{Job, header},
    rejection::RejectReason,
    worker::{
        context::Context,
        message::{Input, text_header},
        settle::transition::{Successor, Transition},
    },
};

/// Writes an attempt. One that never left our own network does not count, and is not written.
pub(crate) fn attempted(context: &Context, job: &Job, attempt: &Attempt<'_>, transition: &Transition) {
    if !context.log.is_on() {
        return;
    }
    let (what, error, reason, wait) = match transition {
        Transition::Delivered => (What::Delivered, None, None, None),
        Transition::Refused(_) | Transition::Successor(Successor::Refused(_)) => {
            (What::Refused, Some(FailReason::Refused.label()), None, None)
        }
        Transition::Successor(Successor::Retry { reason, wait, .. }) => {
            (What::Retry, Some(reason.label()), None, Some(*wait))
        }
        Transition::Successor(Successor::Fail { entry, reason, .. }) => {
            let last = entry.as_ref().map(|entry| entry.reason.as_str());
            (What::Failed, last, Some(reason.label()), None)
        }
        Transition::Successor(Successor::Forward | Successor::Defer { .. } | Successor::Wait { .. }) => return,
    };
    let elapsed = attempt.exchange.elapsed;
    let next = wait.and_then(|wait| {
        let hop = context.ladder.hop(wait);
        let wait = SignedDuration::try_from(elapsed + hop.delay + hop.remaining).unwrap_or(SignedDuration::MAX);
        attempt.at.saturating_add(wait).ok().map(|at| at.as_millisecond())
    });
    let store = context.store.current();
    context.log.write(&Entry {
        attempt: Some(attempt.number),
        of: Some(attempt.of),
        status: attempt.exchange.status(),
        error: error.map(Into::into),
        note: attempt.exchange.is_incomplete().then(|| ANSWER_INCOMPLETE.into()),
        ms: Some(millis(elapsed)),
        next,
        deferred: (!job.waited.is_zero()).then(|| millis(job.waited)),
        reason: reason.map(Into::into),
        revision: Some(store.revision().into()),
        ..Entry::of_job(what, attempt.at, job)
    });
}

/// Writes the end or deferral of a delivery without an attempt. Writes only the first deferral since the last attempt,
/// because a target that is away for days would fill the log.
pub(crate) fn settled(context: &Context, job: &Job, transition: &Transition) {
    if !context.log.is_on() {
        return;
    }
    let (what, reason) = match transition {
        Transition::Successor(Successor::Fail { entry: None, reason, .. }) => (What::Failed, reason.label()),
        Transition::Successor(Successor::Defer { reason, .. }) if job.deferrals == 0 => {
            (What::Deferred, reason.label())
        }
        Transition::Delivered | Transition::Refused(_) | Transition::Successor(_) => return,
    };
    let store = context.store.current();
    context.log.write(&Entry {
        reason: Some(reason.into()),
        attempt: (job.attempt > 0).then_some(job.attempt),
        deferred: (!job.waited.is_zero()).then(|| millis(job.waited)),
        revision: Some(store.revision().into()),
        ..Entry::of_job(what, Timestamp::now(), job)
    });
}

/// Writes that a job failed that must not be decoded. Its headers identify it.
pub(crate) fn crashed(context: &Context, input: &Input) {
    if !context.log.is_on() {
        return;
    }
    let property = |text: &Option<ShortString>| text.as_ref().map(|text| text.as_str().to_owned().into());
    let header = |name| text_header(&input.properties, name).ok().flatten().map(Into::into);
    context.log.write(&Entry {
        id: property(input.properties.message_id()),
        event: property(input.properties.kind()),
        lead: header(header::LEAD),
        submission: property(input.properties.correlation_id()),
        campaign: header(header::CAMPAIGN),
        organization: header(header::ORGANIZATION),
        target: header(header::TARGET),
        reason: Some(FailReason::CrashLoop.label().into()),
        ..Entry::new(What::Failed, Timestamp::now())
    });
}

/// Writes that no target receives an event.
pub(crate) fn no_target(context: &Context, event: &Event, reason: &str) {
    if !context.log.is_on() {
        return;
    }
    let store = context.store.current();
    context.log.write(&Entry {
        reason: Some(reason.into()),
        revision: Some(store.revision().into()),
        ..about(What::NoTarget, event)
    });
}

/// Writes that a message was put on the rejected queue. `event` is its event, if it could be decoded.
pub(crate) fn rejected(context: &Context, event: Option<&Event>, reason: RejectReason) {
    if !context.log.is_on() {
        return;
    }
    let entry =
        event.map_or_else(|| Entry::new(What::Rejected, Timestamp::now()), |event| about(What::Rejected, event));
    context.log.write(&Entry { reason: Some(reason.label().into()), ..entry });
}

fn about(what: What, event: &Event) -> Entry<'_> {
    Entry::of_event(what, Timestamp::now(), event)
}

fn millis(wait: Duration) -> u64 {
    u64::try_from(wait.as_millis()).unwrap_or(u64::MAX)
}
