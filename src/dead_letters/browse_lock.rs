//! The lock that gives one reader its turn at a queue, and the count of messages while no other reader holds any.

use std::time::{Duration, Instant};

use lapin::{
    Channel, Connection,
    options::QueueDeclareOptions,
    types::{FieldTable, ShortString},
};

use super::browse_error::BrowseError;
use crate::broker::{
    connection,
    reply::{self, ACCESS_REFUSED, RESOURCE_LOCKED},
};

/// Longest wait for another browse to end. A paced replay holds the lock for a minute at a time.
const TURN: Duration = Duration::from_secs(90);

/// How often to ask while waiting for something on the broker.
const ASK_EVERY: Duration = Duration::from_millis(50);

/// Whether other readers are kept away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Guard {
    /// This browse holds the lock.
    Locked,
    /// The user may not declare the lock (no configure permission on `<prefix>.browse`). Other readers may take some
    /// messages.
    Unlocked,
}

/// Returns the numbers of ready messages and of consumers, by a passive declare.
pub(super) async fn count(channel: &Channel, queue: &ShortString) -> Result<(u64, u32), lapin::Error> {
    let passive = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
    let declared = channel.queue_declare(queue.clone(), passive, FieldTable::default()).await?;
    Ok((declared.message_count().into(), declared.consumer_count()))
}

/// Returns the same, once at most `others` consumers are left or `patience` is over.
pub(super) async fn count_alone(
    channel: &Channel,
    queue: &ShortString,
    others: u32,
    patience: Duration,
) -> Result<(u64, u32), lapin::Error> {
    let begun = Instant::now();
    let mut tick = tokio::time::interval(ASK_EVERY);
    loop {
        tick.tick().await;
        let (ready, consumers) = count(channel, queue).await?;
        if consumers <= others || begun.elapsed() > patience {
            return Ok((ready, consumers));
        }
    }
}

/// Takes the lock: declares an exclusive queue, which ends with the connection.
pub(super) async fn lock(
    connection: &Connection,
    name: &ShortString,
    waiting: impl FnOnce(),
) -> Result<Guard, BrowseError> {
    let begun = Instant::now();
    let mut waiting = Some(waiting);
    let mut tick = tokio::time::interval(ASK_EVERY);
    loop {
        tick.tick().await;
        // A refusal closes the channel, so each try opens one.
        let channel = connection.create_channel().await.map_err(lost)?;
        let options = QueueDeclareOptions { exclusive: true, auto_delete: true, ..QueueDeclareOptions::default() };
        match channel.queue_declare(name.clone(), options, FieldTable::default()).await {
            Ok(_) => return Ok(Guard::Locked),
            Err(error) => match reply::code(&error) {
                Some(RESOURCE_LOCKED) if begun.elapsed() < TURN => {
                    if let Some(waiting) = waiting.take() {
                        waiting();
                    }
                }
                Some(RESOURCE_LOCKED) => return Err(BrowseError::Busy),
                Some(ACCESS_REFUSED) => return Ok(Guard::Unlocked),
                _ => return Err(lost(error)),
            },
        }
    }
}

fn lost(error: lapin::Error) -> BrowseError {
    BrowseError::Lost(connection::words(&error))
}
