//! Asking the broker one thing after the other on one channel. Each refusal closes the channel, so the next question takes
//! a fresh one; a lost connection ends the asking.

use lapin::{
    Channel, Connection, ExchangeKind,
    options::{ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions},
    types::{AMQPValue, FieldTable, ShortString},
};

use super::{Argument, Count, Queue, TopologyError, refusal::Refused};
use crate::broker::connection;

/// Whether a declaration may create what is missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    /// Only look.
    Passive,
    /// Create it, or compare it with what stands.
    Active,
}

/// What the broker said; the outer error is a lost connection.
pub(super) type Answer<T> = Result<Result<T, Refused>, TopologyError>;

/// The one who asks.
pub(super) struct Asker<'a> {
    /// None: one question, on the channel that was brought along.
    connection: Option<&'a Connection>,
    channel: Option<Channel>,
}

impl<'a> Asker<'a> {
    pub(super) fn new(connection: &'a Connection) -> Asker<'a> {
        Asker { connection: Some(connection), channel: None }
    }

    /// For one question, on a channel that is open.
    pub(super) fn once(channel: Channel) -> Asker<'static> {
        Asker { connection: None, channel: Some(channel) }
    }

    /// Declares a queue as planned.
    pub(super) async fn declare(&mut self, queue: &Queue) -> Answer<()> {
        let options = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
        let channel = self.channel().await?;
        let answer = channel.queue_declare(queue.name.clone(), options, table(queue)).await;
        self.hear(answer.map(|_| ()))
    }

    /// Only looks at a queue, and counts.
    pub(super) async fn look(&mut self, name: &ShortString) -> Answer<Count> {
        let options = QueueDeclareOptions { passive: true, durable: true, ..QueueDeclareOptions::default() };
        let channel = self.channel().await?;
        let answer = channel.queue_declare(name.clone(), options, FieldTable::default()).await;
        self.hear(answer.map(|queue| Count { ready: queue.message_count().into(), consumers: queue.consumer_count() }))
    }

    /// Declares a durable topic exchange, or only looks (which sees neither type nor properties).
    pub(super) async fn exchange(&mut self, name: &ShortString, mode: Mode) -> Answer<()> {
        let passive = mode == Mode::Passive;
        let options = ExchangeDeclareOptions { passive, durable: true, ..ExchangeDeclareOptions::default() };
        let channel = self.channel().await?;
        let answer = channel.exchange_declare(name.clone(), ExchangeKind::Topic, options, FieldTable::default()).await;
        self.hear(answer)
    }

    /// Binds a queue to an exchange.
    pub(super) async fn bind(&mut self, queue: &ShortString, exchange: &ShortString, key: &ShortString) -> Answer<()> {
        let (queue, exchange, key) = (queue.clone(), exchange.clone(), key.clone());
        let channel = self.channel().await?;
        let options = QueueBindOptions::default();
        let answer = channel.queue_bind(queue, exchange, key, options, FieldTable::default()).await;
        self.hear(answer)
    }

    async fn channel(&mut self) -> Result<Channel, TopologyError> {
        if let Some(channel) = &self.channel {
            return Ok(channel.clone());
        }
        let gone = || TopologyError::Lost("the channel is gone".to_owned());
        let connection = self.connection.ok_or_else(gone)?;
        let channel =
            connection::channel(connection).await.map_err(|error| TopologyError::Lost(connection::words(&error)))?;
        Ok(self.channel.insert(channel).clone())
    }

    fn hear<T>(&mut self, answer: lapin::Result<T>) -> Answer<T> {
        match answer {
            Ok(value) => Ok(Ok(value)),
            Err(error) => {
                self.channel = None;
                Refused::of(&error).map(Err)
            }
        }
    }
}

fn table(queue: &Queue) -> FieldTable {
    let mut table = FieldTable::default();
    for (key, value) in queue.arguments() {
        let value = match value {
            Argument::Text(text) => AMQPValue::LongString(text.into()),
            Argument::Seconds(_) => AMQPValue::LongString(value.to_string().into()),
            Argument::Number(number) => AMQPValue::LongLongInt(number),
        };
        table.insert(key.into(), value);
    }
    table
}
