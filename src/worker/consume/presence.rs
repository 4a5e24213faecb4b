//! Counts the workers. They share the limits that hold over all workers; nothing else needs their number.
//!
//! Each worker consumes `leadhook.workers` on the connection of its jobs, and asks the broker for the number of
//! consumers. So the broker is the authority: it stops counting a process as soon as it ends, and a machine that
//! vanishes after `amqp.heartbeat`. Rejected: workers that announce themselves by messages (n² messages and a clock),
//! and the management API (it is optional).
//!
//! Leadhook publishes nothing to this queue. It consumes messages of other programs without an ack and discards them.
//! An unacked message would let `consumer_timeout` close the channel.

use std::{
    convert::Infallible,
    time::{Duration, Instant},
};

use futures::StreamExt;
use lapin::{
    Channel, Consumer,
    options::{BasicConsumeOptions, QueueDeclareOptions},
    types::{FieldTable, ShortString},
};
use tracing::{info, warn};

use crate::{
    broker::{
        connection::{self, Connection},
        pause::Pause,
    },
    worker::context::Context,
};

/// How often the workers are counted.
const EVERY: Duration = Duration::from_secs(2);

/// Longest wait for an answer of the broker. A queue without a leader never answers a new consumer.
const LIMIT: Duration = Duration::from_secs(20);

/// How long counting must have worked before the next pause is short again.
const LASTING: Duration = Duration::from_secs(60);

/// After this many counts of zero in succession the broker has forgotten this worker, which should count itself. A
/// single zero only means that the queue's leader did not answer in time.
const FORGOTTEN: u32 = 5;

/// Joins the count and keeps [`Context::workers`] up to date, for as long as the connection lasts. While the number is
/// unknown, the last one stays in use and readiness warns.
pub(crate) async fn watch(connection: &Connection, context: &Context) -> Infallible {
    let mut pause = Pause::for_counting();
    loop {
        let begun = Instant::now();
        let error = match take_part(connection, context).await {
            Ok(never) => match never {},
            Err(error) => error,
        };
        if begun.elapsed() > LASTING {
            pause.reset();
        }
        // If the connection is lost, the session ends and reports it.
        if connection.status().connected() {
            let workers = *context.workers.borrow();
            let problem = format!("cannot count the workers, so limits over all workers assume {workers}: {error}");
            warn!("{problem}");
            context.health.set_workers(Some(problem));
        }
        tokio::time::sleep(pause.next(fastrand::f64())).await;
    }
}

/// Counts until that fails. The error is in words.
async fn take_part(connection: &Connection, context: &Context) -> Result<Infallible, String> {
    let queue = &context.plan.names().workers;
    let words = |error: lapin::Error| connection::words(&error);
    let joining = tokio::time::timeout(LIMIT, join(connection, queue)).await;
    let (channel, mut consumer) = joining.map_err(|_| silent())?.map_err(words)?;
    let mut tick = tokio::time::interval(EVERY);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let (mut empty, mut told) = (0, false);
    loop {
        tokio::select! {
            _ = tick.tick() => {
                let counting = tokio::time::timeout(LIMIT, count(&channel, queue)).await;
                match counting.map_err(|_| silent())?.map_err(words)? {
                    0 => empty += 1,
                    workers => {
                        empty = 0;
                        note(context, workers as usize);
                    }
                }
                if empty >= FORGOTTEN {
                    return Err(format!("the broker counts no consumer on {queue}"));
                }
            }
            message = consumer.next() => match message {
                Some(Ok(message)) => {
                    connection.marks().take(channel.id(), message.delivery_tag);
                    if !std::mem::replace(&mut told, true) {
                        warn!(%queue, "discarded a message: this queue only counts the workers");
                    }
                }
                Some(Err(error)) => return Err(words(error)),
                None => return Err(format!("the broker has cancelled the consumer of {queue}")),
            }
        }
    }
}

async fn join(connection: &Connection, queue: &ShortString) -> lapin::Result<(Channel, Consumer)> {
    let channel = connection::channel(connection).await?;
    let options = BasicConsumeOptions { no_ack: true, ..BasicConsumeOptions::default() };
    let consumer = channel.basic_consume(queue.clone(), ShortString::default(), options, FieldTable::default()).await?;
    Ok((channel, consumer))
}

async fn count(channel: &Channel, queue: &ShortString) -> lapin::Result<u32> {
    let passive = QueueDeclareOptions { passive: true, durable: true, ..QueueDeclareOptions::default() };
    Ok(channel.queue_declare(queue.clone(), passive, FieldTable::default()).await?.consumer_count())
}

fn note(context: &Context, workers: usize) {
    context.health.set_workers(None);
    if context.workers.send_if_modified(|known| std::mem::replace(known, workers) != workers) {
        context.metrics.set_workers(workers);
        info!(workers, "the number of workers has changed");
    }
}

fn silent() -> String {
    format!("the broker did not answer within {} s", LIMIT.as_secs())
}
