//! Tests that every setting has an effect, that every wrong value is reported at its place, and that the three lists of
//! settings agree.

mod problems;
mod rows;

use std::{fs, path::Path, time::Duration};

use self::rows::ROWS;
use super::*;

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
