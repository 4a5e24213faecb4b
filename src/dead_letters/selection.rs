//! Finds the messages that a filter or a list of ids selects, in one pass before anything changes. So people can see a
//! count before they confirm, and copies of a job that lie far apart are treated as one.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;

use super::{
    filter::Filter,
    given_ids::{GivenIds, Resolved},
    record::Record,
};
use crate::{
    delivery_log::{Delivered, Known},
    job::Job,
};

/// The messages that a person wants to act on.
#[derive(Clone, Debug)]
pub enum Choice {
    /// All messages that match a filter.
    Matching(Filter),
    /// The messages with these ids, or prefixes of ids.
    Named(GivenIds),
}

/// Collects the messages that a choice selects.
#[derive(Debug)]
pub struct Selector {
    choice: Choice,
    /// Keys that may be selected.
    candidates: BTreeMap<String, Chosen>,
    /// Highest number of replays among all copies of a job. Jobs that were never replayed are not in it.
    replays: BTreeMap<String, u32>,
    oldest: Option<Timestamp>,
    unreadable: u64,
    /// Whether a filter also selects messages that are not jobs.
    raw: bool,
}

/// One job or message that is selected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Chosen {
    /// Highest number of replays among all its copies at the time of the selection, including copies that a filter does
    /// not match. A job that fails again meanwhile comes back with a higher number, and is not selected.
    pub replays: u32,
    /// When a worker first saw its event.
    pub first_seen: Timestamp,
    /// Whether it is a job.
    pub is_job: bool,
}

/// The messages that a choice selects.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selection {
    /// The jobs and messages that are selected, by their id.
    pub chosen: BTreeMap<String, Chosen>,
    /// When the oldest of these jobs was first seen.
    pub oldest: Option<Timestamp>,
    /// Messages that match and are not jobs.
    pub unreadable: u64,
    /// How the given ids were understood.
    pub resolved: Resolved,
}

impl Selector {
    /// Creates a selector that has seen nothing yet.
    pub fn new(choice: Choice) -> Selector {
        let (candidates, replays) = (BTreeMap::new(), BTreeMap::new());
        Selector { choice, candidates, replays, oldest: None, unreadable: 0, raw: false }
    }

    /// Sets whether a filter also selects messages that are not jobs.
    pub fn with_raw(self, raw: bool) -> Selector {
        Selector { raw, ..self }
    }

    /// Looks at the next record of the queue.
    pub fn add(&mut self, record: &Record) {
        if let Ok(job) = &record.content
            && job.replays > 0
        {
            let highest = self.replays.entry(job.webhook_id.clone()).or_default();
            *highest = job.replays.max(*highest);
        }
        let wanted = match &self.choice {
            Choice::Matching(filter) => filter.matches(record),
            Choice::Named(given_ids) => given_ids.wants(record.key()),
        };
        if !wanted {
            return;
        }
        let key = record.key();
        match &record.content {
            Ok(job) => {
                let new = Chosen { replays: 0, first_seen: job.first_seen, is_job: true };
                self.candidates.entry(key.to_owned()).or_insert(new);
                self.oldest = Some(self.oldest.map_or(job.first_seen, |oldest| oldest.min(job.first_seen)));
            }
            // A message that is not a job is selected only if it is named, or if `raw` is set.
            Err(_) if self.raw || matches!(self.choice, Choice::Named(_)) => {
                let nothing = Chosen { replays: 0, first_seen: Timestamp::UNIX_EPOCH, is_job: false };
                self.candidates.entry(key.to_owned()).or_insert(nothing);
            }
            Err(_) => self.unreadable += 1,
        }
    }

