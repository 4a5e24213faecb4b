//! The samples for newcomers: this repository's stores, settings, events, publishers and receivers are valid, and the
//! pages show them unchanged.

mod receive;

use std::{collections::BTreeSet, fs, path::PathBuf, process::Command};

use leadhook::{
    event::{Event, EventKind},
    rejection::RejectReason,
    settings,
    store::{self, Resolution, Store},
};

const MAX_BYTES: usize = 1 << 20;

fn path(path: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// Loads a store without any variables or secret files.
fn store(file: &str) -> Store {
    let secrets = settings::Secrets { environment_prefix: "WEBHOOK_".to_owned(), directory: None };
    let store = store::load(&path(file), &secrets).unwrap_or_else(|problems| panic!("{file}: {problems}"));
    assert_eq!(store.warnings().to_string(), "", "{file}");
    store
}

/// Lists every target of every event: of the listed campaigns, and of one that is not listed.
fn targets(store: &Store) -> BTreeSet<String> {
    let mut all = BTreeSet::new();
    for organization in store.organizations() {
        let listed = organization.campaigns.iter().map(|campaign| &*campaign.id);
        for campaign in listed.chain(["unlisted"]) {
            for kind in EventKind::ALL {
                let place = format!("{} {campaign} {}", organization.id, kind.name());
                match store.resolve(campaign, Some(&organization.id), kind) {
                    Resolution::Targets(targets) => all.extend(targets.iter().map(|target| {
                        let headers: Vec<_> =
                            target.headers.iter().map(|(name, value)| (name, value.as_bytes())).collect();
                        let (url, retries, timeout) = (&target.url, target.retry_attempts, target.timeout);
                        format!("{place}: {} {url} {retries} {timeout:?} {headers:?}", target.key)
                    })),
                    Resolution::NoTarget(why) => {
                        all.insert(format!("{place}: {}", why.name()));
                    }
                    Resolution::Misplaced(why) => panic!("{place}: {}", why.name()),
                }
            }
        }
    }
    all
}

#[test]
fn the_sample_stores_resolve_alike_in_yaml_and_toml() {
    let yaml = targets(&store("config/webhooks"));
    assert_eq!(yaml, targets(&store("examples/webhooks.toml")));
    // The promises of the comments in them.
    for promised in [
        "acme ABC lead.delivered: acme/ABC http://receiver:8080/acme/ABC 5 10s []",
        "acme QUIET lead.delivered: campaign_disabled",
        "globex XYZ lead.delivered: globex/XYZ#crm http://receiver:8080/globex/crm 8 30s []",
        "globex XYZ lead.failed: globex#crm http://receiver:8080/globex/crm 8 30s []",
        "globex XYZ lead.failed: globex#warehouse http://receiver:8080/globex/warehouse 5 60s []",
    ] {
        assert!(yaml.contains(promised), "{promised:?} in {yaml:#?}");
    }
    assert!(yaml.iter().any(|line| line.starts_with("acme DEF lead.failed: acme http")), "{yaml:#?}");
    assert!(yaml.iter().any(|line| line.starts_with("acme ABC lead.failed: acme http")), "{yaml:#?}");
}

/// The commented settings of the sample work once they are uncommented.
#[test]
fn the_commented_secrets_of_the_sample_store_load() {
    let directory = tempfile::tempdir().unwrap();
    let text = fs::read_to_string(path("config/webhooks/acme.yaml")).unwrap();
    let mut opened = String::new();
    for line in text.lines() {
        let closed = ["#   Authorization:", "#   X-Api-Key:", "# signing_secrets:"];
        let line =
            if closed.iter().any(|text| line.contains(text)) { line.replacen("# ", "", 1) } else { line.to_owned() };
        opened.push_str(&(line + "\n"));
    }
    fs::write(directory.path().join("acme.yaml"), opened).unwrap();
    let files = tempfile::tempdir().unwrap();
    fs::write(files.path().join("acme-api-key"), "a key").unwrap();
    let mut check = check(directory.path().to_str().unwrap());
    check.env("WEBHOOK_ACME_TOKEN", "token").env("LEADHOOK__SECRETS__DIRECTORY", files.path());
    let without = check.output().unwrap();
    assert_eq!(without.status.code(), Some(2), "an unset variable was accepted");
    check.env("WEBHOOK_ACME_SECRET", "whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3");
    let with = check.output().unwrap();
    assert!(with.status.success(), "{with:?}");
    let report: serde_json::Value = serde_json::from_slice(&with.stdout).unwrap();
    let acme = &report["store"]["scopes"][0];
    assert_eq!((&acme["key"], &acme["signed"], &acme["headers"]), (&"acme".into(), &true.into(), &3.into()));
}

/// A newcomer's first command, without any variable set.
#[test]
fn the_configuration_of_the_repository_passes_check() {
    for store in ["config/webhooks", "examples/webhooks.toml"] {
        let output = check(path(store).to_str().unwrap()).arg("--config").arg(path("config/leadhook.toml")).output();
        let output = output.unwrap();
        assert!(output.status.success(), "{store}: {output:?}");
    }
}

fn check(store: &str) -> Command {
    let mut command = crate::harness::leadhook("amqp://127.0.0.1");
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("WEBHOOK_")) {
        command.env_remove(name);
    }
    command.args(["check", "--store", store, "--json"]);
    command
}

