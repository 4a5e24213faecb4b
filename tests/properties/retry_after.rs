//! `Retry-After`.

use std::time::{Duration, SystemTime};

use proptest::{prelude::*, sample::select};

use crate::{
    checks::retry_after::{check, input},
    generate::{anything, edited},
};

/// The last second that HTTP dates can express.
const LAST: u64 = 253_402_300_799;

fn value() -> impl Strategy<Value = String> {
    prop_oneof![
        "[0-9]{1,24}",
        "[0-9]{0,3}\\.[0-9]{0,12}",
        "[-+ 0-9.eE]{0,8}",
        date(),
        edited("retry_after").prop_map(|bytes| String::from_utf8_lossy(&bytes).into_owned()),
        ".{0,40}",
    ]
}

/// The three forms of RFC 9110, section 5.6.7, made by a calendar other than the reader's.
fn date() -> impl Strategy<Value = String> {
    let form = select(&["%a, %d %b %Y %H:%M:%S GMT", "%A, %d-%b-%y %H:%M:%S GMT", "%a %b %e %H:%M:%S %Y"][..]);
    (0..=LAST, form).prop_map(|(seconds, form)| at(seconds).strftime(form).to_string())
}

fn at(seconds: u64) -> jiff::Timestamp {
    let seconds = i64::try_from(seconds).unwrap();
    // The calendar's last day is shortened by its own bounds.
    jiff::Timestamp::from_second(seconds.min(253_402_207_200)).unwrap()
}

proptest! {
    #[test]
    fn a_wish_lengthens_the_wait_up_to_the_maximum_and_never_shortens_it(
        value in value(), now in 0..=LAST, nanos in 0u32..1_000_000_000, maximum in 0u64..700_000, draw in 0.0f64..1.0,
    ) {
        let now = SystemTime::UNIX_EPOCH + Duration::new(now, nanos);
        check(&value, now, Duration::from_secs(maximum), draw);
    }

    #[test]
    fn headers_of_any_kind_are_a_wait_or_nothing(bytes in anything("retry_after")) {
        input(&bytes);
    }

    #[test]
    fn a_date_is_the_time_until_then(seconds in 0u64..253_402_207_200, ahead in 0u64..100_000) {
        let value = at(seconds).strftime("%a, %d %b %Y %H:%M:%S GMT").to_string();
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(seconds.saturating_sub(ahead));
        let expected = Duration::from_secs(ahead.min(seconds));
        prop_assert_eq!(check(&value, now, Duration::MAX / 4, 0.5), Some(expected), "{}", value);
    }
}
