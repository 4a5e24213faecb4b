//! Reads an event: decodes it, finds its targets, and takes what travels with its jobs.

use std::sync::Arc;

use lapin::BasicProperties;

use super::message::text_header;
use crate::{
    delivery::trace_context::is_traceparent,
    event::{self, Event},
    job::{Envelope, header, upstream},
    rejection::{RejectReason, Rejection},
    store::{Misplaced, NoTarget, Resolution, Store, Target},
};

/// Decodes an event of at most `most` bytes.
pub(super) fn decode(most: usize, properties: &BasicProperties, body: &[u8]) -> Result<Event, Rejection> {
    let organization = text_header(properties, event::ORGANIZATION_HEADER).map_err(|_| {
        Rejection::new(RejectReason::InvalidField, "AMQP header organization-id: expected a UTF-8 string")
    })?;
    Event::decode(body, organization, most)
}

/// The targets of an event, or why there are none.
pub(super) type Targets = Result<Vec<Arc<Target>>, NoTarget>;

/// Finds the targets of an event, or the reason why there are none.
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

/// Returns the properties that travel with a job: an allow-list (ARCHITECTURE.md).
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
