//! Reads the keys of one map of the document. Checks types and ranges, and reports unknown keys.

use std::{ops::RangeInclusive, time::Duration};

use super::{
    document::{Entry, KeyPath, Node, Value},
    problem::{Place, Problems},
};
use crate::duration;

/// The value that a store gives to one key.
#[derive(Clone)]
pub(super) enum Said<T> {
    /// The key is not set.
    Nothing,
    /// The key is set, but its value is invalid and already among the problems.
    Unusable,
    /// The key is set to a valid value.
    Value(T),
}

impl<T> Said<T> {
    /// Returns the value, if there is a valid one.
    pub(super) fn value(&self) -> Option<&T> {
        match self {
            Said::Value(value) => Some(value),
            Said::Nothing | Said::Unusable => None,
        }
    }

    /// Converts a valid value.
    pub(super) fn map<U>(self, change: impl FnOnce(T) -> U) -> Said<U> {
        match self {
            Said::Nothing => Said::Nothing,
            Said::Unusable => Said::Unusable,
            Said::Value(value) => Said::Value(change(value)),
        }
    }

    /// Returns whether the key is set, to a valid value or not.
    pub(super) fn is_said(&self) -> bool {
        match self {
            Said::Nothing => false,
            Said::Unusable | Said::Value(_) => true,
        }
    }
}

/// The entries of one map.
pub(super) struct Fields<'n> {
    entries: &'n [Entry],
    /// The path of the map in the document.
    pub path: KeyPath,
}

impl<'n> Fields<'n> {
    /// Takes the entries of `node`, which must be a map. An empty value (`ABC:` in YAML) counts as an empty map.
    pub(super) fn of(node: &'n Node, path: &KeyPath, problems: &mut Problems) -> Option<Fields<'n>> {
        match &node.value {
            Value::Map(entries) => Some(Fields { entries, path: path.clone() }),
            Value::Nothing => Some(Fields { entries: &[], path: path.clone() }),
            other => {
                problems.error(&node.place, path, format!("is {}, but must be a map of keys", other.kind()));
                None
            }
        }
    }

    /// Iterates over all entries with their paths, for maps whose keys are ids or header names.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&'n Entry, KeyPath)> {
        self.entries.iter().map(|entry| (entry, self.path.key(&entry.key)))
    }

