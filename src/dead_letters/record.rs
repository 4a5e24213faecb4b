//! A decoded message of the failed queue: the job, why it rests there, and since when.

use aws_lc_rs::digest;
use bytes::Bytes;
use jiff::Timestamp;
use lapin::{
    BasicProperties,
    types::{AMQPValue, FieldTable, ShortString},
};

use super::given_ids::SHORTEST;
use crate::{
    broker::wire::Repairs,
    delivery::reason::{FailReason, Owner},
    job::{Job, Malformed, header},
    rejection::RejectReason,
};

/// A message of the failed queue.
#[derive(Clone, Debug, PartialEq)]
pub struct Record {
    /// The job, or a description of a message that is not a job.
    pub content: Result<Job, Unreadable>,
    /// Why it rests on the queue.
    pub reason: Reason,
    /// More about the reason, in the worker's words. It holds no lead data.
    pub detail: Option<String>,
    /// When it came to the queue, if known.
    pub failed_at: Option<Timestamp>,
    /// How often the broker has delivered it before.
    pub deliveries: u64,
}

/// A message that this version cannot read as a job. It stays on the queue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unreadable {
    /// Why it cannot be read. It names headers, never values.
    pub problem: String,
    /// The property `message_id`, if any.
    pub message_id: Option<String>,
    /// Tells it from other messages: a digest of its `message_id` and body, in hexadecimal.
    pub digest: String,
    /// The id that people use: its `message_id`, or `raw_` and part of the digest if that is missing or too short.
    pub id: String,
    /// The property `type`, if any.
    pub kind: Option<String>,
    /// Length of the body in bytes.
    pub bytes: usize,
}

/// Why a message rests on the failed queue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reason {
    /// One of our reasons, written by a worker or derived from the broker's headers.
    Known(FailReason),
    /// The message rests on the rejected queue, for this reason.
    Rejected(RejectReason),
    /// A reason that a newer Leadhook wrote.
    Newer(String),
    /// The broker put it here by itself, for a reason other than its delivery limit.
    DeadLettered,
    /// The message gives no reason, because a person put it here by hand.
    Unsaid,
}

/// The label of [`Reason::DeadLettered`].
pub(super) const DEAD_LETTERED: &str = "dead_lettered";
/// The label of [`Reason::Unsaid`].
pub(super) const UNSAID: &str = "unknown";

/// Reasons of messages that the broker moved by itself, or that give no reason.
pub const REASONS_OF_THE_BROKER: [&str; 3] = ["delivery_limit", DEAD_LETTERED, UNSAID];

impl Reason {
    /// Returns the word in tables, JSON and filters.
    pub fn label(&self) -> &str {
        match self {
            Reason::Known(reason) => reason.label(),
            Reason::Rejected(reason) => reason.label(),
            Reason::Newer(label) => label,
            Reason::DeadLettered => DEAD_LETTERED,
            Reason::Unsaid => UNSAID,
        }
    }

    /// Returns the party that can act on it first.
    pub fn owner(&self) -> Owner {
        match self {
            Reason::Known(reason) => reason.owner(),
            Reason::Rejected(_) | Reason::Newer(_) | Reason::DeadLettered | Reason::Unsaid => Owner::Us,
        }
    }

    /// Returns one or two sentences for support: what happened and what to do.
    pub fn meaning(&self) -> &'static str {
        match self {
            Reason::Known(reason) => reason.meaning(),
            Reason::Rejected(reason) => reason.meaning(),
            Reason::Newer(_) => "A newer leadhook wrote this reason; ask that version what it means.",
            Reason::DeadLettered => "The broker moved it here by itself; have the engineers find out why, then replay.",
            Reason::Unsaid => {
                "The message does not say why it is here. Have the engineers find out where it came from, then replay \
                 it."
            }
        }
    }
}

