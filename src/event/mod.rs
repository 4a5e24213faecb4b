//! One lead event as upstream published it. Leadhook decodes just enough to route and log it, and keeps the bytes
//! unchanged.
//!
//! Decoding is strict about presence and lenient about form. Each of the seven fields must appear exactly once, and the
//! whole body must follow the JSON grammar. Leadhook decodes a value only if routing or the delivery log needs it, and
//! never one inside `data`.

mod kind;
pub mod members;
#[cfg(test)]
mod tests;
mod time;

use jiff::Timestamp;

pub use self::kind::EventKind;
use crate::rejection::{RejectReason, Rejection};

/// The AMQP header in which a publisher may name the organization.
pub const ORGANIZATION_HEADER: &str = "organization-id";

/// The seven required fields of an event, and the optional one.
pub const FIELDS: [&str; 8] =
    ["event", "leadId", "submissionId", "campaignId", "status", "timestamp", "data", "organizationId"];

/// The parts of an event that routing and the delivery log need (docs/reference/events.md). Holds nothing from `data`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// `event`
    pub kind: EventKind,
    /// `campaignId`
    pub campaign: String,
    /// `organizationId`, else the AMQP header `organization-id`.
    pub organization: Option<String>,
    /// `leadId`
    pub lead: String,
    /// `submissionId`
    pub submission: String,
    /// `timestamp`, as written.
    pub timestamp: String,
    /// `timestamp` as a time; `None` if its form is unknown.
    pub time: Option<Timestamp>,
}

impl Event {
    /// Decodes a body. `organization` is the AMQP header `organization-id`, if present.
    ///
    /// # Errors
    /// Any reason that the body alone gives to reject the event. The store checks campaign and organization later.
    pub fn decode(body: &[u8], organization: Option<&str>, max_bytes: usize) -> Result<Event, Rejection> {
        if body.len() > max_bytes {
            let detail = format!("more than {max_bytes} bytes (delivery.max_event_bytes), it has {}", body.len());
            return Err(Rejection::new(RejectReason::TooLarge, detail));
        }
        let fields = Fields::of(body)?;
        let kind = kind_of(&fields)?;
        let lead = fields.id("leadId")?;
        let submission = fields.id("submissionId")?;
        let campaign = identifier("campaignId", fields.id("campaignId")?)?;
        fields.required("status")?;
        let timestamp = members::text_of(fields.required("timestamp")?).into_owned();
        let data = fields.required("data")?;
        if !data.starts_with('{') {
            return Err(wrong("data", "an object", data));
        }
        let organization = one_organization(fields.optional_id("organizationId")?, organization)?;
        let time = time::read(&timestamp);
        Ok(Event { kind, campaign, organization, lead, submission, timestamp, time })
    }
}

/// The values of [`FIELDS`], as written.
struct Fields<'a>([Option<&'a str>; FIELDS.len()]);

impl<'a> Fields<'a> {
    fn of(body: &'a [u8]) -> Result<Fields<'a>, Rejection> {
        let mut values = [None; FIELDS.len()];
        let mut twice = None;
        members::members(body, |member| {
            let name = member.name();
            if let Some(at) = FIELDS.iter().position(|field| *field == name)
                && values[at].replace(member.value).is_some()
            {
                twice.get_or_insert(FIELDS[at]);
            }
        })?;
        match twice {
            // Leadhook would route by one of them, and the receiver may read the other.
            Some(name) => Err(Rejection::new(RejectReason::DuplicateKey, format!("field \"{name}\" appears twice"))),
            None => Ok(Fields(values)),
        }
    }

    fn optional(&self, name: &str) -> Option<&'a str> {
        FIELDS.iter().position(|field| *field == name).and_then(|at| self.0[at])
    }

    fn required(&self, name: &str) -> Result<&'a str, Rejection> {
        self.optional(name).ok_or_else(|| {
            let detail = format!("field \"{name}\" is missing");
            Rejection::new(RejectReason::MissingField, detail)
        })
    }

    fn id(&self, name: &str) -> Result<String, Rejection> {
        self.required(name).and_then(|value| id(name, value))
    }

    /// Returns an id that may be missing or null.
    fn optional_id(&self, name: &str) -> Result<Option<String>, Rejection> {
        self.optional(name).filter(|value| *value != "null").map(|value| id(name, value)).transpose()
    }
}

/// Returns the text of a string, or the digits of an integer.
fn id(name: &str, value: &str) -> Result<String, Rejection> {
    let is_integer = value.strip_prefix('-').unwrap_or(value).bytes().all(|byte| byte.is_ascii_digit());
    match value.starts_with('"') || is_integer {
        true => Ok(members::text_of(value).into_owned()),
        false => Err(wrong(name, "a string or an integer", value)),
    }
}

fn wrong(name: &str, expected: &str, value: &str) -> Rejection {
    let found = members::kind(value);
    Rejection::new(RejectReason::InvalidField, format!("field \"{name}\": expected {expected}, it is {found}"))
}

fn kind_of(fields: &Fields<'_>) -> Result<EventKind, Rejection> {
    let value = fields.required("event")?;
    if !value.starts_with('"') {
        return Err(wrong("event", "a string", value));
    }
    EventKind::parse(&members::string(value)).ok_or_else(|| {
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

/// Checks that an id has 1 to 128 characters of `A-Z a-z 0-9 . _ : -` (docs/reference/webhook-store.md). Such an id is
/// safe in keys, headers and logs.
fn identifier(field: &str, value: String) -> Result<String, Rejection> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._:-".contains(&byte);
    if (1..=128).contains(&value.len()) && value.bytes().all(allowed) {
        return Ok(value);
    }
    let detail = format!("field \"{field}\": expected 1 to 128 characters of A-Z a-z 0-9 . _ : -");
    Err(Rejection::new(RejectReason::InvalidField, detail))
}
