//! Reads the delivery log from a given time, up to the end that it had when reading began, or indefinitely.
//!
//! Reading does not change a stream: any number of readers may read at once, as often as they like. RabbitMQ finds a
//! time by whole chunks and by its own clock. So a reader starts somewhat earlier (`SLACK`), and the caller must check
//! the times of the records.

use std::time::Duration;

use futures::StreamExt;
use jiff::Timestamp;
use lapin::{
    Channel, Consumer,
    message::Delivery,
    options::{BasicAckOptions, BasicConsumeOptions, BasicQosOptions, QueueDeclareOptions},
    types::{AMQPValue, FieldTable, ShortString},
};

use super::batch::{Batch, Seen};
use crate::{
    broker::{
        connection::{self, ConnectError, Connection},
        reply::{self, ACCESS_REFUSED, NOT_FOUND},
    },
    settings::Amqp,
};

/// Messages that the broker sends ahead. Each has about 64 KiB at most, unless confirms were slow.
const AHEAD: u16 = 200;

/// Number of messages per ack.
const ACK_EVERY: u64 = 50;

/// How much earlier than asked a reader starts: clocks differ, and records wait before they are sent.
const SLACK: Duration = Duration::from_secs(300);

/// Longest wait for a message that must come.
const PATIENCE: Duration = Duration::from_secs(10);

/// Longest wait for a first message if the stream reports that it is empty. After 1/20 of this silence, the last chunk
/// counts as complete.
const SILENCE: Duration = Duration::from_secs(1);

/// Where a reader starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// At the oldest record that is kept.
    Oldest,
    /// At the records of this time, or somewhat before.
    At(Timestamp),
    /// At the records that are written from now on.
    Now,
}

/// Why the log cannot be read. The text names no credentials.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The broker cannot be reached.
    #[error("cannot connect to {0}")]
    Connect(#[from] ConnectError),
    /// The stream does not exist.
    #[error("there is no delivery log (stream {0})")]
    Missing(ShortString),
    /// The user may not read it.
    #[error("the user of amqp.urls may not read the delivery log (stream {0})")]
    Forbidden(ShortString),
    /// The connection to the broker was lost.
    #[error("lost the connection to the broker: {0}")]
    Lost(String),
    /// The broker sends nothing, although there are more records. The records read so far are incomplete.
    #[error("the broker sent nothing of the delivery log for {} s, although there is more of it", PATIENCE.as_secs())]
    Stalled,
}

impl LogError {
    /// Returns what to do about it.
    pub fn help(&self) -> &'static str {
        match self {
            LogError::Connect(error) => error.help(),
            LogError::Missing(_) => "start a worker with delivery_log.enabled = true: the first one makes the log",
            LogError::Forbidden(_) => "give the user of amqp.urls read permission on the stream",
            LogError::Lost(_) | LogError::Stalled => "run the command again",
        }
    }
}

/// How far a reader has come, in messages of the stream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Messages read.
    pub read: u64,
    /// Messages to read in total, as far as known.
    pub of: u64,
}

/// A reader of the stream.
pub struct LogReader {
    connection: Connection,
    channel: Channel,
    consumer: Consumer,
    seen: Seen,
    /// Offset of the first message that was read.
    first: Option<u64>,
    /// Offset of the last message to read. `None` if the reader follows the stream indefinitely.
    end: Option<u64>,
    read: u64,
    ended: bool,
}

impl LogReader {
    /// Connects and starts to read.
    ///
    /// # Errors
    /// See [`LogError`].
    pub async fn open(amqp: &Amqp, stream: &ShortString, start: Start) -> Result<LogReader, LogError> {
        let connection = connection::connect(amqp, "browse", 0).await?;
        let patience = patience(&connection, stream).await?;
        let (end, over) = match start {
            Start::Now => (None, false),
            Start::Oldest => {
                last(&connection, stream, patience).await?.map_or((None, true), |last| (Some(last.at), false))
            }
            Start::At(moment) => match last(&connection, stream, patience).await? {
                // If all messages are older than this time, the broker would wait for new ones.
                Some(last) => (Some(last.at), last.sent.is_some_and(|sent| sent < earlier(moment))),
                None => (None, true),
            },
        };
        let offset = match start {
            Start::Oldest => AMQPValue::LongString("first".into()),
            Start::Now => AMQPValue::LongString("next".into()),
            Start::At(moment) => AMQPValue::Timestamp(u64::try_from(earlier(moment).as_second()).unwrap_or_default()),
        };
        let (channel, consumer) = consume(&connection, stream, offset, AHEAD).await?;
        Ok(LogReader { connection, channel, consumer, seen: Seen::default(), first: None, end, read: 0, ended: over })
    }

    /// Returns the next message as it came, or `None` at the end. Skips foreign messages, and messages that it read
    /// before.
    ///
    /// # Errors
    /// The connection is lost, or the broker stops sending.
    pub async fn next(&mut self) -> Result<Option<Vec<u8>>, LogError> {
        while !self.ended {
            let next = match self.end {
                None => self.consumer.next().await,
                Some(_) => match tokio::time::timeout(PATIENCE, self.consumer.next()).await {
                    Ok(next) => next,
                    // The broker skips messages that its age or length limit removes meanwhile. It never removes the
                    // last message.
                    Err(_) => return Err(LogError::Stalled),
                },
            };
            let delivery = match next {
                Some(delivery) => delivery.map_err(lost)?,
                None => return Err(LogError::Lost("the broker cancelled the consumer".to_owned())),
            };
            let at = offset(&delivery).unwrap_or_default();
            self.first.get_or_insert(at);
            self.read += 1;
            self.ended = self.end.is_some_and(|end| at >= end);
            if self.read.is_multiple_of(ACK_EVERY) || self.end.is_none() {
                let options = BasicAckOptions { multiple: true };
                self.channel.basic_ack(delivery.delivery_tag, options).await.map_err(lost)?;
            }
            let fresh = Batch::read(&delivery.data).is_some_and(|batch| self.seen.note(&batch.heading));
            if fresh {
                return Ok(Some(delivery.data));
            }
        }
        Ok(None)
    }

