//! One visit to the failed queue: all its messages are taken, looked at, and given back in the order they lay in.
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

pub use super::{held::Held, turn::Guard};
use super::{
    interrupt::Holding,
    turn::{count, count_alone, lock},
};
use crate::{
    broker::{
        connection::{self, ConnectError, Connection},
        reply::{self, ACCESS_REFUSED, NOT_FOUND},
    },
    settings::Amqp,
};

/// Most consumers of a visit. RabbitMQ gives back what a closed channel held consumer by consumer, in the order of their
/// names as long as the queue has at most 32 of them, and in no order beyond (measured on 3.10 and 4.0).
const BATCHES: u64 = 30;

/// Fewest messages in a batch, where the queue has that many. What a visit holds in memory is one batch.
const SMALLEST: u64 = 256;

/// Most messages in a batch: a prefetch has 16 bits.
const LARGEST: u64 = 65_535;

/// Silence after which the queue is asked whether there is anything left.
const SILENCE: Duration = Duration::from_millis(500);

/// Longest silence while the queue still says that it has messages.
const PATIENCE: Duration = Duration::from_secs(10);

/// Longest wait for other readers, if there are any, to be gone: one that was killed goes within a moment.
const OTHERS: Duration = Duration::from_secs(1);

/// Acks on one channel that a broker takes in for sure: it begins to hold them back above 32.
const SURE: u64 = 16;

/// Most looks at what is left. Each leaves only acks of the look before.
const LOOKS: usize = 10;

/// Longest reading of what nobody wants to look at any more.
const READING_ON: Duration = Duration::from_secs(60);

/// Longest wait for what was given back to lie on the queue again, so that the next visitor sees all of it.
const GIVING_BACK: Duration = Duration::from_secs(5);

/// Why a visit came to nothing, or had to be broken off. All messages stay on the queue. Names no credentials.
#[derive(Debug, thiserror::Error)]
pub enum VisitError {
    /// The broker cannot be reached.
    #[error("cannot connect to {0}")]
    Connect(#[from] ConnectError),
    /// There is no such queue.
    #[error("there is no queue {0}")]
    NoQueue(ShortString),
    /// The user may not read the queue.
    #[error("the user of amqp.urls may not read queue {0}")]
    Forbidden(ShortString),
    /// Another visitor does not leave.
    #[error("another leadhook command or console is reading the queue, and only one can read it at a time")]
    Busy,
    /// The process was asked to stop.
    #[error("interrupted: the messages that were held are on the queue again, in their order")]
    Interrupted,
    /// The broker ended it.
    #[error("lost the connection to the broker, and all messages that were held are on the queue again: {0}")]
    Lost(String),
}

impl VisitError {
    /// What to do about it.
    pub fn help(&self) -> &'static str {
        match self {
            VisitError::Connect(error) => error.help(),
            VisitError::NoQueue(_) => "run `leadhook topology apply`, or correct amqp.prefix, which begins the name",
            VisitError::Forbidden(_) => "give the user of amqp.urls read permission on the queue",
            VisitError::Busy => "try again when it has ended",
            VisitError::Interrupted => "run the command again to do the rest",
            VisitError::Lost(_) => "run the command again",
        }
    }
}

