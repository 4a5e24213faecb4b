use proptest::prelude::*;

use super::*;

fn policy(initial: Duration, multiplier: f64, maximum: Duration, jitter: f64) -> Backoff {
    Backoff { initial, multiplier, maximum, jitter, retry_after_maximum: Duration::from_secs(86_400) }
}

fn default() -> Backoff {
    policy(Duration::from_secs(15), 2.0, Duration::from_secs(3600), 0.2)
}

#[test]
fn the_default_schedule_in_seconds() {
    let table = [(1, 15), (2, 30), (3, 60), (4, 120), (5, 240), (6, 480), (7, 960), (8, 1920), (9, 3600), (10, 3600)];
    for (retry, seconds) in table {
        assert_eq!(nominal(&default(), retry), Duration::from_secs(seconds), "retry {retry}");
    }
}

#[test]
fn the_default_bounds_are_a_fifth_to_either_side() {
    assert_eq!(bounds(&default(), 1), (Duration::from_secs(12), Duration::from_secs(18)));
    assert_eq!(bounds(&default(), 9), (Duration::from_secs(2880), Duration::from_secs(4320)));
    assert_eq!(longest(&default()), Duration::from_secs(4320));
    assert_eq!(shortest(&default()), Duration::from_secs(12));
}

#[test]
fn the_draw_goes_evenly_from_the_shortest_to_the_longest() {
    for (draw, millis) in [(0.0, 12_000), (0.25, 13_500), (0.5, 15_000), (0.75, 16_500), (1.0, 18_000), (7.0, 18_000)] {
        assert_eq!(wait(&default(), 1, draw), Duration::from_millis(millis), "draw {draw}");
    }
    assert_eq!(wait(&default(), 1, -1.0), Duration::from_secs(12));
}

#[test]
fn without_jitter_the_wait_is_the_nominal_one_to_the_nanosecond() {
    let policy = policy(Duration::from_millis(100), 3.0, Duration::from_secs(7 * 86_400), 0.0);
    for retry in 1..40 {
        assert_eq!(wait(&policy, retry, 0.7), nominal(&policy, retry), "retry {retry}");
    }
}

#[test]
fn retry_zero_counts_as_the_first() {
    assert_eq!(nominal(&default(), 0), nominal(&default(), 1));
}

#[test]
fn absurd_policies_give_the_maximum_and_no_panic() {
    let largest = policy(Duration::MAX, f64::MAX, Duration::MAX, 0.5);
    assert_eq!(nominal(&largest, u32::MAX), Duration::MAX);
    assert_eq!(bounds(&largest, u32::MAX).1, Duration::MAX);
    let meaningless = policy(Duration::from_secs(1), f64::NAN, Duration::from_secs(9), f64::NAN);
    assert!(wait(&meaningless, 3, f64::NAN) <= Duration::from_secs(9));
}

prop_compose! {
    /// Any policy that the settings accept.
    fn allowed()(
        initial in 100u64..=86_400_000,
        multiplier in 1.0f64..=10.0,
        maximum in 100u64..=7 * 86_400_000,
        jitter in 0.0f64..=0.5,
    ) -> Backoff {
        policy(Duration::from_millis(initial), multiplier, Duration::from_millis(maximum.max(initial)), jitter)
    }
}

proptest! {
    #[test]
    fn a_wait_lies_between_its_bounds_at_any_setting(policy in allowed(), retry: u32, draw in 0.0f64..1.0) {
        let (shortest, longest) = bounds(&policy, retry);
        let wait = wait(&policy, retry, draw);
        prop_assert!(shortest <= wait && wait <= longest);
        prop_assert!(longest <= super::longest(&policy));
        prop_assert!(shortest >= super::shortest(&policy));
    }

    #[test]
    fn the_nominal_wait_never_shrinks_and_never_passes_the_maximum(policy in allowed(), retry in 1u32..u32::MAX) {
        let (now, next) = (nominal(&policy, retry), nominal(&policy, retry + 1));
        prop_assert!(policy.initial <= now && now <= next && next <= policy.maximum);
    }

    #[test]
    fn below_the_maximum_it_grows_by_the_multiplier(policy in allowed(), retry in 1u32..12) {
        let (now, next) = (nominal(&policy, retry), nominal(&policy, retry + 1));
        let grown = now.as_secs_f64() * policy.multiplier;
        if next < policy.maximum {
            prop_assert!((next.as_secs_f64() / grown - 1.0).abs() < 1e-6, "{next:?} after {now:?}");
        } else {
            prop_assert!(grown >= policy.maximum.as_secs_f64() * (1.0 - 1e-6), "{next:?} after {now:?}");
        }
    }
}

#[test]
fn n_retries_are_n_plus_one_attempts() {
    let policy = policy(Duration::from_secs(1), 2.0, Duration::from_secs(60), 0.0);
    for (attempt, seconds) in [(1, 1), (2, 2), (3, 4)] {
        assert_eq!(next_wait(&policy, attempt, 3, None, 0.5), Some(Duration::from_secs(seconds)));
    }
    assert_eq!(next_wait(&policy, 4, 3, None, 0.5), None);
    assert_eq!(next_wait(&policy, 4, 3, Some(Duration::from_secs(9)), 0.5), None);
}

#[test]
fn a_receivers_wish_lengthens_the_wait_and_never_shortens_it() {
    let policy = policy(Duration::from_secs(1), 2.0, Duration::from_secs(60), 0.0);
    let wait = |wish| next_wait(&policy, 3, 5, Some(Duration::from_secs(wish)), 0.5).map(|wait| wait.as_secs());
    assert_eq!((wait(3), wait(7)), (Some(4), Some(7)));
}
