//! A circuit breaker (Nygard 2007): stops requests when nothing answers, and notices recovery by probes that back off,
//! as in linkerd's failure accrual.
//!
//! It opens when a whole window of requests has failed without an answer between them. It also opens when requests are
//! in flight and nothing is answered for [`SILENCE`], or for four times the 95th percentile if that is longer.
//! While open it lets one probe through after [`FIRST_PROBE`], and then at growing intervals up to [`LAST_PROBE`], even
//! if an earlier probe still hangs. An answer closes it. An error (5xx) is an answer too, and the concurrency limit
//! judges it. A receiver that asks for a pause gets it, with a probe every [`PAUSE_PROBE`].

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use super::signal::Signal;

/// Shortest time without an answer, with requests in flight, that opens the breaker.
pub const SILENCE: Duration = Duration::from_secs(2);

/// The silence must also last this many times the 95th percentile, for receivers whose answers take longer.
pub const SILENCE_BY_P95: u32 = 4;

/// Time from opening to the first probe. Each further interval is twice as long, up to [`LAST_PROBE`].
pub const FIRST_PROBE: Duration = Duration::from_secs(1);

/// Longest time between two probes. A recovery is noticed within it, whatever the timeout of the requests.
pub const LAST_PROBE: Duration = Duration::from_secs(5);

/// Time between two probes while the receiver wants a pause. So a pause of hours that was meant as minutes ends early.
pub const PAUSE_PROBE: Duration = Duration::from_secs(300);

/// How many of the latest answers count for the percentile and the mean.
const ANSWERS: usize = 20;

/// A breaker for requests to one receiver, or through one proxy. Has no clock: each call takes `now`.
#[derive(Clone, Debug, Default)]
pub struct Breaker {
    /// Start of the first request since a request last ended.
    unanswered: Option<Instant>,
    /// Start of the latest request that was answered. The failure of an earlier request is old news.
    alive: Option<Instant>,
    /// Failures since the last answer.
    failures: usize,
    /// When the latest answers came, and how long they took.
    answers: VecDeque<(Instant, Duration)>,
    open: Option<Open>,
}

#[derive(Clone, Copy, Debug)]
struct Open {
    since: Instant,
    /// When the next probe may start.
    probe: Instant,
    interval: Duration,
    /// End of the latest pause that the receiver asked for. It may have passed.
    paused_until: Option<Instant>,
}

impl Breaker {
    /// Returns whether a request may start. Takes `&mut` because it notices silence.
    pub fn may_start(&mut self, now: Instant) -> bool {
        if self.is_closed() && self.is_silent(SILENCE, now) {
            self.open(now);
        }
        self.open.is_none_or(|open| now >= open.probe)
    }

    /// Returns whether it is closed, so that requests start freely.
    pub fn is_closed(&self) -> bool {
        self.open.is_none()
    }

    /// Returns whether it is open or about to open. A pause after which no request has failed does not count.
    pub fn is_failing(&self, now: Instant) -> bool {
        let has_failed = self.open.is_some_and(|open| open.paused_until.is_none());
        has_failed || (self.is_silent(SILENCE, now) && self.pause(now).is_zero())
    }

    /// Returns the rest of the pause that the receiver asked for.
    pub fn pause(&self, now: Instant) -> Duration {
        let until = self.open.and_then(|open| open.paused_until);
        until.map_or(Duration::ZERO, |until| until.saturating_duration_since(now))
    }

    /// Returns whether requests are in flight and nothing was answered for `least` and for four times the 95th
    /// percentile.
    pub fn is_silent(&self, least: Duration, now: Instant) -> bool {
        let silence = self.unanswered.map_or(Duration::ZERO, |since| now.saturating_duration_since(since));
        silence >= least && silence >= SILENCE_BY_P95 * self.p95()
    }

    /// Returns the 95th percentile of the latest answers: of 20 the second largest, of fewer the largest.
    fn p95(&self) -> Duration {
        let largest = self.answers.iter().fold([Duration::ZERO; 2], |[first, second], (_, took)| match *took {
            took if took >= first => [took, first],
            took => [first, second.max(took)],
        });
        largest[usize::from(self.answers.len() == ANSWERS)]
    }

    /// Returns the mean seconds of the latest answers, or `None` before the first.
    pub fn mean(&self) -> Option<f64> {
        let total: Duration = self.answers.iter().map(|(_, took)| *took).sum();
        (!self.answers.is_empty()).then(|| total.as_secs_f64() / self.answers.len() as f64)
    }

    /// Returns the recent answers per second.
    pub fn rate(&self, now: Instant) -> f64 {
        let first = self.answers.back().map(|(at, _)| now.saturating_duration_since(*at).as_secs_f64());
        first.map_or(0.0, |seconds| self.answers.len() as f64 / seconds.max(1.0))
    }

