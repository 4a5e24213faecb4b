//! Events: what is accepted is what a second reader (`serde_json::Value`, and two small ones of this file) finds in the
//! same bytes, and what is rejected is rejected for a reason that is true.

use leadhook::{
    event::{Event, EventKind},
    rejection::{RejectReason, Rejection},
};
use serde_json::Value;

/// Larger than any generated body, so that size is checked on its own.
const LARGEST: usize = 1 << 20;

const TEXTS: [&str; 6] = ["event", "leadId", "submissionId", "campaignId", "status", "timestamp"];

/// A body; its first line may be `organization-id: ID`, which stands for the AMQP header.
pub fn input(input: &[u8]) -> &'static str {
    let (organization, body) = match input.strip_prefix(b"organization-id: ") {
        None => (None, input),
        Some(rest) => {
            let end = rest.iter().position(|byte| *byte == b'\n').unwrap_or(rest.len());
            (std::str::from_utf8(&rest[..end]).ok(), rest.get(end + 1..).unwrap_or_default())
        }
    };
    match check(body, organization) {
        Ok(_) => "event",
        Err(rejection) => rejection.reason.label(),
    }
}

/// Every rule of decoding. Gives back what was decoded.
pub fn check(body: &[u8], organization: Option<&str>) -> Result<Event, Rejection> {
    let decoded = Event::decode(body, organization, LARGEST);
    match &decoded {
        Ok(event) => {
            let value = is_what_it_says(event, body, organization);
            same_meaning_in_other_bytes(event, body, &value, organization);
        }
        Err(rejection) => {
            is_said_safely(rejection);
            if !is_private(body) {
                is_true(rejection, body, organization);
            }
        }
    }
    assert_eq!(Event::decode(body, organization, body.len()), decoded, "the size limit is inclusive");
    if let Some(smaller) = body.len().checked_sub(1) {
        let rejection = Event::decode(body, organization, smaller).expect_err("a byte too many");
        assert_eq!(rejection.reason, RejectReason::TooLarge);
    }
    decoded
}

/// `serde_json::Value` gives one key a meaning of its own, as it is built here; [`Event::decode`] does not.
fn is_private(body: &[u8]) -> bool {
    body.windows(20).any(|part| part == b"$serde_json::private")
}

fn is_what_it_says(event: &Event, body: &[u8], organization: Option<&str>) -> Value {
    let value: Value = match serde_json::from_slice(body) {
        Ok(value) => value,
        Err(_) if is_private(body) => return Value::Null,
        Err(error) => panic!("accepted, but no JSON: {error}"),
    };
    if is_private(body) {
        return Value::Null;
    }
    assert_eq!(colons_outside_strings(body), members(&value), "accepted with a key twice");
    for name in TEXTS {
        assert!(value[name].is_string(), "accepted with {name} {:?}", value[name]);
    }
    assert!(value["data"].is_object(), "accepted with data that is no object");
    assert_eq!(value["event"], event.kind.name());
    assert_eq!(value["campaignId"], event.campaign.as_str());
    assert_eq!(value["submissionId"], event.submission.as_str());
    assert!(is_id(&event.campaign), "campaign {:?}", event.campaign);
    let said = value["organizationId"].as_str().or(organization);
    assert_eq!(event.organization.as_deref(), said);
    assert!(event.organization.as_deref().is_none_or(is_id), "organization {:?}", event.organization);
    if let (Some(body), Some(header)) = (value["organizationId"].as_str(), organization) {
        assert_eq!(body, header, "accepted for two organizations");
    }
    let time = value["timestamp"].as_str().and_then(rfc3339);
    assert_eq!(time, Some(event.timestamp.as_nanosecond()), "timestamp {}", value["timestamp"]);
    value
}

/// Blanks around it and another order of its keys (the second reader sorts them) change nothing.
fn same_meaning_in_other_bytes(event: &Event, body: &[u8], value: &Value, organization: Option<&str>) {
    let blanks = [b" \r\n\t".as_slice(), body, b"\n "].concat();
    assert_eq!(Event::decode(&blanks, organization, LARGEST + 6).as_ref(), Ok(event));
    if !value.is_null() {
        let sorted = value.to_string();
        assert_eq!(Event::decode(sorted.as_bytes(), organization, usize::MAX).as_ref(), Ok(event));
    }
}

/// Reason and detail go to headers and logs.
fn is_said_safely(rejection: &Rejection) {
    let text = rejection.to_string();
    assert!(text.is_ascii() && super::is_one_plain_line(&text) && text.len() < 300, "{text:?}");
}

