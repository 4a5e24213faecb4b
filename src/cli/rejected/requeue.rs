//! `leadhook rejected requeue`: puts messages back, repaired or unchanged.

use serde::Serialize;
use tokio_util::sync::CancellationToken;

use super::{
    preview::{Answer, Preview},
    which::Which,
};
use crate::{
    broker::publisher::Publisher,
    cli::{
        arguments::Output,
        dead_letters::{DeadLetters, close_log, notes_about_unseen, warn_about_limits},
        failed::{
            agree::{By, agree},
            show,
        },
        output::{self, Exit, Refusal, after_help},
        publish,
        readable::messages,
    },
    dead_letters::{
        renew::Renewer,
        repair::{Repair, assignment},
        requeue::{Requeued, To},
        selection::{Choice, Selection, Wanted},
    },
};

/// Put messages that are usable events back onto the events queue, as they are or repaired
///
/// Each is published, confirmed by the broker, and only then removed. Messages that are still not usable events stay,
/// and so do rejected jobs. An event of a campaign that is still unknown is rejected again. A repair changes the named
/// fields at the top of the body and no other byte; the message id and the headers stay. The differences are shown
/// before you are asked.
#[derive(clap::Args)]
#[command(after_help = after_help(
    "leadhook rejected requeue --reason unknown_campaign --dry-run\n\
     leadhook rejected requeue --reason unknown_campaign --organization acme\n\
     leadhook rejected requeue raw_5d41402abc --set status=delivered --remove note",
    "some messages were left (the output says which and why)"
))]
pub(super) struct Args {
    #[command(flatten)]
    which: Which,
    #[command(flatten)]
    repair: RepairArgs,
    #[command(flatten)]
    how: How,
}

/// The help heading of the options that change messages.
const REPAIR: &str = "Repair";

// The changes to make.
#[derive(clap::Args)]
struct RepairArgs {
    /// Set a field of the body to a text, or to JSON with FIELD:=JSON; can be repeated
    #[arg(long, value_name = "FIELD=TEXT", value_parser = assignment, help_heading = REPAIR)]
    set: Vec<(String, String)>,
    /// Remove a field of the body; can be repeated
    #[arg(long, value_name = "FIELD", help_heading = REPAIR)]
    remove: Vec<String>,
    /// Set the organization wherever the message names it; in the header organization-id if it names none
    #[arg(long, value_name = "ID", help_heading = REPAIR)]
    organization: Option<String>,
    /// Show the values that change; they may be data of leads
    #[arg(long, help_heading = REPAIR)]
    show_data: bool,
}

impl RepairArgs {
    fn repair(&self) -> Option<Repair> {
        let RepairArgs { set, remove, organization, .. } = self;
        let some = !set.is_empty() || !remove.is_empty() || organization.is_some();
        some.then(|| Repair::Fields { set: set.clone(), remove: remove.clone(), organization: organization.clone() })
    }
}

// How to requeue, for the failed, the rejected and the unreadable queue.
#[derive(clap::Args)]
pub(in crate::cli) struct How {
    /// Only print how many messages would be put back
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

impl How {
    pub(super) fn is_json(&self) -> bool {
        self.output.json
    }

