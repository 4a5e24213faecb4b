//! `leadhook unreadable`: shows messages that the broker gave up on and puts them back, for engineers.

use clap::builder::PossibleValuesParser;

use super::{
    arguments::{FILTERS, OUTPUT, Output, Window, number},
    dead_letters::DeadLetters,
    failed::{discard, export::NOT_REMOVED, show, which},
    output::{Exit, Refusal, after_help},
    rejected::{list, requeue},
};
use crate::{
    dead_letters::{filter::Filter, record, repair::Repair, selection::Choice},
    settings::Settings,
};

/// Look at messages that the broker gave up on, and put them back
///
/// The broker moves an event here after 100 redeliveries, none of which a worker lived to look at. The queue is
/// normally empty. Looking changes nothing, neither the messages nor their order.
#[derive(clap::Args)]
#[command(after_help = after_help("leadhook unreadable list\nleadhook unreadable requeue --all", ""))]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

// Each command's help is the doc comment of its arguments. A doc comment here would hide it.
#[derive(clap::Subcommand)]
enum Command {
    List(ListArgs),
    Show(ShowArgs),
    Requeue(RequeueArgs),
    Discard(DiscardArgs),
}

// Filters by reason and time. All given filters must match.
#[derive(clap::Args)]
struct FilterArgs {
    /// Only messages that the broker moved for this reason
    #[arg(
        short,
        long,
        value_name = "REASON",
        value_parser = PossibleValuesParser::new(record::REASONS_OF_THE_BROKER),
        help_heading = FILTERS
    )]
    reason: Option<String>,
    #[command(flatten)]
    window: Window,
}

impl FilterArgs {
    /// Returns the filter, and prints the time range that it covers.
    fn filter(&self) -> Filter {
        self.window.tell();
        let Window { since, before } = self.window;
        Filter { reason: self.reason.clone(), since, before, ..Filter::default() }
    }
}

/// List unreadable messages, the oldest first
#[derive(clap::Args)]
#[command(after_help = after_help(
    "leadhook unreadable list",
    "another program holds some of the messages, so they are not listed"
))]
struct ListArgs {
    #[command(flatten)]
    filter: FilterArgs,
    /// Print at most N messages
    #[arg(
        short = 'n',
        long,
        value_name = "N",
        default_value_t = 1000,
        value_parser = number(1..=u32::MAX),
        help_heading = OUTPUT
    )]
    limit: u32,
    #[command(flatten)]
    output: Output,
}

// The unreadable messages that a command works on.
#[derive(clap::Args)]
struct Which {
    /// Message ids (`raw_...` for a message without one), or their beginnings (at least 6 characters)
    #[arg(value_name = "ID")]
    ids: Vec<String>,
    /// All messages that are on the unreadable queue now
    #[arg(long, conflicts_with = "ids")]
    all: bool,
    #[command(flatten)]
    filter: FilterArgs,
}

impl Which {
    fn choice(&self) -> Result<Choice, Refusal> {
        which::chosen(&self.ids, self.all, self.filter.filter(), false, "--reason")
    }
}

/// Show one unreadable message: the reason, and which of its properties were sanitized
#[derive(clap::Args)]
#[command(after_help = after_help("leadhook unreadable show raw_5d41402abc", show::NOT_THERE))]
struct ShowArgs {
    /// The message id (`raw_...` for a message without one), or its beginning (at least 6 characters)
    #[arg(value_name = "ID")]
    id: String,
    /// Show the body too: it may hold the data of a lead
    #[arg(long)]
    body: bool,
    #[command(flatten)]
    output: Output,
}

/// Put messages that are usable events back onto the events queue
///
/// Each is published, confirmed by the broker, and only then removed. Properties that cannot be read are sanitized. Messages
/// that are not usable events stay, and so do those that lost headers, unless their organization is named.
#[derive(clap::Args)]
#[command(after_help = after_help(
    "leadhook unreadable requeue --all --dry-run\nleadhook unreadable requeue raw_5d41402abc",
    "some messages were left (the output says which and why)"
))]
struct RequeueArgs {
    #[command(flatten)]
    which: Which,
    /// Set the organization wherever the message names it; in the header organization-id if it names none
    #[arg(long, value_name = "ID")]
    organization: Option<String>,
    #[command(flatten)]
    how: requeue::How,
}

/// Remove unreadable messages for good: into a file, with a reason for the delivery log
///
/// Each batch is in the file, and the file on the disk, before the batch is taken off the queue.
#[derive(clap::Args)]
#[command(after_help = after_help(
    "leadhook unreadable discard raw_5d41402abc --because 'not an event' --to unreadable.jsonl",
    NOT_REMOVED
))]
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
    let letters = DeadLetters::of_unreadable(settings)?;
    match &args.command {
        Command::List(args) => list::go(args.filter.filter(), args.limit, args.output, &letters).await,
        Command::Show(args) => show::show(&args.id, args.body, args.output, &letters).await,
        Command::Requeue(RequeueArgs { which, organization: None, how }) => {
            requeue::go(which.choice()?, how, &letters).await
        }
        Command::Requeue(RequeueArgs { which, organization, how }) => {
            let repair = Repair::Fields { set: Vec::new(), remove: Vec::new(), organization: organization.clone() };
            requeue::repaired(which.choice()?, how, &repair, false, &letters).await
        }
        Command::Discard(args) => discard::go(args.which.choice()?, false, &args.how, &letters).await,
    }
}
