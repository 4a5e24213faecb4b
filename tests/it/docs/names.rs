//! The things that documents name exist: settings, metrics, tests, paths, parts of the code and pages.

use std::{collections::BTreeSet, path::Path};

use leadhook::{metrics, settings};

use super::{
    documents, files_below,
    markdown::{codes, is_name, words},
    read, root,
};

#[test]
fn settings_that_documents_mention_exist() {
    const ENDINGS: [&str; 7] = ["yaml", "yml", "toml", "json", "jsonl", "rs", "md"];
    let names: BTreeSet<&str> = settings::reference().iter().map(|key| key.name).collect();
    let sections: BTreeSet<&str> =
        names.iter().filter_map(|name| name.split_once('.')).map(|(first, _)| first).collect();
    for document in documents() {
        for word in codes(&document.text) {
            let key = word.split([' ', '=']).next().unwrap_or_default();
            let Some((section, rest)) = key.split_once('.') else { continue };
            let is_key = sections.contains(section) && !rest.is_empty() && rest.bytes().all(is_name);
            let is_wrong = is_key && !ENDINGS.contains(&rest) && !names.contains(key);
            assert!(!is_wrong, "{} mentions `{key}`, which is not a setting", document.path);
        }
        for variable in words(&document.text).filter(|word| word.starts_with("LEADHOOK__") && *word != "LEADHOOK__") {
            let is_known = settings::reference().iter().any(|key| key.variable() == variable);
            assert!(is_known, "{} mentions {variable}, which sets nothing", document.path);
        }
    }
}

#[test]
fn metrics_that_documents_mention_exist() {
    for document in documents() {
        for word in words(&document.text).filter(|word| word.starts_with("leadhook_")) {
            let base = ["_bucket", "_sum", "_count"].iter().find_map(|end| word.strip_suffix(end)).unwrap_or(word);
            let is_known = metrics::catalogue().iter().any(|entry| entry.name == base || entry.name == word);
            assert!(is_known, "{}: {word} is not a metric", document.path);
        }
    }
}

#[test]
fn the_tests_that_documents_name_exist() {
    let mut named = 0;
    for document in documents() {
        for reference in codes(&document.text).iter().filter(|code| code.contains(".rs::")) {
            let (file, name) = reference.split_once("::").expect("checked above");
            let source = std::fs::read_to_string(root().join(file));
            let source = source.unwrap_or_else(|_| panic!("{} names {file}, which does not exist", document.path));
            // Rows of a table of tests count as well.
            let is_defined = [format!("fn {name}("), format!("    {name} => ")].iter().any(|it| source.contains(it));
            assert!(is_defined, "{}: there is no {name} in {file}", document.path);
            named += 1;
        }
    }
    assert!(named >= 50, "only {named} references were found");
}

#[test]
fn paths_that_documents_name_exist() {
    const TOPS: [&str; 9] =
        ["src/", "tests/", "docs/", "scripts/", "config/", "examples/", "benches/", "fuzz/", ".github/"];
    for document in documents() {
        for code in codes(&document.text) {
            let is_path = TOPS.iter().any(|top| code.starts_with(top));
            let is_plain =
                code.bytes().all(|byte| is_name(byte) || byte.is_ascii_uppercase() || b"/.-".contains(&byte));
            let is_ours = is_path && is_plain && code != "config/webhooks";
            assert!(!is_ours || root().join(&code).exists(), "{} names `{code}`, which does not exist", document.path);
        }
    }
}

/// Comments and messages in the code name existing pages, and no page by an old name.
#[test]
fn pages_that_the_code_names_exist() {
    const TOPS: [&str; 7] = ["src", "tests", "benches", "scripts", "config", "examples", "fuzz/fuzz_targets"];
    let tops = TOPS.iter().flat_map(|top| files_below(top));
    let files = tops.chain(["Makefile", "Dockerfile", "docker-compose.yml", "Cargo.toml"].map(str::to_owned));
    let mut wrong = Vec::new();
    let mut named = 0;
    for file in files {
        // Screenshots and corpora are not text.
        let Ok(text) = std::fs::read_to_string(root().join(&file)) else { continue };
        let ends = text.match_indices(".md").filter(|(at, end)| {
            text[at + end.len()..].chars().next().is_none_or(|next| !next.is_ascii_alphanumeric() && next != '_')
        });
        for (end, _) in ends {
            let is_part = |c: char| c.is_ascii_alphanumeric() || "/_-.".contains(c);
            let start = text[..end].rfind(|c| !is_part(c)).map_or(0, |at| at + 1);
            let page = &text[start..end + ".md".len()];
            let is_page = page.starts_with("docs/") || !page.contains('/');
            named += usize::from(is_page);
            if is_page
                && page.len() > ".md".len()
                && !root().join(page).exists()
                && !root().join(beside(&file, page)).exists()
            {
                wrong.push(format!("{file}: {page}"));
            }
        }
    }
    // These are the samples in the tests of the Markdown reader.
    wrong.retain(|it| !it.starts_with("tests/it/docs/markdown.rs: "));
    assert!(wrong.is_empty(), "pages that do not exist:\n{}", wrong.join("\n"));
    assert!(named >= 20, "only {named} were found");
}

/// Returns the path of a page beside the file that names it.
fn beside(file: &str, page: &str) -> String {
    Path::new(file).with_file_name(page).to_string_lossy().into_owned()
}

#[test]
fn the_map_names_what_is_in_the_code() {
    let mut sources = String::new();
    let mut modules = BTreeSet::new();
    for file in files_below("src").iter().filter(|file| file.ends_with(".rs")) {
        sources.push_str(&read(file));
        modules.extend(file.trim_end_matches(".rs").split('/').map(str::to_owned));
    }
    let map = read("ARCHITECTURE.md");
    let is_path = |code: &String| code.split("::").all(|part| !part.is_empty() && words(part).count() == 1);
    let named: Vec<_> = codes(&map).into_iter().filter(|code| code.contains("::")).filter(is_path).collect();
    assert!(named.len() >= 20, "only {} names were found", named.len());
    for name in named {
        for part in name.split("::") {
            let kinds = ["fn", "struct", "enum", "const"];
            let is_defined = kinds.iter().any(|kind| sources.contains(&format!("{kind} {part}")));
            let is_variant = sources.contains(&format!("\n    {part}"));
            assert!(
                is_defined || is_variant || modules.contains(part),
                "ARCHITECTURE.md names {name}: there is no {part}"
            );
        }
    }
}

/// The map has a row for each room of the code.
#[test]
fn the_map_has_every_room() {
    let map = read("ARCHITECTURE.md");
    let entries = std::fs::read_dir(root().join("src")).expect("src").map(|entry| entry.expect("an entry").file_name());
    for name in entries.map(|name| name.to_string_lossy().into_owned()) {
        let room = if name.ends_with(".rs") { format!("`src/{name}`") } else { format!("`src/{name}/`") };
        let is_root = ["lib.rs", "main.rs"].contains(&name.as_str());
        assert!(is_root || map.contains(&format!("\n| {room} |")), "ARCHITECTURE.md has no row for {room}");
    }
}
