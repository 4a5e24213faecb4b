//! Tests that every setting has an effect, that every wrong value is reported at its place, and that the three lists of
//! settings agree.

use std::{fs, path::Path, time::Duration};

use super::*;

/// One setting: its key, a value in a file, the same value in the environment, and how to read and compare the result.
type Row = (&'static str, &'static str, &'static str, fn(&Settings) -> String, &'static str);

const ROWS: &[Row] = &[
    (
        "amqp.urls",
        r#"["amqp://u:p@a", "amqps://b:5671/v"]"#,
        "amqp://u:p@a, amqps://b:5671/v",
        |s| s.amqp.urls.last().iter().map(|url| url.expose().to_string()).collect::<Vec<_>>().join(" "),
        "amqp://u:p@a amqps://b:5671/v",
    ),
    (
        "amqp.urls_file",
        "'src/settings/fixtures/urls'",
        "src/settings/fixtures/urls",
        |s| s.amqp.urls.now().iter().map(|url| url.expose().to_string()).collect::<Vec<_>>().join(" "),
        "amqp://u:p@a amqps://b:5671/v",
    ),
    ("amqp.prefix", "'hooks'", "hooks", |s| s.amqp.prefix.clone(), "hooks"),
    ("amqp.exchange", "'amq.topic'", "amq.topic", |s| s.amqp.exchange.clone(), "amq.topic"),
    ("amqp.routing_keys", "['a.*', 'b.#']", "a.*,b.#", |s| s.amqp.routing_keys.join(" "), "a.* b.#"),
    ("amqp.ca_file", "'ca.pem'", "ca.pem", |s| format!("{:?}", s.amqp.ca_file), "Some(\"ca.pem\")"),
    (
        "amqp.client_certificate",
        "'c.pem'\nclient_key = 'k.pem'",
        "c.pem",
        |s| format!("{:?}", s.amqp.client_certificate),
        "Some(\"c.pem\")",
    ),
    (
        "amqp.client_key",
        "'k.pem'\nclient_certificate = 'c.pem'",
        "k.pem",
        |s| format!("{:?}", s.amqp.client_key),
        "Some(\"k.pem\")",
    ),
    (
        "amqp.management_url",
        "'https://u:p@m:15671'",
        "https://u:p@m:15671",
        |s| s.amqp.management_url.as_ref().map(|url| url.last().expose().to_string()).unwrap_or_default(),
        "https://u:p@m:15671/",
    ),
    (
        "amqp.management_url_file",
        "'src/settings/fixtures/management-url'",
        "src/settings/fixtures/management-url",
        |s| s.amqp.management_url.as_ref().map(|url| url.now().expose().to_string()).unwrap_or_default(),
        "https://u:p@m:15671/",
    ),
    ("amqp.confirm_timeout", "'1500ms'", "1500ms", |s| format!("{:?}", s.amqp.confirm_timeout), "1.5s"),
    ("amqp.heartbeat", "'2m'", "2m", |s| format!("{:?}", s.amqp.heartbeat), "120s"),
    ("topology.declare", "false", "false", |s| s.topology.declare.to_string(), "false"),
    ("store.path", "'hooks.yaml'", "hooks.yaml", |s| s.store.path.display().to_string(), "hooks.yaml"),
    ("store.settle", "'0s'", "0s", |s| format!("{:?}", s.store.settle), "0ns"),
    ("delivery.concurrency", "7", "7", |s| s.delivery.concurrency.to_string(), "7"),
    ("delivery.max_in_flight", "9", "9", |s| s.delivery.max_in_flight.to_string(), "9"),
    ("delivery.maximum_age", "'4d'", "4d", |s| format!("{:?}", s.delivery.maximum_age), "345600s"),
    ("delivery.event_prefetch", "8", "8", |s| s.delivery.event_prefetch.to_string(), "8"),
    ("delivery.direct", "false", "false", |s| s.delivery.direct.to_string(), "false"),
    ("delivery.max_event_bytes", "'64 KiB'", "64 KiB", |s| s.delivery.max_event_bytes.to_string(), "65536"),
    ("delivery_log.enabled", "false", "false", |s| s.delivery_log.enabled.to_string(), "false"),
    ("delivery_log.maximum_age", "'24h'", "24h", |s| format!("{:?}", s.delivery_log.maximum_age), "86400s"),
    ("delivery_log.max_bytes", "'64 MiB'", "64 MiB", |s| s.delivery_log.max_bytes.to_string(), "67108864"),
    ("secrets.environment_prefix", "'HOOK_'", "HOOK_", |s| s.secrets.environment_prefix.clone(), "HOOK_"),
    (
        "secrets.directory",
        "'/run/secrets'",
        "/run/secrets",
        |s| format!("{:?}", s.secrets.directory),
        r#"Some("/run/secrets")"#,
    ),
    (
        "egress.allow",
        "['10.8.0.0/16', '*.in.example for acme']",
        "10.8.0.0/16, *.in.example for acme",
        |s| s.egress.allow.iter().map(ToString::to_string).collect::<Vec<_>>().join(" | "),
        "10.8.0.0/16 | *.in.example for acme",
    ),
    (
        "egress.deny",
        "['8.8.8.8']",
        "8.8.8.8",
        |s| s.egress.deny.iter().map(ToString::to_string).collect::<Vec<_>>().join(" | "),
        "8.8.8.8",
    ),
    ("egress.plain_http", "true", "true", |s| s.egress.plain_http.to_string(), "true"),
    (
        "egress.proxy",
        "'socks5://u:p@proxy:1080'",
        "socks5://u:p@proxy:1080",
        |s| s.egress.proxy.as_ref().map(|url| url.last().expose().to_string()).unwrap_or_default(),
        "socks5://u:p@proxy:1080",
    ),
    (
        "egress.proxy_file",
        "'src/settings/fixtures/proxy'",
        "src/settings/fixtures/proxy",
        |s| s.egress.proxy.as_ref().map(|url| url.now().expose().to_string()).unwrap_or_default(),
        "socks5://u:p@proxy:1080",
    ),
    (
        "egress.proxy_resolves",
        "true\nproxy = 'http://proxy:3128'",
        "true",
        |s| s.egress.proxy_resolves.to_string(),
        "true",
    ),
    (
        "egress.name_servers",
        "['10.0.0.2', '[fd00::2]:5353']",
        "10.0.0.2,[fd00::2]:5353",
        |s| format!("{:?}", s.egress.name_servers),
        "[10.0.0.2:53, [fd00::2]:5353]",
    ),
    ("tls.ca_file", "'ca.pem'", "ca.pem", |s| format!("{:?}", s.tls.ca_file), "Some(\"ca.pem\")"),
    ("tls.minimum_version", "'1.3'", "1.3", |s| format!("{:?}", s.tls.minimum_version), "V1_3"),
    ("backoff.initial", "'500ms'", "500ms", |s| format!("{:?}", s.backoff.initial), "500ms"),
    ("backoff.multiplier", "3", "3", |s| s.backoff.multiplier.to_string(), "3"),
    ("backoff.maximum", "'1h 30m'", "1h 30m", |s| format!("{:?}", s.backoff.maximum), "5400s"),
    ("backoff.jitter", "0.5", "0.5", |s| s.backoff.jitter.to_string(), "0.5"),
    ("backoff.retry_after_maximum", "'1w'", "1w", |s| format!("{:?}", s.backoff.retry_after_maximum), "604800s"),
    ("shutdown.grace", "'10s'", "10s", |s| format!("{:?}", s.shutdown.grace), "10s"),
    ("admin.listen", "'[::]:0'", "[::]:0", |s| s.admin.listen.to_string(), "[::]:0"),
    ("admin.failed_threshold", "3", "3", |s| s.admin.failed_threshold.to_string(), "3"),
    ("admin.rejected_threshold", "4", "4", |s| s.admin.rejected_threshold.to_string(), "4"),
    ("admin.unreadable_threshold", "5", "5", |s| s.admin.unreadable_threshold.to_string(), "5"),
    ("console.listen", "'127.0.0.2:0'", "127.0.0.2:0", |s| s.console.listen.to_string(), "127.0.0.2:0"),
    (
        "console.credentials",
        "['anna:act:0123456789abcdef', 'ben:read:fedcba98:76543210']",
        "anna:act:0123456789abcdef,ben:read:fedcba98:76543210",
        |s| shown_credentials(s),
        "anna:act 9f ben:read be",
    ),
    (
        "console.credentials_file",
        "'src/settings/fixtures/credentials'",
        "src/settings/fixtures/credentials",
        |s| shown_credentials(s),
        "anna:act 9f ben:read be",
    ),
    (
        "console.hosts",
        "['Console.example', 'c:8443']\ncredentials = ['anna:act:hunter2hunter2hunter2']",
        "Console.example,c:8443",
        |s| s.console.hosts.join(" "),
        "console.example c:8443",
    ),
    (
        "console.discard_directory",
        "'/var/gone'",
        "/var/gone",
        |s| format!("{:?}", s.console.discard_directory),
        r#"Some("/var/gone")"#,
    ),
    ("log.format", "'json'", "json", |s| format!("{:?}", s.log.format), "Json"),
    ("log.level", "'warn'", "warn", |s| s.log.level.clone(), "warn"),
];

