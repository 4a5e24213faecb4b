//! Judges the result of an attempt. Each reason is also a metric label and a log field, and has one documented
//! consequence.

use std::{
    fmt,
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use serde::{Deserialize, Deserializer, Serialize};

use super::{
    retry_after,
    rules::{Met, Rules},
};
use crate::egress::Refusal;

/// The result of one POST, as seen on the wire. [`crate::sender`] makes it, and [`judge`] judges it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Exchange {
    /// The answer or the fault.
    pub result: Result<Answer, Fault>,
    /// From the start of the attempt to its end.
    pub elapsed: Duration,
    /// Whether the sender replaced a connection that the receiver had closed as idle.
    pub replaced: bool,
}

/// The note on an attempt whose answer had no whole body.
pub const ANSWER_INCOMPLETE: &str = "answer_incomplete";

/// An answer: status line, headers, and at most the first 64 KiB of the body.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Answer {
    /// HTTP status code.
    pub status: u16,
    /// The `Retry-After` header as it came, if any.
    pub retry_after: Option<String>,
    /// The first bytes of the body, at most 256, decoded lossily. May echo lead data, so it is never logged.
    pub snippet: Option<String>,
    /// Whether a bot protection answered in place of the receiver (`cf-mitigated: challenge`).
    pub challenge: bool,
    /// The origin of the header `Location`: scheme, host and port only, because paths and queries may hold lead data.
    pub location: Option<String>,
    /// The body as far as it was read, if [`crate::sender::Post::whole_body`] asked for it. May echo lead data, so it
    /// is never logged.
    pub body: Option<Bytes>,
    /// Whether the body broke, did not end in time, or is longer than 64 KiB. The status counts anyway.
    pub incomplete: bool,
}

/// Why there was no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Fault {
    /// The whole exchange took longer than the target's timeout.
    Timeout,
    /// The name could not be resolved.
    Dns(DnsFault),
    /// No process listens, or the network is unreachable.
    Connect,
    /// TLS handshake or verification failed.
    Tls(TlsFault),
    /// The receiver did not answer in HTTP.
    Http(HttpFault),
    /// The token endpoint gave no token.
    Oauth(TokenFault),
    /// The egress proxy could not be used. The target is not at fault, so this costs no attempt.
    Proxy,
    /// The egress proxy refused to connect, because of our credentials or of the receiver. This costs no attempt.
    ProxyRefused,
    /// This machine lacks files, memory or ports. The target is not at fault, so this costs no attempt.
    Local,
    /// The URL holds a forbidden address. Final.
    ForbiddenAddress(Refusal),
    /// The name leads only to forbidden addresses. Retried, because a name server may say so for an hour.
    ForbiddenName(Refusal),
    /// The URL is `http://`, and `egress.plain_http` is off. Final.
    PlainHttp,
    /// No request can be made from the target's URL and headers. Final.
    UnusableTarget,
    /// The attempt panicked. This is our own fault, but it costs one attempt.
    Panic,
}

/// Why a name could not be resolved.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum DnsFault {
    /// The name does not exist, or has no address.
    NoSuchName,
    /// The name servers answered with an error.
    ServerFailure,
    /// The name servers did not answer.
    NoAnswer,
}

/// Why TLS failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum TlsFault {
    /// The certificate is for another host.
    WrongHost,
    /// The certificate has expired.
    Expired,
    /// The certificate is not valid yet.
    NotYetValid,
    /// The certificate is self-signed.
    SelfSigned,
    /// The certificate is not signed by an authority that the worker trusts.
    UnknownAuthority,
    /// The certificate comes without its intermediate certificates.
    IncompleteChain,
    /// The certificate's key or signature is too weak.
    Weak,
    /// The two sides have no TLS version or cipher in common.
    NoCommonCipher,
    /// The receiver wants a client certificate, and the target has none.
    ClientCertificateWanted,
    /// The receiver refuses the target's client certificate.
    ClientCertificateRefused,
    /// Any other fault: the receiver does not speak TLS, breaks off, or breaks the rules.
    Other,
}

/// Why the token endpoint gave no token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum TokenFault {
    /// The endpoint answered with this status and without a token.
    Answered(u16),
    /// The endpoint did not answer. Holds the [`Fault::label`] of the reason.
    Failed(#[serde(deserialize_with = "read_label")] Label),
}

/// A [`Fault::label`].
pub type Label = &'static str;

fn read_label<'de, D: Deserializer<'de>>(from: D) -> Result<Label, D::Error> {
    let text = String::deserialize(from)?;
    Ok(Fault::all().into_iter().map(Fault::label).find(|label| *label == text).unwrap_or_default())
}

