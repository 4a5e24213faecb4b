//! Where an intake's messages come from: a narrow consumer first, and a wide one once it has shown a message.
//!
//! A message that ends the connection as soon as it arrives, before Leadhook has seen it, charges a redelivery to all
//! that was sent ahead with it. So each connection begins with one message, and such a message charges only itself. A
//! message that kills the process later charges its neighbours too, which costs them nothing ([`super::suspects`]).

use std::sync::Arc;

use futures::{FutureExt, StreamExt};
use lapin::{
    Channel, Consumer,
    message::Delivery,
    options::{BasicCancelOptions, BasicConsumeOptions, BasicQosOptions},
    types::{FieldTable, ShortString},
};

use super::{acker::Acker, input::Input, pulse::Ward};
use crate::broker::{
    connection::{self, Connection},
    wire::Marks,
};

/// The consumers of one queue. They share a channel: what one of two dying channels held would be charged once more by the
/// other, to which the broker hands it first.
pub(super) struct Source {
    channel: Channel,
    queue: ShortString,
    prefetch: u16,
    narrow: Option<Consumer>,
    wide: Option<Consumer>,
    ward: Arc<Ward>,
    acks: Acker,
    marks: Arc<Marks>,
}

impl Source {
    /// Opens a channel; `prefetch` is how many messages there may be in the end, 1 or more.
    pub(super) async fn open(
        connection: &Connection,
        queue: &ShortString,
        prefetch: u16,
    ) -> Result<Source, lapin::Error> {
        let channel = connection::channel(connection).await?;
        let acks = Acker::new(channel.clone());
        let (queue, ward) = (queue.clone(), Ward::new(queue));
        let marks = connection.marks().clone();
        Ok(Source { channel, queue, prefetch, narrow: None, wide: None, ward, acks, marks })
    }

    /// Begins to consume, one message at a time. A channel that the broker has closed meanwhile is replaced. The broker
    /// closes it when a message that was started takes longer than `consumer_timeout`, also while nothing is consumed.
    pub(super) async fn begin(&mut self, connection: &Connection) -> Result<(), lapin::Error> {
        if !self.channel.status().connected() {
            self.channel = connection::channel(connection).await?;
            self.acks = Acker::new(self.channel.clone());
        }
        self.narrow = Some(consume(&self.channel, &self.queue, 1).await?);
        self.ward.widen(1);
        Ok(())
    }

    /// The next message. `None`: the broker has cancelled a consumer, or there is none. The first message opens
    /// the window.
    pub(super) async fn next(&mut self) -> Option<Result<Input, lapin::Error>> {
        let waits = self.ward.waits();
        let narrow = self.narrow.as_mut()?;
        let delivery = match &mut self.wide {
            None => narrow.next().await,
            Some(wide) => tokio::select! {
                delivery = narrow.next() => delivery,
                delivery = wide.next() => delivery,
            },
        };
        drop(waits);
        let input = match delivery? {
            Ok(delivery) => self.input(delivery),
            Err(error) => return Some(Err(error)),
        };
        if self.wide.is_none() && self.prefetch > 1 {
            match consume(&self.channel, &self.queue, self.prefetch - 1).await {
                Ok(wide) => {
                    self.wide = Some(wide);
                    self.ward.widen(self.prefetch - 1);
                }
                Err(error) => return Some(Err(error)),
            }
        }
        Some(Ok(input))
    }

    /// The next message, if it is here already and the window is open.
    pub(super) fn there(&mut self) -> Option<Option<Result<Input, lapin::Error>>> {
        let (narrow, wide) = (self.narrow.as_mut()?, self.wide.as_mut()?);
        let delivery = narrow.next().now_or_never().or_else(|| wide.next().now_or_never())?;
        Some(delivery.map(|delivery| delivery.map(|delivery| self.input(delivery))))
    }

    fn input(&self, delivery: Delivery) -> Input {
        let repairs = self.marks.take(self.channel.id(), delivery.delivery_tag);
        Input::new(delivery, repairs, self.ward.holds(), self.acks.clone())
    }

    /// What the intake shows of itself.
    pub(super) fn ward(&self) -> Arc<Ward> {
        self.ward.clone()
    }

    /// Stops consuming and gives back what was sent ahead: that costs no attempt. Receipts stay good as long as the source
    /// lives, and it may [begin](Source::begin) again.
    pub(super) async fn give_back(&mut self) -> Result<(), lapin::Error> {
        let consumers: Vec<_> = self.narrow.take().into_iter().chain(self.wide.take()).collect();
        // All of them first, or what one gives back goes to the next.
        for consumer in &consumers {
            self.channel.basic_cancel(consumer.tag(), BasicCancelOptions::default()).await?;
        }
        for mut consumer in consumers {
            while let Some(delivery) = consumer.next().await {
                self.input(delivery?).receipt.give_back();
            }
        }
        self.ward.narrow();
        Ok(())
    }
}

async fn consume(channel: &Channel, queue: &ShortString, prefetch: u16) -> Result<Consumer, lapin::Error> {
    // Holds for the consumers that come after it on this channel.
    channel.basic_qos(prefetch, BasicQosOptions::default()).await?;
    let options = BasicConsumeOptions::default();
    channel.basic_consume(queue.clone(), ShortString::default(), options, FieldTable::default()).await
}
