//! The webhook store, in both of its formats.

use std::collections::BTreeSet;

use leadhook::store::{Problems, Store};
use proptest::{prelude::*, sample::select};
use serde_json::{Map, Value, json};

use crate::{
    checks::store::{check, input, shown},
    generate::edited,
};

/// Appears only in URLs, header values and signing secrets, so no problem may show it.
const LITERAL: &str = "l1teral-c4n4ry";

/// Mostly `good`, otherwise a value that is invalid there.
fn or_wrong(good: impl Strategy<Value = Value> + 'static) -> BoxedStrategy<Value> {
    let wrong = prop_oneof![
        Just(json!(true)),
        any::<i64>().prop_map(|number| json!(number)),
        Just(json!(1.5)),
        Just(json!("")),
        Just(json!(format!("{LITERAL}\n\u{1b}[2J"))),
        Just(json!([LITERAL])),
        Just(json!([])),
        Just(json!({})),
        Just(json!({ "prefix": LITERAL })),
        Just(json!({ "X-Key": { "y": [LITERAL] } })),
    ];
    prop_oneof![24 => good, 1 => wrong].boxed()
}

fn url() -> impl Strategy<Value = Value> {
    let good = ["https://crm.example/in/l1teral-c4n4ry", "http://[::1]:8080/?key=l1teral-c4n4ry"];
    let odd = [
        "ftp://crm.example/l1teral-c4n4ry",
        "https://l1teral-c4n4ry@crm.example",
        "https://crm.example/#l1teral-c4n4ry",
        "https://crm.example:99999/l1teral-c4n4ry",
        "https://crm.example/l1teral-c4n4ry here",
        "//crm.example/l1teral-c4n4ry",
        "https://crm.example:0/l1teral-c4n4ry",
        "https://[l1teral-c4n4ry]/",
        "https://crm.example/${l1teral-c4n4ry}",
    ];
    prop_oneof![9 => select(good.to_vec()), 1 => select(odd.to_vec())].prop_map(Value::from)
}

/// A header value or a signing secret.
fn secret(literal: &'static [&'static str], file: &'static str) -> impl Strategy<Value = Value> {
    let from_file = select(vec![
        json!({ "file": file }),
        json!({ "file": file, "prefix": "" }),
        json!({ "file": "absent" }),
        json!({ "file": "../token" }),
        json!({ "file": "a\u{1b}[31m\nb" }),
        json!({ "file": file, "prefix": "$l1teral-c4n4ry" }),
        json!({ "file": 7, "prefix": ["l1teral-c4n4ry"] }),
    ]);
    prop_oneof![6 => select(literal).prop_map(Value::from), 2 => Just(json!({ "file": file })), 1 => from_file]
}

fn headers() -> impl Strategy<Value = Value> {
    let name = prop_oneof![
        9 => select(&["Authorization", "X-Key", "x-key", "X-Tag"][..]),
        1 => select(&["Host", "Webhook-Id", "content-type", "a b", "", "x\n"][..]),
    ];
    let literal = &[
        "Bearer l1teral-c4n4ry",
        "l1teral-c4n4ry",
        "a$$b",
        "l1teral-c4n4ry\n",
        " l1teral-c4n4ry",
        "$l1teral-c4n4ry",
        "é",
    ];
    map(name.prop_map(str::to_owned), or_wrong(secret(literal, "token")), 3)
}

fn signing_secrets() -> impl Strategy<Value = Value> {
    let literal = &[
        "whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3",
        "whsec_l1teral-c4n4ry",
        "l1teral-c4n4ry",
        "whsec_bDF0ZXJhbC1jNG40cnk=",
    ];
    prop::collection::vec(or_wrong(secret(literal, "signing")), 0..3).prop_map(Value::from)
}

fn events() -> impl Strategy<Value = Value> {
    let kinds = || select(&["lead.delivered", "lead.failed", "lead.queued", "lead.processed"][..]);
    prop_oneof![
        2 => Just(json!("*")),
        6 => prop::collection::btree_set(kinds(), 1..4).prop_map(|kinds| json!(kinds)),
        1 => prop::collection::vec(prop_oneof![kinds(), Just("*"), Just("lead.delivred"), Just("l\u{1b}")], 0..3)
            .prop_map(|kinds| json!(kinds)),
    ]
}

