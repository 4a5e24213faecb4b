//! Reads the keys `webhook` and `webhooks` of organizations and campaigns.

use std::{collections::BTreeMap, ops::RangeInclusive, sync::Arc};

use super::{
    answers, ca_certificate, client_certificate,
    declared::{DeclaredWebhook, DeclaredWebhooks},
    document::{Entry, KeyPath, Node, Value},
    event_set::EventSet,
    fields::{Fields, ID_RULE, Said, is_id, listed, nearest},
    headers, oauth2,
    problem::{Place, Problems},
    secrets::{SecretText, Vault},
    url,
};
use crate::{delivery::signature::SigningSecret, event::EventKind};

/// Retries after the first attempt.
const RETRY_ATTEMPTS: RangeInclusive<u32> = 1..=10;

/// Seconds for one whole exchange.
const TIMEOUT: RangeInclusive<u32> = 1..=120;

/// Attempts in flight over all workers.
const MAX_IN_FLIGHT: RangeInclusive<u32> = 1..=1000;

/// Attempts per second over all workers. The slowest rate is one in ten seconds. Jobs wait for their turn on the delay
/// ladder, and a slower target is better switched off.
const MAX_PER_SECOND: RangeInclusive<f64> = 0.1..=10_000.0;

/// The keys of a webhook.
pub(super) const KEYS: [&str; 16] = [
    "enabled",
    "url",
    "events",
    "headers",
    "retry_attempts",
    "timeout",
    "max_in_flight",
    "max_per_second",
    "accept",
    "never_retry",
    "accept_if",
    "keep_refused",
    "signing_secrets",
    "client_certificate",
    "ca_certificate",
    "oauth2",
];

/// Reads `webhook` or `webhooks` of a scope. Both together are an error.
pub(super) fn read(scope: &Fields<'_>, vault: &mut Vault<'_>, problems: &mut Problems) -> DeclaredWebhooks {
    match (scope.get("webhook"), scope.get("webhooks")) {
        (None, None) => DeclaredWebhooks::Nothing,
        (Some(entry), None) => single(entry, scope, vault, problems),
        (None, Some(entry)) => named(entry, scope, vault, problems),
        (Some(_), Some(entry)) => {
            let text = "stands beside `webhook`; use one of them: `webhook` for one target, `webhooks` for several";
            problems.error(&entry.place, scope.path.key("webhooks"), text);
            DeclaredWebhooks::Unusable(entry.place.clone())
        }
    }
}

fn single(entry: &Entry, scope: &Fields<'_>, vault: &mut Vault<'_>, problems: &mut Problems) -> DeclaredWebhooks {
    let path = scope.path.key("webhook");
    if let Value::List(_) | Value::Nothing = entry.node.value {
        return unusable(
            entry,
            scope,
            "one map of keys; a list of several targets is written under `webhooks`",
            problems,
        );
    }
    let Some(fields) = Fields::of(&entry.node, &path, problems) else {
        return DeclaredWebhooks::Unusable(entry.place.clone());
    };
    fields.expect(&KEYS, |key| (key == "name").then_some("only the targets of a `webhooks` list have names"), problems);
    let webhook = block(&fields, None, entry.place.clone(), vault, problems);
    DeclaredWebhooks::Single(entry.place.clone(), Box::new(webhook))
}

/// Most targets of a scope. An event becomes one job for each, with a copy of its body.
const MOST_TARGETS: usize = 50;

/// Most signing secrets of a webhook. The whole body is signed with each.
const MOST_SECRETS: usize = 10;

fn named(entry: &Entry, scope: &Fields<'_>, vault: &mut Vault<'_>, problems: &mut Problems) -> DeclaredWebhooks {
    let path = scope.path.key("webhooks");
    let nodes = match &entry.node.value {
        Value::List(nodes) if !nodes.is_empty() => nodes,
        Value::List(_) => {
            problems.error(&entry.node.place, &path, "is empty; list at least one target or leave the key out");
            return DeclaredWebhooks::Unusable(entry.place.clone());
        }
        _ => return unusable(entry, scope, "a list of targets that each have a `name`", problems),
    };
    if nodes.len() > MOST_TARGETS {
        let text = format!("has {} targets, but must have at most {MOST_TARGETS}", nodes.len());
        problems.error(&entry.node.place, &path, text);
        return DeclaredWebhooks::Unusable(entry.place.clone());
    }
    let mut names = BTreeMap::new();
    let mut webhooks = Vec::new();
    for (index, node) in nodes.iter().enumerate() {
        let path = path.index(index);
        let Some(fields) = Fields::of(node, &path, problems) else { continue };
        let mut known = vec!["name"];
        known.extend(KEYS);
        fields.expect(&known, |_| None, problems);
        let name = target_name(&fields, node, &mut names, problems);
        webhooks.push(block(&fields, name, node.place.clone(), vault, problems));
    }
    DeclaredWebhooks::Named(entry.place.clone(), webhooks)
}

fn unusable(entry: &Entry, scope: &Fields<'_>, must: &str, problems: &mut Problems) -> DeclaredWebhooks {
    scope.wrong::<()>(entry, &entry.node.value, must, problems);
    DeclaredWebhooks::Unusable(entry.place.clone())
}

fn target_name<'n>(
    fields: &Fields<'n>,
    node: &Node,
    names: &mut BTreeMap<&'n str, usize>,
    problems: &mut Problems,
) -> Option<String> {
    if fields.get("name").is_none() {
        problems.error(&node.place, &fields.path, "lacks `name`, which tells the targets of a list apart");
    }
    let (name, place) = fields.text("name", "a text", problems).value().copied()?;
    if !is_id(name) {
        problems.error(place, fields.path.key("name"), format!("must be {ID_RULE}"));
        return None;
    }
    if let Some(line) = names.insert(name, place.line) {
        let text = format!("is the name of another target of this list too, on line {line}; names must differ");
        problems.error(place, fields.path.key("name"), text);
        return None;
    }
    Some(name.to_owned())
}

