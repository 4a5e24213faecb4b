//! A target's own limits, `max_in_flight` and `max_per_second`. Each worker takes its share of both.
//!
//! The rate is a token bucket in the form of the generic cell rate algorithm (ITU-T I.371): one time says when the next
//! token is due. Tokens go to the jobs that have been due for longest, nearly as in a queue. A younger job gets one
//! only if no older job has come for it. A job without a token is deferred until its turn and spends no attempt.

use std::time::{Duration, Instant};

use super::deferral::{Away, Due, LONGEST, SHORTEST, Turn};

/// Unused tokens are kept for this long, but at least one is always kept.
const SAVED: Duration = Duration::from_millis(250);

/// Returns this worker's share of `max_in_flight`, at least one.
pub fn share_of_concurrency(most: u32, workers: usize) -> usize {
    (most as usize / workers.max(1)).max(1)
}

/// A worker's state of one target with limits of its own.
#[derive(Clone, Debug)]
pub struct Quota {
    /// Requests in flight.
    pub in_flight: usize,
    /// The target's deferred jobs that are still away.
    pub away: Away,
    /// When the next token is due.
    next: Instant,
    /// Earliest start of the next request, with or without a token. Jobs with a token may return late and together,
    /// after a pause of the consumers or from a worker that has ended.
    start: Instant,
}

impl Quota {
    /// Returns a quota with nothing in flight.
    pub fn new(now: Instant) -> Quota {
        Quota { in_flight: 0, away: Away::default(), next: now, start: now }
    }

    /// Takes a token. `rate` is the worker's share in requests per second. Returns when the request may start, at most
    /// `ahead` from now. Otherwise returns how long to defer the job.
    pub fn take(&mut self, due: Due, rate: f64, ahead: Duration, now: Instant) -> Result<Instant, (Duration, Turn)> {
        let interval = Duration::from_secs_f64(rate.recip());
        if due.turn == Turn::Paid {
            return self.begin(now, interval, ahead, now);
        }
        let saved = SAVED.saturating_sub(interval);
        let is_full = now.saturating_duration_since(self.next) >= saved && now >= self.next;
        if is_full {
            self.next = now.checked_sub(saved).unwrap_or(now);
        }
        // Deferred jobs come first, as in a queue, unless this job has already been due for as long as they need.
        let queue = Duration::from_secs_f64(self.away.jobs(now) as f64 / rate);
        let start = self.next.max(now);
        let (wait, turn) = match due.late < queue && due.turn == Turn::None && !is_full {
            true => (queue - due.late, Turn::Come),
            false if start > now + ahead => (start - now, Turn::Paid),
            false => {
                let begins = self.begin(start, interval, ahead, now);
                if begins.is_ok() {
                    self.pay(rate);
                }
                return begins;
            }
        };
        // A turn that is too far away is decided again later.
        let turn = if wait > LONGEST { Turn::None } else { turn };
        Err((wait.clamp(SHORTEST, LONGEST), turn))
    }

    /// Returns when a request that has its token may start, not before `from`. If that is more than `ahead` from now,
    /// the job returns later with its token.
    fn begin(
        &mut self,
        from: Instant,
        interval: Duration,
        ahead: Duration,
        now: Instant,
    ) -> Result<Instant, (Duration, Turn)> {
        // Jobs return a little early or late, so one more may start after a pause.
        let saved = now.checked_sub(SAVED.max(interval)).unwrap_or(now);
        let start = self.start.max(saved).max(from.min(now + ahead));
        if start > now + ahead {
            return Err(((start - now).clamp(SHORTEST, LONGEST), Turn::Paid));
        }
        self.start = self.start.max(saved) + interval;
        Ok(start.max(now))
    }

    /// Takes the next token.
    pub fn pay(&mut self, rate: f64) {
        self.next += Duration::from_secs_f64(rate.recip());
    }

    /// Returns whether forgetting it loses nothing.
    pub fn is_idle(&mut self, now: Instant) -> bool {
        self.in_flight == 0 && self.next <= now && self.away.jobs(now) == 0
    }
}
