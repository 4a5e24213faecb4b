//! Reads the delivery log for pages. [`LONGEST`] bounds the time, and the number of kept records bounds the memory.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use jiff::Timestamp;
use tokio::sync::OnceCell;

use super::access::Access;
use crate::delivery_log::{Deliveries, Delivery, Entry, Filter, LogError, LogReader, Start, batch::Batch};

/// Longest time to read for a page.
const LONGEST: Duration = Duration::from_secs(8);

/// Longest wait for a turn, and then for the connection and the first record.
const OPENING: Duration = Duration::from_secs(8);

/// Most deliveries that a search shows.
pub const SHOWN: usize = 200;

/// Most records of one delivery that a page shows: the first and the latest ones.
const RECORDS: usize = 500;

/// How far back the records of a delivery are read by default. Most questions are about the same day, and the log may
/// hold two weeks.
const STORY: Duration = Duration::from_secs(24 * 3600);

/// How long a result serves other requests for the same delivery. Live pages ask every five seconds.
const SERVES: Duration = Duration::from_secs(4);

/// Most results that are kept for other requests.
const STORIES: usize = 16;

/// Why nothing was read.
#[derive(Debug)]
pub enum Trouble {
    /// Too many requests are reading already.
    Busy,
    /// The broker does not answer.
    Slow,
    /// The broker refused.
    Log(LogError),
}

/// The result of a search.
pub struct Answer {
    /// Sorted by time, the latest first.
    pub deliveries: Vec<Delivery>,
    /// Whether there are more deliveries than are shown.
    pub more: bool,
    /// The number of records that match.
    pub records: u64,
    /// How far the reading got.
    pub reach: Reach,
}

