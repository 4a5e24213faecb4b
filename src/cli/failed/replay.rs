//! `leadhook failed replay`.

use std::{
    fmt::Write as _,
    io::{self, IsTerminal, Write as _},
};

use serde::Serialize;
use tokio_util::sync::CancellationToken;

use super::{Desk, jobs, messages, overlooked, progress, remarks, show, unwritable};
use crate::{
    broker::publisher::{PublishError, Publisher},
    cli::{
        output::{self, Exit, Refusal},
        publish,
    },
    desk::{
        replay::{Replay, Tally},
        selection::{Resolved, Selection},
        visit,
        wear::Renewer,
    },
};

/// Put failed jobs back: the same webhook-id and body, all attempts anew
///
/// Each job is published, confirmed by the broker, and only then removed from the failed queue. It may be interrupted at any
/// time: nothing is lost, at worst a job is delivered twice under the same webhook-id.
#[derive(clap::Args)]
#[command(group(clap::ArgGroup::new("which").args(["ids", "all"]).required(true)))]
#[command(after_help = "\
Exit codes: 0 all replayed, 1 some were not (the output says which and why), 2 the beginning of an id fits several jobs or \
nobody could be asked (nothing was done), 3 broker or queue not there.")]
pub struct Args {
    /// Webhook-ids, or their beginnings (at least 6 characters)
    #[arg(value_name = "ID")]
    ids: Vec<String>,
    /// Replay every job that is on the failed queue now
    #[arg(long)]
    all: bool,
    /// Do not ask before --all; needed where there is no terminal
    #[arg(long)]
    yes: bool,
    /// Print the summary as one JSON object
    #[arg(long)]
    json: bool,
}

pub(super) async fn run(args: &Args, desk: &Desk<'_>) -> Result<Exit, Refusal> {
    let selection = Selection::new(&args.ids).map_err(Refusal::usage)?;
    let at_most = match args.all {
        true => Some(agreed(args, desk).await?),
        false => None,
    };
    if at_most == Some(0) {
        let summary = Summary::of(Tally::default(), &Resolved::default(), Vec::new(), desk);
        return summary.tell(args.json);
    }
    let publisher = Publisher::start(desk.amqp, "replay", None, CancellationToken::new());
    let mut renewer = Renewer::new(desk.amqp, &desk.failed);
    let outcome = replay(args, desk, &selection, at_most, &publisher, &mut renewer).await;
    publisher.close().await;
    renewer.close().await;
    outcome?.tell(args.json)
}

async fn replay(
    args: &Args,
    desk: &Desk<'_>,
    selection: &Selection,
    at_most: Option<u64>,
    publisher: &Publisher,
    renewer: &mut Renewer<'_>,
) -> Result<Summary, Refusal> {
    publish::connected(publisher.link(), desk.amqp).await?;
    let mut visit = desk.visit(at_most).await?;
    let bar = progress(visit.expected(), args.json);
    let mut replay = Replay::new(publisher, &desk.jobs);
    let seen = |count| bar.inc(count);
    let done = match args.all {
        true => replay.all(&mut visit, renewer, seen).await.map(|()| Resolved::default()),
        false => replay.selected(selection, &mut visit, renewer, seen).await,
    };
    bar.finish_and_clear();
    remarks(desk, &visit, renewer);
    // --all stops at the first problem, and what it has not looked at is no riddle then.
    let mut notes = if replay.tally.problem.is_some() { Vec::new() } else { overlooked(&visit) };
    let sure = replay.make_sure(visit).await;
    let (resolved, broken) = match done {
        Ok(resolved) => (resolved, sure.err()),
        Err(error) => (Resolved::default(), Some(error)),
    };
    if let Some(error) = broken {
        notes = vec![error.to_string()];
    }
    match show::ambiguous(&resolved) {
        Some(refusal) => Err(refusal),
        None => Ok(Summary::of(replay.tally, &resolved, notes, desk)),
    }
}

/// Asks whether all are to be replayed, where somebody can be asked; how many messages that is about.
async fn agreed(args: &Args, desk: &Desk<'_>) -> Result<u64, Refusal> {
    let somebody = io::stdin().is_terminal() && io::stderr().is_terminal();
    if !args.yes && !somebody {
        return Err(Refusal::usage("nobody can be asked here: replay --all needs --yes without a terminal"));
    }
    let count = visit::waiting(desk.amqp, &desk.failed).await.map_err(super::refusal)?;
    if args.yes || count == 0 {
        return Ok(count);
    }
    eprint!("Put back all that has failed, {}? [y/N] ", messages(count));
    let _ = io::stderr().flush();
    let mut answer = String::new();
    let read = io::stdin().read_line(&mut answer);
    match (read, answer.trim().to_lowercase().as_str()) {
        (Ok(_), "y" | "yes") => Ok(count),
        _ => Err(Refusal { exit: Exit::Findings, text: "nothing was replayed".to_owned() }),
    }
}

/// The answer of the command.
#[derive(Serialize)]
pub(super) struct Summary {
    #[serde(flatten)]
    pub tally: Tally,
    /// Said, but no failed job has such an id.
    pub unknown: Vec<String>,
    /// Why publishing failed.
    pub problem: Option<String>,
    /// What was not seen, and why.
    pub notes: Vec<String>,
}

impl Summary {
    pub fn of(tally: Tally, resolved: &Resolved, notes: Vec<String>, desk: &Desk<'_>) -> Summary {
        let problem = tally.problem.as_ref().map(|problem| explanation(problem, desk.jobs.as_str()));
        Summary { tally, unknown: resolved.unknown.clone(), problem, notes }
    }

    fn tell(&self, json: bool) -> Result<Exit, Refusal> {
        let told = if json { output::print_json(self) } else { output::print(self.text()) };
        told.map_err(unwritable)?;
        Ok(self.exit())
    }

    pub fn exit(&self) -> Exit {
        let Tally { unreadable, not_published, not_removed, .. } = self.tally;
        let fine = unreadable + not_published + not_removed == 0 && self.unknown.is_empty() && self.notes.is_empty();
        if fine && self.problem.is_none() { Exit::Ok } else { Exit::Findings }
    }

    pub fn text(&self) -> String {
        let tally = &self.tally;
        let mut text = match tally.replayed {
            0 if self.exit() == Exit::Ok => "nothing to replay: the failed queue is empty".to_owned(),
            replayed => format!("{} replayed", jobs(replayed)),
        };
        let mut more = |count: u64, words: &str| {
            if count > 0 {
                let _ = write!(text, "\n  {} {words}", messages(count));
            }
        };
        more(tally.copies_removed, "more removed: copies of the same jobs");
        more(tally.failed_again, "left: failed again while this ran");
        more(tally.unreadable, "left: no jobs of ours (see leadhook failed list)");
        more(tally.not_published, "left: not confirmed by the broker, may have been published nevertheless");
        more(
            tally.not_removed,
            "published but still on the failed queue: the connection was lost before they could be removed",
        );
        for id in &self.unknown {
            let _ = write!(text, "\n  no failed job has an id that begins with \"{}\"", output::printable(id));
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
            format!("there is no queue {jobs}: run `leadhook topology apply`, then replay again")
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
