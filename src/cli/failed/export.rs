//! `leadhook failed export`.

use std::{
    io::ErrorKind,
    path::{Path, PathBuf},
};

use serde::Serialize;

use tokio_util::sync::CancellationToken;

use super::{
    agree::{By, agree},
    show,
    which::Which,
};
use crate::{
    broker::publisher::Publisher,
    cli::{
        arguments::Output,
        dead_letters::{DeadLetters, Seen, close_log, notes_about_unseen, warn_about_limits},
        output::{self, Exit, Refusal, after_help},
        readable::{messages, progress},
    },
    dead_letters::{
        browse::Held,
        export::Export,
        remove::{Doing, Removal},
        renew::Renewer,
        selection::{Choice, Selection},
    },
    os_error,
};

/// The meaning of exit code 1 for commands that remove messages.
pub(in crate::cli) const NOT_REMOVED: &str =
    "some messages were not seen or not removed (the output says which and why)";

/// Write failed jobs into a file, and remove them from the queue with --remove
///
/// One JSON object a line, bodies included. The file holds data of leads, and only its owner can read it. With --remove each
/// batch is on the disk before it is taken off the queue.
#[derive(clap::Args)]
#[command(after_help = after_help(
    "leadhook failed export --all --to failed.jsonl\n\
     leadhook failed export --older-than 14d --remove --to old.jsonl",
    NOT_REMOVED
))]
pub(super) struct Args {
    #[command(flatten)]
    which: Which,
    #[command(flatten)]
    how: How,
}

// How to export.
#[derive(clap::Args)]
pub(in crate::cli) struct How {
    /// File to write to, which must not exist yet
    #[arg(long, value_name = "FILE")]
    to: PathBuf,
    /// Remove the written messages from the queue; needs --older-than, ids or another filter
    #[arg(long)]
    remove: bool,
    #[command(flatten)]
    by: By,
    /// Do not ask before --remove; needed without a terminal
    #[arg(short, long)]
    yes: bool,
    #[command(flatten)]
    output: Output,
}

pub(super) async fn run(args: &Args, letters: &DeadLetters<'_>) -> Result<Exit, Refusal> {
    let choice = args.which.choice()?;
    args.which.filter.window.tell();
    go(choice, &args.how, letters).await
}

/// Writes the chosen messages to the file, and removes them from the queue if the user asked for it.
///
/// # Errors
/// The file exists, the user did not agree, or the broker or the queue cannot be reached.
pub(in crate::cli) async fn go(choice: Choice, args: &How, letters: &DeadLetters<'_>) -> Result<Exit, Refusal> {
    if args.remove && matches!(&choice, Choice::Matching(filter) if filter.is_empty()) {
        let text = "--remove does not take all messages at once: the command line has neither ids nor filters";
        return Err(Refusal::usage(text, "give ids, --older-than or another filter"));
    }
    require_new(&args.to)?;
    let json = args.output.json;
    // A copy takes all messages. A message that is not a job is removed only by its id.
    let (selection, notes) = letters.selection(choice, !args.remove || letters.has_no_jobs(), json).await?;
    let count = selection.chosen.len() as u64;
    let summary = match (count, args.remove) {
        (0, remove) => Summary { removed: remove.then_some(0), ..Summary::to(&args.to) },
        (_, false) => write_chosen(letters, &selection, create(&args.to)?, json).await?,
        (_, true) => {
            let question = format!("Take {} off the {}, into {}?", messages(count), letters.called, args.to.display());
            agree(args.yes, &question)?;
            remove_chosen(letters, &selection, &args.to, &args.by, "exported", json).await?
        }
    };
    summary.of(selection, notes).tell(json)
}

/// Refuses a file that exists or cannot be created, before the user waits or agrees.
pub(super) fn require_new(path: &Path) -> Result<(), Refusal> {
    let directory = path.parent().filter(|directory| !directory.as_os_str().is_empty());
    if directory.is_some_and(|directory| !directory.is_dir()) {
        return Err(unusable(path, &ErrorKind::NotFound.into()));
    }
    match path.try_exists() {
        Ok(true) => Err(unusable(path, &ErrorKind::AlreadyExists.into())),
        Ok(false) => Ok(()),
        Err(error) => Err(unusable(path, &error)),
    }
}

fn create(path: &Path) -> Result<Export, Refusal> {
    Export::create(path).map_err(|error| unusable(path, &error))
}

fn unusable(path: &Path, error: &std::io::Error) -> Refusal {
    let text = format!("cannot create the file: {}: {}", path.display(), os_error::words(error));
    Refusal::usage(text, "name a new file in a directory that this user may write to")
}

