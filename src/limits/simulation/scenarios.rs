//! Scenarios, each with effects that a user would notice.

use super::*;
use crate::limits::breaker::LAST_PROBE;

fn fast(_: f64) -> Does {
    Does::Answers(0.002)
}

fn hangs(_: f64) -> Does {
    Does::Hangs
}

fn hangs_later(now: f64) -> Does {
    if now < 20.0 { Does::Answers(0.002) } else { Does::Hangs }
}

#[test]
fn hanging_targets_cost_their_neighbours_nothing() {
    for bad in [hangs as Receiver, hangs_later] {
        for hanging in [10, 50] {
            let mut world = World::new(512, (0..100).map(|n| if n < hanging { bad } else { fast as Receiver }));
            for target in 0..100 {
                world.publish(target, target as f64 / 5000.0, 20.0, 1_000);
            }
            world.run_until(60.0);
            for target in hanging..100 {
                let counts = world.counts(target);
                assert_eq!((counts.delivered.len(), counts.deferrals), (1_000, 0), "{hanging} hang");
            }
            let p99 = world.p99(hanging..100);
            assert!(p99 < 0.01, "{hanging} hang: {p99} s");
        }
    }
}

#[test]
fn a_target_that_was_down_is_back_within_seconds_and_its_backlog_within_the_length_of_the_outage() {
    let down: [Receiver; 2] = [
        |now| if (30.0..150.0).contains(&now) { Does::Hangs } else { Does::Answers(0.02) },
        |now| if (30.0..150.0).contains(&now) { Does::Fails } else { Does::Answers(0.02) },
    ];
    for receiver in down {
        let mut world = World::new(512, [receiver]);
        world.publish_as(true, 0, 0.0, 500.0, 500 * 270);
        world.run_until(300.0);
        let delivered = &world.counts(0).delivered;
        let is_new = |(at, wait): &&(f64, f64)| (156.0..166.0).contains(&(at - wait)) && *wait < 1.0;
        let rate = delivered.iter().filter(is_new).count() as f64 / 10.0;
        assert!(rate >= 0.95 * 500.0, "6 s after it answers again, {rate} new events a second");
        let old = delivered.iter().filter(|(at, wait)| at - wait < 150.0).map(|(at, _)| *at).fold(0.0, f64::max);
        // Jobs that were attempted follow the schedule of retries.
        assert!(old <= 150.0 + 120.0 + RETRY + TIMEOUT, "the last old event was delivered at {old} s");
        assert_eq!(delivered.len(), 500 * 270);
        assert!(world.counts(0).most_in_flight <= MOST);
        let each = world.counts(0).deferrals as f64 / (500.0 * 120.0);
        assert!(each < 13.0, "{each} deferrals for each job");
    }
}

#[test]
fn a_fast_target_gets_what_its_limit_allows() {
    let mut world = World::new(512, [(|_| Does::Answers(0.01)) as Receiver]);
    world.publish(0, 0.0, 100_000.0, 20_000);
    world.run_until(20.0);
    let last = world.counts(0).delivered.iter().map(|(at, _)| *at).fold(0.0, f64::max);
    let share = 20_000.0 / last / (MOST as f64 / 0.01);
    assert!(share >= 0.85, "{share} of 64/10 ms");
}

#[test]
fn a_healthy_target_that_is_slow_delays_nobody() {
    let mut world = World::new(512, [(|_| Does::Answers(2.0)) as Receiver, fast]);
    world.publish(0, 5.0, 5_000.0, 20_000);
    world.publish(1, 0.0, 200.0, 12_000);
    world.run_until(100.0);
    let (p99, counts) = (world.p99([1]), world.counts(1));
    assert!(p99 <= 0.1 && counts.deferrals == 0, "{p99} s, {} deferrals", counts.deferrals);
    let busy = world.delivered(0, 20.0, 100.0) as f64 / (80.0 * MOST as f64 / 2.0);
    assert!(busy >= 0.85, "{busy} of its capacity");
}

#[test]
fn a_backlog_of_a_dead_target_is_deferred_a_logarithmic_number_of_times() {
    let mut world = World::new(512, [hangs as Receiver, fast]);
    world.publish(0, 0.0, 2_000.0, 20_000);
    world.publish_as(true, 1, 0.0, 200.0, 120_000);
    let mut deferrals = Vec::new();
    for until in [300.0, 600.0] {
        world.run_until(until);
        deferrals.push(world.counts(0).deferrals as f64 / 20_000.0);
    }
    assert!(deferrals[0] < 14.0, "{deferrals:?} for each job");
    assert!(deferrals[1] - deferrals[0] < 2.5, "{deferrals:?} for each job");
    let (p99, counts) = (world.p99([1]), world.counts(1));
    assert!(p99 < 0.01 && counts.deferrals == 0, "{p99} s, {} deferrals", counts.deferrals);
    assert!(counts.direct >= counts.delivered.len() * 95 / 100);
}

