//! What an attempt means. Each reason is also a metric label and a log field, and has one documented consequence.

use std::{
    fmt,
    time::{Duration, SystemTime},
};

use bytes::Bytes;

use super::{
    retry_after,
    rules::{Met, Rules},
};
use crate::egress::Refusal;

/// What one POST came to, as seen on the wire. Made by [`crate::poster`], judged by [`judge`].
#[derive(Clone, Debug, PartialEq)]
pub struct Exchange {
    /// Answer or fault.
    pub result: Result<Answer, Fault>,
    /// From the start of the attempt to its end.
    pub elapsed: Duration,
}

/// An answer: status line and headers, and of the body at most the first 64 KiB.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Answer {
    /// HTTP status code.
    pub status: u16,
    /// The `Retry-After` header as it came, if any.
    pub retry_after: Option<String>,
    /// First bytes of the body, lossily decoded, at most 256 bytes. May echo lead data: never logged.
    pub snippet: Option<String>,
    /// A bot protection in front of the receiver has answered, and not the receiver (`cf-mitigated: challenge`).
    pub challenge: bool,
    /// Where the header `Location` leads: scheme, host and port only, because paths and queries may hold lead data.
    pub location: Option<String>,
    /// The body as far as it was read, if [`crate::poster::Post::whole_body`] asked for it. May echo lead data: never logged.
    pub body: Option<Bytes>,
    /// The body was cut, malformed, did not end, or is longer than 64 KiB.
    pub incomplete: bool,
}

/// Why there was no whole answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Fault {
    /// The whole exchange took longer than the target's timeout.
    Timeout,
    /// Name resolution failed.
    Dns,
    /// Nobody listens, or the network is unreachable.
    Connect,
    /// TLS handshake or verification failed.
    Tls(TlsFault),
    /// The connection broke or spoke no HTTP.
    Broken,
    /// The egress proxy could not be used: none of the target's doing, so it costs no attempt.
    Proxy,
    /// The address is forbidden: final.
    ForbiddenAddress(Refusal),
    /// The URL is `http://`, and `egress.plain_http` is off: final.
    PlainHttp,
    /// The target's URL or headers cannot make a request: final.
    UnusableTarget,
    /// The attempt panicked: a fault of ours, costs one attempt.
    Panic,
}

/// What went wrong with TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TlsFault {
    /// The certificate is for another host.
    WrongHost,
    /// The certificate has expired, or is not valid yet.
    Expired,
    /// The certificate is signed by itself and by nobody else.
    SelfSigned,
    /// Nobody whom the worker trusts has signed the certificate.
    UnknownCa,
    /// The receiver wants a certificate of ours, or another one.
    ClientCertificate,
    /// Anything else: it speaks no TLS or too old a version, breaks off, or breaks the rules.
    Other,
}

impl TlsFault {
    /// Every one of them.
    pub const ALL: [TlsFault; 6] = [
        TlsFault::WrongHost,
        TlsFault::Expired,
        TlsFault::SelfSigned,
        TlsFault::UnknownCa,
        TlsFault::ClientCertificate,
        TlsFault::Other,
    ];

    /// The name in metrics, logs and the history.
    pub fn label(self) -> &'static str {
        match self {
            TlsFault::WrongHost => "tls_wrong_host",
            TlsFault::Expired => "tls_expired",
            TlsFault::SelfSigned => "tls_self_signed",
            TlsFault::UnknownCa => "tls_unknown_ca",
            TlsFault::ClientCertificate => "tls_client_certificate",
            TlsFault::Other => "tls",
        }
    }
}

/// What an attempt means for its job.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// 2xx, or a status in `accept`: the job is done.
    Delivered,
    /// A 2xx whose body denies `accept_if`: the job is done, and the receiver has not taken the lead.
    Refused,
    /// The attempt never left our own network: it does not count.
    NotMade,
    /// Try again, not before `not_before` (from `Retry-After`, capped) when that is given.
    Retry {
        /// Why.
        reason: RetryReason,
        /// The receiver's own wish, already capped.
        not_before: Option<Duration>,
    },
    /// Never again: the job goes to the failed queue now.
    Never(FailReason),
}

