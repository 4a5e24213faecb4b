//! Replays failed jobs onto the jobs queue: publishes, waits for the confirm, and only then removes.
//!
//! A replay that is killed at any point loses nothing. A job that was not published stays failed. A job that was
//! published but not removed is both waiting for delivery and failed. If it is replayed again, it is delivered twice
//! under the same `webhook-id`.
//!
//! **A replay checks its acks.** A busy RabbitMQ processes acks late, and forgets the rest when the channel closes
//! (measured on 3.10: 17 of 600 came back). So a replay reads the queue once more, and removes the jobs that it had
//! published before; see [`Browse::confirm_removed`].

use std::{
    collections::BTreeSet,
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

use futures::{StreamExt, stream};
use lapin::types::ShortString;
use serde::Serialize;

use super::{
    browse::{Browse, Held},
    browse_error::BrowseError,
    ledger::{Group, Ledger},
    renew::{Renewer, is_due_for_renewal},
    reroute::Routes,
    selection::{Selection, Wanted},
};
use crate::{
    broker::publisher::{PublishError, Publisher},
    delivery_log::{DeliveryLog, Entry, What},
    failpoint,
    job::Job,
};

/// Most confirms that are pending at the same time.
const IN_FLIGHT: usize = 200;

/// Longest time for which a paced replay of the command line holds messages that it has not published yet. A broker
/// closes a channel that holds a message for too long (`consumer_timeout`, 30 minutes by default up to RabbitMQ 4.2).
/// Other readers wait for their turn, too.
pub const HOLDING: Duration = Duration::from_secs(60);

/// How a browse of a replay ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// All messages were read, or there was a problem.
    Over,
    /// The time was up. There may be more to do in another browse.
    TimeIsUp,
}

/// The result of a replay.
#[derive(Debug, Default, Serialize)]
pub struct Tally {
    /// Jobs published and confirmed.
    pub replayed: u64,
    /// Other copies of these jobs, which were removed with them.
    pub copies_removed: u64,
    /// Jobs that failed again while the replay ran; left on the failed queue.
    pub failed_again: u64,
    /// Messages that are not jobs; left on the failed queue.
    pub unreadable: u64,
    /// Jobs that were not confirmed; left on the failed queue.
    pub not_published: u64,
    /// Messages that could not be removed after the confirm. They are still on the failed queue, and will be delivered
    /// too.
    pub not_removed: u64,
    /// Jobs that went to another target than before, under their id there.
    pub redirected: u64,
    /// The first error in publishing. The replay ends with the batch in which it happened.
    #[serde(skip)]
    pub problem: Option<PublishError>,
}

/// A replay in progress.
pub struct Replay<'a> {
    to: To<'a>,
    begun: Instant,
    /// Number of jobs started in this browse, which sets the pace.
    started: u32,
    /// Jobs that came back, and in `raw` messages that are not jobs. They are sets, because several browses see them
    /// again.
    came_back: BTreeSet<String>,
    raw: BTreeSet<String>,
    ledger: Ledger,
    /// Acks in this browse.
    acked: u64,
    /// The result so far.
    pub tally: Tally,
}

/// Where and how jobs are replayed.
#[derive(Clone, Copy)]
pub struct To<'a> {
    /// Publishes them.
    pub publisher: &'a Publisher,
    /// The jobs queue.
    pub jobs: &'a ShortString,
    /// Records each replayed job.
    pub log: &'a DeliveryLog,
    /// The person who replays.
    pub by: &'a str,
    /// Most jobs per second; `None` for as fast as the broker takes them.
    pub rate: Option<u32>,
    /// Longest time per browse for which a paced replay keeps other readers away.
    pub holding: Duration,
    /// The jobs that go to another target than before.
    pub routes: &'a Routes,
}

