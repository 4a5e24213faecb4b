//! Compares the plan with the broker. Pure.
//!
//! AMQP shows only what exists. The management API also shows types, arguments, bindings and policies. A comparison
//! names everything that could not be seen, and never assumes that it is correct.

use serde::Serialize;
use serde_json::Value;

use super::{Argument, Count, Existence, Plan, Queue, Role, Sight};
use crate::broker::management::{Seen, SeenBinding, SeenQueue};

/// The state of one thing of the plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// It exists as planned.
    Ok,
    /// It does not exist.
    Missing,
    /// It exists, but not as planned.
    Differs,
    /// It exists, but AMQP does not show whether it is as planned.
    Stands,
    /// It could not be looked at, so it may exist or not.
    Unseen,
}

impl State {
    /// Returns the word for it.
    pub fn name(self) -> &'static str {
        match self {
            State::Ok => "ok",
            State::Missing => "missing",
            State::Differs => "differs",
            State::Stands => "stands",
            State::Unseen => "unseen",
        }
    }

    /// Returns whether an operator should act on it.
    pub fn is_finding(self) -> bool {
        match self {
            State::Missing | State::Differs => true,
            State::Ok | State::Stands | State::Unseen => false,
        }
    }
}

/// The kind of thing that a row describes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Upstream's exchange.
    Exchange,
    /// A binding of the events queue.
    Binding,
    /// One of our queues.
    Queue,
}

/// One thing of the plan, or one that exists beside it and should not.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Row {
    /// The kind of thing.
    pub kind: Kind,
    /// Its name; for a binding, exchange and key.
    pub name: String,
    /// Its state.
    pub state: State,
    /// The faults, in words.
    pub details: Vec<String>,
    /// Messages that wait on the queue, if known.
    pub ready: Option<u64>,
}

/// A delay queue that the settings no longer use. It drains by itself, because its dead letters go to the jobs queue.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Superfluous {
    /// Its name.
    pub name: String,
    /// Messages that wait on it, if known.
    pub ready: Option<u64>,
}

/// The result of a comparison.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Comparison {
    /// The exchange, the bindings, and the queues in the order of [`Role`].
    pub rows: Vec<Row>,
    /// Delay queues that are left over; not findings.
    pub superfluous: Vec<Superfluous>,
    /// Facts that could not be seen, in whole sentences.
    pub unseen: Vec<String>,
}

impl Comparison {
    /// Counts the rows that an operator should act on.
    pub fn findings(&self) -> usize {
        self.rows.iter().filter(|row| row.state.is_finding()).count()
    }
}

/// Compares the plan with a look over AMQP and, if it was asked, with the management API.
///
/// `declares` is `topology.declare`. Operators who declare the queues themselves may place them as they like. A worker
/// that declares them would be refused for another placement.
pub fn compare(plan: &Plan, sight: &Sight, seen: Option<&Seen>, declares: bool) -> Comparison {
    let mut rows = vec![exchange(plan, &sight.exchange, seen)];
    rows.extend(bindings(plan, sight, seen));
    let mut queues: Vec<_> = plan.queues().iter().collect();
    queues.sort_by_key(|queue| queue.role);
    rows.extend(queues.iter().map(|planned| {
        let existence = sight.queues.get(planned.name.as_str()).unwrap_or(&Existence::Missing);
        queue(planned, existence, seen, declares)
    }));
    let left_over = |seen: &SeenQueue| plan.names().delay_of(&seen.name).is_some() && plan.queue(&seen.name).is_none();
    let superfluous = seen.iter().flat_map(|seen| &seen.queues).filter(|queue| left_over(queue));
    let superfluous =
        superfluous.map(|queue| Superfluous { name: queue.name.clone(), ready: queue.messages_ready }).collect();
    Comparison { rows, superfluous, unseen: unseen(plan, sight, seen) }
}

