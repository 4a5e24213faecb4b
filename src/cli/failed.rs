//! `leadhook failed`: shows, replays and removes jobs that could not be delivered, for support.
//!
//! `crate::desk` does the work. This module asks the user, and prints tables or JSON.

pub(super) mod agree;
pub(super) mod discard;
pub(super) mod export;
mod known;
mod list;
mod replay;
pub(super) mod show;
mod stats;
pub(super) mod which;

use std::time::Duration;

use lapin::types::ShortString;

use clap::builder::PossibleValuesParser;

use super::{
    arguments::{FILTERS, explain_nothing},
    output::{self, Exit, Refusal, after_help},
    readable::{counted, messages, progress, thousands},
    rejected::requeue,
};
use crate::{
    broker::{publisher::Publisher, topology::Plan},
    delivery::ladder::Ladder,
    delivery_log::{self, DeliveryLog},
    desk::{
        filter::{self, Filter},
        interrupt::Interrupt,
        record::Record,
        survey::{Choice, Survey, Surveyor},
        visit::{Guard, Held, Visit, VisitError},
        wear::{Renewer, look},
    },
    os_error,
    settings::{Amqp, Settings},
};

/// Look at failed jobs, and replay them
///
/// A job has failed when all its attempts were made, or when it can never succeed. It rests on the failed queue until it is
/// replayed or discarded. Looking changes nothing, neither the jobs nor their order.
#[derive(clap::Args)]
#[command(after_help = after_help(
    "leadhook failed list --campaign ABC --since yesterday\nleadhook failed show wh_31b12f9c\n\
     leadhook failed replay --campaign ABC --dry-run",
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
    Show(show::Args),
    Stats(stats::Args),
    Replay(replay::Args),
    Requeue(RequeueArgs),
    Export(export::Args),
    Discard(discard::Args),
}

/// Put events that the broker gave up on back onto the events queue, unchanged
///
/// A message that `failed list` does not call a job can be an event that the broker moved there by itself. Each is
/// published, confirmed by the broker, and only then removed. Messages that are not usable events stay, and so do jobs:
/// `failed replay` is for those.
#[derive(clap::Args)]
#[command(after_help = after_help(
    "leadhook failed requeue --reason dead_lettered --dry-run\nleadhook failed requeue raw_5d41402abc",
    "some messages were left (the output says which and why)"
))]
struct RequeueArgs {
    /// Message ids (`raw_...` for a message without one), or their beginnings (at least 6 characters)
    #[arg(value_name = "ID")]
    ids: Vec<String>,
    /// All messages that are on the failed queue now and are not jobs
    #[arg(long, conflicts_with = "ids")]
    all: bool,
    /// Only messages that rest there for this reason
    #[arg(short, long, value_name = "REASON", value_parser = reason(), help_heading = FILTERS)]
    reason: Option<String>,
    #[command(flatten)]
    how: requeue::How,
}

/// Returns a parser for the reasons on the failed queue.
fn reason() -> PossibleValuesParser {
    PossibleValuesParser::new(filter::reasons())
}

/// Runs the command.
///
/// # Errors
/// The command line is wrong, or the broker or the queue cannot be reached.
pub async fn run(args: &Args, settings: &Settings) -> Result<Exit, Refusal> {
    let desk = Desk::of(settings)?;
    match &args.command {
        Command::List(args) => list::run(args, &desk).await,
        Command::Show(args) => show::run(args, &desk).await,
        Command::Stats(args) => stats::run(args, &desk).await,
        Command::Replay(args) => replay::run(args, &desk).await,
        Command::Requeue(args) => {
            let filter = Filter { reason: args.reason.clone(), ..Filter::default() };
            let choice = which::chosen(&args.ids, args.all, filter, false, "--reason")?;
            requeue::go(choice, &args.how, &desk).await
        }
        Command::Export(args) => export::run(args, &desk).await,
        Command::Discard(args) => discard::run(args, &desk).await,
    }
}

/// Longest wait for the delivery log to record the actions of this command.
const CLOSING: Duration = Duration::from_secs(10);

/// The failed, rejected or unreadable queue, for the commands that work on it.
pub(super) struct Desk<'a> {
    pub amqp: &'a Amqp,
    pub queue: ShortString,
    /// The name of the queue in messages.
    pub called: &'static str,
    jobs: ShortString,
    /// The stream of the delivery log.
    log: ShortString,
    pub settings: &'a Settings,
    pub plan: Plan,
    pub interrupt: Interrupt,
}

