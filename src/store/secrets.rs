//! Header values and secrets: the only values of a store that may come from outside its files.
//!
//! A value is a text or a map. In a text, `${NAME}` stands for an environment variable and `$$` for a dollar. A map
//! `{ file: name, prefix: "Bearer " }` names a file.
//!
//! The store decides which URL gets a value, and its authors may be people who must not see the worker's own secrets.
//! So variables must begin with `secrets.environment_prefix`, and files must be under `secrets.directory` after links
//! are resolved. Nothing here prints a value, or has a `Debug` that could.

use std::{
    collections::BTreeMap,
    ffi::OsString,
    fs::File,
    io::Read,
    path::{Component, Path},
    sync::Arc,
};

use zeroize::Zeroizing;

use super::{document::KeyPath, problem::Place};
use crate::{os_error, settings};

/// Largest secret file, in bytes. No HTTP server accepts a longer header.
const LARGEST_FILE: u64 = 64 * 1024;

/// Looks up a variable: in the environment of the process, or in a fixed table in tests.
pub(super) type Environment = fn(&str) -> Option<OsString>;

/// A resolved value, wiped from memory when it is dropped. It deliberately has no `Debug` and no `Display`.
#[derive(Clone)]
pub(super) struct SecretText(Zeroizing<String>);

impl SecretText {
    /// Returns the value itself. Callers must never print it.
    pub(super) fn expose(&self) -> &str {
        &self.0
    }

    /// Makes one for tests.
    #[cfg(test)]
    pub(super) fn of(text: &str) -> SecretText {
        SecretText(Zeroizing::new(text.to_owned()))
    }

    /// Appends the other value.
    pub(super) fn followed_by(mut self, other: &SecretText) -> SecretText {
        self.0.push_str(&other.0);
        self
    }
}

/// A source outside the store's files to which the store refers.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Reference {
    Variable(String),
    File(String),
}

/// The bytes of a reference, or why it cannot be used, in words without any value.
pub(super) type Reading = Result<Zeroizing<Vec<u8>>, String>;

/// Resolves each reference once, and remembers all results, because they are part of the store's revision.
pub(super) struct Vault<'s> {
    settings: &'s settings::Secrets,
    environment: Environment,
    readings: BTreeMap<Reference, Reading>,
    in_clear: BTreeMap<Arc<str>, InClear>,
}

/// The secrets that a file holds in plain text.
pub(super) struct InClear {
    pub count: usize,
    /// The place of the first of them.
    pub place: Place,
    pub path: KeyPath,
}

