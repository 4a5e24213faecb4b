use std::sync::Arc;

use super::*;
use crate::{
    event::EventKind,
    store::{Resolution, Target, ValueSource, Webhook},
};

const YAML: &str = r#"
organizations:
  acme:
    webhook:
      url: https://acme.example/in
      events: [lead.delivered, lead.failed]
      headers: { Authorization: "Bearer ${WEBHOOK_TOKEN}", X-Source: leads }
      retry_attempts: 3
      max_in_flight: 9
      max_per_second: 2.5
      timeout: 20s
      signing_secrets: [ "${WEBHOOK_SIGNING}" ]
    campaigns:
      own_url: { override: true, webhook: { url: "https://abc.example/in" } }
      same_url: { override: true, webhook: { url: "https://acme.example/in" } }
      no_url: { override: true, webhook: { timeout: 10 } }
      more_headers:
        override: true
        webhook: { headers: { authorization: "Basic ${WEBHOOK_OTHER}", X-Campaign: "5$$" }, retry_attempts: 10 }
      all_own:
        override: true
        webhook:
          enabled: true
          url: http://all.example:8080/in?key=1
          events: "*"
          headers: { X-Key: mine }
          retry_attempts: 1
          max_in_flight: 7
          max_per_second: 20
          timeout: 120
          signing_secrets: [ "${WEBHOOK_SIGNING}", "${WEBHOOK_SIGNING}" ]
      nothing: { override: true }
  bare:
    webhook: { url: "https://bare.example/in", events: "*" }
"#;

const TOML: &str = r#"
[organizations.acme.webhook]
url = "https://acme.example/in"
events = ["lead.delivered", "lead.failed"]
headers = { Authorization = "Bearer ${WEBHOOK_TOKEN}", X-Source = "leads" }
retry_attempts = 3
max_in_flight = 9
max_per_second = 2.5
timeout = 20
signing_secrets = ["${WEBHOOK_SIGNING}"]
[organizations.acme.campaigns]
own_url = { override = true, webhook = { url = "https://abc.example/in" } }
same_url = { override = true, webhook = { url = "https://acme.example/in" } }
no_url = { override = true, webhook = { timeout = 10 } }
nothing = { override = true }
[organizations.acme.campaigns.more_headers]
override = true
webhook.headers = { authorization = "Basic ${WEBHOOK_OTHER}", X-Campaign = "5$$" }
webhook.retry_attempts = 10
[organizations.acme.campaigns.all_own]
override = true
[organizations.acme.campaigns.all_own.webhook]
enabled = true
url = "http://all.example:8080/in?key=1"
events = "*"
headers = { X-Key = "mine" }
retry_attempts = 1
max_in_flight = 7
max_per_second = 20
timeout = "2m"
signing_secrets = ["${WEBHOOK_SIGNING}", "${WEBHOOK_SIGNING}"]
[organizations.bare.webhook]
url = "https://bare.example/in"
events = "*"
"#;

fn target(store: &Store, campaign: &str, organization: &str) -> Arc<Target> {
    match store.resolve(campaign, Some(organization), EventKind::Delivered) {
        Resolution::Targets(targets) => targets.into_iter().next().unwrap(),
        other => panic!("{campaign}: {other:?}"),
    }
}

/// Shows a target as one line: URL, headers, number of secrets, retries, timeout, limits.
fn line(target: &Target) -> String {
    let mut headers: Vec<_> =
        target.headers.iter().map(|(name, value)| format!("{name}={}", value.to_str().unwrap())).collect();
    headers.sort();
    assert!(target.headers.values().all(|value| value.is_sensitive()));
    format!(
        "{} [{}] secrets={} retries={} timeout={}{}{}",
        target.url,
        headers.join(", "),
        target.signing_secrets.len(),
        target.retry_attempts,
        target.timeout.as_secs(),
        target.max_in_flight.map(|most| format!(" most={most}")).unwrap_or_default(),
        target.max_per_second.map(|rate| format!(" rate={rate}")).unwrap_or_default()
    )
}

