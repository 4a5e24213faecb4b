//! Why an attempt is retried, and why a delivery fails. Each reason is also a metric label and a log field.

use std::fmt;

use super::fault::Fault;

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

impl RetryReason {
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