fn unseen(plan: &Plan, sight: &Sight, seen: Option<&Seen>) -> Vec<String> {
    let mut sentences = Vec::new();
    let hidden = [&sight.exchange].into_iter().chain(sight.queues.values()).filter_map(|existence| match existence {
        Existence::Hidden(problem) => Some(problem),
        Existence::Stands(_) | Existence::Missing => None,
    });
    let hidden: Vec<_> = hidden.collect();
    if let Some(first) = hidden.first() {
        sentences.push(format!("{} of the plan could not be looked at over AMQP: {first}.", hidden.len()));
    }
    match seen {
        None => sentences.push(
            "AMQP alone shows what exists, but not the type of the exchange, bindings, arguments of queues, policies, or \
             delay queues that are left over; with amqp.management_url these are compared as well."
                .to_owned(),
        ),
        Some(seen) => match policies_unknown(plan, seen) {
            0 => {}
            count => sentences.push(format!(
                "The broker does not say which policies apply to {count} of the queues; it takes some seconds after they \
                 were declared, and needs its statistics to be on."
            )),
        },
    }
    sentences
}

/// Counts the queues of the plan for which the broker does not say yet which policies apply.
pub fn policies_unknown(plan: &Plan, seen: &Seen) -> usize {
    seen.queues.iter().filter(|queue| plan.queue(&queue.name).is_some() && queue.policies().is_none()).count()
}

fn exchange(plan: &Plan, existence: &Existence, seen: Option<&Seen>) -> Row {
    let row =
        |state, details| Row { kind: Kind::Exchange, name: plan.exchange().to_string(), state, details, ready: None };
    match (existence, seen) {
        (Existence::Missing, _) => row(State::Missing, Vec::new()),
        (Existence::Hidden(_), None) => row(State::Unseen, Vec::new()),
        (Existence::Stands(_), None) => row(State::Stands, Vec::new()),
        (Existence::Stands(_) | Existence::Hidden(_), Some(seen)) => {
            let Some(seen) = &seen.exchange else { return row(State::Differs, vec![ANOTHER_BROKER.to_owned()]) };
            let mut details = Vec::new();
            if seen.kind != "topic" {
                details.push(format!("type is {} there, must be topic here", seen.kind));
            }
            if !seen.durable {
                details.push("it is not durable: it and its bindings go with the broker's next restart".to_owned());
            }
            row(state_of(&details), details)
        }
    }
}

const ANOTHER_BROKER: &str =
    "stands on the broker, but the management API does not list it: is amqp.management_url that of another broker?";

fn state_of(details: &[String]) -> State {
    if details.is_empty() { State::Ok } else { State::Differs }
}

/// Returns one row for each planned binding, and one for each other binding of the events queue.
fn bindings(plan: &Plan, sight: &Sight, seen: Option<&Seen>) -> Vec<Row> {
    let row = |exchange: &str, key: &str, state, details| Row {
        kind: Kind::Binding,
        name: format!("{exchange} {key}"),
        state,
        details,
        ready: None,
    };
    let (exchange, events) = (plan.exchange().as_str(), plan.names().events.as_str());
    let impossible =
        sight.exchange == Existence::Missing || sight.queues.get(events).is_none_or(|seen| *seen == Existence::Missing);
    let planned = plan.routing_keys().iter().map(|key| {
        let stands = |seen: &Seen| seen.bindings.iter().any(|seen| is(seen, exchange, key.as_str()));
        let state = match seen {
            Some(seen) if stands(seen) => State::Ok,
            Some(_) => State::Missing,
            None if impossible => State::Missing,
            None => State::Unseen,
        };
        row(exchange, key.as_str(), state, Vec::new())
    });
    // Every queue is bound to the default exchange, whose name is empty.
    let foreign = seen.iter().flat_map(|seen| &seen.bindings).filter(|seen| {
        !seen.source.is_empty() && !plan.routing_keys().iter().any(|key| is(seen, exchange, key.as_str()))
    });
    let foreign = foreign.map(|seen| {
        let detail = "is not in the settings (amqp.exchange, amqp.routing_keys), yet what it brings is dispatched: unbind \
                      it if it is left over";
        row(&seen.source, &seen.routing_key, State::Differs, vec![detail.to_owned()])
    });
    planned.chain(foreign).collect()
}

