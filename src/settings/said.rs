//! Stage one: what was said, and where. Three layers, the later before the earlier: compiled-in defaults, the file, the
//! environment. The `config` crate merges them; positions come from a second reading of the file with spans, because
//! merged values no longer know the line they stood on.

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

/// One value as it was said.
#[derive(Clone, Debug)]
pub(super) struct Word {
    /// Typed in a file, always text in the environment.
    pub kind: ValueKind,
    /// Where.
    pub place: Place,
}

/// What was said for each key; keys that nobody mentions (and that have no default) are missing.
pub(super) type Said = BTreeMap<&'static str, Word>;

/// Which file is read.
pub(super) enum Source<'a> {
    /// It must be there.
    Given(&'a Path),
    /// It may be missing.
    IfThere(&'a Path),
    /// None.
    Nothing,
}

/// Reads and merges all layers. Problems of form (unreadable, not TOML, unknown names) are added to `problems`; what
/// could be understood is returned all the same, so that its values are checked in the same go.
pub(super) fn hear(source: Source<'_>, env: impl Iterator<Item = (String, String)>, problems: &mut Problems) -> Said {
    let file = read(source, problems);
    let text = file.as_ref().map_or("", |(_, text)| text);
    let positions = file.as_ref().map(|(path, text)| positions(path, text, problems));
    let variables = variables(env, problems);

    // A file that is no TOML adds nothing, its problem has been noted.
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

/// Where each known key stands; unknown keys and sections become problems. The library's own error text is not used
/// beyond its message: it would quote the line, which may hold credentials.
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

/// Our variables by key. Empty ones count as not set: that is how compose files and charts leave a value out.
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

/// Values of the environment stay text (`try_parsing` would turn a prefix `007` into 7) and are read by the type of
/// their key in stage two, lists included.
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
