//! The delivery log, for as long as a page may take: bounded in time by [`LONGEST`], in memory by what is kept of it.

use std::time::{Duration, Instant};

use jiff::Timestamp;

use super::Shared;
use crate::delivery_log::{Deliveries, Delivery, Entry, Filter, LogError, LogReader, Start, batch::Batch};

/// Longest reading for a page.
const LONGEST: Duration = Duration::from_secs(8);

/// Longest wait for the connection and for the first record.
const OPENING: Duration = Duration::from_secs(8);

/// Deliveries that a search shows.
pub const SHOWN: usize = 200;

/// Records of one delivery that a page shows: the first and the latest ones.
const RECORDS: usize = 500;

/// Why nothing was read.
#[derive(Debug)]
pub enum Trouble {
    /// As many as may are reading.
    Busy,
    /// The broker does not answer.
    Slow,
    /// The broker says no.
    Log(LogError),
}

/// What a search found.
pub struct Answer {
    /// The latest first.
    pub deliveries: Vec<Delivery>,
    /// Whether there are more than are shown.
    pub more: bool,
    /// Records that match.
    pub records: u64,
    /// How far the reading came.
    pub reach: Reach,
}

/// The records of one delivery.
#[derive(Default)]
pub struct Story {
    /// Who wrote each, and what it says; in the order of their times.
    pub records: Vec<(String, Entry<'static>)>,
    /// Records in the middle that are left out.
    pub left_out: u64,
    /// How far the reading came.
    pub reach: Reach,
}

/// How far a reading came.
#[derive(Clone, Copy, Debug, Default)]
pub struct Reach {
    /// The time of the last record that was read, where the reading was broken off; what was written later is missing.
    pub broken_off_at: Option<Timestamp>,
    /// How long it took.
    pub took: Duration,
}

/// What became of the deliveries that a filter lets through.
pub async fn search(shared: &Shared, filter: &Filter) -> Result<Answer, Trouble> {
    let mut deliveries = Deliveries::new(SHOWN, Vec::new(), None);
    let mut records = 0;
    let reach = read(shared, filter, |_, entry| {
        records += 1;
        deliveries.add(entry);
    })
    .await?;
    let (deliveries, more) = deliveries.finish();
    Ok(Answer { deliveries, more, records, reach })
}

/// All that is told of one delivery, by its whole id.
pub async fn story(shared: &Shared, id: &str, since: Option<Timestamp>) -> Result<Story, Trouble> {
    let filter = Filter { id: Some(id.to_owned()), since, ..Filter::default() };
    let mut story = Story::default();
    let reach = read(shared, &filter, |writer, entry| {
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

/// Hands each record that matches to `each`, with its writer, from where the filter begins to where the log ended at the
/// beginning, or until the time is over.
async fn read(shared: &Shared, filter: &Filter, mut each: impl FnMut(&str, &Entry<'_>)) -> Result<Reach, Trouble> {
    let turn = tokio::time::timeout(OPENING, shared.readings.acquire()).await;
    let _turn = turn.map_err(|_| Trouble::Busy)?.map_err(|_| Trouble::Busy)?;
    let start = filter.since.map_or(Start::Oldest, Start::At);
    let opening = LogReader::open(&shared.settings.amqp, &shared.plan.names().log, start);
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
