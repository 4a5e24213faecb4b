//! `leadhook deliveries`, `leadhook deliveries --follow`.

use std::{
    collections::BTreeSet,
    fmt::Write as _,
    io::{self, Write as _},
    time::Duration,
};

use jiff::Timestamp;
use serde::Serialize;

use super::{Source, refusal, unwritable, words};
use crate::{
    cli::{
        arguments::{About, moment},
        output::{self, Cell, Exit, Refusal, Table, Terminal, Tone},
        readable::{age, clock, counted},
    },
    delivery_log::{Deliveries, Delivery, Filter, Start, What, batch::Batch},
    desk::selection::shortened,
};

/// How far back is looked where nothing narrow is asked for.
const LATELY: Duration = Duration::from_secs(86_400);

/// Shortest id in a table.
const ID: usize = 12;

#[derive(clap::Args)]
pub(super) struct ListArgs {
    /// Only the delivery with this webhook-id, or beginning of one
    #[arg(long, value_name = "ID")]
    id: Option<String>,
    #[command(flatten)]
    about: About,
    /// Only what stands so now: delivered, retry, failed, parked, no_target, rejected, replayed, discarded, requeued; several
    /// with commas
    #[arg(long, value_name = "STATE", value_parser = state, value_delimiter = ',')]
    state: Vec<What>,
    /// Only what ended, or was last attempted, so: timeout, status, exhausted ...
    #[arg(long, value_name = "WORD")]
    error: Option<String>,
    /// Only what happened at this time or later: an age (90m, 2h, 3d), a date (2024-06-15, UTC) or RFC 3339 [default: 1d,
    /// without limit for a lead, a submission or an id]
    #[arg(long, value_name = "WHEN", value_parser = moment)]
    since: Option<Timestamp>,
    /// Only what happened before this time
    #[arg(long, value_name = "WHEN", value_parser = moment)]
    before: Option<Timestamp>,
    /// Show at most N deliveries, the latest
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    limit: u32,
    /// Show each record as it is written, from now on
    #[arg(long, conflicts_with_all = ["since", "before", "limit"])]
    follow: bool,
    /// Print one JSON object; with --follow one a line
    #[arg(long)]
    json: bool,
}

fn state(word: &str) -> Result<What, String> {
    What::parse(word).ok_or_else(|| format!("expected one of {}", What::ALL.map(What::name).join(", ")))
}

impl ListArgs {
    pub(super) fn follow(&self) -> bool {
        self.follow
    }

    /// What is asked for, without times.
    fn filter(&self) -> Filter {
        let About { lead, submission, campaign, organization, target, event } = self.about.clone();
        let id = self.id.clone();
        Filter { id, lead, submission, campaign, organization, target, event, since: None, before: None }
    }

    /// The beginning of what is looked at.
    fn since(&self, filter: &Filter, now: Timestamp) -> Option<Timestamp> {
        let lately = || (!filter.is_narrow()).then(|| now.checked_sub(LATELY).unwrap_or(Timestamp::UNIX_EPOCH));
        self.since.or_else(lately)
    }
}

pub(super) async fn run(args: &ListArgs, source: &Source<'_>) -> Result<Exit, Refusal> {
    let now = Timestamp::now();
    let filter = args.filter();
    let filter = Filter { since: args.since(&filter, now), before: args.before, ..filter };
    let limit = usize::try_from(args.limit).unwrap_or(usize::MAX);
    let mut deliveries = Deliveries::new(limit, args.state.clone(), args.error.clone());
    let mut records = 0_u64;
    source
        .read(&filter, args.json, |_, entry| {
            records += 1;
            deliveries.add(entry);
        })
        .await?;
    let (deliveries, more) = deliveries.finish();
    let answer = Answer { since: filter.since, records, more, deliveries };
    let told = match args.json {
        true => output::print_json(&answer),
        false => output::print(answer.text(Terminal::detect(), now)),
    };
    told.map_err(unwritable)?;
    Ok(if answer.deliveries.is_empty() { Exit::Findings } else { Exit::Ok })
}

#[derive(Serialize)]
struct Answer {
    /// From when on was looked; none: from the oldest record that is kept.
    since: Option<Timestamp>,
    /// Records that match.
    records: u64,
    /// Whether there were more deliveries than are shown.
    more: bool,
    deliveries: Vec<Delivery>,
}

