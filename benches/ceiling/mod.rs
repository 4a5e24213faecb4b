//! The barest program that does what the worker does: consume an event, publish its job and wait for the confirm, ack the event,
//! consume the job, POST it, ack the job. Nothing is acked before its successor is confirmed, and no ack is held back.
//!
//! It knows no store, no headers but one, no retries, no signature, no limits, no metrics and no log. docs/contributing/benchmark-log.md
//! says which layouts were tried and why this is the best that was found.

mod deliver;
mod dispatch;
mod http;

use futures::FutureExt;
use lapin::{
    Channel, Connection, ConnectionProperties, Consumer,
    options::{BasicAckOptions, BasicConsumeOptions, BasicQosOptions, ConfirmSelectOptions},
    types::FieldTable,
};

/// The header that names a job's path.
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
    /// One connection for all instead of one to consume and one to publish
    #[arg(long)]
    pub one_connection: bool,
    /// An ack for each message, even where several are due at once
    #[arg(long)]
    pub single_acks: bool,
    /// Waiting until each publish is written before the next one
    #[arg(long)]
    pub await_writes: bool,
    /// So many headers more on each job
    #[arg(long, default_value_t = 0)]
    pub headers: usize,
}

/// Runs until it is killed.
pub async fn run(args: Args) -> anyhow::Result<()> {
    let consuming = connect(&args.amqp).await?;
    let publishing = if args.one_connection { None } else { Some(connect(&args.amqp).await?) };
    let publish = publishing.as_ref().unwrap_or(&consuming).create_channel().await?;
    publish.confirm_select(ConfirmSelectOptions::default()).await?;
    let (events, event_consumer) = consume(&consuming, &format!("{}.events", args.prefix), args.event_prefetch).await?;
    let (jobs, job_consumer) = consume(&consuming, &format!("{}.jobs", args.prefix), args.job_prefetch).await?;
    let dispatch =
        tokio::spawn(dispatch::run(publish, format!("{}.jobs", args.prefix), events, event_consumer, args.clone()));
    let deliver = tokio::spawn(deliver::run(jobs, job_consumer, args.target, args.single_acks));
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

/// Hands an ack to the connection, which writes it at once. Whether it did is not waited for.
fn ack(channel: &Channel, tag: u64, multiple: bool) {
    let _ = channel.basic_ack(tag, BasicAckOptions { multiple }).now_or_never();
}
