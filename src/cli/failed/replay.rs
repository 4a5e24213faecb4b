//! `leadhook failed replay`.

use std::{
    collections::BTreeMap,
    fmt::{self, Write as _},
    time::Duration,
};

use serde::Serialize;
use tokio_util::sync::CancellationToken;

use super::{
    agree::{By, agree},
    known, show,
    which::Which,
};
use crate::{
    broker::publisher::{PublishError, Publisher},
    cli::{
        arguments::{self, Output, number},
        dead_letters::{DeadLetters, close_log, notes_about_unseen, warn_about_limits},
        output::{self, Exit, Refusal, after_help},
        publish,
        readable::{counted, jobs, messages, progress},
    },
    dead_letters::{
        renew::Renewer,
        replay::{Ended, HOLDING, Replay, Tally, To},
        reroute::{self, Route, Routes},
        selection::{Choice, Excluded, Selection},
    },
    store::TargetKey,
};

/// Send failed jobs again: the same webhook-id and body, with all attempts
///
/// Each job is published, confirmed by the broker, and only then removed from the failed queue. You can interrupt it at any
/// time. Nothing is lost: at worst a job is delivered twice under the same webhook-id. Jobs that were delivered too, by the
/// delivery log, are left, unless you name them by their ids. A job that --resolve-again sends to another target gets
/// another webhook-id.
#[derive(clap::Args)]
#[command(after_help = after_help(
    "leadhook failed replay wh_31b12f9c\nleadhook failed replay --campaign ABC --since yesterday --dry-run\n\
     leadhook failed replay --organization acme --rate 50 --yes",
    "some jobs were not replayed (the output says which and why)"
))]
pub struct Args {
    #[command(flatten)]
    which: Which,
    /// Only print what would be done
    #[arg(long)]
    dry_run: bool,
    /// Replay at most N jobs a second [default: as fast as the broker takes them]
    #[arg(long, value_name = "N", value_parser = number(1..=100_000_u32))]
    rate: Option<u32>,
    /// Look up the target again: send each job where the webhook store sends such an event now, within the same organization
    #[arg(long)]
    resolve_again: bool,
    #[command(flatten)]
    by: By,
    /// Do not ask; needed without a terminal, unless ids are given
    #[arg(short, long)]
    yes: bool,
    #[command(flatten)]
    output: Output,
}

pub(super) async fn run(args: &Args, letters: &DeadLetters<'_>) -> Result<Exit, Refusal> {
    let choice = args.which.choice()?;
    args.which.filter.window.tell();
    let json = args.output.json;
    let named = matches!(choice, Choice::Named(_));
    let store = args.resolve_again.then(|| arguments::open_store(letters.settings)).transpose()?;
    let mut routes = Routes::default();
    let seen = letters.selection_seeing(choice, false, json, |record| {
        if let Some(store) = &store {
            routes.see(store, record);
        }
    });
    let (mut selection, notes) = seen.await?;
    let mut without_target = routes.exclude_without_target(&mut selection);
    let new_id = |id: &str| routes.of(id).map(|route| route.id.as_str());
    // A user who names a job by its id means it, delivered or not.
    let (mut excluded, mut log_problem) = (Excluded::default(), None);
    if named {
        without_target.extend(exclude_duplicates(&routes, &mut selection));
    } else {
        let ids = selection.ids().into_iter().flat_map(|id| [Some(id), new_id(id)]).flatten().collect();
        let (known, problem) = known::ask(letters, &ids, selection.oldest, json).await;
        if let Some(problem) = &problem {
            output::warn(&format!("cannot tell whether these jobs were delivered too: {problem}"));
        }
        excluded = selection.exclude_delivered(&known, new_id);
        without_target.extend(exclude_duplicates(&routes, &mut selection));
        // Only jobs that are still chosen count as unknown.
        excluded.unknown = selection.exclude_delivered(&known, new_id).unknown;
        log_problem = problem;
    }
    let count = selection.jobs();
    let done = Tally { unreadable: selection.unreadable + selection.chosen.len() as u64 - count, ..Tally::default() };
    let redirected = redirected(&routes, &selection);
    if args.dry_run || count == 0 {
        let would = args.dry_run.then_some(count);
        let of = Summary::of(done, (excluded, log_problem), &selection, notes, letters);
        return Summary { would_replay: would, would_redirect: redirected, without_target, ..of }.tell(json);
    }
    if !named {
        agree(args.yes, &question(count, &redirected, excluded, log_problem.as_deref()))?;
    }
    let publisher = Publisher::start(letters.amqp, "replay", None, CancellationToken::new());
    let log = letters.delivery_log(&publisher);
    let mut renewer = Renewer::new(letters.amqp, &letters.queue);
    let by = args.by.name();
    let to = To {
        publisher: &publisher,
        jobs: &letters.jobs,
        log: &log,
        by: &by,
        rate: args.rate,
        holding: HOLDING,
        routes: &routes,
    };
    let outcome = replay(letters, &selection, to, &mut renewer, json).await;
    let unwritten = close_log(log).await;
    publisher.close().await;
    renewer.close().await;
    let (mut tally, overlooked) = outcome?;
    tally.unreadable += selection.unreadable;
    let mut notes = if overlooked.is_empty() { notes } else { overlooked };
    notes.extend(unwritten);
    let of = Summary::of(tally, (excluded, log_problem), &selection, notes, letters);
    Summary { without_target, ..of }.tell(json)
}

