//! The headers of one attempt (docs/how-to/receive.md).

use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, USER_AGENT};

use super::{signature, trace_context::is_traceparent};
use crate::store::Target;

/// `webhook-id`
pub const WEBHOOK_ID: HeaderName = HeaderName::from_static("webhook-id");

/// `webhook-timestamp`
pub const WEBHOOK_TIMESTAMP: HeaderName = HeaderName::from_static("webhook-timestamp");

/// `webhook-signature`
pub const WEBHOOK_SIGNATURE: HeaderName = HeaderName::from_static("webhook-signature");

/// `leadhook-attempt`
pub const ATTEMPT: HeaderName = HeaderName::from_static("leadhook-attempt");

/// `traceparent` (W3C Trace Context)
pub const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");

/// The most headers that are added to the target's, including `accept` and those that HTTP itself needs (host, length).
const OURS: usize = 10;

/// The `User-Agent` of every attempt.
pub const AGENT: &str = concat!("leadhook/", env!("CARGO_PKG_VERSION"));

/// One attempt of a job, before it becomes a request.
#[derive(Clone, Copy)]
pub struct DeliveryRequest<'a> {
    /// The job's stable id.
    pub webhook_id: &'a str,
    /// The number of this attempt, 1-based.
    pub attempt: u32,
    /// The time of this attempt, in unix seconds. Each attempt has its own, because receivers refuse old timestamps.
    pub timestamp: u64,
    /// The trace that the event came with. It is left out if [`is_traceparent`] refuses it.
    pub traceparent: Option<&'a str>,
    /// The event's bytes.
    pub body: &'a [u8],
    /// The target that receives it.
    pub target: &'a Target,
}

/// The webhook-id is not a valid header value, so the job did not come from Leadhook.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the webhook-id cannot stand in a header")]
pub struct UnusableWebhookId;

/// Returns all headers of the request except those that HTTP itself needs (host, length): ours and the target's.
///
/// Our headers win over a target's header of the same name. The store reserves these names when it is loaded, because a
/// tenant must not overwrite a signature or an id. A target can only add a charset to `Content-Type` and a suffix to
/// `User-Agent`.
///
/// # Errors
/// [`UnusableWebhookId`] if the id is empty or holds anything but visible ASCII.
pub fn headers(delivery: &DeliveryRequest<'_>) -> Result<HeaderMap, UnusableWebhookId> {
    let targets = &delivery.target.headers;
    let mut headers = HeaderMap::with_capacity(targets.len() + OURS);
    headers.extend(targets.iter().map(|(name, value)| (name.clone(), value.clone())));
    headers.remove(TRACEPARENT);
    if let Some(trace) = delivery.traceparent.and_then(traceparent) {
        headers.insert(TRACEPARENT, trace);
    }
    let content_type = targets.get(CONTENT_TYPE).filter(|value| is_json_in_utf8(value)).cloned();
    headers.insert(CONTENT_TYPE, content_type.unwrap_or(HeaderValue::from_static("application/json")));
    headers.insert(USER_AGENT, targets.get(USER_AGENT).and_then(agent).unwrap_or(HeaderValue::from_static(AGENT)));
    headers.insert(WEBHOOK_ID, webhook_id(delivery.webhook_id)?);
    headers.insert(WEBHOOK_TIMESTAMP, delivery.timestamp.into());
    headers.insert(ATTEMPT, delivery.attempt.into());
    headers.remove(WEBHOOK_SIGNATURE);
    if !delivery.target.signing_secrets.is_empty() {
        headers.insert(WEBHOOK_SIGNATURE, signature_of(delivery)?);
    }
    Ok(headers)
}

/// Returns whether a `Content-Type` is JSON with `charset=utf-8` and nothing else. JSON has no other charset.
pub fn is_json_in_utf8(content_type: &HeaderValue) -> bool {
    let Ok(text) = content_type.to_str() else { return false };
    let Some((media_type, parameter)) = text.split_once(';') else { return false };
    let Some((name, charset)) = parameter.trim_matches([' ', '\t']).split_once('=') else { return false };
    let charset = charset.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).unwrap_or(charset);
    media_type.trim_end_matches([' ', '\t']).eq_ignore_ascii_case("application/json")
        && name.eq_ignore_ascii_case("charset")
        && charset.eq_ignore_ascii_case("utf-8")
}

/// Returns our name followed by the target's suffix, or `None` if the suffix is empty.
fn agent(suffix: &HeaderValue) -> Option<HeaderValue> {
    if suffix.is_empty() {
        return None;
    }
    let mut agent = HeaderValue::from_bytes(&[AGENT.as_bytes(), b" ", suffix.as_bytes()].concat()).ok()?;
    agent.set_sensitive(suffix.is_sensitive());
    Some(agent)
}

fn webhook_id(id: &str) -> Result<HeaderValue, UnusableWebhookId> {
    let visible = !id.is_empty() && id.bytes().all(|byte| byte.is_ascii_graphic());
    visible.then(|| HeaderValue::from_str(id).ok()).flatten().ok_or(UnusableWebhookId)
}

fn signature_of(delivery: &DeliveryRequest<'_>) -> Result<HeaderValue, UnusableWebhookId> {
    let DeliveryRequest { webhook_id, timestamp, body, target, .. } = delivery;
    let signatures = signature::sign(&target.signing_secrets, webhook_id, *timestamp, body);
    // Base64, commas and blanks always make a header value, so this cannot fail.
    HeaderValue::from_str(&signatures).map_err(|_| UnusableWebhookId)
}

fn traceparent(value: &str) -> Option<HeaderValue> {
    is_traceparent(value).then(|| HeaderValue::from_str(value).ok()).flatten()
}

#[cfg(test)]
mod tests;
