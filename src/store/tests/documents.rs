use super::*;

/// Mistakes that only one format can have, or whose messages name a line.
#[test]
fn mistakes_of_one_format() {
    #[rustfmt::skip]
    let table = [
        ("s.yaml", "- acme\n", "1:1: is a list, but must be a map of keys"),
        ("s.yaml", "# nothing\n", "1:1: is empty; a store begins with `organizations`"),
        ("s.toml", "# nothing\n", "1:1: is empty; a store begins with `organizations`"),
        ("s.yaml", "organizations:\n  a: { webhook: { enabled: false } }\n  a: {}\n", "3:3: organizations.a: is defined twice in this file, first on line 2"),
        ("s.yaml", "organizations:\n  a:\n    webhook: { enabled: false, timeout: 1, timeout: 1 }\n", "3:44: organizations.a.webhook.timeout: is defined twice in this file, first on line 3"),
        ("s.toml", "[organizations]\na.webhook.enabled = false\na = 5\n", "3:1: is not valid TOML: duplicate key"),
        ("s.yaml", "organizations:\n  a:\n    webhook: { enabled: false\n", "4:1: is not valid YAML: while parsing a flow mapping, did not find expected ',' or '}'"),
        ("s.yaml", "organizations:\n  a: { webhook: { url: \"x\"", "2:27: is not valid YAML: while parsing a flow mapping, did not find expected ',' or '}'"),
        ("s.toml", "[organizations.a]\nwebhook = { enabled = false\n", "2:28: is not valid TOML: unclosed inline table, expected `}`"),
        ("s.yaml", "organizations: {}\n---\norganizations: {}\n", "2:1: begins a second YAML document; write one document a file"),
        ("s.yaml", "organizations:\n  a:\n    <<: {}\n", "3:5: organizations.a: uses a YAML merge key (`<<`); merge keys are not supported, write the keys out"),
        ("s.yaml", "organizations:\n  a: !!map {}\n", "2:6: organizations.a: uses a YAML tag; tags are not supported, write the plain value"),
        ("s.yaml", "organizations:\n  ? [a]\n  : {}\n", "2:5: organizations: uses a list or map as a key; keys must be plain text"),
        ("s.yaml", "organizations: &a\n  b: *a\n", "2:6: organizations.b: is an alias inside the very value that it names"),
        ("s.yaml", "organizations:\n  a:\n    webhooks:\n      - { name: x, enabled: false }\n      - { name: x, enabled: false }\n", "5:17: organizations.a.webhooks[1].name: is the name of another target of this list too, on line 4; names must differ"),
        ("s.toml", "[[organizations.a.webhooks]]\nname = \"x\"\nenabled = false\n[[organizations.a.webhooks]]\nname = \"x\"\nenabled = false\n", "5:8: organizations.a.webhooks[1].name: is the name of another target of this list too, on line 2; names must differ"),
    ];
    for (name, text, expected) in table {
        assert_eq!(broken(&[(name, text)]), [format!("{name}:{expected}")], "{text}");
    }
}

#[test]
fn a_campaign_of_two_organizations_names_both_places() {
    let yaml = "organizations:\n  a:\n    webhook: { enabled: false }\n    campaigns: { X: {} }\n  \
                b:\n    webhook: { enabled: false }\n    campaigns: { X: {} }\n";
    let toml = "[organizations.a]\nwebhook.enabled = false\ncampaigns.X = {}\n\
                [organizations.b]\nwebhook.enabled = false\ncampaigns.X = {}\n";
    for (name, text, place, first) in [("s.yaml", yaml, "7:18", "4:18"), ("s.toml", toml, "6:11", "3:11")] {
        let [problem] = broken(&[(name, text)]).try_into().unwrap();
        assert!(
            problem.starts_with(&format!(
                "{name}:{place}: organizations.b.campaigns.X: is a campaign of the organization `a` too, at "
            )),
            "{problem}"
        );
        assert!(problem.contains(&format!("/{name}:{first}; ")), "{problem}");
    }
}

#[test]
fn aliases_are_copied_up_to_a_bound() {
    let yaml = "organizations:\n  a: &scope\n    webhook: { url: 'https://a.example', events: '*' }\n  b: *scope\n";
    assert_eq!(load_files(&[("s.yaml", yaml)]).unwrap().organizations().count(), 2);

    let mut bomb = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
    for level in 1..9 {
        let below = format!("*a{}", level - 1);
        bomb.push_str(&format!("a{level}: &a{level} [{}]\n", vec![below; 10].join(", ")));
    }
    let problems = broken(&[("s.yaml", &bomb)]);
    assert!(problems[0].ends_with("makes the document too large by aliases; write the values out"), "{problems:?}");
}

#[test]
fn deep_nesting_is_refused() {
    let problems = broken(&[("s.yaml", &"[".repeat(10_000))]);
    assert_eq!(problems.len(), 1, "{problems:?}");
    broken(&[("s.toml", &format!("a = {}", "[".repeat(10_000)))]);
}
