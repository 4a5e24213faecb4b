//! The document tree, the same for YAML and TOML. Every node has its place, so one schema check with one set of
//! messages serves both formats.

use std::fmt;

use super::problem::Place;

/// A value, and the place where it begins.
#[derive(Clone)]
pub(super) struct Node {
    pub place: Place,
    pub value: Value,
}

/// The value of a node. A kind that the schema never accepts (a date, a huge number) keeps its name only.
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

/// Converts a number with a fraction or an exponent. Infinity and NaN become [`Value::Other`].
pub(super) fn fraction(number: f64) -> Value {
    if number.is_finite() { Value::Fraction(number) } else { Value::Other("a huge number") }
}

/// A key, its place, and its value.
#[derive(Clone)]
pub(super) struct Entry {
    pub key: String,
    pub place: Place,
    pub node: Node,
}

impl Value {
    /// Names the kind of the value, for messages. Never shows its contents.
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

/// Most characters of a key that a path shows. An id has at most 128 characters.
const LONGEST_KEY: usize = 256;

/// The path of a value in its document: `organizations.acme.webhooks[1].url`.
#[derive(Clone, Default)]
pub(super) struct KeyPath(String);

impl KeyPath {
    /// Returns the path of `key` in the map at this path. Quotes a key that would be misread.
    pub(super) fn key(&self, key: &str) -> KeyPath {
        // A longer key is a mistake, and every value below it would repeat it in its path.
        let key = key.char_indices().nth(LONGEST_KEY).map_or(key, |(end, _)| &key[..end]);
        let plain = !key.is_empty() && key.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-');
        let key = if plain { key.to_owned() } else { format!("{key:?}") };
        KeyPath(if self.0.is_empty() { key } else { format!("{}.{key}", self.0) })
    }

    /// Returns the path of an entry of the list at this path. The first index is 0.
    pub(super) fn index(&self, index: usize) -> KeyPath {
        KeyPath(format!("{}[{index}]", self.0))
    }
}

impl fmt::Display for KeyPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