impl Record {
    /// Decodes a message of the failed queue.
    pub fn read(properties: &BasicProperties, body: Bytes) -> Record {
        let empty = FieldTable::default();
        let headers = properties.headers().as_ref().unwrap_or(&empty);
        let death = Death::latest(headers);
        let said = text(headers, header::REASON);
        let rejected_at = millis(headers, header::REJECTED_AT);
        let rejected = said.as_deref().filter(|_| rejected_at.is_some()).and_then(RejectReason::parse);
        let reason = match (&said, &death) {
            _ if rejected.is_some() => rejected.map_or(Reason::Unsaid, Reason::Rejected),
            (Some(label), _) if label == Reason::DeadLettered.label() => Reason::DeadLettered,
            (Some(label), _) => FailReason::parse(label).map_or_else(|| Reason::Newer(label.clone()), Reason::Known),
            (None, Some(death)) if death.reason == "delivery_limit" => Reason::Known(FailReason::DeliveryLimit),
            (None, Some(_)) => Reason::DeadLettered,
            (None, None) => Reason::Unsaid,
        };
        let died = || death.as_ref().filter(|_| said.is_none());
        let detail = text(headers, header::DETAIL).or_else(|| died().map(Death::detail));
        let failed_at =
            millis(headers, header::FAILED_AT).or(rejected_at).or_else(|| died().and_then(|death| death.at));
        let bytes = body.len();
        let message_id = properties.message_id().as_ref().map(ShortString::to_string);
        let digest = |body: &[u8]| digest(message_id.as_deref().unwrap_or_default(), body);
        let content = Job::decode(properties, body.clone()).map_err(|malformed| (malformed, digest(&body)));
        let content = content.map_err(|(malformed, digest)| Unreadable {
            problem: match malformed {
                Malformed::Newer(_) => format!("{malformed}: look at it with a newer leadhook"),
                Malformed::Broken(_) => malformed.to_string(),
            },
            // A selection refuses an id that is too short, so the message could not be selected.
            id: message_id
                .clone()
                .filter(|id| id.chars().count() >= SHORTEST)
                .unwrap_or_else(|| format!("raw_{}", digest.get(..20).unwrap_or(&digest))),
            digest,
            message_id: message_id.clone(),
            kind: properties.kind().as_ref().map(ShortString::to_string),
            bytes,
        });
        Record { content, reason, detail, failed_at, deliveries: deliveries(headers) }
    }

    /// Adds to the detail that the properties were sanitized, if they were.
    pub(super) fn repaired(mut self, repairs: Repairs) -> Record {
        if !repairs.is_empty() {
            let detail = self.detail.get_or_insert_default();
            let separator = if detail.is_empty() { "" } else { "; " };
            *detail += &format!("{separator}shown with sanitized properties: {}", repairs.words());
        }
        self
    }

    /// Returns the id that people use: the `webhook-id` of a job, else the property `message_id`, else `raw_` and part
    /// of a digest.
    pub fn key(&self) -> &str {
        match &self.content {
            Ok(job) => &job.webhook_id,
            Err(unreadable) => &unreadable.id,
        }
    }
}

/// The broker's note about how it dead-lettered a message. Up to RabbitMQ 3.13 any publisher could forge it, so
/// Leadhook shows it and never acts on it.
#[derive(Debug, PartialEq, Eq)]
struct Death {
    reason: String,
    queue: Option<String>,
    at: Option<Timestamp>,
}

impl Death {
    /// Returns the latest death, which is the first entry of `x-death`. Without `x-death`, it reads `x-last-death-*`
    /// (since 4.0) or `x-first-death-*`. The latter names the first retry of a job on the delay ladder, so it comes
    /// last.
    fn latest(headers: &FieldTable) -> Option<Death> {
        let entry = match headers.inner().get("x-death") {
            Some(AMQPValue::FieldArray(deaths)) => deaths.as_slice().first(),
            _ => None,
        };
        if let Some(AMQPValue::FieldTable(entry)) = entry
            && let Some(reason) = text(entry, "reason")
        {
            let at = match entry.inner().get("time") {
                Some(AMQPValue::Timestamp(seconds)) => i64::try_from(*seconds).ok(),
                _ => None,
            };
            let at = at.and_then(|seconds| Timestamp::from_second(seconds).ok());
            return Some(Death { reason, queue: text(entry, "queue"), at });
        }
        ["last", "first"].iter().find_map(|which| {
            let reason = text(headers, &format!("x-{which}-death-reason"))?;
            Some(Death { reason, queue: text(headers, &format!("x-{which}-death-queue")), at: None })
        })
    }

    fn detail(&self) -> String {
        let from = self.queue.as_deref().map(|queue| format!(" from {queue}")).unwrap_or_default();
        format!("dead-lettered by the broker{from}: {}", self.reason)
    }
}

fn digest(id: &str, body: &[u8]) -> String {
    let mut context = digest::Context::new(&digest::SHA256);
    context.update(&id.len().to_be_bytes());
    context.update(id.as_bytes());
    context.update(body);
    context.finish().as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

pub(super) fn text(headers: &FieldTable, name: &str) -> Option<String> {
    match headers.inner().get(name)? {
        AMQPValue::LongString(text) => String::from_utf8(text.as_bytes().to_vec()).ok(),
        AMQPValue::ShortString(text) => Some(text.to_string()),
        _ => None,
    }
}

fn millis(headers: &FieldTable, name: &str) -> Option<Timestamp> {
    match headers.inner().get(name)? {
        AMQPValue::LongLongInt(millis) => Timestamp::from_millisecond(*millis).ok(),
        _ => None,
    }
}

fn deliveries(headers: &FieldTable) -> u64 {
    match headers.inner().get("x-delivery-count") {
        Some(AMQPValue::LongLongInt(count)) => u64::try_from(*count).unwrap_or_default(),
        Some(AMQPValue::LongInt(count)) => u64::try_from(*count).unwrap_or_default(),
        Some(AMQPValue::LongUInt(count)) => u64::from(*count),
        _ => 0,
    }
}

#[cfg(test)]
pub(crate) mod tests;
