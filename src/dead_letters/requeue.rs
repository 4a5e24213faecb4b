//! Requeues messages that are not jobs onto the events queue, as they came from upstream: publishes, waits for the
//! confirm, and only then removes.
//!
//! A repair may change a message first. Only a usable event is requeued. An event that is requeued twice is delivered
//! under the same `webhook-id`, which is made of its `message_id` (or its body) and its target.

use std::collections::{BTreeMap, BTreeSet};

use base64::{Engine, prelude::BASE64_STANDARD};
use futures::{StreamExt, stream};
use jiff::Timestamp;
use lapin::{
    BasicProperties,
    types::{AMQPValue, FieldTable, ShortString},
};
use serde::Serialize;
use serde_json::Value;

use super::{
    browse::{Browse, Held},
    browse_error::BrowseError,
    record::text,
    renew::{Renewer, is_due_for_renewal},
    repair::{Change, Repair, differences},
    selection::{Selection, Wanted},
};
use crate::{
    broker::{
        publisher::{Outgoing, PublishError, Publisher},
        wire::Repairs,
    },
    delivery_log::{DeliveryLog, Entry, What},
    event::{Event, ORGANIZATION_HEADER},
    job::{header, upstream},
};

/// Most confirms that are pending at the same time.
const IN_FLIGHT: usize = 200;

/// Number of messages that one wait for room in the delivery log covers.
const ROOM_FOR: usize = 1_000;

/// Where messages go, and who requeues them.
#[derive(Clone, Copy)]
pub struct To<'a> {
    /// Publishes them.
    pub publisher: &'a Publisher,
    /// The events queue.
    pub events: &'a ShortString,
    /// Longest body of an event, in bytes.
    pub max_event_bytes: usize,
    /// The repair of each message, if there is one.
    pub repair: Option<&'a Repair>,
    /// Records each requeued message.
    pub log: &'a DeliveryLog,
    /// The person who requeues.
    pub by: &'a str,
}

/// The result of requeueing.
#[derive(Debug, Default, Serialize)]
pub struct Requeued {
    /// Messages published, confirmed and removed.
    pub requeued: u64,
    /// Messages that are not usable events; left on the queue.
    pub unusable: u64,
    /// Why the first of them is not usable.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unusable_because: Option<String>,
    /// Messages that were not confirmed; left on the queue.
    pub not_published: u64,
    /// The first error in publishing.
    #[serde(skip)]
    pub problem: Option<PublishError>,
    #[serde(skip)]
    removed: BTreeSet<String>,
}

impl Requeued {
    /// Requeues the chosen messages.
    ///
    /// # Errors
    /// The browse was broken off. Messages confirmed until then are counted.
    pub async fn chosen(
        &mut self,
        to: To<'_>,
        selection: &Selection,
        browse: &mut Browse,
        renewer: &mut Renewer<'_>,
    ) -> Result<(), BrowseError> {
        loop {
            let batch = browse.next().await?;
            if batch.is_empty() || self.problem.is_some() {
                return Ok(());
            }
            let mut wanted = Vec::new();
            for held in &batch {
                match selection.wants(&held.record) {
                    Wanted::Yes => wanted.push(held),
                    Wanted::No | Wanted::CameBack if is_due_for_renewal(&held.record) => renewer.renew(held).await,
                    Wanted::No | Wanted::CameBack => {}
                }
            }
            for some in wanted.chunks(ROOM_FOR) {
                to.log.room().await;
                self.put_back(to, some).await?;
            }
        }
    }

