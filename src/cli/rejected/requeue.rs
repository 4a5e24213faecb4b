//! `leadhook rejected requeue`.

use serde::Serialize;
use tokio_util::sync::CancellationToken;

use super::Which;
use crate::{
    broker::publisher::Publisher,
    cli::{
        failed::{
            Desk,
            agree::{By, agree},
            close, overlooked, remarks, show, unwritable,
        },
        output::{self, Exit, Refusal},
        publish,
        readable::messages,
    },
    desk::{
        requeue::{Requeued, To},
        survey::{Choice, Survey},
        wear::Renewer,
    },
};

/// Put messages back onto the events queue, as they came, where they are usable events now
///
/// Each is published, confirmed by the broker, and only then removed. What is no usable event still, and what was rejected as a
/// job, is left. An event that nobody knows still is rejected again.
#[derive(clap::Args)]
#[command(after_help = EXIT_CODES)]
pub(super) struct Args {
    #[command(flatten)]
    which: Which,
    #[command(flatten)]
    how: How,
}

pub(in crate::cli) const EXIT_CODES: &str = "\
Exit codes: 0 all put back, 1 some were not (the output says which and why), 2 usage, the beginning of an id fits several, or \
nobody could be asked (nothing was done), 3 broker or queue not there.";

/// How it is done, whichever queue the messages rest on.
#[derive(clap::Args)]
pub(in crate::cli) struct How {
    /// Only say how many are meant
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    by: By,
    /// Do not ask; needed where there is no terminal
    #[arg(long)]
    yes: bool,
    /// Print the summary as one JSON object
    #[arg(long)]
    json: bool,
}

pub(super) async fn run(args: &Args, desk: &Desk<'_>) -> Result<Exit, Refusal> {
    go(args.which.choice()?, &args.how, desk).await
}

/// The same for any queue of the desk.
pub(in crate::cli) async fn go(choice: Choice, args: &How, desk: &Desk<'_>) -> Result<Exit, Refusal> {
    let named = matches!(choice, Choice::Named(_));
    let (mut survey, notes) = desk.survey(choice, true, args.json).await?;
    // Jobs are replayed; who means one by its id hears that.
    survey.chosen.retain(|_, chosen| named || desk.is_rejected() || !chosen.is_job);
    let count = survey.chosen.len() as u64;
    let mut summary = Summary { chosen: count, dry_run: args.dry_run, notes, ..Summary::default() };
    if count > 0 && !args.dry_run {
        agree(args.yes, &format!("Put {} back onto the events queue?", messages(count)))?;
        let (tally, notes) = requeue(desk, &survey, &args.by.name()).await?;
        summary.problem = tally.problem.as_ref().map(ToString::to_string);
        (summary.tally, summary.notes) = (tally, notes);
    }
    summary.unknown = survey.resolved.unknown;
    let told = if args.json { output::print_json(&summary) } else { output::print(summary.text()) };
    told.map_err(unwritable)?;
    Ok(summary.exit())
}

async fn requeue(desk: &Desk<'_>, survey: &Survey, by: &str) -> Result<(Requeued, Vec<String>), Refusal> {
    let publisher = Publisher::start(desk.amqp, "requeue", None, CancellationToken::new());
    publish::connected(publisher.link(), desk.amqp).await?;
    let log = desk.delivery_log(&publisher);
    let max_event_bytes = desk.settings.delivery.max_event_bytes;
    let to = To { publisher: &publisher, events: &desk.plan.names().events, max_event_bytes, log: &log, by };
    let mut renewer = Renewer::new(desk.amqp, &desk.queue);
    let mut visit = desk.visit(None).await?;
    let mut tally = Requeued::default();
    let done = tally.chosen(to, survey, &mut visit, &mut renewer).await;
    remarks(desk, &visit, &renewer);
    let mut notes = if done.is_ok() && tally.problem.is_none() { overlooked(&visit) } else { Vec::new() };
    let sure = tally.make_sure(visit).await;
    notes.extend(done.err().or(sure.err()).map(|error| error.to_string()));
    notes.extend(close(log.clone()).await);
    renewer.close().await;
    publisher.close().await;
    Ok((tally, notes))
}

/// The answer of the command.
#[derive(Default, Serialize)]
struct Summary {
    /// Messages that are meant.
    chosen: u64,
    /// Nothing was done.
    dry_run: bool,
    #[serde(flatten)]
    tally: Requeued,
    /// Said, but no message has such an id.
    unknown: Vec<String>,
    /// Why publishing failed.
    problem: Option<String>,
    /// What was not seen or not done, and why.
    notes: Vec<String>,
}

impl Summary {
    fn exit(&self) -> Exit {
        let left = self.tally.unusable + self.tally.not_published > 0;
        let fine = !left && self.problem.is_none() && self.unknown.is_empty() && self.notes.is_empty();
        if fine { Exit::Ok } else { Exit::Findings }
    }

    fn text(&self) -> String {
        let Requeued { requeued, unusable, not_published, .. } = &self.tally;
        let mut lines = vec![match self.dry_run {
            true => format!(
                "{} would be put back, as far as they are usable events; nothing was done",
                messages(self.chosen)
            ),
            false => format!("{} put back onto the events queue", messages(*requeued)),
        }];
        if *unusable > 0 {
            lines.push(format!(
                "  {} left: no usable event (a job is put back by failed replay; else mend upstream, and publish anew)",
                messages(*unusable)
            ));
        }
        if *not_published > 0 {
            let left = messages(*not_published);
            lines.push(format!("  {left} left: not confirmed by the broker, may have been published nevertheless"));
        }
        lines.extend(show::unknown(&self.unknown));
        lines.extend(self.problem.iter().chain(&self.notes).map(|line| format!("  {line}")));
        lines.join("\n")
    }
}
