//! Reads the failed and the rejected queue for pages: one browse at a time, in bounded time, without holding messages
//! afterwards.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use bytes::Bytes;
use jiff::Timestamp;
use lapin::types::ShortString;
use tokio::sync::{Semaphore, SemaphorePermit, watch};

use super::{access::Access, pages};
use crate::{
    cli::dead_letters::notes_about_unseen,
    dead_letters::{
        browse::{Browse, Held},
        browse_error::BrowseError,
        filter::Filter,
        listing::{Line, Listing, UnreadableLine},
        record::Record,
        renew::{Renewer, look},
        selection::{Choice, Selection, Selector},
        stats::{Cause, Causes, Row, Stats, common},
    },
    delivery_log::{Delivered, Known},
};

/// Longest wait until another page of this console leaves the queue.
const TURN: Duration = Duration::from_secs(3);

/// Longest look for a page, including the wait for a `leadhook failed` command that reads the queue.
const LOOK: Duration = Duration::from_secs(20);

/// Longest wait for an answer of the delivery log.
const LOG: Duration = Duration::from_secs(5);

/// Longest wait of a list for the delivery log. After that the list is shown without the log's answer, which the next
/// request shows.
const LISTED: Duration = Duration::from_secs(1);

/// How long the result of a look is kept, for turning pages.
const REMEMBERED: Duration = Duration::from_secs(60);

/// Most jobs of a look that are kept, about 10 MB. The others are only counted, and need a filter to be listed.
pub const KEPT: usize = 20_000;

/// The turn to read a queue, and the result of the last look.
pub struct DeadLetters {
    turn: Semaphore,
    last: Mutex<Option<Arc<Looked>>>,
}

impl Default for DeadLetters {
    fn default() -> DeadLetters {
        DeadLetters { turn: Semaphore::new(1), last: Mutex::default() }
    }
}

/// Why a look failed.
#[derive(Debug)]
pub enum Trouble {
    /// Another reader has the turn.
    Busy,
    /// The look took too long.
    Slow,
    /// The broker refused.
    Browse(BrowseError),
}

/// The answer of the delivery log, or the reason why it cannot answer. `None` until one of them is known.
type Asked = watch::Receiver<Option<Arc<(Known, Option<String>)>>>;

/// The result of a look.
pub struct Looked {
    /// The time of the look, for people.
    pub at: Timestamp,
    when: Instant,
    filters: String,
    /// The jobs, in queue order.
    pub listing: Listing,
    /// The same jobs, counted by target and reason, the largest count first.
    pub rows: Vec<Row>,
    /// Messages on the failed queue.
    pub present: u64,
    /// Notes about messages that the look may have missed.
    pub notes: Vec<String>,
    /// The answer of the delivery log about these jobs.
    log: Asked,
}

impl Looked {
    /// Returns whether the job was also delivered, according to the delivery log; `None` before the log has answered.
    pub fn delivered(&self, line: &Line) -> Option<Delivered> {
        self.log.borrow().as_ref().map(|log| log.0.of(&line.id, line.first_seen))
    }

    /// Returns why the log has not answered.
    pub fn log_problem(&self) -> Option<String> {
        match &*self.log.borrow() {
            None => Some("the delivery log is still being asked".to_owned()),
            Some(log) => log.1.clone(),
        }
    }

    async fn log_was_asked(&self) {
        let _ = tokio::time::timeout(LISTED, self.log.clone().wait_for(Option::is_some)).await;
    }
}

/// One job or message, with its payload.
pub struct Found {
    /// The copy that failed last.
    pub record: Record,
    /// The body of this copy.
    pub body: Bytes,
    /// The number of copies.
    pub copies: u64,
    /// Whether the job was also delivered.
    pub delivered: Option<Delivered>,
}

/// The rejected messages.
pub struct Rejected {
    /// Counted by cause, the largest count first.
    pub causes: Vec<Cause>,
    /// The first messages of one cause.
    pub lines: Vec<UnreadableLine>,
    /// Messages on the rejected queue.
    pub present: u64,
    /// Notes about messages that the look may have missed.
    pub notes: Vec<String>,
}

