//! A list of failed jobs: one line per job, in queue order, in bounded memory.
//!
//! The list keeps the lines to show, and the id of every other job (about 100 bytes). It needs the ids because copies
//! of a job may lie far apart. It drops bodies, histories and headers as soon as it has read a record.

use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet},
};

use jiff::Timestamp;
use serde::Serialize;

use super::{
    filter::Filter,
    record::{Record, Unreadable},
};
use crate::{
    delivery_log::{Delivered, Known},
    job::{HistoryEntry, Job},
};

/// One failed job.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Line {
    /// `webhook-id`.
    pub id: String,
    /// Event name.
    pub event: &'static str,
    /// The organization that the event was resolved for.
    pub organization: String,
    /// The event's campaign.
    pub campaign: String,
    /// Target key.
    pub target: String,
    /// The event's `leadId`.
    pub lead: Option<String>,
    /// The event's `submissionId`, if AMQP can carry it.
    pub submission: Option<String>,
    /// Attempts made since it was first published or last replayed.
    pub attempts: u32,
    /// Number of times support replayed it.
    pub replays: u32,
    /// Result of the last attempt.
    pub last: Option<LastAttempt>,
    /// The reason's word.
    pub reason: String,
    /// The party that can act on it first.
    pub owner: &'static str,
    /// When it came to the failed queue.
    pub failed_at: Option<Timestamp>,
    /// When a worker first saw its event.
    pub first_seen: Timestamp,
    /// When it was delivered, by the delivery log: a crash forked the job, and one copy was delivered.
    pub also_delivered_at: Option<Timestamp>,
    /// Whether the delivery log cannot tell if it was delivered; `None` if the log was not asked.
    pub delivery_unknown: Option<bool>,
    /// Number of messages with this id: more than one if a crash forked the job.
    pub copies: u64,
}

/// Result of the last attempt, without the answer's text, which may echo lead data.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LastAttempt {
    /// When it began.
    pub at: Timestamp,
    /// Word of the outcome: `status`, `timeout` ...
    pub outcome: String,
    /// HTTP status, if there was an answer.
    pub status: Option<u16>,
}

/// A message that is not a job.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct UnreadableLine {
    /// The id that people use: the property `message_id`, or `raw_` and part of a digest.
    pub id: String,
    /// The property `message_id`.
    pub message_id: Option<String>,
    /// The property `type`.
    #[serde(rename = "type")]
    pub kind: Option<String>,
    /// Length of the body in bytes.
    pub bytes: usize,
    /// Why it cannot be read as a job.
    pub problem: String,
    /// The reason's word.
    pub reason: String,
    /// More about the reason.
    pub detail: Option<String>,
    /// When it came to the failed queue.
    pub failed_at: Option<Timestamp>,
}

/// Builds the list from records.
pub struct Listing {
    filter: Filter,
    limit: usize,
    lines: Vec<Line>,
    places: BTreeMap<String, Option<usize>>,
    unreadable: Vec<UnreadableLine>,
    unreadable_count: u64,
    all: BTreeSet<String>,
}

impl Listing {
    /// Creates an empty list for jobs that match `filter`, with at most `limit` lines and as many unreadable messages.
    pub fn new(filter: Filter, limit: usize) -> Listing {
        Listing {
            filter,
            limit,
            lines: Vec::new(),
            places: BTreeMap::new(),
            unreadable: Vec::new(),
            unreadable_count: 0,
            all: BTreeSet::new(),
        }
    }

    /// Adds the next record of the queue.
    pub fn add(&mut self, record: &Record) {
        if let Ok(job) = &record.content {
            self.all.insert(job.webhook_id.clone());
        }
        if !self.filter.matches(record) {
            return;
        }
        match &record.content {
            Ok(job) => self.add_job(record, job),
            Err(unreadable) => {
                self.unreadable_count += 1;
                if self.unreadable.len() < self.limit {
                    self.unreadable.push(unreadable_line(record, unreadable));
                }
            }
        }
    }

    /// Adds a copy of a job. The job stays at the place of its first copy, and shows the copy that failed last.
    fn add_job(&mut self, record: &Record, job: &Job) {
        match self.places.get(&job.webhook_id) {
            None => {
                let place = (self.lines.len() < self.limit).then_some(self.lines.len());
                self.places.insert(job.webhook_id.clone(), place);
                if place.is_some() {
                    self.lines.push(line(record, job, 1));
                }
            }
            Some(place) => {
                let Some(known) = place.and_then(|place| self.lines.get_mut(place)) else { return };
                known.copies += 1;
                if record.failed_at > known.failed_at {
                    *known = line(record, job, known.copies);
                }
            }
        }
    }

    /// Notes what the delivery log says about the jobs to show.
    pub fn delivered(&mut self, known: &Known) {
        for line in &mut self.lines {
            let delivered = known.of(&line.id, line.first_seen);
            line.also_delivered_at = match delivered {
                Delivered::At(at) => Some(at),
                Delivered::Never | Delivered::Unknown => None,
            };
            line.delivery_unknown = Some(delivered == Delivered::Unknown);
        }
    }

    /// Returns the lines to show, in queue order.
    pub fn lines(&self) -> &[Line] {
        &self.lines
    }

    /// Returns how many jobs match, shown or not.
    pub fn matching(&self) -> u64 {
        self.places.len() as u64
    }

    /// Returns the first messages that are not jobs.
    pub fn unreadable(&self) -> &[UnreadableLine] {
        &self.unreadable
    }

