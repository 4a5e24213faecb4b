//! What the whole comes to, in one scenario after another.

use super::*;

fn fast(_: f64) -> Does {
    Does::Answers(0.002)
}

fn hangs(_: f64) -> Does {
    Does::Hangs
}

fn takes_a_second(_: f64) -> Does {
    Does::Answers(1.0)
}

/// Parks and what the broker does altogether: for a delivery it takes and gives out an event and a job, and takes an ack for
/// each (6); for a park, or one more hop of it, it takes a message and an ack, moves it, and gives it out again (4).
fn share_of_parks(world: &World) -> f64 {
    let parks: usize = world.counts.iter().map(|counts| counts.parks + counts.hops).sum();
    let delivered: usize = world.counts.iter().map(|counts| counts.delivered.len()).sum();
    parks as f64 / (6 * delivered + 4 * parks) as f64
}

#[test]
fn hanging_targets_cost_their_neighbours_nothing() {
    let receivers = (0..100).map(|n| if n < 50 { hangs as Receiver } else { fast }).collect();
    let mut world = World::new(256, receivers);
    for lane in 0..100 {
        world.publish(lane, lane as f64 / 5000.0, 20.0, 1200);
    }
    world.run_until(70.0);
    for lane in 50..100 {
        assert_eq!(world.counts[lane].delivered.len(), 1200);
        assert_eq!(world.counts[lane].parks, 0, "a healthy lane parks nothing");
        let longest = world.counts[lane].waits.iter().copied().fold(0.0, f64::max);
        assert!(longest < 0.3, "{longest} s");
    }
    assert!(world.counts[..50].iter().all(|counts| counts.most_in_flight <= 10));
}

#[test]
fn a_fast_target_that_begins_to_hang_does_not_fill_the_slots_with_what_waits_for_it() {
    // Fast ones may let thousands wait for a tenth of a second; that one of them answers no more must show before it is silent.
    let down: Receiver = |now| if now < 10.0 { Does::Answers(0.002) } else { Does::Hangs };
    let mut world = World::new(256, vec![down, fast]);
    world.publish(0, 0.0, 3_000.0, 60_000);
    world.publish(1, 0.0, 500.0, 10_000);
    world.run_until(19.0);
    let counts = &world.counts[1];
    let longest = counts.waits.iter().copied().fold(0.0, f64::max);
    assert!(longest < 0.1 && counts.parks == 0, "{longest} s, {} parks", counts.parks);
}

#[test]
fn a_target_that_was_down_is_back_at_full_rate_within_seconds() {
    let down: [Receiver; 3] = [
        // Shorter than the timeout: all that was in flight still is.
        |now| if (160.0..180.0).contains(&now) { Does::Hangs } else { Does::Answers(0.02) },
        |now| if (60.0..180.0).contains(&now) { Does::Hangs } else { Does::Answers(0.02) },
        |now| if (60.0..180.0).contains(&now) { Does::Refuses } else { Does::Answers(0.02) },
    ];
    for receiver in down {
        let mut world = World::new(256, vec![receiver]);
        world.publish(0, 0.0, 200.0, 200 * 400);
        world.run_until(400.0);
        let rate = world.delivered_between(0, 190.0, 195.0) as f64 / 5.0;
        assert!(rate >= 200.0, "10 s after it answers again: {rate}/s");
        assert!(world.counts[0].most_in_flight <= 64);
        let backlog = 200 * 400 - world.counts[0].delivered.len();
        assert!(backlog < 300, "{backlog} are still away");
    }
}

#[test]
fn a_backlog_of_a_slow_target_keeps_it_busy_and_the_broker_idle() {
    let mut world = World::new(256, vec![takes_a_second]);
    world.publish(0, 0.0, 10_000.0, 200_000);
    world.run_until(3000.0);
    let busy = world.delivered_between(0, 600.0, 3000.0) as f64 / (2400.0 * 56.0);
    assert!(busy >= 0.85, "{busy} of what it can take");
    let share = share_of_parks(&world);
    assert!(share < 0.2, "{share} of the broker's operations are parks");
}

#[test]
fn a_backlog_of_a_dead_target_leaves_the_broker_to_others() {
    let mut world = World::new(256, vec![hangs, fast]);
    world.publish(0, 0.0, 5_000.0, 200_000);
    world.publish(1, 0.0, 1_000.0, 300_000);
    world.run_until(300.0);
    assert_eq!(world.counts[1].parks, 0);
    assert!(world.counts[1].delivered.len() >= 299_000);
    let share = share_of_parks(&world);
    assert!(share < 0.2, "{share} of the broker's operations are parks");
    let parks = world.counts[0].parks as f64;
    assert!(parks - 200_000.0 < 300.0 * pace::ALL * 1.2, "{parks} parks");
}

