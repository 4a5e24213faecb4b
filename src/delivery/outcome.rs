//! What an attempt means. Each reason is also a metric label and a log field, and has one documented consequence.

use std::time::Duration;

/// What one POST came to, as seen on the wire. Made by [`crate::poster`], judged by [`judge`].
#[derive(Clone, Debug, PartialEq)]
pub struct Exchange {
    /// Answer or fault.
    pub result: Result<Answer, Fault>,
    /// From the start of the attempt to its end.
    pub elapsed: Duration,
}

/// A whole answer: status line, headers and (bounded) body were read.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    /// HTTP status code.
    pub status: u16,
    /// The `Retry-After` header as it came, if any.
    pub retry_after: Option<String>,
    /// First bytes of the body, lossily decoded, at most 256 bytes. May echo lead data: never logged.
    pub snippet: Option<String>,
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
    Tls,
    /// The connection broke or spoke no HTTP.
    Broken,
    /// The address is forbidden: final.
    ForbiddenAddress,
    /// The target's URL or headers cannot make a request: final.
    UnusableTarget,
    /// The attempt panicked: a fault of ours, costs one attempt.
    Panic,
}

/// What an attempt means for its job.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// 2xx: the job is done.
    Delivered,
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
    /// A status that is neither 2xx, 3xx, 410, 429 nor 503.
    Status,
    /// 3xx: never followed.
    Redirect,
    /// 429 or 503.
    Pushback,
    /// See [`Fault`].
    Timeout,
    /// See [`Fault`].
    Dns,
    /// See [`Fault`].
    Connect,
    /// See [`Fault`].
    Tls,
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
    /// The URL leads to an address that may not be called (customer, operator).
    ForbiddenAddress,
    /// URL or headers cannot make a request (operator).
    UnusableTarget,
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

impl FailReason {
    /// The reason as a metric label and header value.
    pub fn label(self) -> &'static str {
        match self {
            FailReason::Exhausted => "exhausted",
            FailReason::Gone => "gone",
            FailReason::ForbiddenAddress => "forbidden_address",
            FailReason::UnusableTarget => "unusable_target",
            FailReason::TargetRemoved => "target_removed",
            FailReason::TargetDisabled => "target_disabled",
            FailReason::TargetMoved => "target_moved",
            FailReason::CrashLoop => "crash_loop",
            FailReason::DeliveryLimit => "delivery_limit",
        }
    }
}