    /// Returns the result. If an id is ambiguous, nothing is chosen.
    pub fn finish(self) -> Selection {
        let Selector { choice, mut candidates, replays, oldest, unreadable, raw: _ } = self;
        let resolved = match &choice {
            Choice::Matching(_) => Resolved::default(),
            Choice::Named(given_ids) => {
                let ids: BTreeSet<String> = candidates.keys().cloned().collect();
                let resolved = given_ids.resolve(&ids);
                candidates.retain(|id, _| resolved.ambiguous.is_empty() && resolved.found.contains(id));
                resolved
            }
        };
        for (id, chosen) in &mut candidates {
            chosen.replays = replays.get(id).copied().unwrap_or_default();
        }
        Selection { chosen: candidates, oldest, unreadable, resolved }
    }
}

impl Selection {
    /// Returns how many jobs are selected.
    pub fn jobs(&self) -> u64 {
        self.chosen.values().filter(|chosen| chosen.is_job).count() as u64
    }

    /// Returns whether this message is selected. A job that was replayed and failed again since the selection is not.
    pub fn wants(&self, record: &Record) -> Wanted {
        let known = self.chosen.get(record.key());
        match (known, &record.content) {
            (None, _) => Wanted::No,
            (Some(chosen), Ok(job)) if job.replays > chosen.replays => Wanted::CameBack,
            (Some(_), _) => Wanted::Yes,
        }
    }

    /// Returns the number of replays to publish a job with: one more than any of its copies has. It tells the job from
    /// them when it fails again.
    pub fn replays_after(&self, job: &Job) -> u32 {
        let highest = self.chosen.get(&job.webhook_id).map_or(0, |chosen| chosen.replays);
        highest.max(job.replays).saturating_add(1)
    }
}

/// How many jobs the delivery log excluded from a selection, or could not tell about.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Excluded {
    /// Jobs that were also delivered; removed from the selection.
    pub delivered: u64,
    /// Jobs for which the log cannot tell; kept.
    pub unknown: u64,
}

impl Selection {
    /// Returns the ids that are selected.
    pub fn ids(&self) -> BTreeSet<&str> {
        self.chosen.keys().map(String::as_str).collect()
    }

    /// Removes jobs that were also delivered, under their id or under the id that `elsewhere` returns for it.
    pub fn exclude_delivered<'a>(&mut self, known: &Known, elsewhere: impl Fn(&str) -> Option<&'a str>) -> Excluded {
        let mut excluded = Excluded::default();
        let of = |id: &str, first_seen| match elsewhere(id).map(|id| known.of(id, first_seen)) {
            Some(Delivered::At(at)) => Delivered::At(at),
            _ => known.of(id, first_seen),
        };
        self.chosen.retain(|id, chosen| match of(id, chosen.first_seen) {
            Delivered::Never => true,
            Delivered::Unknown => {
                excluded.unknown += 1;
                true
            }
            Delivered::At(_) => {
                excluded.delivered += 1;
                false
            }
        });
        excluded
    }

    /// Keeps only jobs that were also delivered.
    pub fn keep_delivered(&mut self, known: &Known) {
        self.chosen.retain(|id, chosen| matches!(known.of(id, chosen.first_seen), Delivered::At(_)));
    }
}

