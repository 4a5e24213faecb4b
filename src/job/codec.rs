//! Encodes jobs as messages, and decodes them. The body is the event's own bytes, and our own fields are headers.

use std::time::Duration;

use bytes::Bytes;
use jiff::Timestamp;
use lapin::{
    BasicProperties,
    types::{AMQPValue, FieldTable, ShortString},
};

use super::{
    history::History,
    id::fresh_copy,
    state::{Job, VERSION},
};
use crate::{
    broker::publisher::Outgoing, delivery::reason::FailReason, event::EventKind, limits::Turn, store::TargetKey,
};

/// The names of our headers.
pub mod header {
    /// Version of the message format, an integer.
    pub const VERSION: &str = "leadhook-version";
    /// Organization that the event was resolved for.
    pub const ORGANIZATION: &str = "leadhook-organization";
    /// The event's campaign.
    pub const CAMPAIGN: &str = "leadhook-campaign";
    /// Target key.
    pub const TARGET: &str = "leadhook-target";
    /// The event's `leadId`, for the delivery log.
    pub const LEAD: &str = "leadhook-lead";
    /// Number of attempts.
    pub const ATTEMPT: &str = "leadhook-attempts";
    /// Number of deferrals since the last attempt.
    pub const DEFERRALS: &str = "leadhook-deferrals";
    /// Set if it was deferred until its turn: 1 until it is among the oldest, 2 until its token is there.
    pub const TURN: &str = "leadhook-turn";
    /// Total time of its deferrals, in milliseconds.
    pub const WAITED: &str = "leadhook-waited";
    /// Redeliveries since the last attempt, counted until it was last published again.
    pub const REDELIVERIES: &str = "leadhook-redeliveries";
    /// Child processes that died while they worked on this message alone, since the last attempt.
    pub const DEATHS: &str = "leadhook-deaths";
    /// Number of replays.
    pub const REPLAYS: &str = "leadhook-replays";
    /// When it was last replayed, milliseconds since 1970.
    pub const REPLAYED_AT: &str = "leadhook-replayed-at";
    /// When the event happened, milliseconds since 1970.
    pub const EVENT_TIME: &str = "leadhook-event-time";
    /// When a worker first saw the event, milliseconds since 1970.
    pub const FIRST_SEEN: &str = "leadhook-first-seen";
    /// When the next attempt was originally due, milliseconds since 1970.
    pub const DUE: &str = "leadhook-due";
    /// Rest of a wait that is longer than the longest delay queue's, in milliseconds.
    pub const REMAINING: &str = "leadhook-remaining";
    /// Since when the target has been unknown or disabled, milliseconds since 1970.
    pub const UNKNOWN_SINCE: &str = "leadhook-unknown-since";
    /// JSON array of [`super::super::HistoryEntry`].
    pub const HISTORY: &str = "leadhook-history";
    /// Id of this copy.
    pub const COPY: &str = "leadhook-copy";
    /// JSON object of the other upstream properties and headers.
    pub const UPSTREAM: &str = "leadhook-upstream";
    /// Why it rests on the failed or rejected queue.
    pub const REASON: &str = "leadhook-reason";
    /// More about the reason.
    pub const DETAIL: &str = "leadhook-detail";
    /// When it was put on the failed queue, milliseconds since 1970.
    pub const FAILED_AT: &str = "leadhook-failed-at";
    /// When a message was rejected, milliseconds since 1970.
    pub const REJECTED_AT: &str = "leadhook-rejected-at";
    /// The queue that a rejected message was taken from.
    pub const SOURCE: &str = "leadhook-source";
    /// The exchange that a rejected message was published to.
    pub const EXCHANGE: &str = "leadhook-exchange";
    /// The routing key that a rejected message was published with.
    pub const ROUTING_KEY: &str = "leadhook-routing-key";
    /// Since when a message has waited for a newer worker, milliseconds since 1970.
    pub const HELD_SINCE: &str = "leadhook-held-since";
    /// W3C trace context, as upstream wrote it.
    pub const TRACEPARENT: &str = "traceparent";
}

/// Why a message on the jobs queue cannot be read as a job. Names headers, never values.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// A newer Leadhook wrote it, so it waits for a newer worker.
    #[error("message version {0} is newer than {VERSION}")]
    Newer(i64),
    /// Leadhook did not write it.
    #[error("{0}")]
    Broken(String),
}

impl Job {
    /// Returns the message that puts this job on one of our queues, as a new copy.
    pub fn to_message(&self, queue: &ShortString) -> Outgoing {
        Outgoing {
            exchange: ShortString::default(),
            routing_key: queue.clone(),
            properties: self.properties().with_headers(FieldTable::from(self.headers())),
            body: self.body.clone(),
        }
    }

    /// Returns the message that puts this job on the failed queue.
    pub fn to_failed(&self, queue: &ShortString, reason: FailReason, detail: &str, now: Timestamp) -> Outgoing {
        let mut headers = self.headers();
        insert(&mut headers, header::REASON, text(reason.label()));
        insert(&mut headers, header::DETAIL, text(detail));
        insert(&mut headers, header::FAILED_AT, millis(now));
        let mut message = self.to_message(queue);
        message.properties = self.properties().with_headers(FieldTable::from(headers));
        message
    }

