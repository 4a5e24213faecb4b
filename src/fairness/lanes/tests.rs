use super::{
    super::{
        lane::{self, DOUBT},
        peak,
    },
    *,
};

const SECOND: Duration = Duration::from_secs(1);

fn name(n: usize) -> Arc<str> {
    format!("org{n} https://receiver{n}.example").into()
}

fn asked(lane: &Arc<str>) -> Asked<'_> {
    Asked { lane, own: None, parked: 0, turn: Turn::Fresh }
}

/// Starts as many attempts as may.
fn fill(lanes: &mut Lanes, lane: &Arc<str>, now: Instant) -> usize {
    let last = (0..1000).map(|begun| (begun, lanes.admit(asked(lane), now, 0.5))).find(|(_, is)| *is != Admission::Go);
    let (begun, admission) = last.expect("there is an end to it");
    if let Admission::Wait(queue) = admission {
        lanes.waits_no_longer(lane, &target(), queue);
    }
    begun
}

fn target() -> TargetKey {
    TargetKey::new("org", None, None)
}

fn answered(lanes: &mut Lanes, lane: &Arc<str>, now: Instant) -> Freed {
    lanes.ended(lane, None, now, Signal::Answered, now)
}

/// Lets it answer until its limit has grown as far as it may.
fn prove(lanes: &mut Lanes, lane: &Arc<str>, now: Instant) {
    for _ in 0..5 {
        let begun = fill(lanes, lane, now);
        for _ in 0..begun {
            answered(lanes, lane, now);
        }
    }
}

#[test]
fn a_lane_has_its_limit_in_flight_and_no_more() {
    let now = Instant::now();
    let (mut lanes, lane) = (Lanes::new(1000, 64, now), name(1));
    assert_eq!(fill(&mut lanes, &lane, now), 4);
    assert_eq!(lanes.admit(asked(&lane), now, 0.5), Admission::Wait(Queue::Lane), "a young lane's queue is short");
    let other = name(2);
    prove(&mut lanes, &other, now);
    assert_eq!(fill(&mut lanes, &other, now), 56);
}

#[test]
fn a_target_that_allows_less_has_that_beside_others_of_its_lane() {
    let now = Instant::now();
    let (mut lanes, lane, key) = (Lanes::new(1000, 64, now), name(1), TargetKey::new("org1", Some("c"), None));
    prove(&mut lanes, &lane, now);
    let few = Asked { own: Some(Own { target: &key, most: 2 }), ..asked(&lane) };
    assert_eq!((0..40).filter(|_| lanes.admit(asked(&lane), now, 0.5) == Admission::Go).count(), 40);
    // Its neighbours' attempts are not its own.
    let answers = [0; 3].map(|_| lanes.admit(few, now, 0.5));
    assert_eq!(answers, [Admission::Go, Admission::Go, Admission::Wait(Queue::Target)]);
    assert_eq!(lanes.admit(asked(&lane), now, 0.5), Admission::Go, "and it keeps nobody out");
    assert_eq!(answered(&mut lanes, &lane, now).target, 0, "another's end is no turn of its own");
    let end = lanes.ended(&lane, Some(&key), now, Signal::Answered, now);
    assert_eq!(end.target, 1);
    assert_eq!(lanes.admit(Asked { turn: Turn::Waiting, ..few }, now, 0.5), Admission::Go);
    assert_eq!(lanes.waits_no_longer(&lane, &key, Queue::Target), 0);
    for _ in 0..2 {
        lanes.ended(&lane, Some(&key), now, Signal::Answered, now);
    }
    lanes.sweep(now + FORGOTTEN_AFTER);
    assert_eq!(lanes.view(now)[0].in_flight, 40);
}

#[test]
fn a_target_that_allows_less_is_parked_by_its_own_backlog() {
    let now = Instant::now();
    let (mut lanes, lane, key) = (Lanes::new(1000, 64, now), name(1), TargetKey::new("org1", Some("c"), None));
    let begun = now;
    let now = now + SECOND;
    let few = Asked { own: Some(Own { target: &key, most: 2 }), ..asked(&lane) };
    lanes.admit(few, begun, 0.5);
    lanes.ended(&lane, Some(&key), begun, Signal::Answered, now);
    (0..2).for_each(|_| assert_eq!(lanes.admit(few, now, 0.5), Admission::Go));
    assert_eq!(lanes.admit(few, now, 0.5), Admission::Wait(Queue::Target), "a fifth of a job may wait");
    for _ in 0..230 {
        assert!(matches!(lanes.admit(few, now, 0.5), Admission::Park { reason: ParkReason::Saturated, .. }));
    }
    let Admission::Park { wait, .. } = lanes.admit(few, now, 0.5) else { panic!("there is no room") };
    assert_eq!(wait, SECOND + 10 * SECOND, "230 jobs, of which 1.5 times two a second return, and 20 more");
    assert_eq!(lanes.view(now)[0].parked, 231);
}

