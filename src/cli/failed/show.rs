//! `leadhook failed show ID`.

use std::{collections::BTreeSet, fmt::Write};

use base64::{Engine, prelude::BASE64_STANDARD};
use bytes::Bytes;
use jiff::Timestamp;
use serde::Serialize;

use crate::{
    cli::{
        arguments::Output,
        dead_letters::{DeadLetters, Seen, ambiguous, too_short},
        deliveries::words,
        output::{self, Exit, Refusal, Terminal, after_help, human_duration},
        readable::{age, clock, counted},
        table::{Cell, Table},
    },
    dead_letters::{browse::Held, facts::JobFacts, given_ids::GivenIds, record::Record},
    job::Job,
};

/// Most matching messages that are kept while looking. A beginning that fits more ids is ambiguous anyway.
const KEPT: usize = 50;

/// Show one failed job: the reason, what to do, and every attempt
///
/// The receiver's answers are shown as they were received, and may repeat data of the lead.
#[derive(clap::Args)]
#[command(after_help = after_help("leadhook failed show wh_31b12f9c\nleadhook failed show wh_31b12f9c --body", NOT_THERE))]
pub struct Args {
    /// The webhook-id, or its beginning (at least 6 characters)
    #[arg(value_name = "ID")]
    id: String,
    /// Show the body too: it holds the data of the lead
    #[arg(long)]
    body: bool,
    #[command(flatten)]
    output: Output,
}

/// The meaning of exit code 1 for the commands that show one message.
pub(in crate::cli) const NOT_THERE: &str = "no such message is on the queue";

pub(super) async fn run(args: &Args, letters: &DeadLetters<'_>) -> Result<Exit, Refusal> {
    show(&args.id, args.body, args.output, letters).await
}

/// Shows the message with this id or this beginning of an id.
///
/// # Errors
/// No message or several fit, or the broker or the queue cannot be reached.
pub(in crate::cli) async fn show(
    id: &str,
    body: bool,
    output: Output,
    letters: &DeadLetters<'_>,
) -> Result<Exit, Refusal> {
    let candidates = Candidates::find(id, output.json, letters).await?;
    let found = candidates.found(id, letters)?;
    let told = match output.json {
        true => output::print_json(&found.json(body)),
        false => output::print(found.text(body, output.terminal(), Timestamp::now())),
    };
    told.map_err(|error| Refusal::unwritable(&error))?;
    Ok(Exit::Ok)
}

/// Returns the whole id and the body of the message with this id or this beginning of an id.
///
/// # Errors
/// As for [`show`].
pub(in crate::cli) async fn body(id: &str, quiet: bool, letters: &DeadLetters<'_>) -> Result<(String, Bytes), Refusal> {
    let candidates = Candidates::find(id, quiet, letters).await?;
    let found = candidates.found(id, letters)?;
    Ok((found.record.key().to_owned(), found.body.clone()))
}

/// Returns a line for each id that is not on the queue.
pub(in crate::cli) fn unknown(said: &[String]) -> impl Iterator<Item = String> + '_ {
    said.iter().map(|id| format!("  not found: no id on the queue begins with \"{}\"", output::printable(id)))
}

/// Messages that fit, kept until the whole queue has been seen.
struct Candidates {
    given_ids: GivenIds,
    ids: BTreeSet<String>,
    kept: Vec<(Record, Bytes)>,
    notes: Vec<String>,
}

impl Candidates {
    async fn find(id: &str, quiet: bool, letters: &DeadLetters<'_>) -> Result<Candidates, Refusal> {
        let given_ids = GivenIds::new(&[id.to_owned()]).map_err(too_short)?;
        let mut candidates = Candidates { given_ids, ids: BTreeSet::new(), kept: Vec::new(), notes: Vec::new() };
        let Seen { notes, .. } = letters.look(quiet, |held| candidates.add(held)).await?;
        Ok(Candidates { notes, ..candidates })
    }

    fn found(&self, id: &str, letters: &DeadLetters<'_>) -> Result<Found<'_>, Refusal> {
        let resolved = self.given_ids.resolve(&self.ids);
        if let Some(refusal) = ambiguous(&resolved) {
            return Err(refusal);
        }
        resolved.found.first().and_then(|id| self.of(id)).ok_or_else(|| {
            let but = self.notes.first().map(|note| format!(" (but {note})")).unwrap_or_default();
            let (id, queue) = (output::printable(id), letters.called);
            let text = format!("not found: no id on the {queue} begins with \"{id}\"{but}");
            Refusal::findings(text, "it may be replayed or removed already: see `leadhook deliveries show`")
        })
    }

    fn add(&mut self, held: &Held) {
        let key = held.record.key();
        if !self.given_ids.wants(key) {
            return;
        }
        self.ids.insert(key.to_owned());
        if self.kept.len() < KEPT {
            self.kept.push((held.record.clone(), held.body.clone()));
        }
    }

    /// Returns the copy that failed last, and the number of copies.
    fn of(&self, id: &str) -> Option<Found<'_>> {
        let copies = || self.kept.iter().filter(|(record, _)| record.key() == id);
        let (record, body) = copies().max_by_key(|(record, _)| record.failed_at)?;
        Some(Found { record, body, copies: copies().count() as u64 })
    }
}