#[test]
fn a_short_schedule_does_not_send_a_backlog_around_the_faster() {
    let mut world = World::with_backoff(256, vec![hangs], Duration::from_secs(12));
    world.publish(0, 0.0, 5_000.0, 200_000);
    world.run_until(640.0);
    let moves = (world.counts[0].parks + world.counts[0].hops - 200_000) as f64 / 600.0;
    assert!(moves < 300.0, "111 come back each second, in two hops: {moves} moves");
}

#[test]
fn targets_that_answered_and_then_hang_all_at_once_leave_room_to_others() {
    let down: Receiver = |now| if now < 60.0 { Does::Answers(0.05) } else { Does::Hangs };
    let receivers = (0..60).map(|n| if n < 40 { down } else { fast as Receiver }).collect();
    let mut world = World::new(512, receivers);
    // Twenty new ones begin after the others have hung.
    for lane in 0..60 {
        let from = if lane < 40 { 0.0 } else { 63.0 };
        world.publish(lane, from + lane as f64 / 3000.0, 50.0, 6_000);
    }
    world.run_until(60.0 + TIMEOUT);
    let hanging: usize = world.in_flight[..40].iter().sum();
    assert!(hanging <= 7 * 40 + 40, "{hanging} slots: what they used, and probes");
    for lane in 40..60 {
        let counts = &world.counts[lane];
        let longest = counts.waits.iter().copied().fold(0.0, f64::max);
        assert!(longest < 0.3 && counts.parks == 0, "{longest} s, {} parks", counts.parks);
    }
}

/// Four hundred organizations whose webhooks all lead to one origin, with one job a second each, and twenty others with fifty.
fn many_at_one_origin(down: Receiver, until: f64) -> World {
    let receivers = (0..420).map(|n| if n < 400 { down } else { fast as Receiver }).collect();
    let mut world = World::new(256, receivers);
    for lane in 0..400 {
        world.names[lane] = format!("org{lane} https://shared.example").into();
        world.publish(lane, lane as f64 / 400.0, 1.0, until as usize);
    }
    for lane in 400..420 {
        world.publish(lane, lane as f64 / 3000.0, 50.0, 50 * until as usize);
    }
    world.run_until(until);
    for lane in 400..420 {
        let counts = &world.counts[lane];
        let longest = counts.waits.iter().copied().fold(0.0, f64::max);
        assert!(longest < 0.3 && counts.parks == 0, "{longest} s, {} parks", counts.parks);
    }
    world
}

#[test]
fn an_origin_that_hangs_for_many_organizations_leaves_room_to_others() {
    let world = many_at_one_origin(|now| if now < 10.0 { Does::Answers(0.05) } else { Does::Hangs }, 38.0);
    let hanging: usize = world.in_flight[..400].iter().sum();
    assert!(hanging <= 128, "{hanging} slots: what it used, a quarter of a second's jobs, and probes");
}

#[test]
fn who_is_answered_where_others_hang_has_its_turn() {
    // A host of hooks for everybody, where some paths hang. One does not, with little to send; one is busy and fails now and then; and one
    // is seldom asked and fails once.
    let now_and_then: Receiver = |now| if (now * 10.0) as u64 % 20 == 7 { Does::Refuses } else { Does::Answers(0.002) };
    let once: Receiver = |now| if (80.0..81.0).contains(&now) { Does::Refuses } else { Does::Answers(0.002) };
    let receivers =
        (0..43).map(|n| if n < 40 { hangs as Receiver } else { [fast as Receiver, now_and_then, once][n - 40] });
    let mut world = World::new(64, receivers.collect());
    for lane in 0..43 {
        world.names[lane] = format!("org{lane} https://shared.example").into();
    }
    for lane in 0..40 {
        world.publish(lane, lane as f64 / 40.0, 10.0, 6_000);
    }
    world.publish(40, 60.0, 0.1, 60);
    world.publish(41, 60.0, 5.0, 3_000);
    world.publish(42, 60.0, 0.05, 30);
    world.run_until(700.0);
    // A job that failed is tried again after fifteen seconds.
    for (lane, settled, usual) in [(40, 20, 0.3), (41, 1_000, RETRY + 0.3), (42, 10, 0.3)] {
        let waits = &world.counts[lane].waits;
        let longest = |waits: &[f64]| waits.iter().copied().fold(0.0, f64::max);
        assert_eq!(world.counts[lane].delivered.len(), [60, 3_000, 30][lane - 40]);
        // Until the others have been asked once, nothing tells them apart; after 200 s at the latest that is over.
        assert!(longest(waits) < 150.0, "{lane}: {} s", longest(waits));
        assert!(longest(&waits[settled..]) < usual, "{lane}: {} s", longest(&waits[settled..]));
    }
}

