//! One message taken from a queue of ours: what it says, and the receipt to settle it with.

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

/// A delivery, its receipt kept outside whatever works on it: a panic there neither loses nor holds the message.
#[derive(Clone)]
pub struct Input {
    /// Settles the message.
    pub receipt: Receipt,
    /// As they came, but for what was repaired.
    pub properties: BasicProperties,
    /// What of them, and of exchange and routing key, is not as upstream wrote it.
    pub repairs: Repairs,
    /// As it came.
    pub body: Bytes,
    /// The exchange it was published to.
    pub exchange: ShortString,
    /// The key it was published with.
    pub routing_key: ShortString,
    /// The broker gave it to someone before.
    pub redelivered: bool,
}

impl Input {
    /// Takes a delivery apart.
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

    /// How often the broker has given this message out before (`x-delivery-count`, quorum queues only).
    pub fn delivery_count(&self) -> u64 {
        match self.header("x-delivery-count") {
            Some(AMQPValue::LongLongInt(count)) => u64::try_from(*count).unwrap_or_default(),
            Some(AMQPValue::LongInt(count)) => u64::try_from(*count).unwrap_or_default(),
            Some(AMQPValue::LongUInt(count)) => u64::from(*count),
            _ => 0,
        }
    }

    /// All redeliveries since the last attempt: the broker counts from 0 again when a worker puts the message back.
    pub fn redeliveries(&self) -> u64 {
        self.delivery_count().saturating_add(self.count_of_ours(header::REDELIVERIES))
    }

    /// How many child processes have died while they worked on this message alone.
    pub fn deaths(&self) -> u64 {
        self.count_of_ours(header::DEATHS)
    }

    /// Exchange and routing key with which upstream published it, also after a worker has put it back.
    pub fn origin(&self) -> (&str, &str) {
        let said = |name| text_header(&self.properties, name).ok().flatten();
        match (said(header::EXCHANGE), said(header::ROUTING_KEY)) {
            (Some(exchange), Some(routing_key)) if self.exchange.as_str().is_empty() => (exchange, routing_key),
            _ => (self.exchange.as_str(), self.routing_key.as_str()),
        }
    }

    /// A count in a header of Leadhook. Only a worker publishes to a queue without an exchange: upstream cannot forge
    /// it elsewhere.
    fn count_of_ours(&self, name: &str) -> u64 {
        match self.header(name) {
            Some(AMQPValue::LongLongInt(count)) if self.exchange.as_str().is_empty() => {
                u64::try_from(*count).unwrap_or_default()
            }
            _ => 0,
        }
    }

    /// A header as it came.
    pub fn header(&self, name: &str) -> Option<&AMQPValue> {
        self.properties.headers().as_ref()?.inner().get(name)
    }
}

/// A header that is UTF-8 text; `Err` when it is there but is something else.
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

/// The right to settle one message, good as long as the channel that delivered it.
#[derive(Clone)]
pub struct Receipt(Arc<Held>);

struct Held {
    tag: u64,
    acker: lapin::Acker,
    acks: Acker,
    holds: Holds,
}

impl Receipt {
    /// Whether the channel is still there, as far as anybody knows. If not, the broker gives the message out again.
    pub fn is_good(&self) -> bool {
        !self.0.holds.state().is_abandoned() && self.0.acker.usable()
    }

    /// Acks at once: each ack that is lost with a worker forks its job. `false` when the channel is gone.
    pub fn ack(&self) -> bool {
        let good = self.is_good();
        if good {
            self.0.acks.ack(self.0.tag);
        }
        good
    }

    /// Gives the message back. Where it fails the channel is gone, and the message goes back by itself.
    pub fn give_back(&self) {
        self.0.acks.give_back(self.0.tag);
    }

    /// The same for a message that could not be settled: its delivery count rises.
    pub fn reject(&self) {
        self.0.acks.reject(self.0.tag);
    }
}
