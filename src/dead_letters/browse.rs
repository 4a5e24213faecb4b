//! One browse of a queue: takes every message, shows it, and gives all of them back in order.
//!
//! See the parent module for the rules and what they prevent.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use futures::StreamExt;
use lapin::{
    Channel,
    message::Delivery,
    options::{BasicCancelOptions, BasicConsumeOptions, BasicQosOptions},
    types::{FieldTable, ShortString},
};

use super::{
    browse_error::BrowseError,
    browse_lock::{count, count_alone, lock},
    interrupt::Holding,
};
pub use super::{browse_lock::Guard, held::Held};
use crate::{
    broker::{
        connection::{self, Connection},
        reply::{self, ACCESS_REFUSED, NOT_FOUND},
    },
    settings::Amqp,
};

/// Most consumers of a browse. When a channel closes, RabbitMQ gives its messages back consumer by consumer. It follows
/// the order of their names while the queue has at most 32 consumers. With more, the order is arbitrary (measured on
/// 3.10 and 4.0).
const BATCHES: u64 = 30;

/// Fewest messages in a batch, if the queue has that many. A browse holds one batch in memory.
const SMALLEST: u64 = 256;

/// Most messages in a batch, because a prefetch count has 16 bits.
const LARGEST: u64 = 65_535;

/// Silence after which the browse asks the queue whether messages are left.
const SILENCE: Duration = Duration::from_millis(500);

/// Longest silence while the queue still reports messages.
const PATIENCE: Duration = Duration::from_secs(10);

/// Longest wait for other readers to leave. A killed reader is gone within a moment.
const OTHERS: Duration = Duration::from_secs(1);

/// Acks on one channel that a broker surely processes: it begins to hold acks back above 32.
const SURE: u64 = 16;

/// Most passes that check the acks. Each repeats only the acks that the pass before lost.
const LOOKS: usize = 10;

/// Longest time to read the rest of the queue when a browse ends early.
const READING_ON: Duration = Duration::from_secs(60);

/// Longest wait until returned messages are on the queue again, so that the next browse sees all of them.
const GIVING_BACK: Duration = Duration::from_secs(5);

/// A browse of a queue.
pub struct Browse {
    connection: Arc<Connection>,
    channel: Channel,
    queue: ShortString,
    guard: Guard,
    present: u64,
    others: u32,
    expected: u64,
    batch: u64,
    batches: u64,
    taken: u64,
    ended: bool,
    holding: Option<Holding>,
    left: bool,
}

impl Browse {
    /// Connects, waits for its turn, and counts the messages. Calls `waiting` once if another browse is in progress.
    /// `at_most` bounds how many messages it will take.
    ///
    /// # Errors
    /// See [`BrowseError`]. No message was taken.
    pub async fn open(
        amqp: &Amqp,
        queue: &ShortString,
        at_most: Option<u64>,
        waiting: impl FnOnce(),
    ) -> Result<Browse, BrowseError> {
        let connection = Arc::new(connection::connect(amqp, "browse", 0).await?);
        let guard = lock(&connection, &format!("{}.browse", amqp.prefix).into(), waiting).await?;
        let channel = connection.create_channel().await.map_err(lost)?;
        let counting = count_alone(&channel, queue, 0, OTHERS).await;
        let (present, others) = counting.map_err(|error| read_error(error, queue))?;
        let expected = present.min(at_most.unwrap_or(u64::MAX)).min(BATCHES * LARGEST);
        Ok(Browse {
            connection,
            channel,
            queue: queue.clone(),
            guard,
            present,
            others,
            expected,
            batch: batch_size(expected),
            batches: 0,
            taken: 0,
            ended: false,
            holding: None,
            left: false,
        })
    }

    /// Makes the browse end when `holding` says so.
    pub fn ending_when_asked(mut self, holding: Holding) -> Browse {
        self.holding = Some(holding);
        self
    }

    /// Returns whether the browse was asked to end ([`Browse::ending_when_asked`]).
    pub fn is_interrupted(&self) -> bool {
        self.holding.as_ref().is_some_and(Holding::is_interrupted)
    }

