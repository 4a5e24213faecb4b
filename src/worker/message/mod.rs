//! One message taken from one of our queues: its content, and the receipt that settles it.

use std::sync::Arc;

use bytes::Bytes;
use lapin::{
    BasicProperties,
    message::Delivery,
    types::{AMQPValue, ShortString},
};

pub(crate) mod acker;
pub(crate) mod consumer_state;

use self::{acker::Acker, consumer_state::Holds};
use crate::{broker::wire::Repairs, job::header};

/// A message and its receipt. The receipt stays outside the code that works on the message, so a panic there neither
/// loses nor blocks it.
#[derive(Clone)]
pub struct Input {
    /// Settles the message.
    pub receipt: Receipt,
    /// The properties as they came, except for repairs.
    pub properties: BasicProperties,
    /// The parts of properties, exchange and routing key that are not as upstream wrote them.
    pub repairs: Repairs,
    /// The body as it came.
    pub body: Bytes,
    /// The exchange it was published to.
    pub exchange: ShortString,
    /// The key it was published with.
    pub routing_key: ShortString,
    /// Whether the broker has delivered it before.
    pub redelivered: bool,
}

impl Input {
    /// Splits a delivery into content and receipt.
    pub(crate) fn new(delivery: Delivery, repairs: Repairs, holds: Holds, acks: Acker) -> Input {
        acks.taken(delivery.delivery_tag);
        let held = Held { tag: delivery.delivery_tag, acker: delivery.acker, acks, holds };
        Input {
            receipt: Receipt(Arc::new(held)),
            properties: delivery.properties,
            repairs,
            body: Bytes::from(delivery.data),
            exchange: delivery.exchange,
            routing_key: delivery.routing_key,
            redelivered: delivery.redelivered,
        }
    }

    /// Returns how often the broker has delivered this message before (`x-delivery-count`, quorum queues only).
    pub fn delivery_count(&self) -> u64 {
        match self.header("x-delivery-count") {
            Some(AMQPValue::LongLongInt(count)) => u64::try_from(*count).unwrap_or_default(),
            Some(AMQPValue::LongInt(count)) => u64::try_from(*count).unwrap_or_default(),
            Some(AMQPValue::LongUInt(count)) => u64::from(*count),
            _ => 0,
        }
    }

    /// Returns all redeliveries since the last attempt. The broker's count restarts at 0 when a worker puts the message
    /// back.
    pub fn redeliveries(&self) -> u64 {
        self.delivery_count().saturating_add(self.count_of_ours(header::REDELIVERIES))
    }

    /// Returns how many child processes have died while they worked on this message alone.
    pub fn deaths(&self) -> u64 {
        self.count_of_ours(header::DEATHS)
    }

    /// Returns exchange and routing key with which upstream published it, even after a worker has put it back.
    pub fn origin(&self) -> (&str, &str) {
        let said = |name| text_header(&self.properties, name).ok().flatten();
        match (said(header::EXCHANGE), said(header::ROUTING_KEY)) {
            (Some(exchange), Some(routing_key)) if self.exchange.as_str().is_empty() => (exchange, routing_key),
            _ => (self.exchange.as_str(), self.routing_key.as_str()),
        }
    }

    /// Reads a count from one of Leadhook's headers. Ignores it unless the message came through the default exchange.
    /// Only workers publish there, so upstream cannot forge a count.
    fn count_of_ours(&self, name: &str) -> u64 {
        match self.header(name) {
            Some(AMQPValue::LongLongInt(count)) if self.exchange.as_str().is_empty() => {
                u64::try_from(*count).unwrap_or_default()
            }
            _ => 0,
        }
    }

    /// Returns a header as it came.
    pub fn header(&self, name: &str) -> Option<&AMQPValue> {
        self.properties.headers().as_ref()?.inner().get(name)
    }
}

/// Returns a header that is UTF-8 text, or `Err` if it exists and is something else.
pub fn text_header<'a>(properties: &'a BasicProperties, name: &str) -> Result<Option<&'a str>, NotText> {
    match properties.headers().as_ref().and_then(|headers| headers.inner().get(name)) {
        None | Some(AMQPValue::Void) => Ok(None),
        Some(AMQPValue::LongString(text)) => std::str::from_utf8(text.as_bytes()).map(Some).map_err(|_| NotText),
        Some(AMQPValue::ShortString(text)) => Ok(Some(text.as_str())),
        Some(_) => Err(NotText),
    }
}

/// A header that should be text and is not.
#[derive(Debug)]
pub struct NotText;

/// The right to settle one message. It is valid as long as the channel that delivered the message.
#[derive(Clone)]
pub struct Receipt(Arc<Held>);

struct Held {
    tag: u64,
    acker: lapin::Acker,
    acks: Acker,
    holds: Holds,
}

impl Receipt {
    /// Returns whether the channel still exists, as far as the worker knows. If not, the broker redelivers the message.
    pub fn is_good(&self) -> bool {
        !self.0.holds.state().is_abandoned() && self.0.acker.usable()
    }

    /// Acks at once, because each ack that is lost with a worker forks its job. Returns `false` if the channel is gone.
    pub fn ack(&self) -> bool {
        let good = self.is_good();
        if good {
            self.0.acks.ack(self.0.tag);
        }
        good
    }

    /// Gives the message back. If that fails, the channel is gone and the message returns by itself.
    pub fn give_back(&self) {
        self.0.acks.give_back(self.0.tag);
    }

    /// Gives back a message that could not be settled, and raises its delivery count.
    pub fn reject(&self) {
        self.0.acks.reject(self.0.tag);
    }
}
