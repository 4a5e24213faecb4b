//! Defers jobs of a newer Leadhook on a long delay queue until a newer worker takes them: rolling upgrades mix
//! versions.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use lapin::types::{AMQPValue, FieldTable, ShortString};

use super::message::Input;
use crate::{
    broker::publisher::Outgoing,
    job::{header, upstream},
};

/// How long a newer worker may take to appear.
const PATIENCE: SignedDuration = SignedDuration::from_hours(24);

/// How long a deferred message waits before a worker looks at it again.
pub const WAIT: Duration = Duration::from_secs(600);

/// What to do with a message of a newer version.
pub enum Deferred {
    /// Put it back unchanged, except for the header that says since when it waits.
    Wait(Box<Outgoing>),
    /// No newer worker came.
    GiveUp,
}

/// Decides, and makes the message. `delay` is its delay queue.
pub fn defer(input: &Input, delay: &ShortString, now: Timestamp) -> Deferred {
    let since = match input.header(header::HELD_SINCE) {
        Some(AMQPValue::LongLongInt(ms)) => Timestamp::from_millisecond(*ms).unwrap_or(now),
        _ => now,
    };
    if now.duration_since(since) >= PATIENCE {
        return Deferred::GiveUp;
    }
    let mut headers = upstream::inert_headers(&input.properties);
    headers.insert(header::HELD_SINCE.into(), AMQPValue::LongLongInt(since.as_millisecond()));
    Deferred::Wait(Box::new(Outgoing {
        exchange: ShortString::default(),
        routing_key: delay.clone(),
        properties: upstream::inert(&input.properties).with_headers(FieldTable::from(headers)),
        body: input.body.clone(),
    }))
}
