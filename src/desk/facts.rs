//! A job as JSON shows it, on the screen and in files; without its body.

use jiff::Timestamp;
use serde::Serialize;

use crate::job::{HistoryEntry, Job};

/// What is known of a job.
#[derive(Serialize)]
pub struct JobFacts<'a> {
    /// Event name.
    pub event: &'static str,
    /// Organization it was resolved for.
    pub organization: &'a str,
    /// The event's campaign.
    pub campaign: &'a str,
    /// Target key.
    pub target: &'a str,
    /// The event's `leadId`.
    pub lead: Option<String>,
    /// The event's `submissionId`.
    pub submission: Option<&'a str>,
    /// When it happened, by upstream's clock, if that can be read.
    pub event_time: Option<Timestamp>,
    /// When a worker first saw the event.
    pub first_seen: Timestamp,
    /// Attempts made since it was first published or last replayed.
    pub attempts: u32,
    /// Times deferred since the last attempt.
    pub deferrals: u32,
    /// How long it was deferred altogether.
    pub deferred_seconds: u64,
    /// Times support put it back.
    pub replays: u32,
    /// W3C trace context of the event.
    pub traceparent: Option<&'a str>,
    /// What else upstream said.
    pub upstream: Option<serde_json::Value>,
    /// What happened to it; answers may echo lead data.
    pub history: &'a [HistoryEntry],
}

impl JobFacts<'_> {
    /// Of this job.
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
