//! Deliver: a job becomes one attempt and its outcome. Acked when that outcome is on the broker (rule 2).

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;
use tracing::debug;

use super::{
    Context,
    attempt::attempt,
    child_process::Died,
    hold::{self, Hold, hold},
    input::{Input, Receipt},
    lanes::Entry,
    log,
    memory::{Key, Settlement},
    record::{Recorded, record},
    reject,
    step::{Parking, Step},
    suspects::Suspect,
};
use crate::{
    delivery::outcome::FailReason,
    duration::spoken,
    failpoint,
    job::{Job, Malformed},
    rejection::{RejectReason, Rejection},
    store::{Target, TargetState},
};

/// Settles one job; a suspect with its child process. An error: that has died, and nothing is settled.
///
/// Message and job are boxed: a task has room for all that its functions hand on, once for each.
pub(super) async fn deliver(context: &Context, input: Box<Input>, suspect: Option<&Suspect>) -> Result<(), Died> {
    failpoint::hit("job.taken", "");
    if !input.repairs.is_empty() {
        let rejection = Rejection::new(RejectReason::MalformedJob, input.repairs.words());
        Box::pin(reject_job(context, input, rejection)).await;
        return Ok(());
    }
    let job = match Job::decode(&input.properties, input.body.clone()) {
        Ok(job) => Box::new(Job { redeliveries: u32::try_from(input.redeliveries()).unwrap_or(u32::MAX), ..job }),
        Err(Malformed::Newer(version)) => {
            Box::pin(put_aside(context, input, version)).await;
            return Ok(());
        }
        Err(Malformed::Broken(detail)) => {
            let rejection = Rejection::new(RejectReason::MalformedJob, detail);
            Box::pin(reject_job(context, input, rejection)).await;
            return Ok(());
        }
    };
    // All that is needed of the message from here on: its headers are let go of before the wait for the receiver.
    let (receipt, redelivered) = {
        let input = *input;
        (input.receipt, input.redelivered)
    };
    let key = Key { copy: job.copy.as_str().into(), attempt: job.attempt };
    // A suspect that was put back as it is has the id of the copy that came again.
    let again = redelivered || suspect.is_some();
    let known = match again {
        true => context.memory.recall(&key).await,
        false => None,
    };
    if again && !receipt.is_good() {
        // Gone while the memory was waited for. Whoever is given this copy next may have recorded its outcome already,
        // and must not find that overwritten; and where nothing is known, an attempt now would be made again then.
        return Ok(());
    }
    if known.is_some() {
        context.metrics.duplicate_suppressed();
        debug!(webhook_id = job.webhook_id, "settling a redelivered job from memory");
    }
    let ticket = context.memory.begin(key);
    let mut settlement = match known {
        Some(settlement) => settlement,
        None => match decide(context, &receipt, &job, suspect).await? {
            Some(step) => Settlement { step, recorded: false },
            // It comes again.
            None => return Ok(()),
        },
    };
    if !settlement.recorded {
        settlement.recorded = settle(context, &receipt, &job, &settlement.step).await == Recorded::Yes;
    }
    // Remembered before the ack: an ack that is lost brings this copy back.
    ticket.finish(settlement.clone());
    if !settlement.recorded {
        return Ok(());
    }
    failpoint::hit("job.recorded", settlement.step.name());
    if receipt.ack() {
        failpoint::hit("job.acked", "");
        report(context, &job, &settlement.step);
    }
    Ok(())
}

/// The next step of a job, with an attempt where one is due. None: its channel is gone, and nothing was done.
async fn decide(
    context: &Context,
    receipt: &Receipt,
    job: &Job,
    suspect: Option<&Suspect>,
) -> Result<Option<Step>, Died> {
    if let Some(remaining) = job.remaining {
        return Ok(Some(Step::Wait { remaining }));
    }
    let target = match choose(context, job, Timestamp::now()) {
        Ok(target) => target,
        Err(step) => return Ok(Some(*step)),
    };
    match context.lanes.enter(&target, job.parked).await {
        Entry::Go(pass) => {
            if pass.was_waited_for() || suspect.is_some() {
                // The gate was asked before the wait, or before a child was started, and so was the channel (rule 6).
                context.gate().opened().await;
                if !receipt.is_good() {
                    return Ok(None);
                }
            }
            attempt(context, job, &target, pass, suspect).await.map(Some)
        }
        Entry::Park(reason, wait) => Ok(Some(Step::Park { reason: Parking::Lane(reason), wait })),
    }
}