#[test]
fn every_value_is_inherited_field_by_field() {
    #[rustfmt::skip]
    let table = [
        ("unlisted", "acme", "https://acme.example/in [authorization=Bearer t0p-s3cret, x-source=leads] secrets=1 retries=3 timeout=20 most=9 rate=2.5"),
        ("no_url", "acme", "https://acme.example/in [authorization=Bearer t0p-s3cret, x-source=leads] secrets=1 retries=3 timeout=10 most=9 rate=2.5"),
        ("nothing", "acme", "https://acme.example/in [authorization=Bearer t0p-s3cret, x-source=leads] secrets=1 retries=3 timeout=20 most=9 rate=2.5"),
        ("more_headers", "acme", "https://acme.example/in [authorization=Basic 0ther, x-campaign=5$, x-source=leads] secrets=1 retries=10 timeout=20 most=9 rate=2.5"),
        ("own_url", "acme", "https://abc.example/in [] secrets=0 retries=3 timeout=20 most=9 rate=2.5"),
        ("all_own", "acme", "http://all.example:8080/in?key=1 [x-key=mine] secrets=2 retries=1 timeout=120 most=7 rate=20"),
        ("unlisted", "bare", "https://bare.example/in [] secrets=0 retries=5 timeout=30"),
    ];
    for (format, store) in both(YAML, TOML) {
        for (campaign, organization, expected) in table {
            assert_eq!(line(&target(&store, campaign, organization)), expected, "{format}: {campaign}");
        }
        assert_eq!(store.longest_timeout().unwrap().as_secs(), 120);
    }
}

#[test]
fn credentials_never_follow_to_another_url() {
    for (format, store) in both(YAML, TOML) {
        // Even if it repeats the organization's URL, a campaign with its own URL needs its own credentials.
        for campaign in ["own_url", "same_url"] {
            let target = target(&store, campaign, "acme");
            assert!(target.headers.is_empty(), "{format}: {campaign}");
            assert!(target.signing_secrets.is_empty(), "{format}: {campaign}");
        }
    }
}

#[test]
fn credentials_never_follow_between_named_targets() {
    let store = load_files(&[(
        "store.yaml",
        r#"
organizations:
  acme:
    webhooks:
      - { name: crm, url: "https://crm.example", events: "*", headers: { X-Key: crm }, timeout: 7 }
      - { name: bi, url: "https://bi.example", events: "*", headers: { X-Key: bi } }
    campaigns:
      ABC:
        override: true
        webhooks: [ { name: bi }, { name: crm, url: "https://abc.example" }, { name: new, url: "https://new.example", events: "*" } ]
"#,
    )])
    .unwrap();
    let Resolution::Targets(targets) = store.resolve("ABC", None, EventKind::Delivered) else { panic!() };
    let got: Vec<_> = targets.iter().map(|target| line(target)).collect();
    assert_eq!(
        got,
        [
            "https://bi.example/ [x-key=bi] secrets=0 retries=5 timeout=30",
            "https://abc.example/ [] secrets=0 retries=5 timeout=7",
            "https://new.example/ [] secrets=0 retries=5 timeout=30",
        ]
    );
}

#[test]
fn every_value_remembers_where_it_was_said() {
    use ValueSource::{Campaign, Default, Organization};
    for (format, store) in both(YAML, TOML) {
        let origins = |campaign: &str| {
            let webhook: &Webhook = store.webhooks().find(|webhook| webhook.key.as_str() == campaign).unwrap();
            let own = &webhook.origins;
            let mut headers: Vec<_> = own.headers.iter().map(|(name, origin)| (name.to_string(), *origin)).collect();
            headers.sort_by(|one, other| one.0.cmp(&other.0));
            let scalars = [own.enabled, own.url, own.events, own.signing_secrets, own.retry_attempts, own.timeout];
            (scalars, headers)
        };
        let header = |name: &str, origin| (name.to_owned(), origin);
        assert_eq!(
            origins("acme/more_headers"),
            (
                [Default, Organization, Organization, Organization, Campaign, Organization],
                vec![
                    header("authorization", Campaign),
                    header("x-campaign", Campaign),
                    header("x-source", Organization)
                ]
            ),
            "{format}"
        );
        let own_url = [Default, Campaign, Organization, Default, Organization, Organization];
        assert_eq!(origins("acme/own_url"), (own_url, vec![]), "{format}");
        assert_eq!(origins("acme/all_own"), ([Campaign; 6], vec![header("x-key", Campaign)]), "{format}");
        let bare = [Default, Organization, Organization, Default, Default, Default];
        assert_eq!(origins("bare"), (bare, vec![]), "{format}");
    }
}

