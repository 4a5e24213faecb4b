//! `leadhook failed`: what support sees of jobs that could not be delivered, and how they are put back.
//!
//! The desk does the work (`crate::desk`); here it gets words, tables and exit codes.

mod list;
mod replay;
mod show;
#[cfg(test)]
mod tests;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use jiff::Timestamp;
use lapin::types::ShortString;

use super::output::{self, Exit, Refusal};
use crate::{
    broker::topology::Plan,
    delivery::ladder::Ladder,
    desk::{
        visit::{Guard, Visit, VisitError},
        wear::Renewer,
    },
    settings::{Amqp, Settings},
};

/// Messages below which no progress is shown: it would be gone before it is read.
const PROGRESS_FROM: u64 = 2_000;

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
    /// Put failed jobs back: the same webhook-id and body, all attempts anew
    Replay(replay::Args),
}

/// Runs the command.
///
/// # Errors
/// The command line is wrong, or the broker or the queue cannot be reached.
pub async fn run(args: &Args, settings: &Settings) -> Result<Exit, Refusal> {
    let desk = Desk::of(settings);
    match &args.command {
        Command::List(args) => list::run(args, &desk).await,
        Command::Show(args) => show::run(args, &desk).await,
        Command::Replay(args) => replay::run(args, &desk).await,
    }
}

/// What every command of the desk needs.
struct Desk<'a> {
    amqp: &'a Amqp,
    failed: ShortString,
    jobs: ShortString,
}

impl Desk<'_> {
    fn of(settings: &Settings) -> Desk<'_> {
        let plan = Plan::new(&settings.amqp, &Ladder::for_backoff(&settings.backoff));
        let names = plan.names();
        Desk { amqp: &settings.amqp, failed: names.failed.clone(), jobs: names.jobs.clone() }
    }

    async fn visit(&self, at_most: Option<u64>) -> Result<Visit, Refusal> {
        let waiting = || eprintln!("somebody else is at the failed queue; waiting for them to finish");
        Visit::open(self.amqp, &self.failed, at_most, waiting).await.map_err(refusal)
    }
}

fn refusal(error: VisitError) -> Refusal {
    Refusal::cannot_start(error.to_string())
}

/// The answer could not be written: a full disk, say.
fn unwritable(error: std::io::Error) -> Refusal {
    Refusal::cannot_start(format!("cannot write the answer: {error}"))
}

/// Progress on stderr, where that is a terminal and there is enough to do.
fn progress(total: u64, quiet: bool) -> ProgressBar {
    let target = match quiet || total < PROGRESS_FROM {
        true => ProgressDrawTarget::hidden(),
        false => ProgressDrawTarget::stderr(),
    };
    let style = ProgressStyle::with_template("{wide_bar} {human_pos} of {human_len} ({per_sec})");
    ProgressBar::with_draw_target(Some(total), target)
        .with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}

/// What a visit may have overlooked, in words; none when it has seen all there was.
fn overlooked(visit: &Visit) -> Vec<String> {
    let mut notes = Vec::new();
    if visit.missing() > 0 {
        let (missing, were) = (thousands(visit.missing()), if visit.missing() == 1 { "is" } else { "are" });
        notes.push(format!(
            "{missing} of {} {were} held by another reader, and not seen here",
            messages(visit.expected())
        ));
    } else if visit.others() {
        notes.push("another program reads the failed queue too; what it holds is not seen here".to_owned());
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
fn remarks(desk: &Desk<'_>, visit: &Visit, renewer: &Renewer<'_>) {
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

/// `1,234`.
fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

fn counted(number: u64, one: &str, many: &str) -> String {
    format!("{} {}", thousands(number), if number == 1 { one } else { many })
}

fn messages(number: u64) -> String {
    counted(number, "message", "messages")
}

fn jobs(number: u64) -> String {
    counted(number, "job", "jobs")
}

/// `3 h ago`, or a dash where nobody knows.
fn age(at: Option<Timestamp>, now: Timestamp) -> String {
    match at {
        None => "-".to_owned(),
        // Clocks differ: what lies in the future has just happened.
        Some(at) => output::human_age(now.duration_since(at).try_into().unwrap_or_default()),
    }
}

/// A time for people, in UTC, to the second.
fn clock(at: Timestamp) -> String {
    format!("{at:.0}")
}
