//! Dispatch: an event becomes one job for each of its targets. Acked when all of them are confirmed (rule 1).

use std::{
    hash::{DefaultHasher, Hash, Hasher},
    sync::Arc,
};

use futures::future::join_all;
use jiff::Timestamp;
use lapin::BasicProperties;

use super::{
    Context,
    input::{Input, text_header},
    log,
    memory::{Key, Settlement},
    record::{Recorded, record},
    reject,
    step::Step,
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
        Ok(Ok(targets)) => publish_jobs(context, input, &event, &targets).await,
        Ok(Err(reason)) => {
            if input.receipt.ack() {
                log::no_target(context, &event, reason.name());
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

async fn publish_jobs(context: &Context, input: Box<Input>, event: &Event, targets: &[Arc<Target>]) {
    failpoint::hit("event.resolved", &event.campaign);
    let (envelope, now) = (envelope(&input.properties), Timestamp::now());
    let body = digest(&envelope, &input.body);
    let recording = |target: &Arc<Target>| {
        let job = Job::new(event, &target.organization, &target.key, &envelope, input.body.clone(), now);
        let key = Key { copy: format!("{} {body:x}", job.webhook_id).into(), attempt: 0 };
        // A copy that was published again comes without the broker's mark.
        let redelivered = input.redelivered || input.redeliveries() > 0;
        let (receipt, jobs) = (&input.receipt, &context.plan.names().jobs);
        async move {
            if redelivered && Box::pin(was_recorded(context, &key)).await {
                return true;
            }
            let ticket = context.dispatched.begin(key);
            let recorded = record(context, receipt, || Some(job.to_message(jobs))).await == Recorded::Yes;
            if recorded {
                ticket.finish(Settlement { step: Step::Delivered, recorded });
            }
            recorded
        }
    };
    let recorded = match targets {
        // Mostly there is one, which needs no list.
        [only] => recording(only).await,
        several => Box::pin(join_all(several.iter().map(recording))).await.into_iter().all(|recorded| recorded),
    };
    if !recorded {
        return;
    }
    failpoint::hit("event.recorded", "");
    if input.receipt.ack() {
        failpoint::hit("event.acked", "");
        context.metrics.event_dispatched(targets.len());
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

/// Whether this process has recorded the job of a redelivered event: waits for a publish that is under way.
async fn was_recorded(context: &Context, key: &Key) -> bool {
    let recorded = context.dispatched.recall(key).await.is_some_and(|known| known.recorded);
    if recorded {
        context.metrics.duplicate_suppressed();
    }
    recorded
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
    if record(context, &input.receipt, || Some(message.clone())).await == Recorded::Yes && input.receipt.ack() {
        context.reports.event_rejected(&input, rejection);
        log::rejected(context, event, rejection.reason);
        context.metrics.event_rejected(rejection.reason.label());
    }
}
