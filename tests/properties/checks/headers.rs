//! The headers of an attempt: a target cannot overwrite ours, its own arrive unchanged, and no value can start another
//! header line.

use std::time::{Duration, SystemTime};

use leadhook::{
    delivery::{
        request::{AGENT, DeliveryRequest, headers},
        signature::{SigningSecret, verify},
    },
    event::{Event, EventKind},
    job::webhook_id,
    store::{Target, TargetKey},
};
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};

/// Headers that only the delivery sets, and no target.
const OURS: [&str; 7] = [
    "content-type",
    "user-agent",
    "webhook-id",
    "webhook-timestamp",
    "webhook-signature",
    "leadhook-attempt",
    "traceparent",
];

const SECRETS: [&str; 3] = [
    "whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3",
    "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
    "whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA==",
];

/// One attempt with its target.
pub struct Attempt<'a> {
    /// The job's id. Ours have another form, but a message may contain any text.
    pub id: &'a str,
    /// The attempt number, from 1.
    pub number: u32,
    /// Unix seconds.
    pub timestamp: u64,
    /// The event's `traceparent`.
    pub traceparent: Option<&'a str>,
    /// Number of signing secrets in use, of three.
    pub secrets: usize,
    /// The target's headers, as far as HTTP can carry them.
    pub headers: &'a [(&'a [u8], &'a [u8])],
    /// The event's bytes.
    pub body: &'a [u8],
}

/// Checks lines of text: the id, `attempt timestamp secrets`, the traceparent (`-` for none), then the target's headers
/// as `name: value`. An empty line and the body follow.
pub fn input(input: &[u8]) -> &'static str {
    let (lines, body) = super::head_and_body(input);
    let text = |at: usize| lines.get(at).and_then(|line| std::str::from_utf8(line).ok());
    let mut numbers = text(1).unwrap_or_default().split(' ').map(|number| number.parse::<u64>().unwrap_or(1));
    let mut number = || numbers.next().unwrap_or_default();
    let pairs: Vec<(&[u8], &[u8])> = lines
        .iter()
        .skip(3)
        .filter_map(|line| {
            let colon = line.iter().position(|byte| *byte == b':')?;
            Some((&line[..colon], line[colon + 1..].trim_ascii_start()))
        })
        .collect();
    check(&Attempt {
        id: text(0).unwrap_or_default(),
        number: u32::try_from(number()).unwrap_or(u32::MAX),
        timestamp: number(),
        secrets: usize::try_from(number() % 4).expect("0 to 3"),
        traceparent: text(2).filter(|text| *text != "-"),
        headers: &pairs,
        body,
    })
}

