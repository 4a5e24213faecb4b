//! The lead platform. It publishes events with confirms, as fast as the broker accepts them or at a steady rate.

use std::time::{Duration, Instant};

use anyhow::{bail, ensure};
use futures::{StreamExt, stream::FuturesUnordered};
use lapin::{
    BasicProperties, Channel, Confirmation, PublisherConfirm,
    options::{BasicPublishOptions, ConfirmSelectOptions},
};

use crate::clock;

/// Limit of unconfirmed messages.
const UNDER_WAY: usize = 2_000;

/// Publishes to one exchange.
pub struct Upstream {
    channel: Channel,
    exchange: String,
    under_way: FuturesUnordered<PublisherConfirm>,
}

impl Upstream {
    /// Opens its own channel.
    pub async fn new(connection: &lapin::Connection, exchange: &str) -> anyhow::Result<Upstream> {
        let channel = connection.create_channel().await?;
        channel.confirm_select(ConfirmSelectOptions::default()).await?;
        Ok(Upstream { channel, exchange: exchange.to_owned(), under_way: FuturesUnordered::new() })
    }

    /// Publishes one event.
    pub async fn publish(&mut self, body: &[u8]) -> anyhow::Result<()> {
        let properties = BasicProperties::default().with_delivery_mode(2);
        let options = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
        let publishing = self.channel.basic_publish(
            self.exchange.as_str().into(),
            "lead.delivered".into(),
            options,
            body,
            properties,
        );
        self.under_way.push(publishing.await?);
        while self.under_way.len() >= UNDER_WAY {
            self.confirmed().await?;
        }
        Ok(())
    }

    /// Waits until all events are confirmed.
    pub async fn done(&mut self) -> anyhow::Result<()> {
        while !self.under_way.is_empty() {
            self.confirmed().await?;
        }
        Ok(())
    }

    /// Publishes `body(n)` at `rate` events a second for this time, and returns their number.
    ///
    /// It publishes the events that are due every millisecond, and does not wait for a slow broker.
    pub async fn steadily(
        &mut self,
        rate: f64,
        lasting: Duration,
        mut body: impl FnMut(u64) -> Vec<u8>,
    ) -> anyhow::Result<u64> {
        let begun = Instant::now();
        let mut tick = tokio::time::interval(Duration::from_millis(1));
        let mut published = 0;
        while begun.elapsed() < lasting {
            tick.tick().await;
            while (published as f64) < begun.elapsed().as_secs_f64() * rate {
                self.publish(&body(published)).await?;
                published += 1;
            }
            ensure!(self.under_way.len() < UNDER_WAY - 1, "the broker does not keep up with {rate} events a second");
            while let Some(Some(confirmation)) = futures::FutureExt::now_or_never(self.under_way.next()) {
                accepted(confirmation?)?;
            }
        }
        self.done().await?;
        Ok(published)
    }

    async fn confirmed(&mut self) -> anyhow::Result<()> {
        match self.under_way.next().await {
            Some(confirmation) => accepted(confirmation?),
            None => Ok(()),
        }
    }
}

fn accepted(confirmation: Confirmation) -> anyhow::Result<()> {
    match confirmation {
        Confirmation::Ack(None) => Ok(()),
        other => bail!("an event was not confirmed: {other:?}"),
    }
}

/// Builds an event of that campaign, which says when it was sent. The body is padded to `bytes`, if it is shorter.
pub fn event(campaign: &str, n: u64, bytes: usize) -> Vec<u8> {
    let head = format!(
        "{{\"event\":\"lead.delivered\",{}{:0digits$}\",\"leadId\":\"lead_{n}\",\"submissionId\":\"sub_{n}\",\
         \"campaignId\":\"{campaign}\",\"status\":\"delivered\",\"timestamp\":\"2026-06-15T10:30:00Z\",\
         \"data\":{{\"firstName\":\"John\",\"lastName\":\"Doe\",\"email\":\"john@example.com\",\"note\":\"",
        clock::SENT_AT,
        clock::now(),
        digits = clock::DIGITS,
    );
    let filling = bytes.saturating_sub(head.len() + 3);
    format!("{head}{}\"}}}}", "x".repeat(filling)).into_bytes()
}
