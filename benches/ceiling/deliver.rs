//! POSTs messages: jobs with two hops, events with one.

use anyhow::bail;
use bytes::Bytes;
use futures::{FutureExt, StreamExt, stream::FuturesUnordered};
use lapin::{Channel, Consumer, message::Delivery, types::AMQPValue};
use leadhook::broker::acks::{Frame, Outstanding};

use super::{PATH, ack, http::Pool};

/// POSTs each message to the path that it names. Each turn acks all messages that were answered since the last one,
/// with one frame for those at the front.
pub async fn run(
    channel: Channel,
    mut consumer: Consumer,
    pool: Pool,
    path: fn(&Delivery) -> anyhow::Result<String>,
) -> anyhow::Result<()> {
    let mut outstanding = Outstanding::default();
    let mut posts = FuturesUnordered::new();
    loop {
        tokio::select! {
            biased;
            Some(posted) = posts.next() => {
                let mut due: Vec<u64> = vec![posted?];
                while let Some(Some(posted)) = posts.next().now_or_never() {
                    due.push(posted?);
                }
                for Frame { tag, multiple } in outstanding.ack(&due) {
                    ack(&channel, tag, multiple);
                }
            }
            delivery = consumer.next() => {
                let Some(delivery) = delivery.transpose()? else { bail!("the consumer has ended") };
                outstanding.taken(delivery.delivery_tag);
                posts.push(post(pool.clone(), path(&delivery)?, delivery));
            }
        }
    }
}

async fn post(pool: Pool, path: String, message: Delivery) -> anyhow::Result<u64> {
    match pool.post(&path, Bytes::from(message.data)).await? {
        200..=299 => Ok(message.delivery_tag),
        status => bail!("status {status}"),
    }
}

/// Reads the path of a job from its header.
pub fn path(job: &Delivery) -> anyhow::Result<String> {
    let headers = job.properties.headers().as_ref();
    match headers.and_then(|headers| headers.inner().get(PATH)) {
        Some(AMQPValue::LongString(path)) => Ok(String::from_utf8_lossy(path.as_bytes()).into_owned()),
        _ => bail!("a job without a path"),
    }
}
