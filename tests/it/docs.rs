//! The documents say what is, and nothing else: every setting with its default, every metric, reason and command is in
//! them, their samples load, their links and the tests they name exist.

mod markdown;
mod permissions;

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use leadhook::{
    delivery::outcome::{FailReason, RetryReason},
    delivery_log::What,
    desk::reroute,
    event::{Event, EventKind},
    metrics, rejection,
    settings::{self, Key},
    store::NoTarget,
};

use self::markdown::{blocks, code, codes, commands_of, is_name, slug, table, words};
use crate::harness::leadhook;

/// The documents for users, and the map for developers.
const DOCUMENTS: [&str; 11] = [
    "README.md",
    "ARCHITECTURE.md",
    "CHANGELOG.md",
    "docs/store.md",
    "docs/settings.md",
    "docs/operating.md",
    "docs/failures.md",
    "docs/SUPPORT.md",
    "docs/console.md",
    "docs/RELIABILITY.md",
    "SECURITY.md",
];

#[test]
fn every_setting_is_listed_with_its_default() {
    let listed: Vec<Vec<String>> = rows("docs/settings.md");
    let section = |name: &str| name.split('.').next().unwrap_or_default().to_owned();
    let sections: BTreeSet<String> = settings::reference().iter().map(|key| section(key.name)).collect();
    for Key { name, default, .. } in settings::reference() {
        let row: Vec<_> = listed.iter().filter(|row| code(&row[0]) == *name).collect();
        assert_eq!(row.len(), 1, "{name} has {} rows in docs/settings.md", row.len());
        assert_eq!(code(&row[0][1]), *default, "the default of {name}");
    }
    let named = listed.iter().map(|row| code(&row[0])).filter(|name| sections.contains(&section(name)));
    for name in named {
        assert!(settings::reference().iter().any(|key| key.name == name), "{name} is no setting");
    }
}

#[test]
fn settings_that_documents_mention_exist() {
    let names: BTreeSet<&str> = settings::reference().iter().map(|key| key.name).collect();
    let sections: BTreeSet<&str> =
        names.iter().filter_map(|name| name.split_once('.')).map(|(first, _)| first).collect();
    for (document, text) in documents() {
        for word in codes(&text) {
            let key = word.split([' ', '=']).next().unwrap_or_default();
            let Some((section, rest)) = key.split_once('.') else { continue };
            let is_key = sections.contains(section) && !rest.is_empty() && rest.bytes().all(is_name);
            assert!(!is_key || names.contains(key), "{document} mentions `{key}`, which is no setting");
        }
        for variable in words(&text).filter(|word| word.starts_with("LEADHOOK__") && *word != "LEADHOOK__") {
            let known = settings::reference().iter().any(|key| key.variable() == variable);
            assert!(known, "{document} mentions {variable}, which sets nothing");
        }
    }
}

#[test]
fn every_metric_is_listed_with_kind_and_labels() {
    let listed = rows("docs/operating.md");
    for entry in metrics::catalogue() {
        let row: Vec<_> = listed.iter().filter(|row| code(&row[0]) == entry.name).collect();
        assert_eq!(row.len(), 1, "{} has {} rows in docs/operating.md", entry.name, row.len());
        assert_eq!(row[0][1], entry.kind.name(), "the kind of {}", entry.name);
        assert_eq!(codes(&row[0][2]), entry.labels, "the labels of {}", entry.name);
    }
    for (document, text) in documents() {
        for word in words(&text).filter(|word| word.starts_with("leadhook_")) {
            let base = word.strip_suffix("_bucket").unwrap_or(word);
            assert!(metrics::catalogue().iter().any(|entry| entry.name == base), "{document}: {word} is no metric");
        }
    }
}