fn shown_credentials(settings: &Settings) -> String {
    let credentials = settings.console.credentials.last();
    credentials.iter().map(|one| format!("{one} {:02x}", one.digest[0])).collect::<Vec<_>>().join(" ")
}

fn file(text: &str) -> tempfile::NamedTempFile {
    let file = tempfile::NamedTempFile::with_suffix(".toml").unwrap();
    fs::write(file.path(), text).unwrap();
    file
}

fn from(text: &str, env: &[(&str, &str)]) -> Result<Settings, Problems> {
    let file = file(text);
    let path = file.path();
    let env = env.iter().map(|(name, value)| (name.to_string(), value.to_string()));
    load(Some(path), None, env).map_err(|problems| {
        // Expectations name the file f.toml, wherever it is.
        let rename = |place| match place {
            Place::File { line, column, .. } => Place::File { path: "f.toml".into(), line, column },
            other => other,
        };
        Problems(problems.0.into_iter().map(|problem| Problem { place: rename(problem.place), ..problem }).collect())
    })
}

fn problems(text: &str, env: &[(&str, &str)]) -> Vec<String> {
    from(text, env).unwrap_err().0.iter().map(Problem::to_string).collect()
}

fn defaults() -> Settings {
    from("", &[]).unwrap()
}

#[test]
fn every_setting_arrives_from_a_file_and_from_the_environment() {
    let defaults = defaults();
    for (key, in_file, in_env, arrived, expected) in ROWS {
        assert_ne!(arrived(&defaults), *expected, "{key}: the test needs a value that is not the default");
        let (section, name) = key.split_once('.').unwrap();
        let text = format!("[{section}]\n{name} = {in_file}\n");
        assert_eq!(arrived(&from(&text, &[]).unwrap()), *expected, "{key} in a file");
        let variable = format!("LEADHOOK__{}__{}", section.to_uppercase(), name.to_uppercase());
        // Some keys need another key beside them.
        let beside = match *key {
            "amqp.client_certificate" => "[amqp]\nclient_key = 'k.pem'\n",
            "amqp.client_key" => "[amqp]\nclient_certificate = 'c.pem'\n",
            "console.hosts" => "[console]\ncredentials = ['anna:act:hunter2hunter2hunter2']\n",
            "egress.proxy_resolves" => "[egress]\nproxy = 'http://proxy:3128'\n",
            _ => "",
        };
        assert_eq!(arrived(&from(beside, &[(&variable, in_env)]).unwrap()), *expected, "{variable}");
    }
}