impl DeadLetters {
    /// Returns the jobs that match, from the last look if it is recent, or from a new one. `fresh` asks for a new one.
    pub async fn list(
        &self,
        access: &Arc<Access>,
        filters: &str,
        filter: Filter,
        fresh: bool,
    ) -> Result<Arc<Looked>, Trouble> {
        let known = self.last.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let good = |known: &Arc<Looked>| !fresh && known.filters == filters && known.when.elapsed() < REMEMBERED;
        if let Some(known) = known.filter(good) {
            known.log_was_asked().await;
            return Ok(known);
        }
        let (mut listing, mut stats) = (Listing::new(filter.clone(), KEPT), Stats::default());
        let (present, notes) = self
            .look(access, &access.plan.names().failed, |held| {
                listing.add(&held.record);
                if filter.matches(&held.record) {
                    stats.add(&held.record);
                }
            })
            .await?;
        let (at, when, filters) = (Timestamp::now(), Instant::now(), filters.to_owned());
        let log = ask_the_log(access.clone(), &listing);
        let looked = Arc::new(Looked { at, when, filters, listing, rows: stats.rows(), present, notes, log });
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Some(looked.clone());
        looked.log_was_asked().await;
        Ok(looked)
    }

    /// Returns the last look, if it had no filter.
    pub fn last_seen(&self) -> Option<Arc<Looked>> {
        let last = self.last.lock().unwrap_or_else(PoisonError::into_inner).clone();
        last.filter(|looked| looked.filters.is_empty())
    }

    /// Forgets the last look, because messages were taken off the queue.
    pub fn forget(&self) {
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// Finds one failed job by its whole id.
    pub async fn find(&self, access: &Access, id: &str) -> Result<Option<Found>, Trouble> {
        self.find_on(access, &access.plan.names().failed, id).await
    }

    /// Finds one rejected message by its whole id.
    pub async fn find_rejected(&self, access: &Access, id: &str) -> Result<Option<Found>, Trouble> {
        self.find_on(access, &access.plan.names().rejected, id).await
    }

    /// Returns the result of `of` for the rejected message with that id. If several messages have it, the last one
    /// counts.
    pub async fn see_rejected<T>(
        &self,
        access: &Access,
        id: &str,
        of: impl Fn(&Held) -> T,
    ) -> Result<Option<T>, Trouble> {
        let mut said = None;
        self.look(access, &access.plan.names().rejected, |held| {
            if held.record.key() == id {
                said = Some(of(held));
            }
        })
        .await?;
        Ok(said)
    }

    /// Returns the rejected messages counted by cause, and the messages of one cause.
    pub async fn rejected(
        &self,
        access: &Access,
        reason: Option<&str>,
        detail: Option<&str>,
    ) -> Result<Rejected, Trouble> {
        let mut causes = Causes::default();
        let mut listing = Listing::new(Filter::default(), pages::rejected::LISTED);
        let (present, notes) = self
            .look(access, &access.plan.names().rejected, |held| {
                let record = &held.record;
                causes.add(record);
                let common = record.detail.as_deref().map(common);
                if reason == Some(record.reason.label()) && detail == common {
                    listing.add(record);
                }
            })
            .await?;
        Ok(Rejected { causes: causes.list(), lines: listing.unreadable().to_vec(), present, notes })
    }

    async fn find_on(&self, access: &Access, queue: &ShortString, id: &str) -> Result<Option<Found>, Trouble> {
        let mut found: Option<Found> = None;
        self.look(access, queue, |held| {
            if held.record.key() != id {
                return;
            }
            let copies = found.as_ref().map_or(0, |found| found.copies) + 1;
            match &mut found {
                Some(known) if known.record.failed_at >= held.record.failed_at => known.copies = copies,
                other => {
                    let (record, body) = (held.record.clone(), held.body.clone());
                    *other = Some(Found { record, body, copies, delivered: None });
                }
            }
        })
        .await?;
        Ok(found)
    }

    /// Returns the failed jobs that a choice means now.
    pub async fn selection(&self, access: &Access, choice: Choice) -> Result<(Selection, Vec<String>), Trouble> {
        self.selection_on(access, &access.plan.names().failed, choice).await
    }

    /// Returns the messages of a queue that a choice means now.
    pub async fn selection_on(
        &self,
        access: &Access,
        queue: &ShortString,
        choice: Choice,
    ) -> Result<(Selection, Vec<String>), Trouble> {
        let mut selector = Selector::new(choice);
        let (_, notes) = self.look(access, queue, |held| selector.add(&held.record)).await?;
        Ok((selector.finish(), notes))
    }

    /// Waits for the turn, for work that takes longer than a page.
    pub async fn turn(&self) -> Option<SemaphorePermit<'_>> {
        self.turn.acquire().await.ok()
    }

