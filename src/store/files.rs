//! Reads the files of a store: one file, or every `*.yaml`, `*.yml` and `*.toml` of a directory.
//!
//! Names that begin with a dot are skipped. Kubernetes keeps the real files of a mounted ConfigMap in `..data`, and
//! editors give such names to swap files. Links are followed, because every visible file of a ConfigMap is a link.

use std::{
    fs::File,
    io::{self, Read},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    sync::Arc,
};

use super::problem::{Place, Problems};
use crate::os_error;

/// Most bytes of all files of a store together. 16 MiB hold tens of thousands of campaigns.
const LARGEST_STORE: u64 = 16 * 1024 * 1024;

/// One file of the store.
pub(super) struct Source {
    pub file: Arc<str>,
    pub format: Format,
    pub bytes: Vec<u8>,
    /// Whether every user of this machine may read it.
    pub open_to_all: bool,
}

/// The format of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    Yaml,
    Toml,
}

impl Format {
    fn of(path: &Path) -> Option<Format> {
        match path.extension()?.to_str()?.to_ascii_lowercase().as_str() {
            "yaml" | "yml" => Some(Format::Yaml),
            "toml" => Some(Format::Toml),
            _ => None,
        }
    }
}

impl Source {
    /// Returns the text without a byte order mark, or `None` if it is not UTF-8. The problem names the line.
    pub(super) fn text(&self, problems: &mut Problems) -> Option<&str> {
        match std::str::from_utf8(&self.bytes) {
            Ok(text) => Some(text.strip_prefix('\u{feff}').unwrap_or(text)),
            Err(error) => {
                let line = 1 + self.bytes[..error.valid_up_to()].iter().filter(|byte| **byte == b'\n').count();
                let place = Place { file: self.file.clone(), line, column: 1 };
                problems.error(&place, "", "is not UTF-8 text; save the file as UTF-8");
                None
            }
        }
    }
}

/// Reads every file of the store at `path`, in the order of their names. Adds a problem for each one that it cannot
/// read.
pub(super) fn read(path: &Path, problems: &mut Problems) -> Vec<Source> {
    let found = match list(path) {
        Ok(found) => found,
        Err(text) => {
            problems.general(text);
            return Vec::new();
        }
    };
    let mut left = LARGEST_STORE;
    let mut sources = Vec::with_capacity(found.len());
    for (path, format) in found {
        let name = path.display().to_string();
        match read_file(&path, left) {
            Ok((bytes, _)) if bytes.len() as u64 > left => {
                let limit = LARGEST_STORE / (1024 * 1024);
                problems.general(format!("{name}: with this file the store is larger than {limit} MiB"));
                return sources;
            }
            Ok((bytes, open_to_all)) => {
                left -= bytes.len() as u64;
                sources.push(Source { file: name.into(), format, bytes, open_to_all });
            }
            Err(error) => problems.general(format!("{name}: cannot be read: {}", os_error::words(&error))),
        }
    }
    sources
}

fn list(path: &Path) -> Result<Vec<(PathBuf, Format)>, String> {
    let name = path.display();
    let metadata = std::fs::metadata(path).map_err(|error| {
        format!("{name}: cannot be read: {}; `store.path` names the webhook store", os_error::words(&error))
    })?;
    if !metadata.is_dir() {
        let format = Format::of(path)
            .ok_or_else(|| format!("{name}: is of no known kind; a store file ends in .yaml, .yml or .toml"))?;
        return Ok(vec![(path.to_owned(), format)]);
    }
    let mut found = Vec::new();
    for entry in
        std::fs::read_dir(path).map_err(|error| format!("{name}: cannot be listed: {}", os_error::words(&error)))?
    {
        let entry = entry.map_err(|error| format!("{name}: cannot be listed: {}", os_error::words(&error)))?;
        let hidden = entry.file_name().as_encoded_bytes().starts_with(b".");
        let path = entry.path();
        if let Some(format) = Format::of(&path).filter(|_| !hidden && !path.is_dir()) {
            found.push((path, format));
        }
    }
    if found.is_empty() {
        return Err(format!("{name}: holds no store; a directory needs at least one file *.yaml, *.yml or *.toml"));
    }
    found.sort_by(|one, other| one.0.cmp(&other.0));
    Ok(found)
}

/// Returns the contents, and whether every user may read the file. Stops one byte after `limit`, so that the caller
/// notices the excess.
fn read_file(path: &Path, limit: u64) -> io::Result<(Vec<u8>, bool)> {
    let metadata = std::fs::metadata(path)?;
    if !metadata.is_file() {
        return Err(io::Error::other("it is not a regular file"));
    }
    let mut bytes = Vec::new();
    File::open(path)?.take(limit + 1).read_to_end(&mut bytes)?;
    Ok((bytes, metadata.permissions().mode() & 0o004 != 0))
}
