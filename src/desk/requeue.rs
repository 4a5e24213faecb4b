//! Putting messages that are no jobs back onto the events queue, as they came from upstream: publish, wait for the confirm, and
//! only then remove.
//!
//! Only what is a usable event now is put back. An event that is put back twice is delivered under the same `webhook-id`,
//! which is made of its `message_id` (or its body) and its target.

use std::collections::{BTreeMap, BTreeSet};

use futures::{StreamExt, stream};
use jiff::Timestamp;
use lapin::{
    BasicProperties,
    types::{AMQPValue, FieldTable, ShortString},
};
use serde::Serialize;

use super::{
    record::text,
    survey::{Survey, Wanted},
    visit::{Held, Visit, VisitError},
    wear::{self, Renewer, is_worn},
};
use crate::{
    broker::publisher::{Outgoing, PublishError, Publisher},
    delivery_log::{DeliveryLog, Entry, What},
    event::{Event, ORGANIZATION_HEADER},
    job::{header, upstream},
};

/// Confirms under way at the same time.
const IN_FLIGHT: usize = 200;

/// Where messages go, and who puts them there.
#[derive(Clone, Copy)]
pub struct To<'a> {
    /// Publishes them.
    pub publisher: &'a Publisher,
    /// The events queue.
    pub events: &'a ShortString,
    /// Longest body of an event, in bytes.
    pub max_event_bytes: usize,
    /// Is told of each of them.
    pub log: &'a DeliveryLog,
    /// Who does it.
    pub by: &'a str,
}

/// What requeueing came to.
#[derive(Debug, Default, Serialize)]
pub struct Requeued {
    /// Messages published, confirmed and removed.
    pub requeued: u64,
    /// Messages that are no usable event; left.
    pub unusable: u64,
    /// Messages that were not confirmed; left.
    pub not_published: u64,
    /// Why publishing failed first.
    #[serde(skip)]
    pub problem: Option<PublishError>,
    #[serde(skip)]
    removed: BTreeSet<String>,
}

impl Requeued {
    /// Puts back what was chosen.
    ///
    /// # Errors
    /// The visit was broken off; what had been confirmed was counted.
    pub async fn chosen(
        &mut self,
        to: To<'_>,
        survey: &Survey,
        visit: &mut Visit,
        renewer: &mut Renewer<'_>,
    ) -> Result<(), VisitError> {
        loop {
            let batch = visit.next().await?;
            if batch.is_empty() || self.problem.is_some() {
                return Ok(());
            }
            let mut wanted = Vec::new();
            for held in &batch {
                match survey.wants(&held.record) {
                    Wanted::Yes => wanted.push(held),
                    Wanted::No | Wanted::CameBack if is_worn(&held.record) => renewer.renew(held).await,
                    Wanted::No | Wanted::CameBack => {}
                }
            }
            to.log.room().await;
            self.put_back(to, &wanted).await?;
        }
    }

    async fn put_back(&mut self, to: To<'_>, wanted: &[&Held]) -> Result<(), VisitError> {
        let mut events = Vec::new();
        for held in wanted {
            match event(held, to.events, to.max_event_bytes) {
                Some(event) => events.push((*held, event)),
                None => self.unusable += 1,
            }
        }
        let work = stream::iter(events).map(async |(held, event)| {
            // What is not held any more is on the queue again.
            if !held.is_held() {
                return Ok(None);
            }
            to.publisher.publish(requeued(to.events, &held.properties, &held.body)).await?;
            Ok(held.remove().await.then_some((held, event)))
        });
        let mut work = std::pin::pin!(work.buffer_unordered(IN_FLIGHT));
        let mut lost = false;
        while let Some(done) = work.next().await {
            match done {
                Ok(Some((held, event))) => {
                    self.requeued += 1;
                    self.removed.insert(held.identity());
                    to.log.write(&Entry {
                        by: Some(to.by.into()),
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
        if lost { Err(VisitError::Lost("the broker closed the channel".to_owned())) } else { Ok(()) }
    }

    /// Makes sure that what was removed is gone, and ends the visit.
    ///
    /// # Errors
    /// Some of it may be on the queue still.
    pub async fn make_sure(&self, visit: Visit) -> Result<(), VisitError> {
        visit.make_sure(self.requeued, |held| self.removed.contains(&held.identity())).await
    }
}

/// The event that a message is, if it came by the events queue: a job is none, whatever its body.
fn event(held: &Held, events: &ShortString, max_bytes: usize) -> Option<Event> {
    let properties = requeued(events, &held.properties, &held.body).properties;
    let headers = held.properties.headers().clone().unwrap_or_default();
    let source = text(&headers, header::SOURCE);
    if headers.contains_key(header::VERSION) || source.is_some_and(|source| source != events.as_str()) {
        return None;
    }
    let organization = properties.headers().as_ref().and_then(|headers| text(headers, ORGANIZATION_HEADER));
    Event::decode(&held.body, organization.as_deref(), max_bytes).ok()
}

/// The message as it came from upstream, without what the broker and Leadhook added, and without what would act on the broker.
pub fn requeued(events: &ShortString, properties: &BasicProperties, body: &[u8]) -> Outgoing {
    let there = properties.headers().as_ref().map(upstream::without_broker_headers).unwrap_or_default();
    let mut headers: BTreeMap<ShortString, AMQPValue> = text(&there, header::UPSTREAM)
        .and_then(|text| serde_json::from_str::<serde_json::Value>(&text).ok())
        .and_then(|kept| kept.get("headers")?.as_object().cloned())
        .into_iter()
        .flatten()
        .filter_map(|(name, value)| Some((ShortString::from(name), amqp(&value)?)))
        .collect();
    headers.extend(there.inner().clone());
    headers.retain(|name, _| {
        let name = name.as_str();
        !name.starts_with("leadhook-") && !matches!(name, "CC" | "BCC") && !upstream::is_broker_header(name)
    });
    Outgoing {
        exchange: ShortString::default(),
        routing_key: events.clone(),
        properties: wear::kept(properties).with_headers(FieldTable::from(headers)),
        body: body.to_vec().into(),
    }
}

/// Plain values; tables and lists stay behind.
fn amqp(value: &serde_json::Value) -> Option<AMQPValue> {
    match value {
        serde_json::Value::String(text) => Some(AMQPValue::LongString(text.as_str().into())),
        serde_json::Value::Bool(value) => Some(AMQPValue::Boolean(*value)),
        serde_json::Value::Number(number) => number.as_i64().map(AMQPValue::LongLongInt),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_upstream_said_comes_back_and_what_others_added_does_not() {
        let long = |text: &str| AMQPValue::LongString(text.into());
        let mut headers = FieldTable::default();
        headers.insert(header::REASON.into(), long("unknown_campaign"));
        let kept = r#"{"headers":{"organization-id":"acme","n":7,"CC":["x"],"leadhook-version":"1"},"user_id":"u"}"#;
        headers.insert(header::UPSTREAM.into(), long(kept));
        headers.insert("x-delivery-count".into(), AMQPValue::LongLongInt(3));
        let properties = BasicProperties::default().with_headers(headers).with_message_id("m".into());
        let out = requeued(&"leadhook.events".into(), &properties, b"{}");
        let headers = out.properties.headers().clone().unwrap();
        let names: Vec<_> = headers.inner().keys().map(|name| name.to_string()).collect();
        assert_eq!(names, ["n", "organization-id"]);
        assert_eq!(headers.inner()["organization-id"], long("acme"));
        assert_eq!(out.properties.message_id().as_ref().unwrap().as_str(), "m");
        assert_eq!(out.routing_key.as_str(), "leadhook.events");
    }
}
