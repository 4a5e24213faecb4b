//! `leadhook failed list`.

use std::fmt::Write;

use jiff::Timestamp;
use serde::Serialize;

use super::{Desk, age, messages, overlooked, progress, remarks, thousands, unwritable};
use crate::{
    cli::output::{self, Cell, Exit, Refusal, Table, Terminal, Tone},
    desk::{
        filter::{self, Filter},
        listing::{Line, Listing, UnreadableLine},
        selection::shortened,
        wear::{Renewer, look},
    },
    event::EventKind,
};

/// Shortest id in a table: enough to copy, little enough to leave room.
const ID: usize = 12;

/// List failed jobs, the longest failed first
///
/// Copies of one job (a crash of a worker can fork it) share a line. In a terminal ids are shortened; `show` and `replay`
/// take the short form.
#[derive(clap::Args)]
#[command(after_help = "\
Exit codes: 0 listed (also when there is none), 1 something could not be seen because another program holds it, \
3 broker or queue not there.")]
pub struct Args {
    /// Only jobs of this campaign
    #[arg(long, value_name = "ID")]
    campaign: Option<String>,
    /// Only jobs of this organization
    #[arg(long, value_name = "ID")]
    organization: Option<String>,
    /// Only jobs to this target: organization, organization/campaign, either with #name
    #[arg(long, value_name = "KEY")]
    target: Option<String>,
    /// Only this event, such as lead.delivered
    #[arg(long, value_name = "EVENT", value_parser = event_kind)]
    event: Option<EventKind>,
    /// Only what failed for this reason, such as exhausted or gone
    #[arg(long, value_name = "REASON", value_parser = filter::reason)]
    reason: Option<String>,
    /// Only what failed at this time or later: an age (90m, 2h, 3d), a date (2024-06-15, UTC) or RFC 3339
    #[arg(long, value_name = "WHEN", value_parser = moment)]
    since: Option<Timestamp>,
    /// Only what failed before this time
    #[arg(long, value_name = "WHEN", value_parser = moment)]
    before: Option<Timestamp>,
    /// Show at most N jobs
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..))]
    limit: u32,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

fn event_kind(text: &str) -> Result<EventKind, String> {
    EventKind::parse(text).ok_or_else(|| format!("expected one of {}", EventKind::ALL.map(EventKind::name).join(", ")))
}

fn moment(text: &str) -> Result<Timestamp, String> {
    filter::moment(text, Timestamp::now())
}

impl Args {
    fn filter(&self) -> Filter {
        Filter {
            campaign: self.campaign.clone(),
            organization: self.organization.clone(),
            target: self.target.clone(),
            event: self.event,
            reason: self.reason.clone(),
            since: self.since,
            before: self.before,
        }
    }
}

pub(super) async fn run(args: &Args, desk: &Desk<'_>) -> Result<Exit, Refusal> {
    let filter = args.filter();
    let filtered = !filter.is_empty();
    let mut visit = desk.visit(None).await?;
    let bar = progress(visit.expected(), args.json);
    let mut renewer = Renewer::new(desk.amqp, &desk.failed);
    let mut listing = Listing::new(filter, usize::try_from(args.limit).unwrap_or(usize::MAX));
    let looked = look(&mut visit, &mut renewer, |held| listing.add(&held.record), |count| bar.inc(count)).await;
    bar.finish_and_clear();
    looked.map_err(super::refusal)?;
    renewer.close().await;
    remarks(desk, &visit, &renewer);
    let answer = Answer {
        present: visit.present(),
        complete: overlooked(&visit).is_empty(),
        notes: overlooked(&visit),
        matching: listing.matching(),
        jobs: listing.lines(),
        unreadable_count: listing.unreadable_count(),
        unreadable: listing.unreadable(),
    };
    visit.leave().await;
    let told = match args.json {
        true => output::print_json(&answer),
        false => output::print(answer.text(&listing, filtered, Terminal::detect(), Timestamp::now())),
    };
    told.map_err(unwritable)?;
    Ok(if answer.complete { Exit::Ok } else { Exit::Findings })
}

