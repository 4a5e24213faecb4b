//! Why a message is unusable. The message rests on the rejected queue for engineers, with its body unchanged.

use std::fmt;

/// Why a message cannot be used. The label is a metric label, a log field and the `leadhook-reason` header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum RejectReason {
    /// `too_large`: larger than `delivery.max_event_bytes`.
    TooLarge,
    /// `not_json`: empty, cut, binary, or JSON that is not one object.
    NotJson,
    /// `duplicate_key`: a field that Leadhook reads appears twice, so readers could disagree about its value.
    DuplicateKey,
    /// `missing_field`: one of the seven required fields is missing.
    MissingField,
    /// `invalid_field`: a field has the wrong type or form.
    InvalidField,
    /// `unreadable_properties`: lapin cannot read an AMQP property or header, so Leadhook repaired it.
    UnreadableProperties,
    /// `unknown_event`: `event` is not one of the six.
    UnknownEvent,
    /// `unknown_campaign`: the campaign is not in the store, and nothing names its organization.
    UnknownCampaign,
    /// `unknown_organization`: the named organization is not in the store.
    UnknownOrganization,
    /// `organization_mismatch`: the store, the body and the `organization-id` header do not agree.
    OrganizationMismatch,
    /// `malformed_job`: a message on the jobs queue that Leadhook did not write.
    MalformedJob,
    /// `newer_version`: a job of a newer Leadhook that no newer worker took within a day.
    NewerVersion,
    /// `crash_loop`: three child processes died, each while it worked on this message alone.
    CrashLoop,
}

impl RejectReason {
    /// Every reason.
    pub const ALL: [RejectReason; 13] = [
        RejectReason::TooLarge,
        RejectReason::NotJson,
        RejectReason::DuplicateKey,
        RejectReason::MissingField,
        RejectReason::InvalidField,
        RejectReason::UnreadableProperties,
        RejectReason::UnknownEvent,
        RejectReason::UnknownCampaign,
        RejectReason::UnknownOrganization,
        RejectReason::OrganizationMismatch,
        RejectReason::MalformedJob,
        RejectReason::NewerVersion,
        RejectReason::CrashLoop,
    ];

    /// Returns the reason as a metric label and header value.
    pub fn label(self) -> &'static str {
        match self {
            RejectReason::TooLarge => "too_large",
            RejectReason::NotJson => "not_json",
            RejectReason::DuplicateKey => "duplicate_key",
            RejectReason::MissingField => "missing_field",
            RejectReason::InvalidField => "invalid_field",
            RejectReason::UnreadableProperties => "unreadable_properties",
            RejectReason::UnknownEvent => "unknown_event",
            RejectReason::UnknownCampaign => "unknown_campaign",
            RejectReason::UnknownOrganization => "unknown_organization",
            RejectReason::OrganizationMismatch => "organization_mismatch",
            RejectReason::MalformedJob => "malformed_job",
            RejectReason::NewerVersion => "newer_version",
            RejectReason::CrashLoop => "crash_loop",
        }
    }

    /// Returns the reason with this label.
    pub fn parse(label: &str) -> Option<RejectReason> {
        RejectReason::ALL.into_iter().find(|reason| reason.label() == label)
    }

    /// Tells engineers what is wrong, and what to do.
    pub fn meaning(self) -> &'static str {
        match self {
            RejectReason::TooLarge => {
                "The body is too large. Publish less, or raise delivery.max_event_bytes, then requeue."
            }
            RejectReason::NotJson => {
                "The body is not a JSON object. Fix the publisher; `leadhook rejected edit` repairs a message."
            }
            RejectReason::DuplicateKey => {
                "A field appears twice. Fix the publisher; `leadhook rejected requeue --set` keeps one."
            }
            RejectReason::MissingField => {
                "A required field is missing. Fix the publisher; `leadhook rejected requeue --set` adds the field."
            }
            RejectReason::InvalidField => {
                "A field has the wrong form. Fix the publisher; `leadhook rejected requeue --set` repairs the field."
            }
            RejectReason::UnknownEvent => {
                "The event is not one of the six. Fix the publisher; `leadhook rejected requeue --set event=...` repairs it."
            }
            RejectReason::UnknownCampaign => {
                "The store does not know the campaign. Add it to the store, then requeue; or requeue with --organization."
            }
            RejectReason::UnreadableProperties => {
                "An AMQP property or header is invalid, as the detail says. Fix the publisher. Requeue delivers the event with sanitized properties; if it lost headers, name its organization with --organization."
            }
            RejectReason::UnknownOrganization => {
                "The store does not know the organization. Add it to the store, then requeue; or requeue with --organization."
            }
            RejectReason::OrganizationMismatch => {
                "The store and the message name different organizations. Find out which is right, then fix the store and requeue, or requeue with --organization."
            }
            RejectReason::MalformedJob => {
                "Another program put it on the jobs queue. Find that program; it cannot be requeued."
            }
            RejectReason::NewerVersion => "A newer Leadhook made this job, and none took it up. Ask that version.",
            RejectReason::CrashLoop => {
                "Three child processes died while each worked on this event alone. Report it with the worker's lines `a child process died`; requeue the event once the cause is fixed."
            }
        }
    }
}

impl fmt::Display for RejectReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.label())
    }
}

/// A reason with its detail. The detail goes to headers and logs, so it names fields and expected types and never a
/// value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason}: {detail}")]
pub struct Rejection {
    /// The reason.
    pub reason: RejectReason,
    /// The field, and what it must hold.
    pub detail: String,
}

impl Rejection {
    /// Combines a reason with its detail.
    pub fn new(reason: RejectReason, detail: impl Into<String>) -> Rejection {
        Rejection { reason, detail: detail.into() }
    }
}
