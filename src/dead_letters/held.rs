//! One message that a browse holds.

use bytes::Bytes;
use lapin::{Acker, BasicProperties, message::Delivery, options::BasicAckOptions};

use super::record::Record;
use crate::broker::wire::Repairs;

/// A message that was taken from the queue and can be removed or given back.
pub struct Held {
    /// The decoded message.
    pub record: Record,
    /// Its properties, as the AMQP client read them.
    pub properties: BasicProperties,
    /// Its body.
    pub body: Bytes,
    receipt: Acker,
}

impl Held {
    /// Decodes a delivery. `repairs` names the properties that differ from those on the queue.
    pub(super) fn new(delivery: Delivery, repairs: Repairs) -> Held {
        let body = Bytes::from(delivery.data);
        let record = Record::read(&delivery.properties, body.clone()).repaired(repairs);
        Held { record, properties: delivery.properties, body, receipt: delivery.acker }
    }

    /// Returns a text that tells this message from all others, including later ones with the same content. For a job,
    /// it is the id of the copy. For another message, it is a digest of its id and body, and the time at which it came
    /// to the queue. The time is needed because an event that is rejected again has the same content. If it is `None`,
    /// no other message may be taken for this one.
    pub fn identity(&self) -> Option<String> {
        match &self.record.content {
            Ok(job) => Some(job.copy.clone()),
            Err(unreadable) => {
                let at = self.record.failed_at?.as_millisecond();
                Some(format!("{}@{at}", unreadable.digest))
            }
        }
    }

    /// Returns whether the message is still held. Once its channel is closed, it is back on the queue.
    pub fn is_held(&self) -> bool {
        self.receipt.usable()
    }

    /// Removes the message from the queue. Returns `false` if the channel is gone and the message is back on the queue.
    /// `true` only means that the ack was sent. AMQP does not answer acks, and the broker may forget acks that it has
    /// not processed when the channel closes.
    pub async fn remove(&self) -> bool {
        self.receipt.ack(BasicAckOptions::default()).await.unwrap_or(false)
    }
}