    /// Waits until the browse is asked to end.
    pub async fn interrupted(&self) {
        match &self.holding {
            Some(holding) => holding.interrupted().await,
            None => std::future::pending().await,
        }
    }

    /// Returns how many messages were ready at the beginning.
    pub fn present(&self) -> u64 {
        self.present
    }

    /// Returns how many messages this browse will take if no other reader interferes.
    pub fn expected(&self) -> u64 {
        self.expected
    }

    /// Returns how many expected messages did not come, because another reader holds them.
    pub fn missing(&self) -> u64 {
        self.expected - self.taken
    }

    /// Returns whether another reader was at the queue when this browse began. The messages that it held are not
    /// counted.
    pub fn others(&self) -> bool {
        self.others > 0
    }

    /// Returns whether other readers are kept away.
    pub fn guard(&self) -> Guard {
        self.guard
    }

    /// Returns the next messages of the queue, or none at the end. They stay held until [`Browse::leave`]. Removing some
    /// does not fetch others, because the batch's consumer is already gone.
    ///
    /// # Errors
    /// [`BrowseError::Interrupted`]: end the browse now. [`BrowseError::Lost`]: all held messages are on the queue again.
    pub async fn next(&mut self) -> Result<Vec<Held>, BrowseError> {
        if self.is_interrupted() {
            return Err(BrowseError::Interrupted);
        }
        self.read().await
    }

    async fn read(&mut self) -> Result<Vec<Held>, BrowseError> {
        let wanted = self.batch.min(self.expected - self.taken);
        if wanted == 0 || self.ended || self.batches == BATCHES {
            return Ok(Vec::new());
        }
        self.batches += 1;
        let tag = ShortString::from(format!("browse-{:02}", self.batches));
        let batch = self.take(&tag, wanted).await?;
        self.taken += batch.len() as u64;
        self.ended = (batch.len() as u64) < wanted;
        Ok(batch)
    }

    async fn take(&self, tag: &ShortString, wanted: u64) -> Result<Vec<Held>, BrowseError> {
        let prefetch = u16::try_from(wanted).unwrap_or(u16::MAX);
        self.channel.basic_qos(prefetch, BasicQosOptions::default()).await.map_err(lost)?;
        let options = BasicConsumeOptions::default();
        let consuming = self.channel.basic_consume(self.queue.clone(), tag.clone(), options, FieldTable::default());
        let mut consumer = consuming.await.map_err(|error| read_error(error, &self.queue))?;
        let mut batch = Vec::with_capacity(prefetch.into());
        let held = |delivery: Delivery| {
            let repairs = self.connection.marks().take(self.channel.id(), delivery.delivery_tag);
            Held::new(delivery, repairs)
        };
        let (mut heard, mut emptied) = (Instant::now(), false);
        while batch.len() < usize::from(prefetch) {
            match tokio::time::timeout(SILENCE, consumer.next()).await {
                Ok(Some(Ok(delivery))) => {
                    batch.push(held(delivery));
                    (heard, emptied) = (Instant::now(), false);
                }
                Ok(Some(Err(error))) => return Err(lost(error)),
                Ok(None) => return Err(BrowseError::Lost("the broker cancelled the consumer".into())),
                Err(_) => {
                    let (ready, _) = count(&self.channel, &self.queue).await.map_err(lost)?;
                    if (ready == 0 && emptied) || heard.elapsed() > PATIENCE {
                        break;
                    }
                    // The answer may overtake messages that are on their way.
                    emptied = ready == 0;
                }
            }
        }
        self.channel.basic_cancel(tag.clone(), BasicCancelOptions::default()).await.map_err(lost)?;
        // Messages that came before the broker's answer are held, and would not come again.
        while batch.len() < usize::from(prefetch)
            && let Ok(Some(Ok(delivery))) = tokio::time::timeout(SILENCE, consumer.next()).await
        {
            batch.push(held(delivery));
        }
        Ok(batch)
    }

