//! `leadhook publish`: publishes lead events to the exchange as upstream does, confirmed and mandatory. It reports the
//! events that will be rejected, and why, and the events that did not get through. It never shows bodies.

mod input;
mod judge;
mod tally;

use std::{
    future::Future,
    path::PathBuf,
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

use futures::{StreamExt, stream};
use jiff::Timestamp;
use lapin::BasicProperties;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use self::{
    input::{Event, Rules},
    judge::Judge,
    tally::Tally,
};
use super::{
    arguments::{OUTPUT, number},
    output::{self, Exit, Refusal, after_help},
    readable::progress,
    sample::Samples,
};
use crate::{
    broker::publisher::{Link, Outgoing, PublishError, Publisher},
    settings::{Amqp, Settings},
};

/// Most messages that wait for their confirms at the same time.
const IN_FLIGHT: usize = 200;
/// Longest wait for a connection: enough for a distant broker, but not for one that is starting.
const CONNECT: Duration = Duration::from_secs(15);
/// Most warnings that are printed one by one. The rest is only counted.
const WARNINGS_PRINTED: usize = 5;

/// Publish lead events to the exchange, as upstream does
///
/// All input is read and checked before the first event is sent. An event that the worker will reject is sent too, and a
/// warning says why it will be rejected.
#[derive(Clone, Debug, Default, clap::Args)]
#[command(after_help = after_help(
    "leadhook publish event.json\nleadhook publish --sample 100 --campaign ABC --campaign XYZ\ncat events.jsonl | leadhook publish -",
    "some events were not confirmed by the broker"
))]
pub struct Args {
    /// Files with events: JSON documents one after the other, or arrays of them; - is standard input
    #[arg(value_name = "FILE", required_unless_present = "sample", conflicts_with = "sample")]
    pub files: Vec<PathBuf>,
    /// Publish N made-up events instead of files
    #[arg(short = 'n', long, value_name = "N", value_parser = number(0..=1_000_000_000_u64))]
    pub sample: Option<u64>,
    /// Campaign of the made-up events; several take turns [default: ABC]
    #[arg(short, long = "campaign", value_name = "ID", conflicts_with = "files", help_heading = MADE_UP)]
    pub campaigns: Vec<String>,
    /// Organization to name in the made-up events
    #[arg(short, long, value_name = "ID", conflicts_with = "files", help_heading = MADE_UP)]
    pub organization: Option<String>,
    /// Number that determines the made-up events, except their timestamps
    #[arg(long, value_name = "NUMBER", value_parser = number(0..=u64::MAX), conflicts_with = "files", help_heading = MADE_UP)]
    pub seed: Option<u64>,
    /// Routing key of all events, instead of the "event" of each
    #[arg(long, value_name = "KEY")]
    pub routing_key: Option<String>,
    /// Leave out the message id, so that equal bodies count as one event
    #[arg(long)]
    pub no_message_id: bool,
    /// Publish each file as one message, JSON or not
    #[arg(long, conflicts_with = "sample")]
    pub unchecked: bool,
    /// Print the summary as JSON
    #[arg(short, long, help_heading = OUTPUT)]
    pub json: bool,
}

const MADE_UP: &str = "Made-up events";

/// Reads everything, then publishes. Returns [`Exit::Ok`] if all events were confirmed, else [`Exit::Findings`].
///
/// # Errors
/// The input cannot be used, or the broker cannot be reached. Nothing was published.
pub async fn run(args: &Args, settings: &Settings) -> Result<Exit, Refusal> {
    let batch = Batch::of(args, settings)?;
    if !args.json {
        batch.warnings.iter().take(WARNINGS_PRINTED).for_each(|warning| output::warn(warning));
        if let Some(more) = batch.warnings.len().checked_sub(WARNINGS_PRINTED).filter(|more| *more > 0) {
            output::warn(&format!("{more} more of this kind"));
        }
    }

    let publisher = Publisher::start(&settings.amqp, "publish", None, CancellationToken::new());
    if let Err(refusal) = wait_for_connection(publisher.link(), &settings.amqp).await {
        publisher.close().await;
        return Err(refusal);
    }
    let progress = progress("publishing", batch.total, args.json);
    let begun = Instant::now();
    let messages = batch.events.map(|event| outgoing(event, &settings.amqp.exchange, !args.no_message_id));
    let tally = send_all(messages, |message| publisher.publish(message), || progress.inc(1)).await;
    progress.finish_and_clear();
    publisher.close().await;

    let summary = tally.summary(&settings.amqp.exchange, batch.total, begun.elapsed(), batch.warnings);
    let told = if args.json { output::print_json(&summary) } else { output::print(&summary) };
    told.map_err(|error| Refusal::unwritable(&error))?;
    Ok(if summary.all_confirmed() { Exit::Ok } else { Exit::Findings })
}

/// The events to publish, and warnings about those that will be rejected.
struct Batch {
    total: u64,
    events: Box<dyn Iterator<Item = Event> + Send>,
    warnings: Vec<String>,
}

