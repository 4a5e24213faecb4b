//! The headers of an attempt.

use proptest::{prelude::*, sample::select};

use crate::{
    checks::headers::{Attempt, check, input},
    generate::anything,
};

const NAMES: [&str; 12] = [
    "authorization",
    "x-tag",
    "Webhook-Id",
    "webhook-timestamp",
    "WEBHOOK-SIGNATURE",
    "leadhook-attempt",
    "user-agent",
    "Content-Type",
    "traceparent",
    "host",
    "x-api-key",
    "webhook-extra",
];

fn header() -> impl Strategy<Value = (Vec<u8>, Vec<u8>)> {
    let name = prop_oneof![4 => select(&NAMES[..]).prop_map(str::to_owned), 1 => "[!-~\r\n ]{0,12}"];
    let value = prop_oneof![3 => "[ -~]{0,24}", 1 => "[a-z\r\n\t\u{0}é]{0,12}"];
    (name, value).prop_map(|(name, value)| (name.into_bytes(), value.into_bytes()))
}

fn trace() -> impl Strategy<Value = String> {
    prop_oneof![
        "[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}",
        "(00|01|ff|cc)-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}(-[a-z\r\né]{0,9})?",
        "00-(0{32}-[0-9a-f]{16}|[0-9a-f]{32}-0{16})-01",
        "[0-9a-fA-F-]{50,60}",
        ".{0,60}",
    ]
}

proptest! {
    #[test]
    fn what_is_ours_is_ours_and_the_rest_is_the_targets(
        id in prop_oneof![3 => "wh_[0-9a-f]{32}", 1 => ".{0,12}"],
        (number, timestamp) in (any::<u32>(), any::<u64>()),
        trace in prop::option::of(trace()),
        secrets in 0usize..=3,
        headers in prop::collection::vec(header(), 0..12),
        body in prop::collection::vec(any::<u8>(), 0..200),
    ) {
        let headers: Vec<_> = headers.iter().map(|(name, value)| (name.as_slice(), value.as_slice())).collect();
        let traceparent = trace.as_deref();
        check(&Attempt { id: &id, number, timestamp, traceparent, secrets, headers: &headers, body: &body });
    }

    #[test]
    fn attempts_of_any_kind_keep_the_rules(bytes in anything("headers")) {
        input(&bytes);
    }
}
