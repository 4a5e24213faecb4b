//! Events: an independent reader (`super::json`, and a small one for times) must find the same in the same bytes, and
//! the reason of each rejection must be true.

use leadhook::{
    event::{Event, EventKind, FIELDS},
    rejection::{RejectReason, Rejection},
};

use super::json::{Member, all, get, object, text};

/// Larger than any generated body, because the size limit is checked separately.
const LARGEST: usize = 1 << 20;

/// Checks a body. Its first line may be `organization-id: ID`, which represents the AMQP header.
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

/// Checks every rule of decoding, and returns the decoded event.
pub fn check(body: &[u8], organization: Option<&str>) -> Result<Event, Rejection> {
    let decoded = Event::decode(body, organization, LARGEST);
    let members = object(body);
    match &decoded {
        Ok(event) => {
            let members = members.expect("accepted, but not an object");
            is_what_it_says(event, &members, organization);
            same_meaning_in_other_bytes(event, body, &members, organization);
        }
        Err(rejection) => {
            is_said_safely(rejection);
            is_true(rejection, body, members.as_deref(), organization);
        }
    }
    assert_eq!(Event::decode(body, organization, body.len()), decoded, "the size limit is inclusive");
    if let Some(smaller) = body.len().checked_sub(1) {
        let rejection = Event::decode(body, organization, smaller).expect_err("accepted with one byte too many");
        assert_eq!(rejection.reason, RejectReason::TooLarge);
    }
    decoded
}

fn is_what_it_says(event: &Event, members: &[Member<'_>], organization: Option<&str>) {
    for (at, name) in FIELDS.iter().enumerate() {
        let count = all(members, name).count();
        assert!(count == 1 || (at == 7 && count == 0), "accepted with {count} {name}");
    }
    let read = |name| get(members, name).map(text).unwrap_or_default();
    for name in ["leadId", "submissionId", "campaignId"] {
        assert!(get(members, name).is_some_and(is_text_or_integer), "accepted with {name} of another type");
    }
    assert!(get(members, "data").is_some_and(|data| data.starts_with('{')), "accepted with data that is not an object");
    assert_eq!(read("event"), event.kind.name());
    assert_eq!(read("leadId"), event.lead);
    assert_eq!(read("submissionId"), event.submission);
    assert_eq!(read("campaignId"), event.campaign);
    assert_eq!(read("timestamp"), event.timestamp);
    assert!(is_id(&event.campaign), "campaign {:?}", event.campaign);
    let said = get(members, "organizationId").filter(|value| *value != "null").map(text);
    assert_eq!(event.organization.as_deref(), said.as_deref().or(organization));
    assert!(event.organization.as_deref().is_none_or(is_id), "organization {:?}", event.organization);
    if let (Some(body), Some(header)) = (said, organization) {
        assert_eq!(body, header, "accepted for two organizations");
    }
    // The decoder reads other forms as well, so this holds in one direction only.
    if let Some(time) = rfc3339(&event.timestamp).filter(|time| fits_a_timestamp(*time)) {
        assert_eq!(event.time.map(jiff::Timestamp::as_nanosecond), Some(time), "timestamp {:?}", event.timestamp);
    }
}

/// Checks that surrounding spaces and another order of the members change nothing.
fn same_meaning_in_other_bytes(event: &Event, body: &[u8], members: &[Member<'_>], organization: Option<&str>) {
    let blanks = [b" \r\n\t".as_slice(), body, b"\n "].concat();
    assert_eq!(Event::decode(&blanks, organization, LARGEST + 6).as_ref(), Ok(event));
    let backwards: Vec<_> = members.iter().rev().map(|member| format!("{}:{}", member.key, member.value)).collect();
    let backwards = format!("{{{}}}", backwards.join(","));
    assert_eq!(Event::decode(backwards.as_bytes(), organization, usize::MAX).as_ref(), Ok(event));
}

/// Checks the rejection's text, because reason and detail go to headers and logs.
fn is_said_safely(rejection: &Rejection) {
    let text = rejection.to_string();
    assert!(text.is_ascii() && super::is_one_plain_line(&text) && text.len() < 300, "{text:?}");
}

fn is_true(rejection: &Rejection, body: &[u8], members: Option<&[Member<'_>]>, organization: Option<&str>) {
    let field = rejection.detail.split('"').nth(1).unwrap_or_default();
    let count = all(members.unwrap_or_default(), field).count();
    let found = get(members.unwrap_or_default(), field);
    let right = match rejection.reason {
        RejectReason::TooLarge => body.len() > LARGEST,
        RejectReason::NotJson => members.is_none(),
        RejectReason::DuplicateKey => count > 1 && FIELDS.contains(&field),
        RejectReason::MissingField => members.is_some() && count == 0 && FIELDS[..7].contains(&field),
        RejectReason::InvalidField if field == "organization-id" => !organization.is_some_and(is_id),
        RejectReason::InvalidField => found.is_some_and(|found| is_wrong(field, found)),
        RejectReason::UnknownEvent => {
            found.is_some_and(|name| EventKind::ALL.iter().all(|kind| kind.name() != text(name)))
        }
        RejectReason::OrganizationMismatch => found.map(text).as_deref() != organization,
        RejectReason::UnknownCampaign
        | RejectReason::UnknownOrganization
        | RejectReason::MalformedJob
        | RejectReason::NewerVersion
        | RejectReason::UnreadableProperties
        | RejectReason::CrashLoop => false,
    };
    assert!(right, "rejected for a false reason: {rejection}");
}

fn is_wrong(field: &str, found: &str) -> bool {
    match field {
        "event" => !found.starts_with('"'),
        "data" => !found.starts_with('{'),
        "campaignId" | "organizationId" => !is_text_or_integer(found) || !is_id(&text(found)),
        "leadId" | "submissionId" => !is_text_or_integer(found),
        // These fields only have to be present.
        _ => false,
    }
}

fn is_text_or_integer(value: &str) -> bool {
    value.starts_with('"') || value.trim_start_matches('-').chars().all(|c| c.is_ascii_digit())
}

/// Returns whether a text is an id, which has the same form everywhere (docs/reference/webhook-store.md).
pub fn is_id(text: &str) -> bool {
    !text.is_empty() && text.len() <= 128 && text.chars().all(|c| c.is_ascii_alphanumeric() || "._:-".contains(c))
}

/// Parses a time by the grammar of RFC 3339, section 5.6, digit by digit, into nanoseconds since 1970. A leap second
/// counts as the second before it, and digits below a nanosecond are cut off.
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
    // There are 719,162 days from 0001-01-01 to 1970-01-01.
    let days =
        past * 365 + past.div_euclid(4) - past.div_euclid(100) + past.div_euclid(400) + before + day - 1 - 719_162;
    let seconds = days * 86_400 + hour * 3600 + minute * 60 + second.min(59) - offset;
    Some(seconds * 1_000_000_000 + nanos)
}

/// Returns whether the library can represent a time: its range ends some hours before the year 9999 does.
fn fits_a_timestamp(nanos: i128) -> bool {
    jiff::Timestamp::from_nanosecond(nanos).is_ok()
}
