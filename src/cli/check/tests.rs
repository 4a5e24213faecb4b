use std::{fs, path::Path, time::Duration};

use super::*;
use crate::store;

const YAML: &str = r#"
organizations:
  acme:
    webhook:
      url: https://acme.example/hooks/t0ken?token=qu3ry
      events: [lead.delivered, lead.failed]
      headers: { Authorization: "Bearer s3cret", X-Source: leads }
      signing_secrets: [ whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3 ]
      retry_attempts: 2
    campaigns:
      listed: { webhook: { timeout: 5 } }
      own: { override: true, webhook: { url: "https://own.example/in", events: "*", timeout: 10 } }
      few: { override: true, webhook: { events: [lead.queued] } }
      drop: { override: true, unselected_events: drop, webhook: { events: [lead.queued] } }
      silent: { override: true, webhook: { enabled: false } }
  quiet:
    webhook: { enabled: false }
"#;

fn load(text: &str) -> Result<Store, Problems> {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store.yaml");
    fs::write(&path, text).unwrap();
    let secrets = settings::Secrets { environment_prefix: "WEBHOOK_".to_owned(), directory: None };
    store::load(&path, &secrets)
}

fn defaults() -> Settings {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("empty.toml");
    fs::write(&file, "").unwrap();
    settings::load(Some(&file), None, std::iter::empty()).unwrap()
}

#[test]
fn a_good_configuration_is_summarized() {
    let store = load(YAML).unwrap();
    let (text, exit) = check(Ok(&defaults()), Some(Ok(&store)), Terminal::plain(), false);
    assert_eq!(exit, Exit::Ok);
    let expected = "
  2 organizations, 5 listed campaigns, 4 overrides, 6 targets, 2 disabled

target                  url                   events (lead.)     retries  timeout  signed  headers
acme                    https://acme.example  delivered, failed        2     30 s  yes           2
acme/drop               https://acme.example  queued                   2     30 s  yes           2
acme/few                https://acme.example  queued                   2     30 s  yes           2
acme/own                https://own.example   all                      2     10 s  no            0
acme/silent (disabled)  https://acme.example  delivered, failed        2     30 s  yes           2
quiet (disabled)        -                     -                        -        -  no            0

targets by event
  lead.delivered                2
  lead.disqualified             1
  lead.failed                   2
  lead.queued                   3
  lead.first_submission_action  1
  lead.processed                1

notes
  beside the override of campaign few, the organization's target acme still applies for lead.delivered, lead.failed; \
`unselected_events: drop` in the campaign turns that off

warnings
";
    assert!(text.contains(expected), "{text}");
    assert!(
        text.contains("store.yaml:11:17: organizations.acme.campaigns.listed: the campaign's webhook settings have")
    );
    assert!(text.ends_with("\nthe configuration is good"), "{text}");
}

#[test]
fn nothing_secret_is_shown() {
    let store = load(YAML).unwrap();
    for json in [false, true] {
        let (text, _) = check(Ok(&defaults()), Some(Ok(&store)), Terminal::plain(), json);
        for secret in ["qu3ry", "t0ken", "s3cret", "MDEy", "guest"] {
            assert!(!text.contains(secret), "{secret} in {text}");
        }
    }
}

#[test]
fn the_problems_of_both_configurations_come_together() {
    let bad_settings = settings::load(Some(Path::new("absent.toml")), None, std::iter::empty()).unwrap_err();
    let bad_store = load("organizations: { a: { webhook: { url: 'https://a.example', timeout: 0 } } }").unwrap_err();
    let (text, exit) = check(Err(&bad_settings), Some(Err(&bad_store)), Terminal::plain(), false);
    assert_eq!(exit, Exit::Usage);
    for part in ["absent.toml", "organizations.a.webhook: lacks `events`", "organizations.a.webhook.timeout: is 0"] {
        assert!(text.contains(part), "{part}\n{text}");
    }
    assert!(text.ends_with("\nthe configuration cannot be used"), "{text}");

    let (text, exit) = check(Err(&bad_settings), None, Terminal::plain(), true);
    let json: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!((exit, &json["ok"], &json["store"]), (Exit::Usage, &false.into(), &serde_json::Value::Null));
}

#[test]
fn problems_come_in_parts_for_programs() {
    let problems = load("organizations:\n  a: { webhook: { enabled: maybe } }\n").unwrap_err();
    let (text, _) = check(Ok(&defaults()), Some(Err(&problems)), Terminal::plain(), true);
    let json: serde_json::Value = serde_json::from_str(&text).unwrap();
    let problem = &json["store_problems"][0];
    assert_eq!((&problem["line"], &problem["column"]), (&2.into(), &28.into()));
    assert_eq!(problem["path"], "organizations.a.webhook.enabled");
    assert_eq!(problem["severity"], "error");
}

#[test]
fn settings_and_store_must_fit() {
    let store =
        load("organizations: { a: { webhook: { url: 'https://a.example', events: '*', timeout: 90 } } }").unwrap();
    let mut settings = defaults();
    settings.shutdown.grace = Duration::from_secs(60);
    let (text, exit) = check(Ok(&settings), Some(Ok(&store)), Terminal::plain(), false);
    assert_eq!(exit, Exit::Usage);
    assert!(text.contains("shutdown.grace"), "{text}");
}