    /// Returns how many messages that are not jobs match, shown or not.
    pub fn unreadable_count(&self) -> u64 {
        self.unreadable_count
    }

    /// Returns the ids of all jobs that were added, matching or not.
    pub fn ids(&self) -> &BTreeSet<String> {
        &self.all
    }
}

fn line(record: &Record, job: &Job, copies: u64) -> Line {
    Line {
        id: job.webhook_id.clone(),
        event: job.kind.name(),
        organization: job.organization.clone(),
        campaign: job.campaign.clone(),
        target: job.target.to_string(),
        lead: job.lead_id().map(Cow::into_owned),
        submission: job.submission.clone(),
        attempts: job.attempt,
        replays: job.replays,
        last: job.history.entries().last().map(last_attempt),
        reason: record.reason.label().to_owned(),
        owner: record.reason.owner().label(),
        failed_at: record.failed_at,
        first_seen: job.first_seen,
        also_delivered_at: None,
        delivery_unknown: None,
        copies,
    }
}

fn last_attempt(entry: &HistoryEntry) -> LastAttempt {
    LastAttempt { at: entry.at, outcome: entry.reason.clone(), status: entry.status }
}

fn unreadable_line(record: &Record, unreadable: &Unreadable) -> UnreadableLine {
    UnreadableLine {
        id: unreadable.id.clone(),
        message_id: unreadable.message_id.clone(),
        kind: unreadable.kind.clone(),
        bytes: unreadable.bytes,
        problem: unreadable.problem.clone(),
        reason: record.reason.label().to_owned(),
        detail: record.detail.clone(),
        failed_at: record.failed_at,
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use lapin::BasicProperties;

    use super::*;
    use crate::{
        dead_letters::record::tests::{job, record},
        delivery::reason::FailReason,
        event::EventKind,
        store::TargetKey,
    };

    fn with(id: &str) -> Job {
        Job { webhook_id: id.to_owned(), ..job() }
    }

    fn ids(listing: &Listing) -> Vec<(&str, u64)> {
        listing.lines().iter().map(|line| (line.id.as_str(), line.copies)).collect()
    }

    #[test]
    fn copies_share_a_line_in_queue_order() {
        let mut listing = Listing::new(Filter::default(), 10);
        let mut late = record(&with("a"), FailReason::Gone);
        late.failed_at = late.failed_at.map(|at| at + jiff::SignedDuration::from_secs(60));
        for record in [record(&with("a"), FailReason::Exhausted), record(&with("b"), FailReason::Exhausted), late] {
            listing.add(&record);
        }
        assert_eq!(ids(&listing), [("a", 2), ("b", 1)]);
        assert_eq!(listing.lines()[0].reason, "gone", "the copy that failed last is shown");
        assert_eq!(listing.matching(), 2);
    }

    #[test]
    fn only_so_many_lines_are_kept_and_all_are_counted() {
        let mut listing = Listing::new(Filter::default(), 2);
        for id in ["a", "b", "c", "d", "d", "a"] {
            listing.add(&record(&with(id), FailReason::Exhausted));
        }
        assert_eq!(ids(&listing), [("a", 2), ("b", 1)]);
        assert_eq!((listing.matching(), listing.ids().len()), (4, 4));
    }

    #[test]
    fn filters_take_what_fits_in_every_respect() {
        let other = Job {
            webhook_id: "b".into(),
            organization: "other".into(),
            campaign: "XYZ".into(),
            target: TargetKey::new("other", None, None),
            kind: EventKind::Queued,
            ..job()
        };
        let check = |filter: Filter, expected: &[&str]| {
            let mut listing = Listing::new(filter.clone(), 10);
            listing.add(&record(&with("a"), FailReason::Exhausted));
            listing.add(&record(&other, FailReason::Gone));
            listing.add(&Record::read(&BasicProperties::default(), Bytes::new()));
            let found: Vec<_> = ids(&listing).iter().map(|(id, _)| *id).collect();
            assert_eq!(found, expected, "{filter:?}");
            assert_eq!(listing.unreadable_count(), u64::from(filter.is_empty()), "{filter:?}");
            assert_eq!(listing.ids().len(), 2);
        };
        let text = |text: &str| Some(text.to_owned());
        let at = |second| Timestamp::from_second(second).ok();
        check(Filter::default(), &["a", "b"]);
        check(Filter { campaign: text("ABC"), ..Filter::default() }, &["a"]);
        check(Filter { campaign: text("abc"), ..Filter::default() }, &[]);
        check(Filter { organization: text("other"), ..Filter::default() }, &["b"]);
        check(Filter { target: text("acme/ABC"), ..Filter::default() }, &["a"]);
        check(Filter { target: text("acme"), ..Filter::default() }, &[]);
        check(Filter { event: Some(EventKind::Queued), ..Filter::default() }, &["b"]);
        check(Filter { reason: text("gone"), ..Filter::default() }, &["b"]);
        check(Filter { since: at(1_700_000_009), ..Filter::default() }, &["a", "b"]);
        check(Filter { since: at(1_700_000_010), ..Filter::default() }, &[]);
        check(Filter { before: at(1_700_000_009), ..Filter::default() }, &[]);
        check(Filter { before: at(1_700_000_010), ..Filter::default() }, &["a", "b"]);
        check(Filter { campaign: text("ABC"), reason: text("gone"), ..Filter::default() }, &[]);
    }
}