/// Why an attempt is to be made again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RetryReason {
    /// A status that is neither 2xx, 3xx, 410, 429 nor 503, and in no list of the target.
    Status,
    /// 3xx: never followed.
    Redirect,
    /// 429 or 503.
    Pushback,
    /// 403 or 503 from a bot protection in front of the receiver, which wants to see a browser.
    BotChallenge,
    /// A 2xx whose body `accept_if` cannot judge: it is cut, or not JSON.
    AnswerUnreadable,
    /// See [`Fault`].
    Timeout,
    /// See [`Fault`].
    Dns,
    /// See [`Fault`].
    Connect,
    /// See [`Fault`].
    Tls(TlsFault),
    /// See [`Fault`].
    Broken,
    /// See [`Fault`].
    Panic,
}

/// Why a job rests on the failed queue. Each has an owner: customer, operator or us.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FailReason {
    /// All attempts were made (customer).
    Exhausted,
    /// 410 Gone (customer).
    Gone,
    /// A status that the target lists in `never_retry` (customer).
    NeverRetry,
    /// A 2xx whose body denies `accept_if`, on a target with `keep_refused` (customer).
    Refused,
    /// The URL leads to an address that may not be called (customer, operator).
    ForbiddenAddress,
    /// The URL is `http://`, which the operator has not allowed (customer, operator).
    PlainHttp,
    /// URL or headers cannot make a request (operator).
    UnusableTarget,
    /// It grew older than `delivery.maximum_age` (customer).
    Expired,
    /// The target is no longer in the store (operator).
    TargetRemoved,
    /// The target was disabled (operator, customer).
    TargetDisabled,
    /// The campaign belongs to another organization now (operator).
    TargetMoved,
    /// The job killed the worker again and again (us).
    CrashLoop,
    /// The broker gave up on the message by itself (us).
    DeliveryLimit,
}

/// Who can do something about a failed job.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Owner {
    /// The tenant whose webhook it is.
    Customer,
    /// Whoever keeps the webhook store.
    Operator,
    /// Whoever runs and builds the worker.
    Us,
}

/// What an exchange means for its job (docs/explanation/retry-ladder.md), by the rules of its target. `now` is needed for a
/// `Retry-After` that is a date; `retry_after_maximum` caps it. How many attempts are left is not looked at here.
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
        // Before the lists: the receiver has not seen the lead, so its rules do not apply.
        403 | 503 if answer.challenge => retry(RetryReason::BotChallenge),
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
        Fault::Timeout => retry(RetryReason::Timeout),
        Fault::Dns => retry(RetryReason::Dns),
        Fault::Connect => retry(RetryReason::Connect),
        Fault::Tls(fault) => retry(RetryReason::Tls(fault)),
        Fault::Broken => retry(RetryReason::Broken),
        Fault::Panic => retry(RetryReason::Panic),
        Fault::Proxy => Outcome::NotMade,
        Fault::ForbiddenAddress(_) => Outcome::Never(FailReason::ForbiddenAddress),
        Fault::PlainHttp => Outcome::Never(FailReason::PlainHttp),
        Fault::UnusableTarget => Outcome::Never(FailReason::UnusableTarget),
    }
}

fn retry(reason: RetryReason) -> Outcome {
    Outcome::Retry { reason, not_before: None }
}

impl Exchange {
    /// The status class for metrics and the history: `2xx`, `3xx`, `4xx`, `5xx`, the [`Fault::label`], or `other` for a
    /// status that HTTP does not define.
    pub fn class(&self) -> &'static str {
        match &self.result {
            Ok(answer) => match answer.status {
                200..=299 => "2xx",
                300..=399 => "3xx",
                400..=499 => "4xx",
                500..=599 => "5xx",
                _ => "other",
            },
            Err(fault) => fault.label(),
        }
    }

    /// More about the answer to an attempt that did not deliver, in words that hold nothing of the lead.
    pub fn detail(&self) -> Option<String> {
        match &self.result {
            Ok(Answer { status: 300..=399, location: Some(origin), .. }) => Some(format!("redirect to {origin}")),
            Ok(_) | Err(_) => None,
        }
    }

    /// The status, if there was an answer.
    pub fn status(&self) -> Option<u16> {
        self.result.as_ref().ok().map(|answer| answer.status)
    }
}

