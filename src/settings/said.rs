//! Stage one: collects the values that were set, with their places. There are three layers: compiled-in defaults, the
//! file, the environment. Later layers take precedence.
//!
//! The `config` crate merges the layers and loses the lines. So a second parse of the file, with spans, finds the
//! places.

use std::{
    borrow::Cow,
    collections::BTreeMap,
    io,
    ops::Range,
    path::{Path, PathBuf},
};

use config::{Config, Environment, File, FileFormat, Value, ValueKind};
use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use super::{
    keys,
    problem::{Place, Problems},
};
use crate::os_error;

/// The commented default file, compiled in.
pub(super) const DEFAULTS: &str = include_str!("../../config/leadhook.toml");

/// One value as it was set.
#[derive(Clone, Debug)]
pub(super) struct Word {
    /// Typed in a file; always text in the environment.
    pub kind: ValueKind,
    /// Where it was set.
    pub place: Place,
}

/// The value of each key. Keys that are not set and have no default are missing.
pub(super) type Said = BTreeMap<&'static str, Word>;

/// Which file to read.
pub(super) enum Source<'a> {
    /// This file, which must exist.
    Given(&'a Path),
    /// This file, which may be missing.
    IfThere(&'a Path),
    /// No file.
    Nothing,
}

/// Reads and merges all layers. Adds problems of form (unreadable, not TOML, unknown names) to `problems`. Returns the
/// rest anyway, so that its values are checked too.
pub(super) fn hear(source: Source<'_>, env: impl Iterator<Item = (String, String)>, problems: &mut Problems) -> Said {
    let file = read(source, problems);
    let text = file.as_ref().map_or("", |(_, text)| text);
    let positions = file.as_ref().map(|(path, text)| positions(path, text, problems));
    let variables = variables(env, problems);

    // A file that is not TOML adds nothing. Its problem is already noted.
    let text = if positions.is_some() { text } else { "" };
    let merged = merge(text, &variables).or_else(|_| merge("", &variables));
    let positions = positions.unwrap_or_default();
    let Ok(merged) = merged else {
        problems.add(Place::Default, None, "the settings could not be merged");
        return Said::new();
    };

    let mut said = Said::new();
    for key in keys::reference() {
        let Some(value) = lookup(&merged.cache, key.name) else { continue };
        let place = if variables.contains_key(key.name) {
            Place::Variable(key.variable())
        } else {
            positions.get(key.name).cloned().unwrap_or(Place::Default)
        };
        said.insert(key.name, Word { kind: value.kind.clone(), place });
    }
    said
}

fn read(source: Source<'_>, problems: &mut Problems) -> Option<(PathBuf, String)> {
    let (path, may_be_missing) = match source {
        Source::Given(path) => (path, false),
        Source::IfThere(path) => (path, true),
        Source::Nothing => return None,
    };
    match std::fs::read_to_string(path) {
        Ok(text) => Some((path.to_owned(), text)),
        Err(error) if may_be_missing && error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => {
            let text = match error.kind() {
                io::ErrorKind::InvalidData => "is not UTF-8 text".to_owned(),
                _ => os_error::words(&error),
            };
            problems.add(Place::WholeFile(path.to_owned()), None, text);
            None
        }
    }
}

/// Finds the place of each known key, and adds problems for unknown keys and sections. Uses only the message of a
/// library error: its full text quotes the line, which may hold credentials.
fn positions(path: &Path, text: &str, problems: &mut Problems) -> BTreeMap<&'static str, Place> {
    let at = |span: Range<usize>| {
        let (line, column) = line_and_column(text, span.start);
        Place::File { path: path.to_owned(), line, column }
    };
    let (document, errors) = DeTable::parse_recoverable(text);
    for error in &errors {
        let place = error.span().map_or_else(|| Place::WholeFile(path.to_owned()), at);
        problems.add(place, None, format!("is not TOML: {}", error.message()));
    }

    let mut found = BTreeMap::new();
    for (name, value) in document.get_ref() {
        let section = name.get_ref().as_ref();
        if keys::sections().all(|known| known != section) {
            problems.add(at(name.span()), Some(section), unknown_at_the_top(section, value.get_ref()));
            continue;
        }
        let DeValue::Table(table) = value.get_ref() else {
            problems.add(
                at(value.span()),
                Some(section),
                format!("is a section: write [{section}] and its keys below"),
            );
            continue;
        };
        for (name, value) in table {
            match known(section, name) {
                Ok(key) => {
                    found.insert(key, at(value.span()));
                }
                Err(key) => problems.add(at(name.span()), Some(&key), unknown_key(&key, section)),
            }
        }
    }
    found
}