#[test]
fn rules_about_answers_are_inherited_one_by_one_whatever_the_url() {
    let yaml = r#"
organizations:
  acme:
    webhook:
      url: https://acme.example/in
      events: "*"
      accept: [409, 302]
      never_retry: [422]
      accept_if: { json: /success, equals: true }
    campaigns:
      all: { override: true, webhook: { url: "https://b.example" } }
      own: { override: true, webhook: { accept: [], never_retry: [404, 400], accept_if: { json: "", equals: 0.5 }, keep_refused: true } }
      off: { override: true, webhook: { accept_if: false } }
  bare:
    webhook: { url: "https://bare.example/in", events: "*", accept_if: { json: /error, equals: null } }
"#;
    let toml = r#"
[organizations.acme.webhook]
url = "https://acme.example/in"
events = "*"
accept = [409, 302]
never_retry = [422]
accept_if = { json = "/success", equals = true }
[organizations.acme.campaigns]
all = { override = true, webhook = { url = "https://b.example" } }
off = { override = true, webhook = { accept_if = false } }
[organizations.acme.campaigns.own]
override = true
webhook = { accept = [], never_retry = [404, 400], accept_if = { json = "", equals = 0.5 }, keep_refused = true }
[organizations.bare.webhook]
url = "https://bare.example/in"
events = "*"
accept_if = { json = "/error", equals = "none" }
"#;
    for (format, store) in both(yaml, toml) {
        let rules = |campaign: &str| {
            let target = target(&store, campaign, "acme");
            let accept_if = target.rules.accept_if.as_ref().map(ToString::to_string).unwrap_or_default();
            format!(
                "{} | {} | {accept_if} | {}",
                target.rules.accept, target.rules.never_retry, target.rules.keep_refused
            )
        };
        assert_eq!(rules("unlisted"), "302, 409 | 422 | /success = true | false", "{format}");
        assert_eq!(rules("all"), "302, 409 | 422 | /success = true | false", "{format}");
        assert_eq!(rules("own"), "none | 400, 404 |  = 0.5 | true", "{format}");
        assert_eq!(rules("off"), "302, 409 | 422 |  | false", "{format}");
        let bare = target(&store, "unlisted", "bare").rules.accept_if.clone().unwrap();
        assert_eq!(bare.equals, if format == "YAML" { serde_json::Value::Null } else { "none".into() });
        let own = &store.webhooks().find(|webhook| webhook.key.as_str() == "acme/own").unwrap().origins;
        assert_eq!(
            [own.accept, own.never_retry, own.accept_if, own.keep_refused],
            [ValueSource::Campaign; 4],
            "{format}"
        );
        let all = &store.webhooks().find(|webhook| webhook.key.as_str() == "acme/all").unwrap().origins;
        let inherited =
            [ValueSource::Organization, ValueSource::Organization, ValueSource::Organization, ValueSource::Default];
        assert_eq!([all.accept, all.never_retry, all.accept_if, all.keep_refused], inherited, "{format}");
    }
}

#[test]
fn nothing_prints_secrets() {
    let store = load_files(&[("store.yaml", YAML)]).unwrap();
    let printed = format!("{store:?} {:?} {:?}", store.organizations().collect::<Vec<_>>(), store.warnings());
    for secret in ["t0p-s3cret", "0ther", "MDEyMzQ1", "key=1", "mine"] {
        assert!(!printed.contains(secret), "{secret} in {printed}");
    }
}
