//! Turns records into deliveries: what is known about each job, and its current state.
//!
//! Records of several workers arrive in the order in which they were sent. That is not quite the order in which things
//! happened. The records' own times order them, as far as clocks agree.

use std::{
    collections::{HashMap, hash_map},
    hash::{BuildHasher, RandomState},
};

use jiff::Timestamp;
use serde::Serialize;

use super::entry::{Entry, What};

/// Multiple of the limit that is kept while reading. A dropped delivery that appears again has only its latest record.
const SPARE: usize = 4;

/// Most dropped deliveries whose delivery time is remembered. Each takes about 20 bytes.
const REMEMBERED: usize = 1_000_000;

/// One delivery as the log shows it: a job, or an event that did not become a job.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Delivery {
    /// `webhook-id`; `None` for an event that did not become a job.
    pub id: Option<String>,
    /// Current state, by the latest record.
    pub state: What,
    /// Time of the latest record.
    pub at: Timestamp,
    /// Event name.
    pub event: Option<String>,
    /// The event's `leadId`.
    pub lead: Option<String>,
    /// The event's `submissionId`.
    pub submission: Option<String>,
    /// The event's campaign.
    pub campaign: Option<String>,
    /// The organization.
    pub organization: Option<String>,
    /// Target key.
    pub target: Option<String>,
    /// Number of the latest attempt.
    pub attempt: Option<u32>,
    /// Attempts that the target allows.
    pub of: Option<u32>,
    /// Status of the latest attempt.
    pub status: Option<u16>,
    /// Error of the latest attempt, if it did not deliver.
    pub error: Option<String>,
    /// Why it ended, was deferred or rejected, or has no target.
    pub reason: Option<String>,
    /// The person who caused the latest record, if it was a person.
    pub by: Option<String>,
    /// When the next attempt is due.
    pub next: Option<Timestamp>,
    /// When it was first delivered, if it was.
    pub delivered_at: Option<Timestamp>,
    /// Number of its records that were read.
    pub records: u64,
}

impl Delivery {
    fn new(entry: &Entry<'_>) -> Delivery {
        let own = |text: &Option<std::borrow::Cow<'_, str>>| text.as_deref().map(str::to_owned);
        Delivery {
            id: own(&entry.id),
            state: entry.what,
            at: entry.time(),
            event: own(&entry.event),
            lead: own(&entry.lead),
            submission: own(&entry.submission),
            campaign: own(&entry.campaign),
            organization: own(&entry.organization),
            target: own(&entry.target),
            attempt: entry.attempt,
            of: entry.of,
            status: entry.status,
            error: own(&entry.error),
            reason: own(&entry.reason),
            by: own(&entry.by),
            next: entry.next_time(),
            delivered_at: (entry.what == What::Delivered).then(|| entry.time()),
            records: 1,
        }
    }

    /// Adds another record of the same job.
    fn hear(&mut self, entry: &Entry<'_>) {
        let delivered_at = match (self.delivered_at, entry.what) {
            (Some(known), What::Delivered) => Some(known.min(entry.time())),
            (None, What::Delivered) => Some(entry.time()),
            (known, _) => known,
        };
        let records = self.records + 1;
        if entry.time() >= self.at {
            let before = std::mem::replace(self, Delivery::new(entry));
            // A record may lack the lead, and a deferral says nothing about the attempts before it.
            self.lead = self.lead.take().or(before.lead);
            if self.state == What::Deferred {
                self.attempt = self.attempt.or(before.attempt);
                self.of = self.of.or(before.of);
            }
        }
        self.delivered_at = delivered_at;
        self.records = records;
    }
}

/// The latest deliveries among the records, in bounded memory.
#[derive(Debug)]
pub struct Deliveries {
    limit: usize,
    states: Vec<What>,
    error: Option<String>,
    /// Jobs by their id, and events without a job by number.
    known: HashMap<Key, Delivery>,
    nameless: u64,
    dropped: bool,
    /// When dropped jobs were delivered, by the hash of their key. Such a job may appear again.
    delivered: HashMap<u64, Timestamp>,
    hasher: RandomState,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Key {
    Job(String),
    Nameless(u64),
}

impl Deliveries {
    /// Collects at most `limit` deliveries: those whose state is in `states` (any state if empty). With `error`, only
    /// those whose latest error or reason is that word.
    pub fn new(limit: usize, states: Vec<What>, error: Option<String>) -> Deliveries {
        Deliveries {
            limit: limit.max(1),
            states,
            error,
            known: HashMap::new(),
            nameless: 0,
            dropped: false,
            delivered: HashMap::new(),
            hasher: RandomState::new(),
        }
    }

