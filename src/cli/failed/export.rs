//! `leadhook failed export`.

use std::path::{Path, PathBuf};

use serde::Serialize;

use tokio_util::sync::CancellationToken;

use super::{
    Desk, Seen,
    agree::{By, agree},
    close, overlooked, remarks, show, unwritable,
    which::Which,
};
use crate::{
    broker::publisher::Publisher,
    cli::{
        output::{self, Exit, Refusal},
        readable::{counted, messages, progress},
    },
    desk::{
        export::Export,
        remove::{Doing, Removal, RemoveError},
        survey::{Choice, Survey},
        visit::Held,
        wear::Renewer,
    },
};

/// Write failed jobs into a file, and with --remove take them off the queue
///
/// One JSON object a line, bodies included: the file holds the data of leads, and is made readable for its owner only. With
/// --remove each batch is on the disk before it is taken off the queue.
#[derive(clap::Args)]
#[command(after_help = EXIT_CODES)]
pub(super) struct Args {
    #[command(flatten)]
    which: Which,
    #[command(flatten)]
    how: How,
}

pub(in crate::cli) const EXIT_CODES: &str = "\
Exit codes: 0 written, 1 something could not be seen or removed (the output says which and why), 2 usage, the file is there \
already, or nobody could be asked (nothing was done), 3 broker or queue not there, or the file cannot be written.";

/// What is done with what was chosen.
#[derive(clap::Args)]
pub(in crate::cli) struct How {
    /// The file, which must not be there yet
    #[arg(long, value_name = "FILE")]
    to: PathBuf,
    /// Take off the queue what is in the file; needs --older-than, ids or another filter
    #[arg(long)]
    remove: bool,
    #[command(flatten)]
    by: By,
    /// Do not ask before --remove; needed where there is no terminal
    #[arg(long)]
    yes: bool,
    /// Print the summary as one JSON object
    #[arg(long)]
    json: bool,
}

pub(super) async fn run(args: &Args, desk: &Desk<'_>) -> Result<Exit, Refusal> {
    go(args.which.choice()?, &args.how, desk).await
}

/// Writes what was chosen.
///
/// # Errors
/// The file is there, nobody agreed, or the broker or the queue cannot be reached.
pub(in crate::cli) async fn go(choice: Choice, args: &How, desk: &Desk<'_>) -> Result<Exit, Refusal> {
    if args.remove && matches!(&choice, Choice::Matching(filter) if filter.is_empty()) {
        return Err(Refusal::usage("--remove needs --older-than, ids or another filter: all is too much at once"));
    }
    free(&args.to)?;
    // What is only copied is copied whole; what goes must be named, if it is no job.
    let (survey, notes) = desk.survey(choice, !args.remove || desk.is_rejected(), args.json).await?;
    let count = survey.chosen.len() as u64;
    let summary = match (count, args.remove) {
        (0, remove) => Summary { removed: remove.then_some(0), ..Summary::to(&args.to) },
        (_, false) => written(desk, &survey, create(&args.to)?, args.json).await?,
        (_, true) => {
            let question = format!("Take {} off the {}, into {}?", messages(count), desk.called, args.to.display());
            agree(args.yes, &question)?;
            removed(desk, &survey, &args.to, &args.by, "exported", args.json).await?
        }
    };
    summary.of(survey, notes).tell(args.json)
}

/// Refuses a file that is there: nobody should agree, or wait, for nothing.
pub(super) fn free(path: &Path) -> Result<(), Refusal> {
    match path.try_exists() {
        Ok(true) => Err(Refusal::usage(format!("{} is there already", path.display()))),
        Ok(false) => Ok(()),
        Err(error) => Err(Refusal::cannot_start(format!("cannot make {}: {error}", path.display()))),
    }
}

fn create(path: &Path) -> Result<Export, Refusal> {
    Export::create(path).map_err(|error| match error.kind() {
        std::io::ErrorKind::AlreadyExists => Refusal::usage(format!("{} is there already", path.display())),
        _ => Refusal::cannot_start(format!("cannot make {}: {error}", path.display())),
    })
}

/// Writes what was chosen, and leaves it where it is.
async fn written(desk: &Desk<'_>, survey: &Survey, mut file: Export, quiet: bool) -> Result<Summary, Refusal> {
    let mut problem = None;
    let see = |held: &Held| {
        if problem.is_none() && survey.chosen.contains_key(held.record.key()) {
            problem = file.write(held).err();
        }
    };
    let Seen { notes, .. } = desk.look(quiet, see).await?;
    if let Some(error) = problem.or_else(|| file.sync().err()) {
        return Err(Refusal::cannot_start(format!("cannot write {}: {error}", file.path().display())));
    }
    Ok(Summary { written: file.written, notes, ..Summary::to(file.path()) })
}

