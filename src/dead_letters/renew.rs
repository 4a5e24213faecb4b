//! Renews messages that were read so often that they come near the queue's delivery limit.

use std::collections::BTreeMap;

use lapin::{
    BasicProperties,
    types::{AMQPValue, FieldTable, ShortString},
};

use tokio_util::sync::CancellationToken;

use super::{
    browse::{Browse, Held},
    browse_error::BrowseError,
    record::{Reason, Record},
};
use crate::{
    broker::publisher::{Outgoing, PublishError, Publisher},
    job::{header, upstream},
    settings::Amqp,
};

/// Number of deliveries above which a message is published again. The queue's limit is 100,000, and each read counts.
pub const RENEW_ABOVE: u64 = 10_000;

/// Returns whether a message must be published again.
pub fn is_due_for_renewal(record: &Record) -> bool {
    record.deliveries > RENEW_ABOVE
}

/// Shows every message of a browse to `see`, and renews those that are close to the delivery limit. Calls `batch` with
/// the size of each batch.
///
/// # Errors
/// The browse was broken off.
pub async fn look(
    browse: &mut Browse,
    renewer: &mut Renewer<'_>,
    mut see: impl FnMut(&Held),
    batch: impl Fn(u64),
) -> Result<(), BrowseError> {
    loop {
        let held = browse.next().await?;
        if held.is_empty() {
            return Ok(());
        }
        for held in &held {
            see(held);
            if is_due_for_renewal(&held.record) {
                renewer.renew(held).await;
            }
        }
        batch(held.len() as u64);
    }
}

/// Publishes messages again that are close to the delivery limit. It connects when it meets the first one, which is
/// very rare.
pub struct Renewer<'a> {
    amqp: &'a Amqp,
    queue: &'a ShortString,
    publisher: Option<Publisher>,
    /// Number of messages that were published again.
    pub renewed: u64,
    /// The first error in publishing. The message stays as it is, and the next read tries again.
    pub problem: Option<PublishError>,
}

impl<'a> Renewer<'a> {
    /// Creates a renewer for the messages of `queue`.
    pub fn new(amqp: &'a Amqp, queue: &'a ShortString) -> Renewer<'a> {
        Renewer { amqp, queue, publisher: None, renewed: 0, problem: None }
    }

    /// Publishes a message again, and removes the old copy after the confirm.
    pub async fn renew(&mut self, held: &Held) {
        let start = || Publisher::start(self.amqp, "renew", None, CancellationToken::new());
        let publisher = self.publisher.get_or_insert_with(start);
        match publisher.publish(renewed(self.queue, &held.record, &held.properties, &held.body)).await {
            Ok(()) => {
                self.renewed += 1;
                // If this fails, the channel is gone. Then two copies of one job exist, which are listed as one.
                held.remove().await;
            }
            Err(error) => drop(self.problem.get_or_insert(error)),
        }
    }

    /// Closes the connection, if there is one.
    pub async fn close(&self) {
        if let Some(publisher) = &self.publisher {
            publisher.close().await;
        }
    }
}

