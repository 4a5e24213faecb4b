use std::{collections::BTreeMap, time::Duration};

use bytes::Bytes;
use jiff::Timestamp;
use lapin::{
    BasicProperties,
    types::{AMQPValue, FieldTable, ShortString},
};

use super::{id::derived_id, *};
use crate::{
    delivery::{
        exchange::{Answer, Exchange},
        reason::FailReason,
    },
    event::{Event, EventKind},
    limits::Turn,
    store::TargetKey,
};

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

const BODY: &[u8] = br#"{"event":"lead.delivered","leadId":"lead_1","submissionId":"sub_1","campaignId":"ABC","status":"x","timestamp":1700000000,"data":{}}"#;

fn job() -> Job {
    let event = Event {
        kind: EventKind::Delivered,
        campaign: "ABC".into(),
        organization: None,
        lead: "lead_1".into(),
        submission: "sub_1".into(),
        timestamp: "1700000000".into(),
        time: Some(at(1_700_000_000)),
    };
    let envelope = Envelope {
        message_id: Some("m1".into()),
        traceparent: Some("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".into()),
        upstream: Some(r#"{"message_id":"m1"}"#.into()),
    };
    let target = TargetKey::new("acme", Some("ABC"), None);
    Job::new(&event, "acme", &target, &envelope, Bytes::from_static(BODY), at(1_700_000_001))
}

fn entry(attempt: u32) -> HistoryEntry {
    let answer = Answer { status: 500, snippet: Some("oops".into()), ..Answer::default() };
    let exchange = Exchange::new(Ok(answer), Duration::from_millis(12));
    HistoryEntry::new(at(1_700_000_002), attempt, "retry", "status", &exchange)
}

/// Encodes a job and decodes it again. Only the id of the copy changes, and the result has the old one.
fn there_and_back(job: &Job) -> Job {
    let message = job.to_message(&"leadhook.jobs".into());
    assert_eq!(message.routing_key.as_str(), "leadhook.jobs");
    assert_eq!(message.exchange.as_str(), "");
    assert_eq!(*message.properties.delivery_mode(), Some(2));
    let back = Job::decode(&message.properties, message.body).unwrap();
    assert_ne!(back.copy, job.copy);
    Job { copy: job.copy.clone(), ..back }
}

#[test]
fn a_redirected_job_has_the_id_that_its_event_has_there() {
    let (job, there) = (job(), TargetKey::new("acme", None, None));
    let redirected = job.redirected(&there);
    let event = Event::decode(BODY, None, BODY.len()).unwrap();
    assert_eq!(redirected.webhook_id, webhook_id(Some("m1"), &event, BODY, &there));
    assert_eq!(redirected.redirected(&job.target), job, "and back again");
    let forgot = Job { upstream: None, ..job.clone() };
    let id = derived_id(&job.webhook_id, &there);
    assert_eq!(
        forgot.redirected(&there).webhook_id,
        id,
        "without the upstream id, the new id is still the same each time"
    );
}

#[test]
fn jobs_survive_the_wire() {
    let plain = job();
    assert_eq!(there_and_back(&plain), plain);
    let replayed = plain.attempted(entry(1)).replayed(at(1_700_000_200)).attempted(entry(1));
    let mut worn = replayed.deferred_unknown(Duration::from_secs(9), at(1_700_000_100));
    worn.due = Some(at(1_700_000_200));
    worn.redeliveries = 7;
    worn.deaths = 2;
    worn.remaining = Some(Duration::from_millis(1500));
    worn.unknown_since = Some(at(1_700_000_300));
    assert_eq!(there_and_back(&worn), worn);
    assert_eq!((worn.attempt, worn.deferrals, worn.replays, worn.history.entries().len()), (1, 1, 1, 2));
}

#[test]
fn redeliveries_and_deaths_are_forgotten_with_an_attempt_and_not_before() {
    let job = Job { redeliveries: 7, deaths: 2, ..job() };
    let counts = |job: Job| (job.redeliveries, job.deaths);
    assert_eq!(counts(job.deferred(Duration::ZERO)), (7, 2));
    assert_eq!(counts(job.attempted(entry(1))), (0, 0));
    assert_eq!(counts(job.replayed(at(1_700_000_200))), (0, 0));
}

#[test]
fn since_when_its_target_is_unknown_is_forgotten_where_it_was_known() {
    let (first, later) = (at(1_700_000_100), at(1_700_000_300));
    let unknown = job().deferred_unknown(Duration::ZERO, first);
    assert_eq!(unknown.deferred_unknown(Duration::ZERO, later).unknown_since, Some(first));
    assert_eq!(
        unknown.deferred(Duration::ZERO).unknown_since,
        None,
        "deferred by its circuit, so its target was known"
    );
}

#[test]
fn its_age_counts_from_the_first_sight_of_its_event_or_from_the_last_replay() {
    let seconds = |job: &Job, now| job.age(at(now)).as_secs();
    let first_seen = at(1_700_000_000);
    let job = Job { first_seen, ..job() };
    assert_eq!(seconds(&job.attempted(entry(1)).deferred(Duration::ZERO), 1_700_000_500), 500);
    assert_eq!(seconds(&job.replayed(at(1_700_000_400)), 1_700_000_500), 100);
    assert_eq!(seconds(&job, 1_600_000_000), 0, "the clock was set back");
}

#[test]
fn long_submission_ids_are_left_out_of_the_properties() {
    let mut long = job();
    long.submission = Some("s".repeat(300));
    assert_eq!(long.to_message(&"q".into()).properties.correlation_id(), &None);
}

#[test]
fn failed_records_say_why() {
    let message = job().to_failed(&"leadhook.failed".into(), FailReason::Gone, "410 Gone", at(1_700_000_009));
    let headers = message.properties.headers().clone().unwrap();
    assert_eq!(headers.inner()[header::REASON], AMQPValue::LongString("gone".into()));
    assert_eq!(headers.inner()[header::DETAIL], AMQPValue::LongString("410 Gone".into()));
    assert_eq!(headers.inner()[header::FAILED_AT], AMQPValue::LongLongInt(1_700_000_009_000));
    assert!(Job::decode(&message.properties, message.body).is_ok(), "a failed record is still a job: replay reads it");
}

#[test]
fn hand_made_messages_are_malformed_and_newer_ones_are_told_apart() {
    let good = job().to_message(&"q".into()).properties;
    let with = |name: &str, value: Option<AMQPValue>| {
        let mut headers: BTreeMap<ShortString, AMQPValue> = good.headers().clone().unwrap().inner().clone();
        match value {
            Some(value) => headers.insert(name.into(), value),
            None => headers.remove(name),
        };
        Job::decode(&good.clone().with_headers(FieldTable::from(headers)), Bytes::new())
    };
    let text = |value: &str| Some(AMQPValue::LongString(value.into()));
    assert!(matches!(Job::decode(&BasicProperties::default(), Bytes::new()), Err(Malformed::Broken(_))));
    assert_eq!(with(header::VERSION, Some(AMQPValue::LongLongInt(2))), Err(Malformed::Newer(2)));
    for (name, value) in [
        (header::VERSION, None),
        (header::VERSION, Some(AMQPValue::LongLongInt(0))),
        (header::VERSION, text("1")),
        (header::TARGET, None),
        (header::TARGET, text("")),
        (header::ORGANIZATION, None),
        (header::ORGANIZATION, Some(AMQPValue::LongString(vec![0xff, 0xfe].into()))),
        (header::ATTEMPT, Some(AMQPValue::LongLongInt(-1))),
        (header::ATTEMPT, text("1")),
        (header::FIRST_SEEN, Some(AMQPValue::LongLongInt(i64::MAX))),
        (header::HISTORY, text("{")),
        (header::COPY, None),
    ] {
        let error = with(name, value.clone()).unwrap_err();
        assert!(matches!(&error, Malformed::Broken(detail) if detail.contains(name)), "{name} {value:?}: {error}");
    }
    for properties in [good.clone().with_message_id("a.b".into()), good.clone().with_type("lead.exploded".into())] {
        assert!(matches!(Job::decode(&properties, Bytes::new()), Err(Malformed::Broken(_))));
    }
}

#[test]
fn history_is_bounded() {
    let mut worn = job();
    for n in 1..=100 {
        worn = worn.attempted(entry(n));
    }
    assert_eq!(worn.history.entries().len(), 24);
    assert_eq!(worn.history.entries()[23].attempt, 100);
}

#[test]
fn what_upstream_said_is_kept_as_text_and_what_the_broker_said_is_not() {
    let headers = BTreeMap::from([
        (ShortString::from("x-death"), AMQPValue::Boolean(true)),
        (ShortString::from("x-first-death-queue"), AMQPValue::Boolean(true)),
        (ShortString::from("CC"), AMQPValue::LongString("everyone".into())),
        (ShortString::from("leadhook-target"), AMQPValue::LongString("forged".into())),
        (ShortString::from("bytes"), AMQPValue::LongString(vec![0xff].into())),
        (ShortString::from("traceparent"), AMQPValue::LongString("00-".into())),
    ]);
    let properties = BasicProperties::default()
        .with_user_id("guest".into())
        .with_expiration("1".into())
        .with_priority(9)
        .with_headers(FieldTable::from(headers));
    let text = upstream::encode(&properties, |name| name == "traceparent").unwrap();
    let expected = serde_json::json!({
        "user_id": "guest", "expiration": "1", "priority": 9,
        "headers": { "CC": "everyone", "leadhook-target": "forged", "bytes": { "base64": "/w==" } },
    });
    assert_eq!(serde_json::from_str::<serde_json::Value>(&text).unwrap(), expected);
    assert_eq!(upstream::encode(&BasicProperties::default(), |_| false), None);
    let huge = BTreeMap::from([(ShortString::from("a"), AMQPValue::LongString("x".repeat(100_000).into()))]);
    let huge = BasicProperties::default().with_headers(FieldTable::from(huge));
    let dropped = upstream::encode(&huge.with_message_id("m1".into()), |_| false).unwrap();
    assert!(dropped.contains("dropped"));
    assert_eq!(upstream::message_id(&dropped).as_deref(), Some("m1"), "ids depend on it");
}

/// In JSON a quote takes two bytes and a control character six. A message in a file has been encoded twice.
#[test]
fn the_headers_of_a_rejected_message_are_kept_up_to_the_size_of_a_frame() {
    for (letter, count) in [("x", 90_000), ("\"", 45_000), ("\u{1}", 15_000)] {
        let headers = BTreeMap::from([(ShortString::from("a"), AMQPValue::LongString(letter.repeat(count).into()))]);
        let properties = BasicProperties::default().with_headers(FieldTable::from(headers));
        let text = upstream::encode_rejected(&properties).unwrap();
        let kept: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(kept["headers"]["a"], letter.repeat(count));
        let stored =
            BTreeMap::from([(ShortString::from(header::UPSTREAM), AMQPValue::LongString(text.clone().into()))]);
        let stored = BasicProperties::default().with_headers(FieldTable::from(stored));
        assert_eq!(upstream::to_json(&stored, |_| false).unwrap()["headers"][header::UPSTREAM], text);
    }
    let headers = BTreeMap::from([(ShortString::from("a"), AMQPValue::LongString("x".repeat(100_000).into()))]);
    let text = upstream::encode_rejected(&BasicProperties::default().with_headers(FieldTable::from(headers))).unwrap();
    assert!(text.contains("dropped") && text.len() < 200, "{text}");
}

#[test]
fn inert_properties_are_those_that_no_broker_acts_on() {
    let inert = BasicProperties::default()
        .with_content_type("text/plain".into())
        .with_content_encoding("gzip".into())
        .with_correlation_id("c1".into())
        .with_message_id("m1".into())
        .with_timestamp(7)
        .with_type("lead".into())
        .with_app_id("crm".into());
    let all = inert
        .clone()
        .with_delivery_mode(1)
        .with_priority(9)
        .with_reply_to("amq.rabbitmq.reply-to".into())
        .with_expiration("1".into())
        .with_user_id("guest".into())
        .with_cluster_id("x".into())
        .with_headers(FieldTable::default());
    assert_eq!(upstream::inert(&all), inert.with_delivery_mode(2));
}

#[test]
fn what_is_nested_thousands_deep_is_kept_as_far_as_json_can_be_read() {
    let nested = |depth| {
        (0..depth).fold(AMQPValue::Void, |inner, level| match level % 2 {
            0 => AMQPValue::FieldArray(vec![inner].into()),
            _ => AMQPValue::FieldTable(BTreeMap::from([(ShortString::from("k"), inner)]).into()),
        })
    };
    for depth in [32, 33, 1_000] {
        let headers = BTreeMap::from([(ShortString::from("a"), nested(depth))]);
        let text = upstream::encode(&BasicProperties::default().with_headers(headers.into()), |_| false).unwrap();
        assert_eq!(text.contains("dropped"), depth > 32, "{depth}");
        serde_json::from_str::<serde_json::Value>(&text).unwrap();
    }
}

/// The broker ends a connection over a message whose headers are longer than a frame (128 KiB by default). The
/// message's input would then come again and again.
#[test]
fn the_longest_headers_of_a_job_fit_a_frame() {
    let mut longest = Job { upstream: Some("u".repeat(32 * 1024)), campaign: "c".repeat(255), ..job() };
    for attempt in 1..100 {
        let answer = Answer { status: 500, snippet: Some("\u{1}".repeat(256)), ..Answer::default() };
        let exchange = Exchange::new(Ok(answer), Duration::from_secs(300));
        longest =
            longest.attempted(HistoryEntry::new(at(1_700_000_002), attempt, "failed", "forbidden_address", &exchange));
    }
    let message = longest.to_message(&"leadhook.jobs".into());
    let headers = message.properties.headers().clone().unwrap();
    // A name and its length, a type, a value and its length (AMQP 0-9-1, section 4.2.5.5).
    let length_of = |value: &AMQPValue| value.as_long_string().map_or(8, |text| 4 + text.as_bytes().len());
    let length: usize = headers.inner().iter().map(|(name, value)| 2 + name.as_str().len() + length_of(value)).sum();
    assert!(length > 70_000, "{length}: the headers are not the longest");
    assert!(length + 4096 < 128 * 1024, "{length}");
}

#[test]
fn a_deferral_does_not_move_the_time_at_which_a_job_is_due() {
    let (start, later) = (at(1_700_000_000), at(1_700_000_060));
    let job = Job { first_seen: start, replayed_at: None, due: None, ..job() };
    assert_eq!(job.deferred(Duration::from_secs(30)).late(later), Duration::from_secs(60));
    let due = Job { due: Some(at(1_700_000_050)), turn: Turn::Paid, ..job };
    let deferred = due.deferred(Duration::from_secs(30));
    assert_eq!((deferred.late(later), deferred.turn), (Duration::from_secs(10), Turn::None));
}