impl Batch {
    fn of(args: &Args, settings: &Settings) -> Result<Batch, Refusal> {
        if args.routing_key.as_ref().is_some_and(|key| key.is_empty() || key.len() > 255) {
            let text = "cannot route the events: --routing-key is empty or longer than 255 bytes";
            return Err(Refusal::usage(text, "write 1 to 255 bytes, such as lead.delivered"));
        }
        match args.sample {
            Some(total) => {
                let warnings =
                    Judge::new(settings).warnings_of_samples(&args.campaigns, args.organization.as_deref(), total);
                Ok(Batch { warnings, ..Batch::made_up(args, total) })
            }
            None => {
                let rules = Rules { routing_key: args.routing_key.as_deref(), unchecked: args.unchecked };
                let input = input::read(&args.files, rules)?;
                let (judge, total) = (Judge::new(settings), input.events.len() as u64);
                let warnings = input.events.iter().zip(&input.places);
                let warnings = warnings.filter_map(|(event, place)| judge.warning(place, &event.body)).collect();
                Ok(Batch { total, events: Box::new(input.events.into_iter()), warnings })
            }
        }
    }

    fn made_up(args: &Args, total: u64) -> Batch {
        let samples = Samples::new(args.seed, args.campaigns.clone(), args.organization.clone(), Timestamp::now());
        let said = args.routing_key.clone();
        let events = samples.take(usize::try_from(total).unwrap_or(usize::MAX)).map(move |sample| Event {
            routing_key: said.clone().unwrap_or_else(|| sample.kind.name().to_owned()),
            body: sample.body.into(),
        });
        Batch { total, events: Box::new(events), warnings: Vec::new() }
    }
}

/// Waits for the connection. Gives up at the first refusal, because a person is waiting.
pub(super) async fn wait_for_connection(mut link: watch::Receiver<Link>, amqp: &Amqp) -> Result<(), Refusal> {
    const HELP: &str = "start the broker, or correct amqp.urls (LEADHOOK__AMQP__URLS)";
    let brokers = || amqp.urls.last().iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    // A state that was set before counts too, because this receiver has not seen it yet.
    let first_state = async {
        match link.changed().await {
            Ok(()) => link.borrow().clone(),
            Err(_) => Link::Lost("the publisher has stopped".to_owned()),
        }
    };
    match tokio::time::timeout(CONNECT, first_state).await {
        Ok(Link::Ready) => Ok(()),
        Ok(Link::Lost(why)) => Err(Refusal::cannot_start(format!("cannot connect to {why}"), HELP)),
        Ok(Link::Blocked(why)) => Err(Refusal::cannot_start(
            format!("the broker takes no messages now: {why}"),
            "wait until its memory or disk alarm is over; its management UI shows it",
        )),
        Err(_) => {
            let text = format!("cannot connect to {}: nothing in {} s", brokers(), CONNECT.as_secs());
            Err(Refusal::cannot_start(text, HELP))
        }
    }
}

/// Publishes with up to [`IN_FLIGHT`] messages unconfirmed, and calls `done` after each answer. Stops if the exchange
/// or the connection is missing, because every further event would fail in the same way.
async fn send_all<F, Answer>(messages: impl Iterator<Item = Outgoing>, publish: F, done: impl Fn()) -> Tally
where
    F: Fn(Outgoing) -> Answer,
    Answer: Future<Output = Result<(), PublishError>>,
{
    let hopeless = AtomicBool::new(false);
    let messages = messages.take_while(|_| !hopeless.load(Ordering::Relaxed));
    let answers = stream::iter(messages).map(|message| {
        let routing_key = message.routing_key.to_string();
        let answer = publish(message);
        async move { (routing_key, answer.await) }
    });
    let mut answers = std::pin::pin!(answers.buffer_unordered(IN_FLIGHT));
    let mut tally = Tally::default();
    while let Some((routing_key, answer)) = answers.next().await {
        if matches!(answer, Err(PublishError::ChannelClosed { .. } | PublishError::Lost(_))) {
            hopeless.store(true, Ordering::Relaxed);
        }
        tally.count(routing_key, answer);
        done();
    }
    tally
}

/// Builds the message of an event. Its message id is always new, whatever the seed, so the same sample published twice
/// is two events.
fn outgoing(event: Event, exchange: &str, message_id: bool) -> Outgoing {
    let now = u64::try_from(Timestamp::now().as_second()).unwrap_or_default();
    let mut properties = BasicProperties::default()
        .with_delivery_mode(2)
        .with_content_type("application/json".into())
        .with_app_id("leadhook-publish".into())
        .with_timestamp(now);
    if message_id {
        properties = properties.with_message_id(format!("{:032x}", fastrand::u128(..)).into());
    }
    // Both names fit into AMQP's 255 bytes; this was checked before.
    Outgoing { exchange: exchange.into(), routing_key: event.routing_key.into(), properties, body: event.body }
}

#[cfg(test)]
mod tests;
