use super::*;

const EXAMPLE: &str = r#"{
  "event": "lead.delivered", "leadId": "lead_abc123", "submissionId": "sub_xyz789", "campaignId": "ABC",
  "status": "delivered", "timestamp": "2024-06-15T10:30:00Z",
  "data": { "firstName": "John", "email": "john@example.com" }
}"#;

fn decode(body: &str) -> Result<Event, Rejection> {
    Event::decode(body.as_bytes(), None, 1 << 20)
}

fn with(from: &str, to: &str) -> String {
    assert!(EXAMPLE.contains(from), "{from}");
    EXAMPLE.replace(from, to)
}

#[test]
fn the_example_of_the_contract_is_read() {
    let event = decode(EXAMPLE).unwrap();
    assert_eq!(event.kind, EventKind::Delivered);
    assert_eq!(event.campaign, "ABC");
    assert_eq!(event.submission, "sub_xyz789");
    assert_eq!(event.organization, None);
    assert_eq!(event.timestamp, "2024-06-15T10:30:00Z");
    assert_eq!(event.time.unwrap().to_string(), "2024-06-15T10:30:00Z");
}

#[test]
fn every_kind_parses_back() {
    for kind in EventKind::ALL {
        assert_eq!(EventKind::parse(kind.name()), Some(kind));
    }
    assert_eq!(EventKind::parse("lead.Delivered"), None);
}

