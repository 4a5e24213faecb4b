use std::collections::BTreeMap;

use super::*;
use crate::{
    event::{Event, EventKind},
    job::Envelope,
    store::TargetKey,
};

const BODY: &[u8] = br#"{"event":"lead.delivered","leadId":"lead_1","submissionId":"sub_1","campaignId":"ABC","status":"x","timestamp":1700000000,"data":{}}"#;

/// Returns a job of acme's campaign ABC.
pub(crate) fn job() -> Job {
    let event = Event {
        kind: EventKind::Delivered,
        campaign: "ABC".into(),
        organization: None,
        lead: "lead_1".into(),
        submission: "sub_1".into(),
        timestamp: "1700000000".into(),
        time: Timestamp::from_second(1_700_000_000).ok(),
    };
    let target = TargetKey::new("acme", Some("ABC"), None);
    let first_seen = Timestamp::from_second(1_700_000_001).unwrap();
    Job::new(&event, "acme", &target, &Envelope::default(), Bytes::from_static(BODY), first_seen)
}

/// Returns the record of a job that failed for this reason at second 1700000009.
pub(crate) fn record(job: &Job, reason: FailReason) -> Record {
    let at = Timestamp::from_second(1_700_000_009).unwrap();
    let message = job.to_failed(&"leadhook.failed".into(), reason, "why", at);
    Record::read(&message.properties, message.body)
}

fn long(text: &str) -> AMQPValue {
    AMQPValue::LongString(text.into())
}

fn table(entries: &[(&str, AMQPValue)]) -> FieldTable {
    let entries: BTreeMap<ShortString, _> =
        entries.iter().map(|(name, value)| (ShortString::from(*name), value.clone())).collect();
    FieldTable::from(entries)
}

/// Returns the properties of a job on the jobs queue, with more headers.
fn dead(more: &[(&str, AMQPValue)]) -> BasicProperties {
    let message = job().to_message(&"leadhook.jobs".into());
    let mut headers = message.properties.headers().clone().unwrap();
    for (name, value) in more {
        headers.insert(ShortString::from(*name), value.clone());
    }
    message.properties.with_headers(headers)
}

fn death(reason: &str, queue: &str) -> AMQPValue {
    let entry =
        table(&[("reason", long(reason)), ("queue", long(queue)), ("time", AMQPValue::Timestamp(1_700_000_050))]);
    AMQPValue::FieldTable(entry)
}

#[test]
fn reads_what_a_worker_wrote() {
    let record = record(&job(), FailReason::Gone);
    assert_eq!(record.reason, Reason::Known(FailReason::Gone));
    assert_eq!(record.detail.as_deref(), Some("why"));
    assert_eq!(record.failed_at, Timestamp::from_second(1_700_000_009).ok());
    assert_eq!(record.key(), job().webhook_id);
    assert_eq!(record.deliveries, 0);
}

#[test]
fn derives_the_reason_of_what_the_broker_put_there() {
    // The job was on the delay ladder first. Its latest death counts, and not its first.
    let deaths = AMQPValue::FieldArray(
        vec![death("delivery_limit", "leadhook.jobs"), death("expired", "leadhook.delay.1000")].into(),
    );
    let properties = dead(&[("x-death", deaths), ("x-first-death-reason", long("expired"))]);
    let record = Record::read(&properties, Bytes::from_static(b"{}"));
    assert_eq!(record.reason, Reason::Known(FailReason::DeliveryLimit));
    assert_eq!(record.detail.as_deref(), Some("dead-lettered by the broker from leadhook.jobs: delivery_limit"));
    assert_eq!(record.failed_at, Timestamp::from_second(1_700_000_050).ok());
    assert!(record.content.is_ok());

    let first = dead(&[("x-first-death-reason", long("delivery_limit"))]);
    assert_eq!(Record::read(&first, Bytes::new()).reason, Reason::Known(FailReason::DeliveryLimit));
    let rejected = dead(&[("x-first-death-reason", long("rejected"))]);
    assert_eq!(Record::read(&rejected, Bytes::new()).reason, Reason::DeadLettered);
    assert_eq!(Record::read(&dead(&[]), Bytes::new()).reason, Reason::Unsaid);
}

#[test]
fn what_a_worker_wrote_goes_before_what_the_broker_noted() {
    let properties = dead(&[
        (header::REASON, long("gone")),
        ("x-death", AMQPValue::FieldArray(vec![death("expired", "leadhook.delay.1000")].into())),
    ]);
    let record = Record::read(&properties, Bytes::new());
    assert_eq!((record.reason, record.detail, record.failed_at), (Reason::Known(FailReason::Gone), None, None));
    let newer = Record::read(&dead(&[(header::REASON, long("eaten"))]), Bytes::new());
    assert_eq!(newer.reason, Reason::Newer("eaten".into()));
}

#[test]
fn what_is_no_job_is_told_without_its_values() {
    let headers = table(&[(header::VERSION, long("secret")), ("x-delivery-count", AMQPValue::LongLongInt(17))]);
    let properties = BasicProperties::default().with_headers(headers).with_message_id("m".into());
    let record = Record::read(&properties, Bytes::from_static(b"hello"));
    let unreadable = record.content.unwrap_err();
    assert_eq!((unreadable.message_id.as_deref(), unreadable.bytes), (Some("m"), 5));
    assert!(unreadable.problem.contains(header::VERSION) && !unreadable.problem.contains("secret"));
    assert_eq!(record.deliveries, 17);
}
