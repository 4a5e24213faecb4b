//! Putting failed jobs back onto the jobs queue: publish, wait for the confirm, and only then remove.
//!
//! Killed at any place, a replay loses nothing: what was not published stays failed, and what was published but not removed
//! is both waiting for delivery and failed (a duplicate under the same `webhook-id`, if it is replayed once more).
//!
//! **Acks are made sure of.** A busy RabbitMQ works acks off with a delay, and forgets the rest when the channel closes
//! (measured on 3.10: 17 of 600 came back). So a replay looks once more at what is left, and removes what it had published
//! before; see [`Replay::make_sure`].

use std::collections::BTreeSet;

use futures::{StreamExt, stream};
use lapin::types::ShortString;
use serde::Serialize;

use super::{
    ledger::{Group, Ledger},
    selection::{Resolved, Selection},
    visit::{Held, Visit, VisitError},
    wear::{Renewer, is_worn},
};
use crate::{
    broker::publisher::{PublishError, Publisher},
    failpoint,
    job::Job,
};

/// Confirms under way at the same time.
const IN_FLIGHT: usize = 200;

/// Acks on one channel that a broker takes in for sure: it begins to hold them back above 32.
const SURE: u64 = 16;

/// Most looks at what is left. Each leaves only acks of the look before.
const LOOKS: usize = 10;

/// What a replay came to.
#[derive(Debug, Default, Serialize)]
pub struct Tally {
    /// Jobs published and confirmed.
    pub replayed: u64,
    /// Further copies of them that were removed with them.
    pub copies_removed: u64,
    /// Jobs that failed again while the replay ran; left on the failed queue.
    pub failed_again: u64,
    /// Messages that are no jobs; left on the failed queue.
    pub unreadable: u64,
    /// Jobs whose publishing was not confirmed; left on the failed queue.
    pub not_published: u64,
    /// Messages that could not be removed after the confirm: they are on the failed queue still, and will be delivered too.
    pub not_removed: u64,
    /// Why publishing failed first. The replay ends with the batch in which that happened.
    #[serde(skip)]
    pub problem: Option<PublishError>,
}

/// A replay at work.
pub struct Replay<'a> {
    publisher: &'a Publisher,
    jobs: &'a ShortString,
    ledger: Ledger,
    /// Acks since the visit began, or began anew.
    acked: u64,
    /// What was done so far.
    pub tally: Tally,
}

