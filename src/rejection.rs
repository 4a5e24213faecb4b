//! A message that is not usable, and why. It rests on the rejected queue for engineers, its body untouched.

use std::fmt;

/// Why a message cannot be used. The label is a metric label, a log field and the `leadhook-reason` header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum RejectReason {
    /// `too_large`: larger than `delivery.max_event_bytes`.
    TooLarge,
    /// `not_json`: empty, cut, binary, or JSON that is not one object.
    NotJson,
    /// `duplicate_key`: some object in it holds a key twice, so that readers may disagree about its meaning.
    DuplicateKey,
    /// `missing_field`: one of the seven required fields is not there.
    MissingField,
    /// `invalid_field`: a field is there with the wrong type or form.
    InvalidField,
    /// `unknown_event`: `event` is not one of the six.
    UnknownEvent,
    /// `unknown_campaign`: not in the store, and nothing names its organization.
    UnknownCampaign,
    /// `unknown_organization`: the organization named is not in the store.
    UnknownOrganization,
    /// `organization_mismatch`: the store, the body and the `organization-id` header do not agree.
    OrganizationMismatch,
    /// `malformed_job`: a message on the jobs queue that Leadhook did not write.
    MalformedJob,
    /// `newer_version`: a job of a newer Leadhook that none picked up within a day.
    NewerVersion,
    /// `delivery_limit`: the broker gave up on the message by itself; it carries no header of ours.
    DeliveryLimit,
}

impl RejectReason {
    /// Every reason.
    pub const ALL: [RejectReason; 12] = [
        RejectReason::TooLarge,
        RejectReason::NotJson,
        RejectReason::DuplicateKey,
        RejectReason::MissingField,
        RejectReason::InvalidField,
        RejectReason::UnknownEvent,
        RejectReason::UnknownCampaign,
        RejectReason::UnknownOrganization,
        RejectReason::OrganizationMismatch,
        RejectReason::MalformedJob,
        RejectReason::NewerVersion,
        RejectReason::DeliveryLimit,
    ];

    /// The reason as a metric label and header value.
    pub fn label(self) -> &'static str {
        match self {
            RejectReason::TooLarge => "too_large",
            RejectReason::NotJson => "not_json",
            RejectReason::DuplicateKey => "duplicate_key",
            RejectReason::MissingField => "missing_field",
            RejectReason::InvalidField => "invalid_field",
            RejectReason::UnknownEvent => "unknown_event",
            RejectReason::UnknownCampaign => "unknown_campaign",
            RejectReason::UnknownOrganization => "unknown_organization",
            RejectReason::OrganizationMismatch => "organization_mismatch",
            RejectReason::MalformedJob => "malformed_job",
            RejectReason::NewerVersion => "newer_version",
            RejectReason::DeliveryLimit => "delivery_limit",
        }
    }
}

impl fmt::Display for RejectReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.label())
    }
}

/// A reason with its detail. The detail names fields and expected types, never a value: it goes to headers and logs.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason}: {detail}")]
pub struct Rejection {
    /// Why.
    pub reason: RejectReason,
    /// Which field, and what would be right.
    pub detail: String,
}

impl Rejection {
    /// A reason with its detail.
    pub fn new(reason: RejectReason, detail: impl Into<String>) -> Rejection {
        Rejection { reason, detail: detail.into() }
    }
}