#[test]
fn the_sample_events_are_what_they_say() {
    let mut seen = BTreeSet::new();
    for entry in fs::read_dir(path("examples")).unwrap() {
        let file = entry.unwrap().path();
        if file.extension().is_none_or(|extension| extension != "json") {
            continue;
        }
        let name = file.file_name().unwrap().to_str().unwrap().to_owned();
        let decoded = Event::decode(&fs::read(&file).unwrap(), None, MAX_BYTES);
        match name.as_str() {
            "unusable.json" => assert_eq!(decoded.unwrap_err().reason, RejectReason::MissingField),
            _ => assert_eq!(format!("{}.json", decoded.unwrap().kind.name()), name),
        }
        seen.insert(name);
    }
    assert!(seen.contains("lead.delivered.json") && seen.contains("unusable.json"), "{seen:?}");
}

/// The page names the message id that each sample computes for the example event.
#[test]
fn the_page_names_the_message_id_of_the_samples() {
    let event: serde_json::Value =
        serde_json::from_slice(&fs::read(path("examples/lead.delivered.json")).unwrap()).unwrap();
    let [submission, kind] = ["submissionId", "event"].map(|field| event[field].as_str().unwrap());
    let page = fs::read_to_string(path("docs/how-to/publish.md")).unwrap();
    assert!(page.contains(&format!("`{submission}/{kind}`")), "{submission}/{kind}");
}

/// Readers of a page and of the file get the same program.
#[test]
fn the_pages_show_the_samples_as_they_are() {
    let samples = [
        ("docs/how-to/receive.md", "examples/receive/receive", [("python", "py"), ("js", "mjs"), ("php", "php")]),
        ("docs/how-to/publish.md", "examples/publish/publish", [("python", "py"), ("js", "mjs"), ("go", "go")]),
    ];
    for (page, sample, languages) in samples {
        let text = fs::read_to_string(path(page)).unwrap();
        for (language, extension) in languages {
            let source = fs::read_to_string(path(&format!("{sample}.{extension}"))).unwrap();
            let fence = format!("```{language}\n");
            let shown: Vec<_> = text.split(&fence).skip(1).filter_map(|rest| rest.split("```").next()).collect();
            assert!(!shown.is_empty(), "{page} shows nothing in {language}");
            for excerpt in shown {
                assert!(source.contains(excerpt), "{page} shows what {sample}.{extension} does not hold:\n{excerpt}");
            }
        }
    }
}