impl<'a> Replay<'a> {
    /// A replay to the queue `jobs`.
    pub fn new(publisher: &'a Publisher, jobs: &'a ShortString) -> Replay<'a> {
        Replay { publisher, jobs, ledger: Ledger::default(), acked: 0, tally: Tally::default() }
    }

    /// Replays every job of the visit, batch by batch; `seen` is called with the size of each batch.
    ///
    /// # Errors
    /// The visit was broken off; what had been confirmed was counted.
    pub async fn all(
        &mut self,
        visit: &mut Visit,
        renewer: &mut Renewer<'_>,
        seen: impl Fn(u64),
    ) -> Result<(), VisitError> {
        loop {
            let batch = visit.next().await?;
            if batch.is_empty() || self.tally.problem.is_some() {
                return Ok(());
            }
            for held in batch.iter().filter(|held| held.record.content.is_err()) {
                self.tally.unreadable += 1;
                if is_worn(&held.record) {
                    renewer.renew(held).await;
                }
            }
            self.put_back(&batch).await;
            seen(batch.len() as u64);
        }
    }

    /// Replays the selected jobs, once the whole visit has been looked through: only then it is known what a beginning of an
    /// id means. Where anything is ambiguous, nothing is replayed.
    ///
    /// # Errors
    /// As [`Replay::all`]; nothing was replayed.
    pub async fn selected(
        &mut self,
        selection: &Selection,
        visit: &mut Visit,
        renewer: &mut Renewer<'_>,
        seen: impl Fn(u64),
    ) -> Result<Resolved, VisitError> {
        let mut wanted = Vec::new();
        loop {
            let batch = visit.next().await?;
            if batch.is_empty() {
                break;
            }
            seen(batch.len() as u64);
            for held in batch {
                match held.record.key() {
                    Some(key) if selection.wants(key) => wanted.push(held),
                    _ if is_worn(&held.record) => renewer.renew(&held).await,
                    _ => {}
                }
            }
        }
        let ids: BTreeSet<String> = wanted.iter().filter_map(|held| held.record.key().map(str::to_owned)).collect();
        let resolved = selection.resolve(&ids);
        if resolved.ambiguous.is_empty() {
            wanted.retain(|held| held.record.key().is_some_and(|key| resolved.found.contains(key)));
            self.tally.unreadable += wanted.iter().filter(|held| held.record.content.is_err()).count() as u64;
            self.put_back(&wanted).await;
        }
        Ok(resolved)
    }

    /// Makes sure that what was removed is gone, and ends the visit.
    ///
    /// # Errors
    /// As [`Replay::all`]; some of what was replayed may be on the failed queue still.
    pub async fn make_sure(&mut self, mut visit: Visit) -> Result<(), VisitError> {
        for _ in 0..LOOKS {
            if self.acked <= SURE {
                break;
            }
            self.acked = 0;
            visit.again().await?;
            loop {
                let batch = visit.next().await?;
                if batch.is_empty() {
                    break;
                }
                let again = self.ledger.plan(jobs_of(&batch)).copies;
                self.acked += remove(again.iter().filter_map(|at| batch.get(*at))).await;
            }
        }
        visit.leave().await;
        Ok(())
    }

    /// Publishes the jobs among these messages and removes each with its copies when it is confirmed.
    async fn put_back(&mut self, held: &[Held]) {
        let plan = self.ledger.plan(jobs_of(held));
        self.tally.failed_again += plan.returned.len() as u64;
        let removed = remove(plan.copies.iter().filter_map(|at| held.get(*at))).await;
        self.tally.copies_removed += removed;
        self.acked += removed;
        self.tally.not_removed += plan.copies.len() as u64 - removed;
        let (publisher, queue) = (self.publisher, self.jobs);
        let work = stream::iter(plan.groups).filter_map(async |group| {
            let job = held.get(group.chosen)?.record.content.as_ref().ok()?.replayed(jiff::Timestamp::now());
            Some((group, job))
        });
        let done = work.map(async |(group, job)| publish_then_remove(publisher, queue, held, &group, job).await);
        let mut done = std::pin::pin!(done.buffer_unordered(IN_FLIGHT));
        while let Some(done) = done.next().await {
            match done {
                Ok(Done { job, removed, left }) => {
                    self.ledger.confirmed(&job);
                    self.tally.replayed += 1;
                    self.tally.copies_removed += removed.saturating_sub(1);
                    self.acked += removed;
                    self.tally.not_removed += left;
                }
                Err(error) => {
                    self.tally.not_published += 1;
                    self.tally.problem.get_or_insert(error);
                }
            }
        }
    }
}

/// The jobs among these messages, with their places.
fn jobs_of(held: &[Held]) -> impl Iterator<Item = (usize, &Job)> {
    held.iter().enumerate().filter_map(|(at, held)| Some((at, held.record.content.as_ref().ok()?)))
}

/// One job is on the jobs queue.
struct Done {
    job: Job,
    removed: u64,
    left: u64,
}

async fn publish_then_remove(
    publisher: &Publisher,
    queue: &ShortString,
    held: &[Held],
    group: &Group,
    job: Job,
) -> Result<Done, PublishError> {
    failpoint::hit("replay.taken", "");
    publisher.publish(job.to_message(queue)).await?;
    failpoint::hit("replay.recorded", "");
    let removed = remove(group.all.iter().filter_map(|at| held.get(*at))).await;
    Ok(Done { job, removed, left: group.all.len() as u64 - removed })
}

async fn remove<'a>(held: impl Iterator<Item = &'a Held>) -> u64 {
    let mut removed = 0;
    for held in held {
        removed += u64::from(held.remove().await);
    }
    removed
}