    async fn put_back(&mut self, to: To<'_>, wanted: &[&Held]) -> Result<(), BrowseError> {
        let mut events = Vec::new();
        for held in wanted {
            match prepare(held, to.events, to.max_event_bytes, to.repair) {
                Ok(prepared) => events.push((*held, prepared)),
                Err(why) => {
                    self.unusable += 1;
                    self.unusable_because.get_or_insert(why);
                }
            }
        }
        let work = stream::iter(events).map(async |(held, Prepared { event, message, changes })| {
            // A message that is no longer held is on the queue again.
            if !held.is_held() {
                return Ok(None);
            }
            to.publisher.publish(message).await?;
            Ok(held.remove().await.then_some((held, event, changes)))
        });
        let mut work = std::pin::pin!(work.buffer_unordered(IN_FLIGHT));
        let mut lost = false;
        while let Some(done) = work.next().await {
            match done {
                Ok(Some((held, event, changes))) => {
                    self.requeued += 1;
                    self.removed.extend(held.identity());
                    to.log.write(&Entry {
                        by: Some(to.by.into()),
                        reason: repaired(&changes).map(Into::into),
                        ..Entry::of_event(What::Requeued, Timestamp::now(), &event)
                    });
                }
                Ok(None) => lost = true,
                Err(error) => {
                    self.not_published += 1;
                    self.problem.get_or_insert(error);
                }
            }
        }
        if lost { Err(BrowseError::Lost("the broker closed the channel".to_owned())) } else { Ok(()) }
    }

    /// Confirms that the removed messages are gone, and ends the browse.
    ///
    /// # Errors
    /// Some of them may still be on the queue.
    pub async fn confirm_removed(&self, browse: Browse) -> Result<(), BrowseError> {
        browse.confirm_removed(self.requeued, |held| held.identity().is_some_and(|id| self.removed.contains(&id))).await
    }
}

/// A message that can be requeued.
pub struct Prepared {
    /// The event that the message holds.
    pub event: Event,
    /// The message to publish.
    pub message: Outgoing,
    /// The differences that the repair makes.
    pub changes: Vec<Change>,
}

/// Prepares a message for the events queue, and applies the repair if there is one. Refuses a job, whatever its body.
///
/// # Errors
/// The reason why it cannot be requeued. It names fields, never values.
pub fn prepare(
    held: &Held,
    events: &ShortString,
    max_bytes: usize,
    repair: Option<&Repair>,
) -> Result<Prepared, String> {
    let headers = held.properties.headers().clone().unwrap_or_default();
    let source = text(&headers, header::SOURCE);
    if headers.contains_key(header::VERSION) || source.is_some_and(|source| source != events.as_str()) {
        return Err("it was published as a job, not as an event".to_owned());
    }
    let mut message = requeued(events, &held.properties, &held.body)
        .ok_or("some of its upstream headers were lost or cannot be written back")?;
    let mut headers = message.properties.headers().clone().unwrap_or_default();
    let was = text(&headers, ORGANIZATION_HEADER);
    let mut changes = Vec::new();
    if let Some(repair) = repair {
        let repaired = repair.apply(&held.body, was.as_deref()).map_err(|rejection| match repair {
            // The edited body was another one, which says nothing about this body.
            Repair::Body { .. } => rejection.detail,
            Repair::Fields { .. } => rejection.to_string(),
        })?;
        changes = differences((&held.body, was.as_deref()), &repaired);
        if let Some(organization) = &repaired.organization {
            headers.insert(ORGANIZATION_HEADER.into(), AMQPValue::LongString(organization.as_str().into()));
            message.properties = message.properties.with_headers(headers.clone());
        }
        message.body = repaired.body;
    }
    let organization = text(&headers, ORGANIZATION_HEADER);
    let event = Event::decode(&message.body, organization.as_deref(), max_bytes);
    let event = event.map_err(|rejection| rejection.to_string())?;
    if event.organization.is_none() && held.record.detail.as_deref().is_some_and(Repairs::lose_headers) {
        return Err("it lost headers, perhaps organization-id too: name its organization".to_owned());
    }
    Ok(Prepared { event, message, changes })
}

/// Most characters of a reason in the delivery log.
const REASON: usize = 200;

