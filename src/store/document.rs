//! One small tree for YAML and TOML alike, every node with its place, so that the schema is checked once and in the
//! same words for both.

use std::fmt;

use super::problem::Place;

/// A value and where it begins.
#[derive(Clone)]
pub(super) struct Node {
    pub place: Place,
    pub value: Value,
}

/// What a document can hold. Kinds that the schema never accepts (dates, huge numbers) keep their name only.
#[derive(Clone)]
pub(super) enum Value {
    Nothing,
    Bool(bool),
    Integer(i64),
    Fraction(f64),
    Text(String),
    Other(&'static str),
    List(Vec<Node>),
    Map(Vec<Entry>),
}

/// A number with a fraction or an exponent, if it is one that can be calculated with.
pub(super) fn fraction(number: f64) -> Value {
    if number.is_finite() { Value::Fraction(number) } else { Value::Other("a huge number") }
}

/// A key, where it stands, and its value.
#[derive(Clone)]
pub(super) struct Entry {
    pub key: String,
    pub place: Place,
    pub node: Node,
}

impl Value {
    /// What it is, for messages: never its contents.
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Value::Nothing => "nothing",
            Value::Bool(_) => "true or false",
            Value::Integer(_) => "a number",
            Value::Fraction(_) => "a number with a fraction",
            Value::Text(_) => "text",
            Value::Other(kind) => kind,
            Value::List(_) => "a list",
            Value::Map(_) => "a map",
        }
    }
}

/// Of a longer key, a path shows only the beginning. An id has at most 128 characters.
const LONGEST_KEY: usize = 256;

/// Where a value stands in its document: `organizations.acme.webhooks[1].url`.
#[derive(Clone, Default)]
pub(super) struct KeyPath(String);

impl KeyPath {
    /// The path of `key` in the map at this path; a key that would be misread is quoted.
    pub(super) fn key(&self, key: &str) -> KeyPath {
        // No key that means anything is so long, and a path stands at everything below it.
        let key = key.char_indices().nth(LONGEST_KEY).map_or(key, |(end, _)| &key[..end]);
        let plain = !key.is_empty() && key.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-');
        let key = if plain { key.to_owned() } else { format!("{key:?}") };
        KeyPath(if self.0.is_empty() { key } else { format!("{}.{key}", self.0) })
    }

    /// The path of an entry of the list at this path, counted from 0 as most tools do.
    pub(super) fn index(&self, index: usize) -> KeyPath {
        KeyPath(format!("{}[{index}]", self.0))
    }
}

impl fmt::Display for KeyPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
