//! Judges the result of an attempt. Each reason is also a metric label and a log field, and has one documented
//! consequence.

use std::time::{Duration, SystemTime};

use super::{
    exchange::{Answer, Exchange},
    fault::Fault,
    reason::{FailReason, RetryReason},
    retry_after,
    rules::{Met, Rules},
};

/// The meaning of an attempt for its job.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// 2xx, or a status in `accept`: the job is done.
    Delivered,
    /// A 2xx whose body denies `accept_if`: the job is done, but the receiver did not take the lead.
    Refused,
    /// The attempt never left our own network, so it does not count.
    NotMade,
    /// The job is tried again, not before `not_before` if that is given.
    Retry {
        /// The reason.
        reason: RetryReason,
        /// The wait that the receiver asked for in `Retry-After`, already capped.
        not_before: Option<Duration>,
    },
    /// The job is never tried again: it goes to the failed queue now.
    Never(FailReason),
}

/// Judges an exchange by the rules of its target (docs/explanation/retry-ladder.md). `now` is needed for a
/// `Retry-After` that is a date; `retry_after_maximum` caps it. Does not look at the number of attempts that are left.
pub fn judge(exchange: &Exchange, rules: &Rules, now: SystemTime, retry_after_maximum: Duration) -> Outcome {
    match &exchange.result {
        Ok(answer) => match judge_answer(answer, rules) {
            Outcome::Retry { reason, .. } => {
                let asked = answer.retry_after.as_deref();
                let not_before = asked.and_then(|value| retry_after::parse(value, now, retry_after_maximum));
                Outcome::Retry { reason, not_before }
            }
            other => other,
        },
        Err(fault) => judge_fault(*fault),
    }
}

fn judge_answer(answer: &Answer, rules: &Rules) -> Outcome {
    match answer.status {
        // A challenge comes before the lists: the receiver has not seen the lead, so its rules do not apply.
        403 | 503 if answer.challenge => retry(RetryReason::BotChallenge),
        // The receiver refused the token, and the next attempt has another one.
        401 if rules.token => retry(RetryReason::Status),
        status if rules.accept.contains(status) => Outcome::Delivered,
        200..=299 => judge_body(answer, rules),
        410 => Outcome::Never(FailReason::Gone),
        status if rules.never_retry.contains(status) => Outcome::Never(FailReason::NeverRetry),
        300..=399 => retry(RetryReason::Redirect),
        429 | 503 => retry(RetryReason::Pushback),
        _ => retry(RetryReason::Status),
    }
}

fn judge_body(answer: &Answer, rules: &Rules) -> Outcome {
    let Some(condition) = &rules.accept_if else { return Outcome::Delivered };
    let whole = answer.body.as_deref().filter(|_| !answer.incomplete);
    match whole.map_or(Met::Unreadable, |body| condition.check(body)) {
        Met::Yes => Outcome::Delivered,
        Met::No => Outcome::Refused,
        Met::Unreadable => retry(RetryReason::AnswerUnreadable),
    }
}

fn judge_fault(fault: Fault) -> Outcome {
    match fault {
        Fault::Timeout
        | Fault::Dns(_)
        | Fault::Connect
        | Fault::Tls(_)
        | Fault::Http(_)
        | Fault::Oauth(_)
        | Fault::ForbiddenName(_)
        | Fault::Panic => retry(RetryReason::Fault(fault)),
        Fault::Proxy | Fault::ProxyRefused | Fault::Local => Outcome::NotMade,
        Fault::ForbiddenAddress(_) => Outcome::Never(FailReason::ForbiddenAddress),
        Fault::PlainHttp => Outcome::Never(FailReason::PlainHttp),
        Fault::UnusableTarget => Outcome::Never(FailReason::UnusableTarget),
    }
}

fn retry(reason: RetryReason) -> Outcome {
    Outcome::Retry { reason, not_before: None }
}

impl RetryReason {
    /// Returns one reason of each label, in the order of the definition.
    pub fn all() -> Vec<RetryReason> {
        let of_fault = |fault| match judge_fault(fault) {
            Outcome::Retry { reason, .. } => Some(reason),
            Outcome::Delivered | Outcome::Refused | Outcome::NotMade | Outcome::Never(_) => None,
        };
        let of_answers = [
            RetryReason::Status,
            RetryReason::Redirect,
            RetryReason::Pushback,
            RetryReason::BotChallenge,
            RetryReason::AnswerUnreadable,
        ];
        of_answers.into_iter().chain(Fault::all().into_iter().filter_map(of_fault)).collect()
    }
}

impl Outcome {
    /// Returns the name in metrics.
    pub fn label(&self) -> &'static str {
        match self {
            Outcome::Delivered => "delivered",
            Outcome::Refused => "refused",
            Outcome::NotMade => "deferred",
            Outcome::Retry { .. } => "retry",
            Outcome::Never(_) => "failed",
        }
    }
}

#[cfg(test)]
mod tests;