    pub(super) fn is_agreed(&self) -> bool {
        self.yes
    }
}

pub(super) async fn run(args: &Args, letters: &DeadLetters<'_>) -> Result<Exit, Refusal> {
    let choice = args.which.choice()?;
    match args.repair.repair() {
        Some(repair) => repaired(choice, &args.how, &repair, args.repair.show_data, letters).await,
        None => go(choice, &args.how, letters).await,
    }
}

/// Puts the chosen messages back unchanged.
pub(in crate::cli) async fn go(choice: Choice, args: &How, letters: &DeadLetters<'_>) -> Result<Exit, Refusal> {
    let named = matches!(choice, Choice::Named(_));
    let (mut selection, notes) = letters.selection(choice, true, args.output.json).await?;
    // Jobs are replayed instead. The summary says so for a job that is named by its id.
    selection.chosen.retain(|_, chosen| named || letters.has_no_jobs() || !chosen.is_job);
    finish(selection, notes, None, None, args, letters).await
}

/// Puts the chosen messages back, repaired.
pub(in crate::cli) async fn repaired(
    choice: Choice,
    args: &How,
    repair: &Repair,
    show_data: bool,
    letters: &DeadLetters<'_>,
) -> Result<Exit, Refusal> {
    let (selection, notes) = letters.selection(choice, true, args.output.json).await?;
    let mut preview = Preview::new(repair, show_data, letters.settings);
    letters
        .look(args.output.json, |held| {
            if selection.wants(&held.record) == Wanted::Yes {
                preview.add(held, &letters.plan.names().events);
            }
        })
        .await?;
    if !args.output.json {
        output::print(preview.text()).map_err(|error| Refusal::unwritable(&error))?;
    }
    finish(selection, notes, Some(repair), Some(preview), args, letters).await
}

async fn finish(
    selection: Selection,
    notes: Vec<String>,
    repair: Option<&Repair>,
    preview: Option<Preview<'_>>,
    args: &How,
    letters: &DeadLetters<'_>,
) -> Result<Exit, Refusal> {
    let count = selection.chosen.len() as u64;
    let usable = preview.as_ref().map_or(count, Preview::usable);
    let mut summary = Summary { chosen: count, dry_run: args.dry_run, notes, ..Summary::default() };
    if usable > 0 && !args.dry_run {
        let how = if repair.is_some() { ", repaired" } else { "" };
        agree(args.yes, &format!("Put {} back onto the events queue{how}?", messages(usable)))?;
        let (tally, notes) = requeue(letters, &selection, repair, &args.by.name()).await?;
        summary.problem = tally.problem.as_ref().map(ToString::to_string);
        (summary.tally, summary.notes) = (tally, notes);
    } else if let Some(preview) = &preview {
        summary.tally.unusable = preview.unusable();
    }
    summary.repairs = preview.map(Preview::into_answer);
    summary.unknown = selection.resolved.unknown;
    let told = if args.output.json { output::print_json(&summary) } else { output::print(summary.text()) };
    told.map_err(|error| Refusal::unwritable(&error))?;
    Ok(summary.exit())
}

async fn requeue(
    letters: &DeadLetters<'_>,
    selection: &Selection,
    repair: Option<&Repair>,
    by: &str,
) -> Result<(Requeued, Vec<String>), Refusal> {
    let publisher = Publisher::start(letters.amqp, "requeue", None, CancellationToken::new());
    publish::wait_for_connection(publisher.link(), letters.amqp).await?;
    let log = letters.delivery_log(&publisher);
    let max_event_bytes = letters.settings.delivery.max_event_bytes;
    let events = &letters.plan.names().events;
    let to = To { publisher: &publisher, events, max_event_bytes, repair, log: &log, by };
    let mut renewer = Renewer::new(letters.amqp, &letters.queue);
    let mut browse = letters.browse(None).await?;
    let mut tally = Requeued::default();
    let done = tally.chosen(to, selection, &mut browse, &mut renewer).await;
    warn_about_limits(letters, &browse, &renewer);
    let mut notes = if done.is_ok() && tally.problem.is_none() { notes_about_unseen(&browse) } else { Vec::new() };
    let confirmed = tally.confirm_removed(browse).await;
    notes.extend(done.err().or(confirmed.err()).map(|error| error.to_string()));
    notes.extend(close_log(log.clone()).await);
    renewer.close().await;
    publisher.close().await;
    Ok((tally, notes))
}

/// The answer of the command.
#[derive(Default, Serialize)]
struct Summary {
    /// Messages that were chosen.
    chosen: u64,
    /// Whether this was a dry run, in which nothing was done.
    dry_run: bool,
    #[serde(flatten)]
    tally: Requeued,
    /// The differences that the repair makes.
    #[serde(skip_serializing_if = "Option::is_none")]
    repairs: Option<Answer>,
    /// Ids on the command line that fit no message.
    unknown: Vec<String>,
    /// Why publishing failed.
    problem: Option<String>,
    /// Notes about messages that were not seen or not put back, with the reason.
    notes: Vec<String>,
}

impl Summary {
    fn exit(&self) -> Exit {
        let left = self.tally.unusable + self.tally.not_published > 0;
        let fine = !left && self.problem.is_none() && self.unknown.is_empty() && self.notes.is_empty();
        if fine { Exit::Ok } else { Exit::Findings }
    }

    fn text(&self) -> String {
        let Requeued { requeued, unusable, unusable_because, not_published, .. } = &self.tally;
        let mut lines = vec![match self.dry_run {
            true if self.repairs.is_some() => {
                format!("{} would be put back; nothing was done", messages(self.chosen - unusable))
            }
            true => format!("{} would be put back if they are usable events; nothing was done", messages(self.chosen)),
            false => format!("{} put back onto the events queue", messages(*requeued)),
        }];
        if *unusable > 0 {
            lines.push(format!(
                "  {} left: not a usable event (repair it with --set, --organization or `leadhook rejected edit`; replay a job with `leadhook failed replay`)",
                messages(*unusable)
            ));
            lines.extend(unusable_because.iter().map(|why| format!("    the first: {}", output::printable(why))));
        }
        if *not_published > 0 {
            let left = messages(*not_published);
            lines.push(format!("  {left} left: not confirmed by the broker, but perhaps published"));
        }
        lines.extend(show::unknown(&self.unknown));
        lines.extend(self.problem.iter().chain(&self.notes).map(|line| format!("  {line}")));
        lines.join("\n")
    }
}
