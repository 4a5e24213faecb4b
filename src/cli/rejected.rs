//! `leadhook rejected`: what engineers see of messages that are no usable event, and how they are put back.

mod list;
pub(super) mod requeue;

use jiff::Timestamp;

use super::{
    arguments::moment,
    failed::{Desk, discard, export, show, which},
    output::{Exit, Refusal},
};
use crate::{
    desk::{
        filter::{self, Filter},
        survey::Choice,
    },
    settings::Settings,
};

/// Look at rejected messages, and put them back when the cause is mended
///
/// A message is rejected when it is no usable event, or belongs to nobody that the webhook store knows. For engineers: mend
/// upstream or the store first. Looking changes nothing: not the messages, not their order.
#[derive(clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Subcommand)]
enum Command {
    /// List rejected messages, the longest rejected first
    List(list::Args),
    /// Show all that is known about one rejected message
    Show(show::Args),
    /// Put messages back onto the events queue, as they came, where they are usable events now
    Requeue(requeue::Args),
    /// Write rejected messages into a file, and with --remove take them off the queue
    Export(ExportArgs),
    /// Take rejected messages away for good, into a file, with a reason for the delivery log
    Discard(DiscardArgs),
}

/// Which rejected messages are meant.
#[derive(clap::Args)]
struct Which {
    /// Message ids (`raw_...` where there is none), or their beginnings (at least 6 characters)
    #[arg(value_name = "ID")]
    ids: Vec<String>,
    /// All that is on the rejected queue now
    #[arg(long, conflicts_with = "ids")]
    all: bool,
    #[command(flatten)]
    filter: FilterArgs,
}

/// What all that is said must hold for.
#[derive(clap::Args)]
struct FilterArgs {
    /// Only what was rejected for this reason, such as unknown_campaign
    #[arg(long, value_name = "REASON", value_parser = filter::reject_reason)]
    reason: Option<String>,
    /// Only what was rejected at this time or later: an age (90m, 2h, 3d), a date (2024-06-15, UTC) or RFC 3339
    #[arg(long, value_name = "WHEN", value_parser = moment)]
    since: Option<Timestamp>,
    /// Only what was rejected before this time
    #[arg(long, value_name = "WHEN", value_parser = moment, visible_alias = "older-than")]
    before: Option<Timestamp>,
}

impl FilterArgs {
    fn filter(&self) -> Filter {
        Filter { reason: self.reason.clone(), since: self.since, before: self.before, ..Filter::default() }
    }
}

impl Which {
    fn choice(&self) -> Result<Choice, Refusal> {
        which::chosen(&self.ids, self.all, self.filter.filter(), false, "--reason")
    }
}

#[derive(clap::Args)]
#[command(after_help = export::EXIT_CODES)]
struct ExportArgs {
    #[command(flatten)]
    which: Which,
    #[command(flatten)]
    how: export::How,
}

#[derive(clap::Args)]
#[command(after_help = discard::EXIT_CODES)]
struct DiscardArgs {
    #[command(flatten)]
    which: Which,
    #[command(flatten)]
    how: discard::How,
}

/// Runs the command.
///
/// # Errors
/// The command line is wrong, or the broker or the queue cannot be reached.
pub async fn run(args: &Args, settings: &Settings) -> Result<Exit, Refusal> {
    let desk = Desk::of_rejected(settings)?;
    match &args.command {
        Command::List(args) => list::run(args, &desk).await,
        Command::Show(args) => show::run(args, &desk).await,
        Command::Requeue(args) => requeue::run(args, &desk).await,
        Command::Export(args) => export::go(args.which.choice()?, &args.how, &desk).await,
        Command::Discard(args) => discard::go(args.which.choice()?, false, &args.how, &desk).await,
    }
}
