//! Reads and formats durations: the only parser for settings, the webhook store and the command line.

use std::time::Duration;

use jiff::{SignedDuration, Span, SpanRelativeTo};

/// The end of an error about a duration.
const RIGHT: &str = "write a number with a unit, such as 500ms, 15s, 2m, 24h or 3d";

/// Reads `500ms`, `15s`, `2m`, `1h 30m`, `3d`, `1w`. A day has 24 hours and a week 7 days. Months and years are errors,
/// because their length varies.
///
/// # Errors
/// If the text is not a duration, has no unit, or is negative. The message says which.
pub fn parse(text: &str) -> Result<Duration, String> {
    let text = text.trim();
    if text.parse::<f64>().is_ok() {
        return Err(format!("{text:?} has no unit: {RIGHT}"));
    }
    let wrong = |_| format!("{text:?} is not a duration: {RIGHT}");
    let span: Span = text.parse().map_err(wrong)?;
    let signed = span.to_duration(SpanRelativeTo::days_are_24_hours()).map_err(wrong)?;
    signed.try_into().map_err(|_| format!("{text:?} is negative"))
}

/// Formats a duration so that [`parse`] can read it: `500ms`, `15s`, `1h 30m`.
pub fn spoken(duration: Duration) -> String {
    SignedDuration::try_from(duration).map_or_else(|_| format!("{duration:?}"), |duration| format!("{duration:#}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_carry_a_unit_from_milliseconds_to_weeks() {
        let table = [
            ("500ms", 500),
            ("1.5s", 1_500),
            (" 15s ", 15_000),
            ("2m", 120_000),
            ("1h 30m", 5_400_000),
            ("24h", 86_400_000),
            ("3d", 3 * 86_400_000),
            ("3 days", 3 * 86_400_000),
            ("1d 12h", 36 * 3_600_000),
            ("2w", 14 * 86_400_000),
            ("0s", 0),
        ];
        for (text, milliseconds) in table {
            assert_eq!(parse(text), Ok(Duration::from_millis(milliseconds)), "{text}");
        }
    }

    #[test]
    fn what_is_wrong_with_a_duration_is_named() {
        for text in ["15", "-3", "1e3", " 7 "] {
            assert!(parse(text).unwrap_err().contains("has no unit: write a number with a unit"), "{text}");
        }
        for text in ["", "soon", "3x", "1 month", "1y", "1mo 3d", "99999999999999999999s"] {
            assert!(parse(text).unwrap_err().contains("is not a duration: write a number with a unit"), "{text}");
        }
        assert_eq!(parse("-3d"), Err("\"-3d\" is negative".to_owned()));
    }

    #[test]
    fn what_is_spoken_is_read_again() {
        for milliseconds in [0, 1, 1_250, 90_000, 5_400_000, 1_209_600_000] {
            let duration = Duration::from_millis(milliseconds);
            assert_eq!(parse(&spoken(duration)), Ok(duration));
        }
    }
}
