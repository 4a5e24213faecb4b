//! Turns events into jobs.

use anyhow::{Context, bail};
use futures::{FutureExt, StreamExt, future::BoxFuture, stream::FuturesOrdered};
use lapin::{
    BasicProperties, Channel, Confirmation, Consumer, PublisherConfirm,
    message::Delivery,
    options::BasicPublishOptions,
    types::{AMQPValue, FieldTable, ShortString},
};

use super::{PATH, ack};

/// Publishes a job for each event, and acks in order as the confirms arrive.
pub async fn run(publish: Channel, jobs: String, events: Channel, mut consumer: Consumer) -> anyhow::Result<()> {
    let jobs = ShortString::from(jobs);
    let mut under_way: FuturesOrdered<BoxFuture<'static, anyhow::Result<u64>>> = FuturesOrdered::new();
    loop {
        tokio::select! {
            biased;
            Some(confirmed) = under_way.next() => {
                let mut tag = confirmed?;
                let mut several = false;
                while let Some(Some(confirmed)) = under_way.next().now_or_never() {
                    several = true;
                    tag = confirmed?;
                }
                ack(&events, tag, several);
            }
            delivery = consumer.next() => {
                let Some(delivery) = delivery.transpose()? else { bail!("the consumer has ended") };
                let (tag, publishing) = (delivery.delivery_tag, job(publish.clone(), jobs.clone(), delivery));
                under_way.push_back(async move { accepted(publishing.await?.await?).map(|()| tag) }.boxed());
            }
        }
    }
}

fn accepted(confirmation: Confirmation) -> anyhow::Result<()> {
    match confirmation {
        Confirmation::Ack(None) => Ok(()),
        other => bail!("not confirmed: {other:?}"),
    }
}

async fn job(publish: Channel, jobs: ShortString, event: Delivery) -> anyhow::Result<PublisherConfirm> {
    let mut headers = FieldTable::default();
    headers.insert(PATH.into(), AMQPValue::LongString(campaign(&event)?.into()));
    let properties = BasicProperties::default().with_delivery_mode(2).with_headers(headers);
    let options = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
    Ok(publish.basic_publish("".into(), jobs, options, &event.data, properties).await?)
}

/// Returns the campaign of an event, which is its path.
pub fn campaign(event: &Delivery) -> anyhow::Result<String> {
    const KEY: &[u8] = b"\"campaignId\":\"";
    let at = event.data.windows(KEY.len()).position(|window| window == KEY).context("an event without a campaign")?;
    let rest = &event.data[at + KEY.len()..];
    let campaign = rest.split(|byte| *byte == b'"').next().unwrap_or_default();
    Ok(String::from_utf8_lossy(campaign).into_owned())
}
