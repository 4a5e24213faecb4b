use super::*;

const WEBHOOK: &str = "organizations: { acme: { webhook: { url: 'https://a.example', events: '*' } } }";

#[test]
fn campaigns_of_an_organization_may_be_spread_over_files_and_formats() {
    let store = load_files(&[
        ("a.yaml", WEBHOOK),
        ("b.yml", "organizations: { acme: { campaigns: { X: {} } } }"),
        ("c.toml", "[organizations.acme.campaigns.Y]\n[organizations.other.webhook]\nenabled = false\n"),
        ("notes.txt", "no store"),
        (".hidden.yaml", "no store"),
    ])
    .unwrap();
    assert_eq!(store.organizations().count(), 2);
    assert_eq!(store.campaign_count(), 2);
}

#[test]
fn nothing_is_defined_twice() {
    let problems = broken(&[
        ("a.yaml", "organizations: { acme: { webhook: { enabled: false }, campaigns: { X: {}, Y: {} } } }"),
        ("b.yaml", "default_organization: acme\norganizations: { acme: { campaigns: { X: {} } } }"),
        (
            "c.toml",
            "default_organization = \"acme\"\n[organizations.acme]\nwebhooks = [{ name = \"a\", enabled = false }]\n",
        ),
    ]);
    let summary: Vec<_> = problems
        .iter()
        .map(|problem| {
            let (place, rest) = problem.split_once(": ").unwrap();
            let first = rest.split_once(" at ").unwrap().1.rsplit('/').next().unwrap();
            (place, first.split_once(';').unwrap().0)
        })
        .collect();
    assert_eq!(
        summary,
        [("b.yaml:2:39", "a.yaml:1:68"), ("c.toml:1:24", "b.yaml:1:23"), ("c.toml:3:1", "a.yaml:1:26")]
    );
}

#[test]
fn problems_of_all_files_come_together() {
    let problems = broken(&[
        ("a.yaml", "organizations: ["),
        ("b.toml", "x"),
        ("c.yaml", "organizations: { acme: { webhook: { timeout: 0, enabled: false } } }"),
    ]);
    let files: Vec<_> = problems.iter().map(|problem| problem.split(':').next().unwrap()).collect();
    assert_eq!(files, ["a.yaml", "b.toml", "c.yaml"], "{problems:#?}");
}

#[test]
fn what_cannot_be_a_store() {
    let problem = |path: &std::path::Path| {
        let problems = load::attempt(path, &settings(None), ENVIRONMENT).result.unwrap_err();
        problems.to_string().replace(&path.display().to_string(), "PATH")
    };
    let directory = tempfile::tempdir().unwrap();
    assert_eq!(
        problem(directory.path()),
        "PATH: holds no store; a directory needs at least one file *.yaml, *.yml or *.toml"
    );
    assert_eq!(
        problem(&directory.path().join("absent.yaml")),
        "PATH: cannot be read: there is no such file or directory; `store.path` names the webhook store"
    );
    let other = directory.path().join("store.json");
    fs::write(&other, "{}").unwrap();
    assert_eq!(problem(&other), "PATH: is of no known kind; a store file ends in .yaml, .yml or .toml");
    let empty = directory.path().join("empty.yaml");
    fs::write(&empty, "").unwrap();
    assert_eq!(problem(&empty), "PATH:1:1: is empty; a store begins with `organizations`");
    fs::write(&empty, b"a: b\nc: \xff\n").unwrap();
    assert_eq!(problem(&empty), "PATH:2:1: is not UTF-8 text; save the file as UTF-8");
    fs::write(&empty, vec![b'#'; 16 * 1024 * 1024 + 1]).unwrap();
    assert_eq!(problem(&empty), "PATH: with this file the store is larger than 16 MiB");
}

#[test]
fn a_single_file_and_a_byte_order_mark_are_fine() {
    let directory = directory(&[("one.yaml", &format!("\u{feff}{WEBHOOK}")), ("broken.yaml", "[")]);
    let path = directory.path().join("one.yaml");
    assert!(load::attempt(&path, &settings(None), ENVIRONMENT).result.is_ok());
}

#[test]
fn ids_stay_as_they_are_written() {
    let yaml = "organizations:\n  007:\n    webhook: { url: 'https://a.example', events: '*' }\n    campaigns:\n      \
                1e3: {}\n      true: {}\n      0x1F: {}\n";
    let store = load_files(&[("s.yaml", yaml)]).unwrap();
    for campaign in ["1e3", "true", "0x1F"] {
        assert_eq!(&*store.place(campaign, None).unwrap().organization.id, "007");
    }
}

#[test]
fn the_revision_stands_for_contents_and_secrets() {
    let secrets = directory(&[("token", "one")]);
    let store = directory(&[(
        "s.yaml",
        "organizations: { a: { webhook: { url: 'https://a.example', events: '*', headers: { X: { file: token } } } } }",
    )]);
    let revision = || {
        let settings = settings(Some(secrets.path().to_owned()));
        load::attempt(store.path(), &settings, ENVIRONMENT).result.unwrap().revision().to_owned()
    };
    let first = revision();
    assert_eq!(first.len(), 12);
    assert_eq!(first, revision());
    fs::write(secrets.path().join("token"), "two").unwrap();
    assert_ne!(first, revision());
    fs::write(secrets.path().join("token"), "one").unwrap();
    assert_eq!(first, revision());
}

#[test]
fn a_large_store_is_a_store() {
    let mut yaml = String::from(
        "organizations:\n  acme:\n    webhook: { url: 'https://a.example', events: '*' }\n    campaigns:\n",
    );
    for number in 0..20_000 {
        yaml.push_str(&format!("      c{number}: {{ override: true, webhook: {{ timeout: 5 }} }}\n"));
    }
    let store = load_files(&[("s.yaml", &yaml)]).unwrap();
    assert_eq!(store.webhooks().count(), 20_001);
}
