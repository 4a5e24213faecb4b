//! `leadhook deliveries show ID`.

use std::{collections::BTreeMap, fmt::Write, time::Duration};

use jiff::Timestamp;
use serde::Serialize;

use super::{Source, words};
use crate::{
    cli::{
        arguments::{FILTERS, Output, time},
        output::{self, Exit, Refusal, Terminal, Tone, after_help, human_duration},
        readable::age,
        table::{Cell, Table},
    },
    delivery_log::{Entry, Filter, What},
};

/// Most records of one delivery that are kept: the first and the latest ones.
const KEPT: usize = 1_000;

/// Most ids that are named if a beginning fits several.
const CANDIDATES: usize = 10;

/// Show all records of one delivery, from the first attempt to the latest
#[derive(clap::Args)]
#[command(after_help = after_help(
    "leadhook deliveries show wh_31b12f9c\nleadhook deliveries show wh_31b12f9c --since yesterday --json",
    "the log has no such delivery"
))]
pub(super) struct Args {
    /// The webhook-id, or its beginning (at least 6 characters)
    #[arg(value_name = "ID", value_parser = id)]
    id: String,
    /// Look no further back than this: an age (3d), a date, or a time in UTC [default: the whole log]
    #[arg(short, long, value_name = "WHEN", value_parser = time, help_heading = FILTERS)]
    since: Option<Timestamp>,
    #[command(flatten)]
    output: Output,
}

fn id(text: &str) -> Result<String, String> {
    let long_enough = text.trim_start_matches("wh_").chars().count() >= 6;
    if long_enough { Ok(text.to_owned()) } else { Err("write at least 6 characters of the webhook-id".to_owned()) }
}

/// The records of one id.
#[derive(Default)]
struct Told {
    entries: Vec<(String, Entry<'static>)>,
    left_out: u64,
}

pub(super) async fn run(args: &Args, source: &Source<'_>) -> Result<Exit, Refusal> {
    let filter = Filter { id: Some(args.id.clone()), since: args.since, ..Filter::default() };
    let mut stories: BTreeMap<String, Told> = BTreeMap::new();
    source
        .read(&filter, args.output.json, |writer, entry| {
            let Some(id) = entry.id.as_deref() else { return };
            if !stories.contains_key(id) && stories.len() >= CANDIDATES {
                return;
            }
            let told = stories.entry(id.to_owned()).or_default();
            if told.entries.len() >= KEPT {
                told.entries.remove(KEPT / 2);
                told.left_out += 1;
            }
            told.entries.push((writer.to_owned(), entry.clone().into_owned()));
        })
        .await?;
    // A whole id is never ambiguous.
    let told = stories.remove(&args.id);
    let (id, told) = match (told, stories.len()) {
        (Some(told), _) => (args.id.clone(), told),
        (None, 1) => stories.pop_first().unwrap_or_default(),
        (None, 0) => {
            let id = output::printable(&args.id);
            let text = format!("delivery not found: no webhook-id in the log begins with \"{id}\"");
            return Err(Refusal::findings(text, "check the id; the log keeps records for delivery_log.maximum_age"));
        }
        (None, _) => {
            let ids: Vec<_> = stories.into_keys().collect();
            let text = format!("\"{}\" fits several deliveries: {}", output::printable(&args.id), ids.join(", "));
            return Err(Refusal::usage(text, "write more of the id"));
        }
    };
    let story = Story::new(id, told);
    let shown = match args.output.json {
        true => output::print_json(&story),
        false => output::print(story.text(args.output.terminal(), Timestamp::now())),
    };
    shown.map_err(|error| Refusal::unwritable(&error))?;
    Ok(Exit::Ok)
}

#[derive(Serialize)]
struct Story {
    id: String,
    state: What,
    records: Vec<Record>,
    /// Records in the middle that are not shown.
    left_out: u64,
}

#[derive(Serialize)]
struct Record {
    time: Timestamp,
    worker: String,
    #[serde(flatten)]
    entry: Entry<'static>,
}

impl Story {
    /// Sorts the records by time, because each worker sends its records with a short delay.
    fn new(id: String, told: Told) -> Story {
        let mut records: Vec<_> =
            told.entries.into_iter().map(|(worker, entry)| Record { time: entry.time(), worker, entry }).collect();
        records.sort_by_key(|record| record.time);
        let mut states = records.iter().rev().map(|record| record.entry.what);
        let state = states.find(|what| *what != What::Revealed).unwrap_or(What::Unknown);
        Story { id, state, records, left_out: told.left_out }
    }

    fn text(&self, terminal: Terminal, now: Timestamp) -> String {
        let mut text = format!("{}\n", terminal.paint(Tone::Strong, &output::printable(&self.id)));
        let Some(last) = self.records.last() else { return text };
        let mut fact = |name: &str, value: &str| {
            let _ = writeln!(text, "  {name:11}  {}", output::printable(value));
        };
        let first = |of: for<'e> fn(&'e Entry<'static>) -> Option<&'e str>| {
            self.records.iter().find_map(|record| of(&record.entry))
        };
        fact("event", first(|entry| entry.event.as_deref()).unwrap_or("-"));
        fact("lead", first(|entry| entry.lead.as_deref()).unwrap_or("-"));
        fact("submission", first(|entry| entry.submission.as_deref()).unwrap_or("-"));
        let campaign = first(|entry| entry.campaign.as_deref()).unwrap_or("-");
        fact(
            "campaign",
            &format!("{campaign} of organization {}", first(|entry| entry.organization.as_deref()).unwrap_or("-")),
        );
        fact("target", first(|entry| entry.target.as_deref()).unwrap_or("-"));
        fact("state", &format!("{}, {}", words::state(self.state), age(Some(last.time), now)));
        let _ = write!(text, "\n{}", self.table(terminal));
        if self.left_out > 0 {
            let _ = write!(text, "\n{} records in the middle are not shown", self.left_out);
        }
        text
    }

    fn table(&self, terminal: Terminal) -> Table {
        let mut table = Table::new(terminal, &["when", "what", "attempt", "result", "took", "note", "worker"]);
        for record in &self.records {
            let entry = &record.entry;
            let note = words::note_of(entry);
            table.row([
                Cell::text(format!("{:.3}", record.time)),
                Cell::text(words::state(entry.what)).tone(words::tone(entry.what)),
                Cell::text(words::attempts(entry.attempt, entry.of)),
                Cell::text(words::result(entry.status, entry.error.as_deref())),
                Cell::text(entry.ms.map_or_else(|| "-".to_owned(), |ms| human_duration(Duration::from_millis(ms)))),
                Cell::text(if note.is_empty() { "-" } else { &note }),
                Cell::text(record.worker.rsplit_once('/').map_or(record.worker.as_str(), |(process, _)| process)),
            ]);
        }
        table
    }
}