fn is(seen: &SeenBinding, exchange: &str, key: &str) -> bool {
    seen.source == exchange && seen.routing_key == key
}

fn queue(planned: &Queue, existence: &Existence, seen: Option<&Seen>, declares: bool) -> Row {
    let row = |state, details, ready| Row { kind: Kind::Queue, name: planned.name.to_string(), state, details, ready };
    let ready = match existence {
        Existence::Stands(Count { ready, .. }) => Some(*ready),
        Existence::Missing => return row(State::Missing, Vec::new(), None),
        Existence::Hidden(_) => None,
    };
    let Some(seen) = seen else {
        return match existence {
            Existence::Hidden(_) => row(State::Unseen, Vec::new(), None),
            Existence::Stands(_) | Existence::Missing => row(State::Stands, Vec::new(), ready),
        };
    };
    let Some(seen) = seen.queues.iter().find(|seen| seen.name == planned.name.as_str()) else {
        return row(State::Differs, vec![ANOTHER_BROKER.to_owned()], ready);
    };
    let details = queue_details(planned, seen, declares);
    row(state_of(&details), details, ready.or(seen.messages_ready))
}

/// Arguments that decide where a queue is placed, not what it does.
const PLACEMENT: &[&str] = &["x-queue-leader-locator", "x-quorum-initial-group-size", "x-quorum-target-group-size"];

fn arguments(planned: &Queue, seen: &SeenQueue, declares: bool) -> Vec<String> {
    let (wanted, named) = match planned.retention {
        None => ("quorum", "a quorum queue"),
        Some(_) => ("stream", "a stream"),
    };
    if let Some(kind) = seen.kind.as_deref().filter(|kind| *kind != wanted) {
        return vec![format!("is a {kind} queue there, must be {named} here")];
    }
    let (there, here) = (seen.arguments(), planned.arguments());
    let wrong = here.iter().filter_map(|(key, wanted)| match there.get(*key) {
        Some(value) if equals(wanted, value) => None,
        // A stream keeps the retention that it was created with, and policies may change it.
        Some(_) if planned.role == Role::Log && *key != "x-queue-type" => None,
        Some(value) => Some(format!("{key} is {} there, must be {wanted} here", shown(value))),
        None => Some(format!("{key} is not set there, must be {wanted} here")),
    });
    let extra = there.iter().filter(|(key, _)| {
        let tolerated = !declares && PLACEMENT.contains(&key.as_str());
        !tolerated && here.iter().all(|(wanted, _)| wanted != key)
    });
    let extra = extra.map(|(key, value)| format!("{key} is {} there, must not be set here", shown(value)));
    wrong.chain(extra).collect()
}

fn equals(wanted: &Argument<'_>, value: &Value) -> bool {
    match wanted {
        Argument::Text(text) => value.as_str() == Some(text),
        Argument::Seconds(_) => value.as_str() == Some(&wanted.to_string()),
        Argument::Number(number) => value.as_i64() == Some(*number),
    }
}

fn shown(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), |text| Argument::Text(text).to_string())
}

/// Describes each setting of a policy that breaks the plan for the queue. Policies apply to existing queues silently.
fn policies(planned: &Queue, seen: &SeenQueue) -> Vec<String> {
    let names: Vec<_> = [("policy", &seen.policy), ("operator policy", &seen.operator_policy)]
        .into_iter()
        .filter_map(|(kind, name)| name.as_deref().filter(|name| !name.is_empty()).map(|name| format!("{kind} {name}")))
        .collect();
    let names = if names.is_empty() { "a policy".to_owned() } else { names.join(" and ") };
    let definition = seen.policies().unwrap_or_default();
    let harmful = definition.iter().filter_map(|(key, value)| Some((key, value, harm(planned, key, value)?)));
    harmful.map(|(key, value, harm)| format!("{names} sets {key} to {}: {harm}", shown(value))).collect()
}

