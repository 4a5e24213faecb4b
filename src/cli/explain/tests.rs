use std::{fs, time::Duration};

use super::*;
use crate::{settings, store};

const YAML: &str = r#"
organizations:
  acme:
    webhook:
      url: https://acme.example/hooks/leads?token=qu3ry
      events: [lead.delivered, lead.failed]
      headers: { Authorization: "Bearer s3cret", X-Source: leads }
      signing_secrets: [ whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3 ]
      retry_attempts: 2
    campaigns:
      listed: {}
      own: { override: true, webhook: { url: "https://own.example/in", events: [lead.delivered], timeout: 10 } }
      more: { override: true, webhook: { headers: { X-Source: campaign } } }
      drop: { override: true, unselected_events: drop, webhook: { url: "https://own.example/in", events: [lead.queued] } }
      ruled: { override: true, webhook: { max_per_second: 2.5, accept: [409], never_retry: [422, 400], accept_if: { json: /success, equals: true } } }
      silent: { override: true, webhook: { enabled: false } }
  quiet:
    webhook: { enabled: false, events: [lead.delivered] }
    campaigns:
      alone: { override: true, webhook: { url: "https://alone.example", events: [lead.queued] } }
"#;

fn store() -> Store {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store.yaml");
    fs::write(&path, YAML).unwrap();
    let secrets = settings::Secrets { environment_prefix: "WEBHOOK_".to_owned(), directory: None };
    store::load(&path, &secrets).unwrap()
}

fn service() -> Service<'static> {
    const BACKOFF: Backoff = Backoff {
        initial: Duration::from_secs(15),
        multiplier: 2.0,
        maximum: Duration::from_secs(3600),
        jitter: 0.2,
        retry_after_maximum: Duration::from_secs(86_400),
    };
    Service { backoff: &BACKOFF, max_in_flight: 64, maximum_age: Duration::from_secs(3 * 86_400) }
}

fn ask(campaign: &str, organization: Option<&str>, event: Option<EventKind>) -> (String, Exit) {
    explain(&store(), &service(), Question { campaign, organization, event }, false)
}

#[test]
fn an_override_beside_its_organization() {
    let expected = "\
campaign own of organization acme: the campaign overrides

lead.delivered  -> acme/own

target acme/own
  url              https://own.example/in  from the campaign
  events           lead.delivered          from the campaign
  retry_attempts   2                       from the organization
  timeout          10 s                    from the campaign
  max_in_flight    64                      from the settings
  signing_secrets  0                       default
  retries after    15 s, 30 s
  with jitter      12 s to 20 s, 24 s to 40 s (20 % to either side, then up to the next delay queue)
  worst case       1 min 30 s from the first attempt to the end of the last, if every one times out
  expires          3 d after the event was first seen, deferred or not (delivery.maximum_age)

note: beside the override of campaign own, the organization's target acme still applies for lead.failed; \
`unselected_events: drop` in the campaign turns that off

note: acme/own has its own URL, so it inherits none of the organization's headers, secrets and certificates";
    assert_eq!(ask("own", None, Some(EventKind::Delivered)), (expected.to_owned(), Exit::Ok));
}

#[test]
fn a_rate_and_rules_about_answers_are_shown_with_their_origin() {
    let text = ask("ruled", None, Some(EventKind::Delivered)).0;
    for row in [
        "  max_per_second   2.5                                   from the campaign",
        "  accept           409                                   from the campaign",
        "  never_retry      400, 422                              from the campaign",
        "  accept_if        /success = true                       from the campaign",
    ] {
        assert!(text.contains(row), "{text}");
    }
    assert!(!text.contains("keep_refused"), "{text}");
    assert!(!ask("own", None, None).0.contains("max_per_second"));
}