impl Outcome {
    /// The name in metrics.
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

impl Fault {
    /// Every fault that has a label of its own, in the order of the definition.
    pub const ALL: [Fault; 15] = [
        Fault::Timeout,
        Fault::Dns,
        Fault::Connect,
        Fault::Tls(TlsFault::WrongHost),
        Fault::Tls(TlsFault::Expired),
        Fault::Tls(TlsFault::SelfSigned),
        Fault::Tls(TlsFault::UnknownCa),
        Fault::Tls(TlsFault::ClientCertificate),
        Fault::Tls(TlsFault::Other),
        Fault::Broken,
        Fault::Proxy,
        Fault::ForbiddenAddress(Refusal::Denied),
        Fault::PlainHttp,
        Fault::UnusableTarget,
        Fault::Panic,
    ];

    /// The name in metrics, logs and the history.
    pub fn label(self) -> &'static str {
        match self {
            Fault::Timeout => "timeout",
            Fault::Dns => "dns",
            Fault::Connect => "connect",
            Fault::Tls(fault) => fault.label(),
            Fault::Broken => "broken",
            Fault::Proxy => "proxy",
            Fault::ForbiddenAddress(_) => "forbidden_address",
            Fault::PlainHttp => "plain_http",
            Fault::UnusableTarget => "unusable_target",
            Fault::Panic => "panic",
        }
    }
}

impl RetryReason {
    /// Every reason, in the order of the definition.
    pub const ALL: [RetryReason; 16] = [
        RetryReason::Status,
        RetryReason::Redirect,
        RetryReason::Pushback,
        RetryReason::BotChallenge,
        RetryReason::AnswerUnreadable,
        RetryReason::Timeout,
        RetryReason::Dns,
        RetryReason::Connect,
        RetryReason::Tls(TlsFault::WrongHost),
        RetryReason::Tls(TlsFault::Expired),
        RetryReason::Tls(TlsFault::SelfSigned),
        RetryReason::Tls(TlsFault::UnknownCa),
        RetryReason::Tls(TlsFault::ClientCertificate),
        RetryReason::Tls(TlsFault::Other),
        RetryReason::Broken,
        RetryReason::Panic,
    ];

    /// The name in metrics, logs and the history.
    pub fn label(self) -> &'static str {
        match self {
            RetryReason::Status => "status",
            RetryReason::Redirect => "redirect",
            RetryReason::Pushback => "pushback",
            RetryReason::BotChallenge => "bot_challenge",
            RetryReason::AnswerUnreadable => "answer_unreadable",
            RetryReason::Timeout => "timeout",
            RetryReason::Dns => "dns",
            RetryReason::Connect => "connect",
            RetryReason::Tls(fault) => fault.label(),
            RetryReason::Broken => "broken",
            RetryReason::Panic => "panic",
        }
    }
}

impl FailReason {
    /// Every reason, in the order of the definition.
    pub const ALL: [FailReason; 13] = [
        FailReason::Exhausted,
        FailReason::Gone,
        FailReason::NeverRetry,
        FailReason::Refused,
        FailReason::ForbiddenAddress,
        FailReason::PlainHttp,
        FailReason::UnusableTarget,
        FailReason::Expired,
        FailReason::TargetRemoved,
        FailReason::TargetDisabled,
        FailReason::TargetMoved,
        FailReason::CrashLoop,
        FailReason::DeliveryLimit,
    ];

