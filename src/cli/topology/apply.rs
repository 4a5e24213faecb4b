//! `leadhook topology apply`: declares the plan, and reports which queues were created and which existed.

use std::collections::BTreeSet;

use serde::Serialize;

use super::{ask_all, connect, json, lost, words};
use crate::{
    broker::topology::{self, Existence, Plan, Problem, Sight, Thing, TopologyError},
    cli::{
        output::{Exit, Refusal, Terminal, Tone},
        table::{Cell, Table},
    },
    settings::Amqp,
};

/// Looks, declares, and looks again. The difference shows what was created, even if the broker refused a part.
pub(super) async fn run(plan: &Plan, amqp: &Amqp, terminal: Option<Terminal>) -> Result<(String, Exit), Refusal> {
    let connection = connect(amqp).await?;
    let before = ask_all(topology::look(&connection, plan)).await?.map_err(lost)?;
    let (problems, advice) = match ask_all(topology::declare(&connection, plan)).await? {
        Ok(()) => Default::default(),
        Err(error @ TopologyError::Lost(_)) => return Err(lost(error)),
        Err(TopologyError::Problems { problems, advice }) => (problems, advice),
    };
    let after = match ask_all(topology::look(&connection, plan)).await? {
        Ok(after) => after,
        // Some refusals close the connection. They are still reported.
        Err(_) if !problems.is_empty() => before.clone(),
        Err(error) => return Err(lost(error)),
    };
    let report = Report {
        things: things(plan, &before, &after, &problems),
        bound: problems.is_empty().then(|| plan.routing_keys().iter().map(ToString::to_string).collect()),
        problems: problems.iter().map(ToString::to_string).collect(),
        advice,
    };
    let exit = if problems.is_empty() { Exit::Ok } else { Exit::Findings };
    let text = match terminal {
        Some(terminal) => report.text(plan, terminal),
        None => json(&report)?,
    };
    Ok((text, exit))
}

#[derive(Serialize)]
struct Report {
    things: Vec<Applied>,
    /// The keys that are bound to the events queue; `null` if nothing was bound.
    bound: Option<Vec<String>>,
    problems: Vec<String>,
    advice: Vec<String>,
}

#[derive(Serialize)]
struct Applied {
    kind: &'static str,
    name: String,
    result: Outcome,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
enum Outcome {
    Created,
    Stood,
    Differs,
    Missing,
    Unseen,
}

fn things(plan: &Plan, before: &Sight, after: &Sight, problems: &[Problem]) -> Vec<Applied> {
    let exchange = plan.exchange();
    let differs = Thing::Exchange(exchange.clone());
    let result = outcome(&differs, Some(&before.exchange), Some(&after.exchange), problems);
    let exchange = Applied { kind: "exchange", name: exchange.to_string(), result };
    let queues = words::in_order(plan).into_iter().map(|queue| {
        let (name, thing) = (queue.name.as_str(), Thing::Queue(queue.name.clone()));
        let result = outcome(&thing, before.queues.get(name), after.queues.get(name), problems);
        Applied { kind: "queue", name: name.to_owned(), result }
    });
    [exchange].into_iter().chain(queues).collect()
}

fn outcome(thing: &Thing, before: Option<&Existence>, after: Option<&Existence>, problems: &[Problem]) -> Outcome {
    let differs = |problem: &Problem| matches!(problem, Problem::Differs { thing: other, .. } if other == thing);
    match (before, after) {
        _ if problems.iter().any(differs) => Outcome::Differs,
        (Some(Existence::Stands(_)), _) => Outcome::Stood,
        (Some(Existence::Missing), Some(Existence::Stands(_))) => Outcome::Created,
        (_, Some(Existence::Missing)) => Outcome::Missing,
        _ => Outcome::Unseen,
    }
}

impl Outcome {
    fn words(self) -> &'static str {
        match self {
            Outcome::Created => "created",
            Outcome::Stood => "existed",
            Outcome::Differs => "differs",
            Outcome::Missing => "missing",
            Outcome::Unseen => "cannot be seen",
        }
    }

    fn tone(self) -> Tone {
        match self {
            Outcome::Created => Tone::Good,
            Outcome::Stood => Tone::Quiet,
            Outcome::Differs | Outcome::Missing => Tone::Bad,
            Outcome::Unseen => Tone::Warning,
        }
    }
}

impl Report {
    fn text(&self, plan: &Plan, terminal: Terminal) -> String {
        let mut table = Table::new(terminal, &["", "name", "result"]);
        for thing in &self.things {
            let result = Cell::text(thing.result.words()).tone(thing.result.tone());
            table.row([Cell::text(thing.kind), Cell::text(&thing.name), result]);
        }
        let mut lines = vec![table.to_string(), String::new()];
        if let Some(keys) = &self.bound {
            let keys = keys.join(", ");
            lines.push(format!("{} is bound to {} with {keys}.", plan.names().events, plan.exchange()));
        }
        lines
            .extend(self.problems.iter().map(|problem| format!("{} {problem}", terminal.paint(Tone::Bad, "refused:"))));
        lines.extend(self.advice.iter().cloned());
        lines.push(self.summary());
        lines.join("\n")
    }

    fn summary(&self) -> String {
        let outcomes: BTreeSet<_> = self.things.iter().map(|thing| thing.result).collect();
        let counted = outcomes.into_iter().map(|outcome| {
            let count = self.things.iter().filter(|thing| thing.result == outcome).count();
            format!("{count} {}", outcome.words())
        });
        format!("{}.", counted.collect::<Vec<_>>().join(", "))
    }
}