/// Returns why a policy's setting is wrong for the queue, or `None` if it changes nothing that matters.
///
/// RabbitMQ combines policy and argument by key (`rabbit_quorum_queue`, the same from 3.10 to 4.3). The lower number
/// counts. For dead letters, the argument takes precedence; for `overflow`, the policy does.
fn harm(planned: &Queue, key: &str, value: &Value) -> Option<&'static str> {
    let has_dead_letters = planned.dead_letters_to.is_some();
    let number = value.as_i64();
    match key {
        // Policies may set the retention of a stream.
        _ if planned.role == Role::Log => None,
        // It holds no messages.
        _ if planned.role == Role::Workers && key != "expires" => None,
        "message-ttl" => match planned.ttl.map(|ours| i64::try_from(ours.as_millis()).unwrap_or(i64::MAX)) {
            Some(ours) => {
                number.is_none_or(|ttl| ttl < ours).then_some("jobs come back too early, at the shorter time")
            }
            None if has_dead_letters => Some("after that time messages become dead letters without an attempt"),
            None => Some("after that time messages are deleted"),
        },
        "expires" => Some("the queue is deleted with its messages when it is not used for that time"),
        "max-length" | "max-length-bytes" if has_dead_letters => Some("above it the queue refuses messages"),
        "max-length" | "max-length-bytes" => Some("above it the oldest messages are deleted"),
        // The lower limit counts. A negative one means no limit, or 0 on 3.x.
        "delivery-limit" => {
            let weaker = number.is_some_and(|limit| planned.delivery_limit.is_none_or(|ours| limit >= ours));
            (!weaker).then_some("the lower limit counts, and messages are thrown out after so many returns")
        }
        // Without a limit on length, it has no other effect.
        "overflow" => (has_dead_letters && value != "reject-publish")
            .then_some("dead letters can be lost: at-least-once needs reject-publish"),
        "dead-letter-exchange" | "dead-letter-routing-key" => {
            (!has_dead_letters).then_some("messages that the broker throws out go elsewhere")
        }
        _ => None,
    }
}

/// Describes the faults in arguments and policies of the existing queues, one sentence for each. Queues with the same
/// fault share a sentence.
pub fn faults(plan: &Plan, queues: &[SeenQueue], declares: bool) -> Vec<String> {
    let mut faults: Vec<(String, Vec<&str>)> = Vec::new();
    for planned in plan.queues() {
        let Some(seen) = queues.iter().find(|seen| seen.name == planned.name.as_str()) else { continue };
        for detail in queue_details(planned, seen, declares) {
            match faults.iter_mut().find(|(known, _)| *known == detail) {
                Some((_, names)) => names.push(planned.name.as_str()),
                None => faults.push((detail, vec![planned.name.as_str()])),
            }
        }
    }
    let sentence = |(detail, names): (String, Vec<&str>)| match names.as_slice() {
        [one] => format!("queue {one}: {detail}"),
        [one, other] => format!("queues {one} and {other}: {detail}"),
        all => format!("queues {} and {} more: {detail}", all[..2].join(", "), all.len() - 2),
    };
    faults.into_iter().map(sentence).collect()
}

/// Returns whether the broker says for each queue of the plan which policies apply to it.
pub fn is_complete(plan: &Plan, queues: &[SeenQueue]) -> bool {
    let known = |name: &str| queues.iter().any(|seen| seen.name == name && seen.policies().is_some());
    plan.queues().iter().all(|planned| known(planned.name.as_str()))
}

fn queue_details(planned: &Queue, seen: &SeenQueue, declares: bool) -> Vec<String> {
    let mut details = arguments(planned, seen, declares);
    details.extend(policies(planned, seen));
    details
}

#[cfg(test)]
mod tests;
