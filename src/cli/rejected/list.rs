//! `leadhook rejected list`.

use jiff::Timestamp;
use serde::Serialize;

use super::FilterArgs;
use crate::{
    cli::{
        failed::{Desk, Seen, unwritable},
        output::{self, Cell, Exit, Refusal, Table, Terminal, Tone},
        readable::{age, messages, thousands},
    },
    desk::listing::{Listing, UnreadableLine},
};

/// List rejected messages, the longest rejected first
#[derive(clap::Args)]
#[command(after_help = "\
Exit codes: 0 listed (also when there is none), 1 something could not be seen because another program holds it, \
3 broker or queue not there.")]
pub(super) struct Args {
    #[command(flatten)]
    filter: FilterArgs,
    /// Show at most N messages
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..))]
    limit: u32,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

pub(super) async fn run(args: &Args, desk: &Desk<'_>) -> Result<Exit, Refusal> {
    let limit = usize::try_from(args.limit).unwrap_or(usize::MAX);
    let mut listing = Listing::new(args.filter.filter(), limit);
    let Seen { present, notes } = desk.look(args.json, |held| listing.add(&held.record)).await?;
    let answer = Answer {
        present,
        complete: notes.is_empty(),
        notes,
        matching: listing.unreadable_count(),
        messages: listing.unreadable(),
    };
    let told = match args.json {
        true => output::print_json(&answer),
        false => output::print(answer.text(Terminal::detect(), Timestamp::now())),
    };
    told.map_err(unwritable)?;
    Ok(if answer.complete { Exit::Ok } else { Exit::Findings })
}

#[derive(Serialize)]
struct Answer<'a> {
    /// Messages on the rejected queue.
    present: u64,
    /// Whether all of them were seen.
    complete: bool,
    /// Why not.
    notes: Vec<String>,
    /// Messages that match; `messages` holds the first of them.
    matching: u64,
    messages: &'a [UnreadableLine],
}

impl Answer<'_> {
    fn text(&self, terminal: Terminal, now: Timestamp) -> String {
        let mut lines = Vec::new();
        if !self.messages.is_empty() {
            lines.push(format!("{}\n", self.table(terminal, now)));
        }
        lines.push(match (self.matching, self.present) {
            (0, 0) => "nothing was rejected: the rejected queue is empty".to_owned(),
            (0, present) => format!("no rejected message matches ({} on the rejected queue)", messages(present)),
            (all, _) if all > self.messages.len() as u64 => {
                let shown = thousands(self.messages.len() as u64);
                format!("showing the first {shown} of {}; --limit shows more", messages(all))
            }
            (all, _) => messages(all),
        });
        lines.extend(self.notes.iter().map(|note| format!("incomplete: {note}")));
        lines.join("\n")
    }

    fn table(&self, terminal: Terminal, now: Timestamp) -> Table {
        let mut table = Table::new(terminal, &["id", "type", "bytes", "reason", "detail", "rejected"]);
        for line in self.messages {
            table.row([
                Cell::text(&line.id),
                Cell::text(line.kind.as_deref().unwrap_or("-")),
                Cell::number(line.bytes),
                Cell::text(&line.reason),
                Cell::text(line.detail.as_deref().unwrap_or("-")).tone(Tone::Warning),
                Cell::text(age(line.failed_at, now)),
            ]);
        }
        table
    }
}
