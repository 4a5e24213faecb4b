//! Jobs become POSTs.

use anyhow::bail;
use bytes::Bytes;
use futures::{FutureExt, StreamExt, stream::FuturesUnordered};
use lapin::{Channel, Consumer, message::Delivery, types::AMQPValue};
use leadhook::broker::acks::{Frame, Outstanding};

use super::{PATH, ack, http::Pool};

/// POSTs each job, and acks those that were answered since the last look, those at the front in one frame.
pub async fn run(jobs: Channel, mut consumer: Consumer, target: String, single: bool) -> anyhow::Result<()> {
    let pool = Pool::new(&target)?;
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
                let frames = match single {
                    true => due.iter().map(|tag| Frame { tag: *tag, multiple: false }).collect(),
                    false => outstanding.ack(&due),
                };
                for Frame { tag, multiple } in frames {
                    ack(&jobs, tag, multiple);
                }
            }
            delivery = consumer.next() => {
                let Some(delivery) = delivery.transpose()? else { bail!("the consumer has ended") };
                outstanding.taken(delivery.delivery_tag);
                posts.push(post(pool.clone(), delivery));
            }
        }
    }
}

async fn post(pool: Pool, job: Delivery) -> anyhow::Result<u64> {
    let headers = job.properties.headers().as_ref();
    let path = match headers.and_then(|headers| headers.inner().get(PATH)) {
        Some(AMQPValue::LongString(path)) => String::from_utf8_lossy(path.as_bytes()).into_owned(),
        _ => bail!("a job without a path"),
    };
    match pool.post(&path, Bytes::from(job.data)).await? {
        200..=299 => Ok(job.delivery_tag),
        status => bail!("status {status}"),
    }
}
