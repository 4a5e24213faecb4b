//! One event on its way to one target: what a job carries, and how it stands in a message.
//!
//! A job is built from an allow-list: only what is named here travels on, whatever upstream or the broker put into the
//! message it came from. Nothing secret is in it: the target is named by key and looked up anew at each attempt.

mod codec;
mod history;
mod id;
#[cfg(test)]
mod tests;
pub mod upstream;

use std::{borrow::Cow, time::Duration};

use bytes::Bytes;
use jiff::Timestamp;

use self::id::{body_id, derived_id};
pub use self::{
    codec::{Malformed, header},
    history::{History, HistoryEntry},
    id::{fresh_copy, is_beginning, webhook_id},
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
    /// Names the job for ever; see [`webhook_id`].
    pub webhook_id: String,
    /// Which event.
    pub kind: EventKind,
    /// The event's `leadId`, where it has at most 255 bytes; none on a job that an older Leadhook wrote.
    pub lead: Option<String>,
    /// The event's `submissionId`, where AMQP can carry it (255 bytes).
    pub submission: Option<String>,
    /// The organization it was resolved for; the target must still belong to it at each attempt.
    pub organization: String,
    /// The event's campaign.
    pub campaign: String,
    /// Where it goes.
    pub target: TargetKey,
    /// When the event happened, by upstream's clock; none if its `timestamp` cannot be read.
    pub event_time: Option<Timestamp>,
    /// When a worker first saw the event.
    pub first_seen: Timestamp,
    /// Attempts made since it was first published or last replayed.
    pub attempt: u32,
    /// Times deferred since the last attempt.
    pub deferrals: u32,
    /// Whether it was deferred until its turn ([`crate::limits::rate`]), and nothing else has happened to it since.
    pub turn: Turn,
    /// How long it has been deferred for altogether.
    pub waited: Duration,
    /// Redeliveries since its last attempt, up to the last time it was put back. The broker counts from 0 again then,
    /// and a job that kills the process must not hide behind that.
    pub redeliveries: u32,
    /// Child processes that died while they worked on this job alone, since its last attempt.
    pub deaths: u32,
    /// Times support put it back.
    pub replays: u32,
    /// When support put it back last.
    pub replayed_at: Option<Timestamp>,
    /// When the next attempt was due first: a deferral does not move it. None before the first attempt.
    pub due: Option<Timestamp>,
    /// What is left of a wait beyond the longest rung.
    pub remaining: Option<Duration>,
    /// Since when its target is unknown or disabled.
    pub unknown_since: Option<Timestamp>,
    /// W3C trace context of the event.
    pub traceparent: Option<String>,
    /// The other upstream properties and headers, as JSON text.
    pub upstream: Option<String>,
    /// What happened so far.
    pub history: History,
    /// This copy's own id; see [`fresh_copy`].
    pub copy: String,
    /// The event's bytes, untouched.
    pub body: Bytes,
}

/// What came with an event besides its body.
#[derive(Clone, Debug, Default)]
pub struct Envelope {
    /// The upstream `message_id`, if any.
    pub message_id: Option<String>,
    /// W3C trace context, if any.
    pub traceparent: Option<String>,
    /// The rest, encoded; see [`upstream::encode`].
    pub upstream: Option<String>,
}

impl Job {
    /// The job of an event for a target, no attempt made.
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

    /// The event's `leadId`: as it was noted, or as the body says.
    pub fn lead_id(&self) -> Option<Cow<'_, str>> {
        self.lead.as_deref().map(Cow::from).or_else(|| self.event().map(|event| Cow::Owned(event.lead)))
    }

    fn event(&self) -> Option<Event> {
        Event::decode(&self.body, None, usize::MAX).ok()
    }

    /// The job after one more attempt that did not deliver it.
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

    /// The job deferred for about `wait`.
    pub fn deferred(&self, wait: Duration) -> Job {
        let mut next = self.clone();
        next.deferrals = next.deferrals.saturating_add(1);
        next.turn = Turn::None;
        next.waited = next.waited.saturating_add(wait);
        // Its target was known just now.
        next.unknown_since = None;
        next
    }

    /// The same for a job whose target is unknown or disabled here: from `now` on, unless it was before.
    pub fn deferred_unknown(&self, wait: Duration, now: Timestamp) -> Job {
        let mut next = self.deferred(wait);
        next.unknown_since = self.unknown_since.or(Some(now));
        next
    }

    /// How old the job is: since its event was first seen, or since support put it back.
    pub fn age(&self, now: Timestamp) -> Duration {
        let since = self.replayed_at.unwrap_or(self.first_seen);
        Duration::try_from(now.duration_since(since)).unwrap_or_default()
    }

    /// For how long the next attempt has been due.
    pub fn late(&self, now: Timestamp) -> Duration {
        let due = self.due.or(self.replayed_at).unwrap_or(self.first_seen);
        Duration::try_from(now.duration_since(due)).unwrap_or_default()
    }

    /// The same job for another target, under the id that its event has there: as if the event came now.
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
        // The parts of the id can have been lost on the way.
        let known = id(&self.target).as_ref() == Some(&self.webhook_id);
        next.webhook_id = known.then(|| id(target)).flatten().unwrap_or_else(|| derived_id(&self.webhook_id, target));
        next
    }

    /// The job as support puts it back: attempts and age start anew, the history stays.
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
