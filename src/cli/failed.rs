//! `leadhook failed`: what support sees of jobs that could not be delivered, and how they are put back.
//!
//! The desk does the work (`crate::desk`); here it gets words, tables and exit codes.

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

use super::{
    output::{self, Exit, Refusal},
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
    settings::{Amqp, Settings},
};

/// Look at failed jobs, and put them back to be delivered anew
///
/// A job has failed when all its attempts were made, or when it can never succeed. It rests on the failed queue until it is
/// put back. Looking changes nothing: not the jobs, not their order.
#[derive(clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Subcommand)]
enum Command {
    /// List failed jobs, the longest failed first
    List(list::Args),
    /// Show all that is known about one failed job: why, what to do, every attempt
    Show(show::Args),
    /// Count failed jobs by target and reason
    Stats(stats::Args),
    /// Put failed jobs back: the same webhook-id and body, all attempts anew
    Replay(replay::Args),
    /// Put events that the broker gave up back onto the events queue, as they came
    Requeue(RequeueArgs),
    /// Write failed jobs into a file, and with --remove take them off the queue
    Export(export::Args),
    /// Take failed jobs away for good, into a file, with a reason for the delivery log
    Discard(discard::Args),
}

/// Put events that the broker gave up back onto the events queue, as they came
///
/// What `failed list` calls no job of ours can be an event that the broker moved here by itself. Each is published, confirmed by
/// the broker, and only then removed. What is no usable event is left, and jobs are: `failed replay` puts those back.
#[derive(clap::Args)]
#[command(after_help = requeue::EXIT_CODES)]
struct RequeueArgs {
    /// Message ids (`raw_...` where there is none), or their beginnings (at least 6 characters)
    #[arg(value_name = "ID")]
    ids: Vec<String>,
    /// All that is on the failed queue now and is no job
    #[arg(long, conflicts_with = "ids")]
    all: bool,
    /// Only what rests there for this reason, such as dead_lettered
    #[arg(long, value_name = "REASON", value_parser = filter::reason)]
    reason: Option<String>,
    #[command(flatten)]
    how: requeue::How,
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

/// Longest wait until what was done here is on record.
const CLOSING: Duration = Duration::from_secs(10);

/// What every command of the desk needs, at the failed or the rejected queue.
pub(super) struct Desk<'a> {
    pub amqp: &'a Amqp,
    pub queue: ShortString,
    /// What people call the queue.
    called: &'static str,
    jobs: ShortString,
    /// The stream of the delivery log.
    log: ShortString,
    pub settings: &'a Settings,
    pub plan: Plan,
    interrupt: Interrupt,
}

