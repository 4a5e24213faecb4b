use proptest::prelude::*;

use super::*;

fn policy(initial: u64, maximum: u64, jitter: f64) -> Backoff {
    Backoff {
        initial: Duration::from_millis(initial),
        multiplier: 2.0,
        maximum: Duration::from_millis(maximum),
        jitter,
        retry_after_maximum: Duration::from_secs(86_400),
    }
}

fn default() -> Ladder {
    Ladder::for_backoff(&policy(15_000, 3_600_000, 0.2))
}

fn millis(ladder: &Ladder) -> Vec<u128> {
    ladder.delays().iter().map(Duration::as_millis).collect()
}

#[test]
fn the_formula_written_out() {
    let wanted = [
        47, 55, 63, 79, 94, 110, 125, 157, 188, 219, 250, 313, 375, 438, 500, 625, 750, 875, 1000, 1250, 1500, 1750,
        2000, 2500, 3000, 3500, 4000,
    ];
    let from = index_for(Duration::from_millis(47));
    let delays: Vec<_> = (from..).take(wanted.len()).map(|index| delay(index).as_millis()).collect();
    assert_eq!(delays, wanted);
}

#[test]
fn the_default_ladder_goes_from_a_quarter_of_a_second_past_the_hour_and_its_jitter() {
    let ladder = default();
    assert_eq!(ladder.delays()[0], Duration::from_millis(250));
    assert_eq!(ladder.longest(), Duration::from_secs(5120));
    assert_eq!(ladder.delays().len(), 58);
}

#[test]
fn the_fastest_and_the_slowest_settings_have_their_delay_queues() {
    let fastest = Ladder::for_backoff(&policy(100, 100, 0.5));
    assert_eq!(millis(&fastest).first(), Some(&55));
    let doubling = (0..=11).map(|power| 1000 << power);
    assert!(millis(&fastest).into_iter().skip_while(|delay| *delay < 1000).eq(doubling), "doubles above one second");
    let half_an_hour = Ladder::for_backoff(&policy(15_000, 1_800_000, 0.0));
    assert_eq!(
        half_an_hour.delays()[half_an_hour.delays().len() - 2..].iter().map(Duration::as_secs).collect::<Vec<_>>(),
        [1792, 2048]
    );
    let slowest = Ladder::for_backoff(&policy(86_400_000, 7 * 86_400_000, 0.5));
    assert_eq!(millis(&slowest).first(), Some(&250));
    assert_eq!(slowest.longest(), Duration::from_secs(7 << 17));
}

#[test]
fn two_policies_agree_on_every_delay_queue_that_both_have() {
    let (fast, slow) = (Ladder::for_backoff(&policy(100, 60_000, 0.5)), default());
    let shared = |delay: &&Duration| **delay >= slow.delays()[0] && **delay <= Duration::from_secs(96);
    assert!(fast.delays().iter().filter(shared).eq(slow.delays().iter().filter(shared)));
    assert!(
        fast.delays()
            .iter()
            .filter(|delay| **delay > Duration::from_secs(1))
            .all(|delay| slow.delays().contains(delay))
    );
}

#[test]
fn steps_in_milliseconds() {
    // (wait, delay queue, remaining)
    let table = [
        (0, 250, 0),
        (251, 313, 0),
        (999, 1000, 0),
        (1000, 1000, 0),
        (1001, 1250, 0),
        (15_000, 16_000, 0),
        (60_000, 64_000, 0),
        (4_320_000, 5_120_000, 0),
        (5_120_001, 5_120_000, 1),
        (86_400_000, 5_120_000, 81_280_000),
    ];
    for (wait, delay, remaining) in table {
        let wanted = Hop { delay: Duration::from_millis(delay), remaining: Duration::from_millis(remaining) };
        assert_eq!(default().hop(Duration::from_millis(wait)), wanted, "wait {wait} ms");
    }
}

/// Lists all hops of a wait, in milliseconds, beginning with `hop`.
fn hops(ladder: &Ladder, mut hop: Hop) -> Vec<u128> {
    let mut hops = vec![hop.delay.as_millis()];
    while !hop.remaining.is_zero() {
        hop = ladder.hop(hop.remaining);
        hops.push(hop.delay.as_millis());
    }
    hops
}

