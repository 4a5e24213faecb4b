//! Reads the keys of a webhook that say what an answer means: `accept`, `never_retry`, `accept_if`, `keep_refused`.

use std::sync::Arc;

use super::{
    document::{Entry, KeyPath, Node, Value},
    fields::{Fields, Said},
    problem::Problems,
};
use crate::delivery::rules::{Condition, Statuses, is_pointer};

/// The four keys, as one webhook block sets them.
#[derive(Clone)]
pub(super) struct DeclaredAnswers {
    pub accept: Said<Statuses>,
    pub never_retry: Said<Statuses>,
    /// `None` if a campaign switches off the condition of its organization.
    pub accept_if: Said<Option<Arc<Condition>>>,
    pub keep_refused: Said<bool>,
}

impl DeclaredAnswers {
    /// None of the keys is set.
    pub(super) const NOTHING: DeclaredAnswers = DeclaredAnswers {
        accept: Said::Nothing,
        never_retry: Said::Nothing,
        accept_if: Said::Nothing,
        keep_refused: Said::Nothing,
    };
}

/// Reads the four keys of one block.
pub(super) fn read(fields: &Fields<'_>, problems: &mut Problems) -> DeclaredAnswers {
    let accept = statuses(fields, "accept", problems, |status| match status {
        200..=299 => Some("but every 2xx means delivered anyway; leave it out"),
        _ => None,
    });
    let never_retry = statuses(fields, "never_retry", problems, |status| match (status, accept.value()) {
        (200..=299, _) => Some("but a 2xx is never retried; `accept_if` judges a 2xx by its body"),
        (_, Some(accept)) if accept.contains(status) => {
            Some("which `accept` lists too; it means delivered or failed, not both")
        }
        _ => None,
    });
    DeclaredAnswers {
        accept,
        never_retry,
        accept_if: accept_if(fields, problems),
        keep_refused: fields.truth("keep_refused", problems),
    }
}

/// Reads a list of statuses from 200 to 599. `objection` returns why one of them is not allowed. A 1xx is not an
/// answer, but precedes one. An empty list is allowed: with it a campaign switches off the list of its organization.
fn statuses(
    fields: &Fields<'_>,
    key: &str,
    problems: &mut Problems,
    objection: impl Fn(u16) -> Option<&'static str>,
) -> Said<Statuses> {
    let Some(entry) = fields.get(key) else { return Said::Nothing };
    let Value::List(nodes) = &entry.node.value else {
        let must = "a list of statuses such as [409, 422]";
        return fields.wrong(entry, &entry.node.value, must, problems);
    };
    let mut statuses: Vec<u16> = Vec::new();
    for (index, node) in nodes.iter().enumerate() {
        let read = match status(node) {
            Ok(status) if statuses.contains(&status) => Err(format!("lists {status} a second time")),
            Ok(status) => objection(status).map_or(Ok(status), |text| Err(format!("is {status}, {text}"))),
            Err(text) => Err(text),
        };
        match read {
            Ok(status) => statuses.push(status),
            Err(text) => problems.error(&node.place, fields.path.key(key).index(index), text),
        }
    }
    if statuses.len() == nodes.len() { Said::Value(statuses.into_iter().collect()) } else { Said::Unusable }
}

fn status(node: &Node) -> Result<u16, String> {
    let must = "but must be a status from 300 to 599";
    match &node.value {
        Value::Integer(number) => match u16::try_from(*number) {
            Ok(status @ 200..=599) => Ok(status),
            _ => Err(format!("is {number}, {must}")),
        },
        other => Err(format!("is {}, {must}", other.kind())),
    }
}

/// Reads `accept_if: { json: /success, equals: true }`, or `accept_if: false` for no condition.
fn accept_if(fields: &Fields<'_>, problems: &mut Problems) -> Said<Option<Arc<Condition>>> {
    let Some(entry) = fields.get("accept_if") else { return Said::Nothing };
    match &entry.node.value {
        Value::Map(_) => {
            let condition = condition(&entry.node, &fields.path.key("accept_if"), problems);
            condition.map_or(Said::Unusable, |condition| Said::Value(Some(Arc::new(condition))))
        }
        Value::Bool(false) => Said::Value(None),
        other => {
            let must = "a map such as { json: /success, equals: true }, or `false` for no condition";
            fields.wrong(entry, other, must, problems)
        }
    }
}

fn condition(node: &Node, path: &KeyPath, problems: &mut Problems) -> Option<Condition> {
    let fields = Fields::of(node, path, problems)?;
    fields.expect(&["json", "equals"], |_| None, problems);
    for (key, what) in [("json", "a JSON Pointer such as /success"), ("equals", "the value that means delivered")] {
        if fields.get(key).is_none() {
            problems.error(&node.place, path, format!("lacks `{key}`, {what}"));
        }
    }
    let pointer = fields.text("json", "a JSON Pointer such as /success", problems).value().copied();
    let pointer = pointer.filter(|(text, place)| {
        let is_right = is_pointer(text);
        if !is_right {
            let text = "is not a JSON Pointer (RFC 6901); write /success, or /results/0/status for a value deeper down";
            problems.error(place, path.key("json"), text);
        }
        is_right
    });
    let equals = fields.get("equals").and_then(|entry| scalar(&fields, entry, problems));
    Some(Condition { pointer: pointer?.0.to_owned(), equals: equals? })
}

fn scalar(fields: &Fields<'_>, entry: &Entry, problems: &mut Problems) -> Option<serde_json::Value> {
    match &entry.node.value {
        Value::Nothing => Some(serde_json::Value::Null),
        Value::Bool(truth) => Some((*truth).into()),
        Value::Integer(number) => Some((*number).into()),
        Value::Fraction(number) => Some((*number).into()),
        Value::Text(text) => Some(text.as_str().into()),
        Value::Other(_) | Value::List(_) | Value::Map(_) => {
            fields.wrong::<()>(entry, &entry.node.value, "text, a number, `true`, `false` or `null`", problems);
            None
        }
    }
}