#[test]
fn an_origin_that_hangs_for_many_organizations_leaves_room_to_others() {
    let down: Receiver = |now| if (10.0..50.0).contains(&now) { Does::Hangs } else { Does::Answers(0.05) };
    let mut world = World::new(512, (0..420).map(|n| if n < 400 { down } else { fast as Receiver }));
    for target in 0..400 {
        world.targets[target].circuit = format!("org{target} https://shared.example").into();
        world.publish(target, target as f64 / 400.0, 1.0, 90);
    }
    for target in 400..420 {
        world.publish(target, target as f64 / 3000.0, 50.0, 50 * 90);
    }
    world.run_until(49.0);
    let held: usize = world.targets[..400].iter().map(|target| target.in_flight).sum();
    assert!(held <= 256, "{held} of 512 slots");
    let deferrals: usize = world.targets.iter().map(|target| target.counts.deferrals).sum();
    assert!(deferrals < 100_000, "{deferrals} deferrals of some 16,000 jobs");
    let longest = (400..420).map(|target| world.longest(target)).fold(0.0, f64::max);
    assert!(longest < 0.3, "{longest} s");
    world.run_until(100.0);
    let rate = (0..400).map(|target| world.delivered(target, 56.0, 61.0)).sum::<usize>() as f64 / 5.0;
    assert!(rate >= 400.0, "6 s after it answers again: {rate} a second");
}

/// Three workers with a share each keep the rate as well as one does.
#[test]
fn a_rate_is_kept_to_the_second_and_used_up() {
    for workers in [1, 3] {
        let mut world = World::with_workers(workers, 512, [fast as Receiver, fast]);
        world.targets[0].rate = Some(10.0);
        world.publish(0, 0.0, 2_000.0, 2_000);
        world.publish(1, 0.0, 100.0, 12_000);
        world.run_until(240.0);
        let counts = world.counts(0);
        for minute in 0..3 {
            let began = world.began(0, f64::from(minute) * 60.0, 60.0);
            assert!((540..=610).contains(&began), "{workers} workers: {began} in minute {minute}");
        }
        let most = counts.began.iter().map(|at| world.began(0, *at, 1.0)).max();
        assert!(most <= Some(15), "{workers} workers: {most:?} in one second");
        assert_eq!(counts.delivered.len(), 2_000);
        assert!(counts.deferrals < 3 * 2_000, "{} deferrals", counts.deferrals);
        assert!(world.p99([1]) < 0.01);
    }
}

#[test]
fn after_an_outage_jobs_of_a_limited_rate_are_delivered_nearly_in_their_order() {
    let down: Receiver = |now| if (60.0..660.0).contains(&now) { Does::Hangs } else { Does::Answers(0.02) };
    for workers in [1, 3] {
        let mut world = World::with_workers(workers, 512, [down]);
        world.targets[0].rate = Some(10.0);
        world.publish(0, 0.0, 9.0, 9 * 2_400);
        world.run_until(2_400.0);
        // In a queue, the first job waits for the length of the outage, and all others wait less.
        let oldest = world.counts(0).longest_due;
        assert!(oldest <= 1.5 * 600.0, "{workers} workers: {oldest} s");
    }
}

#[test]
fn a_receiver_that_answers_only_errors_gets_one_paced_request_at_a_time_and_costs_its_neighbours_nothing() {
    let errs: Receiver = |now| if now < 10.0 { Does::Answers(0.02) } else { Does::Errs(0.002) };
    let mut world = World::new(512, (0..101).map(|n| if n < 100 { errs } else { fast as Receiver }));
    for target in 0..100 {
        world.publish(target, target as f64 / 1000.0, 20.0, 20 * 60);
    }
    world.publish(100, 20.0, 50.0, 50 * 40);
    world.run_until(60.0);
    for target in 0..100 {
        let began = world.counts(target).began.iter().filter(|at| (20.0..60.0).contains(*at)).count();
        assert!(began <= 40 * 50 + 1, "{began} requests in 40 s");
        assert!(began >= 40, "{began} requests in 40 s");
    }
    let (longest, counts) = (world.longest(100), world.counts(100));
    assert!(longest < 0.3 && counts.deferrals == 0, "a new target: {longest} s, {} deferrals", counts.deferrals);
}

#[test]
fn after_errors_a_target_is_back_within_seconds() {
    for seconds in [0.02, 0.3] {
        let fast_errors: [Receiver; 2] = [
            |now| if (30.0..90.0).contains(&now) { Does::Errs(0.002) } else { Does::Answers(0.02) },
            |now| if (30.0..90.0).contains(&now) { Does::Errs(0.002) } else { Does::Answers(0.3) },
        ];
        let mut world = World::new(512, [fast_errors[usize::from(seconds > 0.1)]]);
        world.publish_as(true, 0, 0.0, 100.0, 100 * 120);
        world.run_until(130.0);
        let rate = world.delivered(0, 97.0, 102.0) as f64 / 5.0;
        assert!(rate >= 90.0, "7 s after it answers again in {seconds} s: {rate} a second");
    }
}

#[test]
fn an_error_that_takes_long_does_not_delay_the_recovery() {
    let gateway: Receiver = |now| if (30.0..150.0).contains(&now) { Does::Errs(29.0) } else { Does::Answers(0.02) };
    let mut world = World::new(512, [gateway]);
    world.publish(0, 0.0, 20.0, 20 * 170);
    world.run_until(180.0);
    let first = world.counts(0).delivered.iter().map(|(at, _)| *at).filter(|at| *at > 150.0).fold(f64::MAX, f64::min);
    assert!(first <= 150.0 + LAST_PROBE.as_secs_f64() + 1.0, "the first delivery came at {first} s");
}
