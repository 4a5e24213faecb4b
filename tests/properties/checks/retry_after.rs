//! `Retry-After`: a receiver may lengthen a wait, up to a bound. It can neither shorten the schedule nor stop the
//! worker.

use std::{
    sync::LazyLock,
    time::{Duration, SystemTime},
};

use leadhook::{
    delivery::{
        backoff,
        exchange::{Answer, Exchange},
        ladder::Ladder,
        outcome::{Outcome, judge},
        retry_after::parse,
        rules::Rules,
    },
    settings::Backoff,
};

const SECOND: Duration = Duration::from_secs(1);

/// Checks a header value at several times and with several maxima.
pub fn input(input: &[u8]) -> &'static str {
    let Ok(value) = std::str::from_utf8(input) else { return "ignored" };
    let mut usable = false;
    // 1970, 2024, and the last second that HTTP dates can express.
    for now in [0, 1_718_447_400, 253_402_300_799] {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(now);
        for maximum in [0, 7, 86_400] {
            usable |= check(value, now, Duration::from_secs(maximum), 0.3).is_some();
        }
    }
    if usable { "wait" } else { "ignored" }
}

/// Checks every rule of one header at one moment. `draw` is the jitter's draw, from 0 to 1.
pub fn check(value: &str, now: SystemTime, maximum: Duration, draw: f64) -> Option<Duration> {
    let asked = parse(value, now, maximum);
    let uncapped = parse(value, now, Duration::MAX);
    assert_eq!(asked, uncapped.map(|wait| wait.min(maximum)), "the wait is not the capped one");
    assert_eq!(parse(&format!(" {value}\t"), now, maximum), asked, "surrounding spaces changed the wait");
    match (plain_seconds(value.trim_matches([' ', '\t'])), uncapped) {
        (Some(seconds), _) => assert_eq!(uncapped, Some(seconds), "seconds"),
        (None, Some(wait)) => {
            // Otherwise it is a date, which is a second nearer after a second.
            let later = parse(value, now + SECOND, Duration::MAX);
            assert_eq!(later, Some(wait.saturating_sub(SECOND)), "neither seconds nor a date");
            assert!(value.is_ascii() && value.contains(':'), "not a date");
        }
        (None, None) => {}
    }
    for status in [200, 301, 404, 410, 429, 500, 503] {
        let policy = Backoff { retry_after_maximum: maximum, ..POLICY };
        next_wait(status, value, now, &policy, asked, draw);
    }
    asked
}

/// The default backoff, except for the maximum of `Retry-After`, which does not affect the ladder.
static LADDER: LazyLock<Ladder> = LazyLock::new(|| Ladder::for_backoff(&POLICY));

const POLICY: Backoff = Backoff {
    initial: Duration::from_secs(15),
    multiplier: 2.0,
    maximum: Duration::from_secs(3600),
    jitter: 0.2,
    retry_after_maximum: Duration::ZERO,
};

/// Parses `12` or `1.5`, rounded up. It is independent of the worker's parser, as a second opinion.
fn plain_seconds(value: &str) -> Option<Duration> {
    let (whole, fraction) = match value.find('.') {
        None => (value, None),
        Some(at) => (&value[..at], Some(&value[at + 1..])),
    };
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if !is_number(whole) || !fraction.is_none_or(is_number) {
        return None;
    }
    let digits = whole.chars().filter_map(|c| c.to_digit(10));
    let whole = digits.fold(0u64, |sum, digit| sum.saturating_mul(10).saturating_add(digit.into()));
    let more = fraction.is_some_and(|fraction| fraction.chars().any(|c| c != '0'));
    Some(Duration::from_secs(whole.saturating_add(more.into())))
}

/// Checks the wait that follows, from the answer to a delay queue.
fn next_wait(status: u16, value: &str, now: SystemTime, policy: &Backoff, asked: Option<Duration>, draw: f64) {
    let answer = Answer { status, retry_after: Some(value.to_owned()), ..Answer::default() };
    let exchange = Exchange::new(Ok(answer), Duration::ZERO);
    let outcome = judge(&exchange, &Rules::default(), now, policy.retry_after_maximum);
    if let Outcome::Retry { not_before, .. } = &outcome {
        assert_eq!(*not_before, asked, "status {status}");
    }
    for attempt in [1, 4, 10] {
        let Outcome::Retry { not_before, .. } = outcome else {
            assert!(matches!(status, 200 | 410), "status {status} is not retried");
            return;
        };
        let wait = backoff::next_wait(policy, attempt, 10, not_before, draw).expect("a retry");
        let schedule = backoff::wait(policy, attempt, draw);
        assert!(wait >= schedule, "{wait:?} is earlier than the schedule, {schedule:?}");
        assert_eq!(wait, schedule.max(asked.unwrap_or_default()), "status {status}");
        assert!(wait <= schedule.max(policy.retry_after_maximum), "{wait:?} is beyond the maximum");
        waited_out(wait, &LADDER);
    }
}

/// Checks all hops of a wait together: never early, and late by at most a quarter (or the shortest delay queue).
fn waited_out(wait: Duration, ladder: &Ladder) {
    let (mut left, mut waited) = (wait, Duration::ZERO);
    for _ in 0..10_000 {
        let step = ladder.hop(left);
        assert!(ladder.delays().contains(&step.delay), "no delay queue waits {:?}", step.delay);
        waited += step.delay;
        left = step.remaining;
        if left.is_zero() {
            break;
        }
    }
    assert!(left.is_zero(), "{wait:?} never ends");
    let late = (wait / 4 + Duration::from_millis(1)).max(ladder.delays()[0]);
    assert!(waited >= wait && waited <= wait + late, "{wait:?} became {waited:?}");
}
