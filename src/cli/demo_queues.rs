//! `leadhook demo-queues`: counts and removes the queues of `scripts/demo.sh`, on a broker that other programs may use
//! too. The help does not list it, because only the script uses it. It touches only names that begin with
//! `leadhook-demo-`.

use clap::ValueEnum;
use lapin::{
    Connection,
    options::{ExchangeDeleteOptions, QueueDeleteOptions},
};

use super::output::{self, Exit, Refusal, after_help};
use crate::{
    broker::{
        connection,
        topology::{self, Plan},
    },
    delivery::ladder::Ladder,
    settings::{Amqp, Settings},
};

/// The beginning of `amqp.prefix` and `amqp.exchange` in every demo.
const DEMO: &str = "leadhook-demo-";

/// Count or remove the queues of a demo, for scripts/demo.sh
#[derive(clap::Args)]
#[command(after_help = after_help("leadhook demo-queues count", ""))]
pub struct Args {
    /// Count them, or remove them
    action: Action,
}

#[derive(Clone, Copy, ValueEnum)]
enum Action {
    /// Print each queue (without the prefix of its name) and how many messages are ready on it
    Count,
    /// Remove the queues, whatever is on them, and the exchange
    Remove,
}

/// Counts or removes the queues. Prints counts as `queue messages`, one per line.
///
/// # Errors
/// The names are not those of a demo, the broker cannot be reached, or it refuses the request.
pub async fn run(args: &Args, settings: &Settings) -> Result<Exit, Refusal> {
    refuse_others(&settings.amqp)?;
    let plan = Plan::new(&settings.amqp, &Ladder::for_backoff(&settings.backoff));
    let connected = connection::connect(&settings.amqp, "demo", 0).await;
    let connection =
        connected.map_err(|error| Refusal::cannot_start(format!("cannot connect to {error}"), error.help()))?;
    let done = act(args.action, &connection, &plan, &settings.amqp).await;
    // A failed close does not change the answer.
    let _ = connection.close(200, "goodbye".into()).await;
    let failed = |error| Refusal::findings(format!("cannot use the queues of the demo: {error:#}"), "run it again");
    let text = done.map_err(failed)?;
    output::print(text).map_err(|error| Refusal::unwritable(&error))?;
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

/// Refuses names that do not belong to a demo, because a demo removes messages unseen.
fn refuse_others(amqp: &Amqp) -> Result<(), Refusal> {
    if amqp.prefix.starts_with(DEMO) && amqp.exchange.starts_with(DEMO) {
        return Ok(());
    }
    let text = format!("only for a demo: amqp.prefix is {} and amqp.exchange is {}", amqp.prefix, amqp.exchange);
    Err(Refusal::usage(text, format!("let both begin with {DEMO}")))
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
