//! The kinds of event.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The kind of an event, from a closed list (docs/reference/events.md).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum EventKind {
    /// `lead.delivered`
    #[serde(rename = "lead.delivered")]
    Delivered,
    /// `lead.disqualified`
    #[serde(rename = "lead.disqualified")]
    Disqualified,
    /// `lead.failed`
    #[serde(rename = "lead.failed")]
    Failed,
    /// `lead.queued`
    #[serde(rename = "lead.queued")]
    Queued,
    /// `lead.first_submission_action`
    #[serde(rename = "lead.first_submission_action")]
    FirstSubmissionAction,
    /// `lead.processed`
    #[serde(rename = "lead.processed")]
    Processed,
}

impl EventKind {
    /// Every kind, in the order of docs/reference/events.md.
    pub const ALL: [EventKind; 6] = [
        EventKind::Delivered,
        EventKind::Disqualified,
        EventKind::Failed,
        EventKind::Queued,
        EventKind::FirstSubmissionAction,
        EventKind::Processed,
    ];

    /// Returns the name on the wire, such as `lead.delivered`.
    pub fn name(self) -> &'static str {
        match self {
            EventKind::Delivered => "lead.delivered",
            EventKind::Disqualified => "lead.disqualified",
            EventKind::Failed => "lead.failed",
            EventKind::Queued => "lead.queued",
            EventKind::FirstSubmissionAction => "lead.first_submission_action",
            EventKind::Processed => "lead.processed",
        }
    }

    /// Returns the kind with this name, if there is one.
    pub fn parse(name: &str) -> Option<EventKind> {
        EventKind::ALL.into_iter().find(|kind| kind.name() == name)
    }
}

impl fmt::Display for EventKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