/// The message to show.
pub(super) struct Found<'a> {
    pub record: &'a Record,
    pub body: &'a Bytes,
    pub copies: u64,
}

#[derive(Serialize)]
struct Shown<'a> {
    id: &'a str,
    reason: &'a str,
    owner: &'static str,
    meaning: &'static str,
    detail: Option<&'a str>,
    failed_at: Option<Timestamp>,
    copies: u64,
    times_looked_at: u64,
    job: Option<JobFacts<'a>>,
    /// Why the message is not a job.
    problem: Option<&'a str>,
    body_bytes: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    body: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    body_base64: Option<String>,
}

impl Found<'_> {
    pub fn json(&self, body: bool) -> impl Serialize + '_ {
        let utf8 = body.then(|| std::str::from_utf8(self.body).ok().map(str::to_owned)).flatten();
        Shown {
            id: self.record.key(),
            reason: self.record.reason.label(),
            owner: self.record.reason.owner().label(),
            meaning: self.record.reason.meaning(),
            detail: self.record.detail.as_deref(),
            failed_at: self.record.failed_at,
            copies: self.copies,
            times_looked_at: self.record.deliveries,
            job: self.record.content.as_ref().ok().map(JobFacts::of),
            problem: self.record.content.as_ref().err().map(|unreadable| unreadable.problem.as_str()),
            body_bytes: self.body.len(),
            body_base64: (body && utf8.is_none()).then(|| BASE64_STANDARD.encode(self.body)),
            body: utf8,
        }
    }

    pub fn text(&self, body: bool, terminal: Terminal, now: Timestamp) -> String {
        let record = self.record;
        let mut facts = Facts::default();
        match &record.content {
            Ok(job) => facts.job(job),
            Err(unreadable) => {
                facts.add("type", unreadable.kind.as_deref().unwrap_or("-"));
                facts.add("not a job", &unreadable.problem);
                facts.add("", "it cannot be replayed; requeue, export or discard it by its id");
            }
        }
        let since =
            record.failed_at.map_or_else(|| "-".to_owned(), |at| format!("{} ({})", clock(at), age(Some(at), now)));
        facts.add("failed", &since);
        facts.add("reason", &format!("{}, for: {}", record.reason.label(), record.reason.owner().label()));
        facts.add("", record.reason.meaning());
        facts.add("detail", record.detail.as_deref().unwrap_or("-"));
        if self.copies > 1 {
            let copies = format!("{} of the same job, made by a crash; a replay sends one for all", self.copies);
            facts.add("copies", &copies);
        }
        if !body {
            facts.add(
                "body",
                &format!(
                    "{}, not shown: it holds the data of the lead (--body)",
                    counted(self.body.len() as u64, "byte", "bytes")
                ),
            );
        }
        let id = record.key();
        let mut text = format!("{}\n{}", terminal.paint(output::Tone::Strong, &output::printable(id)), facts.0);
        if let Ok(job) = &record.content {
            let _ = write!(text, "\n{}\n", history(job, terminal));
        }
        if body {
            let lines = String::from_utf8_lossy(self.body);
            let lines: Vec<_> = lines.lines().map(output::printable).collect();
            let _ = write!(text, "\nbody\n{}\n", lines.join("\n"));
        }
        text.trim_end().to_owned()
    }
}

/// Names and values, one pair per line.
#[derive(Default)]
struct Facts(String);

impl Facts {
    fn add(&mut self, name: &str, value: &str) {
        let _ = writeln!(self.0, "  {name:11}  {}", output::printable(value));
    }

    fn job(&mut self, job: &Job) {
        self.add("event", job.kind.name());
        self.add("campaign", &format!("{} of organization {}", job.campaign, job.organization));
        self.add("target", job.target.as_str());
        self.add("lead", job.lead_id().as_deref().unwrap_or("-"));
        self.add("submission", job.submission.as_deref().unwrap_or("-"));
        self.add("happened", &job.event_time.map_or_else(|| "-".to_owned(), clock));
        self.add("first seen", &clock(job.first_seen));
        self.add("attempts", &job.attempt.to_string());
        if !job.waited.is_zero() {
            self.add("deferred", &format!("for {} altogether", human_duration(job.waited)));
        }
        if job.replays > 0 {
            self.add("replayed", &counted(job.replays.into(), "time", "times"));
        }
        if let Some(upstream) = &job.upstream {
            self.add("upstream", upstream);
        }
    }
}

fn history(job: &Job, terminal: Terminal) -> String {
    if job.history.entries().is_empty() {
        return "no attempt was made".to_owned();
    }
    let mut table = Table::new(terminal, &["when", "attempt", "took", "result", "then", "answer"]);
    for entry in job.history.entries() {
        table.row([
            Cell::text(clock(entry.at)),
            Cell::number(entry.attempt),
            Cell::number(human_duration(std::time::Duration::from_millis(entry.ms))),
            Cell::text(words::result_of(entry)),
            Cell::text(&entry.outcome),
            Cell::text(entry.snippet.as_deref().unwrap_or("-")),
        ]);
    }
    table.to_string()
}