impl<'a> Replay<'a> {
    /// Creates a replay that has done nothing yet.
    pub fn new(to: To<'a>) -> Replay<'a> {
        Replay {
            to,
            begun: Instant::now(),
            started: 0,
            came_back: BTreeSet::new(),
            raw: BTreeSet::new(),
            ledger: Ledger::default(),
            acked: 0,
            tally: Tally::default(),
        }
    }

    /// Replays the chosen jobs, batch by batch, in a browse that has just begun. Calls `done` with the number of jobs
    /// replayed so far. A paced replay takes several browses.
    ///
    /// # Errors
    /// The browse was broken off. Jobs confirmed until then are counted.
    pub async fn chosen(
        &mut self,
        selection: &Selection,
        browse: &mut Browse,
        renewer: &mut Renewer<'_>,
        done: impl Fn(u64),
    ) -> Result<Ended, BrowseError> {
        (self.begun, self.started, self.acked) = (Instant::now(), 0, 0);
        let most = self.to.rate.map(|rate| u64::from(rate) * self.to.holding.as_secs().max(1));
        loop {
            let batch = browse.next().await?;
            if batch.is_empty() || self.tally.problem.is_some() {
                return Ok(Ended::Over);
            }
            let mut wanted = Vec::new();
            for held in batch {
                match selection.wants(&held.record) {
                    Wanted::Yes if held.record.content.is_ok() => wanted.push(held),
                    Wanted::Yes => drop(self.raw.insert(held.record.key().to_owned())),
                    Wanted::CameBack => self.came_back.extend(held.identity()),
                    Wanted::No if is_due_for_renewal(&held.record) => renewer.renew(&held).await,
                    Wanted::No => {}
                }
            }
            let room = most.map_or(usize::MAX, |most| {
                usize::try_from(most.saturating_sub(self.started.into())).unwrap_or(usize::MAX)
            });
            let rest = wanted.split_off(room.min(wanted.len()));
            let time_is_up = !rest.is_empty();
            for held in rest.iter().filter(|held| is_due_for_renewal(&held.record)) {
                renewer.renew(held).await;
            }
            self.put_back(selection, &wanted, browse).await?;
            done(self.tally.replayed);
            if time_is_up {
                return Ok(Ended::TimeIsUp);
            }
        }
    }

    /// Confirms that the removed messages are gone, and ends the browse.
    ///
    /// # Errors
    /// As [`Replay::chosen`]; some replayed jobs may still be on the failed queue.
    pub async fn confirm_removed(&self, browse: Browse) -> Result<(), BrowseError> {
        let published = |held: &Held| held.record.content.as_ref().is_ok_and(|job| self.ledger.has_published(job));
        browse.confirm_removed(self.acked, published).await
    }

    /// Publishes the jobs among these messages. Removes each job and its copies when it is confirmed.
    async fn put_back(&mut self, selection: &Selection, held: &[Held], browse: &Browse) -> Result<(), BrowseError> {
        let plan = self.ledger.plan(jobs_of(held));
        (self.tally.failed_again, self.tally.unreadable) = (self.came_back.len() as u64, self.raw.len() as u64);
        let removed = remove(plan.copies.iter().filter_map(|at| held.get(*at))).await;
        self.tally.copies_removed += removed;
        self.acked += removed;
        self.tally.not_removed += plan.copies.len() as u64 - removed;
        let To { publisher, jobs: queue, log, by, rate, routes, holding: _ } = self.to;
        let (begun, turns) = (self.begun, self.started);
        let lost = AtomicBool::new(false);
        self.started = turns.saturating_add(u32::try_from(plan.groups.len()).unwrap_or(u32::MAX));
        let work = stream::iter(plan.groups.into_iter().zip(turns..)).filter_map(async |(group, turn)| {
            if let Some(rate) = rate {
                let due = begun + Duration::from_secs(1) * turn / rate.max(1);
                tokio::select! { () = tokio::time::sleep_until(due.into()) => {}, () = browse.interrupted() => {} }
            }
            let chosen = held.get(group.chosen)?;
            // A message that is no longer held is on the queue again. Publishing it would send it twice.
            if browse.is_interrupted() || !chosen.is_held() {
                lost.fetch_or(!browse.is_interrupted(), Ordering::Relaxed);
                return None;
            }
            let before = chosen.record.content.as_ref().ok()?;
            let replays = selection.replays_after(before);
            let job = Job { replays, ..before.replayed(jiff::Timestamp::now()) };
            let job = match routes.of(&before.webhook_id) {
                Some(route) => job.redirected(&route.to),
                None => job,
            };
            Some((group, before, job))
        });
        let done = work.map(async |(group, before, job)| {
            let done = publish_then_remove(publisher, queue, held, &group, before, job).await?;
            log.room().await;
            for entry in entries(&done) {
                log.write(&Entry { by: Some(by.into()), ..entry });
            }
            Ok(done)
        });
        let mut done = std::pin::pin!(done.buffer_unordered(IN_FLIGHT));
        while let Some(done) = done.next().await {
            match done {
                Ok(Done { before, job, removed, left }) => {
                    self.ledger.confirmed(&before.webhook_id, &job);
                    self.tally.replayed += 1;
                    self.tally.redirected += u64::from(before.target != job.target);
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
        match lost.load(Ordering::Relaxed) {
            false if browse.is_interrupted() => Err(BrowseError::Interrupted),
            false => Ok(()),
            true => Err(BrowseError::Lost("the broker closed the channel".to_owned())),
        }
    }
}

/// Returns the jobs among these messages, with their indices.
fn jobs_of(held: &[Held]) -> impl Iterator<Item = (usize, &Job)> {
    held.iter().enumerate().filter_map(|(at, held)| Some((at, held.record.content.as_ref().ok()?)))
}

/// Returns the records about one job. If its id has changed there are two, and each names the other id.
fn entries<'a>(done: &'a Done<'a>) -> Vec<Entry<'a>> {
    let Done { before, job, .. } = done;
    let at = job.replayed_at.unwrap_or_else(jiff::Timestamp::now);
    let entry = |of: &'a Job| Entry::of_job(What::Replayed, at, of);
    if before.webhook_id == job.webhook_id {
        return vec![entry(job)];
    }
    let told = |word: &str, other: &Job| Some(format!("{word} {} as {}", other.target, other.webhook_id).into());
    vec![
        Entry { reason: told("now for", job), ..entry(before) },
        Entry { reason: told("was for", before), ..entry(job) },
    ]
}

/// A job that was published and confirmed.
struct Done<'a> {
    /// The job as it was on the failed queue.
    before: &'a Job,
    job: Job,
    removed: u64,
    left: u64,
}

async fn publish_then_remove<'a>(
    publisher: &Publisher,
    queue: &ShortString,
    held: &[Held],
    group: &Group,
    before: &'a Job,
    job: Job,
) -> Result<Done<'a>, PublishError> {
    failpoint::hit("replay.taken", "");
    publisher.publish(job.to_message(queue)).await?;
    failpoint::hit("replay.recorded", "");
    let removed = remove(group.all.iter().filter_map(|at| held.get(*at))).await;
    Ok(Done { before, job, removed, left: group.all.len() as u64 - removed })
}

async fn remove<'a>(held: impl Iterator<Item = &'a Held>) -> u64 {
    let mut removed = 0;
    for held in held {
        removed += u64::from(held.remove().await);
    }
    removed
}
