//! Each table of the reference is complete: it has a row for each word of the code, and no others.

use std::{collections::BTreeSet, path::Path};

use leadhook::{
    cli::output::Exit,
    dead_letters::{record::Reason, reroute},
    delivery::{
        fault::Fault,
        reason::{FailReason, RetryReason},
    },
    delivery_log::What,
    event::EventKind,
    limits::{DeferReason, State},
    rejection::RejectReason,
    settings::Secrets,
    store::{self, NoTarget},
};

use super::{
    documents,
    markdown::{rows, table},
    read,
};

const REASONS: &str = "docs/reference/reasons.md";

/// Checks that a section's table has exactly these words, each once.
fn is_complete(document: &str, section: &str, words: &[&str]) -> Vec<Vec<String>> {
    let listed = rows(&read(document), section);
    let found: Vec<_> = listed.iter().map(|row| row[0].as_str()).collect();
    let once: BTreeSet<_> = found.iter().copied().collect();
    let wanted: BTreeSet<_> = words.iter().copied().collect();
    assert_eq!(once, wanted, "{document}, {section}");
    assert_eq!(once.len(), found.len(), "{document}, {section} has a row twice: {found:?}");
    for row in &listed {
        let is_filled = row.len() >= 2 && row.iter().all(|cell| !cell.is_empty());
        assert!(is_filled, "{document}, {section}: {row:?} has an empty cell");
    }
    listed
}

#[test]
fn every_reason_is_explained() {
    let beside = [Reason::DeadLettered, Reason::Unsaid];
    let failed: Vec<_> =
        FailReason::ALL.iter().map(|reason| reason.label()).chain(beside.iter().map(Reason::label)).collect();
    for row in is_complete(REASONS, "## Failed", &failed) {
        if let Some(reason) = FailReason::parse(&row[0]) {
            assert_eq!(row[1], reason.owner().label(), "the owner of {}", row[0]);
        }
    }
    is_complete(REASONS, "## Retried", &RetryReason::all().into_iter().map(RetryReason::label).collect::<Vec<_>>());
    let others = ["target_disabled", "target_removed", "proxy", "proxy_refused", "local", "suspect", "newer_version"];
    let deferred: Vec<_> = DeferReason::ALL.map(DeferReason::label).into_iter().chain(others).collect();
    is_complete(REASONS, "## Deferred", &deferred);
    is_complete(REASONS, "## No target", &NoTarget::ALL.map(NoTarget::name));
    is_complete(REASONS, "## Rejected", &RejectReason::ALL.map(RejectReason::label));
    is_complete(REASONS, "## Not replayed", &[reroute::UNCLEAR, reroute::THERE]);
    let explained: BTreeSet<_> = table(&read(REASONS)).into_iter().map(|row| row[0].clone()).collect();
    for fault in Fault::all() {
        assert!(explained.contains(fault.label()), "{REASONS} does not explain {fault}");
    }
}

/// There were once four tables of the same reasons, which differed.
#[test]
fn reasons_are_explained_in_one_place() {
    // The first is also a state of a delivery, and the second a key of the webhook store.
    let other_things = [FailReason::Refused, FailReason::NeverRetry];
    let failed = FailReason::ALL.into_iter().filter(|reason| !other_things.contains(reason)).map(FailReason::label);
    let words: BTreeSet<_> = failed.into_iter().chain(RejectReason::ALL.map(RejectReason::label)).collect();
    for document in documents().iter().filter(|document| document.path != REASONS) {
        let again: Vec<_> = table(&document.text).into_iter().filter(|row| words.contains(row[0].as_str())).collect();
        assert!(again.is_empty(), "{} explains {again:?}; link to {REASONS} instead", document.path);
    }
}

#[test]
fn every_exit_code_is_listed() {
    // A new exit code fails to compile here until it is in the list.
    let code = |exit: Exit| match exit {
        Exit::Ok | Exit::Findings | Exit::Usage | Exit::CannotStart | Exit::UncleanDrain => exit.code().to_string(),
    };
    let all = [Exit::Ok, Exit::Findings, Exit::Usage, Exit::CannotStart, Exit::UncleanDrain].map(code);
    // A second Ctrl-C ends a command with the shell's own code.
    let all: Vec<_> = all.iter().map(String::as_str).chain(["130"]).collect();
    is_complete("docs/reference/exit-codes.md", "## Codes", &all);
}

#[test]
fn every_event_and_every_field_is_listed() {
    const EVENTS: &str = "docs/reference/events.md";
    is_complete(EVENTS, "## Events", &EventKind::ALL.map(EventKind::name));
    let fields = ["event", "leadId", "submissionId", "campaignId", "status", "timestamp", "data", "organizationId"];
    is_complete(EVENTS, "## Fields", &fields);
}

/// The product prints some words that differ from the terms of the documents.
#[test]
fn the_glossary_explains_what_the_product_prints() {
    const GLOSSARY: &str = "docs/reference/glossary.md";
    let explained: BTreeSet<_> = table(&read(GLOSSARY)).into_iter().map(|row| row[0].clone()).collect();
    let states = What::ALL.map(What::name);
    for word in states.into_iter().chain(State::ALL.map(State::label)) {
        assert!(explained.contains(word), "{GLOSSARY} does not explain {word}");
    }
}

/// For an unknown key, the loader names all keys that it knows.
#[test]
fn every_key_of_the_webhook_store_is_listed() {
    let wrong = "zzzzzz: 1\norganizations:\n  a:\n    zzzzzz: 1\n    webhooks:\n      - { name: n, zzzzzz: 1 }\n    campaigns:\n      \
                 c:\n        zzzzzz: 1\n        webhook: { zzzzzz: 1 }\n";
    let file = tempfile::NamedTempFile::with_suffix(".yaml").expect("a file");
    std::fs::write(file.path(), wrong).expect("the store");
    let problems = keys_of(file.path());
    let listed: BTreeSet<_> =
        table(&read("docs/reference/webhook-store.md")).into_iter().map(|row| row[0].clone()).collect();
    let missing: Vec<_> = problems.iter().filter(|key| !listed.contains(*key)).collect();
    assert!(missing.is_empty(), "docs/reference/webhook-store.md does not list {missing:?}");
    assert!(
        ["default_organization", "campaigns", "override", "client_certificate", "name"]
            .iter()
            .all(|key| problems.contains(*key))
    );
}

/// Returns the keys in "known keys here are `a`, `b` and `c`", of all levels.
fn keys_of(store: &Path) -> BTreeSet<String> {
    let secrets = Secrets { environment_prefix: "WEBHOOK_".to_owned(), directory: None };
    let problems = store::load(store, &secrets).expect_err("unknown keys").to_string();
    let lines = problems.lines().filter_map(|line| line.split_once("known keys here are "));
    lines.flat_map(|(_, keys)| keys.split('`').skip(1).step_by(2).map(str::to_owned)).collect()
}