#[test]
fn the_lists_of_settings_agree() {
    let names: Vec<_> = reference().iter().map(|key| key.name).collect();
    assert_eq!(ROWS.iter().map(|row| row.0).collect::<Vec<_>>(), names, "tested keys");
    let described = defaults().describe();
    let described: Vec<_> = described.iter().map(|line| line.split(" = ").next().unwrap()).collect();
    assert_eq!(described, names, "described keys");
}

#[test]
fn the_settings_that_differ_from_their_defaults_are_told_without_credentials() {
    assert_eq!(defaults().changed(), [""; 0]);
    let env =
        [("LEADHOOK__AMQP__URLS", "amqp://u:hunter2@a/v"), ("LEADHOOK__EGRESS__PROXY", "http://u:hunter2@p:3128")];
    let settings = from("[backoff]\ninitial = '15s'\nmaximum = '2h'", &env).unwrap();
    assert_eq!(settings.changed(), ["amqp.urls = amqp://a/v", "egress.proxy = http://p:3128", "backoff.maximum = 2h"]);
}

/// The compiled-in file has each key under its section, with the default that the reference states.
#[test]
fn the_default_file_mentions_every_key_with_its_default() {
    let mut section = "";
    let mut shown = Vec::new();
    for line in said::DEFAULTS.lines() {
        if let Some(name) = line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
            section = name;
        } else if let Some((name, value)) = line.split_once(" = ") {
            let (name, value) = name.strip_prefix("# ").map_or((name, value), |name| (name, "none"));
            shown.push((format!("{section}.{name}"), value.to_owned()));
        }
    }
    let stated: Vec<_> = reference().iter().map(|key| (key.name.to_owned(), key.default.to_owned())).collect();
    assert_eq!(shown, stated);
}

