//! One attempt: exactly one POST of a job to its target. A panic in it is a failed attempt and nothing more.

use std::{
    sync::PoisonError,
    time::{Duration, Instant, SystemTime},
};

use jiff::Timestamp;

use super::{
    context::Context,
    poison::{child_process::Died, suspect::Suspect},
    post::{self, post},
    report::{self, Attempt, delivery_log},
    settle::transition::{Deferral, Refusal, Successor, Transition},
};
use crate::{
    delivery::{
        backoff,
        exchange::Exchange,
        fault::Fault,
        outcome::{self, Outcome},
        reason::{FailReason, RetryReason},
        rules::Rules,
    },
    job::{HistoryEntry, Job},
    limits::{self, Cause, Pass, deferral},
    settings::Backoff,
    store::Target,
};

/// The origin of an attempt.
#[derive(Clone, Copy)]
pub(super) enum Way<'a> {
    /// Straight from the event.
    Direct,
    /// From a job. For a suspect, its child process makes the POST.
    Job(Option<&'a Suspect>),
}

/// Makes the attempt and judges it. `pass` permits it, and is given back as soon as the exchange is over. The child
/// process of a suspect makes the POST; an error means that the child has died.
pub(super) async fn attempt(
    context: &Context,
    job: &Job,
    target: &Target,
    pass: Pass,
    way: Way<'_>,
) -> Result<Transition, Died> {
    let number = job.attempt.saturating_add(1);
    let at = Timestamp::now();
    measure_lag(context, job, at);
    let _attempting = context.metrics.attempting();
    let exchange = match way {
        Way::Direct => {
            context.metrics.direct_attempt();
            post(&context.sender, job, target, target.timeout, &post::DIRECT).await
        }
        Way::Job(None) => post(&context.sender, job, target, target.timeout, &post::FROM_JOB).await,
        Way::Job(Some(suspect)) => match Box::pin(suspect.attempt(target.timeout)).await? {
            Some(exchange) => exchange,
            None => {
                let wait = spread(AFTER_LOCAL, fastrand::f64());
                return Ok(Successor::Defer { reason: Deferral::Suspect, wait }.into());
            }
        },
    };
    let policy = &context.settings.backoff;
    let outcome = outcome::judge(&exchange, &target.rules, SystemTime::now(), policy.retry_after_maximum);
    context.metrics.attempt(&exchange, outcome.label());
    pass.give_back(limits::signal(&exchange, &outcome), cause(&exchange, &outcome));
    let attempt = Attempt { at, number, of: target.retry_attempts + 1, exchange: &exchange };
    let deferred = || not_made(context, job, &exchange);
    let transition = after(&attempt, &outcome, &target.rules, policy, fastrand::f64(), deferred);
    delivery_log::attempted(context, job, &attempt, &transition);
    report::attempted(job, &attempt, &transition);
    Ok(transition)
}

/// Returns the transition of a delivery whose attempt never left our own network.
fn not_made(context: &Context, job: &Job, exchange: &Exchange) -> Transition {
    let (reason, wait) = match exchange.result {
        Err(Fault::Local) => {
            context.health.set_exhausted();
            (Deferral::Local, spread(AFTER_LOCAL, fastrand::f64()))
        }
        // Perhaps because of this receiver, so it is not counted with those that wait for the proxy.
        Err(Fault::ProxyRefused) => {
            let late = job.late(Timestamp::now());
            (Deferral::ProxyRefused, deferral::wait(late, 0, None, Duration::ZERO, fastrand::f64()))
        }
        _ => (Deferral::Proxy, until_the_proxy_works(context, job)),
    };
    Successor::Defer { reason, wait }.into()
}

/// Returns the transition of a delivery after an attempt; `not_made` is for one that never left our own network. `draw`
/// in `[0, 1)` is the jitter.
pub(super) fn after(
    attempt: &Attempt<'_>,
    outcome: &Outcome,
    rules: &Rules,
    policy: &Backoff,
    draw: f64,
    not_made: impl FnOnce() -> Transition,
) -> Transition {
    let &Attempt { at, number, of, exchange } = attempt;
    let entry = |outcome, label| HistoryEntry::new(at, number, outcome, label, exchange);
    let successor = match *outcome {
        Outcome::Delivered => return Transition::Delivered,
        Outcome::NotMade => return not_made(),
        Outcome::Refused => {
            let refusal = Refusal { entry: entry("refused", "refused"), detail: refusal_detail(number, rules) };
            match rules.keep_refused {
                true => Successor::Refused(refusal),
                false => return Transition::Refused(refusal),
            }
        }
        Outcome::Never(reason) => Successor::Fail {
            entry: Some(entry("failed", reason.label())),
            reason,
            detail: final_detail(number, reason, exchange),
        },
        Outcome::Retry { reason, not_before } => {
            match backoff::next_wait(policy, number, of.saturating_sub(1), not_before, draw) {
                Some(wait) => Successor::Retry { entry: entry("retry", reason.label()), reason, wait },
                None => Successor::Fail {
                    entry: Some(entry("failed", reason.label())),
                    reason: FailReason::Exhausted,
                    detail: exhausted_detail(number, reason, exchange),
                },
            }
        }
    };
    successor.into()
}