/// Returns the same message without the broker's headers, so `x-delivery-count` starts again. Copies the facts that
/// Leadhook derived from these headers into its own headers. Drops the properties that the broker acts on
/// (`expiration`, `user_id`, `reply_to`), and keeps them as text in `leadhook-upstream` unless that header exists. Also
/// drops the headers `CC` and `BCC`.
pub fn renewed(queue: &ShortString, record: &Record, properties: &BasicProperties, body: &[u8]) -> Outgoing {
    let ours = properties.headers().as_ref().map(upstream::without_broker_headers).unwrap_or_default();
    let mut headers: BTreeMap<ShortString, AMQPValue> = ours.inner().clone();
    headers.retain(|name, _| !matches!(name.as_str(), "CC" | "BCC"));
    let mut add = |name: &'static str, value: Option<AMQPValue>| {
        if let Some(value) = value {
            headers.entry(name.into()).or_insert(value);
        }
    };
    let text = |text: &str| AMQPValue::LongString(text.into());
    if matches!(record.reason, Reason::Known(_) | Reason::DeadLettered) {
        add(header::REASON, Some(text(record.reason.label())));
        add(header::DETAIL, record.detail.as_deref().map(text));
        add(header::FAILED_AT, record.failed_at.map(|at| AMQPValue::LongLongInt(at.as_millisecond())));
    }
    if properties.expiration().is_some() || properties.user_id().is_some() || properties.reply_to().is_some() {
        add(header::UPSTREAM, upstream::encode(properties, |_| true).as_deref().map(text));
    }
    Outgoing {
        exchange: ShortString::default(),
        routing_key: queue.clone(),
        properties: upstream::inert(properties).with_headers(FieldTable::from(headers)),
        body: body.to_vec().into(),
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::{dead_letters::record::tests::job, delivery::reason::FailReason};

    fn long(text: &str) -> AMQPValue {
        AMQPValue::LongString(text.into())
    }

    #[test]
    fn the_job_stays_and_the_count_goes() {
        let message = job().to_message(&"leadhook.failed".into());
        let mut headers = message.properties.headers().clone().unwrap();
        headers.insert("x-delivery-count".into(), AMQPValue::LongLongInt(10_001));
        headers.insert("x-first-death-reason".into(), long("delivery_limit"));
        let properties = message.properties.with_headers(headers);
        let record = Record::read(&properties, message.body.clone());
        assert!(is_due_for_renewal(&record));
        let fresh = renewed(&"leadhook.failed".into(), &record, &properties, &message.body);
        assert_eq!((fresh.routing_key.as_str(), &fresh.body), ("leadhook.failed", &message.body));
        let again = Record::read(&fresh.properties, fresh.body);
        assert_eq!((again.deliveries, is_due_for_renewal(&again)), (0, false));
        assert_eq!(again.content, record.content);
        assert_eq!(again.reason, Reason::Known(FailReason::DeliveryLimit));
        assert_eq!(again.detail, record.detail);
        assert!(
            !fresh.properties.headers().as_ref().unwrap().inner().keys().any(|name| name.as_str().starts_with("x-"))
        );
    }

    #[test]
    fn at_the_threshold_it_is_not_renewed_yet() {
        let mut headers = FieldTable::default();
        headers.insert("x-delivery-count".into(), AMQPValue::LongLongInt(10_000));
        let properties = BasicProperties::default().with_headers(headers);
        assert!(!is_due_for_renewal(&Record::read(&properties, Bytes::new())));
    }

    #[test]
    fn foreign_messages_stay_what_they_are_but_act_no_more() {
        let mut headers = FieldTable::default();
        headers.insert("x-delivery-count".into(), AMQPValue::LongLongInt(10_001));
        headers.insert("CC".into(), long("elsewhere"));
        headers.insert("theirs".into(), long("kept"));
        let properties = BasicProperties::default()
            .with_headers(headers)
            .with_message_id("m".into())
            .with_expiration("1000".into())
            .with_user_id("guest".into());
        let record = Record::read(&properties, Bytes::new());
        let fresh = renewed(&"leadhook.failed".into(), &record, &properties, b"\x00\xff").properties;
        assert_eq!((fresh.expiration(), fresh.user_id()), (&None, &None));
        assert_eq!(fresh.message_id().as_ref().unwrap().as_str(), "m");
        assert_eq!(*fresh.delivery_mode(), Some(2));
        let headers = fresh.headers().clone().unwrap();
        assert_eq!(headers.inner()["theirs"], long("kept"));
        assert!(!headers.contains_key("CC") && !headers.contains_key(header::REASON));
        let AMQPValue::LongString(upstream) = &headers.inner()[header::UPSTREAM] else { panic!() };
        assert!(upstream.to_string().contains("\"expiration\":\"1000\""));
    }
}