    /// Adds a record.
    pub fn add(&mut self, entry: &Entry<'_>) {
        if entry.what == What::Revealed {
            return;
        }
        let key = match &entry.id {
            Some(id) => Key::Job(id.clone().into_owned()),
            None => {
                self.nameless += 1;
                Key::Nameless(self.nameless)
            }
        };
        match self.known.entry(key) {
            hash_map::Entry::Occupied(mut known) => known.get_mut().hear(entry),
            hash_map::Entry::Vacant(place) => {
                let mut new = Delivery::new(entry);
                if let Some(at) = self.delivered.remove(&self.hasher.hash_one(place.key())) {
                    new.delivered_at = Some(new.delivered_at.map_or(at, |other| other.min(at)));
                }
                place.insert(new);
            }
        }
        if self.known.len() >= self.limit.saturating_mul(2 * SPARE) {
            self.prune(self.limit.saturating_mul(SPARE));
        }
    }

    /// Drops deliveries that are not asked for, and keeps the latest `keep` of the others.
    fn prune(&mut self, keep: usize) {
        let Deliveries { states, error, delivered, hasher, .. } = self;
        let mut dropped = |key: &Key, delivery: &Delivery| {
            if let (Key::Job(_), Some(at)) = (key, delivery.delivered_at)
                && delivered.len() < REMEMBERED
            {
                delivered.insert(hasher.hash_one(key), at);
            }
        };
        let wanted = |delivery: &Delivery| {
            let said = [&delivery.error, &delivery.reason];
            (states.is_empty() || states.contains(&delivery.state))
                && error.as_ref().is_none_or(|error| said.contains(&&Some(error.clone())))
        };
        self.known.retain(|key, delivery| {
            let keep = wanted(delivery);
            if !keep {
                dropped(key, delivery);
            }
            keep
        });
        if self.known.len() > keep {
            self.dropped = true;
            let mut all: Vec<_> = self.known.drain().collect();
            all.select_nth_unstable_by(keep, |(_, a), (_, b)| b.at.cmp(&a.at));
            all.drain(keep..).for_each(|(key, delivery)| dropped(&key, &delivery));
            self.known.extend(all);
        }
    }