#[test]
fn a_schedule_that_is_longer_than_the_maximum_age_is_warned_of() {
    let question = Question { campaign: "own", organization: None, event: None };
    let of = |seconds| {
        explain(&store(), &Service { maximum_age: Duration::from_secs(seconds), ..service() }, question, false).0
    };
    let warning = "  warning          it may expire before its last attempt: the worst case takes longer\n";
    assert!(of(89).contains(warning), "{}", of(89));
    assert!(!of(3_600).contains(warning));
}

#[test]
fn values_are_hidden_and_their_origins_shown() {
    let (text, _) = ask("more", None, Some(EventKind::Failed));
    for line in [
        "  url              https://acme.example/hooks/leads?...  from the organization",
        "  timeout          30 s                                  default",
        "  signing_secrets  1                                     from the organization",
        "  header           authorization: (hidden)               from the organization",
        "  header           x-source: (hidden)                    from the campaign",
    ] {
        assert!(text.lines().any(|got| got == line), "{line}\n{text}");
    }
}

#[test]
fn nothing_secret_is_shown() {
    for campaign in ["listed", "own", "more", "drop", "silent", "alone"] {
        for json in [false, true] {
            let question = Question { campaign, organization: None, event: None };
            let (text, _) = explain(&store(), &service(), question, json);
            for secret in ["qu3ry", "s3cret", "MDEy", "leads\""] {
                assert!(!text.contains(secret), "{secret} in {text}");
            }
        }
    }
}

#[test]
fn why_there_is_no_target() {
    use EventKind::{Delivered, Queued};
    #[rustfmt::skip]
    let table = [
        ("listed", None, Queued, "lead.queued  no target (event_not_selected): organization acme does not select this event"),
        ("own", None, Queued, "lead.queued  no target (event_not_selected): neither the campaign nor organization acme selects this event"),
        ("drop", None, Delivered, "lead.delivered  no target (event_not_selected): the campaign does not select this event and says `unselected_events: drop`"),
        ("silent", None, Delivered, "lead.delivered  no target (campaign_disabled): the campaign overrides its organization and has its webhook for this event switched off"),
        ("alone", None, Delivered, "lead.delivered  no target (disabled): the campaign leaves this event to organization quiet, whose webhook for it is switched off"),
        ("new", Some("quiet"), Queued, "lead.queued  no target (disabled): the webhook of organization quiet is switched off"),
        ("new", None, Queued, "no target (unknown_campaign): the store does not list this campaign, no organization was named, and there is no `default_organization`; its events are rejected"),
        ("new", Some("nobody"), Queued, "no target (unknown_organization): the store does not know this organization; its events are rejected"),
        ("own", Some("quiet"), Queued, "no target (organization_mismatch): the store places this campaign in another organization than the one named; its events are rejected"),
    ];
    for (campaign, organization, kind, expected) in table {
        let (text, exit) = ask(campaign, organization, Some(kind));
        assert_eq!(text.lines().find(|line| line.contains("no target")), Some(expected));
        assert_eq!(exit, Exit::Findings);
    }
}

#[test]
fn without_an_event_every_event_is_answered() {
    let (text, exit) = ask("own", None, None);
    assert_eq!(exit, Exit::Ok);
    for kind in EventKind::ALL {
        assert!(text.lines().any(|line| line.starts_with(kind.name())), "{kind}\n{text}");
    }
    assert!(text.contains("lead.failed                   -> acme\n"), "{text}");
    assert!(text.contains("\ntarget acme/own\n") && text.contains("\ntarget acme\n"), "{text}");
}

#[test]
fn the_same_for_programs() {
    let question = Question { campaign: "own", organization: None, event: Some(EventKind::Delivered) };
    let (text, _) = explain(&store(), &service(), question, true);
    let json: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(json["events"][0]["targets"][0], "acme/own");
    assert_eq!(json["targets"][0]["timeout_seconds"], serde_json::json!({ "value": 10, "origin": "campaign" }));
    assert_eq!(json["targets"][0]["schedule"]["worst_case_milliseconds"], 90_000);
    assert_eq!(json["notes"].as_array().unwrap().len(), 2);
}
