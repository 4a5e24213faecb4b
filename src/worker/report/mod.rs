//! Log lines and counts about deliveries. (`delivery_log` is about the delivery log, which support reads.)
//!
//! One dead customer causes thousands of retries and failed deliveries an hour. So the log reports changes, and counts
//! repetitions:
//!
//! | occasion | in the log |
//! |---|---|
//! | an attempt that delivered or will be retried, a job deferred, an event without target | a line at DEBUG |
//! | a delivery was refused | a line at INFO, for one target at most three a minute, the rest at DEBUG |
//! | a delivery failed | a line at WARN, for one target at most three a minute ([`Allowance`]), the rest at DEBUG |
//! | a message was rejected | the same, for each reason |
//! | a target is in trouble, or has recovered | one line each ([`trouble::Troubles`]) |
//! | anything was settled | one line a minute with the counts by outcome |
//!
//! Lines hold ids and closed words. They hold no value of an event. Of an answer they hold only its status and redirect
//! target, and of a URL only scheme, host and port.

use std::{
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use jiff::Timestamp;
use lapin::types::ShortString;
use tracing::{debug, info, warn};

mod allowance;
pub(crate) mod delivery_log;
pub(crate) mod summary;
mod trouble;

use self::allowance::Allowance;
use super::{
    message::Input,
    settle::transition::{Deferral, Refusal, Successor, Transition},
};
use crate::{
    delivery::exchange::{ANSWER_INCOMPLETE, Exchange},
    event::Event,
    job::{HistoryEntry, Job},
    rejection::Rejection,
};

/// Counts of settled messages since the last summary, and limits on log lines.
pub struct Reports {
    delivered: AtomicU64,
    refused: AtomicU64,
    retry: AtomicU64,
    failed: AtomicU64,
    deferred: AtomicU64,
    rejected: AtomicU64,
    no_target: AtomicU64,
    in_trouble: AtomicUsize,
    lines: Mutex<Lines>,
}

struct Lines {
    /// When the last summary was made.
    summarized: Instant,
    /// By target.
    refused: Allowance,
    /// By target.
    failed: Allowance,
    /// By reason.
    rejected: Allowance,
    /// By field.
    irregular: Allowance,
    /// By queue, and by fault of our own network or machine.
    queues: Allowance,
}

impl Default for Reports {
    fn default() -> Reports {
        let now = Instant::now();
        let [refused, failed, rejected, irregular, queues] = std::array::from_fn(|_| Allowance::new(now));
        Reports {
            delivered: AtomicU64::default(),
            refused: AtomicU64::default(),
            retry: AtomicU64::default(),
            failed: AtomicU64::default(),
            deferred: AtomicU64::default(),
            rejected: AtomicU64::default(),
            no_target: AtomicU64::default(),
            in_trouble: AtomicUsize::default(),
            lines: Mutex::new(Lines { summarized: now, refused, failed, rejected, irregular, queues }),
        }
    }
}

/// Logs a line with the fields that identify a delivery.
macro_rules! say {
    ($level:ident, $job:expr, $($rest:tt)*) => {
        $level!(
            organization = $job.organization,
            campaign = $job.campaign,
            target = %$job.target,
            event = %$job.kind,
            webhook_id = $job.webhook_id,
            $($rest)*
        )
    };
}

/// An attempt that was made.
pub(crate) struct Attempt<'a> {
    /// When it began.
    pub at: Timestamp,
    /// Its number, from 1.
    pub number: u32,
    /// The greatest number of attempts that its target allows.
    pub of: u32,
    /// What happened on the wire.
    pub exchange: &'a Exchange,
}

