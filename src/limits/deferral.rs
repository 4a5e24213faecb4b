//! How long a job waits when its circuit has no room: in the process for a moment, or else deferred on the delay
//! ladder.
//!
//! In the process it waits at most [`PATIENCE`], and only for a healthy circuit. A deferral lasts 0.4 to 0.8 of the
//! time that the job has been due (exponential backoff with jitter, by age). So a backlog returns within the length of
//! the outage, and each job is deferred a logarithmic number of times. If the circuit answers, a deferral lasts no
//! longer than the circuit needs for the jobs deferred before (Little 1961). A pause is added to it.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

/// Longest wait in the process.
pub const PATIENCE: Duration = Duration::from_millis(250);

/// All waiting jobs together hold at most 1/4 of the slots. One circuit has at most as many waiting jobs as its limit.
pub const WAITING_DIVISOR: usize = 4;

/// Shortest deferral.
pub const SHORTEST: Duration = Duration::from_millis(250);
/// Longest deferral.
pub const LONGEST: Duration = Duration::from_secs(300);

/// Shortest and longest deferral, as a share of the time that the job has been due.
pub const SHARE: [f64; 2] = [0.4, 0.8];

/// How long a job has been due.
#[derive(Clone, Copy, Debug, Default)]
pub struct Due {
    /// Time since it was due.
    pub late: Duration,
    /// Whether it was deferred until its turn ([`super::rate`]), and nothing else has happened to it since.
    pub turn: Turn,
}

/// Whether the rate of its target deferred a job, and until when.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Turn {
    /// It was not deferred by the rate, or something else has happened to it since.
    #[default]
    None,
    /// Deferred until it is among the oldest.
    Come,
    /// Deferred until its token is due.
    Paid,
}

/// Rough upper bound on the deferred jobs that return to one worker each second, so that backlogs do not use up the
/// broker. Circuits with deferred jobs share it equally, so a small backlog does not wait for a large one.
pub const RETURNS: f64 = 1_000.0;

/// Returns how long to defer a job that has been due for `late`. `away` is the number of its circuit's deferred jobs,
/// times the number of circuits that share [`RETURNS`], the bound on the deferred jobs that return each second. `queue`
/// is how many seconds the circuit needs for those jobs, or `None` if it does not answer. `pause` is how long it must
/// be left alone. `draw` is in `[0, 1)`.
pub fn wait(late: Duration, away: u64, queue: Option<f64>, pause: Duration, draw: f64) -> Duration {
    let [least, most] = SHARE;
    // A job that has only just become due is spread as well.
    let by_age = late.max(SHORTEST.div_f64(least)).as_secs_f64() * (least + (most - least) * draw);
    let by_number = (0.5 + draw) * away as f64 / RETURNS;
    let by_queue = queue.map_or(f64::INFINITY, |queue| (0.5 + draw / 2.0) * queue);
    let seconds = by_age.max(by_number).min(by_queue).min(LONGEST.as_secs_f64());
    Duration::from_secs_f64(seconds).max(SHORTEST).saturating_add(pause).min(LONGEST)
}

/// The jobs that this worker has deferred and that are still away, counted by their times of return. Arrivals are not
/// counted, because a job returns to any worker.
#[derive(Clone, Debug, Default)]
pub struct Away {
    /// Number of jobs by time of return.
    returns: BTreeMap<Instant, u64>,
    jobs: u64,
}

impl Away {
    /// Counts one more job that is away for `wait`.
    pub fn add(&mut self, wait: Duration, now: Instant) {
        // In steps of 1/16 of the wait, so that a backlog of any size needs few entries.
        let step = (wait.as_millis() as u64 / 16).next_power_of_two().max(16);
        let last = self.returns.range(now + wait..).next().map(|(at, _)| *at);
        let at = last.filter(|at| *at <= now + wait + Duration::from_millis(step));
        *self.returns.entry(at.unwrap_or(now + wait + Duration::from_millis(step))).or_default() += 1;
        self.jobs += 1;
    }

    /// Returns how many jobs are still away.
    pub fn jobs(&mut self, now: Instant) -> u64 {
        while let Some(first) = self.returns.first_entry().filter(|first| *first.key() <= now) {
            self.jobs -= first.remove();
        }
        self.jobs
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_deferral_lasts_four_to_eight_tenths_of_the_time_that_the_job_has_been_due() {
        let of = |seconds, draw| wait(seconds * SECOND, 0, None, Duration::ZERO, draw).as_secs_f64();
        assert_eq!([of(100, 0.0), of(100, 0.5), of(100, 1.0)].map(f64::round), [40.0, 60.0, 80.0]);
        assert_eq!([of(0, 0.0), of(0, 1.0)], [0.25, 0.5]);
        assert_eq!(of(3600, 0.5), 300.0);
    }

    #[test]
    fn a_job_is_deferred_a_logarithmic_number_of_times() {
        let deferrals = |outage: Duration| {
            let (mut late, mut count) = (Duration::ZERO, 0);
            while late < outage {
                late += wait(late, 0, None, Duration::ZERO, 0.5);
                count += 1;
            }
            (count, late)
        };
        for (outage, most) in [(10, 8), (120, 13), (600, 17)] {
            let (count, late) = deferrals(outage * SECOND);
            assert!(count <= most, "{outage} s: {count}");
            assert!(late <= 2 * outage * SECOND, "back within the length of the outage: {late:?}");
        }
    }

    #[test]
    fn a_circuit_that_answers_has_its_jobs_back_when_it_can_take_them() {
        let queue = |seconds: u32| Some(f64::from(seconds));
        assert_eq!(wait(100 * SECOND, 0, queue(10), Duration::ZERO, 0.0), 5 * SECOND);
        assert_eq!(wait(100 * SECOND, 0, queue(10), Duration::ZERO, 1.0), 10 * SECOND);
        assert_eq!(wait(10 * SECOND, 0, queue(1000), Duration::ZERO, 0.0), 4 * SECOND);
        assert_eq!(wait(100 * SECOND, 0, queue(0), Duration::ZERO, 1.0), SHORTEST);
    }

    #[test]
    fn a_large_backlog_returns_slowly() {
        let of = |away, queue| wait(SECOND, away, queue, Duration::ZERO, 0.5).as_secs_f64();
        assert_eq!([of(500, None), of(10_000, None), of(10_000, Some(4.0))], [0.6, 10.0, 3.0]);
    }

    #[test]
    fn a_pause_is_waited_out() {
        assert!(wait(SECOND, 0, None, 60 * SECOND, 0.0) > 60 * SECOND);
        assert_eq!(wait(SECOND, 0, None, 86_400 * SECOND, 0.0), LONGEST);
    }

    #[test]
    fn jobs_are_away_until_they_return_and_need_few_entries() {
        let (mut away, start) = (Away::default(), Instant::now());
        for n in 0..200_000u64 {
            away.add(Duration::from_millis(n), start + Duration::from_millis(n / 10));
        }
        assert!(away.returns.len() < 400, "{}", away.returns.len());
        let half = away.jobs(start + 110 * SECOND);
        assert!((90_000..110_000).contains(&half), "{half}");
        assert_eq!(away.jobs(start + 300 * SECOND), 0);
    }
}
