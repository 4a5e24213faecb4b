//! One message taken from a queue of ours: what it says, and the receipt to settle it with.

use std::sync::Arc;

use bytes::Bytes;
use lapin::{
    Acker, BasicProperties,
    message::Delivery,
    options::{BasicAckOptions, BasicNackOptions},
    types::{AMQPValue, ShortString},
};

use super::pulse::Holds;

/// A delivery, its receipt kept outside whatever works on it: a panic there neither loses nor holds the message.
pub struct Input {
    /// Settles the message.
    pub receipt: Receipt,
    /// As they came.
    pub properties: BasicProperties,
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
    pub fn new(delivery: Delivery, holds: Holds) -> Input {
        Input {
            receipt: Receipt { acker: delivery.acker, holds: Arc::new(holds) },
            properties: delivery.properties,
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

    /// A header as it came.
    pub fn header(&self, name: &str) -> Option<&AMQPValue> {
        self.properties.headers().as_ref()?.inner().get(name)
    }

    /// A header that is UTF-8 text; `Err` when it is there but is something else.
    pub fn text_header(&self, name: &str) -> Result<Option<&str>, NotText> {
        match self.header(name) {
            None | Some(AMQPValue::Void) => Ok(None),
            Some(AMQPValue::LongString(text)) => std::str::from_utf8(text.as_bytes()).map(Some).map_err(|_| NotText),
            Some(AMQPValue::ShortString(text)) => Ok(Some(text.as_str())),
            Some(_) => Err(NotText),
        }
    }
}

/// A header that should be text and is not.
#[derive(Debug)]
pub struct NotText;

/// The right to settle one message, good as long as the channel that delivered it.
#[derive(Clone)]
pub struct Receipt {
    acker: Acker,
    holds: Arc<Holds>,
}

impl Receipt {
    /// Whether the channel is still there, as far as anybody knows. If not, the broker gives the message out again.
    pub fn is_good(&self) -> bool {
        !self.holds.ward().is_abandoned() && self.acker.usable()
    }

    /// Acks at once, unbatched: each ack that is lost with a worker forks its job. `false` when the channel is gone.
    pub async fn ack(&self) -> bool {
        self.is_good() && self.acker.ack(BasicAckOptions::default()).await.unwrap_or(false)
    }

    /// Gives the message back.
    pub async fn give_back(&self) {
        // Where it fails the channel is gone, and the message goes back by itself.
        let _ = self.acker.nack(BasicNackOptions { requeue: true, ..BasicNackOptions::default() }).await;
    }
}
