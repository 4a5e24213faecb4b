//! Jobs: a message that is decoded as a job encodes to the same message again, whatever upstream, the broker or a
//! forger added. A message that is refused is refused with a header's name, and without its value.

use std::{collections::BTreeMap, time::Duration};

use bytes::Bytes;
use jiff::Timestamp;
use lapin::{
    BasicProperties,
    types::{AMQPValue, FieldTable, ShortString},
};
use leadhook::{
    delivery::reason::FailReason,
    job::{HistoryEntry, Job, Malformed, header, upstream},
};
use serde_json::Value;

/// Headers by name.
pub type Headers = BTreeMap<ShortString, AMQPValue>;

/// Checks lines of text: `message_id ID`, `type EVENT`, `correlation_id ID`, or a header as `T NAME VALUE`, where T is
/// the letter of its AMQP type. An empty line and the body follow.
pub fn input(input: &[u8]) -> &'static str {
    let (lines, body) = super::head_and_body(input);
    let mut properties = BasicProperties::default();
    let mut headers = Headers::new();
    for line in lines {
        let mut words = line.splitn(2, |byte| *byte == b' ');
        let (word, rest) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        let short = || ShortString::try_new(String::from_utf8_lossy(rest)).unwrap_or_default();
        match word {
            b"message_id" => properties = properties.with_message_id(short()),
            b"type" => properties = properties.with_type(short()),
            b"correlation_id" => properties = properties.with_correlation_id(short()),
            [letter] => {
                let mut parts = rest.splitn(2, |byte| *byte == b' ');
                let name = String::from_utf8_lossy(parts.next().unwrap_or_default());
                if let Ok(name) = ShortString::try_new(name) {
                    headers.insert(name, value(*letter, parts.next().unwrap_or_default()));
                }
            }
            _ => {}
        }
    }
    check(&properties, &headers, Bytes::copy_from_slice(body))
}

fn value(letter: u8, text: &[u8]) -> AMQPValue {
    let number: i64 = std::str::from_utf8(text).ok().and_then(|text| text.parse().ok()).unwrap_or_default();
    match letter {
        b't' => AMQPValue::Boolean(number != 0),
        b'b' => AMQPValue::ShortShortInt(number as i8),
        b'B' => AMQPValue::ShortShortUInt(number as u8),
        b's' => AMQPValue::ShortInt(number as i16),
        b'u' => AMQPValue::ShortUInt(number as u16),
        b'I' => AMQPValue::LongInt(number as i32),
        b'i' => AMQPValue::LongUInt(number as u32),
        b'l' => AMQPValue::LongLongInt(number),
        b'd' => AMQPValue::Double(f64::from_bits(number as u64)),
        b'T' => AMQPValue::Timestamp(number as u64),
        b'x' => AMQPValue::ByteArray(text.to_vec().into()),
        b'V' => AMQPValue::Void,
        _ => AMQPValue::LongString(text.to_vec().into()),
    }
}

/// Checks every rule of one message.
pub fn check(properties: &BasicProperties, headers: &Headers, body: Bytes) -> &'static str {
    let with = |headers: &Headers| properties.clone().with_headers(FieldTable::from(headers.clone()));
    let decoded = Job::decode(&with(headers), body.clone());
    what_upstream_said_is_bounded(&with(headers));
    let mut crowded = headers.clone();
    crowded.extend(foreign());
    let forged = with(&crowded).with_expiration("1".into()).with_user_id("guest".into()).with_priority(255);
    assert_eq!(Job::decode(&forged, body.clone()), decoded, "foreign headers changed the job");
    match decoded {
        Ok(job) => {
            is_what_it_says(&job, properties, &body);
            there_and_back(&job);
            every_successor_is_a_job(&job);
            "job"
        }
        Err(Malformed::Newer(version)) => {
            assert!(version > leadhook::job::VERSION);
            "newer"
        }
        Err(Malformed::Broken(detail)) => {
            let named = detail.split(' ').nth(1).unwrap_or_default().trim_end_matches(':');
            let ours = named.starts_with("leadhook-") || ["traceparent", "message_id", "type"].contains(&named);
            assert!(ours && super::is_one_plain_line(&detail) && detail.len() < 100, "{detail:?}");
            "broken"
        }
    }
}

/// Headers that Leadhook never reads from a job.
fn foreign() -> Headers {
    let list = |name: &str| (ShortString::from(name), AMQPValue::LongString("everyone".into()));
    ["CC", "BCC", "x-death", "x-delivery-count", "organization-id", "Leadhook-Version"].map(list).into()
}