impl Desk<'_> {
    fn of(settings: &Settings) -> Result<Desk<'_>, Refusal> {
        let plan = Plan::new(&settings.amqp, &Ladder::for_backoff(&settings.backoff));
        let names = plan.names();
        let (queue, jobs, log) = (names.failed.clone(), names.jobs.clone(), names.log.clone());
        let interrupt = Interrupt::listen();
        let interrupt =
            interrupt.map_err(|error| Refusal::cannot_start(format!("cannot listen to signals: {error}")))?;
        Ok(Desk { amqp: &settings.amqp, queue, called: "failed queue", jobs, log, settings, plan, interrupt })
    }

    /// Whether it is the rejected queue, where nothing is a job.
    pub fn is_rejected(&self) -> bool {
        self.queue == self.plan.names().rejected
    }

    pub fn of_rejected(settings: &Settings) -> Result<Desk<'_>, Refusal> {
        let desk = Desk::of(settings)?;
        Ok(Desk { queue: desk.plan.names().rejected.clone(), called: "rejected queue", ..desk })
    }

    pub async fn visit(&self, at_most: Option<u64>) -> Result<Visit, Refusal> {
        let waiting = || eprintln!("somebody else is at the desk; waiting for them to finish");
        let visit = Visit::open(self.amqp, &self.queue, at_most, waiting).await.map_err(refusal)?;
        Ok(visit.ending_when_asked(self.interrupt.hold()))
    }

    /// Shows every message of the failed queue to `see`, and gives all back.
    pub async fn look(&self, quiet: bool, see: impl FnMut(&Held)) -> Result<Seen, Refusal> {
        let mut visit = self.visit(None).await?;
        let bar = progress(visit.expected(), quiet);
        let mut renewer = Renewer::new(self.amqp, &self.queue);
        let looked = look(&mut visit, &mut renewer, see, |count| bar.inc(count)).await;
        bar.finish_and_clear();
        renewer.close().await;
        if let Err(error) = looked {
            visit.leave().await;
            return Err(refusal(error));
        }
        remarks(self, &visit, &renewer);
        let seen = Seen { present: visit.present(), notes: overlooked(&visit) };
        visit.leave().await;
        Ok(seen)
    }

    /// What a choice means now; with what may have been overlooked.
    /// With `raw` a filter means messages that are no jobs, too.
    pub async fn survey(&self, choice: Choice, raw: bool, quiet: bool) -> Result<(Survey, Vec<String>), Refusal> {
        self.survey_seeing(choice, raw, quiet, |_| {}).await
    }

    /// The same, and shows every message to `see`.
    pub async fn survey_seeing(
        &self,
        choice: Choice,
        raw: bool,
        quiet: bool,
        mut see: impl FnMut(&Record),
    ) -> Result<(Survey, Vec<String>), Refusal> {
        let mut surveyor = Surveyor::new(choice).with_raw(raw);
        let look = self.look(quiet, |held| {
            surveyor.add(&held.record);
            see(&held.record);
        });
        let seen = look.await?;
        let survey = surveyor.finish();
        match show::ambiguous(&survey.resolved) {
            Some(refusal) => Err(refusal),
            None => Ok((survey, seen.notes)),
        }
    }

    /// The delivery log, to write what people do; on the connection of `publisher`.
    pub fn delivery_log(&self, publisher: &Publisher) -> DeliveryLog {
        delivery_log::start(self.settings, &self.plan, publisher, None)
    }
}

/// Ends the log of what was done here; a note where not all of it is on record.
pub(super) async fn close(log: DeliveryLog) -> Option<String> {
    let unwritten = log.close(CLOSING).await;
    let records = counted(unwritten, "record", "records");
    (unwritten > 0).then(|| format!("{records} could not be written to the delivery log: it does not say who did this"))
}

/// What a look came to.
pub(super) struct Seen {
    /// Messages on the queue.
    pub present: u64,
    /// What may have been overlooked, in words; none when all was seen.
    pub notes: Vec<String>,
}

fn refusal(error: VisitError) -> Refusal {
    if matches!(error, VisitError::Interrupted) {
        return Refusal { exit: Exit::Findings, text: error.to_string() };
    }
    Refusal::cannot_start(error.to_string())
}

/// The answer could not be written: a full disk, say.
pub(super) fn unwritable(error: std::io::Error) -> Refusal {
    Refusal::cannot_start(format!("cannot write the answer: {error}"))
}

/// What a visit may have overlooked, in words; none when it has seen all there was.
pub(crate) fn overlooked(visit: &Visit) -> Vec<String> {
    let mut notes = Vec::new();
    if visit.missing() > 0 {
        let (missing, were) = (thousands(visit.missing()), if visit.missing() == 1 { "is" } else { "are" });
        notes.push(format!(
            "{missing} of {} {were} held by another reader, and not seen here",
            messages(visit.expected())
        ));
    } else if visit.others() {
        notes.push("another program reads the queue too; what it holds is not seen here".to_owned());
    }
    if visit.expected() < visit.present() {
        notes.push(format!(
            "read the first {} of {}; the others were not looked at",
            thousands(visit.expected()),
            messages(visit.present())
        ));
    }
    notes
}

/// Talk on stderr that changes no exit code.
pub(super) fn remarks(desk: &Desk<'_>, visit: &Visit, renewer: &Renewer<'_>) {
    if visit.guard() == Guard::Unlocked {
        output::warn(&format!(
            "the user of amqp.urls may not declare the lock \"{}.desk\" (configure permission): \
             two people who look at the same moment may see half of the list each",
            desk.amqp.prefix
        ));
    }
    if let Some(problem) = &renewer.problem {
        output::warn(&format!("a message that was looked at over 10,000 times could not be published anew: {problem}"));
    }
}
