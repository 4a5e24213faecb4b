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
    assert_eq!(event.timestamp.to_string(), "2024-06-15T10:30:00Z");
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
    let deep = format!("{}{}", "[".repeat(200), "]".repeat(200));
    let cases = [
        (String::new(), NotJson, "empty"),
        ("not json".into(), NotJson, "line 1 column"),
        ("[1]".into(), NotJson, "expected an object, it is an array"),
        ("\"text\"".into(), NotJson, "it is a string"),
        (EXAMPLE[..100].into(), NotJson, "line"),
        (format!("{EXAMPLE} x"), NotJson, "line"),
        (format!("{EXAMPLE}{EXAMPLE}"), NotJson, "line"),
        (with("\"John\"", &deep), NotJson, "line"),
        (with("\"John\"", r#""\ud800""#), NotJson, "line"),
        (with("\"status\"", r#""status": "x", "status""#), DuplicateKey, "same key twice"),
        (with("\"firstName\"", r#""email": "a", "firstName""#), DuplicateKey, "same key twice"),
        (with("\"John\"", r#"[{"a":1,"a":2}]"#), DuplicateKey, "same key twice"),
        (with("\"leadId\"", "\"lead\""), MissingField, "field \"leadId\" is missing"),
        (with("\"data\"", "\"date\""), MissingField, "field \"data\" is missing"),
        (with("\"sub_xyz789\"", "7"), InvalidField, "field \"submissionId\": expected a string, it is a number"),
        (with("\"delivered\"", "null"), InvalidField, "field \"status\": expected a string, it is null"),
        (with(r#"{ "firstName": "John", "email": "john@example.com" }"#, "[]"), InvalidField, "an object"),
        (with("2024-06-15T10:30:00Z", "2024-06-15"), InvalidField, "RFC 3339"),
        (with("2024-06-15T10:30:00Z", "2024-06-15T10:30:00"), InvalidField, "RFC 3339"),
        (with("2024-06-15T10:30:00Z", "2024-02-31T10:30:00Z"), InvalidField, "RFC 3339"),
        (with("\"ABC\"", "\"A C\""), InvalidField, "field \"campaignId\": expected 1 to 128"),
        (with("\"ABC\"", "\"\""), InvalidField, "field \"campaignId\": expected 1 to 128"),
        (with("lead.delivered", "lead.exploded"), UnknownEvent, "expected one of lead.delivered, lead.disq"),
        (with("\"status\"", r#""organizationId": 7, "status""#), InvalidField, "\"organizationId\": expected a string"),
    ];
    for (body, reason, detail) in cases {
        let rejection = decode(&body).expect_err(&body);
        assert_eq!(rejection.reason, reason, "{body}\n{rejection}");
        assert!(rejection.detail.contains(detail), "{body}\n{rejection}");
        assert!(!rejection.detail.contains("John") && !rejection.detail.contains("exploded"), "{rejection}");
    }
}

#[test]
fn binary_garbage_is_not_json() {
    assert_eq!(Event::decode(&[0, 159, 146, 150], None, 100).unwrap_err().reason, RejectReason::NotJson);
    let broken_text = [b"{\"a\":\"".as_slice(), &[0xff, 0xfe], b"\"}"].concat();
    assert_eq!(Event::decode(&broken_text, None, 100).unwrap_err().reason, RejectReason::NotJson);
}

#[test]
fn the_size_limit_is_inclusive() {
    let size = EXAMPLE.len();
    assert!(Event::decode(EXAMPLE.as_bytes(), None, size).is_ok());
    let rejection = Event::decode(EXAMPLE.as_bytes(), None, size - 1).unwrap_err();
    assert_eq!(rejection.reason, RejectReason::TooLarge);
}

#[test]
fn extra_fields_and_odd_but_legal_times_are_kept() {
    for time in ["2024-06-15T10:30:00.123456789Z", "2024-06-15t10:30:00z", "2024-06-15 12:30:00+02:00"] {
        decode(&with("2024-06-15T10:30:00Z", time)).unwrap();
    }
    decode(&with("\"status\"", r#""extra": {"a": [1, 2.5, true, null]}, "status""#)).unwrap();
}

#[test]
fn a_fraction_of_any_length_is_a_time_and_what_is_finer_than_nanoseconds_is_cut() {
    for (fraction, read) in
        [(".1", ".1"), (".123456789", ".123456789"), (".1234567890", ".123456789"), (".0000000009999", "")]
    {
        for offset in ["Z", "+02:00"] {
            let event = decode(&with("10:30:00Z", &format!("10:30:00{fraction}{offset}"))).unwrap();
            assert!(
                event.timestamp.to_string().ends_with(&format!(":30:00{read}Z")),
                "{fraction}: {}",
                event.timestamp
            );
        }
    }
}

#[test]
fn times_of_other_standards_are_refused() {
    for time in
        ["10:30:00,5Z", "10:30:00.Z", "10:30:00+24:00", "10:30:00-25:59", "10:30:00+02", "10:30Z", "10:30:00Z[UTC]"]
    {
        let rejection = decode(&with("10:30:00Z", time)).expect_err(time);
        assert!(rejection.detail.contains("RFC 3339"), "{time}: {rejection}");
    }
    decode(&with("10:30:00Z", "10:30:00+23:59")).unwrap();
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