#[derive(Serialize)]
pub(super) struct Answer<'a> {
    /// Messages on the failed queue.
    pub present: u64,
    /// Whether all of them were seen.
    pub complete: bool,
    /// Why not.
    pub notes: Vec<String>,
    /// Jobs that match the filters; `jobs` holds the first of them.
    pub matching: u64,
    pub jobs: &'a [Line],
    /// Messages that are no jobs; `unreadable` holds the first of them.
    pub unreadable_count: u64,
    pub unreadable: &'a [UnreadableLine],
}

impl Answer<'_> {
    pub fn text(&self, listing: &Listing, filtered: bool, terminal: Terminal, now: Timestamp) -> String {
        let mut text = String::new();
        if !self.jobs.is_empty() {
            let _ = writeln!(text, "{}\n", self.table(listing, terminal, now));
        }
        let _ = match (self.matching, filtered) {
            (0, true) => writeln!(text, "no failed job matches ({} on the failed queue)", messages(self.present)),
            (0, false) if self.unreadable_count == 0 && self.complete => {
                writeln!(text, "nothing has failed: the failed queue is empty")
            }
            (0, false) => writeln!(text, "no failed jobs"),
            (all, _) if all > self.jobs.len() as u64 => {
                let shown = thousands(self.jobs.len() as u64);
                writeln!(text, "showing the first {shown} of {} failed jobs; --limit shows more", thousands(all))
            }
            (all, _) => writeln!(text, "{}", super::counted(all, "failed job", "failed jobs")),
        };
        if self.unreadable_count > 0 {
            let are =
                if self.unreadable_count == 1 { "is no job of ours and stays" } else { "are no jobs of ours and stay" };
            let _ = writeln!(
                text,
                "\n{} {are} where it lies:\n{}",
                messages(self.unreadable_count),
                self.unreadable(terminal, now)
            );
        }
        for note in &self.notes {
            let _ = writeln!(text, "incomplete: {note}");
        }
        if self.matching > 0 && terminal.interactive {
            let hint = "why, and what to do: leadhook failed show ID; put back: leadhook failed replay ID";
            let _ = writeln!(text, "{}", terminal.paint(Tone::Quiet, hint));
        }
        text.trim_end().to_owned()
    }

    fn table(&self, listing: &Listing, terminal: Terminal, now: Timestamp) -> Table {
        // Rare, and the table has to fit into 100 columns with whole ids.
        let copies = self.jobs.iter().any(|line| line.copies > 1);
        let mut headings = vec!["id", "event", "campaign", "target", "attempts", "last", "reason", "owner", "failed"];
        if copies {
            headings.push("copies");
        }
        let mut table = Table::new(terminal, &headings);
        for line in self.jobs {
            // A pipe gets whole ids: what is cut today may be ambiguous tomorrow.
            let id = if terminal.interactive { shortened(&line.id, listing.ids(), ID) } else { &line.id };
            let last = line.last.as_ref().map_or_else(|| "-".to_owned(), |last| answer(last.status, &last.outcome));
            let mut cells = vec![
                Cell::text(id),
                Cell::text(line.event),
                Cell::text(&line.campaign),
                Cell::text(&line.target),
                Cell::number(line.attempts),
                Cell::text(last),
                Cell::text(&line.reason),
                Cell::text(line.owner),
                Cell::text(age(line.failed_at, now)),
            ];
            if copies {
                cells.push(Cell::number(line.copies));
            }
            table.row(cells);
        }
        table
    }

    fn unreadable(&self, terminal: Terminal, now: Timestamp) -> Table {
        let mut table = Table::new(terminal, &["message id", "type", "bytes", "reason", "problem", "failed"]);
        for line in self.unreadable {
            table.row([
                Cell::text(line.message_id.as_deref().unwrap_or("-")),
                Cell::text(line.kind.as_deref().unwrap_or("-")),
                Cell::number(line.bytes),
                Cell::text(&line.reason),
                Cell::text(&line.problem).tone(Tone::Warning),
                Cell::text(age(line.failed_at, now)),
            ]);
        }
        table
    }
}

/// `500`, `429 pushback`, `timeout`: the status, and the word where it says more.
pub(super) fn answer(status: Option<u16>, outcome: &str) -> String {
    match status {
        Some(status) if outcome == "status" => status.to_string(),
        Some(status) => format!("{status} {outcome}"),
        None => outcome.to_owned(),
    }
}
