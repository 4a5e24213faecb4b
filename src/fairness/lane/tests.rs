use super::*;

const SECOND: Duration = Duration::from_secs(1);

fn begun(lane: &mut Lane, attempts: usize, now: Instant) {
    (0..attempts).for_each(|_| {
        lane.begin(now);
    });
}

/// Lets it answer until its limit has grown as far as it may.
fn prove(lane: &mut Lane, now: Instant) {
    for _ in 0..5 {
        begun(lane, lane.limit(), now);
        (0..lane.in_flight()).for_each(|_| {
            lane.end(now, Signal::Answered, now);
        });
    }
}

#[test]
fn a_lane_that_hangs_starts_one_attempt_every_few_seconds() {
    let start = Instant::now();
    let mut lane = Lane::new(64, start);
    begun(&mut lane, 4, start);
    assert!(!lane.has_room(64, start + SECOND), "its limit is reached");
    assert_eq!(lane.standing(start + SECOND), Standing::Open);
    let silent = start + SILENCE;
    assert_eq!(lane.standing(silent), Standing::Probing);
    assert!(!lane.has_room(64, silent) && !lane.turns_soon(silent));
    let later = start + PROBE_EVERY;
    assert!(lane.has_room(64, later));
    lane.begin(later);
    assert!(!lane.has_room(64, later + SECOND));
    assert!(!lane.has_room(5, later + PROBE_EVERY), "never more than the target allows");
}

#[test]
fn a_lane_that_hangs_with_all_in_flight_can_still_be_asked() {
    let start = Instant::now();
    let mut lane = Lane::new(64, start);
    prove(&mut lane, start);
    let begun = (0..100).take_while(|_| lane.has_room(64, start).then(|| lane.begin(start)).is_some()).count();
    assert_eq!(begun, 56);
    assert!(!lane.has_room(64, start + SILENCE));
    for n in 1..=8 {
        let then = start + n * PROBE_EVERY;
        assert!(lane.has_room(64, then));
        lane.begin(then);
    }
    let then = start + 9 * PROBE_EVERY;
    assert!(!lane.has_room(64, then), "never more than the target allows");
    let probe = start + 8 * PROBE_EVERY;
    lane.end(probe, Signal::Answered, then);
    assert!(lane.has_room(64, then), "it answers, and does not wait for what hangs");
    lane.begin(then);
    assert!(!lane.has_room(64, then));
}

#[test]
fn a_lane_whose_answers_take_long_is_not_silent() {
    let mut now = Instant::now();
    let mut lane = Lane::new(64, now);
    for _ in 0..40 {
        lane.begin(now);
        let begun = now;
        now += 10 * SECOND;
        lane.end(begun, Signal::Answered, now);
    }
    lane.begin(now);
    assert_eq!(lane.standing(now + 30 * SECOND), Standing::Open);
    assert_eq!(lane.standing(now + 41 * SECOND), Standing::Probing);
}

#[test]
fn an_answer_opens_a_lane_again() {
    let start = Instant::now();
    let mut lane = Lane::new(64, start);
    begun(&mut lane, 4, start);
    (0..4).for_each(|_| {
        lane.end(start, Signal::Failing, start + 30 * SECOND);
    });
    assert_eq!((lane.limit(), lane.is_proven()), (1, false));
    let now = start + 31 * SECOND;
    lane.begin(now);
    assert!(!lane.has_room(64, now));
    lane.end(now, Signal::Answered, now + SECOND);
    assert!(lane.is_proven() && lane.has_room(64, now + SECOND));
}

#[test]
fn a_push_back_closes_the_whole_lane_for_as_long_as_it_asks() {
    let start = Instant::now();
    let mut lane = Lane::new(64, start);
    begun(&mut lane, 2, start);
    lane.end(start, Signal::PushedBack(Some(60 * SECOND)), start);
    assert!(!lane.has_room(64, start + 59 * SECOND));
    assert_eq!(lane.why(start), ParkReason::PushedBack);
    lane.end(start, Signal::PushedBack(None), start + SECOND);
    assert_eq!(lane.closed_for(start + SECOND), 59 * SECOND, "a shorter one takes nothing back");
    assert!(lane.has_room(64, start + 60 * SECOND));
    assert_eq!(lane.limit(), 1);
}

#[test]
fn push_backs_that_name_no_time_double() {
    let mut now = Instant::now();
    let mut lane = Lane::new(64, now);
    let pauses: Vec<_> = (0..7)
        .map(|_| {
            lane.begin(now);
            lane.end(now, Signal::PushedBack(None), now);
            let pause = lane.closed_for(now);
            now += pause;
            pause.as_secs()
        })
        .collect();
    assert_eq!(pauses, [1, 2, 4, 8, 16, 30, 30]);
}

#[test]
fn a_queue_in_the_process_is_as_long_as_a_moments_answers() {
    let mut now = Instant::now();
    let mut lane = Lane::new(64, now);
    lane.waiting = 16;
    assert!(!lane.turns_soon(now), "as many as a young one will soon work on");
    for _ in 0..100 {
        lane.begin(now);
        let begun = now;
        now += Duration::from_millis(4);
        lane.end(begun, Signal::Answered, now);
    }
    lane.waiting = 399;
    assert!(lane.turns_soon(now), "sixteen at a time, in 4 ms: four thousand a second are 400 in a tenth of it");
    lane.waiting = 401;
    assert!(!lane.turns_soon(now));
}

#[test]
fn push_backs_of_one_round_count_once() {
    let start = Instant::now();
    let mut lane = Lane::new(64, start);
    begun(&mut lane, 4, start);
    (0..4).for_each(|_| {
        lane.end(start, Signal::PushedBack(None), start + SECOND);
    });
    assert_eq!(lane.closed_for(start + SECOND), SECOND);
    let next = start + 2 * SECOND;
    begun(&mut lane, 1, next);
    lane.end(next, Signal::PushedBack(None), next);
    assert_eq!(lane.closed_for(next), 2 * SECOND);
    begun(&mut lane, 2, start + 5 * SECOND);
    lane.end(start + 5 * SECOND, Signal::Answered, start + 5 * SECOND);
    lane.end(start + 5 * SECOND, Signal::PushedBack(None), start + 6 * SECOND);
    assert_eq!(lane.closed_for(start + 6 * SECOND), SECOND, "an answer begins anew");
}

#[test]
fn a_lane_that_falls_quiet_has_to_prove_itself_again() {
    let start = Instant::now();
    let mut lane = Lane::new(64, start);
    prove(&mut lane, start);
    assert!(!lane.comes_into_doubt(false, start + SECOND), "it has nothing in flight");
    let now = start + 2 * SECOND;
    begun(&mut lane, 2, now);
    assert!(!lane.comes_into_doubt(false, now + DOUBT / 2));
    assert!(lane.comes_into_doubt(false, now + DOUBT) && !lane.is_proven());
    assert!(!lane.comes_into_doubt(false, now + DOUBT), "once");
    lane.end(now, Signal::Answered, now + SECOND);
    assert!(lane.is_proven());
}