fn map(
    key: impl Strategy<Value = String>,
    value: impl Strategy<Value = Value>,
    most: usize,
) -> impl Strategy<Value = Value> {
    prop::collection::vec((key, value), 0..=most).prop_map(|members| Value::Object(members.into_iter().collect()))
}

/// Each member is present or not, with its own probability.
fn members(all: Vec<(&'static str, f64, BoxedStrategy<Value>)>) -> impl Strategy<Value = Map<String, Value>> {
    let each: Vec<_> = all
        .into_iter()
        .map(|(key, there, value)| prop::option::weighted(there, (Just(key.to_owned()), or_wrong(value))))
        .collect();
    each.prop_map(|members| members.into_iter().flatten().collect())
}

fn webhook(said: f64) -> impl Strategy<Value = Map<String, Value>> {
    members(vec![
        ("url", said, url().boxed()),
        ("events", said, events().boxed()),
        ("enabled", 0.3, any::<bool>().prop_map(Value::from).boxed()),
        ("headers", 0.5, headers().boxed()),
        ("signing_secrets", 0.3, signing_secrets().boxed()),
        ("retry_attempts", 0.3, (0i64..12).prop_map(Value::from).boxed()),
        (
            "timeout",
            0.3,
            prop_oneof![select(&[-1i64, 0, 1, 60, 120, 121, 1 << 32][..]).prop_map(Value::from), Just(json!("30s"))]
                .boxed(),
        ),
        ("tiemout", 0.01, Just(json!(1)).boxed()),
    ])
}

/// `webhook` or `webhooks`, occasionally both.
fn webhooks(said: f64) -> impl Strategy<Value = Vec<(String, Value)>> {
    let named = (prop_oneof![9 => "[ab]", 1 => "[ab /\n]{0,2}"], webhook(said)).prop_map(|(name, mut webhook)| {
        webhook.insert("name".to_owned(), name.into());
        Value::Object(webhook)
    });
    let one = webhook(said).prop_map(|webhook| ("webhook".to_owned(), Value::Object(webhook))).boxed();
    let several = prop::collection::vec(named, 1..3).prop_map(|all| ("webhooks".to_owned(), Value::from(all))).boxed();
    prop_oneof![
        8 => one.clone().prop_map(|one| vec![one]),
        4 => several.clone().prop_map(|several| vec![several]),
        1 => (one, several).prop_map(|(one, several)| vec![one, several]),
        1 => Just(Vec::new()),
    ]
}

fn campaign() -> impl Strategy<Value = Value> {
    let own = members(vec![
        ("override", 0.8, Just(json!(true)).boxed()),
        ("unselected_events", 0.3, select(&["drop", "organization", "keep"][..]).prop_map(Value::from).boxed()),
    ]);
    (own, webhooks(0.6)).prop_map(|(mut own, webhooks)| {
        own.extend(webhooks);
        Value::Object(own)
    })
}

fn id() -> impl Strategy<Value = String> {
    prop_oneof![30 => "[A-D]", 10 => "[a-z0-9._:-]{1,12}", 1 => "[a \n\u{1b}é/#]{0,3}"]
}

/// A store as people write it, with a few mistakes.
fn store() -> impl Strategy<Value = Value> {
    let organization = (webhooks(0.97), prop::option::of(or_wrong(map(id(), or_wrong(campaign()), 4)))).prop_map(
        |(webhooks, campaigns)| {
            let mut all: Map<_, _> = webhooks.into_iter().collect();
            all.extend(campaigns.map(|campaigns| ("campaigns".to_owned(), campaigns)));
            Value::Object(all)
        },
    );
    let default = prop::option::weighted(0.2, or_wrong(id().prop_map(Value::from)));
    (or_wrong(map(id(), or_wrong(organization), 3)), default).prop_map(|(organizations, default)| {
        let mut all = json!({ "organizations": organizations });
        if let Some(default) = default {
            all["default_organization"] = default;
        }
        all
    })
}

/// Writes the same tree as TOML: a line for each top-level key, with everything below it inline.
fn toml(value: &Value) -> String {
    fn inline(value: &Value) -> String {
        match value {
            Value::Object(map) => {
                let members: Vec<_> =
                    map.iter().map(|(key, value)| format!("{} = {}", json!(key), inline(value))).collect();
                format!("{{ {} }}", members.join(", "))
            }
            Value::Array(values) => format!("[{}]", values.iter().map(inline).collect::<Vec<_>>().join(", ")),
            leaf => leaf.to_string(),
        }
    }
    let map = value.as_object().expect("a map");
    map.iter().map(|(key, value)| format!("{} = {}\n", json!(key), inline(value))).collect()
}

/// Returns problems without places and format names, in an order that is independent of the format.
fn said(result: &Result<Store, Problems>) -> BTreeSet<String> {
    let problems = match result {
        Ok(store) => store.warnings(),
        Err(problems) => problems,
    };
    let plain = |text: &str| -> String {
        let words = text.split(' ').map(|word| if word.contains("/store.") { "PLACE" } else { word });
        words.map(|word| word.trim_matches(|c: char| c.is_ascii_digit())).collect::<Vec<_>>().join(" ")
    };
    problems
        .iter()
        .map(|problem| format!("{:?} {}: {}", problem.severity, problem.path, plain(&problem.text)))
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn both_formats_say_the_same_and_show_nothing_that_is_secret(tree in store()) {
        let yaml = check(tree.to_string().as_bytes(), "yaml");
        let toml = check(toml(&tree).as_bytes(), "toml");
        prop_assert_eq!(said(&yaml), said(&toml));
        for result in [&yaml, &toml] {
            let shown = match result {
                Ok(store) => shown(store),
                Err(problems) => format!("{problems} {}", problems.summary()),
            };
            prop_assert!(!shown.contains(LITERAL), "{}", shown);
        }
        prop_assert_eq!(yaml.is_ok(), toml.is_ok());
        if let (Ok(yaml), Ok(toml)) = (yaml, toml) {
            let keys = |store: &Store| store.webhooks().map(|webhook| format!("{webhook:?}")).collect::<Vec<_>>();
            prop_assert_eq!(keys(&yaml), keys(&toml));
        }
    }

    #[test]
    fn a_store_with_slips_of_the_hand_is_read_or_refused_with_places(bytes in edited("store")) {
        input(&bytes);
    }

    #[test]
    fn bytes_of_any_kind_are_refused_with_places(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        prop_assert_eq!(input(&bytes), "refused");
    }
}

/// Returns a store of one organization with this webhook, in both formats.
fn with_webhook(yaml: &str, toml: &str) -> [(String, &'static str); 2] {
    [
        (
            format!("organizations: {{ acme: {{ webhook: {{ url: 'https://a.example', events: '*', {yaml} }} }} }}"),
            "yaml",
        ),
        (format!("[organizations.acme.webhook]\nurl = 'https://a.example'\nevents = '*'\n{toml}"), "toml"),
    ]
}

#[test]
fn names_that_are_not_the_stores_to_set_are_refused_in_either_case() {
    let names = "connection content-length content-type expect host keep-alive leadhook-attempt proxy-authorization te \
                 traceparent trailer transfer-encoding upgrade webhook-id webhook-signature webhook-timestamp";
    for name in names.split(' ').flat_map(|name| [name.to_owned(), name.to_uppercase()]) {
        let table = format!("[organizations.acme.webhook.headers]\n{name} = 'x'\n");
        for (text, format) in with_webhook(&format!("headers: {{ {name}: x }}"), &table) {
            assert!(check(text.as_bytes(), format).is_err(), "{name}");
        }
    }
}

#[test]
fn ten_thousands_of_headers_are_refused_and_not_a_panic() {
    let names = || (0..40_000).map(|n| format!("x-{n}"));
    let yaml = names().map(|name| format!("{name}: a")).collect::<Vec<_>>().join(", ");
    let toml = names().map(|name| format!("{name} = 'a'\n")).collect::<String>();
    for (text, format) in
        with_webhook(&format!("headers: {{ {yaml} }}"), &format!("[organizations.acme.webhook.headers]\n{toml}"))
    {
        let problems = check(text.as_bytes(), format).unwrap_err().to_string();
        assert!(problems.contains("40000 headers"), "{problems:.200}");
    }
}

#[test]
fn what_is_nested_without_end_is_refused() {
    for depth in [100, 3_000, 50_000] {
        let (open, close) = ("[".repeat(depth), "]".repeat(depth));
        let cases = [
            (format!("organizations: {open}{close}"), "yaml"),
            (format!("organizations: {}", "{a: ".repeat(depth)), "yaml"),
            (
                format!(
                    "organizations:\n{}",
                    (0..depth.min(300)).map(|n| format!("{}a:\n", " ".repeat(n))).collect::<String>()
                ),
                "yaml",
            ),
            (format!("organizations: {}a", "- ".repeat(depth)), "yaml"),
            (format!("organizations = {open}{close}"), "toml"),
            (format!("organizations = {}1{}", "{a = ".repeat(depth), "}".repeat(depth)), "toml"),
            (format!("organizations{} = 1", ".a".repeat(depth)), "toml"),
            (format!("[organizations{}]\na = 1", ".a".repeat(depth)), "toml"),
            (format!("organizations = {{ a{} = 1 }}", ".a".repeat(depth)), "toml"),
        ];
        for (text, format) in cases {
            assert!(check(text.as_bytes(), format).is_err(), "{text:.40}");
        }
    }
}

#[test]
fn what_grows_when_it_is_read_stays_bounded() {
    let mut aliases = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
    for level in 1..6 {
        let last = format!("*a{}", level - 1);
        aliases.push_str(&format!("a{level}: &a{level} [{}]\n", [last.as_str(); 10].join(", ")));
    }
    let anchors: String = (0..60).map(|n| format!("&b{n} [")).collect();
    let long = format!("? {}\n: [{}]\n", "k".repeat(20_000), "x, ".repeat(20_000));
    let keys: String = (0..20_000).map(|n| format!("k{n}: {{}}\n")).collect();
    let members: Vec<_> = (0..20_000).map(|n| format!("k{n} = []")).collect();
    let wide = format!("organizations = {{ long = '{}', {} }}", "x".repeat(8 << 20), members.join(", "));
    let text = format!("a0: &a0 {}\na1: [{}]\n", "x".repeat(1 << 20), vec!["*a0"; 1_000].join(", "));
    let kept = format!("b: {anchors}{}{}", "x".repeat(4 << 20), "]".repeat(60));
    let long_id: Vec<_> = (0..5_000).map(|n| format!("c{n} = {{}}")).collect();
    let long_id = format!("[organizations.{}.campaigns]\n{}", "k".repeat(1 << 20), long_id.join("\n"));
    let cases = [
        (aliases, "yaml"),
        (text, "yaml"),
        (kept, "yaml"),
        (long_id, "toml"),
        (format!("a: {anchors}{}{}", "x, ".repeat(5_000), "]".repeat(60)), "yaml"),
        (long, "yaml"),
        (keys, "yaml"),
        (wide, "toml"),
    ];
    for (text, format) in cases {
        let problems = check(text.as_bytes(), format).unwrap_err().to_string();
        assert_eq!(problems.contains("too large by aliases"), text.starts_with("a0: &a0"), "{problems:.200}");
        assert_eq!(problems.contains("too large by anchors"), text.starts_with("b: "), "{problems:.200}");
        assert!(problems.len() < 16 << 20, "{} bytes of problems", problems.len());
    }
}

#[test]
fn lists_that_cost_something_for_each_event_are_bounded() {
    let store = |webhook: String| format!("organizations:\n  acme:\n    {webhook}\n");
    let url = "url: \"https://a.example/\", events: \"*\"";
    let secret = "\"whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\"";
    let signed = |count| store(format!("webhook: {{ {url}, signing_secrets: [{}] }}", vec![secret; count].join(", ")));
    let targets = |count| {
        let targets: Vec<_> = (0..count).map(|n| format!("{{ name: t{n}, {url} }}")).collect();
        store(format!("webhooks: [{}]", targets.join(", ")))
    };
    for (fits, too_many, said) in [
        (signed(10), signed(11), "has 11 secrets, but must have at most 10"),
        (targets(50), targets(51), "has 51 targets, but must have at most 50"),
    ] {
        assert!(check(fits.as_bytes(), "yaml").is_ok());
        let problems = check(too_many.as_bytes(), "yaml").unwrap_err().to_string();
        assert!(problems.contains(said), "{problems:.300}");
    }
}

#[test]
fn columns_count_characters_however_long_the_line_is() {
    for length in [0, 1, 500, 511, 512, 1_000, 3_000] {
        let start = format!("organizations = {{ acme = {{ note = '{}', ", "é".repeat(length));
        let problems = check(format!("{start}wrong = 1 }} }}").as_bytes(), "toml").unwrap_err();
        let wrong = problems.iter().find(|problem| problem.path == "organizations.acme.wrong").unwrap();
        assert_eq!(wrong.place.as_ref().unwrap().column, start.chars().count() + 1, "{length}");
    }
}