#[test]
fn unusable_bodies_are_rejected_with_reason_and_field() {
    use RejectReason::*;
    let cases = [
        (String::new(), NotJson, "empty"),
        ("not json".into(), NotJson, "line 1 column"),
        (" \n[1]".into(), NotJson, "expected an object, it is an array"),
        ("\"text\"".into(), NotJson, "it is a string"),
        ("-1".into(), NotJson, "it is a number"),
        (EXAMPLE[..100].into(), NotJson, "line"),
        (format!("{EXAMPLE} x"), NotJson, "line"),
        (format!("{EXAMPLE}{EXAMPLE}"), NotJson, "line"),
        (with("\"John\"", r#""\ud80""#), NotJson, "line 4"),
        (format!("\u{feff}{EXAMPLE}"), NotJson, "byte order mark (UTF-8)"),
        (with("\"status\"", r#""status": "x", "status""#), DuplicateKey, "field \"status\" appears twice"),
        (with("\"status\"", r#""\u0065vent": "x", "status""#), DuplicateKey, "field \"event\" appears twice"),
        (with("\"status\"", r#""data": {}, "status""#), DuplicateKey, "field \"data\""),
        (
            with("\"status\"", r#""organizationId": "a", "organization\u0049d": "a", "status""#),
            DuplicateKey,
            "field \"organizationId\"",
        ),
        (with("\"leadId\"", "\"lead\""), MissingField, "field \"leadId\" is missing"),
        (with("\"status\"", "\"Status\""), MissingField, "field \"status\" is missing"),
        (with("\"timestamp\"", "\"time\""), MissingField, "field \"timestamp\" is missing"),
        (with("\"data\"", "\"date\""), MissingField, "field \"data\" is missing"),
        (
            with("\"sub_xyz789\"", "7.0"),
            InvalidField,
            "\"submissionId\": expected a string or an integer, it is a number",
        ),
        (with("\"sub_xyz789\"", "7e3"), InvalidField, "\"submissionId\": expected a string or an integer"),
        (with("\"lead_abc123\"", "null"), InvalidField, "\"leadId\": expected a string or an integer, it is null"),
        (with("\"lead.delivered\"", "1"), InvalidField, "\"event\": expected a string, it is a number"),
        (
            with(r#"{ "firstName": "John", "email": "john@example.com" }"#, "[]"),
            InvalidField,
            "an object, it is an array",
        ),
        (with(r#"{ "firstName": "John", "email": "john@example.com" }"#, "null"), InvalidField, "it is null"),
        (with("\"ABC\"", "\"A C\""), InvalidField, "field \"campaignId\": expected 1 to 128"),
        (with("\"ABC\"", "\"\""), InvalidField, "field \"campaignId\": expected 1 to 128"),
        (with("\"ABC\"", r#""\ud83d""#), InvalidField, "field \"campaignId\": expected 1 to 128"),
        (with("\"ABC\"", &"7".repeat(129)), InvalidField, "field \"campaignId\": expected 1 to 128"),
        (with("lead.delivered", "lead.exploded"), UnknownEvent, "expected one of lead.delivered, lead.disq"),
        (
            with("\"status\"", r#""organizationId": [], "status""#),
            InvalidField,
            "\"organizationId\": expected a string",
        ),
    ];
    for (body, reason, detail) in cases {
        let rejection = decode(&body).expect_err(&body);
        assert_eq!(rejection.reason, reason, "{body}\n{rejection}");
        assert!(rejection.detail.contains(detail), "{body}\n{rejection}");
        assert!(!rejection.detail.contains("John") && !rejection.detail.contains("exploded"), "{rejection}");
    }
}

#[test]
fn a_string_that_unicode_cannot_hold_is_kept_as_it_is_spelled() {
    assert_eq!(decode(&with("lead_abc123", r"a\ud83d\u00e9")).unwrap().lead, r"a\ud83d\u00e9");
    assert_eq!(decode(&with("lead_abc123", r"a\ud83e\udd80\u00e9")).unwrap().lead, "a\u{1F980}\u{e9}");
    assert_eq!(decode(&with("lead_abc123", "")).unwrap().lead, "");
    decode(&with("\"delivered\"", r#""\udead""#)).unwrap();
    decode(&with("\"status\"", r#""\udead": 1, "\udead": 2, "status""#)).unwrap();
}

#[test]
fn an_escaped_key_is_the_key() {
    let event = decode(&with("\"leadId\"", r#""\u006cead\u0049d""#)).unwrap();
    assert_eq!(event.lead, "lead_abc123");
}

#[test]
fn ids_may_be_integers_of_any_length() {
    for digits in ["42", "-7", "0", "12345678901234567890"] {
        let event =
            decode(&with("\"lead_abc123\"", digits).replace("\"ABC\"", digits).replace("\"sub_xyz789\"", digits));
        let event = event.unwrap();
        assert_eq!([event.lead, event.submission, event.campaign], [digits; 3]);
    }
    let named = with("\"status\"", r#""organizationId": 7, "status""#);
    assert_eq!(Event::decode(named.as_bytes(), Some("7"), 1 << 20).unwrap().organization.as_deref(), Some("7"));
}

/// Nests as deep as the default size limit allows, with and without closing brackets. Depth must use no stack.
#[test]
fn the_depth_of_a_body_does_not_matter() {
    let half = (1 << 19) - EXAMPLE.len();
    let deep = |open: &str, close: &str| {
        with("\"John\"", &format!("{}{}", open.repeat(half / open.len()), close.repeat(half / open.len())))
    };
    let begun = std::time::Instant::now();
    decode(&deep("[", "]")).unwrap();
    decode(&deep("{\"\":", "}").replace(":}", ":0}")).unwrap();
    for open in ["[".repeat(1 << 20), "{\"data\":".repeat(1 << 17), deep("[", ""), deep("{\"\":", "")] {
        assert_eq!(decode(&open).unwrap_err().reason, RejectReason::NotJson);
    }
    assert!(begun.elapsed() < std::time::Duration::from_secs(5), "{:?}", begun.elapsed());
}

#[test]
fn binary_garbage_is_not_json() {
    assert_eq!(Event::decode(&[0, 159, 146, 150], None, 100).unwrap_err().reason, RejectReason::NotJson);
    for mark in [b"\xfe\xff\0{".as_slice(), b"\xff\xfe{\0"] {
        assert!(Event::decode(mark, None, 100).unwrap_err().detail.contains("byte order mark (UTF-16"));
    }
    let broken_text = [b"{\"a\":\"".as_slice(), &[0xff, 0xfe], b"\"}"].concat();
    let rejection = Event::decode(&broken_text, None, 100).unwrap_err();
    assert_eq!((rejection.reason, rejection.detail.as_str()), (RejectReason::NotJson, "not UTF-8, at byte 7"));
}

#[test]
fn the_size_limit_is_inclusive() {
    let size = EXAMPLE.len();
    assert!(Event::decode(EXAMPLE.as_bytes(), None, size).is_ok());
    let rejection = Event::decode(EXAMPLE.as_bytes(), None, size - 1).unwrap_err();
    assert_eq!(rejection.reason, RejectReason::TooLarge);
}

#[test]
fn other_fields_may_hold_anything() {
    decode(&with("\"status\"", r#""extra": {"a": [1, 2.5, true, null]}, "extra": 1e400, "status""#)).unwrap();
    for status in ["null", "7", "{}", "1e400"] {
        decode(&with("\"delivered\"", status)).unwrap();
    }
}

#[test]
fn times_of_other_systems_are_read() {
    for (spelled, read) in [
        ("\"2024-06-15T10:30:00Z\"", "2024-06-15T10:30:00Z"),
        ("\"2024-06-15t10:30:00z\"", "2024-06-15T10:30:00Z"),
        ("\"2024-06-15 12:30:00+02:00\"", "2024-06-15T10:30:00Z"),
        ("\"2024-06-15T10:30:00\\u005a\"", "2024-06-15T10:30:00Z"),
        ("\"2024-06-15T10:30:00+0000\"", "2024-06-15T10:30:00Z"),
        ("\"2024-06-15T12:30:00+0200\"", "2024-06-15T10:30:00Z"),
        ("\"2024-06-15T12:30:00+02\"", "2024-06-15T10:30:00Z"),
        ("\"2024-06-15T10:30Z\"", "2024-06-15T10:30:00Z"),
        ("\"2024-06-15T10:30+0000\"", "2024-06-15T10:30:00Z"),
        ("\"2024-06-15T10:30\"", "2024-06-15T10:30:00Z"),
        ("\"2024-06-15T10:30:00\"", "2024-06-15T10:30:00Z"),
        ("\"2024-06-15 10:30:00.25\"", "2024-06-15T10:30:00.25Z"),
        ("\"2024-06-15T10:30:00,25Z\"", "2024-06-15T10:30:00.25Z"),
        ("\"2024-06-15T10:30:00.1234567890123Z\"", "2024-06-15T10:30:00.123456789Z"),
        ("\"2024-06-15T10:30:00.0000000009+02:00\"", "2024-06-15T08:30:00Z"),
        ("\"2024-12-31T23:59:60Z\"", "2024-12-31T23:59:59Z"),
        ("1718447400", "2024-06-15T10:30:00Z"),
        ("\"1718447400\"", "2024-06-15T10:30:00Z"),
        ("1718447400.5", "2024-06-15T10:30:00.5Z"),
        ("1.7184474e9", "2024-06-15T10:30:00Z"),
        ("1718447400123", "2024-06-15T10:30:00.123Z"),
        ("\"1718447400123\"", "2024-06-15T10:30:00.123Z"),
        ("0", "1970-01-01T00:00:00Z"),
    ] {
        let event = decode(&with("\"2024-06-15T10:30:00Z\"", spelled)).unwrap();
        assert_eq!(event.time.map(|time| time.to_string()).as_deref(), Some(read), "{spelled}");
    }
}

#[test]
fn a_time_that_cannot_be_read_is_no_reason_to_reject() {
    for spelled in [
        "\"15 June, half past ten\"",
        "\"2024-06-15\"",
        "\"2024-02-31T10:30:00Z\"",
        "\"2024-06-15T10:30:00[Europe/Berlin]\"",
        "\"NaN\"",
        "\"inf\"",
        "\"\\ud83d\"",
        "\"\"",
        "1e400",
        "1718447400123456",
        "null",
        "true",
        "{\"seconds\":1718447400}",
    ] {
        assert_eq!(decode(&with("\"2024-06-15T10:30:00Z\"", spelled)).unwrap().time, None, "{spelled}");
    }
}

#[test]
fn organization_comes_from_body_or_header_and_both_must_agree() {
    let named = with("\"status\"", r#""organizationId": "acme", "status""#);
    let read = |body: &str, header| Event::decode(body.as_bytes(), header, 1 << 20);
    assert_eq!(read(&named, None).unwrap().organization.as_deref(), Some("acme"));
    assert_eq!(read(EXAMPLE, Some("acme")).unwrap().organization.as_deref(), Some("acme"));
    assert_eq!(read(&named, Some("acme")).unwrap().organization.as_deref(), Some("acme"));
    assert_eq!(read(&named, Some("Acme")).unwrap_err().reason, RejectReason::OrganizationMismatch);
    assert_eq!(read(EXAMPLE, Some("a b")).unwrap_err().reason, RejectReason::InvalidField);
    assert_eq!(read(&with("\"status\"", r#""organizationId": null, "status""#), None).unwrap().organization, None);
}
