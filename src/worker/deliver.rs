//! Deliver: a job becomes one attempt and its outcome. Acked when that outcome is on the broker (rule 2).

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;
use tracing::debug;

use super::{
    Context,
    attempt::attempt,
    hold::{self, Hold, hold},
    input::{Input, Receipt},
    intake::SUSPECT,
    lanes::Entry,
    log,
    memory::{Key, Settlement},
    record::{Recorded, record},
    reject,
    step::{Parking, Step},
};
use crate::{
    delivery::outcome::FailReason,
    duration::spoken,
    failpoint,
    job::{Job, Malformed},
    rejection::{RejectReason, Rejection},
    store::{Target, TargetState},
};

/// Deliveries of one message from which it counts as a danger to the process and is failed unstarted (rule 4).
const CRASH_LOOP: u32 = 12;

/// Settles one job.
///
/// Message and job are boxed: a task has room for all that its functions hand on, once for each.
pub async fn deliver(context: &Context, input: Box<Input>) {
    failpoint::hit("job.taken", "");
    if !input.repairs.is_empty() {
        let rejection = Rejection::new(RejectReason::MalformedJob, input.repairs.words());
        return Box::pin(reject_job(context, input, rejection)).await;
    }
    let job = match Job::decode(&input.properties, input.body.clone()) {
        Ok(job) => Box::new(Job { given_out: u32::try_from(input.given_out()).unwrap_or(u32::MAX), ..job }),
        Err(Malformed::Newer(version)) => return Box::pin(put_aside(context, input, version)).await,
        Err(Malformed::Broken(detail)) => {
            let rejection = Rejection::new(RejectReason::MalformedJob, detail);
            return Box::pin(reject_job(context, input, rejection)).await;
        }
    };
    // All that is needed of the message from here on: its headers are let go of before the wait for the receiver.
    let (receipt, redelivered) = {
        let input = *input;
        (input.receipt, input.redelivered)
    };
    let key = Key { copy: job.copy.as_str().into(), attempt: job.attempt };
    let known = match redelivered {
        true => context.memory.recall(&key).await,
        false => None,
    };
    if redelivered && !receipt.is_good() {
        // Gone while the memory was waited for. Whoever is given this copy next may have recorded its outcome already,
        // and must not find that overwritten; and where nothing is known, an attempt now would be made again then.
        return;
    }
    if known.is_some() {
        context.metrics.duplicate_suppressed();
        debug!(webhook_id = job.webhook_id, "settling a redelivered job from memory");
    }
    let ticket = context.memory.begin(key);
    let mut settlement = match known {
        Some(settlement) => settlement,
        None => match decide(context, &receipt, &job).await {
            Some(step) => Settlement { step, recorded: false },
            // It comes again.
            None => return,
        },
    };
    if !settlement.recorded {
        settlement.recorded = settle(context, &receipt, &job, &settlement.step).await == Recorded::Yes;
    }
    // Remembered before the ack: an ack that is lost brings this copy back.
    ticket.finish(settlement.clone());
    if !settlement.recorded {
        return;
    }
    failpoint::hit("job.recorded", settlement.step.name());
    if receipt.ack() {
        failpoint::hit("job.acked", "");
        report(context, &job, &settlement.step);
    }
}

/// The next step of a job, with an attempt where one is due. None: its channel is gone, and nothing was done.
async fn decide(context: &Context, receipt: &Receipt, job: &Job) -> Option<Step> {
    if job.given_out >= CRASH_LOOP {
        let detail = format!("given out {} times without an outcome", job.given_out);
        return Some(Step::Fail { entry: None, reason: FailReason::CrashLoop, detail });
    }
    if let Some(remaining) = job.remaining {
        return Some(Step::Wait { remaining });
    }
    let target = match choose(context, job, Timestamp::now()) {
        Ok(target) => target,
        Err(step) => return Some(*step),
    };
    let alone = u64::from(job.given_out) >= SUSPECT;
    match context.lanes.enter(&target, job.parked, alone).await {
        Entry::Go(pass) => {
            if pass.was_waited_for() {
                // The gate was asked before that, and so was the channel (rule 6).
                context.gate().opened().await;
                if !receipt.is_good() {
                    return None;
                }
            }
            Some(attempt(context, job, &target, pass).await)
        }
        Entry::Park(reason, wait) => Some(Step::Park { reason: Parking::Lane(reason), wait }),
    }
}

/// Looks the target up anew (docs/reference/webhook-store.md): replicas may hold different revisions of the store for a while, so
/// what is unknown or disabled here is judged again until `store.settle` has passed. The age is looked at here and so only when a
/// job is due: one that waits on the ladder expires by so much later.
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
