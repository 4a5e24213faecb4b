//! Counts failed jobs by target and reason, and rejected messages by cause, to show where the trouble is.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use serde::Serialize;

use super::record::Record;

/// The jobs to one target that failed for one reason.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Row {
    /// Number of jobs; copies count once.
    pub jobs: u64,
    /// The reason's word.
    pub reason: String,
    /// Error of the last attempt.
    pub error: Option<String>,
    /// The party that can act on it first.
    pub owner: &'static str,
    /// The organization that the events were resolved for.
    pub organization: String,
    /// Target key.
    pub target: String,
    /// When the first of them failed.
    pub oldest: Option<Timestamp>,
    /// When the last of them failed.
    pub newest: Option<Timestamp>,
}

/// Counts failed jobs.
#[derive(Debug, Default)]
pub struct Stats {
    rows: BTreeMap<(String, String, Option<String>), Row>,
    seen: BTreeSet<String>,
    unreadable: u64,
}

impl Stats {
    /// Counts the next record of the queue. Of several copies, the first counts.
    pub fn add(&mut self, record: &Record) {
        let Ok(job) = &record.content else {
            self.unreadable += 1;
            return;
        };
        if !self.seen.insert(job.webhook_id.clone()) {
            return;
        }
        let reason = record.reason.label().to_owned();
        let error = job.history.entries().last().map(|entry| entry.reason.clone());
        let target = job.target.to_string();
        let row = self.rows.entry((target.clone(), reason.clone(), error.clone())).or_insert_with(|| Row {
            jobs: 0,
            reason,
            error,
            owner: record.reason.owner().label(),
            organization: job.organization.clone(),
            target,
            oldest: record.failed_at,
            newest: record.failed_at,
        });
        row.jobs += 1;
        row.oldest = row.oldest.into_iter().chain(record.failed_at).min();
        row.newest = row.newest.into_iter().chain(record.failed_at).max();
    }

    /// Returns the rows, largest first.
    pub fn rows(self) -> Vec<Row> {
        let mut rows: Vec<_> = self.rows.into_values().collect();
        rows.sort_by(|a, b| b.jobs.cmp(&a.jobs).then_with(|| a.target.cmp(&b.target)));
        rows
    }

    /// Returns how many messages are not jobs.
    pub fn unreadable(&self) -> u64 {
        self.unreadable
    }
}

/// The messages that were rejected for one cause.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Cause {
    /// Number of messages.
    pub messages: u64,
    /// The reason's word.
    pub reason: String,
    /// The part of the detail that they share.
    pub detail: Option<String>,
    /// When the first of them was rejected.
    pub first: Option<Timestamp>,
    /// When the last of them was rejected.
    pub last: Option<Timestamp>,
    /// The id of one of them.
    pub example: String,
    /// The fault, and how to repair it.
    pub meaning: &'static str,
}

/// Counts rejected messages by cause.
#[derive(Debug, Default)]
pub struct Causes(BTreeMap<(String, Option<String>), Cause>);

impl Causes {
    /// Counts the next record of the queue.
    pub fn add(&mut self, record: &Record) {
        let reason = record.reason.label().to_owned();
        let detail = record.detail.as_deref().map(|detail| common(detail).to_owned());
        let cause = self.0.entry((reason.clone(), detail.clone())).or_insert_with(|| Cause {
            messages: 0,
            reason,
            detail,
            first: record.failed_at,
            last: record.failed_at,
            example: record.key().to_owned(),
            meaning: record.reason.meaning(),
        });
        cause.messages += 1;
        cause.first = cause.first.into_iter().chain(record.failed_at).min();
        cause.last = cause.last.into_iter().chain(record.failed_at).max();
    }

    /// Returns the causes, largest first.
    pub fn list(self) -> Vec<Cause> {
        let mut causes: Vec<_> = self.0.into_values().collect();
        causes.sort_by_key(|cause| std::cmp::Reverse(cause.messages));
        causes
    }
}

/// Returns a detail without the place or size that differs between messages. It cuts `not well-formed JSON, at line 3
/// column 9` at the comma.
pub fn common(detail: &str) -> &str {
    [", at line ", ", at byte ", ", it has "]
        .iter()
        .find_map(|end| detail.split_once(end))
        .map_or(detail, |(cause, _)| cause)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        dead_letters::record::{Reason, tests::job},
        job::Job,
    };

    #[test]
    fn copies_count_once_and_the_largest_comes_first() {
        let record = |id: &str, reason: &str, second: i64| Record {
            content: Ok(Job { webhook_id: id.to_owned(), ..job() }),
            reason: Reason::Newer(reason.to_owned()),
            detail: None,
            failed_at: Timestamp::from_second(second).ok(),
            deliveries: 0,
        };
        let mut stats = Stats::default();
        for (id, reason, second) in [("a", "one", 5), ("b", "two", 9), ("b", "two", 1), ("c", "two", 3)] {
            stats.add(&record(id, reason, second));
        }
        let rows = stats.rows();
        let shown: Vec<_> = rows.iter().map(|row| (row.jobs, row.reason.as_str())).collect();
        assert_eq!(shown, [(2, "two"), (1, "one")]);
        assert_eq!(rows[0].oldest, Timestamp::from_second(3).ok());
        assert_eq!(rows[0].newest, Timestamp::from_second(9).ok());
    }

    #[test]
    fn messages_with_the_same_cause_are_counted_together_wherever_the_fault_is() {
        let record = |detail: &str, second: i64| Record {
            content: Ok(job()),
            reason: Reason::Rejected(crate::rejection::RejectReason::NotJson),
            detail: Some(detail.to_owned()),
            failed_at: Timestamp::from_second(second).ok(),
            deliveries: 0,
        };
        let mut causes = Causes::default();
        for (detail, second) in [
            ("the body is empty", 7),
            ("not well-formed JSON, at line 3 column 9", 5),
            ("not well-formed JSON, at line 1 column 2", 3),
            ("not UTF-8, at byte 77", 4),
        ] {
            causes.add(&record(detail, second));
        }
        let causes = causes.list();
        let shown: Vec<_> = causes.iter().map(|cause| (cause.messages, cause.detail.as_deref())).collect();
        assert_eq!(shown[0], (2, Some("not well-formed JSON")));
        assert_eq!(shown.len(), 3);
        assert_eq!((causes[0].first, causes[0].last), (Timestamp::from_second(3).ok(), Timestamp::from_second(5).ok()));
    }
}