#[test]
fn a_long_wait_on_a_short_schedule_takes_a_few_hops() {
    let ladder = Ladder::for_backoff(&policy(1_000, 10_000, 0.2));
    // (wait, hops of `hop`, hops of `hop_evenly`), in seconds
    let table: [(u64, &[u128], &[u128]); 5] = [
        (11, &[12], &[12]),
        (15, &[12, 3], &[12, 3]),
        (40, &[32, 8], &[32, 8]),
        (100, &[64, 32, 4], &[64, 32, 8]),
        (3_601, &[2048, 1024, 512, 16, 1], &[2048, 1024, 512, 256]),
    ];
    let seconds = |hops: Vec<u128>| hops.into_iter().map(|millis| millis / 1_000).collect::<Vec<_>>();
    for (wait, exactly, about) in table {
        let wait = Duration::from_secs(wait);
        assert_eq!(seconds(hops(&ladder, ladder.hop(wait))), exactly, "{wait:?}");
        assert_eq!(seconds(hops(&ladder, ladder.hop_evenly(wait))), about, "about {wait:?}");
    }
}

#[test]
fn a_fine_wait_ends_at_its_time() {
    for wait in (1_000..120_000).step_by(77) {
        let waited: u128 = hops(&default(), default().hop_finely(Duration::from_millis(wait))).into_iter().sum();
        let late = waited - u128::from(wait);
        assert!(late <= 250.max(u128::from(wait) / 16), "{late} ms late after {wait} ms");
    }
}

#[test]
fn a_nanosecond_too_much_takes_the_next_delay_queue() {
    assert_eq!(default().hop(Duration::new(2, 1)).delay, Duration::from_millis(2500));
}

#[test]
fn no_delay_is_too_long_for_a_message_ttl() {
    assert!(delay(LAST).as_millis() <= u128::from(u32::MAX));
    assert_eq!(index_for(Duration::MAX), LAST);
}

proptest! {
    #[test]
    fn a_step_is_never_early_and_at_most_a_quarter_late(initial in 100u64..86_400_000, jitter in 0.0f64..=0.5, wait: u32) {
        let ladder = Ladder::for_backoff(&policy(initial, 7 * 86_400_000, jitter));
        let wait = Duration::from_micros(u64::from(wait) * 140);
        let hop = ladder.hop(wait);
        prop_assert!(hop.delay >= wait);
        prop_assert_eq!(hop.remaining, Duration::ZERO);
        prop_assert!(ladder.delays().contains(&hop.delay));
        if wait > ladder.delays()[0] {
            prop_assert!(hop.delay <= wait + wait / 4 + Duration::from_millis(1));
        }
    }

    #[test]
    fn chained_steps_wait_at_least_the_whole_and_come_to_an_end(wait in 0u64..86_400_000) {
        let ladder = Ladder::for_backoff(&policy(100, 60_000, 0.2));
        let wait = Duration::from_millis(wait);
        let (mut waited, mut remaining) = (Duration::ZERO, wait);
        loop {
            let hop = ladder.hop(remaining);
            prop_assert!(hop.remaining < remaining || remaining.is_zero());
            waited += hop.delay;
            remaining = hop.remaining;
            if remaining.is_zero() {
                break;
            }
        }
        prop_assert!(waited >= wait);
        prop_assert!(waited <= wait + wait / 4 + ladder.delays()[0]);
    }

    #[test]
    fn an_even_wait_is_never_early_and_takes_few_hops(maximum in 100u64..86_400_000, wait in 0u64..3_600_000) {
        let ladder = Ladder::for_backoff(&policy(100, maximum, 0.2));
        let wait = Duration::from_millis(wait);
        let hops = hops(&ladder, ladder.hop_evenly(wait));
        let waited = Duration::from_millis(u64::try_from(hops.iter().sum::<u128>()).unwrap());
        prop_assert!(waited >= wait);
        prop_assert!(waited <= wait + wait / 2 + ladder.delays()[0].max(Duration::from_secs(1)), "{waited:?}");
        prop_assert!(hops.len() <= 5, "{hops:?}");
    }

    #[test]
    fn every_backoff_wait_fits_one_delay_queue(initial in 100u64..86_400_000, jitter in 0.0f64..=0.5, retry: u32, draw in 0.0f64..1.0) {
        let policy = policy(initial, 86_400_000, jitter);
        let hop = Ladder::for_backoff(&policy).hop(backoff::wait(&policy, retry, draw));
        prop_assert_eq!(hop.remaining, Duration::ZERO);
    }
}
