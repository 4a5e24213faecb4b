//! Reads the wait that a receiver asks for in `Retry-After` (RFC 9110, section 10.2.3): seconds, or an HTTP date.

use std::time::{Duration, SystemTime};

/// Blanks that may surround a value (RFC 9110, section 5.6.3). Other blanks are part of the value.
const OWS: [char; 2] = [' ', '\t'];

/// Returns how long the receiver asks us to wait from `now`, at most `maximum`. Returns `None` if the header is not
/// usable, so the schedule alone decides.
///
/// | header | meaning |
/// |---|---|
/// | `120` | 120 s |
/// | `0` | no wait asked for (the schedule still holds) |
/// | `1.2` | 2 s, rounded up: the form is invalid, but the meaning is clear |
/// | more digits than a number holds, or more than `maximum` | `maximum` |
/// | a future date (all three forms of HTTP) | the time until then, at most `maximum` |
/// | a past date | no wait |
/// | `-5`, `+5`, `1e3`, `inf`, `120s`, `soon`, empty | ignored |
pub fn parse(value: &str, now: SystemTime, maximum: Duration) -> Option<Duration> {
    let value = value.trim_matches(OWS);
    let asked = seconds(value).or_else(|| until(value, now))?;
    Some(asked.min(maximum))
}

fn seconds(value: &str) -> Option<Duration> {
    let (whole, fraction) = value.split_once('.').unwrap_or((value, "0"));
    let digits = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    if !digits(whole) || !digits(fraction) {
        return None;
    }
    let round_up = u64::from(fraction.bytes().any(|digit| digit != b'0'));
    Some(Duration::from_secs(whole.parse().unwrap_or(u64::MAX).saturating_add(round_up)))
}

fn until(value: &str, now: SystemTime) -> Option<Duration> {
    let date = httpdate::parse_http_date(value).ok()?;
    Some(date.duration_since(now).unwrap_or(Duration::ZERO))
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: Duration = Duration::from_secs(86_400);

    /// Sat, 15 Jun 2024 10:30:00 GMT
    fn now() -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(1_718_447_400)
    }

    fn check(value: &str, wanted: Option<u64>) {
        assert_eq!(parse(value, now(), DAY), wanted.map(Duration::from_secs), "{value:?}");
    }

    #[test]
    fn seconds_as_they_are() {
        check("120", Some(120));
        check("0", Some(0));
        check("007", Some(7));
        check("  30\t", Some(30));
        check("\u{2001}30", None);
        check("30\u{b}", None);
    }

    #[test]
    fn fractions_are_rounded_up() {
        check("1.2", Some(2));
        check("1.0", Some(1));
        check("0.001", Some(1));
        check("1.", None);
        check(".5", None);
        check("1.2.3", None);
    }

    #[test]
    fn what_is_more_than_the_maximum_is_the_maximum() {
        check("86401", Some(86_400));
        check("18446744073709551615.5", Some(86_400));
        check("99999999999999999999999999999999", Some(86_400));
        check("Fri, 31 Dec 9999 23:59:59 GMT", Some(86_400));
    }

    #[test]
    fn dates_in_all_three_forms() {
        check("Sat, 15 Jun 2024 10:31:30 GMT", Some(90));
        check("Saturday, 15-Jun-24 10:31:30 GMT", Some(90));
        check("Sat Jun 15 10:31:30 2024", Some(90));
    }

    #[test]
    fn a_date_gone_by_asks_for_no_wait() {
        check("Sat, 15 Jun 2024 10:30:00 GMT", Some(0));
        check("Sun, 06 Nov 1994 08:49:37 GMT", Some(0));
    }

    #[test]
    fn the_rest_is_ignored() {
        for value in
            ["", " ", "-5", "+5", "1e3", "inf", "NaN", "120s", "soon", "1,5", "2024-06-15T10:31:30Z", "١٢", "0x10"]
        {
            check(value, None);
        }
        check("Sat, 31 Jun 2024 10:31:30 GMT", None);
        check("Sat, 15 Jun 2024 10:31:30 CET", None);
    }
}
