//! Reads the time of an event in every form that upstream systems usually write. The time measures lag and decides
//! nothing.

use std::borrow::Cow;

use jiff::{Timestamp, civil::DateTime, fmt::temporal::Pieces, tz::Offset};

/// Numbers from here on are milliseconds, and smaller ones are seconds. As seconds this is the year 5138, as
/// milliseconds 1973.
const MILLISECONDS_FROM: f64 = 1e11;

/// Reads RFC 3339, ISO 8601 and numbers since 1970. A date needs a time, but seconds and zone may be missing; the zone
/// is then UTC.
pub(super) fn read(text: &str) -> Option<Timestamp> {
    match text.parse::<f64>() {
        Ok(number) => since_1970(number),
        Err(_) => calendar(text),
    }
}

fn since_1970(number: f64) -> Option<Timestamp> {
    let milliseconds = if number.abs() < MILLISECONDS_FROM { number * 1000.0 } else { number };
    // `as` saturates, and the library rejects times out of its range.
    milliseconds.is_finite().then(|| Timestamp::from_millisecond(milliseconds.round() as i64).ok()).flatten()
}

fn calendar(text: &str) -> Option<Timestamp> {
    let text = nine_digits(text);
    let pieces = Pieces::parse(text.as_ref()).ok()?;
    let offset = match (pieces.to_numeric_offset(), pieces.time_zone_annotation()) {
        (Some(offset), _) => offset,
        (None, None) => Offset::UTC,
        (None, Some(_)) => return None,
    };
    offset.to_timestamp(DateTime::from_parts(pieces.date(), pieces.time()?)).ok()
}

/// Cuts a fraction to the nine digits that the library reads. RFC 3339 sets no limit.
fn nine_digits(text: &str) -> Cow<'_, str> {
    let Some((before, after)) = text.split_once('.') else { return Cow::Borrowed(text) };
    let digits = after.bytes().take_while(u8::is_ascii_digit).count();
    match digits > 9 {
        true => Cow::Owned(format!("{before}.{}{}", &after[..9], &after[digits..])),
        false => Cow::Borrowed(text),
    }
}