    /// Returns the latest deliveries, newest first, and whether there were more.
    pub fn finish(mut self) -> (Vec<Delivery>, bool) {
        self.prune(usize::MAX);
        let mut all: Vec<_> = self.known.into_values().collect();
        all.sort_by(|a, b| b.at.cmp(&a.at).then_with(|| a.id.cmp(&b.id)));
        let more = self.dropped || all.len() > self.limit;
        all.truncate(self.limit);
        (all, more)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(id: &'static str, what: What, second: i64) -> Entry<'static> {
        let named = (!id.is_empty()).then(|| id.into());
        Entry { id: named, ..Entry::new(what, Timestamp::from_second(second).unwrap()) }
    }

    fn told(entries: &[Entry<'_>], limit: usize, states: &[What], error: Option<&str>) -> (Vec<String>, bool) {
        let mut deliveries = Deliveries::new(limit, states.to_vec(), error.map(str::to_owned));
        entries.iter().for_each(|entry| deliveries.add(entry));
        let (all, more) = deliveries.finish();
        let shown = |one: Delivery| format!("{} {}", one.id.as_deref().unwrap_or("-"), one.state.name());
        (all.into_iter().map(shown).collect(), more)
    }

    #[test]
    fn a_delivery_stands_as_its_latest_record_says_whatever_came_first() {
        let records = [
            entry("a", What::Retry, 1),
            entry("b", What::Delivered, 4),
            entry("a", What::Delivered, 9),
            entry("a", What::Retry, 5),
        ];
        assert_eq!(told(&records, 9, &[], None), (vec!["a delivered".into(), "b delivered".into()], false));
    }

    #[test]
    fn what_failed_after_it_was_delivered_was_delivered_all_the_same() {
        let mut deliveries = Deliveries::new(1, Vec::new(), None);
        for record in [entry("a", What::Delivered, 1), entry("a", What::Failed, 2), entry("a", What::Delivered, 3)] {
            deliveries.add(&record);
        }
        let (all, _) = deliveries.finish();
        assert_eq!(all[0].delivered_at, Timestamp::from_second(1).ok());
        assert_eq!(all[0].records, 3);
    }

    #[test]
    fn the_state_that_counts_is_the_last_one() {
        let records = [entry("a", What::Failed, 1), entry("a", What::Replayed, 2), entry("b", What::Failed, 3)];
        assert_eq!(told(&records, 9, &[What::Failed], None).0, ["b failed"]);
        assert_eq!(told(&records, 9, &[What::Failed, What::Replayed], None).0, ["b failed", "a replayed"]);
    }

    #[test]
    fn errors_are_found_among_attempts_and_ends() {
        let timeout =
            Entry { error: Some("timeout".into()), reason: Some("exhausted".into()), ..entry("a", What::Failed, 1) };
        let records = [timeout, entry("b", What::Failed, 2)];
        assert_eq!(told(&records, 9, &[], Some("timeout")).0, ["a failed"]);
        assert_eq!(told(&records, 9, &[], Some("exhausted")).0, ["a failed"]);
        assert!(told(&records, 9, &[], Some("status")).0.is_empty());
    }

    #[test]
    fn the_newest_are_kept_and_nothing_grows() {
        let ids: Vec<&'static str> = (0..1000).map(|n| &*Box::leak(format!("{n:03}").into_boxed_str())).collect();
        let mut deliveries = Deliveries::new(3, Vec::new(), None);
        for (n, id) in ids.iter().enumerate() {
            deliveries.add(&entry(id, What::Delivered, i64::try_from(n).unwrap()));
            assert!(deliveries.known.len() < 3 * 2 * SPARE);
        }
        let (all, more) = deliveries.finish();
        assert_eq!(all.iter().map(|one| one.id.as_deref().unwrap()).collect::<Vec<_>>(), ["999", "998", "997"]);
        assert!(more);
    }

    #[test]
    fn who_looks_changes_nothing() {
        assert_eq!(told(&[entry("a", What::Failed, 1), entry("a", What::Revealed, 2)], 9, &[], None).0, ["a failed"]);
    }

    #[test]
    fn nothing_grows_where_all_happens_at_once() {
        let ids: Vec<&'static str> = (0..1000).map(|n| &*Box::leak(format!("{n:03}").into_boxed_str())).collect();
        let mut deliveries = Deliveries::new(3, Vec::new(), None);
        for id in ids {
            deliveries.add(&entry(id, What::Retry, 7));
            assert!(deliveries.known.len() < 3 * 2 * SPARE);
        }
    }

    #[test]
    fn what_was_dropped_and_speaks_again_was_delivered_all_the_same() {
        let mut deliveries = Deliveries::new(1, vec![What::Failed], None);
        deliveries.add(&entry("a", What::Delivered, 1));
        let others: Vec<&'static str> = (0..100).map(|n| &*Box::leak(format!("o{n}").into_boxed_str())).collect();
        others.iter().for_each(|id| deliveries.add(&entry(id, What::Retry, 2)));
        assert!(!deliveries.known.contains_key(&Key::Job("a".to_owned())));
        deliveries.add(&entry("a", What::Failed, 3));
        let (told, _) = deliveries.finish();
        let told: Vec<_> = told.iter().map(|one| (one.state, one.delivered_at.map(|at| at.as_second()))).collect();
        assert_eq!(told, [(What::Failed, Some(1))]);
    }

    #[test]
    fn events_that_became_no_job_stand_by_themselves() {
        let records = [entry("", What::NoTarget, 1), entry("", What::Rejected, 1)];
        assert_eq!(told(&records, 9, &[], None).0.len(), 2);
    }
}
