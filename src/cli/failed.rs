//! `leadhook failed`: shows, replays and removes jobs that could not be delivered, for support.
//!
//! `crate::dead_letters` does the work. This module asks the user, and prints tables or JSON.

pub(super) mod agree;
pub(super) mod discard;
pub(super) mod export;
mod known;
mod list;
mod replay;
pub(super) mod show;
mod stats;
pub(super) mod which;

use super::{
    arguments::FILTERS,
    dead_letters::DeadLetters,
    output::{Exit, Refusal, after_help},
    rejected::requeue,
};
use crate::{dead_letters::filter::Filter, settings::Settings};

/// Look at failed jobs, and replay them
///
/// A job has failed when all its attempts were made, or when it can never succeed. It rests on the failed queue until it is
/// replayed or discarded. Looking changes nothing, neither the jobs nor their order.
#[derive(clap::Args)]
#[command(after_help = after_help(
    "leadhook failed list --campaign ABC --since yesterday\nleadhook failed show wh_31b12f9c\n\
     leadhook failed replay --campaign ABC --dry-run",
    ""
))]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

// Each command's help is the doc comment of its arguments. A doc comment here would hide it.
#[derive(clap::Subcommand)]
enum Command {
    List(list::Args),
    Show(show::Args),
    Stats(stats::Args),
    Replay(replay::Args),
    Requeue(RequeueArgs),
    Export(export::Args),
    Discard(discard::Args),
}

/// Put events that the broker gave up on back onto the events queue, unchanged
///
/// A message that `failed list` does not call a job can be an event that the broker moved there by itself. Each is
/// published, confirmed by the broker, and only then removed. Messages that are not usable events stay, and so do jobs:
/// `failed replay` is for those.
#[derive(clap::Args)]
#[command(after_help = after_help(
    "leadhook failed requeue --reason dead_lettered --dry-run\nleadhook failed requeue raw_5d41402abc",
    "some messages were left (the output says which and why)"
))]
struct RequeueArgs {
    /// Message ids (`raw_...` for a message without one), or their beginnings (at least 6 characters)
    #[arg(value_name = "ID")]
    ids: Vec<String>,
    /// All messages that are on the failed queue now and are not jobs
    #[arg(long, conflicts_with = "ids")]
    all: bool,
    /// Only messages that rest there for this reason
    #[arg(short, long, value_name = "REASON", value_parser = which::reason(), help_heading = FILTERS)]
    reason: Option<String>,
    #[command(flatten)]
    how: requeue::How,
}

/// Runs the command.
///
/// # Errors
/// The command line is wrong, or the broker or the queue cannot be reached.
pub async fn run(args: &Args, settings: &Settings) -> Result<Exit, Refusal> {
    let letters = DeadLetters::of(settings)?;
    match &args.command {
        Command::List(args) => list::run(args, &letters).await,
        Command::Show(args) => show::run(args, &letters).await,
        Command::Stats(args) => stats::run(args, &letters).await,
        Command::Replay(args) => replay::run(args, &letters).await,
        Command::Requeue(args) => {
            let filter = Filter { reason: args.reason.clone(), ..Filter::default() };
            let choice = which::chosen(&args.ids, args.all, filter, false, "--reason")?;
            requeue::go(choice, &args.how, &letters).await
        }
        Command::Export(args) => export::run(args, &letters).await,
        Command::Discard(args) => discard::run(args, &letters).await,
    }
}