#[test]
fn lanes_that_have_never_answered_have_half_of_the_slots_at_most() {
    let now = Instant::now();
    let mut lanes = Lanes::new(100, 64, now);
    let healthy = name(0);
    prove(&mut lanes, &healthy, now);
    let taken: Vec<_> = (1..100).map(|n| fill(&mut lanes, &name(n), now)).collect();
    let (more, one): (Vec<_>, Vec<_>) = taken.into_iter().partition(|taken| *taken > 1);
    assert_eq!((more.iter().sum::<usize>(), one.iter().sum::<usize>()), (50, 13), "and the first attempts of others");
    assert!(fill(&mut lanes, &healthy, now) >= 25, "the healthy one still has its share");
    assert!(matches!(lanes.admit(asked(&name(1)), now, 0.5), Admission::Park { .. }));
}

#[test]
fn a_lane_that_nobody_knows_may_begin_where_uncertain_ones_have_their_half() {
    let now = Instant::now();
    let mut lanes = Lanes::new(100, 64, now);
    (0..13).for_each(|n| assert!(fill(&mut lanes, &name(n), now) > 0));
    assert_eq!(lanes.in_flight(), 50);
    assert_eq!(fill(&mut lanes, &name(50), now), 1);
    let Admission::Park { reason, .. } = lanes.admit(asked(&name(50)), now, 0.5) else { panic!("no room") };
    assert_eq!(reason, ParkReason::Crowded);
}

#[test]
fn lanes_that_fall_quiet_count_among_the_uncertain() {
    let now = Instant::now();
    let mut lanes = Lanes::new(100, 64, now);
    let (hangs, new) = (name(0), name(1));
    prove(&mut lanes, &hangs, now);
    assert_eq!(fill(&mut lanes, &hangs, now), 56);
    assert_eq!(lanes.unproven, 0);
    let later = now + DOUBT;
    lanes.admit(Asked { turn: Turn::Last, ..asked(&hangs) }, later, 0.5);
    assert_eq!(lanes.unproven, 56);
    assert_eq!(fill(&mut lanes, &new, later), 1, "the first of one that is new, and no more");
    lanes.ended(&hangs, None, now, Signal::Answered, later);
    assert_eq!(lanes.unproven, 1, "it answers");
    assert!(fill(&mut lanes, &hangs, later) >= 1);
}

#[test]
fn however_many_lanes_are_slow_something_is_left() {
    let now = Instant::now();
    let mut lanes = Lanes::new(256, 64, now);
    (0..20).for_each(|n| prove(&mut lanes, &name(n), now));
    let taken: Vec<_> = (0..19).map(|n| fill(&mut lanes, &name(n), now)).collect();
    assert!(taken[0] == 56 && taken.iter().all(|taken| *taken >= 1), "{taken:?}");
    assert!(fill(&mut lanes, &name(19), now) >= 1);
}

#[test]
fn those_that_wait_go_before_those_that_come() {
    let now = Instant::now();
    let (mut lanes, lane) = (Lanes::new(1000, 64, now), name(1));
    fill(&mut lanes, &lane, now);
    assert_eq!(lanes.admit(asked(&lane), now, 0.5), Admission::Wait(Queue::Lane));
    assert_eq!(lanes.admit(asked(&lane), now, 0.5), Admission::Wait(Queue::Lane));
    assert_eq!(answered(&mut lanes, &lane, now).lane, 2, "one is free, and the limit has grown by one");
    assert_eq!(lanes.admit(Asked { turn: Turn::Waiting, ..asked(&lane) }, now, 0.5), Admission::Go);
    assert_eq!(lanes.waits_no_longer(&lane, &target(), Queue::Lane), 1, "another one is there still");
}

#[test]
fn a_backlog_is_counted_until_it_is_due() {
    let now = Instant::now();
    let (mut lanes, lane) = (Lanes::new(1000, 64, now), name(1));
    fill(&mut lanes, &lane, now);
    let silent = now + 3 * SECOND;
    for _ in 0..10 {
        let parked = lanes.admit(asked(&lane), silent, 0.0);
        assert_eq!(parked, Admission::Park { reason: ParkReason::Failing, wait: SECOND });
    }
    assert_eq!(lanes.view(silent)[0].parked, 10);
    assert_eq!(lanes.view(silent + 2 * SECOND)[0].parked, 0);
}

#[test]
fn lanes_in_no_use_are_forgotten() {
    let now = Instant::now();
    let mut lanes = Lanes::new(1000, 64, now);
    (0..50).for_each(|n| prove(&mut lanes, &name(n), now));
    let busy = name(99);
    lanes.admit(asked(&busy), now, 0.5);
    lanes.admit(asked(&name(0)), now + FORGOTTEN_AFTER, 0.5);
    let left: Vec<_> = lanes.view(now).into_iter().map(|view| view.organization).collect();
    assert_eq!(left.len(), 2, "{left:?}");
    assert_eq!((lanes.in_flight(), lanes.unproven), (2, 2));
}