#[test]
fn every_reason_is_explained() {
    let of = |document: &str, after: &str| {
        let text = section_of(document, after);
        table(&text).into_iter().map(|row| (code(&row[0]), row)).collect::<Vec<_>>()
    };
    let check = |listed: Vec<(String, Vec<String>)>, labels: Vec<&str>| {
        let names: Vec<_> = listed.iter().map(|(name, _)| name.as_str()).collect();
        for label in &labels {
            assert!(names.contains(label), "{label} is not explained");
        }
        assert_eq!(names.len(), labels.len(), "{names:?} against {labels:?}");
    };
    let failed = of("docs/failures.md", "## Failed jobs");
    for (name, row) in &failed {
        let reason = FailReason::parse(name).unwrap_or_else(|| panic!("{name} is no reason"));
        assert_eq!(row[1], reason.owner().label(), "the owner of {name}");
    }
    check(failed, FailReason::ALL.map(FailReason::label).to_vec());
    let rejected = rejection::RejectReason::ALL.map(rejection::RejectReason::label).to_vec();
    check(of("docs/failures.md", "## Rejected messages"), rejected);
    let retries = of("docs/failures.md", "Why an attempt is made again");
    check(retries, RetryReason::ALL.map(RetryReason::label).to_vec());
    let support = read("docs/SUPPORT.md");
    let states = What::ALL.map(|what| what.name().replace('_', " ")).into_iter().filter(|name| name != "revealed");
    let words = RetryReason::ALL.map(|reason| reason.label().to_owned());
    for word in states.chain(words).chain(["data shown".to_owned()]) {
        let said = |text: &&str| *text == word || *text == format!("--state {word}");
        assert!(codes(&support).iter().any(said), "docs/SUPPORT.md does not say what {word} means");
    }
    let failures = read("docs/failures.md");
    for word in [reroute::UNCLEAR, reroute::THERE] {
        assert!(codes(&failures).contains(&word), "docs/failures.md does not say what {word} means");
    }
    check(of("docs/store.md", "No target is a normal result"), NoTarget::ALL.map(NoTarget::name).to_vec());
}

#[test]
fn every_command_is_in_the_readme_and_what_is_shown_can_be_typed() {
    let readme = read("README.md");
    let commands = commands_of(&help(&[]));
    assert!(commands.len() >= 6, "{commands:?}");
    for command in &commands {
        assert!(readme.contains(&format!("`leadhook {command}`")), "leadhook {command} is not in README.md");
    }
    for (document, text) in documents() {
        let shown =
            blocks(&text, "sh").into_iter().flat_map(|block| block.lines().map(str::to_owned).collect::<Vec<_>>());
        for line in shown.filter(|line| words(line).any(|word| word == "leadhook")) {
            check_command_line(&document, &line, &commands);
        }
    }
}

/// Every command and every option of a line is one that the help lists.
fn check_command_line(document: &str, line: &str, commands: &[String]) {
    let line = line.split('#').next().unwrap_or_default().trim().trim_end_matches('&');
    let Some((_, arguments)) = line.split_once("leadhook ") else { return };
    let mut arguments = arguments.split_whitespace();
    let command = arguments.next().unwrap_or_default();
    assert!(commands.iter().any(|known| known == command), "{document}: there is no command {command}: {line}");
    let mut path = vec![command.to_owned()];
    for argument in arguments {
        let so_far = help(&path);
        if commands_of(&so_far).iter().any(|known| known == argument) {
            path.push(argument.to_owned());
        } else if argument.starts_with("--") {
            let option = argument.split('=').next().unwrap_or_default();
            assert!(words(&so_far).any(|word| word == option), "{document}: no option {option}: {line}");
        }
    }
}

#[test]
fn stores_in_the_documents_are_good() {
    let mut checked = 0;
    for (document, text) in documents() {
        for kind in ["yaml", "toml"] {
            for sample in blocks(&text, kind).iter().filter(|sample| sample.contains("organizations")) {
                let output = with_store(sample, kind, &["check"]);
                let said = String::from_utf8_lossy(&output.stdout);
                assert!(output.status.success(), "{document}:\n{sample}\n{said}");
                checked += 1;
            }
        }
    }
    assert!(checked >= 5, "only {checked} samples were found");
}

