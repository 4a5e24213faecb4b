//! The retry schedule of a target, in units for people.

use std::time::Duration;

use serde::Serialize;

use crate::{
    delivery::{backoff, ladder::Ladder},
    settings::Backoff,
};

/// Every wait of a job whose attempts all fail.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Schedule {
    /// In order, one for each retry.
    pub waits: Vec<Wait>,
    /// From the first attempt to the end of the last, if every attempt times out and every wait is as long as possible.
    /// Excludes time in a busy queue, deferrals and `Retry-After`.
    #[serde(rename = "worst_case_milliseconds", serialize_with = "milliseconds")]
    pub worst_case: Duration,
}

/// One wait.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Wait {
    /// The number of the retry after this wait, from 1.
    pub retry: u32,
    /// The wait before jitter.
    #[serde(rename = "nominal_milliseconds", serialize_with = "milliseconds")]
    pub nominal: Duration,
    /// The shortest wait after jitter, on the delay ladder.
    #[serde(rename = "shortest_milliseconds", serialize_with = "milliseconds")]
    pub shortest: Duration,
    /// The longest wait after jitter, on the delay ladder.
    #[serde(rename = "longest_milliseconds", serialize_with = "milliseconds")]
    pub longest: Duration,
}

impl Schedule {
    /// Computes the schedule for `retries` retries of attempts that take at most `timeout`.
    pub fn new(policy: &Backoff, retries: u32, timeout: Duration) -> Schedule {
        let ladder = Ladder::for_backoff(policy);
        let waits: Vec<_> = (1..=retries)
            .map(|retry| {
                let (low, high) = backoff::bounds(policy, retry);
                Wait {
                    retry,
                    nominal: backoff::nominal(policy, retry),
                    shortest: on_ladder(&ladder, low),
                    longest: on_ladder(&ladder, high),
                }
            })
            .collect();
        let worst_case = waits.iter().map(|wait| wait.longest).sum::<Duration>() + timeout * (retries + 1);
        Schedule { waits, worst_case }
    }
}

/// Returns the length of a wait on the ladder: the next delay queue, or several if the wait is longer than the longest
/// queue.
fn on_ladder(ladder: &Ladder, wait: Duration) -> Duration {
    let mut hop = ladder.hop(wait);
    let mut total = hop.delay;
    while !hop.remaining.is_zero() {
        hop = ladder.hop(hop.remaining);
        total += hop.delay;
    }
    total
}

/// Formats a duration exactly: `250 ms`, `1.25 s`, `15 s`, `1 min 30 s`, `2 h`, `1 d 6 h`. Unlike
/// [`super::output::human_duration`] it does not round down: a delay queue may wait a fraction of a second, and a worst
/// case must not look shorter. From a minute on it rounds up to whole seconds.
pub fn human(duration: Duration) -> String {
    let milliseconds = duration.as_nanos().div_ceil(1_000_000);
    if milliseconds < 1_000 {
        return format!("{milliseconds} ms");
    }
    if milliseconds < 60_000 {
        let seconds = format!("{}.{:03}", milliseconds / 1_000, milliseconds % 1_000);
        return format!("{} s", seconds.trim_end_matches('0').trim_end_matches('.'));
    }
    let seconds = milliseconds.div_ceil(1_000);
    let parts = [(seconds / 86_400, "d"), (seconds / 3_600 % 24, "h"), (seconds / 60 % 60, "min"), (seconds % 60, "s")];
    let parts: Vec<_> =
        parts.iter().filter(|(count, _)| *count > 0).map(|(count, unit)| format!("{count} {unit}")).collect();
    parts.join(" ")
}

/// Serializes as whole milliseconds.
fn milliseconds<S: serde::Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u64(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_well() {
        let table = [
            (0, "0 ms"),
            (250, "250 ms"),
            (1_000, "1 s"),
            (1_250, "1.25 s"),
            (15_000, "15 s"),
            (59_999, "59.999 s"),
            (60_000, "1 min"),
            (90_000, "1 min 30 s"),
            (90_001, "1 min 31 s"),
            (7_200_000, "2 h"),
            (108_000_000, "1 d 6 h"),
        ];
        for (milliseconds, expected) in table {
            assert_eq!(human(Duration::from_millis(milliseconds)), expected);
        }
    }

    #[test]
    fn waits_are_shown_as_the_ladder_makes_them() {
        let policy = Backoff {
            initial: Duration::from_secs(15),
            multiplier: 2.0,
            maximum: Duration::from_secs(3600),
            jitter: 0.2,
            retry_after_maximum: Duration::from_secs(86_400),
        };
        let schedule = Schedule::new(&policy, 3, Duration::from_secs(30));
        let waits: Vec<_> = schedule
            .waits
            .iter()
            .map(|wait| format!("{}: {} to {}", human(wait.nominal), human(wait.shortest), human(wait.longest)))
            .collect();
        // 12 to 18 s, 24 to 36 s, 48 to 72 s, each rounded up to a delay queue.
        assert_eq!(waits, ["15 s: 12 s to 20 s", "30 s: 24 s to 40 s", "1 min: 48 s to 1 min 20 s"]);
        assert_eq!(human(schedule.worst_case), "4 min 20 s");
    }
}