/// Returns why the attempt did not deliver, if the target caused it.
fn cause(exchange: &Exchange, outcome: &Outcome) -> Option<Cause> {
    let reason = match outcome {
        Outcome::Delivered | Outcome::Refused | Outcome::NotMade => return None,
        Outcome::Retry { reason, .. } => reason.label(),
        Outcome::Never(reason) => reason.label(),
    };
    Some(Cause { reason, status: exchange.status() })
}

/// Jobs that return while the proxy is down help no receiver. So only 1/5 as many return each second as for circuits:
/// 200.
const FEWER_RETURNS: u64 = 5;

/// Returns how long a job waits for the egress proxy, by the rule for a failing receiver. Counts it among the deferred
/// jobs.
pub(super) fn until_the_proxy_works(context: &Context, job: &Job) -> Duration {
    let late = job.late(Timestamp::now());
    let (mut away, now) = (context.at_proxy.lock().unwrap_or_else(PoisonError::into_inner), Instant::now());
    let wait = deferral::wait(late, FEWER_RETURNS * away.jobs(now), None, Duration::ZERO, fastrand::f64());
    away.add(wait, now);
    wait
}

/// Shortest wait for files, memory or ports of this machine.
const AFTER_LOCAL: Duration = Duration::from_secs(1);

/// Returns `least` to three times as much, so that jobs do not all return at once. `draw` is in `[0, 1)`.
fn spread(least: Duration, draw: f64) -> Duration {
    least.mul_f64(1.0 + 2.0 * draw)
}

fn final_detail(number: u32, reason: FailReason, exchange: &Exchange) -> String {
    match (&exchange.result, reason) {
        (Err(Fault::ForbiddenAddress(refusal)), _) => {
            format!("final at attempt {number}: the URL leads to {}", refusal.name())
        }
        (Ok(answer), FailReason::NeverRetry) => {
            format!("final at attempt {number}: never_retry lists status {}", answer.status)
        }
        _ => format!("final at attempt {number}"),
    }
}

fn exhausted_detail(number: u32, last: RetryReason, exchange: &Exchange) -> String {
    let last = exchange.detail().unwrap_or_else(|| last.label().to_owned());
    format!("all {number} attempts were made; the last one: {last}")
}

/// Names the condition, which comes from the store, and nothing of the answer.
fn refusal_detail(number: u32, rules: &Rules) -> String {
    match &rules.accept_if {
        Some(condition) => format!("refused at attempt {number}: the answer does not say {condition}"),
        None => format!("refused at attempt {number}"),
    }
}

fn measure_lag(context: &Context, job: &Job, now: Timestamp) {
    let since = |then: Timestamp| Duration::try_from(now.duration_since(then)).unwrap_or_default();
    if let Some(happened) = job.event_time.filter(|_| job.attempt == 0 && job.replays == 0) {
        context.metrics.event_lag(since(happened));
    }
    if let Some(due) = job.due {
        context.metrics.due_lag(since(due));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::delivery::exchange::Answer;

    const POLICY: Backoff = Backoff {
        initial: Duration::from_secs(1),
        multiplier: 2.0,
        maximum: Duration::from_secs(60),
        jitter: 0.0,
        retry_after_maximum: Duration::from_secs(3600),
    };

    /// Returns the transition after attempt `number` of at most six.
    fn after_attempt(number: u32, outcome: &Outcome) -> Transition {
        let exchange = Exchange::new(Ok(Answer { status: 404, ..Answer::default() }), Duration::ZERO);
        let attempt = Attempt { at: Timestamp::UNIX_EPOCH, number, of: 6, exchange: &exchange };
        let not_made = || Successor::Defer { reason: Deferral::Proxy, wait: Duration::from_secs(1) }.into();
        after(&attempt, outcome, &Rules::default(), &POLICY, 0.5, not_made)
    }

    #[test]
    fn final_is_final_at_the_first_attempt() {
        let Transition::Successor(Successor::Fail { reason, entry, .. }) =
            after_attempt(1, &Outcome::Never(FailReason::Gone))
        else {
            panic!("it fails")
        };
        assert_eq!((reason, entry.map(|entry| entry.reason)), (FailReason::Gone, Some("gone".into())));
        assert_eq!(after_attempt(1, &Outcome::Delivered), Transition::Delivered);
        assert!(matches!(after_attempt(1, &Outcome::Refused), Transition::Refused(_)));
    }

    #[test]
    fn the_last_attempt_is_exhausted_and_says_what_it_met() {
        let retry = Outcome::Retry { reason: RetryReason::Status, not_before: None };
        assert!(matches!(after_attempt(5, &retry), Transition::Successor(Successor::Retry { .. })));
        let Transition::Successor(Successor::Fail { reason, entry, .. }) = after_attempt(6, &retry) else {
            panic!("it fails")
        };
        assert_eq!((reason, entry.map(|entry| entry.reason)), (FailReason::Exhausted, Some("status".into())));
    }

    #[test]
    fn an_attempt_that_was_not_made_is_deferred_even_after_the_last_one() {
        let deferred = after_attempt(7, &Outcome::NotMade);
        assert!(matches!(deferred, Transition::Successor(Successor::Defer { reason: Deferral::Proxy, .. })));
    }
}
