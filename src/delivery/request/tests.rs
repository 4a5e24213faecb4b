use super::*;
use crate::{delivery::signature::SigningSecret, store::TargetKey};

const TRACE: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

fn target(headers: &[(&'static str, &'static str)], secrets: &[&str]) -> Target {
    let headers = headers.iter().map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)));
    let url = "https://crm.acme.example/hooks".parse().unwrap();
    Target {
        headers: headers.collect(),
        signing_secrets: secrets.iter().map(|secret| SigningSecret::parse(secret).unwrap()).collect(),
        ..Target::plain(TargetKey::new("acme", None, None), "acme", url)
    }
}

fn request(target: &Target) -> DeliveryRequest<'_> {
    DeliveryRequest {
        webhook_id: "msg_p5jXN8AQM9LWM0D4loKWxJek",
        attempt: 2,
        timestamp: 1_614_265_330,
        traceparent: None,
        body: br#"{"test": 2432232314}"#,
        target,
    }
}

fn texts(headers: &HeaderMap) -> Vec<(&str, &str)> {
    let mut texts: Vec<_> = headers.iter().map(|(name, value)| (name.as_str(), value.to_str().unwrap())).collect();
    texts.sort_unstable();
    texts
}

#[test]
fn a_plain_target_gets_our_headers_only() {
    let target = target(&[], &[]);
    let headers = headers(&request(&target)).unwrap();
    let wanted = [
        ("content-type", "application/json"),
        ("leadhook-attempt", "2"),
        ("user-agent", AGENT),
        ("webhook-id", "msg_p5jXN8AQM9LWM0D4loKWxJek"),
        ("webhook-timestamp", "1614265330"),
    ];
    assert_eq!(texts(&headers), wanted);
    assert!(AGENT.starts_with("leadhook/"));
}

#[test]
fn secrets_add_the_signature_of_the_exact_bytes() {
    let target = target(&[], &["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"]);
    let headers = headers(&request(&target)).unwrap();
    assert_eq!(headers[WEBHOOK_SIGNATURE], "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
}

#[test]
fn the_targets_headers_come_along_with_every_value() {
    let mut target = target(&[("authorization", "Bearer x")], &[]);
    target.headers.append("x-tag", HeaderValue::from_static("one"));
    target.headers.append("x-tag", HeaderValue::from_static("two"));
    let headers = headers(&request(&target)).unwrap();
    assert_eq!(headers["authorization"], "Bearer x");
    assert_eq!(headers.get_all("x-tag").iter().count(), 2);
}

#[test]
fn a_target_cannot_overwrite_what_is_ours() {
    let target = target(
        &[
            ("webhook-id", "forged"),
            ("webhook-timestamp", "0"),
            ("webhook-signature", "v1,forged"),
            ("leadhook-attempt", "9"),
            ("content-type", "text/plain"),
            ("traceparent", "forged"),
        ],
        &[],
    );
    let headers = headers(&request(&target)).unwrap();
    assert_eq!(headers[WEBHOOK_ID], "msg_p5jXN8AQM9LWM0D4loKWxJek");
    assert_eq!(headers[ATTEMPT], "2");
    assert_eq!(headers[CONTENT_TYPE], "application/json");
    assert!(!headers.contains_key(WEBHOOK_SIGNATURE));
    assert!(!texts(&headers).iter().any(|(_, value)| value.contains("forged")));
}

#[test]
fn a_target_adds_a_charset_and_a_suffix_to_what_is_ours() {
    let target = target(&[("content-type", "application/json; charset=UTF-8"), ("user-agent", "acme-leads/1")], &[]);
    let headers = headers(&request(&target)).unwrap();
    assert_eq!(headers[CONTENT_TYPE], "application/json; charset=UTF-8");
    assert_eq!(headers[USER_AGENT], format!("{AGENT} acme-leads/1"));
}

#[test]
fn a_content_type_is_json_in_utf8() {
    let is = |text| is_json_in_utf8(&HeaderValue::from_static(text));
    for right in
        ["application/json; charset=utf-8", "application/json;charset=UTF-8", "Application/JSON ; Charset=\"utf-8\""]
    {
        assert!(is(right), "{right}");
    }
    for wrong in [
        "application/json",
        "application/json;",
        "application/json; charset=iso-8859-1",
        "application/json; charset=utf-8; profile=x",
        "application/vnd.api+json; charset=utf-8",
        "text/plain; charset=utf-8",
        "application/json, text/plain; charset=utf-8",
        "application/json; version=1",
    ] {
        assert!(!is(wrong), "{wrong}");
    }
}

#[test]
fn only_a_valid_trace_travels_on() {
    let plain = target(&[], &[]);
    let sent = |traceparent| {
        let headers = headers(&DeliveryRequest { traceparent: Some(traceparent), ..request(&plain) }).unwrap();
        headers.get(TRACEPARENT).map(|value| value.to_str().unwrap().to_owned())
    };
    assert_eq!(sent(TRACE).as_deref(), Some(TRACE));
    let without_parent = TRACE.replace("00f067aa0ba902b7", "0000000000000000");
    assert_eq!(sent(&without_parent), None);
    assert_eq!(sent("a\r\nb: c"), None);
}

#[test]
fn an_id_that_is_no_header_value_is_an_error() {
    let target = target(&[], &["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"]);
    for webhook_id in ["", "a b", "a\nb", "é"] {
        assert_eq!(
            headers(&DeliveryRequest { webhook_id, ..request(&target) }),
            Err(UnusableWebhookId),
            "{webhook_id:?}"
        );
    }
}