/// Returns the text of a repair for the delivery log. It names only Leadhook's own fields, and holds nothing of a body.
fn repaired(changes: &[Change]) -> Option<String> {
    let mut fields: Vec<_> = changes.iter().map(|change| format!("{} {}", change.known_field(), change.how)).collect();
    fields.dedup();
    let said: String = format!("repaired: {}", fields.join(", ")).chars().take(REASON).collect();
    (!changes.is_empty()).then_some(said)
}

/// Returns the message as it came from upstream. Omits the additions of the broker and of Leadhook, and everything that
/// would act on the broker. Returns `None` if a header was lost, or cannot be written as it came. Without
/// `organization-id`, for example, an event could go to an organization that its publisher did not mean.
pub fn requeued(events: &ShortString, properties: &BasicProperties, body: &[u8]) -> Option<Outgoing> {
    let there = properties.headers().as_ref().map(upstream::without_broker_headers).unwrap_or_default();
    let kept = match text(&there, header::UPSTREAM) {
        Some(kept) => serde_json::from_str::<Value>(&kept).ok()?,
        None => Value::Null,
    };
    if kept.get("dropped").is_some() {
        return None;
    }
    let mut headers = there.inner().clone();
    headers.retain(|name, _| comes_back(name.as_str()));
    for (name, value) in kept.get("headers").and_then(Value::as_object).into_iter().flatten() {
        if comes_back(name) {
            let value =
                amqp(value).filter(|value| name != ORGANIZATION_HEADER || !matches!(value, AMQPValue::ByteArray(_)));
            headers.insert(ShortString::from(name.as_str()), value?);
        }
    }
    Some(Outgoing {
        exchange: ShortString::default(),
        routing_key: events.clone(),
        properties: upstream::inert(properties).with_headers(FieldTable::from(headers)),
        body: body.to_vec().into(),
    })
}

/// Returns whether a header is upstream's own, and means nothing to the broker.
fn comes_back(name: &str) -> bool {
    !name.starts_with("leadhook-") && !matches!(name, "CC" | "BCC") && !upstream::is_broker_header(name)
}

/// Returns the AMQP value of this JSON; `None` if it is not certain (decimals, values that were too deep).
fn amqp(value: &Value) -> Option<AMQPValue> {
    match value {
        Value::String(text) => Some(AMQPValue::LongString(text.as_str().into())),
        Value::Bool(value) => Some(AMQPValue::Boolean(*value)),
        Value::Number(number) => {
            number.as_i64().map(AMQPValue::LongLongInt).or_else(|| number.as_f64().map(AMQPValue::Double))
        }
        Value::Null => Some(AMQPValue::Void),
        Value::Array(values) => {
            let values: Option<Vec<_>> = values.iter().map(amqp).collect();
            Some(AMQPValue::FieldArray(values?.into()))
        }
        Value::Object(fields) if fields.len() == 1 && fields.contains_key("base64") => {
            let bytes = BASE64_STANDARD.decode(fields.get("base64")?.as_str()?).ok()?;
            Some(AMQPValue::ByteArray(bytes.into()))
        }
        Value::Object(fields) if ["base64", "dropped", "scale"].iter().any(|name| fields.contains_key(*name)) => None,
        Value::Object(fields) => {
            let fields = fields.iter().map(|(name, value)| Some((ShortString::from(name.as_str()), amqp(value)?)));
            Some(AMQPValue::FieldTable(FieldTable::from(fields.collect::<Option<BTreeMap<_, _>>>()?)))
        }
    }
}

#[cfg(test)]
mod tests {
    use lapin::message::Delivery;

    use super::*;

    fn long(text: &str) -> AMQPValue {
        AMQPValue::LongString(text.into())
    }