/// Writes the chosen messages, and leaves them on the queue.
async fn write_chosen(
    letters: &DeadLetters<'_>,
    selection: &Selection,
    mut file: Export,
    quiet: bool,
) -> Result<Summary, Refusal> {
    let mut problem = None;
    let see = |held: &Held| {
        if problem.is_none() && selection.chosen.contains_key(held.record.key()) {
            problem = file.write(held).err();
        }
    };
    let Seen { notes, .. } = letters.look(quiet, see).await?;
    if let Some(error) = problem.or_else(|| file.sync().err()) {
        let text = format!("cannot write the file: {}: {}", file.path().display(), os_error::words(&error));
        return Err(Refusal::findings(text, "free space on the disk; all messages are still on the queue"));
    }
    Ok(Summary { written: file.written, notes, ..Summary::to(file.path()) })
}

/// Writes the chosen messages, removes them from the queue, and records the removal in the delivery log.
pub(super) async fn remove_chosen(
    letters: &DeadLetters<'_>,
    selection: &Selection,
    to: &Path,
    by: &By,
    because: &str,
    quiet: bool,
) -> Result<Summary, Refusal> {
    let mut browse = letters.browse(None).await?;
    let file = create(to)?;
    let publisher = Publisher::start(letters.amqp, "discard", None, CancellationToken::new());
    let log = letters.delivery_log(&publisher);
    let bar = progress("removing", browse.expected(), quiet);
    let mut renewer = Renewer::new(letters.amqp, &letters.queue);
    let by = by.name();
    let mut removal = Removal::new(file, Doing { log: &log, by: &by, because });
    let done = removal.chosen(selection, &mut browse, &mut renewer, |count| bar.inc(count)).await;
    bar.finish_and_clear();
    renewer.close().await;
    warn_about_limits(letters, &browse, &renewer);
    let mut notes = if done.is_ok() { notes_about_unseen(&browse) } else { Vec::new() };
    let confirmed = removal.confirm_removed(browse).await;
    notes.extend(done.err().map(|error| error.to_string()).or(confirmed.err().map(|error| error.to_string())));
    let (written, removed, failed_again) = (removal.written(), removal.messages, removal.failed_again);
    notes.extend(close_log(log.clone()).await);
    publisher.close().await;
    Ok(Summary { written, removed: Some(removed), failed_again, notes, ..Summary::to(to) })
}

/// The answer of the command.
#[derive(Default, Serialize)]
pub(super) struct Summary {
    /// The file.
    to: String,
    /// Messages written, including copies of jobs.
    written: u64,
    /// Messages removed from the queue.
    removed: Option<u64>,
    /// Messages that would be removed, in a dry run.
    #[serde(skip_serializing_if = "Option::is_none")]
    would_remove: Option<u64>,
    /// Jobs left because they failed again in the meantime.
    failed_again: u64,
    /// Messages left because they match but are not jobs.
    unreadable: u64,
    /// Ids on the command line that fit no message.
    pub unknown: Vec<String>,
    /// Notes about messages that were not seen or not removed, with the reason.
    pub notes: Vec<String>,
}

impl Summary {
    pub(super) fn to(path: &Path) -> Summary {
        Summary { to: path.display().to_string(), ..Summary::default() }
    }

    pub(super) fn of_dry_run(count: u64) -> Summary {
        Summary { would_remove: Some(count), ..Summary::default() }
    }

    /// Adds the results of the selection.
    pub(super) fn of(self, selection: Selection, notes: Vec<String>) -> Summary {
        let Selection { unreadable, resolved, .. } = selection;
        Summary { unreadable, unknown: resolved.unknown, notes: [notes, self.notes].concat(), ..self }
    }

    pub(super) fn tell(&self, json: bool) -> Result<Exit, Refusal> {
        let told = if json { output::print_json(self) } else { output::print(self.text()) };
        told.map_err(|error| Refusal::unwritable(&error))?;
        let fine = self.unknown.is_empty() && self.notes.is_empty() && self.unreadable == 0;
        Ok(if fine { Exit::Ok } else { Exit::Findings })
    }

    fn text(&self) -> String {
        let mut lines = vec![match (self.would_remove, self.removed) {
            (Some(would), _) => format!("{} would be removed; nothing was done", messages(would)),
            _ if self.written == 0 => "nothing matches, and no file was made".to_owned(),
            (None, None) => format!("{} written to {}", messages(self.written), self.to),
            (None, Some(removed)) => format!("{} taken off the queue, into {}", messages(removed), self.to),
        }];
        if let Some(removed) = self.removed.filter(|removed| *removed < self.written) {
            let left = messages(self.written - removed);
            lines.push(format!("  {left} are still on the queue, and in the file too, perhaps in part"));
        }
        if self.unreadable > 0 {
            let left = messages(self.unreadable);
            lines.push(format!("  {left} left: not jobs (name them by id, see leadhook failed list)"));
        }
        if self.failed_again > 0 {
            lines.push(format!("  {} left: failed again in the meantime", messages(self.failed_again)));
        }
        lines.extend(show::unknown(&self.unknown));
        lines.extend(self.notes.iter().map(|note| format!("  {note}")));
        lines.join("\n")
    }
}