#[test]
fn what_began_before_a_target_had_a_limit_of_its_own_is_not_taken_off_it() {
    let now = Instant::now();
    let (mut lanes, lane, key) = (Lanes::new(1000, 64, now), name(1), TargetKey::new("org1", Some("c"), None));
    prove(&mut lanes, &lane, now);
    assert_eq!((0..20).filter(|_| lanes.admit(asked(&lane), now, 0.5) == Admission::Go).count(), 20);
    // The store is read again, and the target allows two.
    let few = Asked { own: Some(Own { target: &key, most: 2 }), ..asked(&lane) };
    let begun = |lanes: &mut Lanes| (0..10).filter(|_| lanes.admit(few, now, 0.5) == Admission::Go).count();
    assert_eq!(begun(&mut lanes), 2);
    for _ in 0..20 {
        lanes.ended(&lane, None, now, Signal::Answered, now);
        assert_eq!(begun(&mut lanes), 0, "two of its own are in flight still");
    }
    lanes.ended(&lane, Some(&key), now, Signal::Answered, now);
    assert_eq!(lanes.admit(Asked { turn: Turn::Waiting, ..few }, now, 0.5), Admission::Go);
}

#[test]
fn a_fast_lane_may_wait_for_its_own_where_slots_are_scarce() {
    let now = Instant::now();
    let (mut lanes, fast) = (Lanes::new(64, 64, now), name(0));
    prove(&mut lanes, &fast, now);
    let slow: Vec<_> = (1..=2).map(name).collect();
    slow.iter().for_each(|slow| prove(&mut lanes, slow, now));
    assert_eq!(lanes.admit(asked(&fast), now, 0.5), Admission::Go);
    for slow in &slow {
        fill(&mut lanes, slow, now);
    }
    assert_eq!(lanes.admit(asked(&fast), now, 0.5), Admission::Wait(Queue::Lane));
}

#[test]
fn slots_that_lie_idle_are_there_for_uncertain_lanes_too() {
    let start = Instant::now();
    let mut lanes = Lanes::new(100, 64, start);
    let now = start + 2 * peak::WINDOW;
    let taken: usize = (0..40).map(|n| fill(&mut lanes, &name(n), now)).sum();
    assert_eq!(taken, 87, "all but a quarter, and first attempts in half of that");
    // Where others need a third of the slots, twice that is left for them.
    let mut lanes = Lanes::new(100, 64, start);
    let healthy = name(99);
    prove(&mut lanes, &healthy, start);
    lanes.admit(asked(&healthy), now, 0.5);
    assert_eq!((0..32).filter(|_| lanes.admit(asked(&healthy), now, 0.5) == Admission::Go).count(), 32);
    let later = now + DOUBT / 2;
    let taken: usize = (0..30).map(|n| fill(&mut lanes, &name(n), later)).sum();
    assert_eq!(taken, 63, "half, and first attempts up to five eighths");
}

#[test]
fn an_origin_is_known_by_its_own_lanes_after_others_were_forgotten() {
    let now = Instant::now();
    let mut lanes = Lanes::new(100, 64, now);
    (0..5).for_each(|n| prove(&mut lanes, &name(n), now));
    let later = now + FORGOTTEN_AFTER;
    (3..5).for_each(|n| assert_eq!(lanes.admit(asked(&name(n)), later, 0.5), Admission::Go));
    assert_eq!((lanes.origins.len(), lanes.places.len()), (2, 2));
    let other: Arc<str> = "another https://receiver4.example".into();
    let more = (0..3).filter(|_| lanes.admit(asked(&other), later, 0.5) == Admission::Go).count();
    assert_eq!((more, lanes.origins.len()), (3, 2));
    lanes.ended(&other, None, later, Signal::Answered, later);
    assert_eq!(lanes.lanes[&other].origin, lanes.lanes[&name(4)].origin);
}

#[test]
fn nobody_waits_in_half_of_the_slots_for_a_lane_that_is_late() {
    let now = Instant::now();
    let (mut lanes, lane) = (Lanes::new(120, 64, now), name(1));
    // Two milliseconds for an answer: in a tenth of a second thousands have their turn.
    prove(&mut lanes, &lane, now);
    assert_eq!(fill(&mut lanes, &lane, now), 56);
    let wait = |lanes: &mut Lanes, turn, now| lanes.admit(Asked { turn, ..asked(&lane) }, now, 0.5);
    for _ in 0..3 {
        assert_eq!(wait(&mut lanes, Turn::Fresh, now), Admission::Wait(Queue::Lane));
    }
    let late = now + lane::MOMENT;
    assert_eq!(wait(&mut lanes, Turn::Waiting, late), Admission::Wait(Queue::Lane), "59 of 120 slots: a pause");
    assert_eq!(wait(&mut lanes, Turn::Fresh, late), Admission::Wait(Queue::Lane));
    for turn in [Turn::Fresh, Turn::Waiting] {
        let parked = wait(&mut lanes, turn, late);
        assert!(matches!(parked, Admission::Park { reason: ParkReason::Saturated, .. }), "{turn:?}: {parked:?}");
    }
    lanes.waits_no_longer(&lane, &target(), Queue::Lane);
    assert_eq!(wait(&mut lanes, Turn::Waiting, late), Admission::Wait(Queue::Lane), "one less");
    lanes.ended(&lane, None, now, Signal::Answered, late);
    assert_eq!(wait(&mut lanes, Turn::Waiting, late), Admission::Go);
}