    /// Returns how far it has come.
    pub fn progress(&self) -> Progress {
        let of = match (self.first, self.end) {
            (Some(first), Some(end)) => end.saturating_sub(first) + 1,
            _ => self.read,
        };
        Progress { read: self.read, of }
    }

    /// Closes the connection. A failure is harmless.
    pub async fn leave(self) {
        let goodbye = self.connection.close(200, "goodbye".into());
        let _ = tokio::time::timeout(Duration::from_secs(1), goodbye).await;
    }
}

fn earlier(moment: Timestamp) -> Timestamp {
    moment.checked_sub(SLACK).unwrap_or(Timestamp::UNIX_EPOCH)
}

/// Returns the time of the oldest record that is kept, or `None` if there is none.
///
/// # Errors
/// See [`LogError`].
pub async fn oldest(amqp: &Amqp, stream: &ShortString) -> Result<Option<Timestamp>, LogError> {
    let connection = connection::connect(amqp, "browse", 0).await?;
    let patience = patience(&connection, stream).await?;
    let first = AMQPValue::LongString("first".into());
    let (_channel, mut consumer) = consume(&connection, stream, first, 1).await?;
    let delivery = match tokio::time::timeout(patience, consumer.next()).await {
        Ok(Some(delivery)) => Some(delivery.map_err(|error| unreadable(error, stream))?),
        Err(_) if patience > SILENCE => return Err(LogError::Stalled),
        Ok(None) | Err(_) => None,
    };
    let data = delivery.map(|delivery| delivery.data).unwrap_or_default();
    let oldest = Batch::read(&data).and_then(|batch| batch.entries().map(|entry| entry.time()).min());
    let _ = tokio::time::timeout(Duration::from_secs(1), connection.close(200, "seen".into())).await;
    Ok(oldest)
}

/// Returns how long to wait for a first message: only a moment if the stream reports that it is empty. It still reports
/// that for some seconds after its first message came.
async fn patience(connection: &Connection, stream: &ShortString) -> Result<Duration, LogError> {
    let declaring = connection.create_channel().await.map_err(lost)?;
    let passive = QueueDeclareOptions { passive: true, durable: true, ..QueueDeclareOptions::default() };
    let declared = declaring.queue_declare(stream.clone(), passive, FieldTable::default()).await;
    let declared = declared.map_err(|error| unreadable(error, stream))?;
    Ok(if declared.message_count() == 0 { SILENCE } else { PATIENCE })
}

/// The end of the stream.
struct Last {
    /// Offset of the last message.
    at: u64,
    /// When the newest message of the last chunk was sent, by its writer's clock; `None` if no message says so. Its
    /// records may be much older, if the writer was cut off for hours.
    sent: Option<Timestamp>,
}

/// Returns the current end of the stream, or `None` if it has no messages.
async fn last(connection: &Connection, stream: &ShortString, patience: Duration) -> Result<Option<Last>, LogError> {
    let (channel, mut consumer) = consume(connection, stream, AMQPValue::LongString("last".into()), AHEAD).await?;
    let mut found: Option<Last> = None;
    // The last chunk comes whole and at once. Later messages were written since, so this does not wait for them.
    let mut silence = patience;
    while let Ok(Some(delivery)) = tokio::time::timeout(silence, consumer.next()).await {
        let delivery = delivery.map_err(lost)?;
        let sent = delivery.properties.timestamp().and_then(|seconds| i64::try_from(seconds).ok());
        let sent = sent.and_then(|seconds| Timestamp::from_second(seconds).ok());
        let before = found.and_then(|last| last.sent);
        found = Some(Last { at: offset(&delivery).unwrap_or_default(), sent: sent.max(before) });
        silence = SILENCE / 20;
    }
    let _ = channel.close(200, "seen".into()).await;
    if found.is_none() && patience > SILENCE {
        return Err(LogError::Stalled);
    }
    Ok(found)
}

async fn consume(
    connection: &Connection,
    stream: &ShortString,
    offset: AMQPValue,
    ahead: u16,
) -> Result<(Channel, Consumer), LogError> {
    let channel = connection.create_channel().await.map_err(lost)?;
    channel.basic_qos(ahead, BasicQosOptions::default()).await.map_err(lost)?;
    let mut arguments = FieldTable::default();
    arguments.insert("x-stream-offset".into(), offset);
    let consuming = channel.basic_consume(stream.clone(), "".into(), BasicConsumeOptions::default(), arguments);
    let consumer = consuming.await.map_err(|error| unreadable(error, stream))?;
    Ok((channel, consumer))
}

fn offset(delivery: &Delivery) -> Option<u64> {
    match delivery.properties.headers().as_ref()?.inner().get("x-stream-offset")? {
        AMQPValue::LongLongInt(offset) => u64::try_from(*offset).ok(),
        AMQPValue::LongInt(offset) => u64::try_from(*offset).ok(),
        AMQPValue::LongUInt(offset) => Some(u64::from(*offset)),
        _ => None,
    }
}

fn unreadable(error: lapin::Error, stream: &ShortString) -> LogError {
    match reply::code(&error) {
        Some(NOT_FOUND) => LogError::Missing(stream.clone()),
        Some(ACCESS_REFUSED) => LogError::Forbidden(stream.clone()),
        _ => lost(error),
    }
}

fn lost(error: lapin::Error) -> LogError {
    LogError::Lost(connection::words(&error))
}
