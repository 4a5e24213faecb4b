//! Tests of the store as a whole. Most stores are written in YAML and in TOML, with the same expectations.

use std::{ffi::OsString, fs, os::unix::fs::PermissionsExt, path::PathBuf};

use tempfile::TempDir;

use super::{Problems, Store, load, secrets::Environment};
use crate::settings;

/// Mistakes of one format, and the parts of YAML that are refused.
mod documents;
/// Which files are read, how they are merged, and which ones are refused.
mod files;
/// Which values are inherited, and that credentials stay with their URL.
mod inheritance;
/// How a running worker notices changes.
mod reload;
/// Which target an event goes to, in every combination.
mod resolution;
/// Mistakes of a webhook with their places.
mod schema;
/// Mistakes of scopes and documents with their places.
mod scopes;
/// Variables and secret files.
mod secrets;

/// `whsec_` and 24 bytes in base64.
const SIGNING_SECRET: &str = "whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3";

/// Looks up a variable in the environment of all tests.
fn environment(name: &str) -> Option<OsString> {
    let value = match name {
        "WEBHOOK_TOKEN" => "t0p-s3cret",
        "WEBHOOK_OTHER" => "0ther",
        "WEBHOOK_SIGNING" => SIGNING_SECRET,
        "WEBHOOK_EMPTY" => "",
        "WEBHOOK_LINES" => "t0p-s3cret\nx",
        "DATABASE_PASSWORD" => "hunter2",
        _ => return None,
    };
    Some(value.into())
}

const ENVIRONMENT: Environment = environment;

fn settings(directory: Option<PathBuf>) -> settings::Secrets {
    settings::Secrets { environment_prefix: "WEBHOOK_".to_owned(), directory }
}

/// Loads a store of one or several files, given by name and text.
fn load_files(files: &[(&str, &str)]) -> Result<Store, Problems> {
    let directory = directory(files);
    load::attempt(directory.path(), &settings(None), ENVIRONMENT).result
}

fn directory(files: &[(&str, &str)]) -> TempDir {
    let directory = tempfile::tempdir().unwrap();
    for (name, text) in files {
        let path = directory.path().join(name);
        fs::write(&path, text).unwrap();
        // These files may hold secrets.
        fs::set_permissions(&path, PermissionsExt::from_mode(0o600)).unwrap();
    }
    directory
}

/// Loads both formats of one store; both must be valid.
fn both(yaml: &str, toml: &str) -> [(&'static str, Store); 2] {
    [
        ("YAML", load_files(&[("store.yaml", yaml)]).unwrap_or_else(|problems| panic!("{problems}\n{yaml}"))),
        ("TOML", load_files(&[("store.toml", toml)]).unwrap_or_else(|problems| panic!("{problems}\n{toml}"))),
    ]
}

/// Returns the problems of a store, one line each, with the names of files instead of their whole paths.
fn lines(problems: &Problems) -> Vec<String> {
    problems
        .iter()
        .map(|problem| match &problem.place {
            None => problem.to_string(),
            Some(place) => {
                let (_, name) = place.file.rsplit_once('/').unwrap();
                problem.to_string().replacen(&*place.file, name, 1)
            }
        })
        .collect()
}

/// Returns the problems of a store that must be broken.
fn broken(files: &[(&str, &str)]) -> Vec<String> {
    match load_files(files) {
        Ok(_) => panic!("the store was accepted: {files:?}"),
        Err(problems) => lines(&problems),
    }
}
