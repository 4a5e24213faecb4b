//! Confirmed publishing. Interface: see below; the actor behind it is being written.

use std::sync::Arc;

use bytes::Bytes;
use lapin::{BasicProperties, types::ShortString};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::{metrics::Metrics, settings};

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
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
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
    /// Something else was returned at that moment, and it cannot be told whether this was too.
    #[error("not certain: the broker returned a message while this one was under way")]
    Unclear,
    /// The broker closed the channel: no such exchange (404), no permission (403).
    #[error("the broker closed the channel ({code} {text})")]
    ChannelClosed {
        /// AMQP reply code.
        code: u16,
        /// The broker's words.
        text: String,
    },
    /// Channel or connection lost, or there is none.
    #[error("connection to the broker lost: {0}")]
    Lost(String),
}

impl PublishError {
    /// Metric label.
    pub fn label(&self) -> &'static str {
        match self {
            PublishError::Returned { .. } => "returned",
            PublishError::Nacked => "nacked",
            PublishError::TimedOut => "timed_out",
            PublishError::Unclear => "unclear",
            PublishError::ChannelClosed { .. } => "channel_closed",
            PublishError::Lost(_) => "lost",
        }
    }
}

/// Whether publishing is possible right now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Link {
    /// Not connected yet, or no longer; with the last error.
    Lost(String),
    /// The broker has blocked the connection (memory or disk alarm); with its reason.
    Blocked(String),
    /// Publishing works.
    Ready,
}

/// A handle to the confirmed publisher; cheap to clone.
#[derive(Clone)]
pub struct Publisher {
    link: watch::Receiver<Link>,
}

impl Publisher {
    /// Starts the task behind the handle.
    pub fn start(
        _amqp: &settings::Amqp,
        _role: &'static str,
        _metrics: Option<Arc<Metrics>>,
        _shutdown: CancellationToken,
    ) -> Publisher {
        Publisher { link: watch::channel(Link::Lost("not connected yet".into())).1 }
    }

    /// Publishes once and waits for the confirm.
    ///
    /// # Errors
    /// Any [`PublishError`] means *not done*.
    pub async fn publish(&self, _message: Outgoing) -> Result<(), PublishError> {
        Err(PublishError::Lost("to be written".into()))
    }

    /// Whether publishing is possible, and its changes.
    pub fn link(&self) -> watch::Receiver<Link> {
        self.link.clone()
    }

    /// Stops.
    pub async fn close(&self) {}
}