    fn back(upstream: &str) -> Option<FieldTable> {
        let mut headers = FieldTable::default();
        headers.insert(header::REASON.into(), long("unknown_campaign"));
        headers.insert(header::UPSTREAM.into(), long(upstream));
        headers.insert("x-delivery-count".into(), AMQPValue::LongLongInt(3));
        let properties = BasicProperties::default().with_headers(headers).with_message_id("m".into());
        let out = requeued(&"leadhook.events".into(), &properties, b"{}")?;
        assert_eq!(out.properties.message_id().as_ref().unwrap().as_str(), "m");
        assert_eq!(out.routing_key.as_str(), "leadhook.events");
        out.properties.headers().clone()
    }

    #[test]
    fn what_upstream_said_comes_back_and_what_others_added_does_not() {
        let kept = r#"{"headers":{"organization-id":"acme","n":7,"t":{"a":[true,1.5]},"CC":["x"],"leadhook-version":"1"},
            "user_id":"u"}"#;
        let headers = back(kept).unwrap();
        let names: Vec<_> = headers.inner().keys().map(ToString::to_string).collect();
        assert_eq!(names, ["n", "organization-id", "t"]);
        assert_eq!(headers.inner()["organization-id"], long("acme"));
        let AMQPValue::FieldTable(table) = &headers.inner()["t"] else { panic!("{headers:?}") };
        let list = AMQPValue::FieldArray(vec![AMQPValue::Boolean(true), AMQPValue::Double(1.5)].into());
        assert_eq!(table.inner()["a"], list);
    }

    #[test]
    fn what_may_have_lost_its_organization_is_put_back_only_when_that_is_named() {
        let body = br#"{"event":"lead.queued","leadId":"l","submissionId":"s","campaignId":"C","status":"","timestamp":0,"data":{}}"#;
        let held = |repairs, detail: Option<&str>| {
            let mut delivery = Delivery::mock(1, "".into(), "".into(), false, body.to_vec());
            if let Some(detail) = detail {
                let mut headers = FieldTable::default();
                headers.insert(header::REASON.into(), long("unreadable_properties"));
                headers.insert(header::DETAIL.into(), long(detail));
                delivery.properties = BasicProperties::default().with_headers(headers);
            }
            Held::new(delivery, repairs)
        };
        let named = Repair::Fields { set: Vec::new(), remove: Vec::new(), organization: Some("acme".into()) };
        let back = |held: &Held, repair| prepare(held, &"leadhook.events".into(), 1 << 20, repair);
        let lossy =
            [Repairs::TOO_LARGE, Repairs::CUT, Repairs::HEADER_NAME, Repairs::TOO_MANY, Repairs::MALFORMED_HEADER];
        for repairs in lossy {
            for held in [held(repairs, None), held(Repairs::NONE, Some(&repairs.words()))] {
                assert!(back(&held, None).is_err_and(|why| why.contains("name its organization")), "{repairs:?}");
                let event = back(&held, Some(&named)).unwrap().event;
                assert_eq!(event.organization.as_deref(), Some("acme"), "{repairs:?}");
            }
        }
        for repairs in [Repairs::NONE, Repairs::TOO_DEEP, Repairs::ROUTING_KEY] {
            assert!(back(&held(repairs, None), None).is_ok(), "{repairs:?}");
        }
    }

    #[test]
    fn what_lost_a_header_is_not_put_back_without_it() {
        assert!(back(r#"{"dropped":"40000 bytes of upstream headers, kept are 32768"}"#).is_none());
        assert!(back(r#"{"headers":{"organization-id":{"base64":"/w=="}}}"#).is_none());
        let bytes = back(r#"{"headers":{"n":{"base64":"/w=="}}}"#).expect("another header may hold bytes");
        assert_eq!(bytes.inner()["n"], AMQPValue::ByteArray(vec![0xff].into()));
        assert!(back(r#"{"headers":{"n":{"scale":2,"value":5}}}"#).is_none());
        assert!(back(r#"{"headers":{"CC":{"base64":"/w=="}}}"#).is_some(), "CC is left out anyway");
    }
}