/// Why the bytes of the receiver are not an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum HttpFault {
    /// The bytes are not HTTP.
    NotHttp,
    /// The lines of the head contradict each other or HTTP, such as two different lengths.
    Malformed,
    /// Status line and headers are longer than 64 KiB.
    HeaderTooLarge,
    /// The connection was closed before the whole head arrived.
    Closed,
}

impl DnsFault {
    /// All DNS faults.
    pub const ALL: [DnsFault; 3] = [DnsFault::NoSuchName, DnsFault::ServerFailure, DnsFault::NoAnswer];

    /// Returns the name in metrics, logs and the history.
    pub fn label(self) -> &'static str {
        match self {
            DnsFault::NoSuchName => "dns_no_such_name",
            DnsFault::ServerFailure => "dns_server_failure",
            DnsFault::NoAnswer => "dns_no_answer",
        }
    }
}

impl TlsFault {
    /// All TLS faults.
    pub const ALL: [TlsFault; 11] = [
        TlsFault::WrongHost,
        TlsFault::Expired,
        TlsFault::NotYetValid,
        TlsFault::SelfSigned,
        TlsFault::UnknownAuthority,
        TlsFault::IncompleteChain,
        TlsFault::Weak,
        TlsFault::NoCommonCipher,
        TlsFault::ClientCertificateWanted,
        TlsFault::ClientCertificateRefused,
        TlsFault::Other,
    ];

    /// Returns the name in metrics, logs and the history.
    pub fn label(self) -> &'static str {
        match self {
            TlsFault::WrongHost => "tls_wrong_host",
            TlsFault::Expired => "tls_expired",
            TlsFault::NotYetValid => "tls_not_yet_valid",
            TlsFault::SelfSigned => "tls_self_signed",
            TlsFault::UnknownAuthority => "tls_unknown_authority",
            TlsFault::IncompleteChain => "tls_incomplete_chain",
            TlsFault::Weak => "tls_weak",
            TlsFault::NoCommonCipher => "tls_no_common_cipher",
            TlsFault::ClientCertificateWanted => "tls_client_certificate_wanted",
            TlsFault::ClientCertificateRefused => "tls_client_certificate_refused",
            TlsFault::Other => "tls",
        }
    }
}

impl HttpFault {
    /// All HTTP faults.
    pub const ALL: [HttpFault; 4] =
        [HttpFault::NotHttp, HttpFault::Malformed, HttpFault::HeaderTooLarge, HttpFault::Closed];

    /// Returns the name in metrics, logs and the history.
    pub fn label(self) -> &'static str {
        match self {
            HttpFault::NotHttp => "not_http",
            HttpFault::Malformed => "malformed_answer",
            HttpFault::HeaderTooLarge => "header_too_large",
            HttpFault::Closed => "closed_without_answer",
        }
    }
}

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

/// Why an attempt is made again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RetryReason {
    /// A status other than 2xx, 3xx, 410, 429 and 503 that is in no list of the target.
    Status,
    /// 3xx, which is never followed.
    Redirect,
    /// 429 or 503.
    Pushback,
    /// 403 or 503 from a bot protection in front of the receiver, which expects a browser.
    BotChallenge,
    /// A 2xx whose body `accept_if` cannot judge: it is cut, or not JSON.
    AnswerUnreadable,
    /// A [`Fault`] that another attempt may not meet.
    Fault(Fault),
}

/// Why a job rests on the failed queue. Parentheses name its possible owners: customer, operator or us.
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
    /// The URL leads to a forbidden address (customer, operator).
    ForbiddenAddress,
    /// The URL is `http://`, which the operator has not allowed (customer, operator).
    PlainHttp,
    /// No request can be made from URL and headers (operator).
    UnusableTarget,
    /// The job grew older than `delivery.maximum_age` (customer).
    Expired,
    /// The target is no longer in the store (operator).
    TargetRemoved,
    /// The target was disabled (operator, customer).
    TargetDisabled,
    /// The campaign belongs to another organization now (operator).
    TargetMoved,
    /// Three child processes died while they worked on the job alone (us).
    CrashLoop,
    /// The broker gave up on the message by itself (us).
    DeliveryLimit,
}

/// The party that can act on a failed job.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Owner {
    /// The tenant that owns the webhook.
    Customer,
    /// The person who keeps the webhook store.
    Operator,
    /// The team that runs and builds the worker.
    Us,
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

