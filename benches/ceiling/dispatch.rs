//! Events become jobs.

use anyhow::bail;
use futures::{FutureExt, StreamExt, future::BoxFuture, stream::FuturesOrdered};
use lapin::{
    BasicProperties, Channel, Confirmation, Consumer, PublisherConfirm,
    message::Delivery,
    options::BasicPublishOptions,
    types::{AMQPValue, FieldTable, ShortString},
};

use super::{Args, PATH, ack};

/// Publishes a job for each event; acks in order, as the confirms come.
pub async fn run(
    publish: Channel,
    jobs: String,
    events: Channel,
    mut consumer: Consumer,
    args: Args,
) -> anyhow::Result<()> {
    let jobs = ShortString::from(jobs);
    let mut under_way: FuturesOrdered<BoxFuture<'static, anyhow::Result<u64>>> = FuturesOrdered::new();
    loop {
        tokio::select! {
            biased;
            Some(confirmed) = under_way.next() => {
                let mut tag = confirmed?;
                let mut several = false;
                while let Some(Some(confirmed)) = under_way.next().now_or_never() {
                    if args.single_acks {
                        ack(&events, tag, false);
                    } else {
                        several = true;
                    }
                    tag = confirmed?;
                }
                ack(&events, tag, several);
            }
            delivery = consumer.next() => {
                let Some(delivery) = delivery.transpose()? else { bail!("the consumer has ended") };
                let (tag, publishing) = (delivery.delivery_tag, job(publish.clone(), jobs.clone(), delivery, args.headers));
                match args.await_writes {
                    true => {
                        let confirm = publishing.await?;
                        under_way.push_back(async move { accepted(confirm.await?).map(|()| tag) }.boxed());
                    }
                    false => under_way.push_back(async move { accepted(publishing.await?.await?).map(|()| tag) }.boxed()),
                }
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

async fn job(publish: Channel, jobs: ShortString, event: Delivery, more: usize) -> lapin::Result<PublisherConfirm> {
    let mut headers = FieldTable::default();
    headers.insert(PATH.into(), AMQPValue::LongString(campaign(&event.data).into()));
    for n in 0..more {
        headers.insert(format!("leadhook-header-{n}").into(), AMQPValue::LongString("as long as most are".into()));
    }
    let properties = BasicProperties::default().with_delivery_mode(2).with_headers(headers);
    let options = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
    publish.basic_publish("".into(), jobs, options, &event.data, properties).await
}

/// The campaign of an event, which says where it goes.
fn campaign(body: &[u8]) -> &str {
    const KEY: &[u8] = b"\"campaignId\":\"";
    let start = body.windows(KEY.len()).position(|window| window == KEY).map_or(0, |at| at + KEY.len());
    let end = body[start..].iter().position(|byte| *byte == b'"').map_or(start, |length| start + length);
    std::str::from_utf8(&body[start..end]).unwrap_or_default()
}
