//! Reads the keys of one map of the document: right types, right ranges, no unknown keys.

use std::{ops::RangeInclusive, time::Duration};

use super::{
    document::{Entry, KeyPath, Node, Value},
    problem::{Place, Problems},
};
use crate::duration;

/// What a store says of one key.
#[derive(Clone)]
pub(super) enum Said<T> {
    /// The key is not there.
    Nothing,
    /// The key is there, but what it says is already among the problems.
    Unusable,
    /// The key is there and right.
    Value(T),
}

impl<T> Said<T> {
    /// The value, if there is a right one.
    pub(super) fn value(&self) -> Option<&T> {
        match self {
            Said::Value(value) => Some(value),
            Said::Nothing | Said::Unusable => None,
        }
    }

    /// The same with another value.
    pub(super) fn map<U>(self, change: impl FnOnce(T) -> U) -> Said<U> {
        match self {
            Said::Nothing => Said::Nothing,
            Said::Unusable => Said::Unusable,
            Said::Value(value) => Said::Value(change(value)),
        }
    }

    /// Whether the key is there at all.
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
    /// Where the map stands in the document.
    pub path: KeyPath,
}

impl<'n> Fields<'n> {
    /// The entries of `node`, which must be a map. An empty value (`ABC:` in YAML) is an empty map.
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

    /// All entries with their paths: for maps whose keys are ids or header names.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&'n Entry, KeyPath)> {
        self.entries.iter().map(|entry| (entry, self.path.key(&entry.key)))
    }

    /// The entry of a key.
    pub(super) fn get(&self, key: &str) -> Option<&'n Entry> {
        self.entries.iter().find(|entry| entry.key == key)
    }

    /// Reports keys that are not `known`, with the nearest one that is. `elsewhere` may know where a key belongs.
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

    /// `true` or `false`.
    pub(super) fn truth(&self, key: &str, problems: &mut Problems) -> Said<bool> {
        let Some(entry) = self.get(key) else { return Said::Nothing };
        match &entry.node.value {
            Value::Bool(truth) => Said::Value(*truth),
            other => self.wrong(entry, other, "`true` or `false` (without quotes)", problems),
        }
    }

    /// A whole number; `what` says what it counts: "a whole number of seconds" for example.
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

    /// A number, with or without a fraction; `what` says what it counts.
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
            // No number of this size loses a digit that matters.
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

    /// Whole seconds: a number, or a text with a unit, such as `30` and `30s`.
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

    /// A text.
    pub(super) fn text(&self, key: &str, what: &str, problems: &mut Problems) -> Said<(&'n str, &'n Place)> {
        let Some(entry) = self.get(key) else { return Said::Nothing };
        match &entry.node.value {
            Value::Text(text) => Said::Value((text, &entry.node.place)),
            other => self.wrong(entry, other, what, problems),
        }
    }

    /// Reports that an entry is of another kind than it must be.
    pub(super) fn wrong<T>(&self, entry: &Entry, is: &Value, must: &str, problems: &mut Problems) -> Said<T> {
        let is = match is {
            Value::Nothing => "has no value".to_owned(),
            other => format!("is {}", other.kind()),
        };
        problems.error(&entry.node.place, self.path.key(&entry.key), format!("{is}, but must be {must}"));
        Said::Unusable
    }
}

/// Whether `id` can name an organization, a campaign or a target: 1 to 128 of `A-Z a-z 0-9 . _ : -`.
pub fn is_id(id: &str) -> bool {
    (1..=128).contains(&id.len()) && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._:-".contains(&byte))
}

/// What an id may be, for messages.
pub(super) const ID_RULE: &str = "1 to 128 of the characters A-Z a-z 0-9 . _ : -";

/// The known word that `word` was probably meant to be. Case, `-` and `_` do not count.
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

/// "`a`, `b` and `c`"
pub(super) fn listed(words: &[&str]) -> String {
    let quoted: Vec<_> = words.iter().map(|word| format!("`{word}`")).collect();
    match quoted.split_last() {
        None => "none".to_owned(),
        Some((only, [])) => only.clone(),
        Some((last, before)) => format!("{} and {last}", before.join(", ")),
    }
}
