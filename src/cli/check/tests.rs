use std::{fs, path::Path};

use super::*;
use crate::{cli::output::Terminal, store};

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

fn check(
    settings: Result<&Settings, &settings::Problems>,
    store: Option<Result<&Store, &Problems>>,
    json: bool,
) -> (String, Exit) {
    let report = report(settings, store, false, Timestamp::now());
    let text = if json { serde_json::to_string(&report).unwrap() } else { report.text(Terminal::plain()) };
    (text, report.exit())
}

#[test]
fn problems_come_first_and_the_summary_follows() {
    let store = load(YAML).unwrap();
    let (text, exit) = check(Ok(&defaults()), Some(Ok(&store)), false);
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
`unselected_events: drop` in the campaign turns that off";
    assert!(text.ends_with(expected), "{text}");
    // A second warning appears if all users can read the temporary file.
    assert!(text.starts_with("the configuration can be used, with "), "{text}");
    let is_warning = |line: &&str| line.starts_with("  warning: ");
    let warnings: Vec<_> = text.lines().skip(1).take_while(is_warning).collect();
    let listed = "store.yaml:11:17: organizations.acme.campaigns.listed: the campaign's webhook settings have";
    assert!(warnings.iter().any(|warning| warning.contains(listed)), "{text}");
    assert_eq!(
        report(Ok(&defaults()), Some(Ok(&store)), true, Timestamp::now()).exit(),
        Exit::Findings,
        "with --strict"
    );
}

#[test]
fn a_configuration_without_problems_is_called_good() {
    let store = load("organizations: { a: { webhook: { url: 'https://a.example', events: '*' } } }").unwrap();
    let (text, exit) = check(Ok(&defaults()), Some(Ok(&store)), false);
    assert_eq!((exit, text.lines().last()), (Exit::Ok, Some("the configuration is good")));
    assert!(text.starts_with("settings\n"), "{text}");
}

#[test]
fn targets_that_must_fail_are_counted_and_nothing_is_called_good() {
    let store = "organizations:
  plain: { webhook: { url: 'http://a.example', events: '*' } }
  inside: { webhook: { url: 'https://10.0.0.1/', events: '*' } }
  off: { webhook: { enabled: false, url: 'http://b.example', events: '*' } }";
    let (text, exit) = check(Ok(&defaults()), Some(Ok(&load(store).unwrap())), false);
    assert_eq!(exit, Exit::Ok);
    let expected = "the configuration can be used, with 2 warnings; deliveries to 2 enabled targets will fail\n";
    assert!(text.starts_with(expected), "{text}");
    assert!(text.contains("  warning: target plain: the URL begins with http://"), "{text}");
    assert!(!text.contains("is good"), "{text}");
}

#[test]
fn nothing_secret_is_shown() {
    let store = load(YAML).unwrap();
    for json in [false, true] {
        let (text, _) = check(Ok(&defaults()), Some(Ok(&store)), json);
        for secret in ["qu3ry", "t0ken", "s3cret", "MDEy", "guest"] {
            assert!(!text.contains(secret), "{secret} in {text}");
        }
    }
}

#[test]
fn the_problems_of_both_configurations_come_together() {
    let bad_settings = settings::load(Some(Path::new("absent.toml")), None, std::iter::empty()).unwrap_err();
    let bad_store = load("organizations: { a: { webhook: { url: 'https://a.example', timeout: 0 } } }").unwrap_err();
    let (text, exit) = check(Err(&bad_settings), Some(Err(&bad_store)), false);
    assert_eq!(exit, Exit::Usage);
    for part in ["absent.toml", "organizations.a.webhook: lacks `events`", "organizations.a.webhook.timeout: is 0"] {
        assert!(text.contains(part), "{part}\n{text}");
    }
    assert!(text.starts_with("the configuration cannot be used: 3 errors\n  error: absent.toml: "), "{text}");

    let (text, exit) = check(Err(&bad_settings), None, true);
    let json: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!((exit, &json["ok"], &json["store"]), (Exit::Usage, &false.into(), &serde_json::Value::Null));
}

#[test]
fn problems_come_in_parts_for_programs() {
    let problems = load("organizations:\n  a: { webhook: { enabled: maybe } }\n").unwrap_err();
    let (text, _) = check(Ok(&defaults()), Some(Err(&problems)), true);
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
    let (text, exit) = check(Ok(&settings), Some(Ok(&store)), false);
    assert_eq!(exit, Exit::Usage);
    assert!(text.contains("shutdown.grace"), "{text}");
}

/// Returns a certificate and its key in PEM, quoted for a store. The certificate expires on that day of December 2026.
fn pem(day: u8) -> (String, String) {
    let key = rcgen::KeyPair::generate().unwrap();
    let mut parameters = rcgen::CertificateParams::new(Vec::new()).unwrap();
    parameters.not_after = rcgen::date_time_ymd(2026, 12, day);
    let quoted = |text: String| serde_json::to_string(&text).unwrap();
    (quoted(parameters.self_signed(&key).unwrap().pem()), quoted(key.serialize_pem()))
}

#[test]
fn certificates_that_end_soon_are_warned_of_once_each() {
    let ((ours, key), (soon, _), (later, _)) = (pem(1), pem(31), pem(31));
    let yaml = format!(
        "organizations:\n  acme:\n    webhook:\n      url: https://a.example\n      events: \"*\"\n      client_certificate: {{ certificate: \
         {ours}, key: {key} }}\n      ca_certificate: {soon}\n    campaigns:\n      same: {{ override: true, webhook: {{ timeout: 5 }} }}\n      \
         off: {{ override: true, webhook: {{ enabled: false, url: https://b.example, ca_certificate: {later} }} }}\n"
    );
    let store = load(&yaml).unwrap_or_else(|problems| panic!("{problems}"));
    let warned = |now: &str| expiring(&store, now.parse().unwrap());
    assert!(warned("2026-10-30T00:00:00Z").is_empty());
    assert_eq!(
        warned("2026-12-06T12:00:00Z"),
        [
            "target acme: client_certificate expired on 2026-12-01; replace it",
            "target acme: ca_certificate expires on 2026-12-31, in 24 days; replace it"
        ]
    );
    let report = report(Ok(&defaults()), Some(Ok(&store)), true, "2026-12-06T12:00:00Z".parse().unwrap());
    assert_eq!((report.exit(), report.failing_targets), (Exit::Findings, 0));
}

#[test]
fn the_url_that_gives_tokens_is_judged_as_the_other_is() {
    let yaml = "organizations: { acme: { webhook: { url: 'https://a.example', events: '*', oauth2: { token_url: \
                'http://b.example/token', client_id: leads, client_secret: s3cret } } } }";
    let store = load(yaml).unwrap();
    let text = check(Ok(&defaults()), Some(Ok(&store)), false).0;
    assert!(text.contains("target acme: oauth2.token_url begins with http://, and egress.plain_http is off"), "{text}");
}
