//! One record of the delivery log: what happened, to what, and nothing that a lead or a receiver has said.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

/// What happened. The words are part of the format, of `--json` and of filters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum What {
    /// The receiver has taken the lead.
    Delivered,
    /// The receiver has answered 2xx, and its body says that it does not take the lead.
    Refused,
    /// An attempt came to nothing, another follows.
    Retry,
    /// The job is over without delivery; with the attempt that decided it, if there was one.
    Failed,
    /// The job was put back without an attempt. Only the first time since its last attempt is recorded.
    Deferred,
    /// Nobody wants the event.
    NoTarget,
    /// The message is no usable event, or no usable job.
    Rejected,
    /// A person put a failed job back.
    Replayed,
    /// A person took a failed job, or a rejected message, away.
    Discarded,
    /// A person put a rejected message back onto the events queue.
    Requeued,
    /// A person looked at the data of the lead, in a failed job. How the delivery stands is not changed by that.
    Revealed,
    /// What a newer Leadhook wrote.
    #[serde(other)]
    Unknown,
}

impl What {
    /// All that this version writes.
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

    /// The word for it.
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

    /// Reads the word.
    pub fn parse(word: &str) -> Option<What> {
        What::ALL.into_iter().find(|what| what.name() == word)
    }
}

/// Longest id of upstream in a record about an event, in bytes; what is longer is none, and may be anything.
const LONGEST_ID: usize = 255;

/// One record. What does not apply is left out, in the stream as in `--json`.
///
/// Ids are the sender's own and name no person; no body, no header, no snippet of an answer, no URL is in it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry<'a> {
    /// When, in milliseconds since 1970 by the writer's clock. For an attempt: when it began.
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
    /// What an attempt that did not deliver came to: `status`, `timeout` ...
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub error: Option<Cow<'a, str>>,
    /// What else there is to an attempt that counts: [`crate::delivery::outcome::ANSWER_INCOMPLETE`].
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub note: Option<Cow<'a, str>>,
    /// How long the attempt took, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ms: Option<u64>,
    /// When the next attempt is due, in milliseconds since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<i64>,
    /// How long the job had been deferred before, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deferred: Option<u64>,
    /// Why it is over, deferred, rejected, or without target; of what a person did, the reason that was given.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<Cow<'a, str>>,
    /// Who did it, where it was a person.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub by: Option<Cow<'a, str>>,
    /// Revision of the webhook store that was used.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<Cow<'a, str>>,
}

impl<'a> Entry<'a> {
    /// A record of that moment that says nothing else yet.
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

    /// A record about a job.
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

    /// A record about an event that is no job.
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

    /// The same record, holding what it says by itself.
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

    /// When it happened; the beginning of time where the number is none.
    pub fn time(&self) -> jiff::Timestamp {
        jiff::Timestamp::from_millisecond(self.at).unwrap_or(jiff::Timestamp::UNIX_EPOCH)
    }

    /// When the next attempt is due.
    pub fn next_time(&self) -> Option<jiff::Timestamp> {
        self.next.and_then(|at| jiff::Timestamp::from_millisecond(at).ok())
    }
}
