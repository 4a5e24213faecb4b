//! One record of the delivery log: what happened to which delivery. It holds no content of a lead or of an answer.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

/// What happened. The words are part of the stream's format, of `--json` and of filters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum What {
    /// The receiver accepted the lead.
    Delivered,
    /// The receiver answered 2xx, but its body says that it does not take the lead.
    Refused,
    /// An attempt failed, and another follows.
    Retry,
    /// The job ended without delivery. The record includes the attempt that decided it, if there was one.
    Failed,
    /// The job was deferred. Only the first deferral since its last attempt is recorded.
    Deferred,
    /// The event has no target.
    NoTarget,
    /// The message is not a usable event or job.
    Rejected,
    /// A person replayed a failed job.
    Replayed,
    /// A person discarded a failed job or a rejected message.
    Discarded,
    /// A person put a rejected message back onto the events queue.
    Requeued,
    /// A person looked at the lead's data in a failed job. This does not change the state of the delivery.
    Revealed,
    /// A word that only a newer Leadhook knows.
    #[serde(other)]
    Unknown,
}

impl What {
    /// All words that this version writes.
    pub const ALL: [What; 11] = [
        What::Delivered,
        What::Refused,
        What::Retry,
        What::Failed,
        What::Deferred,
        What::NoTarget,
        What::Rejected,
        What::Replayed,
        What::Discarded,
        What::Requeued,
        What::Revealed,
    ];

    /// Returns the word.
    pub fn name(self) -> &'static str {
        match self {
            What::Delivered => "delivered",
            What::Refused => "refused",
            What::Retry => "retry",
            What::Failed => "failed",
            What::Deferred => "deferred",
            What::NoTarget => "no_target",
            What::Rejected => "rejected",
            What::Replayed => "replayed",
            What::Discarded => "discarded",
            What::Requeued => "requeued",
            What::Revealed => "revealed",
            What::Unknown => "unknown",
        }
    }

    /// Parses the word. Returns `None` if this version does not write it.
    pub fn parse(word: &str) -> Option<What> {
        What::ALL.into_iter().find(|what| what.name() == word)
    }
}

/// Longest id from upstream in a record about an event, in bytes. A longer text may be anything, so it is omitted.
const LONGEST_ID: usize = 255;

/// One record. Fields that do not apply are omitted, in the stream and in `--json`.
///
/// Its ids name no person. It holds no body, header, URL or snippet of an answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry<'a> {
    /// Time in milliseconds since 1970, by the writer's clock. For an attempt, its beginning.
    pub at: i64,
    /// What happened.
    pub what: What,
    /// `webhook-id` of the job.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub id: Option<Cow<'a, str>>,
    /// Event name.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub event: Option<Cow<'a, str>>,
    /// The event's `leadId`.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub lead: Option<Cow<'a, str>>,
    /// The event's `submissionId`.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub submission: Option<Cow<'a, str>>,
    /// The event's campaign.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub campaign: Option<Cow<'a, str>>,
    /// The organization.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub organization: Option<Cow<'a, str>>,
    /// Target key.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub target: Option<Cow<'a, str>>,
    /// Number of the attempt, from 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attempt: Option<u32>,
    /// Attempts that the target allowed at that time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub of: Option<u32>,
    /// HTTP status, if there was an answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// Error of an attempt that did not deliver: `status`, `timeout` ...
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub error: Option<Cow<'a, str>>,
    /// A remark on the attempt: [`crate::delivery::exchange::ANSWER_INCOMPLETE`].
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub note: Option<Cow<'a, str>>,
    /// Duration of the attempt, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ms: Option<u64>,
    /// When the next attempt is due, in milliseconds since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<i64>,
    /// Total time for which the job was deferred before, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deferred: Option<u64>,
    /// Why the delivery ended, was deferred or rejected, or has no target. For a person's action, the reason given.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<Cow<'a, str>>,
    /// The person who acted, if it was a person.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub by: Option<Cow<'a, str>>,
    /// Revision of the webhook store that was used.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<Cow<'a, str>>,
}

impl<'a> Entry<'a> {
    /// Creates a record of this time, with all other fields empty.
    pub fn new(what: What, at: jiff::Timestamp) -> Entry<'a> {
        Entry {
            at: at.as_millisecond(),
            what,
            id: None,
            event: None,
            lead: None,
            submission: None,
            campaign: None,
            organization: None,
            target: None,
            attempt: None,
            of: None,
            status: None,
            error: None,
            note: None,
            ms: None,
            next: None,
            deferred: None,
            reason: None,
            by: None,
            revision: None,
        }
    }

    /// Creates a record about a job.
    pub fn of_job(what: What, at: jiff::Timestamp, job: &'a crate::job::Job) -> Entry<'a> {
        Entry {
            id: Some(job.webhook_id.as_str().into()),
            event: Some(job.kind.name().into()),
            lead: job.lead_id(),
            submission: job.submission.as_deref().map(Cow::from),
            campaign: Some(job.campaign.as_str().into()),
            organization: Some(job.organization.as_str().into()),
            target: Some(job.target.as_str().into()),
            ..Entry::new(what, at)
        }
    }

    /// Creates a record about an event that is not a job.
    pub fn of_event(what: What, at: jiff::Timestamp, event: &'a crate::event::Event) -> Entry<'a> {
        let short = |text: &&str| text.len() <= LONGEST_ID;
        Entry {
            event: Some(event.kind.name().into()),
            lead: Some(event.lead.as_str()).filter(short).map(Into::into),
            submission: Some(event.submission.as_str()).filter(short).map(Into::into),
            campaign: Some(event.campaign.as_str()).filter(short).map(Into::into),
            organization: event.organization.as_deref().filter(short).map(Into::into),
            ..Entry::new(what, at)
        }
    }

    /// Returns the same record with owned texts.
    pub fn into_owned(self) -> Entry<'static> {
        let own = |text: Option<Cow<'a, str>>| text.map(|text| Cow::Owned(text.into_owned()));
        Entry {
            at: self.at,
            what: self.what,
            id: own(self.id),
            event: own(self.event),
            lead: own(self.lead),
            submission: own(self.submission),
            campaign: own(self.campaign),
            organization: own(self.organization),
            target: own(self.target),
            attempt: self.attempt,
            of: self.of,
            status: self.status,
            error: own(self.error),
            note: own(self.note),
            ms: self.ms,
            next: self.next,
            deferred: self.deferred,
            reason: own(self.reason),
            by: own(self.by),
            revision: own(self.revision),
        }
    }

    /// Returns the time of the record, or the Unix epoch if `at` is out of range.
    pub fn time(&self) -> jiff::Timestamp {
        jiff::Timestamp::from_millisecond(self.at).unwrap_or(jiff::Timestamp::UNIX_EPOCH)
    }

    /// Returns when the next attempt is due.
    pub fn next_time(&self) -> Option<jiff::Timestamp> {
        self.next.and_then(|at| jiff::Timestamp::from_millisecond(at).ok())
    }
}
