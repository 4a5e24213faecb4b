use std::fmt::Write;

use super::*;
use crate::{
    event::EventKind,
    store::{Resolution, TargetKey, TargetState},
};

/// Returns the keys of an event's targets, or the reason why there are none.
fn outcome(store: &Store, campaign: &str, organization: Option<&str>, kind: EventKind) -> String {
    match store.resolve(campaign, organization, kind) {
        Resolution::Targets(targets) => {
            let keys: Vec<_> = targets.iter().map(|target| target.key.as_str()).collect();
            keys.join(" ")
        }
        Resolution::NoTarget(reason) => reason.name().to_owned(),
        Resolution::Misplaced(reason) => reason.name().to_owned(),
    }
}

/// One campaign, and the outcome of its `lead.delivered` for each state of the organization.
struct Case {
    /// Last part of its id. No store lists `unlisted`.
    campaign: &'static str,
    /// Keys of the campaign besides its webhook.
    keys: &'static [Key],
    /// Keys of its webhook, if it has one.
    webhook: Option<&'static [Key]>,
    /// For an organization that is: on and selects the event, on but does not, off but does, off and does not.
    expected: [&'static str; 4],
}

/// A key and its value, which are written the same in both formats.
type Key = (&'static str, &'static str);

const DELIVERED: Key = ("events", r#"["lead.delivered"]"#);
const QUEUED: Key = ("events", r#"["lead.queued"]"#);
const OVERRIDE: Key = ("override", "true");
const DROP: Key = ("unselected_events", r#""drop""#);
const FALL_BACK: Key = ("unselected_events", r#""organization""#);
const OFF: Key = ("enabled", "false");
const ON: Key = ("enabled", "true");
const URL: Key = ("url", r#""https://campaign.example/in""#);

const INHERITED: [&str; 4] = ["organization", "event_not_selected", "disabled", "disabled"];
const CAMPAIGN: [&str; 4] = ["campaign"; 4];
const LEFT: [&str; 4] = ["organization", "event_not_selected", "disabled", "event_not_selected"];
const SAME_EVENTS: [&str; 4] = ["campaign", "event_not_selected", "campaign", "event_not_selected"];
const NOT_SELECTED: [&str; 4] = ["event_not_selected"; 4];
const SWITCHED_OFF: [&str; 4] = ["campaign_disabled"; 4];

#[rustfmt::skip]
const CASES: &[Case] = &[
    Case { campaign: "unlisted", keys: &[], webhook: None, expected: INHERITED },
    Case { campaign: "listed", keys: &[], webhook: None, expected: INHERITED },
    Case { campaign: "override_false", keys: &[("override", "false")], webhook: None, expected: INHERITED },
    // Without an override the campaign's settings have no effect, not even `enabled: false`.
    Case { campaign: "ignored", keys: &[], webhook: Some(&[URL, DELIVERED]), expected: INHERITED },
    Case { campaign: "ignored_off", keys: &[], webhook: Some(&[OFF, URL, DELIVERED]), expected: INHERITED },
    Case { campaign: "selects", keys: &[OVERRIDE], webhook: Some(&[URL, DELIVERED]), expected: CAMPAIGN },
    Case { campaign: "selects_on", keys: &[OVERRIDE], webhook: Some(&[ON, URL, DELIVERED]), expected: CAMPAIGN },
    Case { campaign: "selects_all", keys: &[OVERRIDE], webhook: Some(&[URL, ("events", r#""*""#)]), expected: CAMPAIGN },
    Case { campaign: "selects_drop", keys: &[OVERRIDE, DROP], webhook: Some(&[URL, DELIVERED]), expected: CAMPAIGN },
    Case { campaign: "selects_here", keys: &[OVERRIDE], webhook: Some(&[DELIVERED]), expected: CAMPAIGN },
    Case { campaign: "same_events", keys: &[OVERRIDE], webhook: Some(&[URL]), expected: SAME_EVENTS },
    Case { campaign: "same_all", keys: &[OVERRIDE], webhook: Some(&[("timeout", "7")]), expected: SAME_EVENTS },
    Case { campaign: "other", keys: &[OVERRIDE], webhook: Some(&[URL, QUEUED]), expected: LEFT },
    Case { campaign: "other_here", keys: &[OVERRIDE], webhook: Some(&[QUEUED]), expected: LEFT },
    Case { campaign: "other_left", keys: &[OVERRIDE, FALL_BACK], webhook: Some(&[URL, QUEUED]), expected: LEFT },
    Case { campaign: "other_drop", keys: &[OVERRIDE, DROP], webhook: Some(&[URL, QUEUED]), expected: NOT_SELECTED },
    Case { campaign: "off", keys: &[OVERRIDE], webhook: Some(&[OFF]), expected: SWITCHED_OFF },
    Case { campaign: "off_selects", keys: &[OVERRIDE], webhook: Some(&[OFF, URL, DELIVERED]), expected: SWITCHED_OFF },
    Case { campaign: "off_other", keys: &[OVERRIDE], webhook: Some(&[OFF, URL, QUEUED]), expected: SWITCHED_OFF },
    Case { campaign: "off_drop", keys: &[OVERRIDE, DROP], webhook: Some(&[OFF, QUEUED]), expected: SWITCHED_OFF },
];

/// The four states of an organization, in the order of [`Case::expected`].
const STATES: [(&str, Key, Key); 4] =
    [("on_yes", ON, DELIVERED), ("on_no", ON, QUEUED), ("off_yes", OFF, DELIVERED), ("off_no", OFF, QUEUED)];

#[test]
fn every_combination() {
    let mut checked = 0;
    for (shape, name) in [("single", None), ("named", Some("main"))] {
        let (yaml, toml) = every_combination_in(shape, name);
        for (format, store) in both(&yaml, &toml) {
            for case in CASES {
                for ((state, ..), expected) in STATES.iter().zip(case.expected) {
                    let organization = format!("{shape}.{state}");
                    let campaign = format!("{organization}.{}", case.campaign);
                    let key = match expected {
                        "organization" => TargetKey::new(&organization, None, name).to_string(),
                        "campaign" => TargetKey::new(&organization, Some(&campaign), name).to_string(),
                        reason => reason.to_owned(),
                    };
                    let got = outcome(&store, &campaign, Some(&organization), EventKind::Delivered);
                    assert_eq!(got, key, "{format}: {campaign}");
                    if case.campaign != "unlisted" {
                        let got = outcome(&store, &campaign, None, EventKind::Delivered);
                        assert_eq!(got, key, "{format}: {campaign}, no organization in the message");
                    }
                    checked += 1;
                }
            }
        }
    }
    assert_eq!(checked, 2 * 2 * 4 * CASES.len());
}

/// Writes all organizations and campaigns of the table as one store in both formats.
fn every_combination_in(shape: &str, name: Option<&str>) -> (String, String) {
    let mut yaml = String::from("organizations:\n");
    let mut toml = String::new();
    for (state, enabled, events) in STATES {
        let organization = format!("{shape}.{state}");
        let url = ("url", r#""https://organization.example/in""#);
        writeln!(yaml, "  {organization}:").unwrap();
        write_webhook(&mut yaml, &mut toml, "    ", &[&organization], name, &[enabled, events, url]);
        writeln!(yaml, "    campaigns:").unwrap();
        for case in CASES.iter().filter(|case| case.campaign != "unlisted") {
            let campaign = format!("{organization}.{}", case.campaign);
            writeln!(yaml, "      {campaign}:").unwrap();
            writeln!(toml, "[organizations.{organization:?}.campaigns.{campaign:?}]").unwrap();
            for (key, value) in case.keys {
                writeln!(yaml, "        {key}: {value}").unwrap();
                writeln!(toml, "{key} = {value}").unwrap();
            }
            if let Some(webhook) = case.webhook {
                write_webhook(&mut yaml, &mut toml, "        ", &[&organization, &campaign], name, webhook);
            }
        }
    }
    (yaml, toml)
}

fn write_webhook(
    yaml: &mut String,
    toml: &mut String,
    indent: &str,
    scope: &[&String],
    name: Option<&str>,
    keys: &[(&str, &str)],
) {
    let scope: Vec<_> = scope.iter().map(|id| format!("{id:?}")).collect();
    let scope = scope.join(".campaigns.");
    match name {
        None => {
            writeln!(yaml, "{indent}webhook:").unwrap();
            writeln!(toml, "[organizations.{scope}.webhook]").unwrap();
        }
        Some(name) => {
            writeln!(yaml, "{indent}webhooks:\n{indent}- name: {name}").unwrap();
            writeln!(toml, "[[organizations.{scope}.webhooks]]\nname = {name:?}").unwrap();
        }
    }
    for (key, value) in keys {
        writeln!(yaml, "{indent}  {key}: {value}").unwrap();
        writeln!(toml, "{key} = {value}").unwrap();
    }
}

const NAMED_YAML: &str = r#"
organizations:
  acme:
    webhooks:
      - { name: crm, url: "https://crm.example/in", events: [lead.delivered, lead.failed] }
      - { name: bi, url: "https://bi.example/in", events: "*" }
      - { name: old, url: "https://old.example/in", events: [lead.delivered], enabled: false }
    campaigns:
      one: { override: true, webhooks: [ { name: crm, timeout: 5 } ] }
      two:
        override: true
        webhooks:
          - { name: crm, events: [lead.queued] }
          - { name: own, url: "https://own.example/in", events: [lead.queued, lead.processed] }
      mixed:
        override: true
        webhooks:
          - { name: crm, enabled: false }
          - { name: own, url: "https://own.example/in", events: [lead.queued] }
      silent: { override: true, webhooks: [ { name: crm, enabled: false }, { name: own, enabled: false } ] }
      alone: { override: true, webhook: { url: "https://alone.example/in", events: [lead.failed] } }
  solo:
    webhook: { url: "https://solo.example/in", events: [lead.delivered] }
    campaigns:
      several:
        override: true
        webhooks:
          - { name: a, url: "https://a.example/in", events: [lead.delivered] }
          - { name: b, url: "https://b.example/in", events: [lead.delivered, lead.queued] }
"#;

const NAMED_TOML: &str = r#"
[organizations.acme]
webhooks = [
  { name = "crm", url = "https://crm.example/in", events = ["lead.delivered", "lead.failed"] },
  { name = "bi", url = "https://bi.example/in", events = "*" },
  { name = "old", url = "https://old.example/in", events = ["lead.delivered"], enabled = false },
]
[organizations.acme.campaigns]
one = { override = true, webhooks = [{ name = "crm", timeout = 5 }] }
silent = { override = true, webhooks = [{ name = "crm", enabled = false }, { name = "own", enabled = false }] }
alone = { override = true, webhook = { url = "https://alone.example/in", events = ["lead.failed"] } }
[organizations.acme.campaigns.two]
override = true
[[organizations.acme.campaigns.two.webhooks]]
name = "crm"
events = ["lead.queued"]
[[organizations.acme.campaigns.two.webhooks]]
name = "own"
url = "https://own.example/in"
events = ["lead.queued", "lead.processed"]
[organizations.acme.campaigns.mixed]
override = true
webhooks = [
  { name = "crm", enabled = false },
  { name = "own", url = "https://own.example/in", events = ["lead.queued"] },
]
[organizations.solo]
webhook = { url = "https://solo.example/in", events = ["lead.delivered"] }
[organizations.solo.campaigns.several]
override = true
webhooks = [
  { name = "a", url = "https://a.example/in", events = ["lead.delivered"] },
  { name = "b", url = "https://b.example/in", events = ["lead.delivered", "lead.queued"] },
]
"#;

#[test]
fn several_targets_of_a_scope() {
    use EventKind::*;
    #[rustfmt::skip]
    let table = [
        ("unlisted", Delivered, "acme#crm acme#bi"),
        ("unlisted", Queued, "acme#bi"),
        // A campaign's target replaces all targets of the organization for the events that it selects.
        ("one", Delivered, "acme/one#crm"),
        ("one", Failed, "acme/one#crm"),
        ("one", Queued, "acme#bi"),
        ("two", Queued, "acme/two#crm acme/two#own"),
        ("two", Processed, "acme/two#own"),
        ("two", Delivered, "acme#crm acme#bi"),
        // So does a disabled target, also for events that it inherits.
        ("mixed", Queued, "acme/mixed#own"),
        ("mixed", Delivered, "campaign_disabled"),
        ("mixed", Processed, "acme#bi"),
        ("silent", Delivered, "campaign_disabled"),
        ("silent", Processed, "campaign_disabled"),
        ("alone", Failed, "acme/alone"),
        ("alone", Delivered, "acme#crm acme#bi"),
        ("several", Delivered, "solo/several#a solo/several#b"),
        ("several", Queued, "solo/several#b"),
        ("several", Processed, "event_not_selected"),
    ];
    for (format, store) in both(NAMED_YAML, NAMED_TOML) {
        for (campaign, kind, expected) in table {
            let organization = (campaign == "unlisted").then_some("acme");
            assert_eq!(outcome(&store, campaign, organization, kind), expected, "{format}: {campaign} {kind}");
        }
    }
}

const TWO_YAML: &str = r#"
organizations:
  acme:
    webhook: { url: "https://acme.example/in", events: "*" }
    campaigns: { ABC: { override: true, webhook: { timeout: 9 } }, off: { override: true, webhook: { enabled: false } } }
  Other:
    webhook: { enabled: false }
    campaigns: { XYZ: { override: true, webhook: { url: "https://xyz.example/in", events: "*" } } }
"#;

const TWO_TOML: &str = r#"
[organizations.acme]
webhook = { url = "https://acme.example/in", events = "*" }
campaigns.ABC = { override = true, webhook = { timeout = 9 } }
campaigns.off = { override = true, webhook = { enabled = false } }
[organizations.Other]
webhook = { enabled = false }
campaigns.XYZ = { override = true, webhook = { url = "https://xyz.example/in", events = "*" } }
"#;

#[test]
fn placing_an_event() {
    #[rustfmt::skip]
    let table = [
        ("ABC", None, "acme/ABC"),
        ("ABC", Some("acme"), "acme/ABC"),
        ("ABC", Some("Other"), "organization_mismatch"),
        ("ABC", Some("nobody"), "organization_mismatch"),
        // Ids are case-sensitive.
        ("ABC", Some("ACME"), "organization_mismatch"),
        ("abc", Some("acme"), "acme"),
        ("abc", Some("other"), "unknown_organization"),
        ("unlisted", Some("acme"), "acme"),
        ("unlisted", Some("Other"), "disabled"),
        ("unlisted", Some("nobody"), "unknown_organization"),
        ("unlisted", None, "unknown_campaign"),
        ("XYZ", None, "Other/XYZ"),
        ("XYZ", Some("acme"), "organization_mismatch"),
    ];
    for (format, store) in both(TWO_YAML, TWO_TOML) {
        for (campaign, organization, expected) in table {
            let got = outcome(&store, campaign, organization, EventKind::Processed);
            assert_eq!(got, expected, "{format}: {campaign} of {organization:?}");
        }
    }
}

#[test]
fn the_default_organization_takes_unlisted_campaigns_of_silent_messages() {
    let yaml = r#"
default_organization: acme
organizations:
  acme:
    webhook: { url: "https://acme.example/in", events: "*" }
    campaigns: { ABC: { override: true, webhook: { enabled: false } } }
"#;
    let toml = r#"
default_organization = "acme"
[organizations.acme.webhook]
url = "https://acme.example/in"
events = "*"
[organizations.acme.campaigns.ABC]
override = true
webhook = { enabled = false }
"#;
    #[rustfmt::skip]
    let table = [
        ("unlisted", None, "acme"),
        ("unlisted", Some("acme"), "acme"),
        ("unlisted", Some("nobody"), "unknown_organization"),
        ("ABC", None, "campaign_disabled"),
        ("ABC", Some("nobody"), "organization_mismatch"),
    ];
    for (format, store) in both(yaml, toml) {
        for (campaign, organization, expected) in table {
            let got = outcome(&store, campaign, organization, EventKind::Failed);
            assert_eq!(got, expected, "{format}: {campaign} of {organization:?}");
        }
    }
}

#[test]
fn the_target_of_a_waiting_job() {
    #[rustfmt::skip]
    let table = [
        ("acme", "acme", "active"),
        ("acme", "acme/ABC", "active"),
        ("acme", "acme/off", "disabled"),
        ("Other", "Other", "disabled"),
        // A campaign's target does not depend on whether its organization is on.
        ("Other", "Other/XYZ", "active"),
        ("acme", "acme#crm", "unknown"),
        ("acme", "acme/ABC#crm", "unknown"),
        ("acme", "acme/gone", "unknown"),
        ("gone", "gone", "unknown"),
        // The campaign moved to another organization, or the job names one organization and the target another.
        ("acme", "acme/XYZ", "moved"),
        ("acme", "Other/XYZ", "moved"),
        ("acme", "Other", "moved"),
        ("gone", "gone/ABC", "moved"),
        ("acme", "/", "moved"),
    ];
    for (format, store) in both(TWO_YAML, TWO_TOML) {
        for (organization, key, expected) in table {
            let got = match store.target(organization, &TargetKey::parse(key).unwrap()) {
                TargetState::Active(target) => {
                    assert_eq!(target.key.as_str(), key);
                    assert_eq!(&*target.organization, organization);
                    "active"
                }
                TargetState::Disabled => "disabled",
                TargetState::Unknown => "unknown",
                TargetState::Moved => "moved",
            };
            assert_eq!(got, expected, "{format}: {key} for a job of {organization}");
        }
    }
}

#[test]
fn a_waiting_job_does_not_care_which_events_are_selected_now() {
    let store = load_files(&[(
        "store.yaml",
        "organizations: { acme: { webhook: { url: 'https://acme.example', events: [lead.queued] } } }",
    )])
    .unwrap();
    assert_eq!(outcome(&store, "ABC", Some("acme"), EventKind::Delivered), "event_not_selected");
    let key = TargetKey::new("acme", None, None);
    assert!(matches!(store.target("acme", &key), TargetState::Active(_)));
}