impl<'s> Vault<'s> {
    pub(super) fn new(settings: &'s settings::Secrets, environment: Environment) -> Vault<'s> {
        Vault { settings, environment, readings: BTreeMap::new(), in_clear: BTreeMap::new() }
    }

    /// Fills in the variables of a text. An error says what is wrong and how to fix it.
    pub(super) fn fill(&mut self, text: &str) -> Result<SecretText, String> {
        let mut filled = Zeroizing::new(String::with_capacity(text.len()));
        let mut rest = text;
        while let Some(dollar) = rest.find('$') {
            filled.push_str(&rest[..dollar]);
            rest = &rest[dollar + 1..];
            if let Some(after) = rest.strip_prefix('$') {
                filled.push('$');
                rest = after;
                continue;
            }
            let (name, after) = rest
                .strip_prefix('{')
                .and_then(|inside| inside.split_once('}'))
                .ok_or("has a `$` that begins no `${NAME}`; write `$$` for a literal dollar")?;
            filled.push_str(&self.variable(name)?);
            rest = after;
        }
        filled.push_str(rest);
        Ok(SecretText(filled))
    }

    /// Returns the contents of a file under `secrets.directory`, without line breaks at the end.
    pub(super) fn file(&mut self, name: &str) -> Result<SecretText, String> {
        let bytes = self.read(Reference::File(name.to_owned())).clone()?;
        let text =
            std::str::from_utf8(&bytes).map_err(|_| format!("names the file `{name}`, which is not UTF-8 text"))?;
        let text = text.trim_end_matches(['\r', '\n']);
        if text.is_empty() {
            return Err(format!("names the file `{name}`, which is empty"));
        }
        Ok(SecretText(Zeroizing::new(text.to_owned())))
    }

    /// Resolves a reference, or returns its earlier result.
    pub(super) fn read(&mut self, reference: Reference) -> &Reading {
        let Vault { settings, environment, readings, .. } = self;
        readings.entry(reference).or_insert_with_key(|reference| match reference {
            Reference::Variable(name) => read_variable(name, *environment),
            Reference::File(name) => read_file(name, settings.directory.as_deref()),
        })
    }

    /// Returns all results so far, in a fixed order.
    pub(super) fn readings(&self) -> &BTreeMap<Reference, Reading> {
        &self.readings
    }

    /// Notes a secret that a file holds in plain text.
    pub(super) fn stands_in_clear(&mut self, place: &Place, path: &KeyPath) {
        let first = || InClear { count: 0, place: place.clone(), path: path.clone() };
        self.in_clear.entry(place.file.clone()).or_insert_with(first).count += 1;
    }

    /// Returns the secrets that this file holds in plain text.
    pub(super) fn in_clear(&self, file: &str) -> Option<&InClear> {
        self.in_clear.get(file)
    }

    fn variable(&mut self, name: &str) -> Result<Zeroizing<String>, String> {
        let prefix = self.settings.environment_prefix.clone();
        let usable = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
            && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
        if !usable {
            return Err("has a `${...}` that names no variable; a name is made of letters, digits and `_`".to_owned());
        }
        if !name.starts_with(&prefix) {
            return Err(format!(
                "refers to the variable `{name}`, but variables of a store must begin with `{prefix}` \
                 (`secrets.environment_prefix`)"
            ));
        }
        let bytes = self.read(Reference::Variable(name.to_owned())).clone()?;
        let text = std::str::from_utf8(&bytes);
        let text = text.map_err(|_| format!("refers to the variable `{name}`, which is not UTF-8 text"))?;
        Ok(Zeroizing::new(text.to_owned()))
    }
}

fn read_variable(name: &str, environment: Environment) -> Reading {
    match environment(name) {
        None => Err(format!("refers to the variable `{name}`, which is not set")),
        Some(value) if value.is_empty() => Err(format!("refers to the variable `{name}`, which is empty")),
        Some(value) => Ok(value.into_encoded_bytes().into()),
    }
}

fn read_file(name: &str, directory: Option<&Path>) -> Reading {
    let directory = directory.ok_or_else(|| {
        format!("names the file `{name}`, but `secrets.directory` is not set, so files cannot be used")
    })?;
    let plain = Path::new(name).components().all(|part| matches!(part, Component::Normal(_)));
    if name.is_empty() || !plain {
        return Err(format!(
            "names the file `{name}`; write a name relative to `secrets.directory`, without `..` and without a leading `/`"
        ));
    }
    let unreadable =
        |error: std::io::Error| format!("names the file `{name}`, which cannot be read: {}", os_error::words(&error));
    let directory = directory.canonicalize().map_err(|error| {
        format!("names a file, but `secrets.directory` cannot be read: {}", os_error::words(&error))
    })?;
    let path = directory.join(name).canonicalize().map_err(unreadable)?;
    if !path.starts_with(&directory) {
        return Err(format!("names the file `{name}`, which is a link out of `secrets.directory`"));
    }
    if !std::fs::metadata(&path).map_err(unreadable)?.is_file() {
        return Err(format!("names `{name}`, which is not a regular file"));
    }
    let mut bytes = Zeroizing::new(Vec::new());
    File::open(&path).and_then(|file| file.take(LARGEST_FILE + 1).read_to_end(&mut bytes)).map_err(unreadable)?;
    if bytes.len() as u64 > LARGEST_FILE {
        return Err(format!("names the file `{name}`, which is larger than {} KiB", LARGEST_FILE / 1024));
    }
    Ok(bytes)
}
