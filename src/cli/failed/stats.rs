//! `leadhook failed stats`.

use jiff::Timestamp;
use serde::Serialize;

use super::which::FilterArgs;
use crate::{
    cli::{
        arguments::Output,
        dead_letters::{DeadLetters, Seen},
        output::{self, Exit, Refusal, Terminal, after_help},
        readable::{age, counted, messages},
        table::{Cell, Table},
    },
    dead_letters::{
        browse::Held,
        stats::{Row, Stats},
    },
};

/// Count failed jobs by target and reason
#[derive(clap::Args)]
#[command(after_help = after_help(
    "leadhook failed stats\nleadhook failed stats --organization acme --since 2d",
    "another program holds some of the messages, so they are not counted"
))]
pub(super) struct Args {
    #[command(flatten)]
    filter: FilterArgs,
    #[command(flatten)]
    output: Output,
}

pub(super) async fn run(args: &Args, letters: &DeadLetters<'_>) -> Result<Exit, Refusal> {
    args.filter.window.tell();
    let filter = args.filter.filter();
    let mut stats = Stats::default();
    let see = |held: &Held| {
        if filter.matches(&held.record) {
            stats.add(&held.record);
        }
    };
    let Seen { present, notes } = letters.look(args.output.json, see).await?;
    let answer =
        Answer { present, complete: notes.is_empty(), notes, unreadable: stats.unreadable(), rows: stats.rows() };
    let told = match args.output.json {
        true => output::print_json(&answer),
        false => output::print(answer.text(args.output.terminal(), Timestamp::now())),
    };
    told.map_err(|error| Refusal::unwritable(&error))?;
    if answer.rows.is_empty() {
        args.filter.about.explain_nothing(letters.settings);
    }
    Ok(if answer.complete { Exit::Ok } else { Exit::Findings })
}

#[derive(Serialize)]
struct Answer {
    /// Messages on the failed queue.
    present: u64,
    /// Whether all of them were seen.
    complete: bool,
    /// Why not all were seen.
    notes: Vec<String>,
    /// Messages that match but are not jobs.
    unreadable: u64,
    /// Sorted by size, the largest first.
    rows: Vec<Row>,
}

impl Answer {
    fn text(&self, terminal: Terminal, now: Timestamp) -> String {
        let mut lines = Vec::new();
        let mut table =
            Table::new(terminal, &["jobs", "reason", "last", "owner", "organization", "target", "oldest", "newest"]);
        for row in &self.rows {
            table.row([
                Cell::number(row.jobs),
                Cell::text(&row.reason),
                Cell::text(row.error.as_deref().unwrap_or("-")),
                Cell::text(row.owner),
                Cell::text(&row.organization),
                Cell::text(&row.target),
                Cell::text(age(row.oldest, now)),
                Cell::text(age(row.newest, now)),
            ]);
        }
        if !table.is_empty() {
            lines.push(format!("{table}\n"));
        }
        let all = self.rows.iter().map(|row| row.jobs).sum();
        lines.push(format!(
            "{} ({} on the failed queue)",
            counted(all, "failed job", "failed jobs"),
            messages(self.present)
        ));
        if self.unreadable > 0 {
            let are = if self.unreadable == 1 { "is not a job" } else { "are not jobs" };
            lines.push(format!("{} more: {are}", messages(self.unreadable)));
        }
        lines.extend(self.notes.iter().map(|note| format!("incomplete: {note}")));
        lines.join("\n")
    }
}
