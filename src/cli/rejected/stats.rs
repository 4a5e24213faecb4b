//! `leadhook rejected stats`.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::Serialize;

use super::which::FilterArgs;
use crate::{
    cli::{
        arguments::Output,
        dead_letters::{DeadLetters, Seen},
        output::{self, Exit, Refusal, Terminal, Tone, after_help},
        readable::{age, messages},
        table::{Cell, Table},
    },
    dead_letters::{
        browse::Held,
        stats::{Cause, Causes},
    },
};

/// Count rejected messages by cause, and show what to do
#[derive(clap::Args)]
#[command(after_help = after_help(
    "leadhook rejected stats\nleadhook rejected stats --since today",
    "another program holds some of the messages, so they are not counted"
))]
pub(super) struct Args {
    #[command(flatten)]
    filter: FilterArgs,
    #[command(flatten)]
    output: Output,
}

pub(super) async fn run(args: &Args, letters: &DeadLetters<'_>) -> Result<Exit, Refusal> {
    let filter = args.filter.filter();
    let mut causes = Causes::default();
    let see = |held: &Held| {
        if filter.matches(&held.record) {
            causes.add(&held.record);
        }
    };
    let Seen { present, notes } = letters.look(args.output.json, see).await?;
    let answer = Answer { present, complete: notes.is_empty(), notes, causes: causes.list() };
    let told = match args.output.json {
        true => output::print_json(&answer),
        false => output::print(answer.text(args.output.terminal(), Timestamp::now())),
    };
    told.map_err(|error| Refusal::unwritable(&error))?;
    Ok(if answer.complete { Exit::Ok } else { Exit::Findings })
}

#[derive(Serialize)]
struct Answer {
    /// Messages on the rejected queue.
    present: u64,
    /// Whether all of them were seen.
    complete: bool,
    /// Why not all were seen.
    notes: Vec<String>,
    /// Sorted by size, the largest first.
    causes: Vec<Cause>,
}

impl Answer {
    fn text(&self, terminal: Terminal, now: Timestamp) -> String {
        let mut lines = Vec::new();
        let mut table = Table::new(terminal, &["messages", "reason", "detail", "first", "last", "such as"]);
        for cause in &self.causes {
            table.row([
                Cell::number(cause.messages),
                Cell::text(&cause.reason),
                Cell::text(cause.detail.as_deref().unwrap_or("-")).tone(Tone::Warning),
                Cell::text(age(cause.first, now)),
                Cell::text(age(cause.last, now)),
                Cell::text(&cause.example),
            ]);
        }
        if !table.is_empty() {
            lines.push(format!("{table}\n"));
        }
        let what_to_do: BTreeMap<_, _> = self.causes.iter().map(|cause| (&cause.reason, cause.meaning)).collect();
        lines.extend(what_to_do.iter().map(|(reason, meaning)| format!("{}: {meaning}", output::printable(reason))));
        let all = self.causes.iter().map(|cause| cause.messages).sum();
        lines.push(format!("{} ({} on the rejected queue)", messages(all), messages(self.present)));
        lines.extend(self.notes.iter().map(|note| format!("incomplete: {note}")));
        lines.join("\n")
    }
}
