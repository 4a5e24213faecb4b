//! One lead event, as published upstream: decoded just far enough to route it, its bytes kept as they came.

mod kind;
mod strict;
#[cfg(test)]
mod tests;

use jiff::Timestamp;

pub use self::kind::EventKind;
use self::strict::{Fields, Shape};
use crate::rejection::{RejectReason, Rejection};

/// The AMQP header in which a publisher may name the organization.
pub const ORGANIZATION_HEADER: &str = "organization-id";

/// What routing needs of an event (docs/reference/events.md). Holds no personal data: nothing of `data` is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// `event`
    pub kind: EventKind,
    /// `campaignId`
    pub campaign: String,
    /// `organizationId`, or the AMQP header `organization-id`, or none.
    pub organization: Option<String>,
    /// `leadId`
    pub lead: String,
    /// `submissionId`
    pub submission: String,
    /// `timestamp`
    pub timestamp: Timestamp,
}

impl Event {
    /// Decodes a body. `organization` is the AMQP header `organization-id`, if it is there.
    ///
    /// # Errors
    /// Every way in which a body is not a usable event, except where it goes: that is the store's to say.
    pub fn decode(body: &[u8], organization: Option<&str>, max_bytes: usize) -> Result<Event, Rejection> {
        if body.len() > max_bytes {
            let detail = format!("{} bytes, allowed are {max_bytes} (delivery.max_event_bytes)", body.len());
            return Err(Rejection::new(RejectReason::TooLarge, detail));
        }
        let mut fields = strict::parse(body)?;
        let kind = kind_of(&mut fields)?;
        let lead = fields.string("leadId")?;
        let submission = fields.string("submissionId")?;
        let campaign = identifier("campaignId", fields.string("campaignId")?)?;
        fields.string("status")?;
        let timestamp = rfc3339(&fields.string("timestamp")?)?;
        if fields.required("data")? != Shape::Object {
            return Err(fields.wrong("data", "an object"));
        }
        let organization = one_organization(fields.optional_string("organizationId")?, organization)?;
        Ok(Event { kind, campaign, organization, lead, submission, timestamp })
    }
}

fn kind_of(fields: &mut Fields) -> Result<EventKind, Rejection> {
    EventKind::parse(&fields.string("event")?).ok_or_else(|| {
        let names = EventKind::ALL.map(EventKind::name).join(", ");
        Rejection::new(RejectReason::UnknownEvent, format!("field \"event\": expected one of {names}"))
    })
}

fn one_organization(body: Option<String>, header: Option<&str>) -> Result<Option<String>, Rejection> {
    match (body, header) {
        (Some(body), Some(header)) if body != header => Err(Rejection::new(
            RejectReason::OrganizationMismatch,
            "field \"organizationId\" and AMQP header organization-id name different organizations",
        )),
        (Some(body), _) => identifier("organizationId", body).map(Some),
        (None, Some(header)) => identifier("organization-id", header.to_owned()).map(Some),
        (None, None) => Ok(None),
    }
}

/// Ids are 1 to 128 of `A-Z a-z 0-9 . _ : -` (docs/reference/webhook-store.md), so that they are safe in keys, headers and logs.
fn identifier(field: &str, value: String) -> Result<String, Rejection> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._:-".contains(&byte);
    if (1..=128).contains(&value.len()) && value.bytes().all(allowed) {
        return Ok(value);
    }
    let detail = format!("field \"{field}\": expected 1 to 128 characters of A-Z a-z 0-9 . _ : -");
    Err(Rejection::new(RejectReason::InvalidField, detail))
}

/// RFC 3339 section 5.6: four-digit year, seconds, and an offset; stricter than what jiff reads (RFC 9557,
/// ISO 8601, offsets of more than a day).
///
/// The RFC sets no limit to the digits of a fraction, jiff reads nine: what is finer is cut, and plays no part.
fn rfc3339(text: &str) -> Result<Timestamp, Rejection> {
    let bytes = text.as_bytes();
    let digits = |from: usize, to: usize| bytes.get(from..to).is_some_and(|part| part.iter().all(u8::is_ascii_digit));
    let marks = |at: usize, marks: &[u8]| bytes.get(at).is_some_and(|byte| marks.contains(byte));
    let date = digits(0, 4) && marks(4, b"-") && digits(5, 7) && marks(7, b"-") && digits(8, 10);
    let time = marks(10, b"Tt ") && digits(11, 13) && marks(13, b":") && digits(14, 16) && marks(16, b":");
    let end = |before: usize| bytes.len().wrapping_sub(before);
    let less_than_a_day = bytes.get(end(5)..end(3)).is_some_and(|hours| hours < &b"24"[..]);
    let offset = marks(end(1), b"Zz") || (marks(end(6), b"+-") && marks(end(3), b":") && less_than_a_day);
    // jiff takes a comma for the point of a fraction, as ISO 8601 does.
    let plain = date && time && digits(17, 19) && offset && !text.contains(['[', ',']);
    let read = || match digits(20, 30) && marks(19, b".") {
        true => format!("{}{}", &text[..29], text[30..].trim_start_matches(|c: char| c.is_ascii_digit())).parse().ok(),
        false => text.parse().ok(),
    };
    plain.then(read).flatten().ok_or_else(|| {
        let detail = "field \"timestamp\": expected an RFC 3339 time such as 2024-06-15T10:30:00Z";
        Rejection::new(RejectReason::InvalidField, detail)
    })
}