/// Pause between two browses of a paced replay, so that other commands can read the queue.
const TURN: Duration = Duration::from_millis(500);

async fn replay(
    letters: &DeadLetters<'_>,
    selection: &Selection,
    to: To<'_>,
    renewer: &mut Renewer<'_>,
    quiet: bool,
) -> Result<(Tally, Vec<String>), Refusal> {
    publish::wait_for_connection(to.publisher.link(), letters.amqp).await?;
    let bar = progress("replaying", selection.jobs(), quiet);
    let mut replay = Replay::new(to);
    let notes = loop {
        let mut browse = match letters.browse(None).await {
            Ok(browse) => browse,
            Err(refusal) if replay.tally.replayed == 0 => return Err(refusal),
            Err(refusal) => break vec![refusal.text],
        };
        let done = replay.chosen(selection, &mut browse, renewer, |count| bar.set_position(count)).await;
        warn_about_limits(letters, &browse, renewer);
        let stopped = replay.tally.problem.is_some();
        // A replay that stops at a problem leaves the rest of the queue unread on purpose, so no message counts as
        // missed.
        let missed = match done {
            Ok(Ended::Over) if !stopped => notes_about_unseen(&browse),
            _ => Vec::new(),
        };
        let confirmed = replay.confirm_removed(browse).await;
        match (done, confirmed) {
            (Err(error), _) | (_, Err(error)) => break vec![error.to_string()],
            (Ok(Ended::TimeIsUp), Ok(())) if !stopped => tokio::time::sleep(TURN).await,
            (Ok(_), Ok(())) => break missed,
        }
    };
    bar.finish_and_clear();
    Ok((replay.tally, notes))
}

/// Returns the question to ask before a replay by filter.
fn question(count: u64, redirected: &[Redirected], excluded: Excluded, problem: Option<&str>) -> String {
    let mut question = format!("Replay {}?", jobs(count));
    for redirected in redirected.iter().rev() {
        question = format!("{redirected}. {question}");
    }
    if excluded.unknown > 0 {
        let why = problem.unwrap_or("they are older than the delivery log");
        question = format!("{} may have been delivered already: {why}. {question}", jobs(excluded.unknown));
    }
    if excluded.delivered > 0 {
        question = format!("{} were delivered already and are left. {question}", jobs(excluded.delivered));
    }
    question
}

/// Removes from the selection the jobs that would be sent to one target twice. Returns the reason and their number.
fn exclude_duplicates(routes: &Routes, selection: &mut Selection) -> Option<(&'static str, u64)> {
    let excluded = routes.exclude_duplicates(selection);
    (excluded > 0).then_some((reroute::THERE, excluded))
}

/// Explains why jobs were excluded: they have no target now, or another failed job takes the event there.
fn why_excluded(reason: &str) -> String {
    match reason {
        reroute::THERE => "left: another failed job takes the same event to the same target".to_owned(),
        reroute::UNCLEAR => "left: the campaign has several targets, and it is not clear which is meant".to_owned(),
        reason => format!("left: they have no target now, {reason} (see leadhook explain)"),
    }
}

/// Counts the chosen jobs that go to another target, by old and new target.
fn redirected(routes: &Routes, selection: &Selection) -> Vec<Redirected> {
    let mut counts: BTreeMap<(&TargetKey, &TargetKey), u64> = BTreeMap::new();
    for Route { from, to, .. } in selection.chosen.keys().filter_map(|id| routes.of(id)) {
        *counts.entry((from, to)).or_default() += 1;
    }
    let line = |((from, to), jobs): ((&TargetKey, &TargetKey), u64)| {
        let (from, to) = (from.to_string(), to.to_string());
        Redirected { from, to, jobs }
    };
    counts.into_iter().map(line).collect()
}

/// Jobs that go to another target than before.
#[derive(Serialize)]
pub(super) struct Redirected {
    /// The old target key.
    from: String,
    /// The new target key.
    to: String,
    jobs: u64,
}

impl fmt::Display for Redirected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let go = if self.jobs == 1 { "goes" } else { "go" };
        write!(f, "{} for {} {go} to {}, under a new webhook-id", jobs(self.jobs), self.from, self.to)
    }
}