    /// The name in headers, metrics, logs and the commands' filters.
    pub fn label(self) -> &'static str {
        match self {
            FailReason::Exhausted => "exhausted",
            FailReason::Gone => "gone",
            FailReason::NeverRetry => "never_retry",
            FailReason::Refused => "refused",
            FailReason::ForbiddenAddress => "forbidden_address",
            FailReason::PlainHttp => "plain_http",
            FailReason::UnusableTarget => "unusable_target",
            FailReason::Expired => "expired",
            FailReason::TargetRemoved => "target_removed",
            FailReason::TargetDisabled => "target_disabled",
            FailReason::TargetMoved => "target_moved",
            FailReason::CrashLoop => "crash_loop",
            FailReason::DeliveryLimit => "delivery_limit",
        }
    }

    /// The reason of that [`FailReason::label`], if it is one.
    pub fn parse(label: &str) -> Option<FailReason> {
        FailReason::ALL.into_iter().find(|reason| reason.label() == label)
    }

    /// Who can do something about it first.
    pub fn owner(self) -> Owner {
        match self {
            FailReason::Exhausted
            | FailReason::Gone
            | FailReason::NeverRetry
            | FailReason::Refused
            | FailReason::ForbiddenAddress
            | FailReason::PlainHttp
            | FailReason::Expired => Owner::Customer,
            FailReason::UnusableTarget
            | FailReason::TargetRemoved
            | FailReason::TargetDisabled
            | FailReason::TargetMoved => Owner::Operator,
            FailReason::CrashLoop | FailReason::DeliveryLimit => Owner::Us,
        }
    }

    /// One sentence for support: what happened and what to do.
    pub fn meaning(self) -> &'static str {
        match self {
            FailReason::Exhausted => {
                "The receiver accepted none of the attempts; have the customer repair the endpoint, then replay."
            }
            FailReason::Gone => {
                "The receiver answered 410 Gone, which asks for no more calls; \
                 get the new URL from the customer, put it into the store, then replay."
            }
            FailReason::NeverRetry => {
                "The receiver answered with a status that the store lists in never_retry; \
                 have the customer say why, then replay, or discard the job if the receiver is right."
            }
            FailReason::Refused => {
                "The receiver answered 2xx, but its body says that it does not take the lead; \
                 discard the job, or replay it once the customer will take the lead."
            }
            FailReason::ForbiddenAddress => {
                "The URL leads to an address that must not be called, such as one inside our own network; \
                 get a public URL from the customer, put it into the store, then replay."
            }
            FailReason::PlainHttp => {
                "The URL begins with http://, which sends leads in clear and is not allowed here; \
                 get an https:// URL from the customer, put it into the store, then replay."
            }
            FailReason::UnusableTarget => {
                "No request can be made from the target's URL and headers; correct them in the store, then replay."
            }
            FailReason::Expired => {
                "The receiver took so few calls for so long that the job grew too old; \
                 have the customer repair the endpoint or make it faster, then replay."
            }
            FailReason::TargetRemoved => {
                "The target is no longer in the store; put it back and replay, or discard the job if it was meant to go."
            }
            FailReason::TargetDisabled => {
                "The target was switched off while the job waited; \
                 enable it and replay, or discard the job if it is meant to stay off."
            }
            FailReason::TargetMoved => {
                "The campaign belongs to another organization than when the job was made, so the lead must not go there; \
                 check the store, and discard the job if the move is right."
            }
            FailReason::CrashLoop => {
                "The worker died again and again while it held this job; \
                 report it to the engineers with the webhook-id, and replay once they have found out why."
            }
            FailReason::DeliveryLimit => {
                "The broker gave up on the job after too many lost deliveries; \
                 have the engineers look at the worker's connection to the broker, then replay."
            }
        }
    }
}

impl Owner {
    /// The name in tables and filters.
    pub fn label(self) -> &'static str {
        match self {
            Owner::Customer => "customer",
            Owner::Operator => "operator",
            Owner::Us => "us",
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.label())
    }
}

impl fmt::Display for RetryReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.label())
    }
}

impl fmt::Display for FailReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.label())
    }
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.label())
    }
}

#[cfg(test)]
mod tests;
