//! Recognizes which publish a returned message belongs to.

use std::{collections::BTreeMap, time::Instant};

use bytes::Bytes;
use lapin::{Confirmation, types::ShortString};
use tokio::sync::oneshot;

use super::{Outgoing, PublishError};

/// One message that waits for its confirm.
pub(super) struct Pending {
    pub(super) identity: Identity,
    pub(super) reply: oneshot::Sender<Result<(), PublishError>>,
    pub(super) since: Instant,
}

/// The parts that identify a returned message among those under way. The broker returns them as they were sent.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Identity {
    pub(super) exchange: ShortString,
    pub(super) routing_key: ShortString,
    pub(super) message_id: Option<ShortString>,
    pub(super) body: Bytes,
}

impl Identity {
    pub(super) fn of(message: &Outgoing) -> Identity {
        Identity {
            exchange: message.exchange.clone(),
            routing_key: message.routing_key.clone(),
            message_id: message.properties.message_id().clone(),
            body: message.body.clone(),
        }
    }

    /// Returns the messages under way that may be this one: those that match in every part, else those with its
    /// address.
    pub(super) fn among(&self, under_way: &BTreeMap<u64, Pending>) -> Vec<u64> {
        let those = |fits: &dyn Fn(&Identity) -> bool| -> Vec<u64> {
            under_way.iter().filter(|(_, pending)| fits(&pending.identity)).map(|(seq, _)| *seq).collect()
        };
        let same = those(&|other| self == other);
        match same.is_empty() {
            true => those(&|other| (&self.exchange, &self.routing_key) == (&other.exchange, &other.routing_key)),
            false => same,
        }
    }
}

/// A returned message, and the reason.
pub(super) struct Return {
    pub(super) identity: Identity,
    pub(super) code: u16,
    pub(super) text: String,
}

impl Return {
    /// Returns the message that a confirm carries: its own or another one.
    pub(super) fn carried(by: &Confirmation) -> Option<Return> {
        let message = match by {
            Confirmation::Ack(message) | Confirmation::Nack(message) => message.as_ref()?,
            Confirmation::NotRequested => return None,
        };
        let identity = Identity {
            exchange: message.delivery.exchange.clone(),
            routing_key: message.delivery.routing_key.clone(),
            message_id: message.delivery.properties.message_id().clone(),
            body: Bytes::copy_from_slice(&message.delivery.data),
        };
        Some(Return { identity, code: message.reply_code, text: message.reply_text.to_string() })
    }

    pub(super) fn error(&self) -> PublishError {
        PublishError::Returned { code: self.code, text: self.text.clone() }
    }
}