impl Exchange {
    /// Makes an exchange whose connection was not replaced.
    pub fn new(result: Result<Answer, Fault>, elapsed: Duration) -> Exchange {
        Exchange { result, elapsed, replaced: false }
    }

    /// Returns the status class for metrics and the history: `2xx`, `3xx`, `4xx`, `5xx`, the [`Fault::label`], or
    /// `other` for a status that HTTP does not define.
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

    /// Returns whether there was an answer without a whole body.
    pub fn is_incomplete(&self) -> bool {
        self.result.as_ref().is_ok_and(|answer| answer.incomplete)
    }

    /// Returns details about an attempt that did not deliver, without lead data.
    pub fn detail(&self) -> Option<String> {
        match &self.result {
            Ok(Answer { status: 300..=399, location: Some(origin), .. }) => Some(format!("redirect to {origin}")),
            Err(fault @ (Fault::ForbiddenAddress(refusal) | Fault::ForbiddenName(refusal))) => {
                Some(format!("{fault}: the URL leads to {}", refusal.name()))
            }
            Err(Fault::Oauth(TokenFault::Answered(status))) => {
                Some(format!("oauth: the token endpoint answered {status}, and gave no token"))
            }
            Err(Fault::Oauth(TokenFault::Failed(label))) => Some(format!("oauth: {label} at the token endpoint")),
            Ok(_) | Err(_) => None,
        }
    }

    /// Returns the status, if there was an answer.
    pub fn status(&self) -> Option<u16> {
        self.result.as_ref().ok().map(|answer| answer.status)
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

impl Fault {
    /// Returns one fault of each label, in the order of the definition.
    pub fn all() -> Vec<Fault> {
        let mut all = vec![Fault::Timeout];
        all.extend(DnsFault::ALL.map(Fault::Dns));
        all.push(Fault::Connect);
        all.extend(TlsFault::ALL.map(Fault::Tls));
        all.extend(HttpFault::ALL.map(Fault::Http));
        all.extend([Fault::Oauth(TokenFault::Failed("")), Fault::Proxy, Fault::ProxyRefused, Fault::Local]);
        all.extend([Fault::ForbiddenAddress, Fault::ForbiddenName].map(|fault| fault(Refusal::Denied)));
        all.extend([Fault::PlainHttp, Fault::UnusableTarget, Fault::Panic]);
        all
    }

    /// Returns the name in metrics, logs and the history.
    pub fn label(self) -> &'static str {
        match self {
            Fault::Timeout => "timeout",
            Fault::Dns(fault) => fault.label(),
            Fault::Connect => "connect",
            Fault::Tls(fault) => fault.label(),
            Fault::Http(fault) => fault.label(),
            Fault::Oauth(_) => "oauth",
            Fault::Proxy => "proxy",
            Fault::ProxyRefused => "proxy_refused",
            Fault::Local => "local",
            Fault::ForbiddenAddress(_) => "forbidden_address",
            Fault::ForbiddenName(_) => "forbidden_name",
            Fault::PlainHttp => "plain_http",
            Fault::UnusableTarget => "unusable_target",
            Fault::Panic => "panic",
        }
    }
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

    /// Returns the name in metrics, logs and the history.
    pub fn label(self) -> &'static str {
        match self {
            RetryReason::Status => "status",
            RetryReason::Redirect => "redirect",
            RetryReason::Pushback => "pushback",
            RetryReason::BotChallenge => "bot_challenge",
            RetryReason::AnswerUnreadable => "answer_unreadable",
            RetryReason::Fault(fault) => fault.label(),
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

    /// Returns the name in headers, metrics, logs and the commands' filters.
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

    /// Returns the reason with this [`FailReason::label`], if there is one.
    pub fn parse(label: &str) -> Option<FailReason> {
        FailReason::ALL.into_iter().find(|reason| reason.label() == label)
    }

    /// Returns the party that can act on it first.
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

    /// Returns one sentence for support: what happened and what to do.
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
                "The URL holds an address that must not be called, such as one inside our own network; \
                 get a public URL from the customer, put it into the store, then replay."
            }
            FailReason::PlainHttp => {
                "The URL begins with http://, which sends leads unencrypted and is not allowed here; \
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
                "Three processes died while each worked on this job alone; \
                 report it to the engineers with the webhook-id, and replay once they have found out why."
            }
            FailReason::DeliveryLimit => {
                "The broker gave up on this message after 100 redeliveries; have the engineers check the worker's log \
                 and its connection to the broker, then replay the job, or requeue the event."
            }
        }
    }
}

impl Owner {
    /// Returns the name in tables and filters.
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