fn is_what_it_says(job: &Job, properties: &BasicProperties, body: &Bytes) {
    assert_eq!(&job.body, body, "the body has changed");
    assert_eq!(properties.message_id().as_ref().map(ShortString::as_str), Some(job.webhook_id.as_str()));
    assert_eq!(properties.kind().as_ref().map(ShortString::as_str), Some(job.kind.name()));
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    assert!(!job.webhook_id.is_empty() && job.webhook_id.len() <= 128 && job.webhook_id.chars().all(plain));
    assert!((1..=512).contains(&job.target.as_str().len()));
    assert!(job.remaining.is_none_or(|wait| !wait.is_zero()));
}

/// Checks that a job and its message say the same, however often it is deferred. Only the copy id differs.
pub fn there_and_back(job: &Job) {
    let message = job.to_message(&"leadhook.jobs".into());
    assert_eq!((message.exchange.as_str(), message.routing_key.as_str()), ("", "leadhook.jobs"));
    assert_eq!(message.body, job.body);
    only_ours_travels(&message.properties);
    let back = Job::decode(&message.properties, message.body).expect("a job that we wrote is not readable");
    assert_ne!(back.copy, job.copy);
    assert_eq!(Job { copy: job.copy.clone(), ..back }, *job);
}

/// Checks that only the allow-list travels, by name (ARCHITECTURE.md, "Invariants").
fn only_ours_travels(properties: &BasicProperties) {
    let p = properties;
    let others = [p.user_id(), p.expiration(), p.reply_to(), p.cluster_id(), p.content_encoding()];
    assert!(others.iter().all(|text| text.is_none()) && p.priority().is_none(), "{p:?}");
    assert_eq!((*p.delivery_mode(), p.app_id().as_ref().map(ShortString::as_str)), (Some(2), Some("leadhook")));
    let headers = p.headers().clone().expect("headers");
    for (name, value) in headers.inner() {
        let ours = name.as_str().starts_with("leadhook-") || name.as_str() == header::TRACEPARENT;
        assert!(ours, "{name} travels on");
        // Each meaning has one AMQP type, so that neither broker nor reader has to guess.
        assert!(matches!(value, AMQPValue::LongString(_) | AMQPValue::LongLongInt(_)), "{name}: {value:?}");
    }
}

/// Checks that every successor (retried, deferred, replayed, failed) is still a job for the same event and target.
fn every_successor_is_a_job(job: &Job) {
    let now = Timestamp::from_millisecond(1_718_447_400_123).expect("a time");
    let entry = HistoryEntry {
        at: now,
        attempt: job.attempt.saturating_add(1),
        outcome: "retry".to_owned(),
        reason: "status".to_owned(),
        status: Some(500),
        ms: 12,
        detail: Some("redirect to https://b.example".to_owned()),
        snippet: Some("\u{0} \" \u{1F980}".to_owned()),
    };
    for next in [job.attempted(entry.clone()), job.deferred_unknown(Duration::from_secs(9), now), job.replayed(now)] {
        there_and_back(&next);
        assert_eq!((&next.webhook_id, &next.body, &next.target), (&job.webhook_id, &job.body, &job.target));
    }
    let attempted = job.attempted(entry);
    assert!(attempted.history.entries().len() <= 24 && attempted.unknown_since.is_none());
    assert_eq!((job.replayed(now).attempt, job.replayed(now).history.clone()), (0, job.history.clone()));
    let failed = job.to_failed(&"leadhook.failed".into(), FailReason::Gone, "410 Gone", now);
    only_ours_travels(&failed.properties);
    let read = Job::decode(&failed.properties, failed.body).expect("replay cannot read a failed job");
    assert_eq!(Job { copy: job.copy.clone(), ..read }, *job);
}

/// Checks the rest of an upstream message, which is one header: JSON, bounded, and without headers of the broker.
pub fn what_upstream_said_is_bounded(properties: &BasicProperties) {
    let rejected = upstream::encode_rejected(properties).unwrap_or_default();
    assert!(rejected.len() <= 96 * 1024, "{} bytes", rejected.len());
    let Some(text) = upstream::encode(properties, |name| name == "traceparent") else { return };
    assert!(text.len() <= 32 * 1024, "{} bytes", text.len());
    let value: Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!(upstream::encode(properties, |name| name == "traceparent"), Some(text));
    let Some(headers) = value.get("headers").and_then(Value::as_object) else { return };
    assert!(!headers.keys().any(|name| upstream::is_broker_header(name) || name == "traceparent"));
    let cleaned = upstream::without_broker_headers(properties.headers().as_ref().expect("headers"));
    assert!(headers.keys().all(|name| cleaned.contains_key(name)));
}
