//! `leadhook deliveries show ID`.

use std::{collections::BTreeMap, fmt::Write, time::Duration};

use jiff::Timestamp;
use serde::Serialize;

use super::{Source, unwritable, words};
use crate::{
    cli::{
        arguments::moment,
        output::{self, Cell, Exit, Refusal, Table, Terminal, Tone, human_duration},
        readable::age,
    },
    delivery_log::{Entry, Filter, What},
};

/// Records that are kept of one delivery; beyond, the first and the latest.
const KEPT: usize = 1_000;

/// Ids that are kept where a beginning fits several.
const CANDIDATES: usize = 10;

/// Tell the story of one delivery, record by record
#[derive(clap::Args)]
#[command(after_help = "\
Exit codes: 0 shown, 1 no such delivery in the log, 2 the beginning of an id fits several, 3 broker or log not there.")]
pub(super) struct Args {
    /// The webhook-id, or its beginning (at least 6 characters)
    #[arg(value_name = "ID", value_parser = id)]
    id: String,
    /// Look no further back than this: an age (90m, 2h, 3d), a date (2024-06-15, UTC) or RFC 3339 [default: all of the log]
    #[arg(long, value_name = "WHEN", value_parser = moment)]
    since: Option<Timestamp>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

fn id(text: &str) -> Result<String, String> {
    let long_enough = text.trim_start_matches("wh_").chars().count() >= 6;
    if long_enough {
        Ok(text.to_owned())
    } else {
        Err("is too short for an id: at least 6 characters of it".to_owned())
    }
}

/// What was told of one id.
#[derive(Default)]
struct Told {
    entries: Vec<(String, Entry<'static>)>,
    left_out: u64,
}

pub(super) async fn run(args: &Args, source: &Source<'_>) -> Result<Exit, Refusal> {
    let filter = Filter { id: Some(args.id.clone()), since: args.since, ..Filter::default() };
    let mut stories: BTreeMap<String, Told> = BTreeMap::new();
    source
        .read(&filter, args.json, |writer, entry| {
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
            let text = format!("no delivery in the log has an id that begins with \"{}\"", output::printable(&args.id));
            return Err(Refusal { exit: Exit::Findings, text });
        }
        (None, _) => {
            let ids: Vec<_> = stories.into_keys().collect();
            let text = format!("\"{}\" fits several deliveries, write more of it: {}", args.id, ids.join(", "));
            return Err(Refusal::usage(text));
        }
    };
    let story = Story::new(id, told);
    let shown = match args.json {
        true => output::print_json(&story),
        false => output::print(story.text(Terminal::detect(), Timestamp::now())),
    };
    shown.map_err(unwritable)?;
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
    /// Puts the records in order: workers send theirs with a short delay.
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
