//! The stores, settings and events in documents are valid, and `explain` prints the output that they show.

use std::process::Output;

use leadhook::{
    event::{Event, EventKind},
    settings,
};
use serde_json::Value;

use super::{
    documents,
    markdown::{blocks, codes},
    read,
};
use crate::harness::leadhook;

/// The page about the webhook store.
const STORE: &str = "docs/reference/webhook-store.md";

#[test]
fn stores_in_the_documents_are_good() {
    let mut checked = 0;
    for document in documents() {
        for kind in ["yaml", "toml"] {
            for sample in blocks(&document.text, kind).iter().filter(|sample| sample.contains("organizations")) {
                let output = with_store(sample, kind, &["check"]);
                let said = String::from_utf8_lossy(&output.stdout);
                assert!(output.status.success(), "{}:\n{sample}\n{said}", document.path);
                checked += 1;
            }
        }
    }
    assert!(checked >= 4, "only {checked} samples were found");
}

#[test]
fn the_explanation_shown_is_the_one_given() {
    let text = read(STORE);
    let store = blocks(&text, "yaml").into_iter().next().expect("a store");
    let arguments = ["explain", "--campaign", "ABC", "--event", "lead.delivered"];
    let output = with_store(&store, "yaml", &arguments);
    let said = String::from_utf8(output.stdout).expect("UTF-8");
    assert!(blocks(&text, "text").contains(&said), "{STORE} does not show what explain says:\n{said}");
}

/// Runs a command with a sample as its store, and with everything that the sample refers to.
fn with_store(sample: &str, kind: &str, arguments: &[&str]) -> Output {
    const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    let directory = tempfile::tempdir().expect("a temporary directory");
    let secrets = directory.path().join("secrets");
    std::fs::create_dir(&secrets).expect("a directory");
    let path = directory.path().join(format!("store.{kind}"));
    std::fs::write(&path, sample).expect("the sample");
    let mut command = leadhook("amqp://127.0.0.1");
    command.args(arguments).arg("--store").arg(&path).env("LEADHOOK__SECRETS__DIRECTORY", &secrets);
    // The documents show the default schedule.
    command.env_remove("LEADHOOK__BACKOFF__INITIAL").env_remove("LEADHOOK__BACKOFF__MAXIMUM");
    for reference in sample.split("${").skip(1).filter_map(|rest| rest.split('}').next()) {
        command.env(reference, SECRET);
    }
    let key = rcgen::KeyPair::generate().expect("a key");
    let certificate = rcgen::CertificateParams::default().self_signed(&key).expect("a certificate");
    for file in sample.split("{ file: ").skip(1) {
        let name = file.split([',', ' ', '}']).next().unwrap_or_default();
        let contents = match name.rsplit_once('.') {
            Some((_, "pem")) => certificate.pem(),
            Some((_, "key")) => key.serialize_pem(),
            _ => SECRET.to_owned(),
        };
        std::fs::write(secrets.join(name), contents).expect("a secret");
    }
    command.output().expect("leadhook")
}

#[test]
fn settings_in_the_documents_are_good() {
    let mut checked = 0;
    for document in documents() {
        for sample in blocks(&document.text, "toml").iter().filter(|sample| !sample.contains("organizations")) {
            let directory = tempfile::tempdir().expect("a temporary directory");
            let path = directory.path().join("leadhook.toml");
            std::fs::write(&path, sample).expect("the sample");
            if let Err(problems) = settings::load(Some(&path), None, std::iter::empty()) {
                panic!("{}:\n{sample}\n{problems}", document.path);
            }
            checked += 1;
        }
    }
    assert!(checked >= 1, "no sample was found");
}

/// All JSON is valid, and each object with the fields of an event is an event.
#[test]
fn events_in_the_documents_are_events() {
    let mut events = 0;
    for document in documents() {
        for sample in blocks(&document.text, "json") {
            for value in serde_json::Deserializer::from_str(&sample).into_iter::<Value>() {
                let value = value.unwrap_or_else(|error| panic!("{}: {error}\n{sample}", document.path));
                if value.get("leadId").is_some() && value.get("data").is_some() {
                    let decoded = Event::decode(sample.as_bytes(), None, 1 << 20);
                    assert!(decoded.is_ok(), "{}: {decoded:?}\n{sample}", document.path);
                    events += 1;
                }
            }
        }
        let is_name = |code: &&String| code.starts_with("lead.") && !code.ends_with(".json");
        for code in codes(&document.text).iter().filter(is_name) {
            let is_event = EventKind::parse(code).is_some();
            assert!(is_event || ["lead.*", "lead.events"].contains(&code.as_str()), "{}: `{code}`", document.path);
        }
    }
    assert!(events >= 1, "no event was found");
}