impl Desk<'_> {
    fn of(settings: &Settings) -> Result<Desk<'_>, Refusal> {
        let plan = Plan::new(&settings.amqp, &Ladder::for_backoff(&settings.backoff));
        let names = plan.names();
        let (queue, jobs, log) = (names.failed.clone(), names.jobs.clone(), names.log.clone());
        let interrupt = Interrupt::listen();
        let interrupt = interrupt.map_err(|error| {
            let text = format!("cannot listen for signals: {}", os_error::words(&error));
            Refusal::cannot_start(text, "raise the limits of this process")
        })?;
        Ok(Desk { amqp: &settings.amqp, queue, called: "failed queue", jobs, log, settings, plan, interrupt })
    }

    /// Returns whether this is a queue of messages that are not jobs.
    pub fn has_no_jobs(&self) -> bool {
        self.queue != self.plan.names().failed
    }

    pub fn of_rejected(settings: &Settings) -> Result<Desk<'_>, Refusal> {
        let desk = Desk::of(settings)?;
        Ok(Desk { queue: desk.plan.names().rejected.clone(), called: "rejected queue", ..desk })
    }

    pub fn of_unreadable(settings: &Settings) -> Result<Desk<'_>, Refusal> {
        let desk = Desk::of(settings)?;
        Ok(Desk { queue: desk.plan.names().unreadable.clone(), called: "unreadable queue", ..desk })
    }

    pub async fn visit(&self, at_most: Option<u64>) -> Result<Visit, Refusal> {
        let queue = self.called;
        let waiting = || output::note(&format!("another leadhook command or console is reading the {queue}; waiting"));
        let visit = Visit::open(self.amqp, &self.queue, at_most, waiting).await.map_err(refusal)?;
        Ok(visit.ending_when_asked(self.interrupt.hold()))
    }

    /// Shows every message of the queue to `see`, and gives them all back.
    pub async fn look(&self, quiet: bool, see: impl FnMut(&Held)) -> Result<Seen, Refusal> {
        let mut visit = self.visit(None).await?;
        let bar = progress("reading", visit.expected(), quiet);
        let mut renewer = Renewer::new(self.amqp, &self.queue);
        let looked = look(&mut visit, &mut renewer, see, |count| bar.inc(count)).await;
        bar.finish_and_clear();
        renewer.close().await;
        if let Err(error) = looked {
            visit.leave().await;
            return Err(refusal(error));
        }
        warn_about_limits(self, &visit, &renewer);
        let seen = Seen { present: visit.present(), notes: notes_about_unseen(&visit) };
        visit.leave().await;
        Ok(seen)
    }

    /// Returns the messages that a choice means now, with notes about messages that it may have missed. With `raw` a
    /// filter also matches messages that are not jobs.
    pub async fn survey(&self, choice: Choice, raw: bool, quiet: bool) -> Result<(Survey, Vec<String>), Refusal> {
        self.survey_seeing(choice, raw, quiet, |_| {}).await
    }

    /// Works like `survey`, and also shows every message to `see`.
    pub async fn survey_seeing(
        &self,
        choice: Choice,
        raw: bool,
        quiet: bool,
        mut see: impl FnMut(&Record),
    ) -> Result<(Survey, Vec<String>), Refusal> {
        let filter = match &choice {
            Choice::Matching(filter) => filter.clone(),
            Choice::Named(_) => Filter::default(),
        };
        let mut surveyor = Surveyor::new(choice).with_raw(raw);
        let look = self.look(quiet, |held| {
            surveyor.add(&held.record);
            see(&held.record);
        });
        let seen = look.await?;
        let survey = surveyor.finish();
        if survey.chosen.is_empty() {
            let Filter { organization, campaign, target, .. } = &filter;
            explain_nothing(self.settings, organization.as_deref(), campaign.as_deref(), target.as_deref());
        }
        match show::ambiguous(&survey.resolved) {
            Some(refusal) => Err(refusal),
            None => Ok((survey, seen.notes)),
        }
    }

    /// Starts the delivery log on the connection of `publisher`, to record the actions of people.
    pub fn delivery_log(&self, publisher: &Publisher) -> DeliveryLog {
        delivery_log::start(self.settings, &self.plan, publisher, None)
    }
}

/// Closes the log of this command's actions. Returns a note if some of them were not recorded.
pub(super) async fn close_log(log: DeliveryLog) -> Option<String> {
    let unwritten = log.close(CLOSING).await;
    let records = counted(unwritten, "record", "records");
    (unwritten > 0).then(|| format!("{records} could not be written to the delivery log: it does not say who did this"))
}

/// The result of a look at a queue.
pub(super) struct Seen {
    /// Messages on the queue.
    pub present: u64,
    /// Notes about messages that the look may have missed; empty if it saw all.
    pub notes: Vec<String>,
}

fn refusal(error: VisitError) -> Refusal {
    let exit = if matches!(error, VisitError::Interrupted) { Exit::Findings } else { Exit::CannotStart };
    Refusal { exit, text: error.to_string(), help: error.help().to_owned() }
}

/// Returns notes about messages that a visit may have missed; empty if it saw all.
pub(crate) fn notes_about_unseen(visit: &Visit) -> Vec<String> {
    let mut notes = Vec::new();
    if visit.missing() > 0 {
        let (missing, were) = (thousands(visit.missing()), if visit.missing() == 1 { "is" } else { "are" });
        notes.push(format!(
            "{missing} of {} {were} held by another reader, and not seen here",
            messages(visit.expected())
        ));
    } else if visit.others() {
        notes.push("another program reads the queue too; the messages that it holds are not seen here".to_owned());
    }
    if visit.expected() < visit.present() {
        notes.push(format!(
            "only the first {} of {} were read",
            thousands(visit.expected()),
            messages(visit.present())
        ));
    }
    notes
}

/// Warns about problems that do not change the exit code.
pub(super) fn warn_about_limits(desk: &Desk<'_>, visit: &Visit, renewer: &Renewer<'_>) {
    if visit.guard() == Guard::Unlocked {
        output::warn(&format!(
            "the user of amqp.urls may not declare the lock \"{}.desk\" (configure permission): \
             two people who look at the same time may see half of the list each",
            desk.amqp.prefix
        ));
    }
    if let Some(problem) = &renewer.problem {
        output::warn(&format!(
            "a message that was looked at over 10,000 times could not be published again: {problem}"
        ));
    }
}