/// Whether a message is selected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// It is.
    Yes,
    /// It is not.
    No,
    /// It was, but it has been replayed and has failed again since.
    CameBack,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        dead_letters::record::{Reason, Unreadable, tests::job},
        delivery::reason::FailReason,
    };

    fn record(id: &str, replays: u32) -> Record {
        let content = Ok(Job { webhook_id: id.to_owned(), replays, ..job() });
        Record { content, reason: Reason::Unsaid, detail: None, failed_at: None, deliveries: 0 }
    }

    fn foreign(id: &str) -> Record {
        let unreadable = Unreadable {
            problem: String::new(),
            message_id: Some(id.to_owned()),
            id: id.to_owned(),
            digest: String::new(),
            kind: None,
            bytes: 0,
        };
        Record { content: Err(unreadable), ..record("", 0) }
    }

    fn selection(choice: Choice, records: &[Record]) -> Selection {
        let mut selector = Selector::new(choice);
        records.iter().for_each(|record| selector.add(record));
        selector.finish()
    }

    #[test]
    fn a_filter_means_jobs_and_counts_the_rest() {
        let records = [record("wh_a", 0), record("wh_b", 1), record("wh_a", 2), foreign("x")];
        let selection = selection(Choice::Matching(Filter::default()), &records);
        let replays: Vec<_> = selection.chosen.iter().map(|(id, chosen)| (id.as_str(), chosen.replays)).collect();
        assert_eq!(replays, [("wh_a", 2), ("wh_b", 1)]);
        assert_eq!(selection.unreadable, 1);
    }

    #[test]
    fn copies_count_whether_a_filter_matches_them_or_not() {
        let gone = |id, replays| Record { reason: Reason::Known(FailReason::Gone), ..record(id, replays) };
        let records = [record("wh_a", 3), gone("wh_a", 0), record("wh_a", 1), gone("wh_b", 1), record("wh_c", 2)];
        let filter = Filter { reason: Some("gone".into()), ..Filter::default() };
        let selection = selection(Choice::Matching(filter), &records);
        let replays: Vec<_> = selection.chosen.iter().map(|(id, chosen)| (id.as_str(), chosen.replays)).collect();
        assert_eq!(replays, [("wh_a", 3), ("wh_b", 1)]);
        assert_eq!(records.map(|record| selection.wants(&record))[..2], [Wanted::Yes, Wanted::Yes], "both are wanted");
    }

    #[test]
    fn an_export_means_what_is_no_job_too() {
        let mut selector = Selector::new(Choice::Matching(Filter::default())).with_raw(true);
        [record("wh_a", 0), foreign("x")].iter().for_each(|record| selector.add(record));
        let selection = selector.finish();
        assert_eq!((selection.chosen.len(), selection.jobs(), selection.unreadable), (2, 1, 0));
    }

    #[test]
    fn who_names_a_message_means_it_whatever_it_is() {
        let named = |said: &str| Choice::Named(GivenIds::new(&[said.to_owned()]).unwrap());
        let records = [record("wh_aaaaaa", 0), record("wh_aaaabb", 0), foreign("foreign")];
        assert_eq!(selection(named("foreign"), &records).chosen.len(), 1);
        let ambiguous = selection(named("wh_aaaa"), &records);
        assert!(ambiguous.chosen.is_empty() && ambiguous.resolved.ambiguous.len() == 1);
    }

    #[test]
    fn what_was_delivered_is_left_and_what_is_unknown_is_not() {
        let at = |second| Timestamp::from_second(second).unwrap();
        let first_seen = job().first_seen;
        let asked = || selection(Choice::Matching(Filter::default()), &[record("wh_a", 0), record("wh_b", 0)]);
        let known = Known::new(Some(first_seen), BTreeMap::from([("wh_a".to_owned(), at(9))]));
        let mut rest = asked();
        assert_eq!(rest.exclude_delivered(&known, |_| None), Excluded { delivered: 1, unknown: 0 });
        assert_eq!(rest.ids(), BTreeSet::from(["wh_b"]));
        assert_eq!(asked().exclude_delivered(&Known::default(), |_| None), Excluded { delivered: 0, unknown: 2 });
        let elsewhere = |id: &str| (id == "wh_b").then_some("wh_a");
        assert_eq!(
            asked().exclude_delivered(&known, elsewhere),
            Excluded { delivered: 2, unknown: 0 },
            "the new id counts"
        );
        let mut kept = asked();
        kept.keep_delivered(&known);
        assert_eq!(kept.ids(), BTreeSet::from(["wh_a"]));
    }

    #[test]
    fn what_failed_anew_since_is_another_matter() {
        let selection = selection(Choice::Matching(Filter::default()), &[record("wh_a", 1)]);
        let wants = [record("wh_a", 0), record("wh_a", 1), record("wh_a", 2), record("wh_b", 0)];
        let wants = wants.map(|record| selection.wants(&record));
        assert_eq!(wants, [Wanted::Yes, Wanted::Yes, Wanted::CameBack, Wanted::No]);
    }
}
