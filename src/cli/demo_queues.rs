//! `leadhook demo-queues`: what `scripts/demo.sh` needs of a broker that may be somebody else's: the counts to compare
//! with, and the removal of what the demo made. Not for people, so not in the help; it touches nothing but names that
//! begin with `leadhook-demo-`.

use clap::ValueEnum;
use lapin::{
    Connection,
    options::{ExchangeDeleteOptions, QueueDeleteOptions},
};

use super::output::{self, Exit, Refusal};
use crate::{
    broker::{
        connection,
        topology::{self, Plan},
    },
    delivery::ladder::Ladder,
    settings::{Amqp, Settings},
};

/// What `amqp.prefix` and `amqp.exchange` of every demo begin with.
const DEMO: &str = "leadhook-demo-";

/// Count or remove the queues of a demo; for scripts/demo.sh.
#[derive(clap::Args)]
pub struct Args {
    action: Action,
}

#[derive(Clone, Copy, ValueEnum)]
enum Action {
    /// Print each queue (without the prefix of its name) and how many messages are ready on it
    Count,
    /// Remove the queues, whatever is on them, and the exchange
    Remove,
}

/// Does it, and prints counts as `queue messages`, one a line.
///
/// # Errors
/// The names are not those of a demo, or the broker cannot be reached or refuses.
pub async fn run(args: &Args, settings: &Settings) -> Result<Exit, Refusal> {
    refuse_others(&settings.amqp)?;
    let plan = Plan::new(&settings.amqp, &Ladder::for_backoff(&settings.backoff));
    let trouble = |error: &dyn std::fmt::Display| Refusal::cannot_start(format!("the demo's queues: {error}"));
    let connection = connection::connect(&settings.amqp, "demo", 0).await.map_err(|error| trouble(&error))?;
    let done = act(args.action, &connection, &plan, &settings.amqp).await;
    // The answer is there already; a close that fails changes nothing.
    let _ = connection.close(200, "goodbye".into()).await;
    let text = done.map_err(|error| trouble(&format!("{error:#}")))?;
    output::print(text).map_err(|error| Refusal::cannot_start(format!("cannot write the answer: {error}")))?;
    Ok(Exit::Ok)
}

async fn act(action: Action, connection: &Connection, plan: &Plan, amqp: &Amqp) -> anyhow::Result<String> {
    let counts = topology::counts(connection, plan).await?;
    match action {
        Action::Count => {
            let own = format!("{}.", amqp.prefix);
            let line = |(queue, count): (&String, &topology::Count)| {
                format!("{} {}", queue.strip_prefix(&own).unwrap_or(queue), count.ready)
            };
            Ok(counts.iter().map(line).collect::<Vec<_>>().join("\n"))
        }
        Action::Remove => {
            let channel = connection.create_channel().await?;
            for queue in counts.keys() {
                channel.queue_delete(queue.as_str().into(), QueueDeleteOptions::default()).await?;
            }
            channel.exchange_delete(amqp.exchange.as_str().into(), ExchangeDeleteOptions::default()).await?;
            Ok(format!("removed {} queues and the exchange {}", counts.len(), amqp.exchange))
        }
    }
}

/// A demo removes messages unseen: it must never meet names that somebody works with.
fn refuse_others(amqp: &Amqp) -> Result<(), Refusal> {
    if amqp.prefix.starts_with(DEMO) && amqp.exchange.starts_with(DEMO) {
        return Ok(());
    }
    let text = format!("only for a demo: amqp.prefix and amqp.exchange must begin with {DEMO}");
    Err(Refusal::usage(text))
}

#[cfg(test)]
mod tests {
    use super::refuse_others;
    use crate::{cli::output::Exit, settings};

    #[test]
    fn nothing_but_a_demo_is_touched() {
        for (prefix, exchange, refused) in [
            ("leadhook", "lead.events", true),
            ("leadhook-demo-1", "lead.events", true),
            ("leadhook", "leadhook-demo-1.events", true),
            ("leadhook-demo-1", "leadhook-demo-1.events", false),
        ] {
            let environment = [("LEADHOOK__AMQP__PREFIX", prefix), ("LEADHOOK__AMQP__EXCHANGE", exchange)];
            let environment = environment.map(|(key, value)| (key.to_owned(), value.to_owned()));
            let file = tempfile::NamedTempFile::with_suffix(".toml").unwrap();
            let settings = settings::load(Some(file.path()), None, environment.into_iter()).unwrap();
            let answer = refuse_others(&settings.amqp);
            assert_eq!(answer.is_err(), refused, "{prefix} {exchange}");
            assert!(answer.is_ok() || answer.unwrap_err().exit == Exit::Usage);
        }
    }
}