#[test]
fn the_explanation_shown_is_the_one_given() {
    let text = read("docs/store.md");
    let store = blocks(&text, "yaml").into_iter().next().expect("a store");
    let arguments = ["explain", "--campaign", "ABC", "--event", "lead.delivered"];
    let output = with_store(&store, "yaml", &arguments);
    let said = String::from_utf8(output.stdout).expect("UTF-8");
    assert!(blocks(&text, "text").contains(&said), "docs/store.md does not show what explain says:\n{said}");
}

/// A command with a sample as its store, and with everything that the sample refers to.
fn with_store(sample: &str, kind: &str, arguments: &[&str]) -> Output {
    const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    let directory = tempfile::tempdir().expect("a temporary directory");
    let secrets = directory.path().join("secrets");
    std::fs::create_dir(&secrets).expect("a directory");
    let path = directory.path().join(format!("store.{kind}"));
    std::fs::write(&path, sample).expect("the sample");
    let mut command = leadhook("amqp://127.0.0.1");
    command.args(arguments).arg("--store").arg(&path).env("LEADHOOK__SECRETS__DIRECTORY", &secrets);
    // The schedule that documents show is that of the defaults.
    command.env_remove("LEADHOOK__BACKOFF__INITIAL").env_remove("LEADHOOK__BACKOFF__MAXIMUM");
    for reference in sample.split("${").skip(1).filter_map(|rest| rest.split('}').next()) {
        command.env(reference, SECRET);
    }
    for file in sample.split("{ file: ").skip(1) {
        let name = file.split([',', ' ', '}']).next().unwrap_or_default();
        std::fs::write(secrets.join(name), SECRET).expect("a secret");
    }
    command.output().expect("leadhook")
}

#[test]
fn settings_in_the_documents_are_good() {
    let mut checked = 0;
    for (document, text) in documents() {
        for sample in blocks(&text, "toml").iter().filter(|sample| !sample.contains("organizations")) {
            let directory = tempfile::tempdir().expect("a temporary directory");
            let path = directory.path().join("leadhook.toml");
            std::fs::write(&path, sample).expect("the sample");
            let loaded = settings::load(Some(&path), None, std::iter::empty());
            assert!(
                loaded.is_ok(),
                "{document}:\n{sample}\n{}",
                loaded.err().map(|it| it.to_string()).unwrap_or_default()
            );
            checked += 1;
        }
    }
    assert!(checked >= 1, "no sample was found");
}

#[test]
fn events_in_the_documents_are_events() {
    let samples = blocks(&read("README.md"), "json");
    assert!(!samples.is_empty(), "no sample was found");
    for sample in samples {
        let event = Event::decode(sample.as_bytes(), None, 1 << 20).unwrap_or_else(|error| panic!("{error}\n{sample}"));
        assert_eq!((event.kind, event.campaign.as_str()), (EventKind::Delivered, "ABC"));
    }
    for kind in EventKind::ALL {
        assert!(codes(&read("README.md")).contains(&kind.name()), "{kind} is not in README.md");
    }
}

#[test]
fn the_tests_that_documents_name_exist() {
    let mut named = 0;
    for (document, text) in documents() {
        for reference in codes(&text).into_iter().filter(|code| code.contains(".rs::")) {
            let (file, name) = reference.split_once("::").expect("checked above");
            let source = std::fs::read_to_string(root().join(file));
            let source = source.unwrap_or_else(|_| panic!("{document} names {file}, which is not there"));
            // Rows of a table of tests count as well.
            let defined = [format!("fn {name}("), format!("    {name} => ")].iter().any(|it| source.contains(it));
            assert!(defined, "{document}: there is no {name} in {file}");
            named += 1;
        }
    }
    assert!(named >= 25, "only {named} references were found");
}

