//! The content of a job, and how attempts, deferrals and replays change it.

use std::{borrow::Cow, time::Duration};

use bytes::Bytes;
use jiff::Timestamp;

use super::{
    history::{History, HistoryEntry},
    id::{body_id, derived_id, fresh_copy, webhook_id},
    upstream,
};
use crate::{
    event::{Event, EventKind},
    limits::Turn,
    store::TargetKey,
};

/// The version of the message format that this code writes.
pub const VERSION: i64 = 1;

/// One event to be delivered to one target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Job {
    /// The permanent id of the delivery; see [`webhook_id`].
    pub webhook_id: String,
    /// The kind of the event.
    pub kind: EventKind,
    /// The event's `leadId`; `None` if it is longer than 255 bytes, or if an older Leadhook wrote the job.
    pub lead: Option<String>,
    /// The event's `submissionId`; `None` if it is longer than AMQP allows (255 bytes).
    pub submission: Option<String>,
    /// The organization that the event was resolved for. The target must still belong to it at each attempt.
    pub organization: String,
    /// The event's campaign.
    pub campaign: String,
    /// The key of the target.
    pub target: TargetKey,
    /// When the event happened, by upstream's clock; `None` if its `timestamp` cannot be read.
    pub event_time: Option<Timestamp>,
    /// When a worker first saw the event.
    pub first_seen: Timestamp,
    /// Number of attempts since the job was created or last replayed.
    pub attempt: u32,
    /// Number of deferrals since the last attempt.
    pub deferrals: u32,
    /// Whether it was deferred until its turn ([`crate::limits::rate`]) and nothing has happened to it since.
    pub turn: Turn,
    /// Total time of its deferrals.
    pub waited: Duration,
    /// Redeliveries since the last attempt, counted until the job was last published again. The broker then counts from
    /// 0 again, and a job that kills the process must not hide behind that.
    pub redeliveries: u32,
    /// Child processes that died while they worked on this job alone, since the last attempt.
    pub deaths: u32,
    /// Number of replays.
    pub replays: u32,
    /// When support last replayed it.
    pub replayed_at: Option<Timestamp>,
    /// When the next attempt was originally due; a deferral does not change it. `None` before the first attempt.
    pub due: Option<Timestamp>,
    /// The rest of a wait that is longer than the longest delay queue's.
    pub remaining: Option<Duration>,
    /// Since when the target has been unknown or disabled.
    pub unknown_since: Option<Timestamp>,
    /// W3C trace context of the event.
    pub traceparent: Option<String>,
    /// The other upstream properties and headers, as JSON text.
    pub upstream: Option<String>,
    /// The latest attempts.
    pub history: History,
    /// The id of this copy; see [`fresh_copy`].
    pub copy: String,
    /// The event's bytes, unchanged.
    pub body: Bytes,
}

/// The parts of an event's message besides its body.
#[derive(Clone, Debug, Default)]
pub struct Envelope {
    /// The upstream `message_id`, if any.
    pub message_id: Option<String>,
    /// W3C trace context, if any.
    pub traceparent: Option<String>,
    /// The other properties and headers, encoded by [`upstream::encode`].
    pub upstream: Option<String>,
}

impl Job {
    /// Creates the job of an event for a target, before its first attempt.
    pub fn new(
        event: &Event,
        organization: &str,
        target: &TargetKey,
        envelope: &Envelope,
        body: Bytes,
        now: Timestamp,
    ) -> Job {
        Job {
            webhook_id: webhook_id(envelope.message_id.as_deref(), event, &body, target),
            kind: event.kind,
            lead: Some(event.lead.clone()).filter(|text| text.len() <= 255),
            submission: Some(event.submission.clone()).filter(|text| text.len() <= 255),
            organization: organization.to_owned(),
            campaign: event.campaign.clone(),
            target: target.clone(),
            event_time: event.time,
            first_seen: now,
            attempt: 0,
            deferrals: 0,
            turn: Turn::None,
            waited: Duration::ZERO,
            redeliveries: 0,
            deaths: 0,
            replays: 0,
            replayed_at: None,
            due: None,
            remaining: None,
            unknown_since: None,
            traceparent: envelope.traceparent.clone(),
            upstream: envelope.upstream.clone(),
            history: History::default(),
            copy: fresh_copy(),
            body,
        }
    }

