//! The source of an intake's messages: one consumer on its own channel.

use std::sync::Arc;

use futures::{FutureExt, StreamExt};
use lapin::{
    Channel, Consumer,
    message::Delivery,
    options::{BasicCancelOptions, BasicConsumeOptions, BasicQosOptions},
    types::{FieldTable, ShortString},
};

use crate::{
    broker::{
        connection::{self, Connection},
        wire::Marks,
    },
    worker::message::{Input, acker::Acker, consumer_state::ConsumerState},
};

/// The consumer of one queue.
pub(crate) struct Source {
    channel: Channel,
    queue: ShortString,
    prefetch: u16,
    consumer: Option<Consumer>,
    state: Arc<ConsumerState>,
    acks: Acker,
    marks: Arc<Marks>,
}

impl Source {
    /// Opens a channel. `prefetch` is the largest number of unacked messages, 1 or more.
    pub(crate) async fn open(
        connection: &Connection,
        queue: &ShortString,
        prefetch: u16,
    ) -> Result<Source, lapin::Error> {
        let channel = connection::channel(connection).await?;
        let acks = Acker::new(channel.clone());
        let (queue, state) = (queue.clone(), ConsumerState::new(queue));
        let marks = connection.marks().clone();
        Ok(Source { channel, queue, prefetch, consumer: None, state, acks, marks })
    }

    /// Begins to consume. Replaces a channel that the broker has closed meanwhile. The broker closes it when a started
    /// message takes longer than `consumer_timeout`, even while nothing is consumed.
    pub(crate) async fn begin(&mut self, connection: &Connection) -> Result<(), lapin::Error> {
        if !self.channel.status().connected() {
            self.channel = connection::channel(connection).await?;
            self.acks = Acker::new(self.channel.clone());
        }
        self.channel.basic_qos(self.prefetch, BasicQosOptions::default()).await?;
        let options = BasicConsumeOptions::default();
        let consuming =
            self.channel.basic_consume(self.queue.clone(), ShortString::default(), options, FieldTable::default());
        self.consumer = Some(consuming.await?);
        self.state.set_window(self.prefetch);
        Ok(())
    }

    /// Waits for the next message. Returns `None` if the broker has cancelled the consumer, or if there is none.
    /// Cancelling the wait loses no message.
    pub(crate) async fn next(&mut self) -> Option<Result<Input, lapin::Error>> {
        let waits = self.state.waits();
        let delivery = self.consumer.as_mut()?.next().await;
        drop(waits);
        Some(delivery?.map(|delivery| self.input(delivery)))
    }

    /// Returns the next message if it has already arrived.
    pub(crate) fn try_next(&mut self) -> Option<Option<Result<Input, lapin::Error>>> {
        let delivery = self.consumer.as_mut()?.next().now_or_never()?;
        Some(delivery.map(|delivery| delivery.map(|delivery| self.input(delivery))))
    }

    fn input(&self, delivery: Delivery) -> Input {
        let repairs = self.marks.take(self.channel.id(), delivery.delivery_tag);
        Input::new(delivery, repairs, self.state.holds(), self.acks.clone())
    }

    /// Returns the state of the consumer.
    pub(crate) fn state(&self) -> Arc<ConsumerState> {
        self.state.clone()
    }

    /// Stops consuming and gives back the prefetched messages, which costs no attempt. Receipts stay valid while the
    /// source lives, and it may [begin](Source::begin) again.
    pub(crate) async fn give_back(&mut self) -> Result<(), lapin::Error> {
        if let Some(mut consumer) = self.consumer.take() {
            self.channel.basic_cancel(consumer.tag(), BasicCancelOptions::default()).await?;
            while let Some(delivery) = consumer.next().await {
                self.input(delivery?).receipt.give_back();
            }
        }
        self.state.set_window(0);
        Ok(())
    }
}
