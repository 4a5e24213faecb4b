//! A job as JSON shows it, on the screen and in files, without its body.

use jiff::Timestamp;
use serde::Serialize;

use crate::job::{HistoryEntry, Job};

/// The facts that are known about a job.
#[derive(Serialize)]
pub struct JobFacts<'a> {
    /// Event name.
    pub event: &'static str,
    /// The organization that the event was resolved for.
    pub organization: &'a str,
    /// The event's campaign.
    pub campaign: &'a str,
    /// Target key.
    pub target: &'a str,
    /// The event's `leadId`.
    pub lead: Option<String>,
    /// The event's `submissionId`.
    pub submission: Option<&'a str>,
    /// Time of the event by upstream's clock, if it can be read.
    pub event_time: Option<Timestamp>,
    /// When a worker first saw the event.
    pub first_seen: Timestamp,
    /// Attempts made since it was first published or last replayed.
    pub attempts: u32,
    /// Times deferred since the last attempt.
    pub deferrals: u32,
    /// Total time for which it was deferred, in seconds.
    pub deferred_seconds: u64,
    /// Number of times support replayed it.
    pub replays: u32,
    /// W3C trace context of the event.
    pub traceparent: Option<&'a str>,
    /// Other headers and properties from upstream.
    pub upstream: Option<serde_json::Value>,
    /// Its attempts. Answers may echo lead data.
    pub history: &'a [HistoryEntry],
}

impl JobFacts<'_> {
    /// Collects the facts about this job.
    pub fn of(job: &Job) -> JobFacts<'_> {
        JobFacts {
            event: job.kind.name(),
            organization: &job.organization,
            campaign: &job.campaign,
            target: job.target.as_str(),
            lead: job.lead_id().map(Into::into),
            submission: job.submission.as_deref(),
            event_time: job.event_time,
            first_seen: job.first_seen,
            attempts: job.attempt,
            deferrals: job.deferrals,
            deferred_seconds: job.waited.as_secs(),
            replays: job.replays,
            traceparent: job.traceparent.as_deref(),
            upstream: job.upstream.as_deref().and_then(|text| serde_json::from_str(text).ok()),
            history: job.history.entries(),
        }
    }
}