/// Checks every rule of one attempt.
pub fn check(attempt: &Attempt<'_>) -> &'static str {
    ids_are_plain(attempt);
    let target = target(attempt);
    let made = headers(&DeliveryRequest {
        webhook_id: attempt.id,
        attempt: attempt.number,
        timestamp: attempt.timestamp,
        traceparent: attempt.traceparent,
        body: attempt.body,
        target: &target,
    });
    let visible = !attempt.id.is_empty() && attempt.id.chars().all(|c| ('!'..='~').contains(&c));
    assert_eq!(made.is_ok(), visible, "id {:?}", attempt.id);
    let Ok(made) = made else { return "unusable" };
    says_json(&only(&made, "content-type"));
    let agent = only(&made, "user-agent");
    let suffix = agent.strip_prefix(AGENT).expect("our name first");
    assert!(suffix.is_empty() || suffix.starts_with(' '), "{agent:?}");
    assert_eq!(only(&made, "webhook-id"), attempt.id);
    assert_eq!(only(&made, "webhook-timestamp"), attempt.timestamp.to_string());
    assert_eq!(only(&made, "leadhook-attempt"), attempt.number.to_string());
    is_signed(attempt, &made);
    the_rest_is_the_targets(&target, &made);
    the_trace_is_the_events(attempt, &made);
    for (name, value) in &made {
        let broken = value.as_bytes().iter().any(|byte| matches!(byte, b'\r' | b'\n' | 0));
        assert!(!broken, "{name} holds a line break");
    }
    if attempt.secrets > 0 { "signed" } else { "unsigned" }
}

/// Checks the id that a job of this body gets: it has a fixed form, whatever the body and the upstream id are.
fn ids_are_plain(attempt: &Attempt<'_>) {
    let key = TargetKey::new("acme", Some("ABC"), None);
    let event = |lead: &str| Event {
        kind: EventKind::Queued,
        campaign: "ABC".to_owned(),
        organization: None,
        lead: lead.to_owned(),
        submission: attempt.id.to_owned(),
        timestamp: String::new(),
        time: None,
    };
    let id = webhook_id(Some(attempt.id), &event("l"), attempt.body, &key);
    assert!(
        id.starts_with("wh_") && id.len() == 35 && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
    );
    let blank = [attempt.body, b" "].concat();
    let named = !attempt.id.is_empty();
    assert_eq!(webhook_id(Some(attempt.id), &event("l"), &blank, &key) == id, named);
    assert_eq!(webhook_id(Some(attempt.id), &event("m"), attempt.body, &key) != id, named);
    assert_eq!(webhook_id(None, &event("l"), attempt.body, &key) != id, named);
    assert_ne!(id, webhook_id(Some(attempt.id), &event("l"), attempt.body, &TargetKey::new("acme", None, None)));
}

fn target(attempt: &Attempt<'_>) -> Target {
    let mut headers = HeaderMap::new();
    for (name, value) in attempt.headers {
        if let (Ok(name), Ok(mut value)) = (HeaderName::from_bytes(name), HeaderValue::from_bytes(value)) {
            value.set_sensitive(true);
            headers.append(name, value);
        }
    }
    let secrets = SECRETS.iter().take(attempt.secrets).map(|secret| SigningSecret::parse(secret).expect("a secret"));
    let url = "https://crm.acme.example/hooks".parse().expect("a URL");
    let plain = Target::plain(TargetKey::new("acme", None, None), "acme", url);
    Target { headers, signing_secrets: secrets.collect(), ..plain }
}

fn only(headers: &HeaderMap, name: &str) -> String {
    let all: Vec<_> = headers.get_all(name).iter().collect();
    assert_eq!(all.len(), 1, "{name} is present {} times", all.len());
    String::from_utf8_lossy(all[0].as_bytes()).into_owned()
}

/// Checks that the request is signed if and only if there are secrets, and by each of them.
fn is_signed(attempt: &Attempt<'_>, made: &HeaderMap) {
    let signatures = made.get("webhook-signature").map(|_| only(made, "webhook-signature"));
    assert_eq!(signatures.is_some(), attempt.secrets > 0, "signed without secrets, or not signed with them");
    let Some(signatures) = signatures else { return };
    assert_eq!(signatures.split(' ').count(), attempt.secrets);
    let Some(now) = SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(attempt.timestamp)) else { return };
    for secret in SECRETS.iter().take(attempt.secrets) {
        let secret = [SigningSecret::parse(secret).expect("a secret")];
        let timestamp = only(made, "webhook-timestamp");
        let verdict = verify(&secret, attempt.id, &timestamp, &signatures, attempt.body, now, Duration::ZERO);
        assert_eq!(verdict, Ok(()));
    }
}

/// Checks for `application/json`, with at most JSON's own charset beside it.
fn says_json(content_type: &str) {
    let plain: String = content_type.to_ascii_lowercase().split([' ', '\t', '"']).collect();
    assert!(["application/json", "application/json;charset=utf-8"].contains(&plain.as_str()), "{content_type:?}");
}

/// Checks that every other header is the target's, with every value, in order, and still marked as sensitive.
fn the_rest_is_the_targets(target: &Target, made: &HeaderMap) {
    for name in made.keys().chain(target.headers.keys()).filter(|name| !OURS.contains(&name.as_str())) {
        let wanted: Vec<_> = target.headers.get_all(name).iter().map(HeaderValue::as_bytes).collect();
        let sent: Vec<_> = made.get_all(name).iter().map(HeaderValue::as_bytes).collect();
        assert_eq!(sent, wanted, "{name}");
        assert!(made.get_all(name).iter().all(HeaderValue::is_sensitive), "{name} may be logged");
    }
}

/// Checks that the trace is the event's own, if it is valid, and never the target's.
fn the_trace_is_the_events(attempt: &Attempt<'_>, made: &HeaderMap) {
    let sent: Vec<_> = made.get_all("traceparent").iter().map(HeaderValue::as_bytes).collect();
    let trace = attempt.traceparent.filter(|text| is_trace(text)).map(str::as_bytes);
    assert_eq!(sent, Vec::from_iter(trace));
}

/// Returns whether a text has the form of W3C Trace Context, section 3.2: `vv-` 32 hex `-` 16 hex `-` 2 hex, and more
/// only after a later version. Neither id is all zeros.
fn is_trace(text: &str) -> bool {
    let is_hex = |c: &char| matches!(c, '0'..='9' | 'a'..='f');
    let chars: Vec<char> = text.chars().collect();
    if chars.len() < 55 || text.len() > 256 || !text.chars().all(|c| ('!'..='~').contains(&c)) {
        return false;
    }
    let fields = (0..55).all(|at| if matches!(at, 2 | 35 | 52) { chars[at] == '-' } else { is_hex(&chars[at]) });
    let version: String = chars[..2].iter().collect();
    let ids = [3..35, 36..52].into_iter().all(|id| chars[id].iter().any(|c| *c != '0'));
    fields && ids && version != "ff" && (chars.len() == 55 || (version != "00" && chars[55] == '-'))
}
