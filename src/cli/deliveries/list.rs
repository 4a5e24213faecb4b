//! `leadhook deliveries` and `leadhook deliveries --follow`.

use std::{
    collections::BTreeSet,
    fmt::Write as _,
    io::{self, Write as _},
    time::Duration,
};

use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};
use jiff::Timestamp;
use serde::Serialize;

use super::{Source, refusal, words};
use crate::{
    cli::{
        arguments::{About, FILTERS, OUTPUT, Output, Window, number},
        output::{self, Exit, Refusal, Terminal, Tone},
        readable::{age, clock, counted},
        table::{Cell, Table},
    },
    dead_letters::{filter, given_ids::shortened},
    delivery::reason::FailReason,
    delivery_log::{Deliveries, Delivery, Filter, Start, What, batch::Batch},
    limits::DeferReason,
    rejection::RejectReason,
    settings::Settings,
    store::NoTarget,
};

/// How far back to look without a lead, a submission or an id.
const LATELY: Duration = Duration::from_secs(86_400);

/// Shortest id in a table.
const ID: usize = 12;

// Filters and output options of the list.
#[derive(clap::Args)]
pub(super) struct ListArgs {
    /// Only the delivery with this webhook-id, or with this beginning of it
    #[arg(long, value_name = "ID", help_heading = FILTERS)]
    id: Option<String>,
    #[command(flatten)]
    about: About,
    /// Only deliveries whose latest state is this one; several with commas
    #[arg(long, value_name = "STATE", value_parser = state(), value_delimiter = ',', help_heading = FILTERS)]
    state: Vec<What>,
    /// Only deliveries whose latest attempt had this result, or that ended for this reason, such as timeout or exhausted
    #[arg(long, value_name = "ERROR", value_parser = error(), hide_possible_values = true, help_heading = FILTERS)]
    error: Option<String>,
    #[command(flatten)]
    window: Window,
    /// Print each record as it is written, from now on
    #[arg(short, long, conflicts_with_all = ["since", "before", "limit"])]
    follow: bool,
    /// Print at most N deliveries, the latest
    #[arg(
        short = 'n',
        long,
        value_name = "N",
        default_value_t = 50,
        value_parser = number(1..=100_000_u32),
        help_heading = OUTPUT
    )]
    limit: u32,
    #[command(flatten)]
    output: Output,
}

/// Returns a parser for states: the words of the output, and those of JSON.
fn state() -> impl TypedValueParser<Value = What> {
    let value = |what: What| match words::state(what) {
        word if word == what.name() => PossibleValue::new(word),
        // A word with a blank would need quotes in a shell.
        word if word.contains(' ') => PossibleValue::new(what.name()).alias(word),
        word => PossibleValue::new(word).alias(what.name()),
    };
    PossibleValuesParser::new(What::ALL.map(value)).try_map(|word| {
        let meant = What::ALL.into_iter().find(|what| [what.name(), words::state(*what)].contains(&word.as_str()));
        meant.ok_or("it is not a state")
    })
}

/// Returns a parser for results of attempts and for reasons, such as why a delivery ended.
fn error() -> PossibleValuesParser {
    let mut words: Vec<&str> = filter::errors().into_iter().chain(FailReason::ALL.map(FailReason::label)).collect();
    words.extend(NoTarget::ALL.map(NoTarget::name));
    words.extend(RejectReason::ALL.map(RejectReason::label));
    words.extend(DeferReason::ALL.map(DeferReason::label));
    words.extend(["proxy", "proxy_refused", "local", "suspect"]);
    words.sort_unstable();
    words.dedup();
    PossibleValuesParser::new(words)
}

impl ListArgs {
    pub(super) fn follow(&self) -> bool {
        self.follow
    }

    /// Returns the filter without its times.
    fn filter(&self) -> Filter {
        let About { lead, submission, campaign, organization, target, event } = self.about.clone();
        let id = self.id.clone();
        Filter { id, lead, submission, campaign, organization, target, event, since: None, before: None }
    }

    /// Returns the time to start from.
    fn since(&self, filter: &Filter, now: Timestamp) -> Option<Timestamp> {
        let lately = || (!filter.is_narrow()).then(|| now.checked_sub(LATELY).unwrap_or(Timestamp::UNIX_EPOCH));
        self.window.since.or_else(lately)
    }
}

pub(super) async fn run(args: &ListArgs, source: &Source<'_>, settings: &Settings) -> Result<Exit, Refusal> {
    args.window.tell();
    let now = Timestamp::now();
    let filter = args.filter();
    let filter = Filter { since: args.since(&filter, now), before: args.window.before, ..filter };
    let limit = usize::try_from(args.limit).unwrap_or(usize::MAX);
    let mut deliveries = Deliveries::new(limit, args.state.clone(), args.error.clone());
    let mut records = 0_u64;
    source
        .read(&filter, args.output.json, |_, entry| {
            records += 1;
            deliveries.add(entry);
        })
        .await?;
    let (deliveries, more) = deliveries.finish();
    let answer = Answer { since: filter.since, records, more, deliveries };
    let told = match args.output.json {
        true => output::print_json(&answer),
        false => output::print(answer.text(args.output.terminal(), now)),
    };
    told.map_err(|error| Refusal::unwritable(&error))?;
    if answer.deliveries.is_empty() {
        args.about.explain_nothing(settings);
        return Ok(Exit::Findings);
    }
    Ok(Exit::Ok)
}

#[derive(Serialize)]
struct Answer {
    /// Start of the time range that was read; `null` for the oldest record.
    since: Option<Timestamp>,
    /// The number of records that match.
    records: u64,
    /// Whether there are more deliveries than are shown.
    more: bool,
    deliveries: Vec<Delivery>,
}

impl Answer {
    fn text(&self, terminal: Terminal, now: Timestamp) -> String {
        let looked = match self.since {
            Some(since) => format!("since {} (--since looks further back)", clock(since)),
            None => "in the whole log".to_owned(),
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
            let hint = "all records of one delivery: leadhook deliveries show ID";
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
            let mut note = words::note(one.state, one.next, one.reason.as_deref(), one.by.as_deref());
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

/// Prints records as they are written, until it is interrupted.
pub(super) async fn follow(args: &ListArgs, source: &Source<'_>) -> Result<Exit, Refusal> {
    let filter = args.filter();
    let mut reader = source.open(Start::Now).await?;
    let terminal = args.output.terminal();
    while let Some(message) = reader.next().await.map_err(refusal)? {
        let Some(batch) = Batch::read(&message) else { continue };
        let wanted = batch.entries().filter(|entry| {
            let said = [entry.error.as_deref(), entry.reason.as_deref()];
            filter.matches(entry)
                && (args.state.is_empty() || args.state.contains(&entry.what))
                && args.error.as_deref().is_none_or(|error| said.contains(&Some(error)))
        });
        for entry in wanted {
            let line = match args.output.json {
                true => serde_json::to_string(&entry).unwrap_or_default(),
                false => line(&entry, terminal),
            };
            // The reader of the output may stop reading.
            match writeln!(io::stdout(), "{line}").and_then(|()| io::stdout().flush()) {
                Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(Exit::Ok),
                told => told.map_err(|error| Refusal::unwritable(&error))?,
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
