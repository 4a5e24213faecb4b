//! Checks that the documents are true. It finds them itself: `README.md`, `SECURITY.md`, `ARCHITECTURE.md`,
//! `CHANGELOG.md` and all pages under `docs/`.

mod circles; // no files import each other in a circle
mod commands; // each command line that a document shows is valid
mod generated; // the generated parts are up to date
mod limits; // the page about limits has the same numbers as the code
mod links; // links are valid, and each page is near the README
mod markdown; // just enough Markdown to find the claims of a document
mod names; // named settings, metrics, tests, paths and pages exist
mod permissions; // the permissions shown are enough
mod samples; // the stores, settings and events shown are valid
mod tables; // each table is complete

use std::path::{Path, PathBuf};

/// One document: its path from the root of the repository, and its text.
struct Document {
    path: String,
    text: String,
}

/// Returns all documents, ordered by path.
fn documents() -> Vec<Document> {
    let pages = files_below("docs").into_iter().filter(|path| path.ends_with(".md"));
    let at_the_root = ["README.md", "SECURITY.md", "ARCHITECTURE.md", "CHANGELOG.md"].map(str::to_owned);
    let mut documents: Vec<_> =
        at_the_root.into_iter().chain(pages).map(|path| Document { text: read(&path), path }).collect();
    documents.sort_by(|one, other| one.path.cmp(&other.path));
    assert!(documents.len() >= 20, "only {} documents were found", documents.len());
    documents
}

/// Lists all files below a directory, as paths from the root of the repository, without the outputs of builds.
fn files_below(directory: &str) -> Vec<String> {
    let mut files = Vec::new();
    let mut directories = vec![PathBuf::from(directory)];
    while let Some(directory) = directories.pop() {
        let entries =
            std::fs::read_dir(root().join(&directory)).unwrap_or_else(|error| panic!("{directory:?}: {error}"));
        for entry in entries.map(|entry| entry.expect("an entry")) {
            let path = directory.join(entry.file_name());
            match entry.file_type().expect("a type").is_dir() {
                true if path.ends_with("target") || path.ends_with("node_modules") => {}
                true => directories.push(path),
                false => files.push(path.to_string_lossy().into_owned()),
            }
        }
    }
    files
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(document: &str) -> String {
    std::fs::read_to_string(root().join(document)).unwrap_or_else(|error| panic!("{document}: {error}"))
}
