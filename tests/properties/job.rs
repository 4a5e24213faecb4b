//! Jobs in messages.

use std::time::Duration;

use bytes::Bytes;
use jiff::Timestamp;
use lapin::{
    BasicProperties,
    types::{AMQPValue, DecimalValue, FieldArray, FieldTable, ShortString},
};
use leadhook::{
    event::{Event, EventKind},
    job::{Envelope, HistoryEntry, Job, header},
    store::TargetKey,
};
use proptest::{prelude::*, sample::select};

use crate::{
    checks::job::{Headers, check, input, there_and_back, what_upstream_said_is_bounded},
    generate::anything,
};

/// Milliseconds, as in headers, over all years that a time can represent.
fn time() -> impl Strategy<Value = Timestamp> {
    (-377_705_023_201_000i64..253_402_207_200_000).prop_map(|ms| Timestamp::from_millisecond(ms).unwrap())
}

fn entry() -> impl Strategy<Value = HistoryEntry> {
    (
        time(),
        any::<(u32, u64)>(),
        ".{0,12}",
        prop::option::of(any::<u16>()),
        [(); 2].map(|()| prop::option::of(".{0,40}")),
    )
        .prop_map(|(at, (attempt, ms), reason, status, [detail, snippet])| HistoryEntry {
            at,
            attempt,
            outcome: "retry".to_owned(),
            reason,
            status,
            ms,
            detail,
            snippet,
        })
}

fn job() -> impl Strategy<Value = Job> {
    let id = || "[A-Za-z0-9._:-]{1,128}";
    let event = (select(&EventKind::ALL[..]), id(), ".{0,300}", ".{0,120}", prop::option::of(time())).prop_map(
        |(kind, campaign, lead, submission, time)| Event {
            kind,
            campaign,
            organization: None,
            lead,
            submission,
            timestamp: time.map_or_else(|| "half past ten".to_owned(), |time| time.to_string()),
            time,
        },
    );
    let envelope = (prop::option::of(".{0,40}"), prop::option::of(".{0,60}"), prop::option::of(".{0,60}"))
        .prop_map(|(message_id, traceparent, upstream)| Envelope { message_id, traceparent, upstream });
    let target = (id(), prop::option::of(id()), prop::option::of(id()));
    let worn = (any::<(u32, u32, u32)>(), prop::option::of(time()), 0u64..=i64::MAX as u64, prop::option::of(time()));
    let history = prop::collection::vec(entry(), 0..30);
    let body = prop::collection::vec(any::<u8>(), 0..100);
    (event, envelope, target, worn, history, body, time()).prop_map(
        |(event, envelope, target, worn, history, body, now)| {
            let key = TargetKey::new(&target.0, target.1.as_deref(), target.2.as_deref());
            let mut job = Job::new(&event, &target.0, &key, &envelope, Bytes::from(body), now);
            history.into_iter().for_each(|entry| job.history.push(entry));
            (job.attempt, job.deferrals, job.replays) = worn.0;
            (job.due, job.unknown_since) = (worn.1, worn.3);
            job.remaining = Some(Duration::from_millis(worn.2)).filter(|wait| !wait.is_zero());
            job
        },
    )
}

fn nested(depth: usize) -> AMQPValue {
    (0..depth).fold(AMQPValue::Void, |inner, _| AMQPValue::FieldArray(FieldArray::from(vec![inner])))
}

