//! `leadhook failed export`.

use std::path::{Path, PathBuf};

use serde::Serialize;

use super::{Desk, Seen, agree::agree, overlooked, remarks, show, unwritable, which::Which};
use crate::{
    cli::{
        output::{self, Exit, Refusal},
        readable::{counted, jobs, messages, progress},
    },
    desk::{
        export::Export,
        remove::Removal,
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
#[command(after_help = "\
Exit codes: 0 written, 1 something could not be seen or removed (the output says which and why), 2 usage, the file is there \
already, or nobody could be asked (nothing was done), 3 broker or queue not there, or the file cannot be written.")]
pub(super) struct Args {
    /// The file, which must not be there yet
    #[arg(long, value_name = "FILE")]
    to: PathBuf,
    #[command(flatten)]
    which: Which,
    /// Take off the queue what is in the file; needs --older-than, ids or another filter
    #[arg(long)]
    remove: bool,
    /// Do not ask before --remove; needed where there is no terminal
    #[arg(long)]
    yes: bool,
    /// Print the summary as one JSON object
    #[arg(long)]
    json: bool,
}

pub(super) async fn run(args: &Args, desk: &Desk<'_>) -> Result<Exit, Refusal> {
    let choice = args.which.choice()?;
    if args.remove && matches!(&choice, Choice::Matching(filter) if filter.is_empty()) {
        return Err(Refusal::usage("--remove needs --older-than, ids or another filter: all is too much at once"));
    }
    let file = create(&args.to)?;
    let (survey, notes) = desk.survey(choice, args.json).await.inspect_err(|_| forget(&args.to))?;
    let summary = if args.remove {
        let count = survey.chosen.len() as u64;
        let question = format!("Take {} off the failed queue, into {}?", jobs(count), args.to.display());
        if count > 0 {
            agree(args.yes, &question).inspect_err(|_| forget(&args.to))?;
        }
        removed(desk, &survey, file, args.json, |_| {}).await?
    } else {
        written(desk, &survey, file, args.json).await?
    };
    let summary = Summary { unknown: survey.resolved.unknown, notes: [notes, summary.notes].concat(), ..summary };
    summary.tell(args.json)
}

/// The file, made now: nobody should have agreed, or waited, for nothing.
pub(super) fn create(path: &Path) -> Result<Export, Refusal> {
    Export::create(path).map_err(|error| match error.kind() {
        std::io::ErrorKind::AlreadyExists => Refusal::usage(format!("{} is there already", path.display())),
        _ => Refusal::cannot_start(format!("cannot make {}: {error}", path.display())),
    })
}

/// Takes away a file into which nothing was written.
pub(super) fn forget(path: &Path) {
    if std::fs::metadata(path).is_ok_and(|file| file.len() == 0) {
        let _ = std::fs::remove_file(path);
    }
}

/// Writes what was chosen, and leaves it where it is.
async fn written(desk: &Desk<'_>, survey: &Survey, mut file: Export, quiet: bool) -> Result<Summary, Refusal> {
    let mut problem = None;
    let see = |held: &Held| {
        if problem.is_none() && survey.chosen.contains_key(held.record.key().unwrap_or_default()) {
            problem = file.write(held).err();
        }
    };
    let Seen { notes, .. } = desk.look(quiet, see).await?;
    if let Some(error) = problem.or_else(|| file.sync().err()) {
        return Err(Refusal::cannot_start(format!("cannot write {}: {error}", file.path().display())));
    }
    Ok(Summary { written: file.written, notes, ..Summary::to(&file) })
}

/// Writes what was chosen, and takes it off the queue; `gone` is told of each message.
pub(super) async fn removed(
    desk: &Desk<'_>,
    survey: &Survey,
    file: Export,
    quiet: bool,
    gone: impl FnMut(&Held),
) -> Result<Summary, Refusal> {
    let summary = Summary::to(&file);
    let mut visit = desk.visit(None).await?;
    let bar = progress(visit.expected(), quiet);
    let mut renewer = Renewer::new(desk.amqp, &desk.failed);
    let mut removal = Removal::new(file);
    let done = removal.chosen(survey, &mut visit, &mut renewer, gone, |count| bar.inc(count)).await;
    bar.finish_and_clear();
    renewer.close().await;
    remarks(desk, &visit, &renewer);
    let mut notes = overlooked(&visit);
    let sure = removal.make_sure(visit).await;
    notes.extend(done.err().map(|error| error.to_string()).or(sure.err().map(|error| error.to_string())));
    let (written, removed, failed_again) = (removal.written(), removal.messages, removal.failed_again);
    Ok(Summary { written, removed: Some(removed), failed_again, notes, ..summary })
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
    /// Said, but no failed job has such an id.
    pub unknown: Vec<String>,
    /// What was not seen or not done, and why.
    pub notes: Vec<String>,
}

impl Summary {
    fn to(file: &Export) -> Summary {
        Summary { to: file.path().display().to_string(), ..Summary::default() }
    }

    pub(super) fn tell(&self, json: bool) -> Result<Exit, Refusal> {
        let told = if json { output::print_json(self) } else { output::print(self.text()) };
        told.map_err(unwritable)?;
        Ok(if self.unknown.is_empty() && self.notes.is_empty() { Exit::Ok } else { Exit::Findings })
    }

    fn text(&self) -> String {
        let mut lines = vec![match self.removed {
            None => format!("{} written to {}", messages(self.written), self.to),
            Some(removed) => format!("{} taken off the queue, into {}", messages(removed), self.to),
        }];
        if let Some(removed) = self.removed.filter(|removed| *removed < self.written) {
            lines.push(format!("  {} written and left: the connection was lost", messages(self.written - removed)));
        }
        if self.failed_again > 0 {
            lines.push(format!("  {} left: failed again meanwhile", counted(self.failed_again, "message", "messages")));
        }
        lines.extend(show::unknown(&self.unknown));
        lines.extend(self.notes.iter().map(|note| format!("  {note}")));
        lines.join("\n")
    }
}
