use super::*;

/// A mistake that is not in a single key: both texts, and each problem with its place in YAML and in TOML. An empty
/// place means the store as a whole.
struct Mistake {
    yaml: &'static str,
    toml: &'static str,
    expected: &'static [(&'static str, &'static str, &'static str)],
}

#[rustfmt::skip]
const MISTAKES: &[Mistake] = &[
    Mistake {
        yaml: r#"organizations:
  acme:
    webhook:
      events: "*"
"#,
        toml: r#"[organizations.acme.webhook]
events = "*"
"#,
        expected: &[
            ("3:5", "1:21", "organizations.acme.webhook: lacks `url`; add it, or write `enabled: false` to switch the webhook off"),
        ],
    },
    Mistake {
        yaml: r"organizations:
  acme:
    webhook:
      url: https://a.example
",
        toml: r#"[organizations.acme]
webhook = { url = "https://a.example" }
"#,
        expected: &[
            ("3:5", "2:1", "organizations.acme.webhook: lacks `events`; add it, or write `enabled: false` to switch the webhook off"),
        ],
    },
    Mistake {
        yaml: r"organizations:
  acme:
    campaigns: {}
",
        toml: r"[organizations.acme]
campaigns = {}
",
        expected: &[
            ("2:3", "1:16", "organizations.acme: lacks `webhook` (or `webhooks`); if only campaigns of acme have webhooks, write `webhook: { enabled: false }`"),
        ],
    },
    Mistake {
        yaml: r#"organizations:
  "a/b":
    webhook: { enabled: false }
"#,
        toml: r#"[organizations."a/b"]
webhook = { enabled = false }
"#,
        expected: &[
            ("2:3", "1:16", r#"organizations."a/b": is not an organization id; an id is 1 to 128 of the characters A-Z a-z 0-9 . _ : -"#),
        ],
    },
    Mistake {
        yaml: r#"organizations:
  acme:
    webhook: { enabled: false }
    campaigns:
      "a b": {}
"#,
        toml: r#"[organizations.acme]
webhook = { enabled = false }
[organizations.acme.campaigns."a b"]
"#,
        expected: &[
            ("5:7", "3:31", r#"organizations.acme.campaigns."a b": is not a campaign id; an id is 1 to 128 of the characters A-Z a-z 0-9 . _ : -"#),
        ],
    },
    Mistake {
        yaml: r"organisations: {}
",
        toml: r"organisations = {}
",
        expected: &[
            ("1:1", "1:1", "organisations: is an unknown key; did you mean `organizations`?"),
        ],
    },
    Mistake {
        yaml: r"acme:
  webhook: {}
",
        toml: r"[acme]
webhook = {}
",
        expected: &[
            ("1:1", "1:2", "acme: is an unknown key; known keys here are `organizations` and `default_organization`"),
        ],
    },
    Mistake {
        yaml: r"webhook: {}
",
        toml: r"webhook = {}
",
        expected: &[
            ("1:1", "1:1", "webhook: is an unknown key; it belongs under `organizations.<id>`"),
        ],
    },
    Mistake {
        yaml: r"organizations: [acme]
",
        toml: r#"organizations = ["acme"]
"#,
        expected: &[
            ("1:16", "1:17", "organizations: is a list, but must be a map of keys"),
        ],
    },
    Mistake {
        yaml: r"organizations: {}
",
        toml: r"organizations = {}
",
        expected: &[
            ("", "", "holds no organization; a store begins with `organizations`"),
        ],
    },
    Mistake {
        yaml: r"organizations:
  acme: 5
",
        toml: r"[organizations]
acme = 5
",
        expected: &[
            ("2:9", "2:8", "organizations.acme: is a number, but must be a map of keys"),
        ],
    },
    Mistake {
        yaml: r"organizations:
  acme:
    webhook: 5
",
        toml: r"[organizations.acme]
webhook = 5
",
        expected: &[
            ("3:14", "2:11", "organizations.acme.webhook: is a number, but must be a map of keys"),
        ],
    },
    Mistake {
        yaml: r"organizations:
  acme:
    webhook: [ { enabled: false } ]
",
        toml: r"[[organizations.acme.webhook]]
enabled = false
",
        expected: &[
            ("3:14", "1:1", "organizations.acme.webhook: is a list, but must be one map of keys; a list of several targets is written under `webhooks`"),
        ],
    },
    Mistake {
        yaml: r"organizations:
  acme:
    webhooks: { enabled: false }
",
        toml: r"[organizations.acme.webhooks]
enabled = false
",
        expected: &[
            ("3:15", "1:1", "organizations.acme.webhooks: is a map, but must be a list of targets that each have a `name`"),
        ],
    },
    Mistake {
        yaml: r"organizations:
  acme:
    webhooks: []
",
        toml: r"[organizations.acme]
webhooks = []
",
        expected: &[
            ("3:15", "2:12", "organizations.acme.webhooks: is empty; list at least one target or leave the key out"),
        ],
    },
    Mistake {
        yaml: r"organizations:
  acme:
    webhook: { enabled: false }
    webhooks: [ { name: a, enabled: false } ]
",
        toml: r#"[organizations.acme]
webhook = { enabled = false }
webhooks = [ { name = "a", enabled = false } ]
"#,
        expected: &[
            ("4:5", "3:1", "organizations.acme.webhooks: stands beside `webhook`; use one of them: `webhook` for one target, `webhooks` for several"),
        ],
    },
    Mistake {
        yaml: r"organizations:
  acme:
    webhooks:
      - { name: a, enabled: false }
      - enabled: false
",
        toml: r#"[[organizations.acme.webhooks]]
name = "a"
enabled = false
[[organizations.acme.webhooks]]
enabled = false
"#,
        expected: &[
            ("5:9", "4:1", "organizations.acme.webhooks[1]: lacks `name`, which tells the targets of a list apart"),
        ],
    },
    Mistake {
        yaml: r#"organizations:
  acme:
    webhooks:
      - { name: "a#b", enabled: false }
"#,
        toml: r#"[[organizations.acme.webhooks]]
name = "a#b"
enabled = false
"#,
        expected: &[
            ("4:17", "2:8", "organizations.acme.webhooks[0].name: must be 1 to 128 of the characters A-Z a-z 0-9 . _ : -"),
        ],
    },
    Mistake {
        yaml: r"organizations:
  acme:
    url: https://a.example
    webhook: { enabled: false }
",
        toml: r#"[organizations.acme]
url = "https://a.example"
webhook = { enabled = false }
"#,
        expected: &[
            ("3:5", "2:1", "organizations.acme.url: is an unknown key; it belongs under `webhook`"),
        ],
    },
    Mistake {
        yaml: r"organizations:
  acme:
    webhook: { enabled: false }
    campaigns:
      ABC:
        enabled: false
        overide: true
",
        toml: r"[organizations.acme]
webhook = { enabled = false }
[organizations.acme.campaigns.ABC]
enabled = false
overide = true
",
        expected: &[
            ("6:9", "4:1", "organizations.acme.campaigns.ABC.enabled: is an unknown key; it belongs under `webhook`"),
            ("7:9", "5:1", "organizations.acme.campaigns.ABC.overide: is an unknown key; did you mean `override`?"),
        ],
    },
    Mistake {
        yaml: r"organizations:
  acme:
    webhook: { enabled: false }
    campaigns:
      ABC: { override: true, unselected_events: keep, webhook: { enabled: false } }
",
        toml: r#"[organizations.acme]
webhook = { enabled = false }
[organizations.acme.campaigns.ABC]
override = true
unselected_events = "keep"
webhook = { enabled = false }
"#,
        expected: &[
            ("5:49", "5:21", "organizations.acme.campaigns.ABC.unselected_events: must be `drop` or `organization` (whose targets then get these events)"),
        ],
    },
    Mistake {
        yaml: r"organizations:
  acme:
    webhook: { enabled: false }
    campaigns:
      ABC:
        override: true
        webhook: { timeout: 5 }
",
        toml: r"[organizations.acme]
webhook = { enabled = false }
[organizations.acme.campaigns.ABC]
override = true
webhook = { timeout = 5 }
",
        expected: &[
            ("7:9", "5:1", "organizations.acme.campaigns.ABC.webhook: lacks `url`, and the organization's webhook has none to inherit"),
            ("7:9", "5:1", "organizations.acme.campaigns.ABC.webhook: lacks `events`, and the organization's webhook has none to inherit"),
        ],
    },
    Mistake {
        yaml: r"organizations:
  acme:
    webhooks: [ { name: crm, enabled: false } ]
    campaigns:
      ABC:
        override: true
        webhook: { timeout: 5 }
      DEF: { override: true }
      GHI:
        override: true
        webhooks: [ { name: cmr } ]
",
        toml: r#"[organizations.acme]
webhooks = [ { name = "crm", enabled = false } ]
[organizations.acme.campaigns.ABC]
override = true
webhook = { timeout = 5 }
[organizations.acme.campaigns]
DEF = { override = true }
[organizations.acme.campaigns.GHI]
override = true
webhooks = [ { name = "cmr" } ]
"#,
        expected: &[
            ("7:9", "5:1", "organizations.acme.campaigns.ABC.webhook: lacks `url`, and the organization has no single `webhook` to inherit it from"),
            ("7:9", "5:1", "organizations.acme.campaigns.ABC.webhook: lacks `events`, and the organization has no single `webhook` to inherit it from"),
            ("8:7", "7:1", "organizations.acme.campaigns.DEF: has `override: true` but no `webhooks`; list the targets of the campaign by name"),
            ("11:21", "10:14", "organizations.acme.campaigns.GHI.webhooks[0]: lacks `url`, and the organization has no target named `cmr` to inherit it from"),
            ("11:21", "10:14", "organizations.acme.campaigns.GHI.webhooks[0]: lacks `events`, and the organization has no target named `cmr` to inherit it from"),
        ],
    },
    Mistake {
        yaml: r"default_organization: acme
organizations:
  acme: { webhook: { enabled: false } }
  other: { webhook: { enabled: false } }
",
        toml: r#"default_organization = "acme"
[organizations]
acme = { webhook = { enabled = false } }
other = { webhook = { enabled = false } }
"#,
        expected: &[
            ("1:23", "1:24", "default_organization: is allowed only in a store with one organization, and this one has 2; let the messages name their organization instead"),
        ],
    },
    Mistake {
        yaml: r"default_organization: acne
organizations:
  acme: { webhook: { enabled: false } }
",
        toml: r#"default_organization = "acne"
[organizations]
acme = { webhook = { enabled = false } }
"#,
        expected: &[
            ("1:23", "1:24", "default_organization: is not in this store; its organization is `acme`"),
        ],
    },
];

#[test]
fn every_mistake_in_a_scope_has_its_place() {
    for mistake in MISTAKES {
        let yaml = mistake.expected.iter().map(|(place, _, text)| (*place, *text));
        compare("s.yaml", mistake.yaml, yaml.collect());
        let toml = mistake.expected.iter().map(|(_, place, text)| (*place, *text));
        compare("s.toml", mistake.toml, toml.collect());
    }
}

fn compare(name: &str, text: &str, expected: Vec<(&str, &str)>) {
    let got = broken(&[(name, text)]);
    assert_eq!(got.len(), expected.len(), "{text}{got:#?}");
    for (got, (place, problem)) in got.iter().zip(expected) {
        if place.is_empty() {
            assert!(got.ends_with(&format!(": {problem}")), "{text}{got}");
        } else {
            assert_eq!(*got, format!("{name}:{place}: {problem}"), "{text}");
        }
    }
}