    /// Notes that a request begins, which [`Breaker::may_start`] has allowed.
    pub fn begin(&mut self, now: Instant) {
        self.unanswered.get_or_insert(now);
        let pause = self.pause(now);
        if let Some(open) = &mut self.open {
            open.interval = (2 * open.interval).min(LAST_PROBE);
            open.probe = now + open.interval.max(pause.min(PAUSE_PROBE));
        }
    }

    /// Notes that a request that began at `begun` has ended. `window` failures in a row open the breaker. Returns
    /// whether it just opened.
    pub fn end(&mut self, begun: Instant, signal: Signal, window: usize, now: Instant) -> bool {
        let was_closed = self.is_closed();
        self.unanswered = None;
        match signal {
            Signal::Answered => self.answered(begun, now),
            Signal::Error => self.erred(begun, now),
            Signal::Failing if self.alive.is_none_or(|alive| begun >= alive) => {
                self.failures = self.failures.saturating_add(1);
                if was_closed && self.failures >= window {
                    self.open(now);
                } else if let Some(open) = &mut self.open {
                    open.paused_until = open.paused_until.filter(|until| *until > now);
                }
            }
            Signal::Paused(wish) => self.pause_for(wish, now),
            Signal::Failing | Signal::Nothing => {}
        }
        was_closed && !self.is_closed()
    }

    fn answered(&mut self, begun: Instant, now: Instant) {
        self.alive = self.alive.max(Some(begun));
        self.failures = 0;
        self.answers.truncate(ANSWERS - 1);
        self.answers.push_front((now, now.saturating_duration_since(begun)));
        // A receiver that asks for a pause may still answer requests that it had accepted before.
        if self.open.is_none_or(|open| open.paused_until.is_none() || begun >= open.since) {
            self.open = None;
        }
    }

    /// An error shows that the receiver is there. It does not end a pause, and how long it took says nothing about other
    /// answers.
    fn erred(&mut self, begun: Instant, now: Instant) {
        self.alive = self.alive.max(Some(begun));
        self.failures = 0;
        if self.pause(now).is_zero() {
            self.open = None;
        }
    }

    fn open(&mut self, now: Instant) {
        self.open = Some(Open { since: now, probe: now + FIRST_PROBE, interval: FIRST_PROBE, paused_until: None });
    }

