//! `leadhook failed stats`.

use jiff::Timestamp;
use serde::Serialize;

use super::{Desk, Seen, unwritable, which::FilterArgs};
use crate::{
    cli::{
        output::{self, Cell, Exit, Refusal, Table, Terminal},
        readable::{age, counted, messages},
    },
    desk::{
        stats::{Row, Stats},
        visit::Held,
    },
};

/// Count failed jobs by target and reason
#[derive(clap::Args)]
#[command(after_help = "\
Exit codes: 0 counted, 1 something could not be seen because another program holds it, 2 usage, 3 broker or queue not there.")]
pub(super) struct Args {
    #[command(flatten)]
    filter: FilterArgs,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

pub(super) async fn run(args: &Args, desk: &Desk<'_>) -> Result<Exit, Refusal> {
    let filter = args.filter.filter();
    let mut stats = Stats::default();
    let see = |held: &Held| {
        if filter.matches(&held.record) {
            stats.add(&held.record);
        }
    };
    let Seen { present, notes } = desk.look(args.json, see).await?;
    let answer =
        Answer { present, complete: notes.is_empty(), notes, unreadable: stats.unreadable(), rows: stats.rows() };
    let told = match args.json {
        true => output::print_json(&answer),
        false => output::print(answer.text(Terminal::detect(), Timestamp::now())),
    };
    told.map_err(unwritable)?;
    Ok(if answer.complete { Exit::Ok } else { Exit::Findings })
}

#[derive(Serialize)]
struct Answer {
    /// Messages on the failed queue.
    present: u64,
    /// Whether all of them were seen.
    complete: bool,
    /// Why not.
    notes: Vec<String>,
    /// Messages that match and are no jobs.
    unreadable: u64,
    /// The largest first.
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
            lines.push(format!("{} more: no jobs of ours", messages(self.unreadable)));
        }
        lines.extend(self.notes.iter().map(|note| format!("incomplete: {note}")));
        lines.join("\n")
    }
}