fn block(
    fields: &Fields<'_>,
    name: Option<String>,
    place: Place,
    vault: &mut Vault<'_>,
    problems: &mut Problems,
) -> DeclaredWebhook {
    DeclaredWebhook {
        name,
        place,
        path: fields.path.clone(),
        enabled: fields.truth("enabled", problems),
        url: url::read(fields, "url", "put them into an `Authorization` header instead", problems),
        events: events(fields, problems),
        headers: match fields.get("headers") {
            None => Vec::new(),
            Some(entry) => headers::read(&entry.node, &fields.path.key("headers"), vault, problems),
        },
        signing_secrets: signing_secrets(fields, vault, problems),
        client_certificate: shared(fields, "client_certificate", client_certificate::read, vault, problems),
        ca_certificate: shared(fields, "ca_certificate", ca_certificate::read, vault, problems),
        oauth2: shared(fields, "oauth2", oauth2::read, vault, problems),
        retry_attempts: fields.whole("retry_attempts", RETRY_ATTEMPTS, "a whole number of retries", problems),
        timeout: fields.seconds("timeout", TIMEOUT, problems),
        max_in_flight: fields.whole("max_in_flight", MAX_IN_FLIGHT, "a whole number of attempts", problems).map(Some),
        max_per_second: fields.number("max_per_second", MAX_PER_SECOND, "a number of attempts", problems).map(Some),
        answers: answers::read(fields, problems),
    }
}

/// Reads a key whose value has parts. Targets that inherit the value share it.
fn shared<T>(
    fields: &Fields<'_>,
    key: &str,
    read: fn(&Node, &KeyPath, &mut Vault<'_>, &mut Problems) -> Option<T>,
    vault: &mut Vault<'_>,
    problems: &mut Problems,
) -> Said<Arc<T>> {
    let Some(entry) = fields.get(key) else { return Said::Nothing };
    let value = read(&entry.node, &fields.path.key(key), vault, problems);
    value.map_or(Said::Unusable, |value| Said::Value(Arc::new(value)))
}

fn events(fields: &Fields<'_>, problems: &mut Problems) -> Said<EventSet> {
    let must = "a list of events, or \"*\" for all of them";
    let Some(entry) = fields.get("events") else { return Said::Nothing };
    let path = fields.path.key("events");
    let nodes = match &entry.node.value {
        Value::Text(text) if text == "*" => return Said::Value(EventSet::all()),
        Value::Text(text) if EventKind::parse(text).is_some() => {
            problems.error(&entry.node.place, path, format!("must be {must}; write [{text}]"));
            return Said::Unusable;
        }
        Value::List(nodes) => nodes,
        other => return fields.wrong(entry, other, must, problems),
    };
    if nodes.is_empty() {
        let text = "is empty; list at least one event, or write `enabled: false` to switch the webhook off";
        problems.error(&entry.node.place, path, text);
        return Said::Unusable;
    }
    let mut set = EventSet::NONE;
    let mut wrong = false;
    for (index, node) in nodes.iter().enumerate() {
        match event(node, set) {
            Ok(kind) => set = set.with(kind),
            Err(text) => {
                wrong = true;
                problems.error(&node.place, path.index(index), text);
            }
        }
    }
    if wrong { Said::Unusable } else { Said::Value(set) }
}

fn event(node: &Node, before: EventSet) -> Result<EventKind, String> {
    let Value::Text(text) = &node.value else {
        return Err(format!("is {}, but must be the name of an event", node.value.kind()));
    };
    let names = EventKind::ALL.map(EventKind::name);
    match EventKind::parse(text) {
        Some(kind) if before.contains(kind) => Err(format!("lists {kind} a second time")),
        Some(kind) => Ok(kind),
        None if text == "*" => {
            Err("stands in a list; for all events write \"*\" by itself, without brackets".to_owned())
        }
        None => Err(match nearest(text, &names) {
            Some(near) => format!("is not an event; did you mean `{near}`?"),
            None => format!("is not an event; events are {}", listed(&names)),
        }),
    }
}

fn signing_secrets(fields: &Fields<'_>, vault: &mut Vault<'_>, problems: &mut Problems) -> Said<Vec<SecretText>> {
    let Some(entry) = fields.get("signing_secrets") else { return Said::Nothing };
    let path = fields.path.key("signing_secrets");
    let nodes = match &entry.node.value {
        Value::List(nodes) if !nodes.is_empty() => nodes,
        Value::List(_) => {
            problems.error(&entry.node.place, path, "is empty; list at least one secret or leave the key out");
            return Said::Unusable;
        }
        other => return fields.wrong(entry, other, "a list of secrets, even if it is only one", problems),
    };
    if nodes.len() > MOST_SECRETS {
        let text = format!("has {} secrets, but must have at most {MOST_SECRETS}", nodes.len());
        problems.error(&entry.node.place, path, text);
        return Said::Unusable;
    }
    let mut secrets = Vec::new();
    for (index, node) in nodes.iter().enumerate() {
        let path = path.index(index);
        headers::note_in_clear(node, &path, vault);
        let Some(secret) = headers::secret(node, &path, vault, problems) else { continue };
        match SigningSecret::parse(secret.expose()) {
            Ok(_) => secrets.push(secret),
            Err(error) => problems.error(&node.place, path, format!("is not a signing secret: {error}")),
        }
    }
    if secrets.len() == nodes.len() { Said::Value(secrets) } else { Said::Unusable }
}
