//! One message that a visit holds.

use bytes::Bytes;
use lapin::{Acker, BasicProperties, message::Delivery, options::BasicAckOptions};

use super::record::Record;
use crate::broker::wire::Repairs;

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
    /// `repairs` says what of its properties is not as it lies on the queue.
    pub(super) fn new(delivery: Delivery, repairs: Repairs) -> Held {
        let body = Bytes::from(delivery.data);
        let record = Record::read(&delivery.properties, body.clone()).repaired(repairs);
        Held { record, properties: delivery.properties, body, receipt: delivery.acker }
    }

    /// What tells this message from all others, later ones of the same content too: the id of the copy; of what is no job a
    /// digest of its id and its body with the time at which it came to rest. An event that is rejected again has the same
    /// content. None where nothing tells it apart: then nobody may take another message for it.
    pub fn identity(&self) -> Option<String> {
        match &self.record.content {
            Ok(job) => Some(job.copy.clone()),
            Err(unreadable) => {
                let at = self.record.failed_at?.as_millisecond();
                Some(format!("{}@{at}", unreadable.digest))
            }
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
