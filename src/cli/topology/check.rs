//! `leadhook topology check`: compares the plan with the broker.

use std::time::{Duration, Instant};

use lapin::Connection;
use serde::Serialize;

use super::{ask_all, connect, json, lost, words};
use crate::{
    broker::{
        management::{Management, ManagementError, Seen},
        topology::{
            self, Counter, Plan,
            compare::{self, Comparison, Kind, Row, State},
        },
    },
    cli::{
        output::{Exit, Refusal, Terminal, Tone},
        table::{Cell, Table},
    },
    settings::{Amqp, Settings},
};

/// Longest wait for the broker's statistics, and the time between two requests. The statistics show the policies of
/// a queue some seconds after it was declared (measured: 8 s on 3.10), and people check right after applying.
const STATISTICS: Duration = Duration::from_secs(15);
const ASK_AGAIN: Duration = Duration::from_millis(500);

/// Looks at the broker over AMQP, asks the management API if it is configured, and compares.
pub(super) async fn run(
    plan: &Plan,
    settings: &Settings,
    terminal: Option<Terminal>,
) -> Result<(String, Exit), Refusal> {
    let connection = connect(&settings.amqp).await?;
    let sight = ask_all(topology::look(&connection, plan)).await?.map_err(lost)?;
    let seen = ask_management(plan, &settings.amqp).await?;
    let mut comparison = compare::compare(plan, &sight, seen.as_ref(), settings.topology.declare);
    count(&connection, &mut comparison).await?;
    let exit = if comparison.findings() == 0 { Exit::Ok } else { Exit::Findings };
    let text = match terminal {
        Some(terminal) => text(&comparison, connection.warning(), terminal),
        None => {
            let (findings, broker_warning) = (comparison.findings(), connection.warning());
            json(&Report { ok: exit == Exit::Ok, findings, broker_warning, comparison: &comparison })?
        }
    };
    Ok((text, exit))
}

async fn ask_management(plan: &Plan, amqp: &Amqp) -> Result<Option<Seen>, Refusal> {
    let Some(url) = &amqp.management_url else { return Ok(None) };
    let asking = async {
        let (exchange, events) = (plan.exchange().as_str(), plan.names().events.as_str());
        let (management, vhost) = (Management::new(&url.now())?, amqp.vhost());
        let begun = Instant::now();
        loop {
            let seen = management.see(&vhost, exchange, events).await?;
            if compare::policies_unknown(plan, &seen) == 0 || begun.elapsed() > STATISTICS {
                return Ok(seen);
            }
            tokio::time::sleep(ASK_AGAIN).await;
        }
    };
    let refused = |error: ManagementError| {
        let text = format!("cannot ask the management API (amqp.management_url): {error}");
        Refusal::cannot_start(text, "correct amqp.management_url, or leave it out to compare over AMQP alone")
    };
    asking.await.map(Some).map_err(refused)
}

/// Counts the messages on unused queues over AMQP, because the statistics are some seconds old.
async fn count(connection: &Connection, comparison: &mut Comparison) -> Result<(), Refusal> {
    let mut counter = Counter::new(connection);
    for queue in &mut comparison.superfluous {
        let ready = ask_all(counter.count(&queue.name)).await?.map_err(lost)?.map(|count| count.ready);
        queue.ready = ready.or(queue.ready);
    }
    Ok(())
}

#[derive(Serialize)]
struct Report<'a> {
    ok: bool,
    findings: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    broker_warning: Option<&'a str>,
    #[serde(flatten)]
    comparison: &'a Comparison,
}

fn text(comparison: &Comparison, warning: Option<&str>, terminal: Terminal) -> String {
    let mut table = Table::new(terminal, &["", "name", "state", "messages"]);
    for group in groups(&comparison.rows) {
        table.row(cells(group));
    }
    let mut lines = vec![table.to_string(), String::new()];
    lines.extend(warning.map(|warning| format!("{} {warning}", terminal.paint(Tone::Warning, "warning:"))));
    for row in comparison.rows.iter().filter(|row| !row.details.is_empty()) {
        let tone = if row.state.is_finding() { Tone::Bad } else { Tone::Warning };
        let name = terminal.paint(tone, &format!("{} {}", kind(row.kind), row.name));
        lines.extend(row.details.iter().map(|detail| format!("{name}: {detail}")));
    }
    for queue in &comparison.superfluous {
        let waiting = queue.ready.map_or("an unknown number of jobs".to_owned(), |ready| words::counted(ready, "job"));
        let name = &queue.name;
        lines.push(format!(
            "unused: queue {name} with {waiting}: no setting uses it; it drains by itself, and can be removed when it is empty"
        ));
    }
    lines.extend(
        comparison.unseen.iter().map(|sentence| format!("{} {sentence}", terminal.paint(Tone::Warning, "not seen:"))),
    );
    lines.push(match comparison.findings() {
        0 => terminal.paint(Tone::Good, "no findings"),
        1 => terminal.paint(Tone::Bad, "1 finding"),
        findings => terminal.paint(Tone::Bad, &format!("{findings} findings")),
    });
    if comparison.rows.iter().any(|row| row.state == State::Missing) {
        lines.push("`leadhook topology apply` declares what is missing.".to_owned());
    }
    lines.join("\n")
}

/// Groups neighbouring delay queues that are in the same state and have no details. Each group shares a line.
fn groups(rows: &[Row]) -> impl Iterator<Item = &[Row]> {
    let is_delay_queue = |row: &Row| row.kind == Kind::Queue && row.name.contains(".delay.") && row.details.is_empty();
    rows.chunk_by(move |one, next| is_delay_queue(one) && is_delay_queue(next) && one.state == next.state)
}

fn cells(group: &[Row]) -> Vec<Cell> {
    let (Some(first), Some(last)) = (group.first(), group.last()) else { return Vec::new() };
    let name = match group.len() {
        1 => first.name.clone(),
        count => {
            let end = last.name.rsplit('.').next().unwrap_or_default();
            format!("{} to {end} ({count} queues)", first.name)
        }
    };
    let tone = match first.state {
        State::Ok => Tone::Good,
        State::Missing | State::Differs => Tone::Bad,
        State::Stands | State::Unseen => Tone::Warning,
    };
    let ready: Option<u64> = group.iter().map(|row| row.ready).sum();
    let ready = ready.map_or("-".to_owned(), |ready| ready.to_string());
    vec![Cell::text(kind(first.kind)), Cell::text(name), Cell::text(first.state.name()).tone(tone), Cell::number(ready)]
}

fn kind(kind: Kind) -> &'static str {
    match kind {
        Kind::Exchange => "exchange",
        Kind::Binding => "binding",
        Kind::Queue => "queue",
    }
}
