//! What the worker writes into the delivery log.
//!
//! An attempt is written when it has been made, whatever becomes of its outcome: the log and the receiver tell the same
//! story. What ends or delays a job without an attempt is written when it is recorded.

use jiff::{SignedDuration, Timestamp};
use lapin::types::ShortString;

use super::{
    Context,
    input::{Input, text_header},
    step::{Deferral, Step},
};
use crate::{
    delivery::{
        outcome::{ANSWER_INCOMPLETE, Exchange, FailReason},
        verdict::Verdict,
    },
    delivery_log::{Entry, What},
    event::Event,
    job::{Job, header},
    rejection::RejectReason,
};

/// An attempt that was made.
pub(super) struct Attempt<'a> {
    /// When it began.
    pub at: Timestamp,
    /// Its number, from 1.
    pub number: u32,
    /// How many there may be.
    pub of: u32,
    /// What came of it.
    pub exchange: &'a Exchange,
}

/// An attempt was made and judged.
pub(super) fn attempted(context: &Context, job: &Job, attempt: &Attempt<'_>, verdict: &Verdict) {
    if !context.log.is_on() {
        return;
    }
    let (what, error, reason) = match verdict {
        Verdict::Delivered => (What::Delivered, None, None),
        Verdict::Refused => (What::Refused, Some(FailReason::Refused.label()), None),
        Verdict::Retry { reason, .. } => (What::Retry, Some(reason.label()), None),
        Verdict::Failed { reason, last: Some(last) } => (What::Failed, Some(last.label()), Some(reason.label())),
        Verdict::Failed { reason, last: None } => (What::Failed, Some(reason.label()), Some(reason.label())),
        // It never left our own network, and does not count.
        Verdict::Again => return,
    };
    let elapsed = attempt.exchange.elapsed;
    let next = match verdict {
        Verdict::Retry { wait, .. } => {
            let step = context.ladder.step(*wait);
            let wait = SignedDuration::try_from(elapsed + step.rung + step.remaining).unwrap_or(SignedDuration::MAX);
            attempt.at.saturating_add(wait).ok().map(|at| at.as_millisecond())
        }
        Verdict::Delivered | Verdict::Refused | Verdict::Again | Verdict::Failed { .. } => None,
    };
    let millis = |wait: std::time::Duration| u64::try_from(wait.as_millis()).unwrap_or(u64::MAX);
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

/// A step without an attempt was recorded. Of deferrals only the first since the last attempt is written: a target that is away
/// for days would fill the log.
pub(super) fn stepped(context: &Context, job: &Job, step: &Step) {
    if !context.log.is_on() {
        return;
    }
    let (what, reason) = match step {
        Step::Fail { entry: None, reason, .. } => (What::Failed, reason.label()),
        Step::Defer { reason, .. } if job.deferrals == 0 => (What::Deferred, Deferral::label(*reason)),
        Step::Fail { entry: Some(_), .. }
        | Step::Delivered
        | Step::Forward
        | Step::Refuse { .. }
        | Step::Retry { .. }
        | Step::Defer { .. }
        | Step::Wait { .. } => {
            return;
        }
    };
    let store = context.store.current();
    context.log.write(&Entry {
        reason: Some(reason.into()),
        attempt: (job.attempt > 0).then_some(job.attempt),
        deferred: (!job.waited.is_zero()).then(|| u64::try_from(job.waited.as_millis()).unwrap_or(u64::MAX)),
        revision: Some(store.revision().into()),
        ..Entry::of_job(what, Timestamp::now(), job)
    });
}

/// A job has failed that may not be decoded. Its headers say whose it is.
pub(super) fn crashed(context: &Context, input: &Input) {
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

/// Nobody wants an event.
pub(super) fn no_target(context: &Context, event: &Event, reason: &str) {
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

/// A message was put on the rejected queue; `event` is what could be read of it.
pub(super) fn rejected(context: &Context, event: Option<&Event>, reason: RejectReason) {
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