/// The answer of the command.
#[derive(Serialize)]
pub(super) struct Summary {
    /// Jobs that would be replayed, in a dry run.
    pub would_replay: Option<u64>,
    /// Those of them that would go to another target than before.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub would_redirect: Vec<Redirected>,
    #[serde(flatten)]
    pub tally: Tally,
    /// Jobs left on the failed queue, by reason: they have no target now, or would be sent to one target twice.
    pub without_target: BTreeMap<&'static str, u64>,
    /// Jobs left on the failed queue, because they were delivered too, according to the delivery log.
    pub delivered_already: u64,
    /// Replayed jobs that the delivery log does not know.
    pub delivery_unknown: u64,
    /// Why the delivery log could not be read, if that failed.
    pub log_problem: Option<String>,
    /// Ids on the command line that fit no failed job.
    pub unknown: Vec<String>,
    /// Why publishing failed.
    pub problem: Option<String>,
    /// Notes about messages that were not seen, with the reason.
    pub notes: Vec<String>,
}

impl Summary {
    fn of(
        tally: Tally,
        (excluded, log_problem): (Excluded, Option<String>),
        selection: &Selection,
        notes: Vec<String>,
        letters: &DeadLetters<'_>,
    ) -> Summary {
        let problem = tally.problem.as_ref().map(|problem| explanation(problem, letters.jobs.as_str()));
        Summary {
            would_replay: None,
            would_redirect: Vec::new(),
            without_target: BTreeMap::new(),
            tally,
            delivered_already: excluded.delivered,
            delivery_unknown: excluded.unknown,
            log_problem,
            unknown: selection.resolved.unknown.clone(),
            problem,
            notes,
        }
    }

    fn tell(&self, json: bool) -> Result<Exit, Refusal> {
        let told = if json { output::print_json(self) } else { output::print(self.text()) };
        told.map_err(|error| Refusal::unwritable(&error))?;
        Ok(self.exit())
    }

    pub fn exit(&self) -> Exit {
        let Tally { unreadable, not_published, not_removed, .. } = self.tally;
        let without_target: u64 = self.without_target.values().sum();
        // Jobs that were delivered already are left on purpose.
        let fine = without_target + unreadable + not_published + not_removed == 0
            && self.unknown.is_empty()
            && self.notes.is_empty();
        if fine && self.problem.is_none() { Exit::Ok } else { Exit::Findings }
    }

    pub fn text(&self) -> String {
        let tally = &self.tally;
        let mut text = match (self.would_replay, tally.replayed) {
            (Some(would), _) => format!("{} would be replayed; nothing was done", jobs(would)),
            (None, 0) if self.exit() == Exit::Ok && tally.failed_again == 0 => "nothing to replay".to_owned(),
            (None, replayed) => format!("{} replayed", jobs(replayed)),
        };
        for redirected in &self.would_redirect {
            let _ = write!(text, "\n  {redirected}");
        }
        let mut more = |count: u64, words: &str| {
            if count > 0 {
                let _ = write!(text, "\n  {} {words}", messages(count));
            }
        };
        more(tally.copies_removed, "more removed: copies of the same jobs");
        more(tally.redirected, "among them to another target than before, under a new webhook-id");
        for (reason, count) in &self.without_target {
            more(*count, &why_excluded(reason));
        }
        more(tally.failed_again, "left: failed again while this ran");
        more(tally.unreadable, "left: not jobs (see leadhook failed list)");
        more(tally.not_published, "left: not confirmed by the broker, but perhaps published");
        more(
            tally.not_removed,
            "published but still on the failed queue: the connection was lost before they could be removed",
        );
        more(
            self.delivered_already,
            "left: delivered already, by the delivery log (name them by id to send them again)",
        );
        if self.delivery_unknown > 0 {
            let why = if self.log_problem.is_some() { "" } else { ": they are older than the delivery log" };
            let among = counted(self.delivery_unknown, "job", "jobs");
            let _ = write!(text, "\n  {among} of them may have been delivered already{why}");
        }
        for line in show::unknown(&self.unknown) {
            let _ = write!(text, "\n{line}");
        }
        for line in self.problem.iter().chain(&self.notes) {
            let _ = write!(text, "\n  {line}");
        }
        text
    }
}

fn explanation(error: &PublishError, jobs: &str) -> String {
    match error {
        PublishError::Returned { .. } => {
            format!("the queue {jobs} does not exist: run `leadhook topology apply`, then replay again")
        }
        PublishError::Nacked => {
            format!(
                "the broker refuses messages for {jobs} (at its limit, or without a leader now): replay again later"
            )
        }
        PublishError::ChannelClosed { code: 403, .. } => format!("the user of amqp.urls may not write to {jobs}"),
        PublishError::TimedOut
        | PublishError::Unclear
        | PublishError::ChannelClosed { .. }
        | PublishError::Unwanted
        | PublishError::Lost(_) => format!("stopped: {error}"),
    }
}
