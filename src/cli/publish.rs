//! `leadhook publish`: puts lead events on the exchange as upstream would, confirmed and mandatory, and says for each
//! that did not get through why. Bodies are never shown.

mod input;
mod tally;

use std::{
    future::Future,
    path::PathBuf,
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

use futures::{StreamExt, stream};
use indicatif::{ProgressBar, ProgressDrawTarget};
use jiff::Timestamp;
use lapin::BasicProperties;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use self::{
    input::{Event, Rules},
    tally::Tally,
};
use super::{
    output::{self, Exit, Refusal},
    sample::Samples,
};
use crate::{
    broker::publisher::{Link, Outgoing, PublishError, Publisher},
    settings::{Amqp, Settings},
};

/// Publishes that wait for their confirm at the same time.
const IN_FLIGHT: usize = 200;
/// Longest wait for a connection: enough for a broker far away, not for one that is starting.
const CONNECT: Duration = Duration::from_secs(15);
/// Warnings that are told one by one; the rest is counted.
const WARNINGS_TOLD: usize = 5;

/// Publish lead events to the exchange, as upstream does
#[derive(Clone, Debug, Default, clap::Args)]
pub struct Args {
    /// Files with events: one JSON document, several of them (one a line or not), or arrays; "-" is standard input
    #[arg(value_name = "FILE", required_unless_present = "sample", conflicts_with = "sample")]
    pub files: Vec<PathBuf>,
    /// Publish N made-up events instead of files
    #[arg(long, value_name = "N")]
    pub sample: Option<u64>,
    /// Campaign of the made-up events; several take turns [default: ABC]
    #[arg(long = "campaign", value_name = "ID", conflicts_with = "files")]
    pub campaigns: Vec<String>,
    /// Organization to name in the made-up events
    #[arg(long, value_name = "ID", conflicts_with = "files")]
    pub organization: Option<String>,
    /// The same seed makes the same events, but for their timestamps
    #[arg(long, value_name = "S", conflicts_with = "files")]
    pub seed: Option<u64>,
    /// Routing key of all events, instead of what each says in its "event"
    #[arg(long, value_name = "KEY")]
    pub routing_key: Option<String>,
    /// Leave out the message id, so that equal bodies count as one event
    #[arg(long)]
    pub no_message_id: bool,
    /// Publish each file as one message as it is, JSON or not
    #[arg(long, conflicts_with = "sample")]
    pub unchecked: bool,
    /// Print the summary as JSON
    #[arg(long)]
    pub json: bool,
}

/// Reads everything, then publishes. [`Exit::Ok`] when all events were confirmed, [`Exit::Findings`] when some were not.
///
/// # Errors
/// The input is no good (nothing was published then), or the broker cannot be reached.
pub async fn run(args: &Args, settings: &Settings) -> Result<Exit, Refusal> {
    let batch = Batch::of(args, settings)?;
    if !args.json {
        batch.warnings.iter().take(WARNINGS_TOLD).for_each(|warning| output::warn(warning));
        if let Some(more) = batch.warnings.len().checked_sub(WARNINGS_TOLD).filter(|more| *more > 0) {
            output::warn(&format!("{more} more of this kind"));
        }
    }

    let publisher = Publisher::start(&settings.amqp, "publish", None, CancellationToken::new());
    if let Err(refusal) = connected(publisher.link(), &settings.amqp).await {
        publisher.close().await;
        return Err(refusal);
    }
    let progress = ProgressBar::with_draw_target(Some(batch.total), target(args.json));
    let begun = Instant::now();
    let messages = batch.events.map(|event| outgoing(event, &settings.amqp.exchange, !args.no_message_id));
    let tally = send_all(messages, |message| publisher.publish(message), || progress.inc(1)).await;
    progress.finish_and_clear();
    publisher.close().await;

    let summary = tally.summary(&settings.amqp.exchange, batch.total, begun.elapsed(), batch.warnings);
    let told = if args.json { output::print_json(&summary) } else { output::print(&summary) };
    told.map_err(|error| Refusal::cannot_start(format!("cannot write the summary: {error}")))?;
    Ok(if summary.all_confirmed() { Exit::Ok } else { Exit::Findings })
}

/// What is to be published.
struct Batch {
    total: u64,
    events: Box<dyn Iterator<Item = Event> + Send>,
    warnings: Vec<String>,
}

impl Batch {
    fn of(args: &Args, settings: &Settings) -> Result<Batch, Refusal> {
        if args.routing_key.as_ref().is_some_and(|key| key.is_empty() || key.len() > 255) {
            return Err(Refusal::usage("--routing-key takes 1 to 255 bytes"));
        }
        match args.sample {
            Some(total) => Ok(Batch::made_up(args, total)),
            None => {
                let rules = Rules {
                    routing_key: args.routing_key.as_deref(),
                    unchecked: args.unchecked,
                    max_event_bytes: settings.delivery.max_event_bytes,
                };
                let input = input::read(&args.files, rules)?;
                let total = input.events.len() as u64;
                Ok(Batch { total, events: Box::new(input.events.into_iter()), warnings: input.warnings })
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

/// Waits for the connection, and takes the first refusal for an answer: a person waits here.
pub(super) async fn connected(mut link: watch::Receiver<Link>, amqp: &Amqp) -> Result<(), Refusal> {
    let brokers = || amqp.urls.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    // The receiver has not seen anything yet, so a word that was said before this waits for nobody.
    let first_word = async {
        match link.changed().await {
            Ok(()) => link.borrow().clone(),
            Err(_) => Link::Lost("the publisher has stopped".to_owned()),
        }
    };
    match tokio::time::timeout(CONNECT, first_word).await {
        Ok(Link::Ready) => Ok(()),
        Ok(Link::Lost(why)) => Err(Refusal::cannot_start(format!("cannot connect to {why}; see amqp.urls"))),
        Ok(Link::Blocked(why)) => Err(Refusal::cannot_start(format!(
            "the broker takes no messages now ({why}): a memory or disk alarm, see its management UI"
        ))),
        Err(_) => {
            let seconds = CONNECT.as_secs();
            Err(Refusal::cannot_start(format!("no connection to {} within {seconds} s; see amqp.urls", brokers())))
        }
    }
}

/// Publishes with up to [`IN_FLIGHT`] confirms under way; `done` is called after each. Stops sending when going on is
/// hopeless: without the exchange or the connection every further event would only fail the same way.
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

/// The message id is drawn afresh for each message, whatever the seed: the same sample published twice is two events.
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
    // Both names were checked to fit into AMQP's 255 bytes.
    Outgoing { exchange: exchange.into(), routing_key: event.routing_key.into(), properties, body: event.body }
}

fn target(json: bool) -> ProgressDrawTarget {
    if json { ProgressDrawTarget::hidden() } else { ProgressDrawTarget::stderr() }
}

#[cfg(test)]
mod tests;