    /// Shows every message to `see`, and gives all back in their order, even if the look is cut short.
    async fn look(
        &self,
        access: &Access,
        queue: &ShortString,
        see: impl FnMut(&Held),
    ) -> Result<(u64, Vec<String>), Trouble> {
        let turn = tokio::time::timeout(TURN, self.turn.acquire()).await;
        let _turn = turn.map_err(|_| Trouble::Busy)?.map_err(|_| Trouble::Busy)?;
        let waits = Mutex::new(false);
        let set = |value| *waits.lock().unwrap_or_else(PoisonError::into_inner) = value;
        let amqp = &access.settings.amqp;
        let looking = async {
            let browse = Browse::open(amqp, queue, None, || set(true)).await?;
            let mut browse = browse.ending_when_asked(access.interrupt.hold());
            set(false);
            let mut renewer = Renewer::new(amqp, queue);
            look(&mut browse, &mut renewer, see, |_| {}).await?;
            renewer.close().await;
            let seen = (browse.present(), notes_about_unseen(&browse));
            browse.leave().await;
            Ok(seen)
        };
        let looked = tokio::time::timeout(LOOK, looking).await;
        let waited = *waits.lock().unwrap_or_else(PoisonError::into_inner);
        match looked {
            Ok(Ok(seen)) => Ok(seen),
            Ok(Err(BrowseError::Busy)) => Err(Trouble::Busy),
            Ok(Err(error)) => Err(Trouble::Browse(error)),
            Err(_) if waited => Err(Trouble::Busy),
            Err(_) => Err(Trouble::Slow),
        }
    }
}

/// Longest wait for other readers of the log. A search takes up to 16 s.
const READERS: Duration = Duration::from_secs(17);

/// Asks the delivery log about these jobs, the oldest of which was first seen at `since`. If the log cannot be read,
/// the second value says why.
pub async fn known(access: &Access, ids: &BTreeSet<&str>, since: Option<Timestamp>) -> (Known, Option<String>) {
    let Some(since) = since.filter(|_| !ids.is_empty()) else { return (Known::default(), None) };
    // Each reading takes megabytes per second, so this shares a limit on readers with searches and stories. Every
    // reading ends.
    let Ok(_turn) = tokio::time::timeout(READERS, access.readings.acquire()).await else {
        return (Known::default(), Some("others are reading the delivery log".to_owned()));
    };
    let reading = Known::read(&access.settings.amqp, &access.plan.names().log, ids, since, |_| {});
    match tokio::time::timeout(LOG, reading).await {
        Ok(Ok(known)) => (known, None),
        Ok(Err(error)) => (Known::default(), Some(error.to_string())),
        Err(_) => (Known::default(), Some(format!("the delivery log did not answer within {} s", LOG.as_secs()))),
    }
}

/// Asks the delivery log about the jobs of a list, in the background.
fn ask_the_log(access: Arc<Access>, listing: &Listing) -> Asked {
    let (tell, log) = watch::channel(None);
    let ids: BTreeSet<String> = listing.lines().iter().map(|line| line.id.clone()).collect();
    let oldest = listing.lines().iter().map(|line| line.first_seen).min();
    let shutdown = access.shutdown.clone();
    tokio::spawn(shutdown.run_until_cancelled_owned(async move {
        let ids = ids.iter().map(String::as_str).collect();
        tell.send_replace(Some(Arc::new(known(&access, &ids, oldest).await)));
    }));
    log
}

#[cfg(test)]
impl Looked {
    /// Creates a look for tests of pages.
    pub(super) fn for_tests(listing: Listing, rows: Vec<Row>, notes: Vec<String>) -> Looked {
        let (at, when) = (Timestamp::UNIX_EPOCH, Instant::now());
        let log = watch::channel(Some(Arc::new((Known::default(), Some(notes.join("; ")))))).1;
        Looked { at, when, filters: String::new(), listing, rows, present: 2, notes, log }
    }
}