impl Answer {
    fn text(&self, terminal: Terminal, now: Timestamp) -> String {
        let looked = match self.since {
            Some(since) => format!("since {} (--since looks further back)", clock(since)),
            None => "in all of the log".to_owned(),
        };
        if self.deliveries.is_empty() {
            return format!("nothing found {looked}");
        }
        let mut text = format!("{}\n\n", self.table(terminal, now));
        let shown = self.deliveries.len() as u64;
        let _ = match self.more {
            true => writeln!(
                text,
                "the latest {}, there are more (--limit); looked {looked}",
                counted(shown, "delivery", "deliveries")
            ),
            false => writeln!(text, "{} {looked}", counted(shown, "delivery", "deliveries")),
        };
        if terminal.interactive {
            let hint = "the whole story: leadhook deliveries show ID";
            let _ = writeln!(text, "{}", terminal.paint(Tone::Quiet, hint));
        }
        text.trim_end().to_owned()
    }

    fn table(&self, terminal: Terminal, now: Timestamp) -> Table {
        let ids: BTreeSet<String> = self.deliveries.iter().filter_map(|one| one.id.clone()).collect();
        let headings = ["when", "state", "event", "lead", "campaign", "target", "attempt", "result", "note", "id"];
        let mut table = Table::new(terminal, &headings);
        let text = |value: &Option<String>| Cell::text(value.as_deref().unwrap_or("-"));
        for one in &self.deliveries {
            let id = one.id.as_deref().map(|id| if terminal.interactive { shortened(id, &ids, ID) } else { id });
            let when = if terminal.interactive { age(Some(one.at), now) } else { clock(one.at) };
            let mut note = words::note(one.state, one.next, one.reason.as_deref(), None);
            if let Some(at) = one.delivered_at.filter(|_| one.state != What::Delivered) {
                note = format!("{note}; delivered at {}", clock(at)).trim_start_matches("; ").to_owned();
            }
            table.row([
                Cell::text(when),
                Cell::text(words::state(one.state)).tone(words::tone(one.state)),
                text(&one.event),
                text(&one.lead),
                text(&one.campaign),
                text(&one.target),
                Cell::text(words::attempts(one.attempt, one.of)),
                Cell::text(words::result(one.status, one.error.as_deref())),
                Cell::text(if note.is_empty() { "-" } else { &note }),
                Cell::text(id.unwrap_or("-")),
            ]);
        }
        table
    }
}

/// Shows records as they are written, until it is interrupted.
pub(super) async fn follow(args: &ListArgs, source: &Source<'_>) -> Result<Exit, Refusal> {
    let filter = args.filter();
    let mut reader = source.open(Start::Now).await?;
    let terminal = Terminal::detect();
    while let Some(message) = reader.next().await.map_err(refusal)? {
        let Some(batch) = Batch::read(&message) else { continue };
        let wanted = batch.entries().filter(|entry| {
            let said = [entry.error.as_deref(), entry.reason.as_deref()];
            filter.matches(entry)
                && (args.state.is_empty() || args.state.contains(&entry.what))
                && args.error.as_deref().is_none_or(|error| said.contains(&Some(error)))
        });
        for entry in wanted {
            let line = match args.json {
                true => serde_json::to_string(&entry).unwrap_or_default(),
                false => line(&entry, terminal),
            };
            // Who reads along may go.
            match writeln!(io::stdout(), "{line}").and_then(|()| io::stdout().flush()) {
                Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(Exit::Ok),
                told => told.map_err(unwritable)?,
            }
        }
    }
    Ok(Exit::Ok)
}

fn line(entry: &crate::delivery_log::Entry<'_>, terminal: Terminal) -> String {
    let said = |text: &Option<std::borrow::Cow<'_, str>>| output::printable(text.as_deref().unwrap_or("-"));
    let state = terminal.paint(words::tone(entry.what), &format!("{:9}", words::state(entry.what)));
    let mut line = format!(
        "{}  {state}  {}  {}  {}",
        clock(entry.time()),
        said(&entry.event),
        said(&entry.lead),
        said(&entry.target)
    );
    if entry.attempt.is_some() {
        let result = words::result(entry.status, entry.error.as_deref());
        let _ = write!(line, "  attempt {}: {result}", words::attempts(entry.attempt, entry.of));
    }
    for more in [words::note_of(entry), said(&entry.id)] {
        if !more.is_empty() {
            let _ = write!(line, "  {}", output::printable(&more));
        }
    }
    line
}