/// Looks the target up anew (docs/reference/webhook-store.md): replicas may hold different revisions of the store for a
/// while, so what is unknown or disabled here is judged again until `store.settle` has passed. The age is looked at
/// here and so only when a job is due: one that waits on the ladder expires by so much later.
fn choose(context: &Context, job: &Job, now: Timestamp) -> Result<Arc<Target>, Box<Step>> {
    let settle = context.settings.store.settle;
    let since = job.unknown_since.map(|since| Duration::try_from(now.duration_since(since)).unwrap_or_default());
    let unsettled = since.unwrap_or_default() < settle;
    let fail = |reason, detail: &str| Err(Box::new(Step::Fail { entry: None, reason, detail: detail.to_owned() }));
    let park = |reason| Err(Box::new(Step::Park { reason, wait: recheck(settle) }));
    let maximum_age = context.settings.delivery.maximum_age;
    match context.store.current().target(&job.organization, &job.target) {
        TargetState::Active(target) if job.attempt > target.retry_attempts => {
            fail(FailReason::Exhausted, "retry_attempts has been lowered meanwhile")
        }
        TargetState::Active(_) if job.age(now) > maximum_age => {
            fail(FailReason::Expired, &format!("older than delivery.maximum_age ({})", spoken(maximum_age)))
        }
        TargetState::Active(target) => Ok(target),
        TargetState::Disabled if unsettled => park(Parking::TargetDisabled),
        TargetState::Unknown if unsettled => park(Parking::TargetRemoved),
        TargetState::Disabled => fail(FailReason::TargetDisabled, "the target is disabled in the store"),
        TargetState::Unknown => fail(FailReason::TargetRemoved, "the target is no longer in the store"),
        TargetState::Moved => fail(FailReason::TargetMoved, "the target belongs to another organization than the job"),
    }
}

/// How soon an unknown target is looked for again: several times within the settling time, never in a tight loop.
fn recheck(settle: Duration) -> Duration {
    (settle / 8).clamp(Duration::from_millis(250), Duration::from_secs(15))
}

/// Puts the successor on the broker, if there is one.
async fn settle(context: &Context, receipt: &Receipt, job: &Job, step: &Step) -> Recorded {
    match step {
        Step::Delivered | Step::Refuse { keep: false, .. } => Recorded::Yes,
        // Most are delivered: their tasks need no room for this.
        Step::Refuse { keep: true, .. }
        | Step::Retry { .. }
        | Step::Fail { .. }
        | Step::Park { .. }
        | Step::Wait { .. } => {
            let now = Timestamp::now();
            Box::pin(record(context, receipt, || step.message(context, job, now))).await
        }
    }
}

/// Says what became of a job, once, here.
fn report(context: &Context, job: &Job, step: &Step) {
    log::stepped(context, job, step);
    context.reports.settled(job, step);
    match step {
        Step::Delivered => context.metrics.job_delivered(),
        Step::Refuse { keep, .. } => context.metrics.job_refused(*keep),
        Step::Retry { reason, .. } => context.metrics.job_retry(reason.label()),
        Step::Fail { reason, .. } => context.metrics.job_failed(reason.label()),
        Step::Park { reason, .. } => context.metrics.job_parked(reason.label()),
        Step::Wait { .. } => {}
    }
}

async fn reject_job(context: &Context, input: Box<Input>, rejection: Rejection) {
    let names = context.plan.names();
    let message = reject::message(&names.rejected, &names.jobs, &input, &rejection, Timestamp::now());
    if record(context, &input.receipt, || Some(message.clone())).await == Recorded::Yes && input.receipt.ack() {
        context.reports.job_rejected(&input, &rejection);
        log::rejected(context, None, rejection.reason);
        context.metrics.job_rejected(rejection.reason.label());
    }
}

async fn put_aside(context: &Context, input: Box<Input>, version: i64) {
    let rung = context.plan.names().delay(context.ladder.step(hold::WAIT).rung);
    match hold(&input, &rung, Timestamp::now()) {
        Hold::Wait(message) => {
            if record(context, &input.receipt, || Some((*message).clone())).await == Recorded::Yes
                && input.receipt.ack()
            {
                context.reports.put_aside(version);
                context.metrics.job_parked("newer_version");
            }
        }
        Hold::GiveUp => {
            let detail = format!("message version {version}, and no worker that reads it came within a day");
            reject_job(context, input, Rejection::new(RejectReason::NewerVersion, detail)).await;
        }
    }
}