/// Logs an attempt. A refusal or failure is logged when it is settled.
pub(crate) fn attempted(job: &Job, attempt: &Attempt<'_>, transition: &Transition) {
    let Attempt { number: attempt, exchange, .. } = attempt;
    let (status, duration_ms) = (exchange.status(), millis(exchange.elapsed));
    match transition {
        Transition::Delivered => {
            let note = exchange.is_incomplete().then_some(ANSWER_INCOMPLETE);
            say!(debug, job, attempt, outcome = "delivered", status, note, duration_ms, "delivered");
        }
        Transition::Successor(Successor::Retry { wait, reason, .. }) => {
            let (reason, wait_ms) = (reason.label(), millis(*wait));
            let detail = exchange.detail();
            say!(
                debug,
                job,
                attempt,
                outcome = "retry",
                reason,
                status,
                detail,
                duration_ms,
                wait_ms,
                "attempt failed, will retry"
            );
        }
        Transition::Refused(_) | Transition::Successor(_) => {}
    }
}

impl Reports {
    /// Logs and counts the result of a delivery.
    pub(crate) fn settled(&self, job: &Job, transition: &Transition) {
        match transition {
            Transition::Delivered => count(&self.delivered),
            Transition::Refused(refusal) => self.refused(job, refusal, false),
            Transition::Successor(Successor::Refused(refusal)) => self.refused(job, refusal, true),
            Transition::Successor(Successor::Retry { .. }) => count(&self.retry),
            Transition::Successor(Successor::Fail { entry, reason, detail }) => {
                count(&self.failed);
                let attempt = entry.as_ref().map_or(job.attempt, |entry| entry.attempt);
                let (status, duration_ms) =
                    (entry.as_ref().and_then(|entry| entry.status), entry.as_ref().map(|entry| entry.ms));
                let (outcome, reason) = ("failed", reason.label());
                let allowed = self.lines().failed.allows(job.target.as_str(), Instant::now());
                match allowed {
                    true => say!(warn, job, attempt, outcome, reason, status, duration_ms, detail, "delivery failed"),
                    false => say!(debug, job, attempt, outcome, reason, status, duration_ms, detail, "delivery failed"),
                }
            }
            Transition::Successor(Successor::Defer { reason, wait }) => {
                count(&self.deferred);
                let wait_ms = millis(*wait);
                if *reason == Deferral::Proxy && self.lines().queues.allows("egress.proxy", Instant::now()) {
                    warn!("the egress proxy cannot be used; deliveries are deferred");
                }
                if *reason == Deferral::Local && self.lines().queues.allows("local", Instant::now()) {
                    warn!("this machine has no file, memory or port left for a connection; deliveries are deferred");
                }
                say!(debug, job, reason = reason.label(), wait_ms, "deferred");
            }
            Transition::Successor(Successor::Forward | Successor::Wait { .. }) => {}
        }
    }

    fn refused(&self, job: &Job, refusal: &Refusal, kept: bool) {
        count(&self.refused);
        let Refusal { entry: HistoryEntry { attempt, status, ms: duration_ms, .. }, detail } = refusal;
        let outcome = "refused";
        let allowed = self.lines().refused.allows(job.target.as_str(), Instant::now());
        match allowed {
            true => say!(info, job, attempt, outcome, status, duration_ms, kept, detail, "delivery refused"),
            false => say!(debug, job, attempt, outcome, status, duration_ms, kept, detail, "delivery refused"),
        }
    }

    /// Counts a failed job that was not decoded; its line is written elsewhere.
    pub(crate) fn failed(&self) {
        count(&self.failed);
    }

    /// Logs and counts a rejected event.
    pub(crate) fn event_rejected(&self, input: &Input, rejection: &Rejection) {
        count(&self.rejected);
        let message_id = input.properties.message_id().as_ref().and_then(readable_id);
        let (reason, detail, bytes) = (rejection.reason.label(), &rejection.detail, input.body.len());
        let allowed = self.lines().rejected.allows(reason, Instant::now());
        match allowed {
            true => warn!(message_id, reason, detail, bytes, "event rejected"),
            false => debug!(message_id, reason, detail, bytes, "event rejected"),
        }
    }