fn known(section: &str, name: &Spanned<Cow<'_, str>>) -> Result<&'static str, String> {
    let key = format!("{section}.{}", name.get_ref());
    keys::find(&key).ok_or(key)
}

fn unknown_at_the_top(name: &str, value: &DeValue<'_>) -> String {
    let meant = if value.is_table() { keys::suggest_section(name) } else { keys::suggest(name) };
    match meant {
        Some(meant) => format!("unknown, did you mean {meant}?"),
        None => format!("unknown, the sections are {}", listed(keys::sections())),
    }
}

fn unknown_key(key: &str, section: &str) -> String {
    match keys::suggest(key) {
        Some(meant) => format!("unknown key, did you mean {meant}?"),
        None => format!("unknown key, [{section}] has {}", listed(keys::keys_of(section))),
    }
}

fn listed(names: impl Iterator<Item = &'static str>) -> String {
    names.collect::<Vec<_>>().join(", ")
}

/// Collects Leadhook's variables by key. An empty one counts as not set, because compose files and charts leave a value
/// out that way.
fn variables(
    env: impl Iterator<Item = (String, String)>,
    problems: &mut Problems,
) -> BTreeMap<&'static str, (String, String)> {
    let mut known = BTreeMap::new();
    for (name, value) in env {
        let Some(rest) = name.strip_prefix(keys::PREFIX) else {
            if let Some(key) = keys::with_single_underscores(&name) {
                let text = format!("is not read: did you mean {}, with two underscores?", keys::variable(key));
                problems.add(Place::Variable(name), None, text);
            }
            continue;
        };
        match keys::reference().iter().find(|key| key.variable() == name) {
            Some(_) if value.is_empty() => {}
            Some(key) => {
                known.insert(key.name, (name, value));
            }
            None => {
                let text = match keys::suggest(&rest.to_lowercase().replace("__", ".")) {
                    Some(meant) => format!("unknown variable, did you mean {}?", keys::variable(meant)),
                    None => format!(
                        "unknown variable, the keys are {}",
                        listed(keys::reference().iter().map(|key| key.name))
                    ),
                };
                problems.add(Place::Variable(name), None, text);
            }
        }
    }
    known
}

/// Merges the three layers. Values of the environment stay text, because `try_parsing` would turn a prefix `007` into
/// 7. Stage two reads them by the type of their key, lists included.
fn merge(text: &str, variables: &BTreeMap<&'static str, (String, String)>) -> Result<Config, config::ConfigError> {
    Config::builder()
        .add_source(File::from_str(DEFAULTS, FileFormat::Toml))
        .add_source(File::from_str(text, FileFormat::Toml))
        .add_source(
            Environment::with_prefix("LEADHOOK").separator("__").source(Some(variables.values().cloned().collect())),
        )
        .build()
}

fn lookup<'v>(root: &'v Value, key: &str) -> Option<&'v Value> {
    key.split('.').try_fold(root, |value, part| match &value.kind {
        ValueKind::Table(table) => table.get(part),
        _ => None,
    })
}

fn line_and_column(text: &str, offset: usize) -> (usize, usize) {
    let before = text.get(..offset).unwrap_or(text);
    let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
    (before.matches('\n').count() + 1, before[line_start..].chars().count() + 1)
}
