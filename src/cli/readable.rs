//! Numbers, times and progress in a form for people.

use std::fmt;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle};
use jiff::Timestamp;

use super::output;

/// Fewest messages for which progress is shown. With fewer it would disappear before a person could read it.
const PROGRESS_FROM: u64 = 2_000;

/// Returns a progress bar on stderr. It is hidden if `quiet` is set, without a terminal, and if there is little to do.
/// `doing` names the work in a word or two.
pub(crate) fn progress(doing: &'static str, total: u64, quiet: bool) -> ProgressBar {
    let target = match quiet || total < PROGRESS_FROM {
        true => ProgressDrawTarget::hidden(),
        false => ProgressDrawTarget::stderr(),
    };
    let style = ProgressStyle::with_template("{prefix} {wide_bar} {human_pos} of {human_len} ({rate})");
    let style = style.unwrap_or_else(|_| ProgressStyle::default_bar());
    let style = style.with_key("rate", |state: &ProgressState, text: &mut dyn fmt::Write| {
        // A failed write only hides the rate.
        let _ = text.write_str(&rate(state.per_sec()));
    });
    ProgressBar::with_draw_target(Some(total), target).with_style(style).with_prefix(doing)
}

/// Formats a rate: `14,758/s`, or `0.4/s` below ten a second.
fn rate(per_second: f64) -> String {
    match per_second {
        slow if slow < 10.0 => format!("{slow:.1}/s"),
        // Rates are far below 2^53, and never negative.
        fast => format!("{}/s", thousands(fast.round() as u64)),
    }
}

/// Formats a number as `1,234`.
pub(crate) fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

pub(crate) fn counted(number: u64, one: &str, many: &str) -> String {
    format!("{} {}", thousands(number), if number == 1 { one } else { many })
}

pub(crate) fn messages(number: u64) -> String {
    counted(number, "message", "messages")
}

pub(crate) fn jobs(number: u64) -> String {
    counted(number, "job", "jobs")
}

/// Formats an age: `3 h ago`, or a dash if the time is unknown.
pub(crate) fn age(at: Option<Timestamp>, now: Timestamp) -> String {
    match at {
        None => "-".to_owned(),
        // Clocks differ, so a time in the future counts as now.
        Some(at) => output::human_age(now.duration_since(at).try_into().unwrap_or_default()),
    }
}

/// Formats a time for people: in UTC, to the second.
pub(crate) fn clock(at: Timestamp) -> String {
    format!("{at:.0}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_for_people() {
        let check = |number, expected: &str| assert_eq!(thousands(number), expected);
        check(0, "0");
        check(999, "999");
        check(1000, "1,000");
        check(12_345, "12,345");
        check(1_234_567, "1,234,567");
        assert_eq!((messages(1), jobs(2_000)), ("1 message".to_owned(), "2,000 jobs".to_owned()));
        assert_eq!([0.44, 9.99, 14_758.34].map(rate), ["0.4/s", "10.0/s", "14,758/s"]);
    }
}
