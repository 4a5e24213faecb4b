//! `leadhook rejected`: shows messages that are not usable events and puts them back, for engineers.

mod edit;
pub(super) mod list;
mod preview;
pub(super) mod requeue;
mod stats;
mod which;

use self::which::Which;
use super::{
    arguments::Output,
    dead_letters::DeadLetters,
    failed::{
        discard,
        export::{self, NOT_REMOVED},
        show,
    },
    output::{Exit, Refusal, after_help},
};
use crate::settings::Settings;

/// Look at rejected messages, repair them, and put them back
///
/// A message is rejected when it is not a usable event, or when the webhook store does not know its campaign or
/// organization. Fix the publisher or the store first. Looking changes nothing, neither the messages nor their order.
#[derive(clap::Args)]
#[command(after_help = after_help(
    "leadhook rejected stats\nleadhook rejected requeue --reason unknown_campaign --dry-run",
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
    Show(ShowArgs),
    Stats(stats::Args),
    Edit(edit::Args),
    Requeue(requeue::Args),
    Export(ExportArgs),
    Discard(DiscardArgs),
}

/// Show one rejected message: the reason, and what to do
#[derive(clap::Args)]
#[command(after_help = after_help("leadhook rejected show raw_5d41402abc", show::NOT_THERE))]
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

/// Write rejected messages into a file, and remove them from the queue with --remove
///
/// One JSON object a line, bodies included. The file may hold data of leads, and only its owner can read it. With --remove
/// each batch is on the disk before it is taken off the queue.
#[derive(clap::Args)]
#[command(after_help = after_help("leadhook rejected export --all --to rejected.jsonl", NOT_REMOVED))]
struct ExportArgs {
    #[command(flatten)]
    which: Which,
    #[command(flatten)]
    how: export::How,
}

/// Remove rejected messages for good: into a file, with a reason for the delivery log
///
/// Each batch is in the file, and the file on the disk, before the batch is taken off the queue.
#[derive(clap::Args)]
#[command(after_help = after_help(
    "leadhook rejected discard --reason not_json --dry-run\n\
     leadhook rejected discard --reason not_json --because 'test messages' --to rejected.jsonl",
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
    let letters = DeadLetters::of_rejected(settings)?;
    match &args.command {
        Command::List(args) => list::run(args, &letters).await,
        Command::Show(args) => show::show(&args.id, args.body, args.output, &letters).await,
        Command::Stats(args) => stats::run(args, &letters).await,
        Command::Edit(args) => edit::run(args, &letters).await,
        Command::Requeue(args) => requeue::run(args, &letters).await,
        Command::Export(args) => export::go(args.which.choice()?, &args.how, &letters).await,
        Command::Discard(args) => discard::go(args.which.choice()?, false, &args.how, &letters).await,
    }
}