/// Any value that AMQP can carry, including nested ones.
fn value() -> impl Strategy<Value = AMQPValue> {
    let leaf = prop_oneof![
        any::<bool>().prop_map(AMQPValue::Boolean),
        any::<i8>().prop_map(AMQPValue::ShortShortInt),
        any::<u8>().prop_map(AMQPValue::ShortShortUInt),
        any::<i16>().prop_map(AMQPValue::ShortInt),
        any::<u16>().prop_map(AMQPValue::ShortUInt),
        any::<i32>().prop_map(AMQPValue::LongInt),
        any::<u32>().prop_map(AMQPValue::LongUInt),
        (-3i64..3).prop_map(AMQPValue::LongLongInt),
        any::<i64>().prop_map(AMQPValue::LongLongInt),
        any::<u32>().prop_map(|bits| AMQPValue::Float(f32::from_bits(bits))),
        any::<u64>().prop_map(|bits| AMQPValue::Double(f64::from_bits(bits))),
        any::<(u8, u32)>().prop_map(|(scale, value)| AMQPValue::DecimalValue(DecimalValue { scale, value })),
        "[a-z]{0,20}".prop_map(|text| AMQPValue::ShortString(text.as_str().into())),
        ".{0,60}".prop_map(|text| AMQPValue::LongString(text.into_bytes().into())),
        prop::collection::vec(any::<u8>(), 0..40).prop_map(|bytes| AMQPValue::LongString(bytes.into())),
        prop::collection::vec(any::<u8>(), 0..40).prop_map(|bytes| AMQPValue::ByteArray(bytes.into())),
        any::<u64>().prop_map(AMQPValue::Timestamp),
        Just(AMQPValue::Void),
        Just(AMQPValue::LongString("x".repeat(40_000).into())),
        (0usize..300).prop_map(nested),
    ];
    leaf.prop_recursive(3, 12, 3, |inner| {
        let table = prop::collection::btree_map(
            "[a-z]{0,4}".prop_map(|name| ShortString::from(name.as_str())),
            inner.clone(),
            0..3,
        );
        prop_oneof![
            table.prop_map(|table| AMQPValue::FieldTable(FieldTable::from(table))),
            prop::collection::vec(inner, 0..3).prop_map(|values| AMQPValue::FieldArray(FieldArray::from(values))),
        ]
    })
}

const NAMES: [&str; 18] = [
    header::VERSION,
    header::ORGANIZATION,
    header::CAMPAIGN,
    header::TARGET,
    header::ATTEMPT,
    header::DEFERRALS,
    header::REPLAYS,
    header::EVENT_TIME,
    header::FIRST_SEEN,
    header::DUE,
    header::REMAINING,
    header::UNKNOWN_SINCE,
    header::HISTORY,
    header::COPY,
    header::UPSTREAM,
    header::TRACEPARENT,
    header::REASON,
    "x-first-death-queue",
];

fn headers() -> impl Strategy<Value = Headers> {
    let name = prop_oneof![4 => select(&NAMES[..]).prop_map(str::to_owned), 1 => "[ -~]{0,30}"];
    let value = prop_oneof![1 => (-1i64..3).prop_map(AMQPValue::LongLongInt), 2 => value()];
    prop::collection::btree_map(name.prop_map(|name| ShortString::from(name.as_str())), value, 0..6)
}

proptest! {
    #[test]
    fn jobs_survive_the_wire(job in job()) {
        // A submission id that AMQP cannot carry is not sent.
        prop_assert!(job.submission.as_ref().is_none_or(|id| id.len() <= 255));
        there_and_back(&job);
    }

    #[test]
    fn a_job_with_any_header_changed_is_a_job_or_is_refused_by_name(
        job in job(), changed in headers(), id in prop_oneof!["[A-Za-z0-9_-]{1,130}", "[a-z0-9_.\\n-]{0,8}"],
    ) {
        let mut message = job.to_message(&"leadhook.jobs".into());
        let mut all = message.properties.headers().clone().unwrap().inner().clone();
        check(&message.properties, &all, job.body.clone());
        message.properties = message.properties.with_message_id(id.as_str().into());
        all.extend(changed);
        check(&message.properties, &all, job.body.clone());
    }

    #[test]
    fn messages_of_any_kind_are_read_or_refused(headers in headers(), id in ".{0,40}", kind in "[a-z.]{0,16}") {
        let properties = BasicProperties::default()
            .with_message_id(ShortString::try_new(id).unwrap_or_default())
            .with_type(kind.as_str().into())
            .with_reply_to("everyone".into());
        check(&properties, &headers, Bytes::from_static(b"{}"));
    }

    #[test]
    fn messages_near_to_a_job_are_read_or_refused(bytes in anything("job")) {
        input(&bytes);
    }

    #[test]
    fn what_upstream_said_fits_one_header(headers in headers(), priority in any::<u8>()) {
        let properties = BasicProperties::default()
            .with_headers(FieldTable::from(headers))
            .with_priority(priority)
            .with_user_id("guest".into());
        what_upstream_said_is_bounded(&properties);
    }
}