    /// Reads a job from a message.
    ///
    /// # Errors
    /// [`Malformed`] if this version cannot read it.
    pub fn decode(properties: &BasicProperties, body: Bytes) -> Result<Job, Malformed> {
        let empty = FieldTable::default();
        let read = Reader(properties.headers().as_ref().unwrap_or(&empty));
        match read.integer(header::VERSION)? {
            Some(VERSION) => {}
            Some(newer) if newer > VERSION => return Err(Malformed::Newer(newer)),
            _ => return Err(Malformed::Broken(format!("header {} is missing or malformed", header::VERSION))),
        }
        let webhook_id = properties.message_id().as_ref().map(ShortString::to_string).filter(|id| is_webhook_id(id));
        let kind = properties.kind().as_ref().and_then(|kind| EventKind::parse(kind.as_str()));
        let target = read.string(header::TARGET)?.as_deref().and_then(TargetKey::parse);
        Ok(Job {
            webhook_id: webhook_id
                .ok_or_else(|| Malformed::Broken("property message_id is not a webhook-id".into()))?,
            kind: kind.ok_or_else(|| Malformed::Broken("property type is not a known event".into()))?,
            lead: read.string(header::LEAD)?,
            submission: properties.correlation_id().as_ref().map(ShortString::to_string),
            organization: required(read.string(header::ORGANIZATION)?, header::ORGANIZATION)?,
            campaign: required(read.string(header::CAMPAIGN)?, header::CAMPAIGN)?,
            target: required(target, header::TARGET)?,
            event_time: read.time(header::EVENT_TIME)?,
            first_seen: required(read.time(header::FIRST_SEEN)?, header::FIRST_SEEN)?,
            attempt: required(read.count(header::ATTEMPT)?, header::ATTEMPT)?,
            deferrals: read.count(header::DEFERRALS)?.unwrap_or_default(),
            turn: read.count(header::TURN)?.map_or(Turn::None, turn_of),
            waited: read.duration(header::WAITED)?.unwrap_or_default(),
            redeliveries: read.count(header::REDELIVERIES)?.unwrap_or_default(),
            deaths: read.count(header::DEATHS)?.unwrap_or_default(),
            replays: read.count(header::REPLAYS)?.unwrap_or_default(),
            replayed_at: read.time(header::REPLAYED_AT)?,
            due: read.time(header::DUE)?,
            remaining: read.duration(header::REMAINING)?,
            unknown_since: read.time(header::UNKNOWN_SINCE)?,
            traceparent: read.string(header::TRACEPARENT)?,
            upstream: read.string(header::UPSTREAM)?,
            history: read.history()?,
            copy: required(read.string(header::COPY)?, header::COPY)?,
            body,
        })
    }

    fn properties(&self) -> BasicProperties {
        let mut properties = BasicProperties::default()
            .with_delivery_mode(2)
            .with_content_type("application/json".into())
            .with_message_id(self.webhook_id.as_str().into())
            .with_type(self.kind.name().into())
            .with_app_id("leadhook".into());
        if let Some(seconds) = self.event_time.and_then(|time| u64::try_from(time.as_second()).ok()) {
            properties = properties.with_timestamp(seconds);
        }
        if let Some(id) = self.submission.as_deref().and_then(|id| ShortString::try_new(id).ok()) {
            properties = properties.with_correlation_id(id);
        }
        properties
    }

    fn headers(&self) -> Headers {
        let mut all = Headers::new();
        insert(&mut all, header::VERSION, AMQPValue::LongLongInt(VERSION));
        insert(&mut all, header::ORGANIZATION, text(&self.organization));
        insert(&mut all, header::CAMPAIGN, text(&self.campaign));
        insert(&mut all, header::TARGET, text(self.target.as_str()));
        insert(&mut all, header::FIRST_SEEN, millis(self.first_seen));
        insert(&mut all, header::ATTEMPT, AMQPValue::LongLongInt(self.attempt.into()));
        insert(&mut all, header::COPY, text(&fresh_copy()));
        let optional = [
            (header::LEAD, self.lead.as_deref().map(text)),
            (header::EVENT_TIME, self.event_time.map(millis)),
            (header::DEFERRALS, (self.deferrals > 0).then(|| AMQPValue::LongLongInt(self.deferrals.into()))),
            (header::TURN, (self.turn != Turn::None).then_some(AMQPValue::LongLongInt(self.turn as i64))),
            (header::WAITED, (!self.waited.is_zero()).then(|| duration(self.waited))),
            (header::REDELIVERIES, (self.redeliveries > 0).then(|| AMQPValue::LongLongInt(self.redeliveries.into()))),
            (header::DEATHS, (self.deaths > 0).then(|| AMQPValue::LongLongInt(self.deaths.into()))),
            (header::REPLAYED_AT, self.replayed_at.map(millis)),
            (header::REPLAYS, (self.replays > 0).then(|| AMQPValue::LongLongInt(self.replays.into()))),
            (header::DUE, self.due.map(millis)),
            (header::REMAINING, self.remaining.map(duration)),
            (header::UNKNOWN_SINCE, self.unknown_since.map(millis)),
            (header::TRACEPARENT, self.traceparent.as_deref().map(text)),
            (header::UPSTREAM, self.upstream.as_deref().map(text)),
            (header::HISTORY, self.history_text().as_deref().map(text)),
        ];
        for (name, value) in optional {
            if let Some(value) = value {
                insert(&mut all, name, value);
            }
        }
        all
    }