/// The records of one delivery.
#[derive(Debug, Default)]
pub struct Story {
    /// The writer and the record, sorted by time.
    pub records: Vec<(String, Entry<'static>)>,
    /// Start of the time range; `None` for all that the log keeps.
    pub since: Option<Timestamp>,
    /// The number of records in the middle that are left out.
    pub left_out: u64,
    /// How far the reading got.
    pub reach: Reach,
}

/// How far a reading got.
#[derive(Clone, Copy, Debug, Default)]
pub struct Reach {
    /// The time of the last record that was read, if the reading was cut short. Later records are missing.
    pub broken_off_at: Option<Timestamp>,
    /// How long the reading took.
    pub took: Duration,
}

/// Searches for the deliveries that match a filter.
pub async fn search(access: &Access, filter: &Filter) -> Result<Answer, Trouble> {
    let mut deliveries = Deliveries::new(SHOWN, Vec::new(), None);
    let mut records = 0;
    let reach = read(access, filter, |_, entry| {
        records += 1;
        deliveries.add(entry);
    })
    .await?;
    let (deliveries, more) = deliveries.finish();
    Ok(Answer { deliveries, more, records, reach })
}

/// Stories that are being read, or were read a moment ago. Requests for the same delivery share one reading.
#[derive(Default)]
pub struct Stories(Mutex<VecDeque<Reading>>);

type Shelf = Arc<OnceCell<Arc<Story>>>;

struct Reading {
    id: String,
    since: Option<Timestamp>,
    begun: Instant,
    story: Shelf,
}

impl Stories {
    /// Returns the place for the story of this delivery. The first request fills the place, and the others wait for it.
    fn shelf(&self, id: &str, since: Option<Timestamp>, now: Instant) -> Shelf {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // Requests hold the place while they read.
        let read_now = |one: &Reading| !one.story.initialized() && Arc::strong_count(&one.story) > 1;
        all.retain(|one| now.duration_since(one.begun) < SERVES || read_now(one));
        if let Some(known) = all.iter().find(|one| one.id == id && one.since == since) {
            return known.story.clone();
        }
        let story = Shelf::default();
        if all.len() >= STORIES {
            all.pop_front();
        }
        all.push_back(Reading { id: id.to_owned(), since, begun: now, story: story.clone() });
        story
    }
}

/// Returns the records of one delivery, by its whole id, from `since` on. The default is the last day.
pub async fn story(
    access: &Access,
    stories: &Stories,
    id: &str,
    since: Option<Timestamp>,
) -> Result<Arc<Story>, Trouble> {
    let shelf = stories.shelf(id, since, Instant::now());
    let reading = async || Ok(Arc::new(read_story(access, id, since).await?));
    shelf.get_or_try_init(reading).await.cloned()
}

async fn read_story(access: &Access, id: &str, since: Option<Timestamp>) -> Result<Story, Trouble> {
    let from = since.unwrap_or_else(|| Timestamp::now().checked_sub(STORY).unwrap_or_default());
    let since = (from > Timestamp::UNIX_EPOCH).then_some(from);
    let filter = Filter { id: Some(id.to_owned()), since, ..Filter::default() };
    let mut story = Story { since, ..Story::default() };
    let reach = read(access, &filter, |writer, entry| {
        if entry.id.as_deref() != Some(id) {
            return;
        }
        if story.records.len() >= RECORDS {
            story.records.remove(RECORDS / 2);
            story.left_out += 1;
        }
        story.records.push((writer.to_owned(), entry.clone().into_owned()));
    })
    .await?;
    story.records.sort_by_key(|(_, entry)| entry.at);
    Ok(Story { reach, ..story })
}

/// Passes each matching record to `each`, with its writer. Reads from the filter's start to the end that the log had
/// when the reading began, or until the time is up.
async fn read(access: &Access, filter: &Filter, mut each: impl FnMut(&str, &Entry<'_>)) -> Result<Reach, Trouble> {
    let turn = tokio::time::timeout(OPENING, access.readings.acquire()).await;
    let _turn = turn.map_err(|_| Trouble::Busy)?.map_err(|_| Trouble::Busy)?;
    let start = filter.since.map_or(Start::Oldest, Start::At);
    let opening = LogReader::open(&access.settings.amqp, &access.plan.names().log, start);
    let opened = tokio::time::timeout(OPENING, opening).await.map_err(|_| Trouble::Slow)?;
    let mut reader = opened.map_err(Trouble::Log)?;
    let search = filter.search();
    let begun = Instant::now();
    let mut latest = None;
    let mut broken_off = false;
    loop {
        let left = LONGEST.saturating_sub(begun.elapsed());
        let Ok(next) = tokio::time::timeout(left, reader.next()).await else {
            broken_off = true;
            break;
        };
        let Some(message) = next.map_err(Trouble::Log)? else { break };
        if begun.elapsed() > LONGEST / 2 || latest.is_none() {
            latest =
                Batch::read(&message).and_then(|batch| batch.entries().next()).map(|entry| entry.time()).or(latest);
        }
        if begun.elapsed() >= LONGEST {
            broken_off = true;
            break;
        }
        search.through(&message, &mut each);
    }
    reader.leave().await;
    let at = latest.or(filter.since).unwrap_or(Timestamp::UNIX_EPOCH);
    Ok(Reach { broken_off_at: broken_off.then_some(at), took: begun.elapsed() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_for_the_same_story_share_its_reading() {
        let (stories, now) = (Stories::default(), Instant::now());
        let first = stories.shelf("wh_a", None, now);
        let same = |shelf: &Shelf, id: &str, since, after| {
            Arc::ptr_eq(shelf, &stories.shelf(id, since, now + Duration::from_secs(after)))
        };
        assert!(same(&first, "wh_a", None, 7), "it is still being read");
        assert!(!same(&first, "wh_b", None, 0) && !same(&first, "wh_a", Some(Timestamp::UNIX_EPOCH), 0));
        first.set(Arc::default()).unwrap();
        assert!(same(&first, "wh_a", None, 3));
        assert!(!same(&first, "wh_a", None, 4), "it is read again");
        for n in 0..100 {
            stories.shelf(&n.to_string(), None, now);
        }
        assert!(stories.0.lock().unwrap().len() <= STORIES);
    }
}