fn is_true(rejection: &Rejection, body: &[u8], organization: Option<&str>) {
    let value: Option<Value> = serde_json::from_slice(body).ok();
    let field = rejection.detail.split('"').nth(1).unwrap_or_default();
    let found = value.as_ref().and_then(|value| value.get(field));
    let right = match rejection.reason {
        RejectReason::TooLarge => body.len() > LARGEST,
        RejectReason::NotJson => !value.is_some_and(|value| value.is_object()),
        // The first problem is told: what is broken further on may be no JSON.
        RejectReason::DuplicateKey => value.is_none_or(|value| colons_outside_strings(body) > members(&value)),
        RejectReason::MissingField => found.is_none() && (TEXTS.contains(&field) || field == "data"),
        RejectReason::InvalidField if field == "organization-id" => !organization.is_some_and(is_id),
        RejectReason::InvalidField => found.is_some_and(|found| is_wrong(field, found)),
        RejectReason::UnknownEvent => {
            found.and_then(Value::as_str).is_some_and(|name| EventKind::ALL.iter().all(|kind| kind.name() != name))
        }
        RejectReason::OrganizationMismatch => {
            found.is_some_and(|found| Some(found) != organization.map(Value::from).as_ref())
        }
        RejectReason::UnknownCampaign
        | RejectReason::UnknownOrganization
        | RejectReason::MalformedJob
        | RejectReason::NewerVersion
        | RejectReason::DeliveryLimit
        | RejectReason::UnreadableProperties => false,
    };
    assert!(right, "rejected for a reason that is not true: {rejection}");
}

fn is_wrong(field: &str, found: &Value) -> bool {
    match field {
        "data" => !found.is_object(),
        "campaignId" | "organizationId" => !found.as_str().is_some_and(is_id),
        "timestamp" => !found.as_str().is_some_and(|text| rfc3339(text).is_some_and(fits_a_timestamp)),
        other => TEXTS.contains(&other) && !found.is_string(),
    }
}

/// docs/reference/webhook-store.md: the same ids everywhere.
pub fn is_id(text: &str) -> bool {
    !text.is_empty() && text.len() <= 128 && text.chars().all(|c| c.is_ascii_alphanumeric() || "._:-".contains(c))
}

/// Each member of a JSON object has one colon of its own. Only for what is known to be JSON.
fn colons_outside_strings(json: &[u8]) -> usize {
    let (mut colons, mut inside, mut escaped) = (0, false, false);
    for byte in json {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if inside => escaped = true,
            b'"' => inside = !inside,
            b':' if !inside => colons += 1,
            _ => {}
        }
    }
    colons
}

/// How many members all objects in it hold; of equal keys, only one has survived the reading.
fn members(value: &Value) -> usize {
    match value {
        Value::Array(values) => values.iter().map(members).sum(),
        Value::Object(map) => map.len() + map.values().map(members).sum::<usize>(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => 0,
    }
}

/// Nanoseconds since 1970 of a time by the grammar of RFC 3339, section 5.6, read digit by digit. A leap second counts
/// as the second before it; what is finer than nanoseconds is cut.
pub fn rfc3339(text: &str) -> Option<i128> {
    let mut rest = text.as_bytes();
    let mut take = |wanted: &[u8]| -> Option<u8> {
        let (first, after) = rest.split_first()?;
        wanted.contains(first).then(|| rest = after)?;
        Some(*first)
    };
    let number = |digits: usize, take: &mut dyn FnMut(&[u8]) -> Option<u8>| -> Option<i128> {
        (0..digits).try_fold(0, |sum, _| Some(sum * 10 + i128::from(take(b"0123456789")? - b'0')))
    };
    let year = number(4, &mut take)?;
    take(b"-")?;
    let month = number(2, &mut take)?;
    take(b"-")?;
    let day = number(2, &mut take)?;
    take(b"Tt ")?;
    let hour = number(2, &mut take)?;
    take(b":")?;
    let minute = number(2, &mut take)?;
    take(b":")?;
    let second = number(2, &mut take)?;
    let mut nanos = 0;
    if take(b".").is_some() {
        let mut unit = 100_000_000;
        let mut digits = 0;
        while let Some(digit) = take(b"0123456789") {
            nanos += i128::from(digit - b'0') * unit;
            unit /= 10;
            digits += 1;
        }
        if digits == 0 {
            return None;
        }
    }
    let offset = match take(b"Zz+-")? {
        sign @ (b'+' | b'-') => {
            let hours = number(2, &mut take)?;
            take(b":")?;
            let minutes = number(2, &mut take)?;
            if hours > 23 || minutes > 59 {
                return None;
            }
            (hours * 60 + minutes) * if sign == b'+' { 60 } else { -60 }
        }
        _ => 0,
    };
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let lengths = [31, if leap { 29 } else { 28 }, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let length = *lengths.get(usize::try_from(month.checked_sub(1)?).ok()?)?;
    if !rest.is_empty() || day < 1 || day > length || hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    let before: i128 = lengths.iter().take(usize::try_from(month - 1).ok()?).sum();
    let past = year - 1;
    // 719,162 days lie between 0001-01-01 and 1970-01-01.
    let days =
        past * 365 + past.div_euclid(4) - past.div_euclid(100) + past.div_euclid(400) + before + day - 1 - 719_162;
    let seconds = days * 86_400 + hour * 3600 + minute * 60 + second.min(59) - offset;
    Some(seconds * 1_000_000_000 + nanos)
}

/// A few hours at the end of the year 9999 are beyond what the library's times can hold.
fn fits_a_timestamp(nanos: i128) -> bool {
    jiff::Timestamp::from_nanosecond(nanos).is_ok()
}