    /// Returns the event's `leadId` from the job, else from the body.
    pub fn lead_id(&self) -> Option<Cow<'_, str>> {
        self.lead.as_deref().map(Cow::from).or_else(|| self.event().map(|event| Cow::Owned(event.lead)))
    }

    fn event(&self) -> Option<Event> {
        Event::decode(&self.body, None, usize::MAX).ok()
    }

    /// Returns the job after one more attempt that did not deliver it.
    pub fn attempted(&self, entry: HistoryEntry) -> Job {
        let mut next = self.clone();
        next.attempt = entry.attempt;
        next.history.push(entry);
        next.deferrals = 0;
        next.turn = Turn::None;
        next.redeliveries = 0;
        next.deaths = 0;
        next.unknown_since = None;
        next
    }

    /// Returns the job deferred for about `wait`.
    pub fn deferred(&self, wait: Duration) -> Job {
        let mut next = self.clone();
        next.deferrals = next.deferrals.saturating_add(1);
        next.turn = Turn::None;
        next.waited = next.waited.saturating_add(wait);
        // Its target is known now.
        next.unknown_since = None;
        next
    }

    /// Returns the job deferred for about `wait` because its target is unknown or disabled here. The first such
    /// deferral records `now`.
    pub fn deferred_unknown(&self, wait: Duration, now: Timestamp) -> Job {
        let mut next = self.deferred(wait);
        next.unknown_since = self.unknown_since.or(Some(now));
        next
    }

    /// Returns the age of the job: the time since its last replay, else since a worker first saw its event.
    pub fn age(&self, now: Timestamp) -> Duration {
        let since = self.replayed_at.unwrap_or(self.first_seen);
        Duration::try_from(now.duration_since(since)).unwrap_or_default()
    }

    /// Returns how long the next attempt has been due.
    pub fn late(&self, now: Timestamp) -> Duration {
        let due = self.due.or(self.replayed_at).unwrap_or(self.first_seen);
        Duration::try_from(now.duration_since(due)).unwrap_or_default()
    }

    /// Returns the job for another target, with the `webhook-id` that its event would have there.
    pub fn redirected(&self, target: &TargetKey) -> Job {
        let mut next = self.clone();
        next.target = target.clone();
        let upstream = self.upstream.as_deref().and_then(upstream::message_id);
        let upstream = upstream.as_deref().filter(|id| !id.is_empty());
        let event = upstream.and_then(|_| self.event());
        let id = |target| match upstream {
            Some(_) => Some(webhook_id(upstream, event.as_ref()?, &self.body, target)),
            None => Some(body_id(&self.body, target)),
        };
        // The job may have lost the parts that its id was made of.
        let known = id(&self.target).as_ref() == Some(&self.webhook_id);
        next.webhook_id = known.then(|| id(target)).flatten().unwrap_or_else(|| derived_id(&self.webhook_id, target));
        next
    }

    /// Returns the job as support replays it: attempts and age start again, and the history stays.
    pub fn replayed(&self, now: Timestamp) -> Job {
        let mut next = self.clone();
        next.attempt = 0;
        next.deferrals = 0;
        next.turn = Turn::None;
        next.waited = Duration::ZERO;
        next.redeliveries = 0;
        next.deaths = 0;
        next.replays = next.replays.saturating_add(1);
        next.replayed_at = Some(now);
        next.due = None;
        next.remaining = None;
        next.unknown_since = None;
        next
    }
}
