//! `leadhook failed discard`.

use std::path::PathBuf;

use super::{
    Desk,
    agree::{By, agree},
    export::{Summary, free, removed},
    known,
    which::Which,
};
use crate::{
    cli::{
        output::{Exit, Refusal},
        readable::messages,
    },
    desk::survey::Choice,
};

/// Take failed jobs away for good, into a file, with a reason for the delivery log
///
/// They will not be delivered any more. Each batch is in the file, and the file on the disk, before it is taken off the queue.
#[derive(clap::Args)]
#[command(after_help = EXIT_CODES)]
pub(super) struct Args {
    #[command(flatten)]
    which: Which,
    /// Only what was delivered all the same, says the delivery log: copies that failed after a crash forked their job
    #[arg(long)]
    delivered: bool,
    #[command(flatten)]
    how: How,
}

pub(in crate::cli) const EXIT_CODES: &str = "\
Exit codes: 0 discarded, 1 something could not be seen or removed (the output says which and why), 2 usage, the file is \
there already, or nobody could be asked (nothing was done), 3 broker or queue not there, or the file cannot be written.";

/// What is done with what was chosen.
#[derive(clap::Args)]
pub(in crate::cli) struct How {
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
    go(args.which.narrowed(args.delivered)?, args.delivered, &args.how, desk).await
}

/// Takes away what was chosen; with `delivered` only what was delivered all the same.
///
/// # Errors
/// The file is there, nobody agreed, or the broker or the queue cannot be reached.
pub(in crate::cli) async fn go(choice: Choice, delivered: bool, args: &How, desk: &Desk<'_>) -> Result<Exit, Refusal> {
    if args.because.trim().is_empty() || args.because.chars().count() > REASON {
        return Err(Refusal::usage(format!("--because takes 1 to {REASON} characters")));
    }
    free(&args.to)?;
    let (mut survey, notes) = desk.survey(choice, desk.is_rejected(), args.json).await?;
    if delivered {
        known::keep_delivered(desk, &mut survey, args.json).await?;
    }
    let count = survey.chosen.len() as u64;
    let summary = match count {
        0 => Summary::to(&args.to),
        _ => {
            agree(args.yes, &format!("Discard {}, into {}?", messages(count), args.to.display()))?;
            removed(desk, &survey, &args.to, &args.by, &args.because, args.json).await?
        }
    };
    summary.of(survey, notes).tell(args.json)
}
