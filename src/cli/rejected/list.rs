//! `leadhook rejected list`.

use jiff::Timestamp;
use serde::Serialize;

use super::which::FilterArgs;
use crate::{
    cli::{
        arguments::{OUTPUT, Output, number},
        dead_letters::{DeadLetters, Seen},
        output::{self, Exit, Refusal, Terminal, Tone, after_help},
        readable::{age, messages, thousands},
        table::{Cell, Table},
    },
    dead_letters::{
        filter::Filter,
        listing::{Listing, UnreadableLine},
    },
};

/// List rejected messages, the longest rejected first
#[derive(clap::Args)]
#[command(after_help = after_help(
    "leadhook rejected list\nleadhook rejected list --reason unknown_campaign --since today",
    "another program holds some of the messages, so they are not listed"
))]
pub(super) struct Args {
    #[command(flatten)]
    filter: FilterArgs,
    /// Print at most N messages
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
    go(args.filter.filter(), args.limit, args.output, letters).await
}

/// Lists the messages of a queue that holds no jobs.
///
/// # Errors
/// The broker or the queue cannot be reached.
pub(in crate::cli) async fn go(
    filter: Filter,
    limit: u32,
    output: Output,
    letters: &DeadLetters<'_>,
) -> Result<Exit, Refusal> {
    let mut listing = Listing::new(filter, usize::try_from(limit).unwrap_or(usize::MAX));
    let Seen { present, notes } = letters.look(output.json, |held| listing.add(&held.record)).await?;
    let answer = Answer {
        present,
        complete: notes.is_empty(),
        notes,
        matching: listing.unreadable_count(),
        messages: listing.unreadable(),
        called: letters.called,
    };
    let told = match output.json {
        true => output::print_json(&answer),
        false => output::print(answer.text(output.terminal(), Timestamp::now())),
    };
    told.map_err(|error| Refusal::unwritable(&error))?;
    Ok(if answer.complete { Exit::Ok } else { Exit::Findings })
}

#[derive(Serialize)]
struct Answer<'a> {
    /// Messages on the queue.
    present: u64,
    /// Whether all of them were seen.
    complete: bool,
    /// Why not all were seen.
    notes: Vec<String>,
    /// Messages that match; `messages` holds the first of them.
    matching: u64,
    messages: &'a [UnreadableLine],
    /// The name of the queue in messages.
    #[serde(skip)]
    called: &'static str,
}

impl Answer<'_> {
    fn text(&self, terminal: Terminal, now: Timestamp) -> String {
        let mut lines = Vec::new();
        if !self.messages.is_empty() {
            lines.push(format!("{}\n", self.table(terminal, now)));
        }
        lines.push(match (self.matching, self.present) {
            (0, 0) => format!("no messages: the {} is empty", self.called),
            (0, present) => format!("no message matches ({} on the {})", messages(present), self.called),
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