/// Writes what was chosen, and takes it off the queue, on record.
pub(super) async fn removed(
    desk: &Desk<'_>,
    survey: &Survey,
    to: &Path,
    by: &By,
    because: &str,
    quiet: bool,
) -> Result<Summary, Refusal> {
    let mut visit = desk.visit(None).await?;
    let file = create(to)?;
    let publisher = Publisher::start(desk.amqp, "discard", None, CancellationToken::new());
    let log = desk.delivery_log(&publisher);
    let bar = progress(visit.expected(), quiet);
    let mut renewer = Renewer::new(desk.amqp, &desk.queue);
    let by = by.name();
    let mut removal = Removal::new(file, Doing { log: &log, by: &by, because });
    let done = removal.chosen(survey, &mut visit, &mut renewer, |count| bar.inc(count)).await;
    bar.finish_and_clear();
    renewer.close().await;
    remarks(desk, &visit, &renewer);
    let mut notes = if done.is_ok() { overlooked(&visit) } else { Vec::new() };
    let sure = removal.make_sure(visit).await;
    let file_problem = matches!(done, Err(RemoveError::File { .. }));
    notes.extend(done.err().map(|error| error.to_string()).or(sure.err().map(|error| error.to_string())));
    let (written, removed, failed_again) = (removal.written(), removal.messages, removal.failed_again);
    notes.extend(close(log.clone()).await);
    publisher.close().await;
    Ok(Summary { written, removed: Some(removed), failed_again, notes, file_problem, ..Summary::to(to) })
}

/// The answer of the command.
#[derive(Default, Serialize)]
pub(super) struct Summary {
    /// The file.
    to: String,
    /// Messages written; copies of a job count.
    written: u64,
    /// Messages taken off the queue.
    removed: Option<u64>,
    /// Jobs that failed again meanwhile; left.
    failed_again: u64,
    /// Messages that match and are no jobs; left.
    unreadable: u64,
    /// Whether the file could not be written.
    #[serde(skip)]
    file_problem: bool,
    /// Said, but no failed job has such an id.
    pub unknown: Vec<String>,
    /// What was not seen or not done, and why.
    pub notes: Vec<String>,
}

impl Summary {
    pub(super) fn to(path: &Path) -> Summary {
        Summary { to: path.display().to_string(), ..Summary::default() }
    }

    /// With what the survey before it said.
    pub(super) fn of(self, survey: Survey, notes: Vec<String>) -> Summary {
        let Survey { unreadable, resolved, .. } = survey;
        Summary { unreadable, unknown: resolved.unknown, notes: [notes, self.notes].concat(), ..self }
    }

    pub(super) fn tell(&self, json: bool) -> Result<Exit, Refusal> {
        let told = if json { output::print_json(self) } else { output::print(self.text()) };
        told.map_err(unwritable)?;
        let fine = self.unknown.is_empty() && self.notes.is_empty() && self.unreadable == 0;
        Ok(match (self.file_problem, fine) {
            (true, _) => Exit::CannotStart,
            (false, true) => Exit::Ok,
            (false, false) => Exit::Findings,
        })
    }

    fn text(&self) -> String {
        let mut lines = vec![match self.removed {
            _ if self.written == 0 => "nothing matches: there is no file".to_owned(),
            None => format!("{} written to {}", messages(self.written), self.to),
            Some(removed) => format!("{} taken off the queue, into {}", messages(removed), self.to),
        }];
        if let Some(removed) = self.removed.filter(|removed| *removed < self.written) {
            let left = messages(self.written - removed);
            lines.push(format!("  {left} are in the file, perhaps in part, and on the queue still"));
        }
        if self.unreadable > 0 {
            let left = messages(self.unreadable);
            lines.push(format!("  {left} left: no jobs of ours (name them by id, see leadhook failed list)"));
        }
        if self.failed_again > 0 {
            lines.push(format!("  {} left: failed again meanwhile", counted(self.failed_again, "message", "messages")));
        }
        lines.extend(show::unknown(&self.unknown));
        lines.extend(self.notes.iter().map(|note| format!("  {note}")));
        lines.join("\n")
    }
}
