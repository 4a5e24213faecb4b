//! Confirmed publishing. Interface: see below; the actor behind it is being written.

use bytes::Bytes;
use lapin::{BasicProperties, types::ShortString};

/// One message to publish: always mandatory, always confirmed.
#[derive(Clone, Debug)]
pub struct Outgoing {
    /// Exchange, `""` for our own queues.
    pub exchange: ShortString,
    /// Routing key; the queue's name for our own queues.
    pub routing_key: ShortString,
    /// Properties, `delivery_mode` 2 included.
    pub properties: BasicProperties,
    /// Body, byte for byte.
    pub body: Bytes,
}

/// Why a publish is *not done*. None of these says that the message did not arrive, only that nobody may rely on it.
#[derive(Clone, Debug, thiserror::Error)]
pub enum PublishError {
    /// No queue behind exchange and key.
    #[error("returned by the broker as unroutable ({code} {text})")]
    Returned {
        /// AMQP reply code, 312 for no route.
        code: u16,
        /// The broker's words.
        text: String,
    },
    /// The broker refused it (queue at its limit, or its leader away).
    #[error("refused by the broker (nack)")]
    Nacked,
    /// No confirm in time.
    #[error("not confirmed in time")]
    TimedOut,
    /// Channel or connection lost, or there is none.
    #[error("connection to the broker lost: {0}")]
    Lost(String),
}

/// A handle to the confirmed publisher; cheap to clone.
#[derive(Clone)]
pub struct Publisher {
    _private: (),
}

impl Publisher {
    /// Publishes once and waits for the confirm.
    ///
    /// # Errors
    /// Any [`PublishError`] means *not done*.
    pub async fn publish(&self, _message: Outgoing) -> Result<(), PublishError> {
        Ok(())
    }
}
