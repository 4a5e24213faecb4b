use super::*;

/// One mistake in a webhook: the line in YAML and in TOML, the place of each, and the problem below the webhook's path.
type Line = (&'static str, &'static str, &'static str, &'static str, &'static str);

/// Mistakes beside a valid `url` and valid `events`.
#[rustfmt::skip]
const OTHER_KEYS: &[Line] = &[
    ("retry_attempts: 50", "retry_attempts = 50", "6:23", "4:18", "retry_attempts: is 50, but must be a whole number of retries from 1 to 10"),
    ("retry_attempts: 0", "retry_attempts = 0", "6:23", "4:18", "retry_attempts: is 0, but must be a whole number of retries from 1 to 10"),
    ("retry_attempts: -1", "retry_attempts = -1", "6:23", "4:18", "retry_attempts: is -1, but must be a whole number of retries from 1 to 10"),
    ("retry_attempts: 2.5", "retry_attempts = 2.5", "6:23", "4:18", "retry_attempts: is a number with a fraction, but must be a whole number of retries from 1 to 10"),
    ("retry_attempts: many", r#"retry_attempts = "many""#, "6:23", "4:18", "retry_attempts: is text, but must be a whole number of retries from 1 to 10"),
    ("retry_attempts:  99999999999999999999", "retry_attempts =  99999999999999999999", "6:24", "4:19", "retry_attempts: is a huge number, but must be a whole number of retries from 1 to 10"),
    ("timeout: 121", "timeout = 121", "6:16", "4:11", "timeout: is 121, but must be whole seconds from 1 to 120, such as 30 or 30s"),
    ("timeout: 1500ms", r#"timeout = "1500ms""#, "6:16", "4:11", "timeout: is text, but must be whole seconds from 1 to 120, such as 30 or 30s"),
    ("timeout: 3m", r#"timeout = "3m""#, "6:16", "4:11", "timeout: is text, but must be whole seconds from 1 to 120, such as 30 or 30s"),
    ("timeout: [30]", "timeout = [30]", "6:16", "4:11", "timeout: is a list, but must be whole seconds from 1 to 120, such as 30 or 30s"),
    ("enabled: yes", r#"enabled = "yes""#, "6:16", "4:11", "enabled: is text, but must be `true` or `false` (without quotes)"),
    ("enabled: 1", "enabled = 1", "6:16", "4:11", "enabled: is a number, but must be `true` or `false` (without quotes)"),
    ("max_in_flight: 0", "max_in_flight = 0", "6:22", "4:17", "max_in_flight: is 0, but must be a whole number of attempts from 1 to 1000"),
    ("max_in_flight: 1001", "max_in_flight = 1001", "6:22", "4:17", "max_in_flight: is 1001, but must be a whole number of attempts from 1 to 1000"),
    ("max_in_flight: few", r#"max_in_flight = "few""#, "6:22", "4:17", "max_in_flight: is text, but must be a whole number of attempts from 1 to 1000"),
    ("max_per_second: 0", "max_per_second = 0", "6:23", "4:18", "max_per_second: is 0, but must be a number of attempts from 0.1 to 10000"),
    ("max_per_second: 0.05", "max_per_second = 0.05", "6:23", "4:18", "max_per_second: is 0.05, but must be a number of attempts from 0.1 to 10000"),
    ("max_per_second: -2", "max_per_second = -2", "6:23", "4:18", "max_per_second: is -2, but must be a number of attempts from 0.1 to 10000"),
    ("max_per_second: 10001", "max_per_second = 10001", "6:23", "4:18", "max_per_second: is 10001, but must be a number of attempts from 0.1 to 10000"),
    ("max_per_second: 1e999", "max_per_second = 1e999", "6:23", "4:18", "max_per_second: is a huge number, but must be a number of attempts from 0.1 to 10000"),
    ("max_per_second: 10/s", r#"max_per_second = "10/s""#, "6:23", "4:18", "max_per_second: is text, but must be a number of attempts from 0.1 to 10000"),
    ("max_persecond: 3", "max_persecond = 3", "6:7", "4:1", "max_persecond: is an unknown key; did you mean `max_per_second`?"),
    ("accept: 409", "accept = 409", "6:15", "4:10", "accept: is a number, but must be a list of statuses such as [409, 422]"),
    ("accept: [conflict]", r#"accept = ["conflict"]"#, "6:16", "4:11", "accept[0]: is text, but must be a status from 300 to 599"),
    ("accept: [100]", "accept = [100]", "6:16", "4:11", "accept[0]: is 100, but must be a status from 300 to 599"),
    ("accept: [600]", "accept = [600]", "6:16", "4:11", "accept[0]: is 600, but must be a status from 300 to 599"),
    ("accept: [409, 201]", "accept = [409, 201]", "6:21", "4:16", "accept[1]: is 201, but every 2xx means delivered anyway; leave it out"),
    ("accept: [409, 409]", "accept = [409, 409]", "6:21", "4:16", "accept[1]: lists 409 a second time"),
    ("never_retry: 404", "never_retry = 404", "6:20", "4:15", "never_retry: is a number, but must be a list of statuses such as [409, 422]"),
    ("never_retry: [404, 200]", "never_retry = [404, 200]", "6:26", "4:21", "never_retry[1]: is 200, but a 2xx is never retried; `accept_if` judges a 2xx by its body"),
    ("accept_if: true", "accept_if = true", "6:18", "4:13", "accept_if: is true or false, but must be a map such as { json: /success, equals: true }, or `false` for no condition"),
    ("accept_if: { json: /success }", r#"accept_if = { json = "/success" }"#, "6:18", "4:13", "accept_if: lacks `equals`, the value that means delivered"),
    ("accept_if: { equals: true }", "accept_if = { equals = true }", "6:18", "4:13", "accept_if: lacks `json`, a JSON Pointer such as /success"),
    ("accept_if: { json: $.success, equals: true }", r#"accept_if = { json = "$.success", equals = true }"#, "6:26", "4:22", "accept_if.json: is not a JSON Pointer (RFC 6901); write /success, or /results/0/status for a value deeper down"),
    ("accept_if: { json: /success, equals: [true] }", r#"accept_if = { json = "/success", equals = [true] }"#, "6:44", "4:43", "accept_if.equals: is a list, but must be text, a number, `true`, `false` or `null`"),
    ("accept_if: { json: /a, equals: 1e999 }", r#"accept_if = { json = "/a", equals = 1e999 }"#, "6:38", "4:37", "accept_if.equals: is a huge number, but must be text, a number, `true`, `false` or `null`"),
    ("accept_if: { json: /success, equal: true, equals: true }", r#"accept_if = { json = "/success", equal = true, equals = true }"#, "6:36", "4:34", "accept_if.equal: is an unknown key; did you mean `equals`?"),
    ("keep_refused: yes", r#"keep_refused = "yes""#, "6:21", "4:16", "keep_refused: is text, but must be `true` or `false` (without quotes)"),
    ("max_inflight: 3", "max_inflight = 3", "6:7", "4:1", "max_inflight: is an unknown key; did you mean `max_in_flight`?"),
    ("retryAttempts: 3", "retryAttempts = 3", "6:7", "4:1", "retryAttempts: is an unknown key; did you mean `retry_attempts`?"),
    ("time_out: 3", "time_out = 3", "6:7", "4:1", "time_out: is an unknown key; did you mean `timeout`?"),
    ("zzz: 3", "zzz = 3", "6:7", "4:1", "zzz: is an unknown key; known keys here are `enabled`, `url`, `events`, `headers`, `retry_attempts`, `timeout`, `max_in_flight`, `max_per_second`, `accept`, `never_retry`, `accept_if`, `keep_refused`, `signing_secrets`, `client_certificate`, `ca_certificate` and `oauth2`"),
    ("name: crm", r#"name = "crm""#, "6:7", "4:1", "name: is an unknown key; only the targets of a `webhooks` list have names"),
    ("headers: [a]", r#"headers = ["a"]"#, "6:16", "4:11", "headers: is a list, but must be a map of keys"),
    ("headers: { Host: x }", r#"headers = { Host = "x" }"#, "6:18", "4:13", "headers.Host: is a reserved header: HTTP or Leadhook sets it itself; use a name of your own"),
    ("headers: { Content-Type: x }", r#"headers = { Content-Type = "x" }"#, "6:32", "4:28", "headers.Content-Type: must be `application/json; charset=utf-8` or left out: a body is JSON in UTF-8"),
    ("headers: { Content-Length: x }", r#"headers = { Content-Length = "x" }"#, "6:18", "4:13", "headers.Content-Length: is a reserved header: HTTP or Leadhook sets it itself; use a name of your own"),
    (r#"headers: { User-Agent: "" }"#, r#"headers = { User-Agent = "" }"#, "6:30", "4:26", "headers.User-Agent: is empty; write what is to stand behind `leadhook/<version>`, or leave it out"),
    ("headers: { webhook-id: x }", r#"headers = { webhook-id = "x" }"#, "6:18", "4:13", "headers.webhook-id: is a reserved header: HTTP or Leadhook sets it itself; use a name of your own"),
    ("headers: { Leadhook-Attempt: x }", r#"headers = { Leadhook-Attempt = "x" }"#, "6:18", "4:13", "headers.Leadhook-Attempt: is a reserved header: HTTP or Leadhook sets it itself; use a name of your own"),
    ("headers: { Proxy-Authorization: x }", r#"headers = { Proxy-Authorization = "x" }"#, "6:18", "4:13", "headers.Proxy-Authorization: is a reserved header: HTTP or Leadhook sets it itself; use a name of your own"),
    ("headers: { traceparent: x }", r#"headers = { traceparent = "x" }"#, "6:18", "4:13", "headers.traceparent: is a reserved header: HTTP or Leadhook sets it itself; use a name of your own"),
    (r#"headers: { "a b": x }"#, r#"headers = { "a b" = "x" }"#, "6:18", "4:13", r#"headers."a b": is not a header name; letters, digits and - _ . are usual"#),
    ("headers: { X-Key: 5 }", "headers = { X-Key = 5 }", "6:25", "4:21", "headers.X-Key: is a number, but must be a text (in quotes) or `{ file: NAME }`"),
    (r#"headers: { X-Key: "t0p\ns3cret" }"#, r#"headers = { X-Key = "t0p\ns3cret" }"#, "6:25", "4:21", "headers.X-Key: contains a line break; a header value is one line (is there one at the end of a variable?)"),
    (r#"headers: { X-Key: "käse" }"#, r#"headers = { X-Key = "käse" }"#, "6:25", "4:21", "headers.X-Key: contains characters other than printable ASCII, which header values cannot carry"),
    (r#"headers: { X-Key: " t0p" }"#, r#"headers = { X-Key = " t0p" }"#, "6:25", "4:21", "headers.X-Key: begins or ends with a blank, which HTTP would drop"),
    (r#"headers: { X-Key: "cost: 5$" }"#, r#"headers = { X-Key = "cost: 5$" }"#, "6:25", "4:21", "headers.X-Key: has a `$` that begins no `${NAME}`; write `$$` for a literal dollar"),
    (r#"headers: { X-Key: "${WEBHOOK_ABSENT}" }"#, r#"headers = { X-Key = "${WEBHOOK_ABSENT}" }"#, "6:25", "4:21", "headers.X-Key: refers to the variable `WEBHOOK_ABSENT`, which is not set"),
    ("signing_secrets: whsec_abc", r#"signing_secrets = "whsec_abc""#, "6:24", "4:19", "signing_secrets: is text, but must be a list of secrets, even if it is only one"),
    ("signing_secrets: []", "signing_secrets = []", "6:24", "4:19", "signing_secrets: is empty; list at least one secret or leave the key out"),
    ("timeout:", "", "6:14", "", "timeout: has no value, but must be whole seconds from 1 to 120, such as 30 or 30s"),
    ("headers: { X-Key: a, x-key: b }", "", "6:28", "", "headers.x-key: is the same header as the one on line 6: header names have no case"),
    ("", r#"headers = { X-Key = "a", x-key = "b" }"#, "", "4:26", "headers.x-key: is the same header as the one on line 4: header names have no case"),
];

/// Mistakes in `url` or `events`, while the other key is valid.
#[rustfmt::skip]
const URL_OR_EVENTS: &[Line] = &[
    (r#"url: "htps://a.example""#, r#"url = "htps://a.example""#, "5:12", "3:7", "url: has another scheme, but must begin with `https://` or `http://`"),
    (r#"url: "a.example/in""#, r#"url = "a.example/in""#, "5:12", "3:7", "url: is not a complete URL; begin with `https://` or `http://`"),
    (r#"url: "https://""#, r#"url = "https://""#, "5:12", "3:7", "url: is not a URL: empty host; write `https://host/path`"),
    (r#"url: "https://user:pw@a.example""#, r#"url = "https://user:pw@a.example""#, "5:12", "3:7", "url: holds a user name or password; put them into an `Authorization` header instead"),
    (r#"url: "https://a.example/in#top""#, r#"url = "https://a.example/in#top""#, "5:12", "3:7", "url: has a fragment (`#...`), which HTTP does not send; leave it out or write `%23`"),
    (r#"url: "https://a.example/${WEBHOOK_TOKEN}""#, r#"url = "https://a.example/${WEBHOOK_TOKEN}""#, "5:12", "3:7", "url: contains `${`; variables are allowed in header values and secrets only, never in URLs"),
    (r#"url: "https://a.example/a b""#, r#"url = "https://a.example/a b""#, "5:12", "3:7", "url: contains blanks or control characters; write them percent-encoded"),
    (r#"url: "https://a.example:99999/""#, r#"url = "https://a.example:99999/""#, "5:12", "3:7", "url: is not a URL: invalid port number; write `https://host/path`"),
    (r#"url: "mailto:a@b.example""#, r#"url = "mailto:a@b.example""#, "5:12", "3:7", "url: has another scheme, but must begin with `https://` or `http://`"),
    (r#"url: "https://a.example:0/""#, r#"url = "https://a.example:0/""#, "5:12", "3:7", "url: has the port 0, on which no server can listen"),
    ("events: lead.delivered", r#"events = "lead.delivered""#, "5:15", "3:10", r#"events: must be a list of events, or "*" for all of them; write [lead.delivered]"#),
    ("events: []", "events = []", "5:15", "3:10", "events: is empty; list at least one event, or write `enabled: false` to switch the webhook off"),
    ("events: [lead.deliverd]", r#"events = ["lead.deliverd"]"#, "5:16", "3:11", "events[0]: is not an event; did you mean `lead.delivered`?"),
    ("events: [lead.failed, lead.failed]", r#"events = ["lead.failed", "lead.failed"]"#, "5:29", "3:26", "events[1]: lists lead.failed a second time"),
    (r#"events: ["*"]"#, r#"events = ["*"]"#, "5:16", "3:11", r#"events[0]: stands in a list; for all events write "*" by itself, without brackets"#),
    ("events: [7]", "events = [7]", "5:16", "3:11", "events[0]: is a number, but must be the name of an event"),
    ("events: [nonsense]", r#"events = ["nonsense"]"#, "5:16", "3:11", "events[0]: is not an event; events are `lead.delivered`, `lead.disqualified`, `lead.failed`, `lead.queued`, `lead.first_submission_action` and `lead.processed`"),
    ("events: { a: b }", r#"events = { a = "b" }"#, "5:15", "3:10", r#"events: is a map, but must be a list of events, or "*" for all of them"#),
];

#[test]
fn every_mistake_in_a_webhook_has_its_place() {
    let good = (r#"url: "https://a.example""#, r#"events: "*""#);
    for line in OTHER_KEYS {
        check(line, &[good.0, good.1]);
    }
    for line in URL_OR_EVENTS {
        let other = if line.4.starts_with("url") { good.1 } else { good.0 };
        check(line, &[other]);
    }
}

fn check((yaml, toml, yaml_place, toml_place, problem): &Line, good: &[&str]) {
    if !yaml.is_empty() {
        let mut text = String::from("organizations:\n  acme:\n    webhook:\n");
        for line in good.iter().chain([yaml]) {
            text.push_str(&format!("      {line}\n"));
        }
        let expected = format!("s.yaml:{yaml_place}: organizations.acme.webhook.{problem}");
        assert_eq!(broken(&[("s.yaml", &text)]), [expected], "{text}");
    }
    if !toml.is_empty() {
        let mut text = String::from("[organizations.acme.webhook]\n");
        for line in good.iter().map(|line| line.replacen(": ", " = ", 1)).chain([(*toml).to_owned()]) {
            text.push_str(&format!("{line}\n"));
        }
        let expected = format!("s.toml:{toml_place}: organizations.acme.webhook.{problem}");
        assert_eq!(broken(&[("s.toml", &text)]), [expected], "{text}");
    }
}

#[test]
fn a_status_means_delivered_or_failed_and_not_both() {
    let text = "organizations:\n  acme:\n    webhook:\n      url: https://a.example\n      events: \"*\"\n      accept: [409]\n";
    let [problem] = broken(&[("s.yaml", &format!("{text}      never_retry: [404, 409]\n"))]).try_into().unwrap();
    let of_one = "s.yaml:7:26: organizations.acme.webhook.never_retry[1]: is 409, which `accept` lists too; \
                  it means delivered or failed, not both";
    assert_eq!(problem, of_one);
    let campaign = "    campaigns:\n      ABC: { override: true, webhook: { never_retry: [404, 409] } }\n";
    let [problem] = broken(&[("s.yaml", &format!("{text}{campaign}"))]).try_into().unwrap();
    let of_two = "s.yaml:8:30: organizations.acme.campaigns.ABC.webhook: has 409 in `accept` and in `never_retry`, one of them \
                  from the organization; it means delivered or failed, not both: write both lists here";
    assert_eq!(problem, of_two);
}

#[test]
fn a_bad_signing_secret_is_named_by_its_place_only() {
    let yaml = "organizations:\n  acme:\n    webhook:\n      enabled: false\n      signing_secrets: [ whsec_dDBw ]\n";
    let [problem] = broken(&[("s.yaml", yaml)]).try_into().unwrap();
    assert!(
        problem.starts_with("s.yaml:5:26: organizations.acme.webhook.signing_secrets[0]: is not a signing secret: "),
        "{problem}"
    );
    assert!(!problem.contains("dDBw"), "{problem}");
}

#[test]
fn all_problems_come_at_once_in_the_order_of_the_file() {
    let yaml = r#"
organizations:
  acme:
    webhook:
      url: ftp://a.example
      events: [lead.deliverd, lead.failed, lead.lost]
      retry_attempts: 11
      time_out: 5
    campaigns:
      ABC:
        override: "true"
      DEF:
        override: true
        webhook: { timeout: 0 }
  other: {}
"#;
    let got = broken(&[("s.yaml", yaml)]);
    let places: Vec<_> = got.iter().map(|problem| problem.split(": ").next().unwrap()).collect();
    assert_eq!(
        places,
        [
            "s.yaml:5:12",
            "s.yaml:6:16",
            "s.yaml:6:44",
            "s.yaml:7:23",
            "s.yaml:8:7",
            "s.yaml:11:19",
            "s.yaml:14:29",
            "s.yaml:15:3"
        ],
        "{got:#?}"
    );
}

#[test]
fn problems_hold_neither_urls_nor_values() {
    let yaml = r#"
organizations:
  acme:
    webhook:
      url: "https://us3r:pa55@a.example/?k=qu3ry"
      events: "*"
      headers: { A: "v4lue\n", B: "v4lue $", C: "v4lue ${", D: " v4lue", E: "v4lue ${v 4 l}", F: { file: x, prefix: "v4lue $" }, G: "${WEBHOOK_LINES}", H: [v4lue] }
      signing_secrets: [ "whsec_v4lue", "v4lue" ]
"#;
    let got = broken(&[("s.yaml", yaml)]);
    assert_eq!(got.len(), 11, "{got:#?}");
    for word in ["us3r", "pa55", "qu3ry", "v4lue", "t0p"] {
        assert!(!got.join("\n").contains(word), "{word} in {got:#?}");
    }
}

#[test]
fn a_problem_is_one_line_whatever_the_store_names() {
    let yaml = "organizations:\n  \"a\\nb\": { webhook: { enabled: false }, campaigns: { X: } }\n  \
                c: { webhook: { enabled: false, headers: { A: { file: \"\\e[2J\\u2028\\n\" } } }, campaigns: { X: } }\n";
    let got = broken(&[("s.yaml", yaml)]);
    assert!(!got.iter().any(|line| line.contains(|c: char| c.is_control() || c == '\u{2028}')), "{got:#?}");
    let all = got.join(" ");
    assert!(all.contains(r"organization `a\nb`") && all.contains(r"the file `\u{1b}[2J\u{2028}\n`"), "{got:#?}");
}

#[test]
fn more_headers_than_servers_take_are_refused_and_are_no_panic() {
    for (count, refused) in [(50, false), (51, true), (40_000, true)] {
        let headers: Vec<_> = (0..count).map(|n| format!("x-{n}: a")).collect();
        let headers = headers.join(", ");
        let yaml = format!(
            "organizations: {{ acme: {{ webhook: {{ url: 'https://a.example', events: '*', headers: {{ {headers} }} }} }} }}"
        );
        match load_files(&[("s.yaml", &yaml)]) {
            Ok(_) => assert!(!refused, "{count}"),
            Err(problems) => {
                let expected = format!("webhook.headers: has {count} headers, but must have at most 50");
                assert!(refused && problems.to_string().ends_with(&expected), "{problems}");
            }
        }
    }
}

#[test]
fn settings_without_effect_are_warned_of() {
    let yaml = r#"
organizations:
  acme:
    webhook: { url: "https://a.example", events: "*" }
    campaigns:
      ABC: { webhook: { timeout: 5 } }
      DEF: { override: false, unselected_events: drop }
      GHI: { override: true }
      JKL: { override: true, webhook: { keep_refused: true } }
"#;
    let store = load_files(&[("s.yaml", yaml)]).unwrap();
    assert!(!store.warnings().has_errors());
    assert_eq!(
        lines(store.warnings()),
        [
            "s.yaml:6:14: organizations.acme.campaigns.ABC: the campaign's webhook settings have no effect \
             without `override: true`; the organization's settings apply",
            "s.yaml:7:7: organizations.acme.campaigns.DEF: `unselected_events` has no effect without \
             `override: true`",
            "s.yaml:8:7: organizations.acme.campaigns.GHI: `override: true` without a `webhook` inherits \
             every value from the organization except `enabled`, which defaults to true",
            "s.yaml:9:30: organizations.acme.campaigns.JKL.webhook: `keep_refused` has no effect without `accept_if`, \
             because only that refuses deliveries",
        ]
    );
}