#[test]
fn an_origin_that_was_down_for_many_organizations_is_back_at_full_rate_within_seconds() {
    for back in [30.0, 70.0] {
        let down: [Receiver; 2] = [
            |now| if (10.0..30.0).contains(&now) { Does::Hangs } else { Does::Answers(0.05) },
            |now| if (10.0..70.0).contains(&now) { Does::Hangs } else { Does::Answers(0.05) },
        ];
        let world = many_at_one_origin(down[usize::from(back > 50.0)], back + 60.0);
        let between = |from: f64, to: f64| (0..400).map(|lane| world.delivered_between(lane, from, to)).sum::<usize>();
        let rate = between(back + 10.0, back + 15.0) as f64 / 5.0;
        assert!(rate >= 400.0, "10 s after it answers again: {rate}/s");
        let left = 400 * (back as usize + 60) - between(0.0, back + 60.0);
        assert!(left < 4_000, "up to 24,000 were away, of which some 500 come back each second: {left} still are");
    }
}

#[test]
fn idle_slots_are_used_to_ask_dead_targets_and_a_burst_finds_enough_of_them() {
    let receivers = (0..70).map(|n| if n < 60 { hangs as Receiver } else { fast }).collect();
    let mut world = World::new(256, receivers);
    for lane in 0..60 {
        world.publish(lane, lane as f64 / 600.0, 10.0, 2_000);
    }
    for lane in 60..70 {
        world.publish(lane, lane as f64 / 3000.0, 5.0, 1_000);
        world.publish(lane, 150.0, 200.0, 4_000);
    }
    world.run_until(149.0);
    let hanging: usize = world.in_flight[..60].iter().sum();
    assert!((150..=224).contains(&hanging), "{hanging} of 256 slots");
    world.run_until(200.0);
    for lane in 60..70 {
        let counts = &world.counts[lane];
        let longest = counts.waits.iter().copied().fold(0.0, f64::max);
        assert!(longest < 0.3 && counts.parks == 0, "{longest} s, {} parks", counts.parks);
    }
}

#[test]
fn a_target_with_little_parked_is_back_soon_beside_dead_ones_with_much() {
    let down: Receiver = |now| if (60.0..120.0).contains(&now) { Does::Hangs } else { Does::Answers(0.05) };
    let receivers = (0..31).map(|n| if n < 30 { hangs as Receiver } else { down }).collect();
    let mut world = World::new(256, receivers);
    for lane in 0..30 {
        world.publish(lane, lane as f64 / 100.0, 500.0, 10_000);
    }
    world.publish(30, 0.0, 2.0, 400);
    world.run_until(200.0);
    let left = 400 - world.counts[30].delivered.len();
    assert!(left < 10, "{left} of some 120 are still away 80 s after it answers again");
}

#[test]
fn backlogs_of_many_dead_targets_leave_the_broker_to_others() {
    let receivers = (0..301).map(|n| if n < 300 { hangs as Receiver } else { fast }).collect();
    let mut world = World::new(512, receivers);
    for lane in 0..300 {
        world.publish(lane, lane as f64 / 3000.0, 50.0, 1_000);
    }
    world.publish(300, 0.0, 1_000.0, 150_000);
    let parked = |world: &World| world.counts[..300].iter().map(|counts| counts.parks).sum::<usize>() as f64;
    // Many were parked before it showed that their lanes hang: those and the others return 500 times a second each.
    world.run_until(100.0);
    let before = parked(&world);
    world.run_until(150.0);
    let rate = (parked(&world) - before) / 50.0;
    assert!(rate < 2.0 * pace::ALL, "{rate} parks a second");
    assert_eq!(world.counts[300].parks, 0);
    assert!(world.counts[300].delivered.len() >= 149_000);
    let share = share_of_parks(&world);
    assert!(share < 0.2, "{share} of the broker's operations are parks");
}

#[test]
fn what_waits_for_a_dead_target_does_not_delay_what_waits_for_a_busy_one() {
    // A burst of more than it takes at once, by itself and beside 100,000 jobs for nobody.
    let times = |dead: usize| {
        let mut world = World::new(512, vec![hangs, |_| Does::Answers(0.5)]);
        world.publish(0, 0.0, 5_000.0, dead);
        world.publish(1, 0.0, 20.0, 1_200);
        world.publish(1, 60.0, 2_000.0, 2_000);
        world.run_until(300.0);
        let counts = &world.counts[1];
        assert!(counts.parks > 0 && counts.delivered.len() == 3_200);
        let mut after: Vec<_> = counts.delivered.iter().map(|at| at - 60.0).collect();
        after.sort_by(f64::total_cmp);
        (after[2_200], after[3_100])
    };
    let (alone, beside) = (times(0), times(100_000));
    assert!(
        beside.0 < 1.5 * alone.0 && beside.1 < 1.5 * alone.1,
        "half and nearly all after {alone:?} s, or {beside:?} s"
    );
}