    /// Gives back all messages that were not removed, and starts again with all that are on the queue now.
    ///
    /// # Errors
    /// See [`BrowseError`]. All held messages are on the queue again.
    pub async fn restart(&mut self) -> Result<(), BrowseError> {
        self.read_on().await;
        let (present, others) = self.give_back().await.map_err(lost)?;
        self.channel = self.connection.create_channel().await.map_err(lost)?;
        (self.present, self.others) = (present, others);
        self.expected = present.min(BATCHES * LARGEST);
        self.batch = batch_size(self.expected);
        (self.batches, self.taken, self.ended) = (0, 0, false);
        Ok(())
    }

    /// Ends the browse, and confirms that the removed messages are gone. A busy broker processes acks late, and forgets
    /// the rest when the channel closes. So the messages that `removed` recognizes are removed again if they are still
    /// there. `acked` is the number of messages removed so far.
    ///
    /// # Errors
    /// See [`BrowseError`]. Some removed messages may still be on the queue.
    pub async fn confirm_removed(mut self, mut acked: u64, removed: impl Fn(&Held) -> bool) -> Result<(), BrowseError> {
        for _ in 0..LOOKS {
            if acked <= SURE {
                break;
            }
            acked = 0;
            self.restart().await?;
            loop {
                let batch = self.read().await?;
                if batch.is_empty() {
                    break;
                }
                for held in batch.iter().filter(|held| removed(held)) {
                    acked += u64::from(held.remove().await);
                }
            }
        }
        self.leave().await;
        Ok(())
    }

    /// Gives back all messages that were not removed, and lets the next browse in. A failure is harmless: the broker
    /// does the same when the connection ends.
    pub async fn leave(mut self) {
        self.left = true;
        self.read_on().await;
        let goodbye = async {
            self.give_back().await?;
            self.connection.close(200, "goodbye".into()).await
        };
        let _ = tokio::time::timeout(2 * GIVING_BACK, goodbye).await;
    }

    /// Takes the messages that were not read yet, so that all go back together. Messages that were held before go
    /// behind the rest if they go back alone. A failure costs only the order.
    async fn read_on(&mut self) {
        let reading = async { while self.read().await.is_ok_and(|batch| !batch.is_empty()) {} };
        let _ = tokio::time::timeout(READING_ON, reading).await;
    }

    /// Closes the channel, which gives messages back at once and in order, and waits until that shows. While the queue
    /// counts one of our consumers, it holds messages that were not removed, or has not processed their acks.
    async fn give_back(&self) -> Result<(u64, u32), lapin::Error> {
        self.channel.close(200, "seen".into()).await?;
        let counting = self.connection.create_channel().await?;
        count_alone(&counting, &self.queue, self.others, GIVING_BACK).await
    }
}

/// Gives the messages back in order if a browse is dropped without [`Browse::leave`], for example when a person no longer
/// waits for a page. A background task does so.
impl Drop for Browse {
    fn drop(&mut self) {
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        if std::mem::replace(&mut self.left, true) {
            return;
        }
        let rest = Browse {
            connection: self.connection.clone(),
            channel: self.channel.clone(),
            queue: self.queue.clone(),
            holding: self.holding.take(),
            ..*self
        };
        runtime.spawn(rest.leave());
    }
}

/// Returns a size that is large enough for few batches; see [`BATCHES`].
fn batch_size(expected: u64) -> u64 {
    expected.div_ceil(BATCHES).clamp(SMALLEST, LARGEST)
}

fn read_error(error: lapin::Error, queue: &ShortString) -> BrowseError {
    match reply::code(&error) {
        Some(NOT_FOUND) => BrowseError::NoQueue(queue.clone()),
        Some(ACCESS_REFUSED) => BrowseError::Forbidden(queue.clone()),
        _ => lost(error),
    }
}

fn lost(error: lapin::Error) -> BrowseError {
    BrowseError::Lost(connection::words(&error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_batches_whatever_the_size() {
        for expected in [0, 1, 255, 256, 257, 7_679, 7_680, 7_681, 100_000, BATCHES * LARGEST] {
            let batch = batch_size(expected);
            assert!((SMALLEST..=LARGEST).contains(&batch), "{expected}");
            assert!(expected.div_ceil(batch) <= BATCHES, "{expected}");
        }
        assert_eq!((batch_size(10), batch_size(100_000)), (256, 3_334));
    }
}
