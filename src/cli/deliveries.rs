//! `leadhook deliveries`: what happened to each delivery, for people who are asked about it.
//!
//! The delivery log knows (`crate::delivery_log`); here it gets words, tables and exit codes.

mod list;
mod show;
pub(crate) mod words;

use lapin::types::ShortString;

use super::{
    output::{Exit, Refusal},
    readable,
};
use crate::{
    broker::topology::Plan,
    delivery::ladder::Ladder,
    delivery_log::{Entry, Filter, LogError, LogReader, Start},
    settings::{Amqp, Settings},
};

/// Say what happened to each delivery, from the delivery log
///
/// One line for each delivery, the latest first. Without a lead, submission or id only the last day is looked through;
/// --since looks further back.
#[derive(clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
#[command(after_help = "\
Exit codes: 0 found, 1 nothing found, 2 usage, 3 broker or log not there.")]
pub struct Args {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    list: list::ListArgs,
}

#[derive(clap::Subcommand)]
enum Command {
    /// Tell the story of one delivery, record by record
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
        None => list::run(&args.list, &source).await,
        Some(Command::Show(args)) => show::run(args, &source).await,
    }
}

/// Where the log is.
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

    /// Hands each record that `filter` lets through to `each`, with its writer; from where the filter begins to where the log
    /// ended at the beginning. Says how many messages were read.
    async fn read(&self, filter: &Filter, quiet: bool, mut each: impl FnMut(&str, &Entry<'_>)) -> Result<u64, Refusal> {
        let mut reader = self.open(filter.since.map_or(Start::Oldest, Start::At)).await?;
        let bar = readable::progress(u64::MAX, quiet);
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
    Refusal::cannot_start(error.to_string())
}

/// The answer could not be written: a full disk, say.
fn unwritable(error: std::io::Error) -> Refusal {
    Refusal::cannot_start(format!("cannot write the answer: {error}"))
}