/// A visit.
pub struct Visit {
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

impl Visit {
    /// Connects, waits for its turn (`waiting` is called once if there is somebody else), and counts what is there.
    /// `at_most` bounds how many messages will be taken.
    ///
    /// # Errors
    /// As [`VisitError`] says; nothing was taken.
    pub async fn open(
        amqp: &Amqp,
        queue: &ShortString,
        at_most: Option<u64>,
        waiting: impl FnOnce(),
    ) -> Result<Visit, VisitError> {
        let connection = Arc::new(connection::connect(amqp, "desk", 0).await?);
        let guard = lock(&connection, &format!("{}.desk", amqp.prefix).into(), waiting).await?;
        let channel = connection.create_channel().await.map_err(lost)?;
        let counting = count_alone(&channel, queue, 0, OTHERS).await;
        let (present, others) = counting.map_err(|error| unreadable(error, queue))?;
        let expected = present.min(at_most.unwrap_or(u64::MAX)).min(BATCHES * LARGEST);
        Ok(Visit {
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

    /// The same, and it ends when that is asked for.
    pub fn ending_when_asked(mut self, holding: Holding) -> Visit {
        self.holding = Some(holding);
        self
    }

    /// Whether somebody asked for its end.
    pub fn is_over(&self) -> bool {
        self.holding.as_ref().is_some_and(Holding::is_over)
    }

    /// Waits until somebody asks for its end.
    pub async fn over(&self) {
        match &self.holding {
            Some(holding) => holding.over().await,
            None => std::future::pending().await,
        }
    }

    /// Messages that were ready at the beginning.
    pub fn present(&self) -> u64 {
        self.present
    }

    /// Messages this visit will take if nobody interferes.
    pub fn expected(&self) -> u64 {
        self.expected
    }

    /// Messages that were there and did not come: somebody else holds them.
    pub fn missing(&self) -> u64 {
        self.expected - self.taken
    }

    /// Whether something else was reading the queue when this visit began: what it held is not counted anywhere.
    pub fn others(&self) -> bool {
        self.others > 0
    }

    /// Whether other visitors are kept away.
    pub fn guard(&self) -> Guard {
        self.guard
    }

    /// The next messages of the queue, empty at the end. They stay held until [`Visit::leave`]; what is removed before
    /// that makes room for nobody, since the batch's consumer is gone already.
    ///
    /// # Errors
    /// [`VisitError::Interrupted`]: leave it now. [`VisitError::Lost`]: all that was held is on the queue again.
    pub async fn next(&mut self) -> Result<Vec<Held>, VisitError> {
        if self.is_over() {
            return Err(VisitError::Interrupted);
        }
        self.read().await
    }

    async fn read(&mut self) -> Result<Vec<Held>, VisitError> {
        let wanted = self.batch.min(self.expected - self.taken);
        if wanted == 0 || self.ended || self.batches == BATCHES {
            return Ok(Vec::new());
        }
        self.batches += 1;
        let tag = ShortString::from(format!("desk-{:02}", self.batches));
        let batch = self.take(&tag, wanted).await?;
        self.taken += batch.len() as u64;
        self.ended = (batch.len() as u64) < wanted;
        Ok(batch)
    }

    async fn take(&self, tag: &ShortString, wanted: u64) -> Result<Vec<Held>, VisitError> {
        let prefetch = u16::try_from(wanted).unwrap_or(u16::MAX);
        self.channel.basic_qos(prefetch, BasicQosOptions::default()).await.map_err(lost)?;
        let options = BasicConsumeOptions::default();
        let consuming = self.channel.basic_consume(self.queue.clone(), tag.clone(), options, FieldTable::default());
        let mut consumer = consuming.await.map_err(|error| unreadable(error, &self.queue))?;
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
                Ok(None) => return Err(VisitError::Lost("the broker cancelled the consumer".into())),
                Err(_) => {
                    let (ready, _) = count(&self.channel, &self.queue).await.map_err(lost)?;
                    if (ready == 0 && emptied) || heard.elapsed() > PATIENCE {
                        break;
                    }
                    // The answer may overtake the messages that the queue has given out to us.
                    emptied = ready == 0;
                }
            }
        }
        self.channel.basic_cancel(tag.clone(), BasicCancelOptions::default()).await.map_err(lost)?;
        // What came before the answer to that is held, and would not come again.
        while batch.len() < usize::from(prefetch)
            && let Ok(Some(Ok(delivery))) = tokio::time::timeout(SILENCE, consumer.next()).await
        {
            batch.push(held(delivery));
        }
        Ok(batch)
    }

    /// Gives everything back that was not removed, and begins anew with all that is there now.
    ///
    /// # Errors
    /// As [`VisitError`] says; all that was held is on the queue again.
    pub async fn again(&mut self) -> Result<(), VisitError> {
        self.read_on().await;
        let (present, others) = self.give_back().await.map_err(lost)?;
        self.channel = self.connection.create_channel().await.map_err(lost)?;
        (self.present, self.others) = (present, others);
        self.expected = present.min(BATCHES * LARGEST);
        self.batch = batch_size(self.expected);
        (self.batches, self.taken, self.ended) = (0, 0, false);
        Ok(())
    }

    /// Ends the visit, and makes sure that what was removed is gone: a busy broker works acks off with a delay, and forgets
    /// the rest when the channel closes. So what `removed` knows is removed again where it still lies. `acked` messages were
    /// removed until now.
    ///
    /// # Errors
    /// As [`VisitError`] says; some of what was removed may be on the queue still.
    pub async fn make_sure(mut self, mut acked: u64, removed: impl Fn(&Held) -> bool) -> Result<(), VisitError> {
        for _ in 0..LOOKS {
            if acked <= SURE {
                break;
            }
            acked = 0;
            self.again().await?;
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

    /// Gives everything back that was not removed, and lets the next visitor in. Failing is harmless: the broker does the
    /// same when the connection ends.
    pub async fn leave(mut self) {
        self.left = true;
        self.read_on().await;
        let goodbye = async {
            self.give_back().await?;
            self.connection.close(200, "goodbye".into()).await
        };
        let _ = tokio::time::timeout(2 * GIVING_BACK, goodbye).await;
    }

    /// Takes what was not looked at: of messages that were held before, those given back alone lie behind the rest. Failing
    /// costs the order and nothing else.
    async fn read_on(&mut self) {
        let reading = async { while self.read().await.is_ok_and(|batch| !batch.is_empty()) {} };
        let _ = tokio::time::timeout(READING_ON, reading).await;
    }

    /// Closes the channel, which gives back at once and in order, and waits until that shows: as long as the queue counts
    /// a consumer of ours, it holds messages that were not removed, or has not worked off their acks.
    async fn give_back(&self) -> Result<(u64, u32), lapin::Error> {
        self.channel.close(200, "seen".into()).await?;
        let counting = self.connection.create_channel().await?;
        count_alone(&counting, &self.queue, self.others, GIVING_BACK).await
    }
}

/// Who forgets a visit, a page that nobody waits for any more, say, has not given back in order: that is done behind
/// its back.
impl Drop for Visit {
    fn drop(&mut self) {
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        if std::mem::replace(&mut self.left, true) {
            return;
        }
        let rest = Visit {
            connection: self.connection.clone(),
            channel: self.channel.clone(),
            queue: self.queue.clone(),
            holding: self.holding.take(),
            ..*self
        };
        runtime.spawn(rest.leave());
    }
}

/// Large enough that few are needed; see [`BATCHES`].
fn batch_size(expected: u64) -> u64 {
    expected.div_ceil(BATCHES).clamp(SMALLEST, LARGEST)
}

fn unreadable(error: lapin::Error, queue: &ShortString) -> VisitError {
    match reply::code(&error) {
        Some(NOT_FOUND) => VisitError::NoQueue(queue.clone()),
        Some(ACCESS_REFUSED) => VisitError::Forbidden(queue.clone()),
        _ => lost(error),
    }
}

fn lost(error: lapin::Error) -> VisitError {
    VisitError::Lost(connection::words(&error))
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
