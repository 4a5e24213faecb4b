//! The ceilings: the smallest programs that make the worker's steps on broker and network. They ack each message only
//! after its successor is confirmed or its POST is answered, and hold no ack back.
//!
//! - *Two hops*: consume an event, publish its job and wait for the confirm, ack the event, consume the job, POST it,
//!   ack the job.
//! - *One hop*: consume an event, POST it, ack the event. An answer other than 2xx ends the program.
//!
//! They have no store, one header, no retries, no signature, no limits, no metrics and no log.
//! docs/contributing/benchmark-log.md lists the layouts that were tried.

mod deliver;
mod dispatch;
mod http;

use futures::FutureExt;
use lapin::{
    Channel, Connection, ConnectionProperties, Consumer,
    options::{BasicAckOptions, BasicConsumeOptions, BasicQosOptions, ConfirmSelectOptions},
    types::FieldTable,
};

use self::http::Pool;

/// The header that holds a job's path.
const PATH: &str = "path";

/// The layout.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// The broker
    #[arg(long)]
    pub amqp: String,
    /// First part of the names of the queues
    #[arg(long, default_value = "leadhook")]
    pub prefix: String,
    /// Scheme, host and port of the receivers, and the first part of the path
    #[arg(long)]
    pub target: String,
    /// Events taken at once
    #[arg(long, default_value_t = 1000)]
    pub event_prefetch: u16,
    /// Jobs taken at once
    #[arg(long, default_value_t = 1000)]
    pub job_prefetch: u16,
    /// Threads of the runtime; 0 is all on the main thread
    #[arg(long, default_value_t = 0)]
    pub threads: usize,
    /// Turns before sockets are looked at again, as long as there are tasks to run
    #[arg(long, default_value_t = 61)]
    pub event_interval: u32,
    /// The POST follows from the event itself: no job is published
    #[arg(long)]
    pub one_hop: bool,
}

/// Runs until it is killed.
pub async fn run(args: Args) -> anyhow::Result<()> {
    let events = format!("{}.events", args.prefix);
    let consuming = connect(&args.amqp).await?;
    let (events, event_consumer) = consume(&consuming, &events, args.event_prefetch).await?;
    let pool = Pool::new(&args.target)?;
    if args.one_hop {
        return tokio::spawn(deliver::run(events, event_consumer, pool, dispatch::campaign)).await?;
    }
    let jobs = format!("{}.jobs", args.prefix);
    let publishing = connect(&args.amqp).await?;
    let publish = publishing.create_channel().await?;
    publish.confirm_select(ConfirmSelectOptions::default()).await?;
    let (job_channel, job_consumer) = consume(&consuming, &jobs, args.job_prefetch).await?;
    let dispatch = tokio::spawn(dispatch::run(publish, jobs, events, event_consumer));
    let deliver = tokio::spawn(deliver::run(job_channel, job_consumer, pool, deliver::path));
    let (dispatch, deliver) = tokio::try_join!(dispatch, deliver)?;
    dispatch.and(deliver)
}

async fn connect(url: &str) -> anyhow::Result<Connection> {
    Ok(Connection::connect(url, ConnectionProperties::default()).await?)
}

async fn consume(connection: &Connection, queue: &str, prefetch: u16) -> anyhow::Result<(Channel, Consumer)> {
    let channel = connection.create_channel().await?;
    channel.basic_qos(prefetch, BasicQosOptions::default()).await?;
    let options = BasicConsumeOptions::default();
    let consumer = channel.basic_consume(queue.into(), "".into(), options, FieldTable::default()).await?;
    Ok((channel, consumer))
}

/// Hands an ack to the connection, which writes it at once, and does not wait for that.
fn ack(channel: &Channel, tag: u64, multiple: bool) {
    let _ = channel.basic_ack(tag, BasicAckOptions { multiple }).now_or_never();
}
