//! Header values and signing secrets: the only values of a store that may come from outside of it.
//!
//! A value is either text, in which `${NAME}` stands for an environment variable and `$$` for a dollar, or a map
//! `{ file: name, prefix: "Bearer " }` that names a file. A store may be edited by people who must not see the worker's
//! own secrets, and it decides where values are posted to. So variables must begin with `secrets.environment_prefix`,
//! and files must lie under `secrets.directory`, links followed. Nothing here prints a value, or has a `Debug` that could.

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

/// Largest secret file in bytes: no HTTP server takes a longer header.
const LARGEST_FILE: u64 = 64 * 1024;

/// How a variable is looked up: the process environment, or a fixed table in tests.
pub(super) type Environment = fn(&str) -> Option<OsString>;

/// A resolved value, wiped from memory when it is dropped. Has no `Debug` and no `Display` on purpose.
#[derive(Clone)]
pub(super) struct SecretText(Zeroizing<String>);

impl SecretText {
    /// The value itself: for headers and signatures only.
    pub(super) fn expose(&self) -> &str {
        &self.0
    }

    /// One for tests.
    #[cfg(test)]
    pub(super) fn of(text: &str) -> SecretText {
        SecretText(Zeroizing::new(text.to_owned()))
    }

    /// This value and then the other.
    pub(super) fn followed_by(mut self, other: &SecretText) -> SecretText {
        self.0.push_str(&other.0);
        self
    }
}

/// Something outside of the store that a store refers to.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Reference {
    Variable(String),
    File(String),
}

/// What a reference came to: the bytes, or why there are none, in words that hold no value.
pub(super) type Reading = Result<Zeroizing<Vec<u8>>, String>;

/// Resolves references, each one once, and remembers all of them: they are part of the store's revision.
pub(super) struct Vault<'s> {
    settings: &'s settings::Secrets,
    environment: Environment,
    readings: BTreeMap<Reference, Reading>,
    in_clear: BTreeMap<Arc<str>, InClear>,
}

/// The secrets that stand in a file themselves.
pub(super) struct InClear {
    pub count: usize,
    /// Where the first of them stands.
    pub place: Place,
    pub path: KeyPath,
}

impl<'s> Vault<'s> {
    pub(super) fn new(settings: &'s settings::Secrets, environment: Environment) -> Vault<'s> {
        Vault { settings, environment, readings: BTreeMap::new(), in_clear: BTreeMap::new() }
    }

    /// Fills in the variables of a text. The error says what is wrong and what would be right.
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

    /// The contents of a file under `secrets.directory`, without line breaks at the end.
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

    /// Looks a reference up, once.
    pub(super) fn read(&mut self, reference: Reference) -> &Reading {
        let Vault { settings, environment, readings, .. } = self;
        readings.entry(reference).or_insert_with_key(|reference| match reference {
            Reference::Variable(name) => read_variable(name, *environment),
            Reference::File(name) => read_file(name, settings.directory.as_deref()),
        })
    }

    /// Everything that was looked up, in a fixed order.
    pub(super) fn readings(&self) -> &BTreeMap<Reference, Reading> {
        &self.readings
    }

    /// Notes a secret that stands in its file.
    pub(super) fn stands_in_clear(&mut self, place: &Place, path: &KeyPath) {
        let first = || InClear { count: 0, place: place.clone(), path: path.clone() };
        self.in_clear.entry(place.file.clone()).or_insert_with(first).count += 1;
    }

    /// The secrets that stand in this file.
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
