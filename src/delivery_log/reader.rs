//! Reading the delivery log, from some moment to what was its end when the reading began, or on and on.
//!
//! A stream is read without being changed: any number of people may read at once, and no look wears anything out. RabbitMQ
//! finds a moment by whole chunks and by its own clock, so a reader begins somewhat earlier (`SLACK`), and whoever asks
//! for a time has to look at the records' own.

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

/// Messages that the broker sends ahead; each has up to 64 KiB.
const AHEAD: u16 = 200;

/// Messages of which one ack tells that they were read.
const ACK_EVERY: u64 = 50;

/// How much earlier than asked a reading begins: clocks differ, and records gather before they are sent.
const SLACK: Duration = Duration::from_secs(300);

/// Longest wait for a message that must come.
const PATIENCE: Duration = Duration::from_secs(10);

/// Silence after which a stream that says that it is empty counts as empty, or one that has spoken as read to its end.
const SILENCE: Duration = Duration::from_secs(1);

/// Where to begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// With the oldest record that is kept.
    Oldest,
    /// With the records of that moment, and some before it.
    At(Timestamp),
    /// With what is written from now on.
    Now,
}

/// Why the log cannot be read. Names no credentials.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The broker cannot be reached.
    #[error("cannot connect to {0}")]
    Connect(#[from] ConnectError),
    /// There is no such stream.
    #[error("there is no delivery log (stream {0})")]
    Missing(ShortString),
    /// The user may not read it.
    #[error("the user of amqp.urls may not read the delivery log (stream {0})")]
    Forbidden(ShortString),
    /// The broker ended it.
    #[error("lost the connection to the broker: {0}")]
    Lost(String),
    /// There is more, and it does not come. What was read until then is half an answer.
    #[error("the broker sent nothing of the delivery log for {} s, although there is more of it", PATIENCE.as_secs())]
    Stalled,
}

impl LogError {
    /// What to do about it.
    pub fn help(&self) -> &'static str {
        match self {
            LogError::Connect(error) => error.help(),
            LogError::Missing(_) => "start a worker with delivery_log.enabled = true: the first one makes the log",
            LogError::Forbidden(_) => "give the user of amqp.urls read permission on the stream",
            LogError::Lost(_) | LogError::Stalled => "run the command again",
        }
    }
}

/// How far a reading has come, in messages of the stream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Messages read.
    pub read: u64,
    /// Messages to be read altogether, as far as is known.
    pub of: u64,
}

/// A reading.
pub struct LogReader {
    connection: Connection,
    channel: Channel,
    consumer: Consumer,
    seen: Seen,
    /// Offset of the first message that came.
    first: Option<u64>,
    /// Offset of the message that the reading ends with; none: it goes on and on.
    end: Option<u64>,
    read: u64,
    ended: bool,
}

impl LogReader {
    /// Connects and begins to read.
    ///
    /// # Errors
    /// As [`LogError`] says.
    pub async fn open(amqp: &Amqp, stream: &ShortString, start: Start) -> Result<LogReader, LogError> {
        let connection = connection::connect(amqp, "desk", 0).await?;
        let patience = patience(&connection, stream).await?;
        let (end, over) = match start {
            Start::Now => (None, false),
            Start::Oldest => {
                last(&connection, stream, patience).await?.map_or((None, true), |last| (Some(last.at), false))
            }
            Start::At(moment) => match last(&connection, stream, patience).await? {
                // Where all of it was sent before that moment the broker would wait for what is to come.
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

    /// The next message, as it came; none at the end. What is none of ours, and what was read before, is passed over.
    ///
    /// # Errors
    /// The connection is lost, or the broker does not go on.
    pub async fn next(&mut self) -> Result<Option<Vec<u8>>, LogError> {
        while !self.ended {
            let next = match self.end {
                None => self.consumer.next().await,
                Some(_) => match tokio::time::timeout(PATIENCE, self.consumer.next()).await {
                    Ok(next) => next,
                    // What is thrown away meanwhile, by its age or by the stream's length, is skipped, and the last
                    // message never is.
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

    /// How far it has come.
    pub fn progress(&self) -> Progress {
        let of = match (self.first, self.end) {
            (Some(first), Some(end)) => end.saturating_sub(first) + 1,
            _ => self.read,
        };
        Progress { read: self.read, of }
    }

    /// Says goodbye. Failing is harmless.
    pub async fn leave(self) {
        let goodbye = self.connection.close(200, "goodbye".into());
        let _ = tokio::time::timeout(Duration::from_secs(1), goodbye).await;
    }
}

fn earlier(moment: Timestamp) -> Timestamp {
    moment.checked_sub(SLACK).unwrap_or(Timestamp::UNIX_EPOCH)
}

/// The time of the oldest record that is kept; none where there is no record.
///
/// # Errors
/// As [`LogError`] says.
pub async fn oldest(amqp: &Amqp, stream: &ShortString) -> Result<Option<Timestamp>, LogError> {
    let connection = connection::connect(amqp, "desk", 0).await?;
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

/// How long to wait for a first message: a moment where the stream says that it has none, which it says for some
/// seconds after its first one came, too.
async fn patience(connection: &Connection, stream: &ShortString) -> Result<Duration, LogError> {
    let declaring = connection.create_channel().await.map_err(lost)?;
    let passive = QueueDeclareOptions { passive: true, durable: true, ..QueueDeclareOptions::default() };
    let declared = declaring.queue_declare(stream.clone(), passive, FieldTable::default()).await;
    let declared = declared.map_err(|error| unreadable(error, stream))?;
    Ok(if declared.message_count() == 0 { SILENCE } else { PATIENCE })
}

/// The end of a stream.
struct Last {
    /// Offset of the last message.
    at: u64,
    /// When the latest of the last chunk's messages was sent, by its writer's clock; none where none says so. The records in
    /// it may be much older: those of a writer that was cut off for hours.
    sent: Option<Timestamp>,
}

/// Where the stream ends now; none when there is no message.
async fn last(connection: &Connection, stream: &ShortString, patience: Duration) -> Result<Option<Last>, LogError> {
    let (channel, mut consumer) = consume(connection, stream, AMQPValue::LongString("last".into()), AHEAD).await?;
    let mut found: Option<Last> = None;
    // The last chunk comes whole, at once; what follows it was written since, and need not be waited for.
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
