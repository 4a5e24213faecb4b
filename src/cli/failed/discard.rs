//! `leadhook failed discard`.

use std::path::PathBuf;

use tokio_util::sync::CancellationToken;

use super::{
    Desk,
    agree::{By, agree},
    export::{create, forget, removed},
    known,
    which::Which,
};
use crate::{
    broker::publisher::Publisher,
    cli::{
        output::{Exit, Refusal},
        readable::jobs,
    },
    delivery_log::{Entry, What},
    desk::visit::Held,
};

/// Take failed jobs away for good, into a file, with a reason for the delivery log
///
/// They will not be delivered any more. Each batch is in the file, and the file on the disk, before it is taken off the queue.
#[derive(clap::Args)]
#[command(after_help = "\
Exit codes: 0 discarded, 1 something could not be seen or removed (the output says which and why), 2 usage, the file is \
there already, or nobody could be asked (nothing was done), 3 broker or queue not there, or the file cannot be written.")]
pub(super) struct Args {
    #[command(flatten)]
    which: Which,
    /// Only what was delivered all the same, says the delivery log: copies that failed after a crash forked their job
    #[arg(long)]
    delivered: bool,
    /// Why, for the delivery log; name no lead's data
    #[arg(long, value_name = "TEXT")]
    because: String,
    /// The file that they are written to, which must not be there yet
    #[arg(long, value_name = "FILE")]
    to: PathBuf,
    #[command(flatten)]
    by: By,
    /// Do not ask; needed where there is no terminal
    #[arg(long)]
    yes: bool,
    /// Print the summary as one JSON object
    #[arg(long)]
    json: bool,
}

/// Longest reason, in characters.
const REASON: usize = 200;

pub(super) async fn run(args: &Args, desk: &Desk<'_>) -> Result<Exit, Refusal> {
    let choice = args.which.narrowed(args.delivered)?;
    if args.because.trim().is_empty() || args.because.chars().count() > REASON {
        return Err(Refusal::usage(format!("--because takes 1 to {REASON} characters")));
    }
    let file = create(&args.to)?;
    let (mut survey, notes) = desk.survey(choice, args.json).await.inspect_err(|_| forget(&args.to))?;
    if args.delivered {
        known::keep_delivered(desk, &mut survey, args.json).await.inspect_err(|_| forget(&args.to))?;
    }
    let count = survey.chosen.len() as u64;
    if count > 0 {
        let question = format!("Discard {}, into {}?", jobs(count), args.to.display());
        agree(args.yes, &question).inspect_err(|_| forget(&args.to))?;
    }
    let publisher = Publisher::start(desk.amqp, "discard", None, CancellationToken::new());
    let log = desk.delivery_log(&publisher);
    let by = args.by.name();
    let gone = |held: &Held| {
        let now = jiff::Timestamp::now();
        let entry = match &held.record.content {
            Ok(job) => Entry::of_job(What::Discarded, now, job),
            Err(unreadable) => {
                let id = unreadable.message_id.as_deref().map(Into::into);
                Entry { id, ..Entry::new(What::Discarded, now) }
            }
        };
        log.write(&Entry { reason: Some(args.because.as_str().into()), by: Some(by.as_str().into()), ..entry });
    };
    let done = removed(desk, &survey, file, args.json, gone).await;
    log.close().await;
    publisher.close().await;
    let mut summary = done?;
    summary.unknown = survey.resolved.unknown;
    summary.notes.extend(notes);
    summary.tell(args.json)
}