/// The loader uses the defaults of docs/reference/settings.md.
#[test]
fn the_defaults_are_those_of_the_contract() {
    let s = defaults();
    assert_eq!(s.amqp.urls.last().len(), 1);
    assert_eq!(s.amqp.urls.last()[0].expose().as_str(), "amqp://guest:guest@127.0.0.1:5672/%2f");
    assert_eq!(s.amqp.prefix, "leadhook");
    assert_eq!(s.amqp.exchange, "lead.events");
    assert_eq!(s.amqp.routing_keys, ["lead.*"]);
    assert!(s.amqp.management_url.is_none());
    assert_eq!(s.amqp.confirm_timeout, Duration::from_secs(10));
    assert_eq!(s.amqp.heartbeat, Duration::from_secs(10));
    assert!(s.topology.declare);
    assert_eq!(s.store.path, Path::new("config/webhooks"));
    assert_eq!(s.store.settle, Duration::from_secs(120));
    assert_eq!(s.delivery.concurrency, 512);
    assert_eq!(s.delivery.max_in_flight, 64);
    assert_eq!(s.delivery.maximum_age, Duration::from_secs(72 * 3600));
    assert_eq!(s.delivery.event_prefetch, 500);
    assert!(s.delivery.direct);
    assert_eq!(s.delivery.max_event_bytes, 1024 * 1024);
    assert!(s.delivery_log.enabled);
    assert_eq!(s.delivery_log.maximum_age, Duration::from_secs(14 * 86_400));
    assert_eq!(s.delivery_log.max_bytes, 10 << 30);
    assert_eq!(s.secrets.environment_prefix, "WEBHOOK_");
    assert_eq!(s.secrets.directory, None);
    assert_eq!(s.backoff.initial, Duration::from_secs(15));
    assert_eq!(s.backoff.multiplier, 2.0);
    assert_eq!(s.backoff.maximum, Duration::from_secs(3600));
    assert_eq!(s.backoff.jitter, 0.2);
    assert_eq!(s.backoff.retry_after_maximum, Duration::from_secs(86_400));
    assert_eq!(s.shutdown.grace, Duration::from_secs(150));
    assert_eq!(s.admin.listen, "127.0.0.1:9464".parse().unwrap());
    assert_eq!(s.admin.failed_threshold, 10_000);
    assert_eq!((s.admin.rejected_threshold, s.admin.unreadable_threshold), (1_000, 1));
    assert_eq!(s.console.listen, "127.0.0.1:9465".parse().unwrap());
    assert!(s.console.credentials.last().is_empty() && s.console.hosts.is_empty());
    assert_eq!(s.console.discard_directory, None);
    assert_eq!(s.log.format, LogFormat::Auto);
    assert_eq!(s.log.level, "info");
}

#[test]
fn the_environment_goes_before_the_file_and_the_option_before_both() {
    let text = "[delivery]\nconcurrency = 3\nevent_prefetch = 5\n[store]\npath = 'file'\n";
    let file = file(text);
    let env =
        [("LEADHOOK__DELIVERY__CONCURRENCY", "9"), ("LEADHOOK__STORE__PATH", "env"), ("LEADHOOK_PORT", "tcp://x")];
    let env = || env.iter().map(|(name, value)| (name.to_string(), value.to_string()));
    let settings = load(Some(file.path()), None, env()).unwrap();
    assert_eq!((settings.delivery.concurrency, settings.delivery.event_prefetch), (9, 5));
    assert_eq!(settings.store.path, Path::new("env"));
    let settings = load(Some(file.path()), Some(Path::new("option")), env()).unwrap();
    assert_eq!(settings.store.path, Path::new("option"));
}

#[test]
fn an_empty_variable_counts_as_not_set() {
    let env = [("LEADHOOK__BACKOFF__INITIAL", ""), ("LEADHOOK__AMQP__MANAGEMENT_URL", "")];
    let settings = from("[backoff]\ninitial = '20s'", &env).unwrap();
    assert_eq!(settings.backoff.initial, Duration::from_secs(20));
    assert!(settings.amqp.management_url.is_none());
}

#[test]
fn a_given_file_must_be_there_and_the_default_one_need_not() {
    let error = load(Some(Path::new("no/such.toml")), None, std::iter::empty()).unwrap_err();
    assert_eq!(error.to_string(), "cannot use the settings: no/such.toml: there is no such file or directory");
    let mut problems = Problems::default();
    let said = said::hear(said::Source::IfThere(Path::new("no/such.toml")), std::iter::empty(), &mut problems);
    assert!(checked::check(&said, &mut problems).is_some());
    assert_eq!(problems, Problems::default());
    let directory = tempfile::tempdir().unwrap();
    let error = load(Some(directory.path()), None, std::iter::empty()).unwrap_err();
    assert!(error.to_string().ends_with("it is a directory"), "{error}");
    let error = load(None, Some(Path::new("")), std::iter::empty()).unwrap_err();
    assert!(error.to_string().contains("--store: is empty"), "{error}");
}

