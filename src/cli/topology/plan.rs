//! `leadhook topology plan`: shows the planned exchange, bindings and queues, and how many messages wait.

use std::collections::BTreeMap;

use serde::Serialize;

use super::{ask_all, connect, json, words};
use crate::{
    broker::topology::{self, Count, Plan, Role},
    cli::{
        output::{self, Refusal, Terminal, Tone},
        table::{Cell, Table},
    },
    settings::Amqp,
};

/// Returns the plan, with counts if the broker can be reached. Otherwise a warning says why they are missing.
pub(super) async fn run(plan: &Plan, amqp: &Amqp, terminal: Option<Terminal>) -> Result<String, Refusal> {
    let counts = match counts(plan, amqp).await {
        Ok(counts) => Some(counts),
        Err(why) => {
            output::warn(&format!("the messages on the queues are not counted: {why}"));
            None
        }
    };
    match terminal {
        Some(terminal) => Ok(text(plan, counts.as_ref(), terminal)),
        None => json(&Report::new(plan, counts.as_ref())),
    }
}

async fn counts(plan: &Plan, amqp: &Amqp) -> Result<BTreeMap<String, Count>, String> {
    let connection = connect(amqp).await.map_err(|refusal| refusal.text)?;
    let counts = ask_all(topology::counts(&connection, plan)).await.map_err(|refusal| refusal.text)?;
    counts.map_err(|error| error.to_string())
}

#[derive(Serialize)]
struct Report<'a> {
    exchange: Exchange<'a>,
    bindings: Vec<Binding<'a>>,
    queues: Vec<Queue<'a>>,
    /// Whether the broker was reached.
    counted: bool,
    /// Jobs on all delay queues together.
    waiting_jobs: Option<u64>,
}

#[derive(Serialize)]
struct Exchange<'a> {
    name: &'a str,
    r#type: &'static str,
    durable: bool,
}

#[derive(Serialize)]
struct Binding<'a> {
    exchange: &'a str,
    routing_key: &'a str,
    queue: &'a str,
}

#[derive(Serialize)]
struct Queue<'a> {
    name: &'a str,
    purpose: String,
    arguments: serde_json::Map<String, serde_json::Value>,
    /// `null` if the broker was not reached or the queue is missing.
    ready: Option<u64>,
}

impl<'a> Report<'a> {
    fn new(plan: &'a Plan, counts: Option<&BTreeMap<String, Count>>) -> Report<'a> {
        let exchange = plan.exchange().as_str();
        let queue = plan.names().events.as_str();
        let keys = plan.routing_keys().iter();
        Report {
            exchange: Exchange { name: exchange, r#type: "topic", durable: true },
            bindings: keys.map(|key| Binding { exchange, routing_key: key.as_str(), queue }).collect(),
            queues: words::in_order(plan)
                .into_iter()
                .map(|queue| Queue {
                    name: queue.name.as_str(),
                    purpose: words::purpose(queue.role),
                    arguments: words::declared(queue),
                    ready: counts.and_then(|counts| counts.get(queue.name.as_str())).map(|count| count.ready),
                })
                .collect(),
            counted: counts.is_some(),
            waiting_jobs: counts.map(|counts| waiting(plan, counts)),
        }
    }
}

/// Counts the jobs on all delay queues together.
fn waiting(plan: &Plan, counts: &BTreeMap<String, Count>) -> u64 {
    let delays = plan.queues().iter().filter(|queue| matches!(queue.role, Role::Delay(_)));
    delays.filter_map(|queue| counts.get(queue.name.as_str())).map(|count| count.ready).sum()
}

fn text(plan: &Plan, counts: Option<&BTreeMap<String, Count>>, terminal: Terminal) -> String {
    let bold = |text: &str| terminal.paint(Tone::Strong, text);
    let mut lines = vec![
        format!("{} {}", bold("exchange"), plan.exchange()),
        "  topic, durable; upstream owns it, and it is created only if it is missing".to_owned(),
        bold("bindings"),
    ];
    lines.extend(plan.routing_keys().iter().map(|key| format!("  {key} to {}", plan.names().events)));
    lines.push(String::new());
    lines.push(table(plan, counts, terminal).to_string());
    lines.push(String::new());
    let (streams, queues): (Vec<_>, Vec<_>) = plan.queues().iter().partition(|queue| queue.retention.is_some());
    let and_streams = if streams.is_empty() { "" } else { "; and a stream" };
    lines.push(format!(
        "{}, all durable quorum queues, dead letters are passed on at least once{and_streams}.",
        words::counted(queues.len() as u64, "queue")
    ));
    if let Some(counts) = counts {
        let waiting = waiting(plan, counts);
        let verb = if waiting == 1 { "waits" } else { "wait" };
        lines.push(format!("{} {verb} on the delay queues.", words::counted(waiting, "job")));
        let missing = plan.queues().iter().filter(|queue| !counts.contains_key(queue.name.as_str())).count();
        if missing > 0 {
            let missing = words::counted(missing as u64, "queue");
            lines.push(format!("{missing} could not be counted (-): see `leadhook topology check`."));
        }
    }
    lines.join("\n")
}

fn table(plan: &Plan, counts: Option<&BTreeMap<String, Count>>, terminal: Terminal) -> Table {
    let mut table = Table::new(terminal, &["queue", "purpose", "messages", "arguments"]);
    for queue in words::in_order(plan) {
        let ready = match counts {
            None => Cell::number("?").tone(Tone::Quiet),
            Some(counts) => match counts.get(queue.name.as_str()) {
                None => Cell::number("-").tone(Tone::Warning),
                Some(Count { ready: 0, .. }) => Cell::number(0).tone(Tone::Quiet),
                Some(Count { ready, .. }) => Cell::number(ready).tone(Tone::Strong),
            },
        };
        let [name, purpose, arguments] =
            [queue.name.to_string(), words::purpose(queue.role), words::arguments(queue)].map(Cell::text);
        table.row([name, purpose, ready, arguments]);
    }
    table
}
