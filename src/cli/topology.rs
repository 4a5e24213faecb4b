//! `leadhook topology`: prints the plan, declares it, and compares it with the broker.

mod apply;
mod check;
mod plan;
mod words;

use std::time::Duration;

use super::{
    arguments::OUTPUT,
    output::{self, Colour, Exit, Refusal, Terminal, after_help},
};
use crate::{
    broker::{
        connection::{self, Connection},
        topology::{Plan, Retention, TopologyError},
    },
    delivery::ladder::Ladder,
    settings::{Amqp, Settings},
};

/// Print, declare or check the exchange and the queues
///
/// Without a command it prints the plan.
#[derive(clap::Args, Clone, Debug)]
#[command(after_help = after_help(
    "leadhook topology\nleadhook topology apply\nleadhook topology check --json",
    "findings, or the broker refused something"
))]
pub struct Args {
    #[command(subcommand)]
    action: Option<Action>,
    /// Print JSON instead of text
    #[arg(short, long, global = true, help_heading = OUTPUT)]
    json: bool,
    /// When to use colours
    #[arg(long, global = true, value_enum, value_name = "WHEN", default_value_t = Colour::Auto, help_heading = OUTPUT)]
    color: Colour,
}

#[derive(clap::Subcommand, Clone, Copy, Debug)]
enum Action {
    /// Print the planned exchange, bindings and queues, and how many messages wait (the default)
    ///
    /// The plan follows from amqp.prefix, amqp.exchange, amqp.routing_keys and the backoff settings. If the broker can be
    /// reached, its queues are counted, which changes nothing there.
    #[command(after_help = after_help("leadhook topology plan", ""))]
    Plan,
    /// Declare the plan on the broker
    ///
    /// Needs a user with configure permission. Queues that exist as planned are left as they are. Differences are explained
    /// and not touched. The exchange is created only if it is missing. With topology.declare = true every worker does this
    /// when it starts.
    #[command(after_help = after_help("leadhook topology apply", "the broker refused something"))]
    Apply,
    /// Compare the plan with the broker, changing nothing
    ///
    /// AMQP alone shows which queues exist. With amqp.management_url (a user with the tag "management"), the type of the
    /// exchange, bindings, arguments and policies are compared too. Delay queues that no setting uses any more are listed.
    /// A policy shows up some seconds after it was set.
    #[command(after_help = after_help("leadhook topology check", "something is missing or differs"))]
    Check,
}

/// Runs the subcommand.
///
/// # Errors
/// The broker is needed and cannot be reached, or the answer cannot be written.
pub async fn run(args: &Args, settings: &Settings) -> Result<Exit, Refusal> {
    let plan = Plan::new(&settings.amqp, &Ladder::for_backoff(&settings.backoff));
    let plan = match settings.delivery_log.enabled {
        true => plan.with_log(Retention::of(&settings.delivery_log)),
        false => plan,
    };
    let (text, exit) = match args.action.unwrap_or(Action::Plan) {
        Action::Plan => (plan::run(&plan, &settings.amqp, terminal(args)).await?, Exit::Ok),
        Action::Apply => apply::run(&plan, &settings.amqp, terminal(args)).await?,
        Action::Check => check::run(&plan, settings, terminal(args)).await?,
    };
    output::print(text).map_err(|error| Refusal::unwritable(&error))?;
    Ok(exit)
}

/// Returns the terminal for a table, or none for JSON.
fn terminal(args: &Args) -> Option<Terminal> {
    (!args.json).then(|| Terminal::detect(args.color))
}

async fn connect(amqp: &Amqp) -> Result<Connection, Refusal> {
    connection::connect(amqp, "topology", 0)
        .await
        .map_err(|error| Refusal::cannot_start(format!("cannot connect to {error}"), error.help()))
}

/// Longest wait for one pass over all queues. A cluster without a majority may accept a request and never answer it.
const PASS: Duration = Duration::from_secs(60);

/// Waits for one pass over all queues, at most [`PASS`].
async fn ask_all<T>(
    asking: impl Future<Output = Result<T, TopologyError>>,
) -> Result<Result<T, TopologyError>, Refusal> {
    let silent = |_| {
        let text = format!("the broker did not answer: nothing in {} s", PASS.as_secs());
        Refusal::cannot_start(text, "look at the broker: a cluster without a majority answers nothing")
    };
    tokio::time::timeout(PASS, asking).await.map_err(silent)
}

fn lost(error: TopologyError) -> Refusal {
    Refusal::cannot_start(error.to_string(), "look at the broker, then run the command again")
}

/// Formats a JSON document.
fn json(answer: &impl serde::Serialize) -> Result<String, Refusal> {
    serde_json::to_string_pretty(answer).map_err(|error| Refusal::unwritable(&error.into()))
}
