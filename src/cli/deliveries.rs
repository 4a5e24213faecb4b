//! `leadhook deliveries`: shows the history of each delivery, for support.
//!
//! Reads the delivery log (`crate::delivery_log`), and prints tables or JSON.

mod list;
mod show;
pub(crate) mod words;

use lapin::types::ShortString;

use super::{
    output::{Exit, Refusal, after_help},
    readable,
};
use crate::{
    broker::topology::Plan,
    delivery::ladder::Ladder,
    delivery_log::{Entry, Filter, LogError, LogReader, Start},
    settings::{Amqp, Settings},
};

/// List deliveries and their latest state, from the delivery log
///
/// One line for each delivery, the latest first. Without a lead, submission or id it looks at the last 24 hours; --since looks
/// further back.
#[derive(clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
#[command(after_help = after_help(
    "leadhook deliveries --lead lead_abc123\nleadhook deliveries --campaign ABC --state failed,retrying --since 9:00\n\
     leadhook deliveries --follow\nleadhook deliveries show wh_31b12f9c",
    "nothing was found"
))]
pub struct Args {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    list: list::ListArgs,
}

#[derive(clap::Subcommand)]
enum Command {
    Show(show::Args),
}

/// Runs the command.
///
/// # Errors
/// The command line is wrong, or the broker or the log cannot be reached.
pub async fn run(args: &Args, settings: &Settings) -> Result<Exit, Refusal> {
    let source = Source::of(settings);
    match &args.command {
        None if args.list.follow() => list::follow(&args.list, &source).await,
        None => list::run(&args.list, &source, settings).await,
        Some(Command::Show(args)) => show::run(args, &source).await,
    }
}

/// The delivery log on the broker.
struct Source<'a> {
    amqp: &'a Amqp,
    stream: ShortString,
}

impl Source<'_> {
    fn of(settings: &Settings) -> Source<'_> {
        let plan = Plan::new(&settings.amqp, &Ladder::for_backoff(&settings.backoff));
        Source { amqp: &settings.amqp, stream: plan.names().log.clone() }
    }

    async fn open(&self, start: Start) -> Result<LogReader, Refusal> {
        LogReader::open(self.amqp, &self.stream, start).await.map_err(refusal)
    }

    /// Passes each record that matches `filter` to `each`, with its writer. Reads from the filter's start to the end
    /// that the log had when the reading began. Returns the number of messages read.
    async fn read(&self, filter: &Filter, quiet: bool, mut each: impl FnMut(&str, &Entry<'_>)) -> Result<u64, Refusal> {
        let mut reader = self.open(filter.since.map_or(Start::Oldest, Start::At)).await?;
        let bar = readable::progress("reading the delivery log", u64::MAX, quiet);
        let search = filter.search();
        loop {
            let message = match reader.next().await {
                Ok(Some(message)) => message,
                Ok(None) => break,
                Err(error) => {
                    bar.finish_and_clear();
                    return Err(refusal(error));
                }
            };
            let progress = reader.progress();
            if progress.read % 16 == 1 {
                bar.set_length(progress.of);
                bar.set_position(progress.read);
            }
            search.through(&message, &mut each);
        }
        bar.finish_and_clear();
        let read = reader.progress().read;
        reader.leave().await;
        Ok(read)
    }
}

fn refusal(error: LogError) -> Refusal {
    Refusal::cannot_start(error.to_string(), error.help())
}
