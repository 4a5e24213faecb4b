//! One attempt to load a store: read, parse, check, complete, and take the digest of everything that was read.

use std::{collections::BTreeMap, path::Path};

use aws_lc_rs::digest::{Context, SHA256};

use super::{
    declared::Declared,
    effective,
    files::{self, Format, Source},
    problem::Problems,
    resolve::Store,
    schema,
    secrets::{self, Environment, InClear, Reference, Vault},
    toml_text, yaml,
};
use crate::settings;

/// Loads the store at `path` (file or directory), or returns all its problems.
pub fn load(path: &Path, secrets: &settings::Secrets) -> Result<Store, Problems> {
    attempt(path, secrets, process_environment).result
}

/// Looks up a variable in the environment of this process.
pub(super) fn process_environment(name: &str) -> Option<std::ffi::OsString> {
    std::env::var_os(name)
}

/// The result of an attempt, successful or not.
pub(super) struct Attempt {
    pub result: Result<Store, Problems>,
    /// Digest of everything that was read. The same digest means the same result.
    pub digest: Digest,
    /// The variables and secret files to which the store refers.
    pub references: Vec<Reference>,
}

/// SHA-256 over files and secrets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Digest([u8; 32]);

impl Digest {
    /// Returns the first 12 hexadecimal digits, which are short enough to read aloud.
    fn revision(&self) -> String {
        self.0.iter().take(6).map(|byte| format!("{byte:02x}")).collect()
    }
}

/// Loads a store, and takes the digest of everything that it read.
pub(super) fn attempt(path: &Path, secrets: &settings::Secrets, environment: Environment) -> Attempt {
    let reading = in_its_own_thread(|| read(path, secrets, environment));
    let Reading { declared, mut problems, digest, references } = reading;
    let organizations = effective::organizations(&declared, &mut problems);
    problems.sort();
    let result = if problems.has_errors() {
        Err(problems)
    } else {
        let default = declared.default_organization.as_ref().map(|(id, _)| id.clone());
        Ok(Store::new(organizations, default, digest.revision(), problems))
    };
    // A thread keeps some of the memory that it frees, until it ends.
    in_its_own_thread(move || drop(declared));
    Attempt { result, digest, references }
}

/// Runs `work` in a thread of its own. Documents take several times the memory of the store made from them. The
/// allocator gives each thread its own arena, so the memory of this one goes back to the system afterwards. The figures
/// are in docs/contributing/benchmark-log.md.
fn in_its_own_thread<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| scope.spawn(work).join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
}

/// The values of the files, and the digest of everything that was read.
struct Reading {
    declared: Declared,
    problems: Problems,
    digest: Digest,
    references: Vec<Reference>,
}

fn read(path: &Path, secrets: &settings::Secrets, environment: Environment) -> Reading {
    let mut problems = Problems::default();
    let mut vault = Vault::new(secrets, environment);
    let sources = files::read(path, &mut problems);
    let unread = problems.to_string();
    let mut declared = Declared { incomplete: !problems.is_empty(), ..Declared::default() };
    for source in &sources {
        match document(source, &mut problems) {
            Some(document) => schema::read(&document, &mut declared, &mut vault, &mut problems),
            None => declared.incomplete = true,
        }
    }
    for source in sources.iter().filter(|source| source.open_to_all) {
        if let Some(InClear { count, place, path }) = vault.in_clear(&source.file) {
            let more = if *count == 1 { String::new() } else { format!(", the first of {count} in this file") };
            let text = format!(
                "is a secret in plain text{more}, which every user of this machine may read; put it into \
                 `${{VARIABLES}}` or a file of its own, or take that right away (chmod o-r)"
            );
            problems.warning(place, path, text);
        }
    }
    schema::check_whole(&declared, &path.display().to_string(), &mut problems);
    let digest = digest(&sources, &unread, vault.readings());
    let references = vault.readings().keys().cloned().collect();
    Reading { declared, problems, digest, references }
}

/// Returns the digest that an attempt would have now, if the files still have these `references`. It parses nothing, so
/// it is cheap enough for every second.
pub(super) fn look(
    path: &Path,
    secrets: &settings::Secrets,
    environment: Environment,
    references: &[Reference],
) -> Digest {
    let mut problems = Problems::default();
    let sources = files::read(path, &mut problems);
    let mut vault = Vault::new(secrets, environment);
    for reference in references {
        vault.read(reference.clone());
    }
    digest(&sources, &problems.to_string(), vault.readings())
}

fn document(source: &Source, problems: &mut Problems) -> Option<super::document::Node> {
    let text = source.text(problems)?;
    match source.format {
        Format::Yaml => yaml::read(&source.file, text, problems),
        Format::Toml => toml_text::read(&source.file, text, problems),
    }
}

/// Digests each part with its length, so that two different stores never look the same.
fn digest(sources: &[Source], unread: &str, readings: &BTreeMap<Reference, secrets::Reading>) -> Digest {
    let mut context = Context::new(&SHA256);
    let mut add = |bytes: &[u8]| {
        context.update(&(bytes.len() as u64).to_be_bytes());
        context.update(bytes);
    };
    add(unread.as_bytes());
    for source in sources {
        add(source.file.as_bytes());
        add(&source.bytes);
    }
    for (reference, reading) in readings {
        let (kind, name) = match reference {
            Reference::Variable(name) => (&b"variable"[..], name),
            Reference::File(name) => (&b"file"[..], name),
        };
        add(kind);
        add(name.as_bytes());
        match reading {
            Ok(bytes) => add(bytes),
            Err(text) => add(text.as_bytes()),
        }
    }
    let mut digest = Digest([0; 32]);
    digest.0.copy_from_slice(context.finish().as_ref());
    digest
}
