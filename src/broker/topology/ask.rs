//! Sends requests to the broker one after the other on one channel. Each refusal closes the channel, so the next
//! request takes a new one. A lost connection ends the sequence.

use lapin::{
    Channel, Connection, ExchangeKind,
    options::{ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions},
    types::{AMQPValue, FieldTable, ShortString},
};

use super::{Argument, Count, Queue, TopologyError, refusal::Refused};
use crate::broker::connection;

/// Whether a declare may create a missing exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    /// Only looks.
    Passive,
    /// Creates it, or compares it with the existing one.
    Active,
}

/// The broker's answer. The outer error is a lost connection.
pub(super) type Answer<T> = Result<Result<T, Refused>, TopologyError>;

/// Sends requests on one channel after the other.
pub(super) struct Asker<'a> {
    /// `None` for one request on the caller's channel.
    connection: Option<&'a Connection>,
    channel: Option<Channel>,
}

impl<'a> Asker<'a> {
    pub(super) fn new(connection: &'a Connection) -> Asker<'a> {
        Asker { connection: Some(connection), channel: None }
    }

    /// Prepares one request on an open channel.
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

    /// Only looks at a queue, and counts its messages and consumers.
    pub(super) async fn look(&mut self, name: &ShortString) -> Answer<Count> {
        let options = QueueDeclareOptions { passive: true, durable: true, ..QueueDeclareOptions::default() };
        let channel = self.channel().await?;
        let answer = channel.queue_declare(name.clone(), options, FieldTable::default()).await;
        self.hear(answer.map(|queue| Count { ready: queue.message_count().into(), consumers: queue.consumer_count() }))
    }

    /// Declares a durable topic exchange, or only looks, which shows neither type nor properties.
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
