//! `leadhook topology`: the plan as a table, declaring it, and comparing it with the broker.

mod apply;
mod check;
mod plan;
mod words;

use std::time::Duration;

use lapin::Connection;

use super::output::{self, Exit, Refusal, Terminal};
use crate::{
    broker::{
        connection,
        topology::{Plan, Retention, TopologyError},
    },
    delivery::ladder::Ladder,
    settings::{Amqp, Settings},
};

/// Print, declare or check the exchange and the queues
#[derive(clap::Args, Clone, Debug)]
#[command(after_help = "\
Exit codes: 0 fine, 1 findings or something was refused, 2 usage or bad configuration, 3 the broker or its management API \
cannot be reached.")]
pub struct Args {
    #[command(subcommand)]
    action: Option<Action>,
    /// Print one JSON object
    #[arg(long, global = true)]
    json: bool,
}

#[derive(clap::Subcommand, Clone, Copy, Debug)]
enum Action {
    /// Print what there must be, and how many messages wait (the default)
    ///
    /// The plan follows from amqp.prefix, amqp.exchange, amqp.routing_keys and the backoff settings. If the broker can be
    /// reached, its queues are counted, which changes nothing there.
    Plan,
    /// Declare it on the broker
    ///
    /// Needs a user with configure permission. What stands as planned is left as it is; what stands otherwise is explained
    /// and not touched. The exchange is created only if it is missing. With topology.declare = true every worker does
    /// this when it starts.
    Apply,
    /// Compare it with what stands on the broker, changing nothing
    ///
    /// AMQP alone shows what exists. With amqp.management_url (a user with the tag "management") the type of the
    /// exchange, bindings, arguments and policies are compared as well, and delay queues that no setting uses any more
    /// are listed. A policy shows up some seconds after it was set.
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
    output::print(text).map_err(|error| Refusal::cannot_start(format!("cannot write the answer: {error}")))?;
    Ok(exit)
}

/// Where the answer goes: a table on this terminal, or JSON.
fn terminal(args: &Args) -> Option<Terminal> {
    (!args.json).then(Terminal::detect)
}

async fn connected(amqp: &Amqp) -> Result<Connection, Refusal> {
    connection::connect(amqp, "topology", 0)
        .await
        .map_err(|error| Refusal::cannot_start(format!("cannot connect to the broker: {error} (amqp.urls)")))
}

/// Longest wait for one pass over all queues. A cluster without a majority may take a request and never answer it.
const PASS: Duration = Duration::from_secs(60);

/// One pass over all queues.
async fn pass<T>(asking: impl Future<Output = Result<T, TopologyError>>) -> Result<Result<T, TopologyError>, Refusal> {
    let silent = |_| Refusal::cannot_start(format!("the broker did not answer within {} s", PASS.as_secs()));
    tokio::time::timeout(PASS, asking).await.map_err(silent)
}

fn lost(error: TopologyError) -> Refusal {
    Refusal::cannot_start(error.to_string())
}

/// A JSON document, or why there is none.
fn json(answer: &impl serde::Serialize) -> Result<String, Refusal> {
    serde_json::to_string_pretty(answer)
        .map_err(|error| Refusal::cannot_start(format!("cannot write the answer: {error}")))
}
