//! One message taken from a queue of ours: what it says, and the receipt to settle it with.

use std::{sync::Arc, time::Duration};

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

/// How often is looked whether the channel is still there, while an ack is on its way to the socket.
const LOOK_EVERY: Duration = Duration::from_millis(500);

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
        self.is_good() && self.sent(self.acker.ack(BasicAckOptions::default())).await
    }

    /// Gives the message back. Where it fails the channel is gone, and the message goes back by itself.
    pub async fn give_back(&self) {
        let options = BasicNackOptions { requeue: true, ..BasicNackOptions::default() };
        self.sent(self.acker.nack(options)).await;
    }

    /// Waits until it is sent, or the channel is gone. lapin (4.12) forgets what was to be sent when the connection is lost in
    /// that moment, and whoever waits for it would wait for ever, and so would a stop (found by `make soak SEED=3`).
    async fn sent(&self, sending: impl Future<Output = lapin::Result<bool>>) -> bool {
        let mut sending = std::pin::pin!(sending);
        loop {
            match tokio::time::timeout(LOOK_EVERY, &mut sending).await {
                Ok(sent) => return sent.unwrap_or(false),
                Err(_) if !self.is_good() => {
                    tracing::debug!("an ack was never sent, its channel is gone");
                    return false;
                }
                Err(_) => {}
            }
        }
    }
}
