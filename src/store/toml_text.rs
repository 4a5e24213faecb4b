//! Reads TOML text into the document tree. TOML itself forbids duplicate keys.

use std::sync::Arc;

use toml::{
    Spanned,
    de::{DeInteger, DeTable, DeValue},
};

use super::{
    document::{self, Entry, Node, Value},
    problem::{Place, Problems},
};

/// Reads one document. Returns `None` if it cannot be read; the reasons are among the problems.
pub(super) fn read(file: &Arc<str>, text: &str, problems: &mut Problems) -> Option<Node> {
    let lines = Lines::new(file, text);
    let (table, errors) = DeTable::parse_recoverable(text);
    for error in &errors {
        let place = lines.place(error.span().map_or(0, |span| span.start));
        problems.error(&place, "", format!("is not valid TOML: {}", error.message()));
    }
    let value = match table.into_inner() {
        table if table.is_empty() => Value::Nothing,
        table => lines.map(table),
    };
    errors.is_empty().then(|| Node { place: lines.place(0), value })
}

/// Length in bytes of the stretches whose characters are counted in advance.
const STRETCH: usize = 1024;

/// Turns byte offsets into places.
struct Lines<'t> {
    file: &'t Arc<str>,
    text: &'t str,
    starts: Vec<usize>,
    /// The number of characters before each stretch. Counting from the start of the line for every value would take the
    /// line's length times the number of its values.
    before: Vec<usize>,
}

impl<'t> Lines<'t> {
    fn new(file: &'t Arc<str>, text: &'t str) -> Lines<'t> {
        let starts = std::iter::once(0).chain(text.match_indices('\n').map(|(offset, _)| offset + 1)).collect();
        let before = text.as_bytes().chunks(STRETCH).scan(0, |sum, stretch| {
            let before = *sum;
            *sum += characters(stretch);
            Some(before)
        });
        Lines { file, text, starts, before: before.collect() }
    }

    fn place(&self, offset: usize) -> Place {
        let line = self.starts.partition_point(|start| *start <= offset);
        let start = self.starts[line - 1];
        let between = match self.text.as_bytes().get(start..offset) {
            Some(short) if short.len() <= STRETCH => characters(short),
            _ => self.characters(offset) - self.characters(start),
        };
        Place { file: self.file.clone(), line, column: between + 1 }
    }

    /// Returns the number of characters that begin before an offset.
    fn characters(&self, offset: usize) -> usize {
        let bytes = self.text.as_bytes();
        let stretch = (offset / STRETCH).min(self.before.len().saturating_sub(1));
        let rest = bytes.get(stretch * STRETCH..offset.min(bytes.len())).unwrap_or_default();
        self.before.get(stretch).copied().unwrap_or_default() + characters(rest)
    }

    fn node(&self, value: Spanned<DeValue<'_>>) -> Node {
        let place = self.place(value.span().start);
        let value = match value.into_inner() {
            DeValue::String(text) => Value::Text(text.into_owned()),
            DeValue::Integer(number) => integer(&number),
            DeValue::Float(number) => number.as_str().parse().map_or(Value::Other("a number"), document::fraction),
            DeValue::Boolean(truth) => Value::Bool(truth),
            DeValue::Datetime(_) => Value::Other("a date or time"),
            DeValue::Array(values) => Value::List(values.into_iter().map(|value| self.node(value)).collect()),
            DeValue::Table(table) => self.map(table),
        };
        Node { place, value }
    }

    /// Converts a table. The parser sorts entries by key; this restores the order of the file, as in YAML.
    fn map(&self, table: DeTable<'_>) -> Value {
        let mut entries: Vec<Entry> = table
            .into_iter()
            .map(|(key, value)| {
                let place = self.place(key.span().start);
                Entry { key: key.into_inner().into_owned(), place, node: self.node(value) }
            })
            .collect();
        entries.sort_by_key(|entry| (entry.place.line, entry.place.column));
        Value::Map(entries)
    }
}

/// Counts characters. In UTF-8 each has exactly one byte that is not a continuation byte.
fn characters(bytes: &[u8]) -> usize {
    bytes.iter().filter(|byte| !matches!(byte, 0x80..=0xbf)).count()
}

fn integer(number: &DeInteger<'_>) -> Value {
    i64::from_str_radix(number.as_str(), number.radix()).map_or(Value::Other("a huge number"), Value::Integer)
}