#[test]
fn all_problems_come_at_once_each_with_its_place() {
    let text = "\
[amqp]
url = 'amqp://a'
prefix = \"lead hook\"

[backof]
initial = '1s'

[delivery]
concurrency = 0
max_event_bytes = \"ein MiB\"

[backoff]
initial = 15
maximum = 'a week'
";
    let env = [
        ("LEADHOOK__LOG__LEVEL", "loud"),
        ("LEADHOOK__AMQP__URL", "amqp://a"),
        ("LEADHOOK__TOPOLOGY__DECLARE", "maybe"),
        ("LEADHOOK__BACKOFF__JITTER", "0.6"),
    ];
    let problems = problems(text, &env);
    for expected in [
        "f.toml:2:1: amqp.url: unknown key, did you mean amqp.urls?",
        "f.toml:3:10: amqp.prefix: \"lead hook\" is not a prefix: write 1 to 64 characters of A-Z a-z 0-9 . _ -",
        "f.toml:5:2: backof: unknown, did you mean backoff?",
        "f.toml:9:15: delivery.concurrency: 0 is out of bounds, it can be 1 to 10000",
        "f.toml:10:19: delivery.max_event_bytes: \"ein MiB\" is not a size: write 512 KiB or 1 MiB",
        "f.toml:13:11: backoff.initial: \"15\" has no unit: write a number with a unit, such as 500ms, 15s, 2m, 24h or 3d",
        "f.toml:14:11: backoff.maximum: \"a week\" is not a duration: write a number with a unit, such as 500ms, 15s, 2m, 24h or 3d",
        "LEADHOOK__AMQP__URL: unknown variable, did you mean LEADHOOK__AMQP__URLS?",
        "LEADHOOK__TOPOLOGY__DECLARE: topology.declare: \"maybe\" is neither true nor false",
        "LEADHOOK__BACKOFF__JITTER: backoff.jitter: 0.6 is out of bounds, it can be 0 to 0.5",
    ] {
        assert!(problems.iter().any(|problem| problem == expected), "missing: {expected}\n{problems:#?}");
    }
    assert!(problems.iter().any(|problem| problem.starts_with("LEADHOOK__LOG__LEVEL: log.level: \"loud\"")));
    assert_eq!(problems.len(), 11, "{problems:#?}");
}

#[test]
fn unknown_names_are_told_with_what_is_there() {
    for (text, expected) in [
        ("[log]\ncolour = true", "f.toml:2:1: log.colour: unknown key, [log] has format, level"),
        ("concurrency = 5", "f.toml:1:1: concurrency: unknown, did you mean delivery.concurrency?"),
        (
            "[webhooks]\na = 1",
            "f.toml:1:2: webhooks: unknown, the sections are amqp, topology, store, delivery, delivery_log, secrets, egress, tls, backoff, shutdown, admin, console, log",
        ),
        ("backoff = '15s'", "f.toml:1:11: backoff: is a section: write [backoff] and its keys below"),
        (
            "[backoff]\nINITIAL = '1s'",
            "f.toml:2:1: backoff.INITIAL: unknown key, [backoff] has initial, multiplier, maximum, jitter, retry_after_maximum",
        ),
    ] {
        assert_eq!(problems(text, &[]), [expected], "{text}");
    }
}

#[test]
fn values_at_and_beyond_each_bound() {
    for (key, inside, outside) in [
        ("amqp.confirm_timeout", ["'100ms'", "'5m'"], ["'99ms'", "'301s'"]),
        ("amqp.heartbeat", ["'2s'", "'5m'"], ["'1s'", "'301s'"]),
        ("store.settle", ["'0s'", "'24h'"], ["'-1s'", "'86401s'"]),
        ("delivery.concurrency", ["1", "10000"], ["-1", "10001"]),
        ("delivery.max_in_flight", ["1", "1000"], ["0", "1001"]),
        ("delivery.maximum_age", ["'73m'", "'720h'"], ["'59s'", "'721h'"]),
        ("delivery.event_prefetch", ["1", "2000"], ["0", "2001"]),
        ("delivery.max_event_bytes", ["1024", "'16 MiB'"], ["1023", "'17 MiB'"]),
        ("delivery_log.maximum_age", ["'1h'", "'8760h'"], ["'59m'", "'8761h'"]),
        ("delivery_log.max_bytes", ["'10 MiB'", "'1 TiB'"], ["'9 MiB'", "'2 TiB'"]),
        ("backoff.initial", ["'100ms'", "'1h'"], ["'99ms'", "'25h'"]),
        ("backoff.multiplier", ["1", "10.0"], ["0.99", "10.5"]),
        ("backoff.maximum", ["'15s'", "'168h'"], ["'14s'", "'169h'"]),
        ("backoff.jitter", ["0", "0.5"], ["-0.1", "nan"]),
        ("backoff.retry_after_maximum", ["'1s'", "'168h'"], ["'999ms'", "'169h'"]),
        ("shutdown.grace", ["'100ms'", "'1h'"], ["'99ms'", "'61m'"]),
        ("admin.failed_threshold", ["1", "1000000"], ["0", "'1'"]),
        ("admin.rejected_threshold", ["1", "1000000"], ["0", "1.5"]),
        ("admin.unreadable_threshold", ["1", "1000000"], ["0", "1.5"]),
    ] {
        let (section, name) = key.split_once('.').unwrap();
        for value in inside {
            // The longest wait needs a `maximum_age` that allows for it.
            let age = if key == "backoff.maximum" { "\n[delivery]\nmaximum_age = '720h'" } else { "" };
            if let Err(problems) = from(&format!("[{section}]\n{name} = {value}{age}"), &[]) {
                panic!("{key} = {value}: {problems}");
            }
        }
        for value in outside {
            let problems = problems(&format!("[{section}]\n{name} = {value}"), &[]);
            assert_eq!(problems.len(), 1, "{key} = {value}: {problems:?}");
            assert!(problems[0].starts_with(&format!("f.toml:2:{}: {key}: ", name.len() + 4)), "{problems:?}");
        }
    }
}

