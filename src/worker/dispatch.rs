//! Dispatch: an event with one target is attempted directly where that is possible, else it becomes one job for each of its
//! targets. Acked when each delivery is settled (rule 1).

use std::{
    hash::{DefaultHasher, Hash, Hasher},
    sync::Arc,
};

use futures::future::join_all;
use jiff::Timestamp;
use lapin::BasicProperties;

use super::{
    attempt::{Way, attempt},
    context::Context,
    message::{Input, Receipt, text_header},
    poison::child_process::Died,
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
    delivery::trace_context::is_traceparent,
    event::{self, Event},
    failpoint,
    job::{Envelope, Job, header, upstream},
    rejection::{RejectReason, Rejection},
    store::{Misplaced, NoTarget, Resolution, Store, Target},
};

/// Settles one event: dispatched, without target, or rejected.
///
/// The message is boxed: a task has room for all that its functions hand on, once for each.
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
        // Its message_id may look like another's now, and the header that was lost may have been organization-id.
        return Err(Rejection::new(RejectReason::UnreadableProperties, input.repairs.words()));
    }
    decode(context.settings.delivery.max_event_bytes, &input.properties, &input.body)
}

/// Decodes an event of at most `most` bytes.
pub(super) fn decode(most: usize, properties: &BasicProperties, body: &[u8]) -> Result<Event, Rejection> {
    let organization = text_header(properties, event::ORGANIZATION_HEADER).map_err(|_| {
        Rejection::new(RejectReason::InvalidField, "AMQP header organization-id: expected a UTF-8 string")
    })?;
    Event::decode(body, organization, most)
}

type Targets = Result<Vec<Arc<Target>>, NoTarget>;

/// Finds the targets of an event, or why there are none.
pub(super) fn resolve(store: &Store, event: &Event) -> Result<Targets, Rejection> {
    match store.resolve(&event.campaign, event.organization.as_deref(), event.kind) {
        Resolution::Targets(targets) => Ok(Ok(targets)),
        Resolution::NoTarget(reason) => Ok(Err(reason)),
        Resolution::Misplaced(misplaced) => Err(misplacement(misplaced)),
    }
}

fn misplacement(misplaced: Misplaced) -> Rejection {
    match misplaced {
        Misplaced::UnknownCampaign => Rejection::new(
            RejectReason::UnknownCampaign,
            "the campaign is not in the store, and neither the message nor default_organization names its organization",
        ),
        Misplaced::UnknownOrganization => Rejection::new(
            RejectReason::UnknownOrganization,
            "the organization named by the message is not in the store",
        ),
        Misplaced::OrganizationMismatch => Rejection::new(
            RejectReason::OrganizationMismatch,
            "the store places the campaign in another organization than the message does",
        ),
    }
}

async fn deliver_to_all(context: &Context, input: Box<Input>, event: &Event, targets: &[Arc<Target>]) {
    failpoint::hit("event.resolved", &event.campaign);
    let (envelope, now) = (envelope(&input.properties), Timestamp::now());
    let digest = digest(&envelope, &input.body);
    let job = |target: &Arc<Target>| {
        Box::new(Job::new(event, &target.organization, &target.key, &envelope, input.body.clone(), now))
    };
    let jobs: Vec<_> = targets.iter().map(|target| (job(target), target)).collect();
    // A copy that was published again comes without the broker's mark.
    let again = input.redelivered || input.redeliveries() > 0;
    // The message's headers are dropped before the wait for a receiver.
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
        // Mostly there is one, which needs no list.
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

/// The outcome of an attempt straight from the event. It is the long way instead where no slot comes free in time, the
/// circuit has no room or the gate is closed. `None`: the event's channel is gone.
async fn attempt_directly(
    context: &Context,
    receipt: &Receipt,
    job: &Job,
    target: &Target,
) -> Result<Option<Transition>, Died> {
    let is_refused = || context.poster.is_held() || context.circuits.is_open(target);
    if is_refused() {
        return Ok(Some(Successor::Forward.into()));
    }
    let Some(slot) = context.slots.direct().await else { return Ok(Some(Successor::Forward.into())) };
    if slot.was_waited_for {
        // The gate and the channel were asked before the wait (rule 6).
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

/// What tells a redelivered event from others, together with the `webhook-id` for its target. An event has no copy id, so
/// one that upstream republishes on purpose has the same key; it counts only where the broker gives it out again. Without
/// a `message_id` the `webhook-id` is made of the body, and no more is needed.
fn digest(envelope: &Envelope, body: &[u8]) -> u64 {
    let mut digest = DefaultHasher::new();
    if envelope.message_id.is_some() {
        body.hash(&mut digest);
    }
    digest.finish()
}

/// What travels with a job besides the body: an allow-list (ARCHITECTURE.md).
pub(super) fn envelope(properties: &BasicProperties) -> Envelope {
    let traceparent = text_header(properties, header::TRACEPARENT).ok().flatten();
    let carried = |name: &str| {
        use header::{DEATHS, EXCHANGE, REDELIVERIES, ROUTING_KEY, TRACEPARENT};
        matches!(name, TRACEPARENT | REDELIVERIES | DEATHS | EXCHANGE | ROUTING_KEY | "organization-id")
    };
    Envelope {
        message_id: properties.message_id().as_ref().map(|id| id.as_str().to_owned()),
        traceparent: traceparent.filter(|text| is_traceparent(text)).map(str::to_owned),
        upstream: upstream::encode(properties, carried),
    }
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
