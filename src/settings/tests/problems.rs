//! Wrong settings are reported at their place, all at once.

use super::*;

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
