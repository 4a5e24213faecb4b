//! For how long a job is parked.
//!
//! Each park costs the broker about as much as a delivery, so a backlog must not circle faster than its lane can take it; and
//! a lane that recovers must find jobs at hand. Both follow from one rule: **what a lane has parked returns somewhat faster than
//! its target can answer** ([`AHEAD`]), plus a little that keeps probes supplied ([`FLOOR`]). By
//! Little's law that is a mean wait of backlog over rate. Waits are drawn evenly from (almost) nothing to twice the mean: a
//! backlog that was parked within a moment would otherwise return within one.
//!
//! | bound | why |
//! |---|---|
//! | all lanes in trouble together return about [`ALL`] jobs a second at most, and so do all others | any number of dead targets costs the broker the same, and what waits for them delays nobody else |
//! | half of those are shared by jobs and half by lanes | who has little parked does not wait for those who have much |
//! | a job's shortest wait doubles with each park from [`SHORTEST`] to [`LOW_MOST`] | the same job is not asked about again and again, and one lonely job still probes its target every few seconds |
//! | no wait is longer than [`LONGEST`], a push-back's [`LONGEST`] and as much spread at most | a wrong estimate is corrected in the end; what a push-back of a day sent away comes back soon after a worker that knows nothing of it has started |
//!
//! None of that depends on the settings of the schedule: the ladder holds long waits whatever `backoff.maximum` says. So one dead
//! target's backlog of *n* jobs returns *n* / 1,800 times a second at most: 200,000 jobs, 111 times.

use std::time::Duration;

/// How many times the rate of its lane a backlog returns with.
pub const AHEAD: f64 = 1.5;

/// Jobs a second that a lane's backlog returns with at least.
pub const FLOOR: f64 = 20.0;

/// Jobs a second that return to one worker, all lanes in trouble together, and all others together. About a twentieth of what
/// one broker on two cores does. Waits are stretched from half of it on.
pub const ALL: f64 = 500.0;

/// The shortest wait: the lowest rung that every ladder has.
pub const SHORTEST: Duration = Duration::from_secs(1);

/// The most that a job waits at least.
pub const LOW_MOST: Duration = Duration::from_secs(8);

/// The longest wait.
pub const LONGEST: Duration = Duration::from_secs(3600);

/// What a wait is made from.
#[derive(Clone, Copy, Debug)]
pub struct Backlog {
    /// Jobs of this lane that this worker has parked and that have not come back.
    pub lane: f64,
    /// The same of all lanes that stand as it does, in trouble or not.
    pub all: f64,
    /// How many lanes those belong to, this one included.
    pub lanes: f64,
    /// Jobs a second that come back of those.
    pub returning: f64,
    /// Answers a second that the lane can give, as far as is known.
    pub rate: f64,
}

/// The wait of a job that was parked `parked` times since its last attempt. `draw` from 0 to 1 is the spread. What comes back
/// before `closed` is over finds its lane closed, and is parked again.
pub fn wait(backlog: Backlog, parked: u32, closed: Duration, draw: f64) -> Duration {
    let draw = draw.clamp(0.0, 1.0);
    let low = SHORTEST.saturating_mul(1 << parked.min(16)).min(LOW_MOST);
    // Not by their number alone: what is due in an hour is no reason to let a lane that answers wait.
    let crowd = (2.0 * backlog.returning / ALL - 1.0).clamp(0.0, 1.0);
    let mean = (backlog.lane / (AHEAD * backlog.rate + FLOOR)).max(crowd * fair(backlog));
    // Bounded before it is drawn from: what is cut off afterwards would come back in one moment.
    let spread = |most: Duration| {
        let range = Duration::try_from_secs_f64(2.0 * mean).unwrap_or(LONGEST).max(low);
        range.min(most).mul_f64(draw)
    };
    match closed.is_zero() {
        true => low.saturating_add(spread(LONGEST - low)),
        // Those that a push-back sends away must not come back in one moment either.
        false => closed.min(LONGEST) + spread(LONGEST),
    }
}

