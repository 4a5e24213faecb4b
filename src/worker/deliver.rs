//! Delivers jobs: each becomes one attempt and its outcome. A job is acked when that outcome is on the broker.

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;

use super::{
    attempt::{Way, attempt, until_the_proxy_works},
    context::Context,
    defer_newer::{self, Deferred},
    message::{Input, Receipt},
    poison::{child_process::Died, suspect::Suspect},
    reject,
    report::delivery_log,
    settle::{
        Delivery,
        machine::Recorded,
        memory::Key,
        record::record,
        report,
        transition::{Deferral, Successor, Transition},
    },
};
use crate::{
    delivery::reason::FailReason,
    duration::spoken,
    failpoint,
    job::{Job, Malformed},
    limits::{Due, Entry},
    rejection::{RejectReason, Rejection},
    store::{Target, TargetState},
};

/// Settles one job, with the help of its child process if it is a suspect. An error means that the child has died, and
/// nothing is settled.
///
/// Message and job are boxed to keep the task's future small.
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
    // Keeps only what the rest needs: the message's headers are dropped before the wait for the receiver.
    let (receipt, redelivered) = {
        let input = *input;
        (input.receipt, input.redelivered)
    };
    let delivery = Delivery {
        receipt: &receipt,
        job: &job,
        memory: &context.memory,
        key: Key { id: job.copy.as_str().into(), part: job.attempt.into() },
        // A suspect that was put back unchanged has the id of the copy that came again.
        again: redelivered || suspect.is_some(),
    };
    let settled = delivery.settle(context, async || decide(context, &receipt, &job, suspect).await).await?;
    let Some(transition) = settled else { return Ok(()) };
    failpoint::hit("job.recorded", transition.name());
    if receipt.ack() {
        failpoint::hit("job.acked", "");
        report(context, &job, &transition);
    }
    Ok(())
}

/// Decides the transition of a job, by an attempt if one is due. Returns `None` if its channel was gone and nothing was
/// done.
async fn decide(
    context: &Context,
    receipt: &Receipt,
    job: &Job,
    suspect: Option<&Suspect>,
) -> Result<Option<Transition>, Died> {
    if let Some(remaining) = job.remaining {
        return Ok(Some(Successor::Wait { remaining }.into()));
    }
    let target = match choose(context, job, Timestamp::now()) {
        Ok(target) => target,
        Err(successor) => return Ok(Some((*successor).into())),
    };
    if context.sender.is_held() {
        return Ok(Some(
            Successor::Defer { reason: Deferral::Proxy, wait: until_the_proxy_works(context, job) }.into(),
        ));
    }
    let due = Due { late: job.late(Timestamp::now()), turn: job.turn };
    // The gate and the channel were checked before the wait for room, or before a child was started.
    let (mut gate, mut has_waited) = (context.gate(), suspect.is_some());
    let entry = loop {
        match context.circuits.enter(&target, due).await {
            // Given back: the time at a closed gate must not count as the receiver's.
            Entry::Go(pass) if !gate.is_open() => drop(pass),
            entry => break entry,
        }
        gate.opened().await;
        has_waited = true;
    };
    match entry {
        Entry::Go(pass) if (has_waited || pass.was_waited_for()) && !receipt.is_good() => {
            drop(pass);
            Ok(None)
        }
        Entry::Go(pass) => attempt(context, job, &target, pass, Way::Job(suspect)).await.map(Some),
        Entry::Defer { reason, wait, turn } => {
            Ok(Some(Successor::Defer { reason: Deferral::Circuit(reason, turn), wait }.into()))
        }
    }
}

/// Looks the target up again (docs/reference/webhook-store.md). Replicas may hold different revisions of the store for
/// a while, so an unknown or disabled target is judged again until `store.settle` has passed. The age is checked only
/// here, when a job is due: a job on a delay queue expires when it returns.
fn choose(context: &Context, job: &Job, now: Timestamp) -> Result<Arc<Target>, Box<Successor>> {
    let settle = context.settings.store.settle;
    let since = job.unknown_since.map(|since| Duration::try_from(now.duration_since(since)).unwrap_or_default());
    let unsettled = since.unwrap_or_default() < settle;
    let fail = |reason, detail: &str| Err(Box::new(Successor::Fail { entry: None, reason, detail: detail.to_owned() }));
    let defer = |reason| Err(Box::new(Successor::Defer { reason, wait: recheck(settle) }));
    let maximum_age = context.settings.delivery.maximum_age;
    match context.store.current().target(&job.organization, &job.target) {
        TargetState::Active(target) if job.attempt > target.retry_attempts => {
            fail(FailReason::Exhausted, "retry_attempts has been lowered meanwhile")
        }
        TargetState::Active(_) if job.age(now) > maximum_age => {
            fail(FailReason::Expired, &format!("older than delivery.maximum_age ({})", spoken(maximum_age)))
        }
        TargetState::Active(target) => Ok(target),
        TargetState::Disabled if unsettled => defer(Deferral::TargetDisabled),
        TargetState::Unknown if unsettled => defer(Deferral::TargetRemoved),
        TargetState::Disabled => fail(FailReason::TargetDisabled, "the target is disabled in the store"),
        TargetState::Unknown => fail(FailReason::TargetRemoved, "the target is no longer in the store"),
        TargetState::Moved => fail(FailReason::TargetMoved, "the target belongs to another organization than the job"),
    }
}

/// Returns the wait before an unknown target is looked up again: several times within the settling time, never in a
/// tight loop.
fn recheck(settle: Duration) -> Duration {
    (settle / 8).clamp(Duration::from_millis(250), Duration::from_secs(15))
}

async fn reject_job(context: &Context, input: Box<Input>, rejection: Rejection) {
    let names = context.plan.names();
    let message = reject::message(&names.rejected, &names.jobs, &input, &rejection, Timestamp::now());
    if record(context, &input.receipt, || message.clone()).await == Recorded::Yes && input.receipt.ack() {
        context.reports.job_rejected(&input, &rejection);
        delivery_log::rejected(context, None, rejection.reason);
        context.metrics.job_rejected(rejection.reason.label());
    }
}

async fn put_aside(context: &Context, input: Box<Input>, version: i64) {
    let delay = context.plan.names().delay(context.ladder.hop(defer_newer::WAIT).delay);
    match defer_newer::defer(&input, &delay, Timestamp::now()) {
        Deferred::Wait(message) => {
            if record(context, &input.receipt, || (*message).clone()).await == Recorded::Yes && input.receipt.ack() {
                context.reports.put_aside(version);
                context.metrics.job_deferred("newer_version");
            }
        }
        Deferred::GiveUp => {
            let detail = format!("message version {version}, and no worker that reads it came within a day");
            reject_job(context, input, Rejection::new(RejectReason::NewerVersion, detail)).await;
        }
    }
}
