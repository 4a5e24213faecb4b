//! Ids: a permanent one for each delivery, and one for each published copy of its job.

use aws_lc_rs::digest::{Context, SHA256};

use crate::{event::Event, store::TargetKey};

/// Returns the `webhook-id` of an event for a target. It is the same for each attempt, crash, duplicate and replay.
///
/// With a `message_id`, it is a digest of that and of the fields that identify the event. So an event that upstream
/// publishes again with other whitespace keeps its id, and different events that share a `message_id` have different
/// ids. Without a `message_id`, or with an empty one, it is a digest of the body: only equal bytes are the same event.
///
/// It has 128 bits in hex and no dots, because Standard Webhooks joins the signed parts with dots.
pub fn webhook_id(message_id: Option<&str>, event: &Event, body: &[u8], target: &TargetKey) -> String {
    match message_id.filter(|id| !id.is_empty()) {
        Some(id) => {
            let Event { kind, lead, submission, campaign, timestamp, .. } = event;
            let texts = [id, kind.name(), lead, submission, campaign, timestamp, target.as_str()];
            digest(texts.map(str::as_bytes))
        }
        None => body_id(body, target),
    }
}

/// Returns the `webhook-id` of an event without a `message_id`.
pub(super) fn body_id(body: &[u8], target: &TargetKey) -> String {
    digest([body, target.as_str().as_bytes()])
}

/// Returns the `webhook-id` of a delivery to another target if only the id of the first delivery is known.
pub(super) fn derived_id(webhook_id: &str, target: &TargetKey) -> String {
    digest([webhook_id.as_bytes(), b"", target.as_str().as_bytes()])
}

/// Hashes the parts, each behind its length, so different lists of parts are never the same bytes.
fn digest<const N: usize>(parts: [&[u8]; N]) -> String {
    let mut digest = Context::new(&SHA256);
    for part in parts {
        digest.update(&(part.len() as u64).to_be_bytes());
        digest.update(part);
    }
    hex("wh_", &digest.finish().as_ref()[..16])
}

/// Returns a new id for a copy that is about to be published: 128 random bits in hex. It distinguishes a redelivery of
/// a copy that this process has worked on from another copy of the same job.
pub fn fresh_copy() -> String {
    hex("", &fastrand::u128(..).to_be_bytes())
}

fn hex(prefix: &str, bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digit = |nibble: u8| char::from(DIGITS[usize::from(nibble)]);
    let mut text = String::with_capacity(prefix.len() + 2 * bytes.len());
    text.push_str(prefix);
    text.extend(bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]));
    text
}

/// Returns whether `id` begins with `said`, with or without the `wh_` that begins all our ids.
pub fn is_beginning(said: &str, id: &str) -> bool {
    id.starts_with(said) || id.strip_prefix("wh_").is_some_and(|rest| rest.starts_with(said))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::EventKind;

    fn event(change: impl Fn(&mut Event)) -> Event {
        let body = br#"{"event":"lead.queued","leadId":"l","submissionId":"s","campaignId":"ABC","status":"","timestamp":17,"data":{}}"#;
        let mut event = Event::decode(body, None, body.len()).unwrap();
        change(&mut event);
        event
    }

    #[test]
    fn an_id_has_no_dots_and_differs_in_every_part() {
        let target = TargetKey::new("acme", Some("ABC"), None);
        let id =
            |message_id, change: fn(&mut Event), body: &[u8]| webhook_id(message_id, &event(change), body, &target);
        let first = id(Some("m1"), |_| {}, b"{}");
        assert_eq!(first.len(), 35);
        assert!(!first.contains('.'));
        assert_eq!(first, id(Some("m1"), |_| {}, b"{ }"), "whitespace does not matter");
        assert_eq!(first, id(Some("m1"), |event| event.organization = Some("acme".into()), b"{}"));
        assert_eq!(id(None, |_| {}, b"{}"), id(Some(""), |event| event.lead.push('x'), b"{}"), "only the body counts");
        let others = [
            first,
            id(None, |_| {}, b"{}"),
            id(None, |_| {}, b"{} "),
            id(Some("m"), |event| event.kind = EventKind::Failed, b"{}"),
            id(Some("m1"), |event| event.kind = EventKind::Failed, b"{}"),
            id(Some("m1"), |event| event.lead = "ls".into(), b"{}"),
            id(Some("m1"), |event| (event.lead, event.submission) = (String::new(), "ls".into()), b"{}"),
            id(Some("m1"), |event| event.campaign = "AB".into(), b"{}"),
            id(Some("m1"), |event| event.timestamp = "18".into(), b"{}"),
            webhook_id(Some("m1"), &event(|_| {}), b"{}", &TargetKey::new("acme", None, None)),
            webhook_id(None, &event(|_| {}), b"{}", &TargetKey::new("acme", None, None)),
        ];
        for (n, other) in others.iter().enumerate() {
            assert!(!others[..n].contains(other), "{n}");
        }
    }

    #[test]
    fn copies_differ() {
        assert_eq!(fresh_copy().len(), 32);
        assert_ne!(fresh_copy(), fresh_copy());
    }
}