#[test]
fn paths_that_documents_name_exist() {
    for (document, text) in documents() {
        for code in codes(&text) {
            let is_path = ["src/", "tests/", "docs/", "scripts/", "config/"].iter().any(|top| code.starts_with(top));
            let plain = code.bytes().all(|byte| is_name(byte) || b"/.-".contains(&byte));
            let ours = is_path && plain && code != "config/webhooks";
            assert!(!ours || root().join(code).exists(), "{document} names `{code}`, which is not there");
        }
    }
}

#[test]
fn the_map_names_what_is_in_the_code() {
    let mut sources = String::new();
    let mut modules = BTreeSet::new();
    gather(&root().join("src"), &mut sources, &mut modules);
    let map = read("ARCHITECTURE.md");
    let is_path = |code: &&str| code.split("::").all(|part| !part.is_empty() && words(part).count() == 1);
    let named: Vec<_> = codes(&map).into_iter().filter(|code| code.contains("::")).filter(is_path).collect();
    assert!(named.len() >= 20, "only {} names were found", named.len());
    for name in named {
        for part in name.split("::") {
            let kinds = ["fn", "struct", "enum", "const"];
            let defined = kinds.iter().any(|kind| sources.contains(&format!("{kind} {part}")));
            let variant = sources.contains(&format!("\n    {part}"));
            assert!(defined || variant || modules.contains(part), "ARCHITECTURE.md names {name}: there is no {part}");
        }
    }
}

/// All source text under a directory, and the names of its modules.
fn gather(directory: &Path, sources: &mut String, modules: &mut BTreeSet<String>) {
    for entry in std::fs::read_dir(directory).expect("a directory").map(|entry| entry.expect("an entry").path()) {
        modules.insert(entry.file_stem().expect("a name").to_string_lossy().into_owned());
        match entry.is_dir() {
            true => gather(&entry, sources, modules),
            false => sources.push_str(&std::fs::read_to_string(&entry).expect("UTF-8")),
        }
    }
}

#[test]
fn links_lead_somewhere() {
    for (document, text) in documents() {
        for link in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            if link.starts_with("http") {
                continue;
            }
            let (file, anchor) = link.split_once('#').map_or((link, None), |(file, anchor)| (file, Some(anchor)));
            let base = Path::new(&document).parent().unwrap_or(Path::new(""));
            let target = if file.is_empty() { PathBuf::from(&document) } else { base.join(file) };
            assert!(root().join(&target).exists(), "{document} links to {link}, which is not there");
            let Some(anchor) = anchor else { continue };
            let text = read(&target.to_string_lossy());
            let mut headings = text.lines().filter(|line| line.starts_with('#')).map(slug);
            assert!(headings.any(|heading| heading == anchor), "{document}: no heading for {link}");
        }
    }
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

pub fn read(document: &str) -> String {
    std::fs::read_to_string(root().join(document)).unwrap_or_else(|error| panic!("{document}: {error}"))
}

fn documents() -> Vec<(String, String)> {
    DOCUMENTS.iter().map(|document| ((*document).to_owned(), read(document))).collect()
}

fn help(path: &[String]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_leadhook")).args(path).arg("--help").output().expect("--help");
    assert!(output.status.success(), "{path:?}");
    String::from_utf8(output.stdout).expect("UTF-8")
}

/// The rows of all tables in a document whose first cell is a code.
fn rows(document: &str) -> Vec<Vec<String>> {
    table(&read(document))
}

/// The first table after some words.
fn section_of(document: &str, after: &str) -> String {
    let text = read(document);
    let (_, rest) = text.split_once(after).unwrap_or_else(|| panic!("{document} does not say {after:?}"));
    let lines = rest.lines().skip_while(|line| !line.starts_with('|'));
    lines.take_while(|line| line.starts_with('|')).map(|line| format!("{line}\n")).collect()
}
