//! One message that a visit holds.

use bytes::Bytes;
use lapin::{Acker, BasicProperties, message::Delivery, options::BasicAckOptions};

use super::record::Record;

/// A message that is held.
pub struct Held {
    /// What it says.
    pub record: Record,
    /// As they came.
    pub properties: BasicProperties,
    /// As it came.
    pub body: Bytes,
    receipt: Acker,
}

impl Held {
    pub(super) fn new(delivery: Delivery) -> Held {
        let body = Bytes::from(delivery.data);
        let record = Record::read(&delivery.properties, body.clone());
        Held { record, properties: delivery.properties, body, receipt: delivery.acker }
    }

    /// What tells this message from all others: the id of the copy, or of what is no job a digest of its id and its body.
    pub fn identity(&self) -> String {
        match &self.record.content {
            Ok(job) => job.copy.clone(),
            Err(unreadable) => unreadable.digest.clone(),
        }
    }

    /// Whether it is held still: not when its channel was closed, and the message is back on the queue.
    pub fn is_held(&self) -> bool {
        self.receipt.usable()
    }

    /// Removes the message from the queue. `false` when the channel is gone, and the message back on the queue. `true` says
    /// that the ack was sent: AMQP knows no answer to it, and the broker may forget acks that it had not worked off when the
    /// channel closes.
    pub async fn remove(&self) -> bool {
        self.receipt.ack(BasicAckOptions::default()).await.unwrap_or(false)
    }
}