/// The reference states the bounds that the loader checks.
#[test]
fn the_bounds_of_the_reference_are_those_of_the_loader() {
    for key in reference().iter().filter(|key| !key.bounds.is_empty()) {
        let (section, name) = key.name.split_once('.').unwrap();
        let beyond = match key.default {
            number if number.parse::<f64>().is_ok() => "-1.0",
            size if size.ends_with("iB\"") => "1",
            _ => "'9000h'",
        };
        // Negative numbers and fractions have messages of their own.
        let beyond = if beyond == "-1.0" && !key.default.contains('.') { "0" } else { beyond };
        let told = problems(&format!("[{section}]\n{name} = {beyond}"), &[]).join("\n");
        let bounds = key.bounds.replace("or more", &format!("to {}", i64::MAX));
        let wanted = format!("is out of bounds, it can be {bounds}");
        assert!(told.lines().any(|line| line.ends_with(&wanted)), "{}: {told}", key.name);
    }
    let bounded = ["delivery.concurrency", "backoff.initial", "delivery_log.max_bytes", "admin.failed_threshold"];
    for name in bounded {
        assert!(reference().iter().any(|key| key.name == name && !key.bounds.is_empty()), "{name} has no bounds");
    }
}

/// The name of a largest number or size begins with `max_`. That of a longest time is `maximum`, `maximum_...` or
/// `..._maximum`.
#[test]
fn limits_are_named_alike() {
    for key in reference() {
        let is_time = crate::duration::parse(key.default.trim_matches('"')).is_ok();
        let (_, name) = key.name.split_once('.').unwrap();
        let wrong = if is_time { name.starts_with("max_") } else { name.contains("maximum") };
        assert!(!wrong, "{}", key.name);
    }
}

#[test]
fn a_file_uses_its_types() {
    for (text, expected) in [
        ("[delivery]\nconcurrency = '64'", "is not a whole number: write digits without quotes"),
        ("[topology]\ndeclare = 'true'", "is neither true nor false"),
        ("[amqp]\nurls = 'amqp://a'", "is a list: write [\"...\"]"),
        ("[amqp]\nrouting_keys = []", "needs at least one entry"),
        ("[amqp]\nprefix = 7", "is not text: write it in quotes"),
        ("[amqp.prefix]\na = 1", "is not text: write it in quotes"),
        ("[amqp]\nheartbeat = '1500ms'", "1s 500ms is not a whole number of seconds"),
        (
            "[amqp]\nprefix = 'amq.x'",
            "\"amq.x\" is not a prefix: the broker keeps names that begin with amq. for itself",
        ),
        (
            "[secrets]\nenvironment_prefix = ''",
            "\"\" cannot begin the name of a variable: write something like WEBHOOK_",
        ),
        (
            "[secrets]\nenvironment_prefix = 'LEAD'",
            "\"LEAD\" would open the worker's own settings (LEADHOOK__...) to the store: write something like WEBHOOK_",
        ),
        (
            "[secrets]\nenvironment_prefix = 'LEADHOOK__AMQP'",
            "(LEADHOOK__...) to the store: write something like WEBHOOK_",
        ),
        (
            "[backoff]\ninitial = '15'",
            "\"15\" has no unit: write a number with a unit, such as 500ms, 15s, 2m, 24h or 3d",
        ),
        ("[log]\nformat = 'pretty'", "\"pretty\" is not a format: write auto, text or json"),
    ] {
        let problems = problems(text, &[]);
        assert!(problems.len() == 1 && problems[0].ends_with(expected), "{text}: {problems:?}");
    }
}

