//! Puts unusable messages on the rejected queue, whole.

use std::collections::BTreeMap;

use jiff::Timestamp;
use lapin::types::{AMQPValue, FieldTable, ShortString};

use super::message::Input;
use crate::{
    broker::publisher::Outgoing,
    job::{header, upstream},
    rejection::Rejection,
};

/// Returns the rejected message. Its body is untouched, reason and detail are headers, and one header holds all else
/// that upstream said.
pub fn message(
    rejected: &ShortString,
    source: &ShortString,
    input: &Input,
    rejection: &Rejection,
    now: Timestamp,
) -> Outgoing {
    let text = |value: &str| AMQPValue::LongString(value.into());
    let (exchange, routing_key) = input.origin();
    let mut headers = BTreeMap::from([
        (header::REASON.into(), text(rejection.reason.label())),
        (header::DETAIL.into(), text(&rejection.detail)),
        (header::REJECTED_AT.into(), AMQPValue::LongLongInt(now.as_millisecond())),
        (header::SOURCE.into(), text(source.as_str())),
        (header::EXCHANGE.into(), text(exchange)),
        (header::ROUTING_KEY.into(), text(routing_key)),
    ]);
    if let Some(all) = upstream::encode_rejected(&input.properties) {
        headers.insert(header::UPSTREAM.into(), text(&all));
    }
    Outgoing {
        exchange: ShortString::default(),
        routing_key: rejected.clone(),
        properties: upstream::inert(&input.properties).with_headers(FieldTable::from(headers)),
        body: input.body.clone(),
    }
}
