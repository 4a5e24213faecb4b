//! Dispatches events. An event with one target is attempted directly if possible; otherwise it becomes one job for each
//! of its targets. It is acked when each delivery is settled.

use std::{
    hash::{DefaultHasher, Hash, Hasher},
    sync::Arc,
};

use futures::future::join_all;
use jiff::Timestamp;

use super::{
    attempt::{Way, attempt},
    context::Context,
    message::{Input, Receipt},
    poison::child_process::Died,
    read_event::{decode, envelope, resolve},
    reject,
    report::delivery_log,
    settle::{
        Delivery,
        machine::Recorded,
        memory::Key,
        record::record,
        report,
        transition::{Successor, Transition},
    },
};
use crate::{
    event::Event,
    failpoint,
    job::{Envelope, Job},
    rejection::{RejectReason, Rejection},
    store::Target,
};

/// Settles one event: dispatches or rejects it, or finds that it has no target.
///
/// The message is boxed to keep the task's future small.
pub async fn dispatch(context: &Context, input: Box<Input>) {
    failpoint::hit("event.taken", "");
    let event = match read(context, &input) {
        Ok(event) => event,
        Err(rejection) => return Box::pin(reject_event(context, input, None, &rejection)).await,
    };
    if event.time.is_none() {
        context.metrics.event_irregular("timestamp");
        context.reports.irregular("timestamp");
    }
    match resolve(&context.store.current(), &event) {
        Ok(Ok(targets)) => deliver_to_all(context, input, &event, &targets).await,
        Ok(Err(reason)) => {
            if input.receipt.ack() {
                delivery_log::no_target(context, &event, reason.name());
                context.reports.no_target(&event, reason.name());
                context.metrics.event_without_target(reason.name());
            }
        }
        Err(rejection) => Box::pin(reject_event(context, input, Some(&event), &rejection)).await,
    }
}

fn read(context: &Context, input: &Input) -> Result<Event, Rejection> {
    if !input.repairs.is_empty() {
        // Its message_id may now look like another's, and the lost header may have been organization-id.
        return Err(Rejection::new(RejectReason::UnreadableProperties, input.repairs.words()));
    }
    decode(context.settings.delivery.max_event_bytes, &input.properties, &input.body)
}

async fn deliver_to_all(context: &Context, input: Box<Input>, event: &Event, targets: &[Arc<Target>]) {
    failpoint::hit("event.resolved", &event.campaign);
    let (envelope, now) = (envelope(&input.properties), Timestamp::now());
    let digest = digest(&envelope, &input.body);
    let job = |target: &Arc<Target>| {
        Box::new(Job::new(event, &target.organization, &target.key, &envelope, input.body.clone(), now))
    };
    let jobs: Vec<_> = targets.iter().map(|target| (job(target), target)).collect();
    // A copy that was published again lacks the broker's redelivered mark.
    let again = input.redelivered || input.redeliveries() > 0;
    // Drops the message's headers before the wait for a receiver.
    let receipt = {
        let input = *input;
        input.receipt
    };
    let receipt = &receipt;
    let may_be_direct = context.settings.delivery.direct && targets.len() == 1 && !again;
    let settle = async |job: &Job, target: &Target| {
        let key = Key { id: job.webhook_id.as_str().into(), part: digest };
        let delivery = Delivery { receipt, job, memory: &context.dispatched, key, again };
        let decide = async || match may_be_direct {
            true => attempt_directly(context, receipt, job, target).await,
            false => Ok(Some(Successor::Forward.into())),
        };
        delivery.settle(context, decide).await.unwrap_or(None)
    };
    let settled = match &jobs[..] {
        // Most events have one target, which needs no list.
        [(job, target)] => settle(job, target).await.map(|transition| vec![transition]),
        several => {
            Box::pin(join_all(several.iter().map(|(job, target)| settle(job, target)))).await.into_iter().collect()
        }
    };
    let Some(settled) = settled else { return };
    failpoint::hit("event.recorded", settled.first().map_or("", Transition::name));
    if receipt.ack() {
        failpoint::hit("event.acked", "");
        context.metrics.event_dispatched(settled.len());
        settled.iter().zip(&jobs).for_each(|(transition, (job, _))| report(context, job, transition));
    }
}

/// Attempts a delivery straight from the event. Returns a forward to the jobs queue if no slot comes free in time, the
/// circuit has no room or the gate is closed. Returns `None` if the event's channel is gone.
async fn attempt_directly(
    context: &Context,
    receipt: &Receipt,
    job: &Job,
    target: &Target,
) -> Result<Option<Transition>, Died> {
    let is_refused = || context.sender.is_held() || context.circuits.is_open(target);
    if is_refused() {
        return Ok(Some(Successor::Forward.into()));
    }
    let Some(slot) = context.slots.direct().await else { return Ok(Some(Successor::Forward.into())) };
    if slot.was_waited_for {
        // The gate and the channel were checked before the wait.
        if !receipt.is_good() {
            return Ok(None);
        }
        if !context.gate().is_open() || is_refused() {
            return Ok(Some(Successor::Forward.into()));
        }
    }
    match context.circuits.try_enter(target) {
        Some(pass) => attempt(context, job, target, pass, Way::Direct).await.map(Some),
        None => Ok(Some(Successor::Forward.into())),
    }
}

/// Returns what identifies a redelivered event, together with the `webhook-id` for its target. An event has no copy id,
/// so one that upstream republishes on purpose has the same key. The key counts only if the broker redelivers the
/// event. Without a `message_id`, the `webhook-id` already covers the body.
fn digest(envelope: &Envelope, body: &[u8]) -> u64 {
    let mut digest = DefaultHasher::new();
    if envelope.message_id.is_some() {
        body.hash(&mut digest);
    }
    digest.finish()
}

async fn reject_event(context: &Context, input: Box<Input>, event: Option<&Event>, rejection: &Rejection) {
    let names = context.plan.names();
    let message = reject::message(&names.rejected, &names.events, &input, rejection, Timestamp::now());
    if record(context, &input.receipt, || message.clone()).await == Recorded::Yes && input.receipt.ack() {
        context.reports.event_rejected(&input, rejection);
        delivery_log::rejected(context, event, rejection.reason);
        context.metrics.event_rejected(rejection.reason.label());
    }
}