    /// Returns the entry of a key.
    pub(super) fn get(&self, key: &str) -> Option<&'n Entry> {
        self.entries.iter().find(|entry| entry.key == key)
    }

    /// Reports each key that is not `known`, and suggests the nearest one. `elsewhere` returns advice for a key that
    /// belongs to another map.
    pub(super) fn expect(&self, known: &[&str], elsewhere: fn(&str) -> Option<&'static str>, problems: &mut Problems) {
        for (entry, path) in self.iter().filter(|(entry, _)| !known.contains(&entry.key.as_str())) {
            let advice = match (elsewhere(&entry.key), nearest(&entry.key, known)) {
                (Some(advice), _) => advice.to_owned(),
                (None, Some(near)) => format!("did you mean `{near}`?"),
                (None, None) => format!("known keys here are {}", listed(known)),
            };
            problems.error(&entry.place, path, format!("is an unknown key; {advice}"));
        }
    }

    /// Reads `true` or `false`.
    pub(super) fn truth(&self, key: &str, problems: &mut Problems) -> Said<bool> {
        let Some(entry) = self.get(key) else { return Said::Nothing };
        match &entry.node.value {
            Value::Bool(truth) => Said::Value(*truth),
            other => self.wrong(entry, other, "`true` or `false` (without quotes)", problems),
        }
    }

    /// Reads a whole number. `what` describes it in messages, for example "a whole number of retries".
    pub(super) fn whole(
        &self,
        key: &str,
        range: RangeInclusive<u32>,
        what: &str,
        problems: &mut Problems,
    ) -> Said<u32> {
        let Some(entry) = self.get(key) else { return Said::Nothing };
        let right = format!("{what} from {} to {}", range.start(), range.end());
        match &entry.node.value {
            Value::Integer(number) => match u32::try_from(*number) {
                Ok(number) if range.contains(&number) => Said::Value(number),
                _ => {
                    let text = format!("is {number}, but must be {right}");
                    problems.error(&entry.node.place, self.path.key(key), text);
                    Said::Unusable
                }
            },
            Value::Text(text) => {
                let right = match text.trim().parse::<u32>() {
                    Ok(number) if range.contains(&number) => format!("{right}; write {number} without quotes"),
                    _ => right,
                };
                self.wrong(entry, &entry.node.value, &right, problems)
            }
            other => self.wrong(entry, other, &right, problems),
        }
    }

    /// Reads a number, with or without a fraction. `what` describes it in messages.
    pub(super) fn number(
        &self,
        key: &str,
        range: RangeInclusive<f64>,
        what: &str,
        problems: &mut Problems,
    ) -> Said<f64> {
        let Some(entry) = self.get(key) else { return Said::Nothing };
        let right = format!("{what} from {} to {}", range.start(), range.end());
        let number = match &entry.node.value {
            // Only numbers far out of range lose digits.
            Value::Integer(number) => *number as f64,
            Value::Fraction(number) => *number,
            other => return self.wrong(entry, other, &right, problems),
        };
        if range.contains(&number) {
            return Said::Value(number);
        }
        problems.error(&entry.node.place, self.path.key(key), format!("is {number}, but must be {right}"));
        Said::Unusable
    }

    /// Reads whole seconds: a number such as `30`, or a text with a unit such as `30s`.
    pub(super) fn seconds(&self, key: &str, range: RangeInclusive<u32>, problems: &mut Problems) -> Said<Duration> {
        let Some(entry) = self.get(key) else { return Said::Nothing };
        let seconds = match &entry.node.value {
            Value::Integer(number) => u64::try_from(*number).ok(),
            Value::Text(text) => duration::parse(text).ok().filter(|it| it.subsec_nanos() == 0).map(|it| it.as_secs()),
            _ => None,
        };
        match seconds {
            Some(seconds) if u32::try_from(seconds).is_ok_and(|it| range.contains(&it)) => {
                Said::Value(Duration::from_secs(seconds))
            }
            _ => {
                let must = format!("whole seconds from {} to {}, such as 30 or 30s", range.start(), range.end());
                match &entry.node.value {
                    Value::Integer(number) => {
                        let text = format!("is {number}, but must be {must}");
                        problems.error(&entry.node.place, self.path.key(key), text);
                        Said::Unusable
                    }
                    other => self.wrong(entry, other, &must, problems),
                }
            }
        }
    }

    /// Reads a text. `what` describes it in messages.
    pub(super) fn text(&self, key: &str, what: &str, problems: &mut Problems) -> Said<(&'n str, &'n Place)> {
        let Some(entry) = self.get(key) else { return Said::Nothing };
        match &entry.node.value {
            Value::Text(text) => Said::Value((text, &entry.node.place)),
            other => self.wrong(entry, other, what, problems),
        }
    }

    /// Reports that the value of an entry has the wrong kind.
    pub(super) fn wrong<T>(&self, entry: &Entry, is: &Value, must: &str, problems: &mut Problems) -> Said<T> {
        let is = match is {
            Value::Nothing => "has no value".to_owned(),
            other => format!("is {}", other.kind()),
        };
        problems.error(&entry.node.place, self.path.key(&entry.key), format!("{is}, but must be {must}"));
        Said::Unusable
    }
}

/// Returns whether `id` can name an organization, a campaign or a target: 1 to 128 of `A-Z a-z 0-9 . _ : -`.
pub fn is_id(id: &str) -> bool {
    (1..=128).contains(&id.len()) && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._:-".contains(&byte))
}

/// The rule for ids, in words for messages.
pub(super) const ID_RULE: &str = "1 to 128 of the characters A-Z a-z 0-9 . _ : -";

/// Returns the known word that `word` probably means. Ignores case, `-`, `_` and blanks.
pub fn nearest<'k>(word: &str, known: &[&'k str]) -> Option<&'k str> {
    let plain = |word: &str| word.to_lowercase().replace(['-', '_', ' '], "");
    let meant = plain(word);
    known
        .iter()
        .map(|known| (strsim::osa_distance(&meant, &plain(known)), *known))
        .filter(|(distance, known)| *distance <= 1.max(known.len() / 3))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, known)| known)
}

/// Lists words in the form "`a`, `b` and `c`".
pub(super) fn listed(words: &[&str]) -> String {
    let quoted: Vec<_> = words.iter().map(|word| format!("`{word}`")).collect();
    match quoted.split_last() {
        None => "none".to_owned(),
        Some((only, [])) => only.clone(),
        Some((last, before)) => format!("{} and {last}", before.join(", ")),
    }
}