#[test]
fn a_console_that_others_can_reach_needs_credentials() {
    let problems = problems("[console]\nhosts = ['console.example']", &[]);
    assert!(problems.len() == 1 && problems[0].contains("console.hosts: names the console for others"), "{problems:?}");
}

#[test]
fn broken_toml_is_told_with_its_place_and_without_its_line() {
    let problems = problems("[amqp]\nurls = [\"amqp://u:hunter2@a\"\nprefix = 'x'\n", &[]);
    assert!(problems[0].starts_with("f.toml:") && problems[0].contains("is not TOML: "), "{problems:?}");
    assert!(!problems.join("\n").contains("hunter2"), "{problems:?}");
}

#[test]
fn credentials_appear_nowhere() {
    for urls in ["http://u:hunter2@a", "u:hunter2@a", "hunter2://a", "amqp://u:hunter2@a:port", "amqp://hunter2@"] {
        let in_env = from("", &[("LEADHOOK__AMQP__URLS", urls)]).unwrap_err().to_string();
        assert!(in_env.contains("LEADHOOK__AMQP__URLS: amqp.urls: entry 1: is not a broker's URL"), "{in_env}");
        let in_file = from(&format!("[amqp]\nurls = ['amqp://a', '{urls}']"), &[]).unwrap_err();
        assert!(in_file.to_string().contains("f.toml:2:8: amqp.urls: entry 2: "), "{in_file}");
        let management = from("", &[("LEADHOOK__AMQP__MANAGEMENT_URL", "ftp://u:hunter2@a")]).unwrap_err();
        for shown in [in_env, format!("{in_file} {in_file:?}"), format!("{management} {management:?}")] {
            assert!(!shown.contains("hunter2"), "{shown}");
        }
    }
    let env = [
        ("LEADHOOK__AMQP__URLS", "amqp://u:hunter2@a/v"),
        ("LEADHOOK__AMQP__MANAGEMENT_URL", "http://u:hunter2@b?x=hunter2"),
    ];
    let settings = from("", &env).unwrap();
    let described = settings.describe();
    assert!(described.contains(&"amqp.urls = amqp://a/v".to_owned()), "{described:?}");
    assert!(described.contains(&"amqp.management_url = http://b/".to_owned()), "{described:?}");
    assert!(described.contains(&"delivery_log.max_bytes = 10 GiB".to_owned()), "sizes look as in the reference");
    assert!(!format!("{settings:?} {described:?}").contains("hunter2"));
}

#[test]
fn a_file_with_credentials_is_told_by_its_name_and_line_and_never_by_its_content() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("secret");
    let shown = path.display().to_string();
    let check = |content: &str, key: &str, text: &str| {
        fs::write(&path, content).unwrap();
        let variable = format!("LEADHOOK__{}", key.to_uppercase().replace('.', "__"));
        let problems = load(None, None, std::iter::once((variable, shown.clone()))).unwrap_err();
        assert_eq!(problems.to_string(), format!("cannot use the settings: {shown}{text}"), "{key}");
    };
    let broker = "is not a broker's URL: write amqp://user:password@host:5672/vhost, or amqps:// for TLS (not shown: it may hold credentials)";
    check("amqp://u:p@a\n\nhttp://u:hunter2@a", "amqp.urls_file", &format!(":3:1: amqp.urls_file: {broker}"));
    check("amqp://u:p@a, amqp://u:p@b", "amqp.urls_file", &format!(":1:1: amqp.urls_file: {broker}"));
    check("\n", "amqp.urls_file", ": amqp.urls_file: holds no entry: write one on each line");
    let two = ": amqp.management_url_file: holds more than one entry: write one line";
    check("http://u:p@a\nhttp://u:p@b", "amqp.management_url_file", two);
    let twice = ": console.credentials_file: has the name or the secret of b twice";
    check("a:act:0123456789abcdef\nb:read:0123456789abcdef\n", "console.credentials_file", twice);
    fs::remove_file(&path).unwrap();
    let missing = problems("", &[("LEADHOOK__EGRESS__PROXY_FILE", &shown)]);
    assert_eq!(missing, [format!("{shown}: egress.proxy_file: there is no such file or directory")]);
}

