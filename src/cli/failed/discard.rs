//! `leadhook failed discard`.

use std::path::{Path, PathBuf};

use super::{
    agree::{By, agree},
    export::{NOT_REMOVED, Summary, remove_chosen, require_new},
    known,
    which::Which,
};
use crate::{
    cli::{
        arguments::Output,
        dead_letters::DeadLetters,
        output::{Exit, Refusal, after_help},
        readable::messages,
    },
    dead_letters::selection::Choice,
};

/// Remove failed jobs for good: into a file, with a reason for the delivery log
///
/// They will not be delivered. Each batch is in the file, and the file on the disk, before the batch is taken off the queue.
#[derive(clap::Args)]
#[command(after_help = after_help(
    "leadhook failed discard --campaign OLD --dry-run\n\
     leadhook failed discard --campaign OLD --because 'campaign ended' --to old.jsonl",
    NOT_REMOVED
))]
pub(super) struct Args {
    #[command(flatten)]
    which: Which,
    /// Only jobs that were delivered too, by the delivery log: copies that failed after a crash
    #[arg(long)]
    delivered: bool,
    #[command(flatten)]
    how: How,
}

// How to discard.
#[derive(clap::Args)]
pub(in crate::cli) struct How {
    /// Reason, for the delivery log; do not write data of a lead
    #[arg(long, value_name = "TEXT", required_unless_present = "dry_run")]
    because: Option<String>,
    /// File to write them to, which must not exist yet
    #[arg(long, value_name = "FILE", required_unless_present = "dry_run")]
    to: Option<PathBuf>,
    /// Only print how many messages would be removed
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    by: By,
    /// Do not ask; needed without a terminal
    #[arg(short, long)]
    yes: bool,
    #[command(flatten)]
    output: Output,
}

/// Longest reason, in characters.
const REASON: usize = 200;

pub(super) async fn run(args: &Args, letters: &DeadLetters<'_>) -> Result<Exit, Refusal> {
    let choice = args.which.narrowed(args.delivered)?;
    args.which.filter.window.tell();
    go(choice, args.delivered, &args.how, letters).await
}

/// Removes the chosen messages, or with `delivered` only jobs that were also delivered.
///
/// # Errors
/// The file exists, the user did not agree, or the broker or the queue cannot be reached.
pub(in crate::cli) async fn go(
    choice: Choice,
    delivered: bool,
    args: &How,
    letters: &DeadLetters<'_>,
) -> Result<Exit, Refusal> {
    let json = args.output.json;
    // Only a dry run may leave out these options.
    let (because, to) = (args.because.as_deref().unwrap_or_default(), args.to.as_deref().unwrap_or(Path::new("")));
    if !args.dry_run {
        if because.trim().is_empty() || because.chars().count() > REASON {
            let text = format!("--because takes 1 to {REASON} characters: it has {}", because.chars().count());
            return Err(Refusal::usage(text, "write in a few words why these are removed"));
        }
        require_new(to)?;
    }
    let (mut selection, notes) = letters.selection(choice, letters.has_no_jobs(), json).await?;
    if delivered {
        known::keep_delivered(letters, &mut selection, json).await?;
    }
    let count = selection.chosen.len() as u64;
    let summary = match count {
        _ if args.dry_run => Summary::of_dry_run(count),
        0 => Summary::to(to),
        _ => {
            agree(args.yes, &format!("Discard {}, into {}?", messages(count), to.display()))?;
            remove_chosen(letters, &selection, to, &args.by, because, json).await?
        }
    };
    summary.of(selection, notes).tell(json)
}
