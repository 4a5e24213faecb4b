//! Decides what a replay does with each message that it holds, from the jobs that it has published so far.
//!
//! A worker's crash can fork a job into copies with the same `webhook-id`. A replay publishes one copy and removes the
//! others. A job that fails again *during* the replay comes back under the same id. It must not be taken for such a
//! copy, or it would be lost. So a job is published with one replay more than any copy that the selection saw (see
//! `selection::Selection::wants`).

use std::collections::BTreeMap;

use crate::job::Job;

/// The jobs that this replay published and that were confirmed: the number of replays that each got, by `webhook-id`.
#[derive(Debug, Default)]
pub struct Ledger(BTreeMap<String, u32>);

/// One job to publish, and the messages to remove after the confirm. Numbers are indices into the batch.
#[derive(Debug, PartialEq, Eq)]
pub struct Group {
    /// The copy to publish: the one with the most replays, or the first of several.
    pub chosen: usize,
    /// All copies, including the chosen one.
    pub all: Vec<usize>,
}

/// The work for one batch.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// Jobs to publish, in the order of their first copies.
    pub groups: Vec<Group>,
    /// Copies to remove, because their job was published and confirmed before.
    pub copies: Vec<usize>,
}

impl Ledger {
    /// Plans a batch of jobs that the selection wants, without those that came back.
    pub fn plan<'a>(&self, jobs: impl IntoIterator<Item = (usize, &'a Job)>) -> Plan {
        let mut plan = Plan::default();
        let mut places: BTreeMap<&str, (usize, u32)> = BTreeMap::new();
        for (at, job) in jobs {
            let id = job.webhook_id.as_str();
            match (self.0.get(id), places.get_mut(id)) {
                (Some(_), _) => plan.copies.push(at),
                (None, None) => {
                    places.insert(id, (plan.groups.len(), job.replays));
                    plan.groups.push(Group { chosen: at, all: vec![at] });
                }
                (None, Some((place, replays))) => {
                    // `places` holds indices of `groups` only.
                    let Some(group) = plan.groups.get_mut(*place) else { continue };
                    group.all.push(at);
                    if job.replays > *replays {
                        (group.chosen, *replays) = (at, job.replays);
                    }
                }
            }
        }
        plan
    }

    /// Returns whether this is a copy of a job that was published and confirmed before.
    pub fn has_published(&self, job: &Job) -> bool {
        self.0.get(&job.webhook_id).is_some_and(|published| job.replays < *published)
    }

    /// Notes that a job was confirmed. `id` is its id on the failed queue, and `published` the job as it was published.
    pub fn confirmed(&mut self, id: &str, published: &Job) {
        self.0.insert(id.to_owned(), published.replays);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dead_letters::record::tests::job;

    fn with(id: &str, replays: u32) -> Job {
        Job { webhook_id: id.to_owned(), replays, ..job() }
    }

    fn plan(ledger: &Ledger, jobs: &[Job]) -> Plan {
        ledger.plan(jobs.iter().enumerate())
    }

    #[test]
    fn copies_are_published_as_one() {
        let ledger = Ledger::default();
        let plan = plan(&ledger, &[with("a", 0), with("b", 0), with("a", 2), with("a", 1)]);
        let groups = vec![Group { chosen: 2, all: vec![0, 2, 3] }, Group { chosen: 1, all: vec![1] }];
        assert_eq!(plan, Plan { groups, ..Plan::default() });
    }

    #[test]
    fn a_copy_met_later_is_removed() {
        let mut ledger = Ledger::default();
        ledger.confirmed("a", &with("a", 1));
        assert_eq!(plan(&ledger, &[with("a", 0)]), Plan { copies: vec![0], ..Plan::default() });
    }

    #[test]
    fn a_job_that_failed_again_meanwhile_is_no_copy() {
        let mut ledger = Ledger::default();
        ledger.confirmed("a", &with("a", 3));
        let published = [0, 2, 3, 7].map(|replays| ledger.has_published(&with("a", replays)));
        assert_eq!(published, [true, true, false, false]);
        assert!(!ledger.has_published(&with("b", 0)));
    }

    #[test]
    fn what_was_not_confirmed_is_no_excuse_to_remove() {
        assert!(plan(&Ledger::default(), &[with("a", 0)]).copies.is_empty());
    }
}