#[test]
fn a_value_and_its_file_are_not_both_set() {
    let file = ("LEADHOOK__AMQP__URLS_FILE", "src/settings/fixtures/urls");
    let both = problems("", &[("LEADHOOK__AMQP__URLS", "amqp://a"), file]);
    let expected = "LEADHOOK__AMQP__URLS_FILE: amqp.urls_file: is set, and so is amqp.urls: set one of them";
    assert_eq!(both, [expected]);
    let text = "[egress]\nproxy = 'http://p:1'\nproxy_file = 'src/settings/fixtures/proxy'\nproxy_resolves = true";
    let expected = "f.toml:3:14: egress.proxy_file: is set, and so is egress.proxy: set one of them";
    assert_eq!(problems(text, &[]), [expected]);
    // As for one key, the environment takes precedence over the settings file.
    let urls = |settings: Settings| settings.amqp.urls.last().iter().map(ToString::to_string).collect::<Vec<_>>();
    assert_eq!(urls(from("[amqp]\nurls = ['amqp://c']", &[file]).unwrap()), ["amqp://a", "amqps://b:5671/v"]);
    let text = "[amqp]\nurls_file = 'no/such/file'";
    assert_eq!(urls(from(text, &[("LEADHOOK__AMQP__URLS", "amqp://c")]).unwrap()), ["amqp://c"]);
    let settings = from("[amqp]\nurls_file = 'src/settings/fixtures/urls'", &[]).unwrap();
    let changed = settings.changed();
    assert_eq!(changed, ["amqp.urls = amqp://a, amqps://b:5671/v", "amqp.urls_file = src/settings/fixtures/urls"]);
    assert_eq!(settings.amqp.vhost(), "/");
}

#[test]
fn relations_between_settings_are_checked() {
    assert_eq!(
        problems("[backoff]\ninitial = '2h'", &[]),
        ["f.toml:2:11: backoff.maximum: 1h is shorter than backoff.initial (2h)"]
    );
    assert_eq!(
        problems("[backoff]\ninitial = '20s'", &[("LEADHOOK__BACKOFF__MAXIMUM", "10s")]),
        ["LEADHOOK__BACKOFF__MAXIMUM: backoff.maximum: 10s is shorter than backoff.initial (20s)"]
    );
}

#[test]
fn a_console_for_others_needs_credentials_and_none_of_them_is_shown() {
    for listen in ["0.0.0.0:9465", "[::]:9465", "10.0.0.7:0"] {
        let problems = problems(&format!("[console]\nlisten = '{listen}'"), &[]);
        assert!(problems.len() == 1 && problems[0].starts_with("f.toml:2:10: console.listen: "), "{problems:?}");
        let with = format!("[console]\nlisten = '{listen}'\ncredentials = ['anna:act:hunter2hunter2hunter2']");
        let settings = from(&with, &[]).unwrap();
        assert!(!format!("{settings:?} {:?}", settings.describe()).contains("hunter2"));
        assert!(settings.describe().contains(&"console.credentials = anna:act".to_owned()));
    }
    for wrong in ["hunter2", "anna:hunter2", "anna:admin:hunter2hunter2hunter2", "a b:act:hunter2hunter2hunter2"] {
        let problems = problems(&format!("[console]\ncredentials = ['{wrong}']"), &[]).join("\n");
        assert!(problems.contains("entry 1: is not name:role:secret") && !problems.contains("hunter2"), "{problems}");
    }
    let short = problems("[console]\ncredentials = ['anna:act:hunter2']", &[]).join("\n");
    assert!(short.contains("16 characters") && !short.contains("hunter2"), "{short}");
    let twice = problems("[console]\ncredentials = ['a:act:0123456789abcdef', 'b:read:0123456789abcdef']", &[]);
    assert_eq!(twice, ["f.toml:2:15: console.credentials: has the name or the secret of b twice"]);
}

#[test]
fn no_concurrency_lets_jobs_wait_near_the_consumer_timeout() {
    for concurrency in 1..=10_000 {
        let prefetch = checked::job_prefetch(concurrency);
        assert!(usize::from(prefetch) > concurrency);
        assert_eq!(checked::held_too_long(prefetch, concurrency), None);
    }
    let problem = checked::held_too_long(60, 10).unwrap();
    assert!(problem.contains("hold a job for 12m"), "{problem}");
}

#[test]
fn the_grace_period_must_exceed_the_largest_timeout() {
    let settings = defaults();
    assert_eq!(check_against_store(&settings, Duration::from_secs(120)), None);
    let problem = check_against_store(&settings, Duration::from_secs(150)).unwrap();
    assert_eq!(problem.key.as_deref(), Some("shutdown.grace"));
    let told = "settings: shutdown.grace: 2m 30s must exceed the largest timeout in the webhook store (2m 30s)";
    assert!(problem.to_string().starts_with(told), "{problem}");
}