    /// Pauses requests. `Retry-After: 0`, and a 429 without the header, ask for a pause until the next probe.
    fn pause_for(&mut self, wish: Option<Duration>, now: Instant) {
        let begins = Open { since: now, probe: now, interval: FIRST_PROBE, paused_until: None };
        let mut open = self.open.unwrap_or(begins);
        open.since = if open.paused_until.is_none() { now } else { open.since };
        let wish = wish.filter(|wish| !wish.is_zero()).unwrap_or(open.interval);
        open.paused_until = open.paused_until.max(now.checked_add(wish));
        open.probe = open.probe.max(now + wish.min(PAUSE_PROBE));
        self.open = Some(open);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Bench(Breaker, Instant);

    impl Bench {
        fn new() -> Bench {
            Bench(Breaker::default(), Instant::now())
        }

        fn at(&self, second: f64) -> Instant {
            self.1 + Duration::from_secs_f64(second)
        }

        fn may_start(&mut self, second: f64) -> bool {
            let now = self.at(second);
            self.0.may_start(now)
        }

        fn begin(&mut self, second: f64) {
            let now = self.at(second);
            self.0.begin(now);
        }

        fn end(&mut self, begun: f64, signal: Signal, second: f64) -> bool {
            let (begun, now) = (self.at(begun), self.at(second));
            self.0.end(begun, signal, 4, now)
        }

        /// Asks every tenth of a second, begins a request when allowed, and returns the times.
        fn probes(&mut self, from: f64, to: f64) -> Vec<f64> {
            let mut began = Vec::new();
            for tenth in (from * 10.0) as u64..(to * 10.0) as u64 {
                let second = tenth as f64 / 10.0;
                if self.may_start(second) {
                    self.begin(second);
                    began.push(second);
                }
            }
            began
        }
    }

    #[test]
    fn a_whole_window_of_failures_opens_it_and_one_answer_closes_it() {
        let mut bench = Bench::new();
        for n in 1..=4 {
            bench.begin(0.0);
            assert_eq!(bench.end(0.0, Signal::Failing, 0.1), n == 4, "failure {n}");
        }
        assert!(!bench.may_start(0.2) && bench.0.is_failing(bench.at(0.2)));
        assert!(bench.may_start(1.1));
        bench.begin(1.1);
        bench.end(1.1, Signal::Answered, 1.2);
        assert!(bench.may_start(1.2) && bench.0.is_closed());
    }

    #[test]
    fn an_answer_between_failures_keeps_it_closed() {
        let mut bench = Bench::new();
        for n in 0..20 {
            let signal = if n % 3 == 2 { Signal::Answered } else { Signal::Failing };
            assert!(!bench.end(f64::from(n), signal, f64::from(n) + 0.1), "{n}");
        }
    }

    #[test]
    fn silence_opens_it_after_two_seconds_or_four_times_the_95th_percentile() {
        let mut quick = Bench::new();
        quick.begin(0.0);
        assert!(quick.may_start(1.9));
        assert!(!quick.may_start(2.0));
        let mut slow = Bench::new();
        // One slow answer in twenty does not move the percentile.
        for (n, took) in [1.0; 18].into_iter().chain([1.0, 9.0]).enumerate() {
            slow.end(n as f64, Signal::Answered, n as f64 + took);
        }
        slow.begin(100.0);
        assert!(slow.may_start(103.9));
        assert!(!slow.may_start(104.1));
    }

    #[test]
    fn no_request_is_no_silence() {
        let mut bench = Bench::new();
        bench.begin(0.0);
        bench.begin(0.0);
        bench.end(0.0, Signal::Answered, 0.1);
        assert!(bench.may_start(60.0), "the second one hangs, and nothing has begun since the answer");
        bench.begin(60.0);
        assert!(bench.may_start(61.9) && !bench.may_start(62.0));
    }

    #[test]
    fn probes_follow_after_one_second_and_then_up_to_five_although_each_hangs() {
        let mut bench = Bench::new();
        bench.begin(0.0);
        assert!(!bench.may_start(2.0));
        assert_eq!(bench.probes(2.0, 26.0), [3.0, 5.0, 9.0, 14.0, 19.0, 24.0]);
    }

    #[test]
    fn an_error_is_an_answer() {
        let mut bench = Bench::new();
        for n in 0..20 {
            bench.begin(f64::from(n));
            assert!(!bench.end(f64::from(n), Signal::Error, f64::from(n)), "{n}");
        }
    }

    #[test]
    fn old_requests_that_time_out_do_not_open_it_again() {
        let mut bench = Bench::new();
        (0..8).for_each(|_| bench.begin(0.0));
        assert!(!bench.may_start(2.0));
        bench.begin(3.0);
        bench.end(3.0, Signal::Answered, 3.1);
        (0..8).for_each(|_| assert!(!bench.end(0.0, Signal::Failing, 30.0)));
    }

    #[test]
    fn a_pause_is_kept_and_a_long_one_is_probed_every_five_minutes() {
        let mut bench = Bench::new();
        bench.begin(0.0);
        assert!(bench.end(0.0, Signal::Paused(Some(Duration::from_secs(10))), 0.0));
        assert_eq!(bench.0.pause(bench.at(4.0)), Duration::from_secs(6));
        assert!(!bench.0.is_failing(bench.at(4.0)));
        assert_eq!(bench.probes(0.0, 12.5), [10.0, 12.0]);
        let mut long = Bench::new();
        long.end(0.0, Signal::Paused(Some(Duration::from_secs(3600))), 0.0);
        assert_eq!(long.probes(0.0, 1000.0), [300.0, 600.0, 900.0]);
    }

    #[test]
    fn an_answer_to_an_earlier_request_does_not_end_a_pause() {
        let mut bench = Bench::new();
        bench.end(0.0, Signal::Paused(Some(Duration::from_secs(10))), 1.0);
        bench.end(0.5, Signal::Answered, 1.5);
        assert!(!bench.may_start(5.0));
        bench.begin(11.0);
        bench.end(11.0, Signal::Answered, 11.1);
        assert!(bench.0.is_closed());
    }

    #[test]
    fn an_error_does_not_end_a_pause() {
        let mut bench = Bench::new();
        bench.end(0.0, Signal::Paused(Some(Duration::from_secs(3600))), 0.0);
        bench.begin(300.0);
        bench.end(300.0, Signal::Error, 300.1);
        assert_eq!(bench.0.pause(bench.at(301.0)), Duration::from_secs(3299));
        assert!(!bench.may_start(301.0));
    }

    #[test]
    fn how_long_errors_take_does_not_count() {
        let mut bench = Bench::new();
        for n in 0..20 {
            bench.begin(f64::from(30 * n));
            bench.end(f64::from(30 * n), Signal::Error, f64::from(30 * n + 29));
        }
        bench.begin(600.0);
        assert!(bench.0.is_silent(SILENCE, bench.at(602.0)), "a hang is noticed as early as before the errors");
    }

    #[test]
    fn a_pause_without_a_length_lasts_until_the_next_probe() {
        let mut bench = Bench::new();
        for (at, next) in [(0.0, 1.0), (1.0, 3.0), (3.0, 7.0), (7.0, 12.0)] {
            bench.begin(at);
            bench.end(at, Signal::Paused(Some(Duration::ZERO)), at);
            assert!(!bench.may_start(next - 0.1) && bench.may_start(next), "{at} to {next}");
        }
    }
}
