//! Links are valid, and a reader reaches each page from the README in two clicks.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Component, Path, PathBuf},
};

use super::{
    documents,
    markdown::{anchors, links},
    read, root,
};

/// Maximum size of the README in bytes, so that a newcomer reads all of it.
const LONGEST_README: usize = 6_000;

#[test]
fn every_link_leads_to_a_file_and_a_heading_of_it() {
    let mut wrong = Vec::new();
    for document in documents() {
        for link in links(&document.text).iter().filter(|link| !link.starts_with("http")) {
            let (file, anchor) = target(&document.path, link);
            if !root().join(&file).exists() {
                wrong.push(format!("{}: {link} is not there", document.path));
            } else if let Some(anchor) = anchor
                && !anchors(&read(&file)).contains(&anchor)
            {
                wrong.push(format!("{}: no heading for {link}", document.path));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn each_page_is_two_clicks_from_the_readme() {
    let pages: BTreeMap<_, _> = documents().into_iter().map(|document| (document.path, document.text)).collect();
    let mut reached = BTreeSet::from(["README.md".to_owned()]);
    for _ in 0..2 {
        let there = reached.iter().filter_map(|page| Some((page, pages.get(page)?)));
        let next: BTreeSet<_> =
            there.flat_map(|(page, text)| links(text).into_iter().map(|link| target(page, &link).0)).collect();
        reached.extend(next);
    }
    let far: Vec<_> = pages.keys().filter(|page| !reached.contains(*page)).collect();
    assert!(far.is_empty(), "more than two clicks from README.md: {far:?}");
}

#[test]
fn the_readme_is_short() {
    let bytes = read("README.md").len();
    assert!(bytes <= LONGEST_README, "README.md has {bytes} bytes, allowed are {LONGEST_README}");
}

/// Returns the file of a link, from the root of the repository, and its heading.
fn target(document: &str, link: &str) -> (String, Option<String>) {
    let (file, anchor) = link.split_once('#').map_or((link, None), |(file, anchor)| (file, Some(anchor.to_owned())));
    if file.is_empty() {
        return (document.to_owned(), anchor);
    }
    let mut path = PathBuf::new();
    for part in Path::new(document).parent().unwrap_or(Path::new("")).join(file).components() {
        match part {
            Component::ParentDir => assert!(path.pop(), "{document}: {link} leads out of the repository"),
            part => path.push(part),
        }
    }
    (path.to_string_lossy().into_owned(), anchor)
}