    /// Logs that an event is delivered although one of its fields cannot be read.
    pub(crate) fn irregular(&self, field: &'static str) {
        if self.lines().irregular.allows_first(field, Instant::now()) {
            warn!(field, "a field of an event cannot be read; the event is delivered (logged once a minute)");
        }
    }

    /// Logs and counts a rejected message of the jobs queue. Its message id is the webhook-id, if it is a job at all.
    pub(crate) fn job_rejected(&self, input: &Input, rejection: &Rejection) {
        count(&self.rejected);
        let id = input.properties.message_id().as_ref().and_then(readable_id);
        let webhook_id = id.filter(|id| id.starts_with("wh_"));
        let (reason, detail) = (rejection.reason.label(), &rejection.detail);
        let allowed = self.lines().rejected.allows(reason, Instant::now());
        match allowed {
            true => warn!(webhook_id, reason, detail, "job rejected"),
            false => debug!(webhook_id, reason, detail, "job rejected"),
        }
    }

    /// Logs and counts a job that waits for a newer worker.
    pub(crate) fn put_aside(&self, version: i64) {
        count(&self.deferred);
        if self.lines().queues.allows("newer version", Instant::now()) {
            warn!(version, "jobs of a newer leadhook wait for a newer worker");
        }
    }

    /// Logs and counts an event that no target receives.
    pub(crate) fn no_target(&self, event: &Event, reason: &'static str) {
        count(&self.no_target);
        debug!(organization = event.organization, campaign = event.campaign, event = %event.kind, reason, "no target");
    }

    /// Returns whether the log may report an outcome that this queue does not take.
    pub(crate) fn may_tell_of_queue(&self, queue: &str) -> bool {
        self.lines().queues.allows(queue, Instant::now())
    }

    /// Logs the counts since the last summary, unless all are 0.
    pub(crate) fn summarize(&self, now: Instant) {
        let [delivered, refused, retry, failed, deferred, rejected, no_target] = [
            &self.delivered,
            &self.refused,
            &self.retry,
            &self.failed,
            &self.deferred,
            &self.rejected,
            &self.no_target,
        ]
        .map(|counter| counter.swap(0, Relaxed));
        let mut lines = self.lines();
        let period_s = now.saturating_duration_since(lines.summarized).as_secs_f64().round() as u64;
        lines.summarized = now;
        let lines_held_back =
            lines.refused.take_held_back() + lines.failed.take_held_back() + lines.rejected.take_held_back();
        drop(lines);
        if [delivered, refused, retry, failed, deferred, rejected, no_target] == [0; 7] {
            return;
        }
        let in_trouble = self.in_trouble.load(Relaxed);
        info!(
            period_s,
            delivered,
            refused,
            retry,
            failed,
            deferred,
            rejected,
            no_target,
            in_trouble,
            lines_held_back,
            "summary of deliveries"
        );
    }

    /// Notes how many targets are in trouble, for the next summary.
    pub(crate) fn set_in_trouble(&self, targets: usize) {
        self.in_trouble.store(targets, Relaxed);
    }

    fn lines(&self) -> MutexGuard<'_, Lines> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Relaxed);
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// Returns a message id if it may appear in the log. AMQP bounds it to 255 bytes. Upstream chooses it. With characters
/// that ids do not have, it could hold an e-mail address, a name or an escape sequence, so it is left out.
pub(crate) fn readable_id(id: &ShortString) -> Option<&str> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._:/#+=~-".contains(&byte);
    Some(id.as_str()).filter(|id| !id.is_empty() && id.bytes().all(allowed))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_of_upstream_is_shown_only_if_it_is_plain() {
        let long = "x".repeat(255);
        for id in ["m-1", "sub_xyz789/lead.delivered", "urn:uuid:6f1c", &long] {
            assert_eq!(readable_id(&id.into()), Some(id));
        }
        for id in ["", "jane@example.com", "Jane Doe", "a\nb", "\u{1b}[31m", "jos\u{e9}", "\u{202e}di", "a\"b"] {
            assert_eq!(readable_id(&id.into()), None, "{id:?}");
        }
    }
}
