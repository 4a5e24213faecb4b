//! One attempt: from a job and its target to exactly one POST. A panic in here is a failed attempt and nothing more.

use std::{
    panic::AssertUnwindSafe,
    sync::PoisonError,
    time::{Duration, Instant, SystemTime},
};

use futures::FutureExt;
use jiff::Timestamp;
use tracing::error;

use super::{
    context::Context,
    poison::{Suspect, child_process::Died},
    report::{
        self,
        delivery_log::{self, Attempt},
    },
    settle::transition::{Deferral, Refusal, Successor, Transition},
};
use crate::{
    delivery::{
        backoff,
        outcome::{self, Exchange, FailReason, Fault, Outcome, RetryReason},
        request,
    },
    failpoint,
    job::{HistoryEntry, Job},
    limits::{self, Cause, Pass, deferral},
    poster::{Post, Poster},
    store::Target,
};

/// How an attempt came about.
#[derive(Clone, Copy)]
pub(super) enum Way<'a> {
    /// Straight from the event.
    Direct,
    /// From a job; of a suspect, with the child process that makes the POST.
    Job(Option<&'a Suspect>),
}

/// Makes the attempt and judges it. `pass` is the right to; it is given back as soon as the wire is silent. The POST of
/// a suspect is made by its child process; an error: that has died.
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
            post(&context.poster, job, target, target.timeout, &DIRECT).await
        }
        Way::Job(None) => post(&context.poster, job, target, target.timeout, &FROM_JOB).await,
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
    let transition = after(context, job, target, &attempt, &outcome);
    delivery_log::attempted(context, job, &attempt, &transition);
    report::attempted(job, &attempt, &transition);
    Ok(transition)
}

/// Returns what becomes of a delivery whose attempt never left our own network.
fn not_made(context: &Context, job: &Job, exchange: &Exchange) -> Transition {
    let (reason, wait) = match exchange.result {
        Err(Fault::Local) => {
            context.health.set_exhausted();
            (Deferral::Local, spread(AFTER_LOCAL, fastrand::f64()))
        }
        Err(Fault::ProxyRefused) => (Deferral::ProxyRefused, until_the_proxy_works(context, job)),
        _ => (Deferral::Proxy, until_the_proxy_works(context, job)),
    };
    Successor::Defer { reason, wait }.into()
}

/// Returns what becomes of a delivery after an attempt.
fn after(context: &Context, job: &Job, target: &Target, attempt: &Attempt<'_>, outcome: &Outcome) -> Transition {
    let &Attempt { at, number, exchange, .. } = attempt;
    let entry = |outcome, label| HistoryEntry::new(at, number, outcome, label, exchange);
    let successor = match *outcome {
        Outcome::Delivered => return Transition::Delivered,
        Outcome::NotMade => return not_made(context, job, exchange),
        Outcome::Refused => {
            let refusal = Refusal { entry: entry("refused", "refused"), detail: refusal_detail(number, target) };
            match target.rules.keep_refused {
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
            let (policy, draw) = (&context.settings.backoff, fastrand::f64());
            match backoff::next_wait(policy, number, target.retry_attempts, not_before, draw) {
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

/// Why the attempt did not deliver, if that is the target's doing.
fn cause(exchange: &Exchange, outcome: &Outcome) -> Option<Cause> {
    let reason = match outcome {
        Outcome::Delivered | Outcome::Refused | Outcome::NotMade => return None,
        Outcome::Retry { reason, .. } => reason.label(),
        Outcome::Never(reason) => reason.label(),
    };
    Some(Cause { reason, status: exchange.status() })
}

/// Jobs that come back to a proxy that is away are of no use to any receiver, so a fifth as many come back each second as of
/// circuits: 200.
const FEWER_RETURNS: u64 = 5;

/// How long a job waits for the egress proxy to work again: as for a receiver that fails.
pub(super) fn until_the_proxy_works(context: &Context, job: &Job) -> Duration {
    let late = job.late(Timestamp::now());
    let (mut away, now) = (context.at_proxy.lock().unwrap_or_else(PoisonError::into_inner), Instant::now());
    let wait = deferral::wait(late, FEWER_RETURNS * away.jobs(now), None, Duration::ZERO, fastrand::f64());
    away.add(wait, now);
    wait
}

/// How long a job waits at least for files, memory or ports of this machine.
const AFTER_LOCAL: Duration = Duration::from_secs(1);

/// `least` to three times as long, so that not all come back in one moment. `draw` is in `[0, 1)`.
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

/// Names the condition, which is from the store, and nothing of the answer.
fn refusal_detail(number: u32, target: &Target) -> String {
    match &target.rules.accept_if {
        Some(condition) => format!("refused at attempt {number}: the answer does not say {condition}"),
        None => format!("refused at attempt {number}"),
    }
}

/// The fail points of a POST: before it and after it.
pub(super) type Points = [&'static str; 2];
const DIRECT: Points = ["event.posting", "event.posted"];
pub(super) const FROM_JOB: Points = ["job.posting", "job.posted"];

/// Makes the POST of the next attempt. A panic in it becomes [`Fault::Panic`]. `timeout` is the target's, of the worker's store.
pub(super) async fn post(poster: &Poster, job: &Job, target: &Target, timeout: Duration, points: &Points) -> Exchange {
    let started = Instant::now();
    let posting = AssertUnwindSafe(try_to_post(poster, job, target, timeout, points));
    posting.catch_unwind().await.unwrap_or_else(|_| {
        error!(webhook_id = job.webhook_id, target = %job.target, "an attempt panicked: this is a bug in leadhook");
        Exchange::new(Err(Fault::Panic), started.elapsed())
    })
}

async fn try_to_post(poster: &Poster, job: &Job, target: &Target, timeout: Duration, points: &Points) -> Exchange {
    let seconds = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
    let request = request::DeliveryRequest {
        webhook_id: &job.webhook_id,
        attempt: job.attempt.saturating_add(1),
        timestamp: seconds,
        traceparent: job.traceparent.as_deref(),
        body: &job.body,
        target,
    };
    match request::headers(&request) {
        Ok(headers) => {
            failpoint::hit(points[0], target.key.as_str());
            let post = Post {
                organization: &target.organization,
                url: &target.url,
                circuit: &target.circuit,
                identity: target.client_certificate.as_deref(),
                authority: target.ca_certificate.as_deref(),
                oauth2: target.oauth2.as_ref(),
                timeout,
                whole_body: target.rules.accept_if.is_some(),
            };
            let exchange = poster.post(post, headers, job.body.clone()).await;
            failpoint::hit(points[1], target.key.as_str());
            exchange
        }
        Err(_) => Exchange::new(Err(Fault::UnusableTarget), Duration::ZERO),
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