/// The mean wait with which all lanes together return [`ALL`] jobs a second, half of that shared by jobs and half by lanes: whoever
/// has little parked does not wait for those who have much. A lane with its even part of all waits as if only jobs counted, one
/// with much more twice as long at most.
fn fair(backlog: Backlog) -> f64 {
    let (by_jobs, by_lanes) = (backlog.all / ALL, (backlog.lane + 1.0) * backlog.lanes / ALL);
    match by_jobs + by_lanes > 0.0 {
        true => 2.0 * by_jobs * by_lanes / (by_jobs + by_lanes),
        false => 0.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NONE: Backlog = Backlog { lane: 0.0, all: 0.0, lanes: 1.0, returning: 0.0, rate: 0.0 };
    fn seconds(backlog: Backlog, parked: u32, draw: f64) -> f64 {
        wait(backlog, parked, Duration::ZERO, draw).as_secs_f64()
    }

    #[test]
    fn a_lonely_job_is_asked_about_again_within_seconds() {
        let shortest: Vec<_> = (0..6).map(|parked| seconds(NONE, parked, 0.0)).collect();
        assert_eq!(shortest, [1.0, 2.0, 4.0, 8.0, 8.0, 8.0]);
        assert_eq!(seconds(NONE, 3, 1.0), 16.0);
    }

    #[test]
    fn a_backlog_returns_somewhat_faster_than_its_lane_answers() {
        let slow = Backlog { lane: 200_000.0, all: 200_000.0, rate: 64.0, ..NONE };
        let mean = seconds(slow, 0, 0.5);
        assert!((1724.0..1726.0).contains(&mean), "{mean}");
        let dead = Backlog { lane: 1_000.0, all: 1_000.0, ..NONE };
        assert!((50.0..52.0).contains(&seconds(dead, 0, 0.5)));
    }

    #[test]
    fn all_lanes_together_are_bounded() {
        let many = Backlog { lane: 9.0, all: 500_000.0, lanes: 50_000.0, returning: 500.0, rate: 100.0 };
        assert_eq!(seconds(many, 0, 0.5), 1001.0);
        assert_eq!(seconds(Backlog { returning: 375.0, ..many }, 0, 0.5), 501.0);
        assert_eq!(seconds(Backlog { all: 1e12, ..many }, 0, 1.0), 3600.0);
    }

    #[test]
    fn a_lane_with_little_parked_does_not_wait_for_those_with_much() {
        let crowd = Backlog { all: 300_000.0, lanes: 31.0, returning: 500.0, ..NONE };
        let little = seconds(Backlog { lane: 19.0, ..crowd }, 0, 0.5);
        assert!((3.0..4.0).contains(&little), "{little}");
        let much = seconds(Backlog { lane: 300_000.0, rate: 1e6, ..crowd }, 0, 0.5);
        assert!((1100.0..1201.0).contains(&much), "{much}");
    }

    #[test]
    fn however_what_is_parked_is_spread_over_lanes_as_much_returns() {
        for lanes in
            [vec![300_000.0], vec![1_000.0; 300], vec![1.0; 5_000], [vec![3.0; 1_000], vec![200_000.0]].concat()]
        {
            let all = lanes.iter().sum();
            let of = |lane: f64| Backlog { lane: lane - 1.0, all, lanes: lanes.len() as f64, ..NONE };
            let returning: f64 = lanes.iter().map(|lane| lane / fair(of(*lane))).sum();
            assert!((returning - ALL).abs() < 1.0, "{returning}");
        }
    }

    #[test]
    fn what_comes_back_slowly_delays_nobody() {
        let beside_a_dead_one = Backlog { lane: 10.0, all: 200_000.0, lanes: 2.0, returning: 60.0, rate: 100.0 };
        assert!(seconds(beside_a_dead_one, 0, 0.5) < 2.0);
    }

    #[test]
    fn a_push_back_is_waited_out_and_then_spread() {
        let closed = Duration::from_secs(60);
        let backlog = Backlog { lane: 1_000.0, all: 1_000.0, ..NONE };
        assert_eq!(wait(backlog, 0, closed, 0.0), closed);
        assert_eq!(wait(backlog, 0, closed, 0.1), closed + Duration::from_secs(10));
    }

    #[test]
    fn a_backlog_beyond_what_the_longest_wait_can_spread_is_spread_over_all_of_it() {
        let dead = Backlog { lane: 200_000.0, all: 200_000.0, ..NONE };
        let waits: Vec<_> = (0..=10).map(|tenth| seconds(dead, 0, f64::from(tenth) / 10.0)).collect();
        let steps = waits.windows(2).map(|pair| pair[1] - pair[0]);
        assert!(steps.clone().all(|step| (359.0..361.0).contains(&step)), "{waits:?}");
    }

    #[test]
    fn a_push_back_of_a_day_is_asked_about_again_within_two_hours() {
        let backlog = Backlog { lane: 200_000.0, all: 200_000.0, ..NONE };
        let day = Duration::from_secs(86_400);
        assert_eq!([0.0, 1.0].map(|draw| wait(backlog, 0, day, draw)), [LONGEST, 2 * LONGEST]);
    }
}
