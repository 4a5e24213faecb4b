//! `leadhook failed list`.

use std::{collections::BTreeSet, fmt::Write};

use jiff::Timestamp;
use serde::Serialize;

use super::{known, which::FilterArgs};
use crate::{
    cli::{
        arguments::{OUTPUT, Output, number},
        dead_letters::{DeadLetters, Seen},
        deliveries::words,
        output::{self, Exit, Refusal, Terminal, Tone, after_help},
        readable::{age, clock, counted, messages, thousands},
        table::{Cell, Table},
    },
    dead_letters::{
        given_ids::shortened,
        listing::{Line, Listing, UnreadableLine},
    },
};

/// Shortest id in a table: long enough to copy, short enough to leave room.
const ID: usize = 12;

/// List failed jobs, the longest failed first
///
/// Copies of one job share a line (a crash of a worker can copy a job). On a terminal ids are shortened; `show` and `replay`
/// take the short form.
#[derive(clap::Args)]
#[command(after_help = after_help(
    "leadhook failed list\nleadhook failed list --organization acme --reason exhausted --since 9:00\n\
     leadhook failed list --json --limit 10000",
    "another program holds some of the messages, so they are not listed"
))]
pub struct Args {
    #[command(flatten)]
    filter: FilterArgs,
    /// Do not ask the delivery log whether a failed job was delivered too
    #[arg(long)]
    no_log: bool,
    /// Print at most N jobs
    #[arg(
        short = 'n',
        long,
        value_name = "N",
        default_value_t = 1000,
        value_parser = number(1..=u32::MAX),
        help_heading = OUTPUT
    )]
    limit: u32,
    #[command(flatten)]
    output: Output,
}

pub(super) async fn run(args: &Args, letters: &DeadLetters<'_>) -> Result<Exit, Refusal> {
    args.filter.window.tell();
    let filter = args.filter.filter();
    let filtered = !filter.is_empty();
    let mut listing = Listing::new(filter, usize::try_from(args.limit).unwrap_or(usize::MAX));
    let Seen { present, notes } = letters.look(args.output.json, |held| listing.add(&held.record)).await?;
    let mut log_problem = None;
    if !args.no_log {
        let ids: BTreeSet<&str> = listing.lines().iter().map(|line| line.id.as_str()).collect();
        let oldest = listing.lines().iter().map(|line| line.first_seen).min();
        let (known, problem) = known::ask(letters, &ids, oldest, args.output.json).await;
        if let Some(problem) = &problem {
            output::warn(&format!("cannot tell whether these jobs were delivered too: {problem}"));
        }
        listing.delivered(&known);
        log_problem = problem;
    }
    let answer = Answer {
        present,
        complete: notes.is_empty(),
        notes,
        log_problem,
        matching: listing.matching(),
        jobs: listing.lines(),
        unreadable_count: listing.unreadable_count(),
        unreadable: listing.unreadable(),
    };
    let told = match args.output.json {
        true => output::print_json(&answer),
        false => output::print(answer.text(&listing, filtered, args.output.terminal(), Timestamp::now())),
    };
    told.map_err(|error| Refusal::unwritable(&error))?;
    if answer.matching == 0 {
        args.filter.about.explain_nothing(letters.settings);
    }
    Ok(if answer.complete { Exit::Ok } else { Exit::Findings })
}

#[derive(Serialize)]
pub(super) struct Answer<'a> {
    /// Messages on the failed queue.
    pub present: u64,
    /// Whether all of them were seen.
    pub complete: bool,
    /// Why not all were seen.
    pub notes: Vec<String>,
    /// Why the delivery log could not be read, if that failed.
    pub log_problem: Option<String>,
    /// Jobs that match the filters; `jobs` holds the first of them.
    pub matching: u64,
    pub jobs: &'a [Line],
    /// Messages that are not jobs; `unreadable` holds the first of them.
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
            (all, _) => writeln!(text, "{}", counted(all, "failed job", "failed jobs")),
        };
        if self.unreadable_count > 0 {
            let are = if self.unreadable_count == 1 { "is not a job, and stays" } else { "are not jobs, and stay" };
            let _ = writeln!(
                text,
                "\n{} {are} on the queue:\n{}",
                messages(self.unreadable_count),
                self.unreadable(terminal, now)
            );
        }
        let unknown = self.jobs.iter().filter(|line| line.delivery_unknown == Some(true)).count() as u64;
        if unknown > 0 {
            let why = self.log_problem.as_deref().unwrap_or("older than the delivery log");
            let _ = writeln!(text, "delivery unknown of {}: {why}", counted(unknown, "job", "jobs"));
        }
        for note in &self.notes {
            let _ = writeln!(text, "incomplete: {note}");
        }
        if self.matching > 0 && terminal.interactive {
            let hint = "the reason, and what to do: leadhook failed show ID; to send again: leadhook failed replay ID";
            let _ = writeln!(text, "{}", terminal.paint(Tone::Quiet, hint));
        }
        text.trim_end().to_owned()
    }

    fn table(&self, listing: &Listing, terminal: Terminal, now: Timestamp) -> Table {
        // Copies are rare, and a narrower table is easier to read.
        let copies = self.jobs.iter().any(|line| line.copies > 1);
        let mut headings =
            vec!["id", "event", "lead", "campaign", "target", "attempts", "last", "reason", "owner", "failed"];
        if copies {
            headings.push("copies");
        }
        let unknown = |line: &Line| line.delivery_unknown == Some(true);
        let delivered = self.jobs.iter().any(|line| line.also_delivered_at.is_some() || unknown(line));
        if delivered {
            headings.push("also delivered");
        }
        let mut table = Table::new(terminal, &headings);
        for line in self.jobs {
            // A pipe gets whole ids, because a short one may become ambiguous later.
            let id = if terminal.interactive { shortened(&line.id, listing.ids(), ID) } else { &line.id };
            let last = line
                .last
                .as_ref()
                .map_or_else(|| "-".to_owned(), |last| words::result(last.status, Some(&last.outcome)));
            let mut cells = vec![
                Cell::text(id),
                Cell::text(line.event),
                Cell::text(line.lead.as_deref().unwrap_or("-")),
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
            if delivered {
                let at = line.also_delivered_at.map(clock);
                let word = at.unwrap_or_else(|| if unknown(line) { "unknown" } else { "-" }.to_owned());
                cells.push(Cell::text(word).tone(Tone::Warning));
            }
            table.row(cells);
        }
        table
    }

    fn unreadable(&self, terminal: Terminal, now: Timestamp) -> Table {
        let mut table = Table::new(terminal, &["id", "type", "bytes", "reason", "problem", "failed"]);
        for line in self.unreadable {
            table.row([
                Cell::text(&line.id),
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