    fn history_text(&self) -> Option<String> {
        let entries = self.history.entries();
        (!entries.is_empty()).then(|| serde_json::to_string(entries).unwrap_or_default())
    }
}

type Headers = std::collections::BTreeMap<ShortString, AMQPValue>;

/// Returns whether an id has 1 to 128 letters, digits, `_` and `-`. A `webhook-id` is sent as an HTTP header and
/// signed.
fn is_webhook_id(id: &str) -> bool {
    (1..=128).contains(&id.len()) && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-".contains(&byte))
}

fn insert(headers: &mut Headers, name: &'static str, value: AMQPValue) {
    headers.insert(name.into(), value);
}

/// Returns the turn with this number. For an unknown number, the limits decide again.
fn turn_of(number: u32) -> Turn {
    [Turn::Come, Turn::Paid].into_iter().find(|turn| *turn as u32 == number).unwrap_or_default()
}

fn text(value: &str) -> AMQPValue {
    AMQPValue::LongString(value.into())
}

fn millis(at: Timestamp) -> AMQPValue {
    AMQPValue::LongLongInt(at.as_millisecond())
}

fn duration(wait: Duration) -> AMQPValue {
    AMQPValue::LongLongInt(i64::try_from(wait.as_millis()).unwrap_or(i64::MAX))
}

fn required<T>(value: Option<T>, name: &str) -> Result<T, Malformed> {
    value.ok_or_else(|| Malformed::Broken(format!("header {name} is missing or malformed")))
}

struct Reader<'a>(&'a FieldTable);

impl Reader<'_> {
    fn get(&self, name: &str) -> Option<&AMQPValue> {
        self.0.inner().get(name).filter(|value| !matches!(value, AMQPValue::Void))
    }

    fn string(&self, name: &str) -> Result<Option<String>, Malformed> {
        let Some(value) = self.get(name) else { return Ok(None) };
        let bytes = match value {
            AMQPValue::LongString(text) => Some(text.as_bytes().to_vec()),
            AMQPValue::ShortString(text) => Some(text.as_str().as_bytes().to_vec()),
            _ => None,
        };
        let text = bytes.and_then(|bytes| String::from_utf8(bytes).ok());
        text.map(Some).ok_or_else(|| Malformed::Broken(format!("header {name}: expected UTF-8 text")))
    }

    fn integer(&self, name: &str) -> Result<Option<i64>, Malformed> {
        let Some(value) = self.get(name) else { return Ok(None) };
        let number = match *value {
            AMQPValue::ShortShortInt(number) => Some(number.into()),
            AMQPValue::ShortShortUInt(number) => Some(number.into()),
            AMQPValue::ShortInt(number) => Some(number.into()),
            AMQPValue::ShortUInt(number) => Some(number.into()),
            AMQPValue::LongInt(number) => Some(number.into()),
            AMQPValue::LongUInt(number) => Some(number.into()),
            AMQPValue::LongLongInt(number) => Some(number),
            _ => None,
        };
        number.map(Some).ok_or_else(|| Malformed::Broken(format!("header {name}: expected an integer")))
    }

    fn count(&self, name: &str) -> Result<Option<u32>, Malformed> {
        let number = self.integer(name)?.map(u32::try_from).transpose();
        number.map_err(|_| Malformed::Broken(format!("header {name}: expected 0 to {}", u32::MAX)))
    }

    fn time(&self, name: &str) -> Result<Option<Timestamp>, Malformed> {
        let time = self.integer(name)?.map(Timestamp::from_millisecond).transpose();
        time.map_err(|_| Malformed::Broken(format!("header {name}: expected milliseconds since 1970")))
    }

    fn duration(&self, name: &str) -> Result<Option<Duration>, Malformed> {
        let number = self.integer(name)?.map(u64::try_from).transpose();
        let number = number.map_err(|_| Malformed::Broken(format!("header {name}: expected milliseconds")))?;
        Ok(number.filter(|ms| *ms > 0).map(Duration::from_millis))
    }

    fn history(&self) -> Result<History, Malformed> {
        let Some(text) = self.string(header::HISTORY)? else { return Ok(History::default()) };
        serde_json::from_str(&text)
            .map_err(|_| Malformed::Broken(format!("header {}: expected a JSON array of attempts", header::HISTORY)))
    }
}
