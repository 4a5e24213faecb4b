//! Putting failed jobs back onto the jobs queue: publish, wait for the confirm, and only then remove.
//!
//! Killed at any place, a replay loses nothing: what was not published stays failed, and what was published but not removed
//! is both waiting for delivery and failed (a duplicate under the same `webhook-id`, if it is replayed once more).
//!
//! **Acks are made sure of.** A busy RabbitMQ works acks off with a delay, and forgets the rest when the channel closes
//! (measured on 3.10: 17 of 600 came back). So a replay looks once more at what is left, and removes what it had published
//! before; see [`Visit::make_sure`].

use std::time::{Duration, Instant};

use futures::{StreamExt, stream};
use lapin::types::ShortString;
use serde::Serialize;

use super::{
    ledger::{Group, Ledger},
    survey::{Survey, Wanted},
    visit::{Held, Visit, VisitError},
    wear::{Renewer, is_worn},
};
use crate::{
    broker::publisher::{PublishError, Publisher},
    delivery_log::{DeliveryLog, Entry, What},
    failpoint,
    job::Job,
};

/// Confirms under way at the same time.
const IN_FLIGHT: usize = 200;

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
    to: To<'a>,
    begun: Instant,
    /// Jobs that were let go on, in their turn.
    started: u32,
    ledger: Ledger,
    /// Acks since the visit began, or began anew.
    acked: u64,
    /// What was done so far.
    pub tally: Tally,
}

/// Where jobs go, and how.
#[derive(Clone, Copy)]
pub struct To<'a> {
    /// Publishes them.
    pub publisher: &'a Publisher,
    /// The jobs queue.
    pub jobs: &'a ShortString,
    /// Is told of each of them.
    pub log: &'a DeliveryLog,
    /// Who does it.
    pub by: &'a str,
    /// Most jobs a second; none: as fast as the broker takes them.
    pub rate: Option<u32>,
}

impl<'a> Replay<'a> {
    /// A replay that has done nothing yet.
    pub fn new(to: To<'a>) -> Replay<'a> {
        Replay { to, begun: Instant::now(), started: 0, ledger: Ledger::default(), acked: 0, tally: Tally::default() }
    }

    /// Replays what was chosen, batch by batch; `seen` is called with the size of each batch.
    ///
    /// # Errors
    /// The visit was broken off; what had been confirmed was counted.
    pub async fn chosen(
        &mut self,
        survey: &Survey,
        visit: &mut Visit,
        renewer: &mut Renewer<'_>,
        seen: impl Fn(u64),
    ) -> Result<(), VisitError> {
        loop {
            let batch = visit.next().await?;
            if batch.is_empty() || self.tally.problem.is_some() {
                return Ok(());
            }
            let size = batch.len() as u64;
            let mut wanted = Vec::new();
            for held in batch {
                match survey.wants(&held.record) {
                    Wanted::Yes if held.record.content.is_ok() => wanted.push(held),
                    Wanted::Yes => self.tally.unreadable += 1,
                    Wanted::CameBack => self.tally.failed_again += 1,
                    Wanted::No if is_worn(&held.record) => renewer.renew(&held).await,
                    Wanted::No => {}
                }
            }
            self.put_back(&wanted).await;
            seen(size);
        }
    }

    /// Makes sure that what was removed is gone, and ends the visit.
    ///
    /// # Errors
    /// As [`Replay::chosen`]; some of what was replayed may be on the failed queue still.
    pub async fn make_sure(&self, visit: Visit) -> Result<(), VisitError> {
        let published = |held: &Held| held.record.content.as_ref().is_ok_and(|job| self.ledger.has_published(job));
        visit.make_sure(self.acked, published).await
    }

    /// Publishes the jobs among these messages and removes each with its copies when it is confirmed.
    async fn put_back(&mut self, held: &[Held]) {
        let plan = self.ledger.plan(jobs_of(held));
        self.tally.failed_again += plan.returned.len() as u64;
        let removed = remove(plan.copies.iter().filter_map(|at| held.get(*at))).await;
        self.tally.copies_removed += removed;
        self.acked += removed;
        self.tally.not_removed += plan.copies.len() as u64 - removed;
        let To { publisher, jobs: queue, log, by, rate } = self.to;
        let (begun, before) = (self.begun, self.started);
        self.started = before.saturating_add(u32::try_from(plan.groups.len()).unwrap_or(u32::MAX));
        let work = stream::iter(plan.groups.into_iter().zip(before..)).filter_map(async |(group, turn)| {
            if let Some(rate) = rate {
                tokio::time::sleep_until((begun + Duration::from_secs(1) * turn / rate.max(1)).into()).await;
            }
            let job = held.get(group.chosen)?.record.content.as_ref().ok()?.replayed(jiff::Timestamp::now());
            Some((group, job))
        });
        let done = work.map(async |(group, job)| {
            let done = publish_then_remove(publisher, queue, held, &group, job).await?;
            let at = done.job.replayed_at.unwrap_or_else(jiff::Timestamp::now);
            log.write(&Entry { by: Some(by.into()), ..Entry::of_job(What::Replayed, at, &done.job) });
            Ok(done)
        });
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
