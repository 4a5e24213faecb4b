//! Bad input, invocation by invocation. Each message names the fault and its place, and says what to do, and the exit
//! code is the documented one. With `LEADHOOK_MESSAGES_FILE` set, all output goes to that file for a reader.

use std::{fmt::Write, fs, path::Path, process::Command};

use crate::harness::leadhook;

/// An address without a listener.
const NO_BROKER: &str = "amqp://user:hunter2@127.0.0.1:9/%2f";

/// One invocation.
struct Case {
    /// The command line, split at spaces; `''` is an empty argument.
    line: &'static str,
    environment: &'static [(&'static str, &'static str)],
    code: i32,
    /// Words that must be in the output.
    words: &'static [&'static str],
}

const fn case(line: &'static str, code: i32, words: &'static [&'static str]) -> Case {
    Case { line, environment: &[], code, words }
}

const fn with(
    environment: &'static [(&'static str, &'static str)],
    line: &'static str,
    code: i32,
    words: &'static [&'static str],
) -> Case {
    Case { line, environment, code, words }
}

/// Files in the working directory of every invocation.
const FILES: &[(&str, &str)] = &[
    ("taken.jsonl", "{}\n"),
    ("broken.json", "{\"event\": \"lead.failed\"\n"),
    ("empty.json", "\n"),
    ("eventless.json", "{\"leadId\":\"lead_1\"}\n"),
    (
        "event.json",
        "{\"event\":\"lead.failed\",\"leadId\":\"l\",\"submissionId\":\"s\",\"campaignId\":\"nope\",\"status\":\"x\",\
         \"timestamp\":\"2024-06-15T10:30:00Z\",\"data\":{}}\n",
    ),
    (
        "store.yaml",
        "organizations:\n  acme:\n    webhook: { url: 'https://acme.example/in', events: '*' }\n    campaigns: { ABC: {} }\n",
    ),
    ("plain.yaml", "organizations:\n  acme:\n    webhook: { url: 'http://acme.example/in', events: '*' }\n"),
    ("typo.yaml", "organizations:\n  acme:\n    webhok: { url: 'https://acme.example/in', events: '*' }\n"),
    ("url.yaml", "organizations:\n  acme:\n    webhook: { url: 'ftp://acme.example/in', events: '*' }\n"),
    (
        "unset.yaml",
        "organizations:\n  acme:\n    webhook:\n      url: https://acme.example/in\n      events: '*'\n      headers: { X-Token: \
         '${WEBHOOK_TOKEN}' }\n",
    ),
    ("typo.toml", "[amqp]\nurl = [\"amqp://127.0.0.1\"]\n"),
    ("type.toml", "[delivery]\nconcurrency = \"64\"\n"),
    ("broken.toml", "[amqp\n"),
];

const CASES: &[Case] = &[
    // Commands and options.
    case("faild list", 2, &["unknown command faild: leadhook", "did you mean failed?"]),
    case("failed replya --all", 2, &["unknown command replya: leadhook failed", "did you mean replay?"]),
    case("deliveries wh_31b12f9c", 2, &["unknown command wh_31b12f9c", "leadhook deliveries show wh_31b12f9c"]),
    case("failed wh_31b12f9c", 2, &["unknown command wh_31b12f9c", "leadhook failed show wh_31b12f9c"]),
    case("topology chek", 2, &["unknown command chek: leadhook topology", "did you mean check?"]),
    case(
        "failed list --jsn",
        2,
        &["unknown option --jsn: leadhook failed list", "did you mean --json?", "`leadhook failed list --help`"],
    ),
    case("console --port 80", 2, &["unknown option --port: leadhook console", "leadhook console --help"]),
    case("listen --store store.yaml", 2, &["unknown option --store: leadhook listen"]),
    case("--store store.yaml check", 2, &["misplaced option --store", "write it after `leadhook check`"]),
    case("run now", 2, &["unexpected argument now: leadhook run"]),
    case("health --config", 2, &["--config needs a value: leadhook health"]),
    case("failed list --limit 0", 2, &["--limit does not take \"0\": leadhook failed list", "a whole number from 1"]),
    case(
        "failed list --color sometimes",
        2,
        &["--color does not take \"sometimes\"", "write one of auto, always, never"],
    ),
    // Typos in values.
    case("failed list --reason exausted", 2, &["--reason does not take \"exausted\"", "did you mean exhausted?"]),
    case("failed list --error timout", 2, &["--error does not take \"timout\"", "did you mean timeout?"]),
    case("failed list --event lead.deliverd", 2, &["--event does not take", "did you mean lead.delivered?"]),
    case("deliveries --state retring", 2, &["--state does not take", "did you mean retrying?"]),
    case("rejected list --reason unknown_campain", 2, &["--reason does not take", "did you mean unknown_campaign?"]),
    case("failed list --since 2026-13-01", 2, &["--since does not take \"2026-13-01\"", "a date (2024-06-15)"]),
    case("failed list --since tomorrow", 2, &["--since does not take \"tomorrow\"", "yesterday"]),
    case("failed replay --all --before 2026-11-30T25:00", 2, &["--before does not take", "2024-06-15T10:30"]),
    case(
        "failed replay --all --rate fast",
        2,
        &["--rate does not take \"fast\": leadhook failed replay", "from 1 to 100000"],
    ),
    // Choices that are missing or contradict each other.
    case("failed show", 2, &["<ID> is missing: leadhook failed show"]),
    case("failed replay", 2, &["no messages are chosen", "--campaign, or --all"]),
    case("failed requeue", 2, &["no messages are chosen", "--reason, or --all"]),
    case("failed replay --all wh_31b12f9c", 2, &["--all cannot be used together with", "leave out one"]),
    case("failed replay --all --campaign ABC", 2, &["ids, filters and --all exclude one another", "give one of them"]),
    case("rejected requeue raw_123456 --reason not_json", 2, &["exclude one another", "give one of them"]),
    case("failed list --reason gone --reason expired", 2, &["--reason is given twice", "give it once"]),
    // Ids and files.
    case("failed show wh_1", 2, &["this id is too short: \"wh_1\" has fewer than 6", "write more of the id"]),
    case("deliveries show wh_1", 2, &["<ID> does not take \"wh_1\"", "at least 6 characters"]),
    case("failed export --all", 2, &["--to <FILE> is missing: leadhook failed export"]),
    case(
        "failed export --all --to taken.jsonl",
        2,
        &["cannot create the file: taken.jsonl: it exists already", "new file"],
    ),
    case(
        "failed export --all --to no/such/x.jsonl",
        2,
        &["cannot create the file: no/such/x.jsonl", "no such file or directory"],
    ),
    case("failed export --all --remove --to new.jsonl", 2, &["--remove does not take all", "--older-than"]),
    case(
        "failed discard --all",
        2,
        &["--because <TEXT> and --to <FILE> are missing: leadhook failed discard", "add them"],
    ),
    case("failed discard --all --to new.jsonl", 2, &["--because <TEXT> is missing: leadhook failed discard"]),
    case(
        "failed discard --all --because '' --to new.jsonl",
        2,
        &["--because takes 1 to 200 characters", "in a few words"],
    ),
    case("failed discard --all --because old --to taken.jsonl", 2, &["taken.jsonl: it exists already"]),
    // Events.
    case("publish", 2, &["<FILE>... is missing: leadhook publish"]),
    case(
        "publish absent.json",
        2,
        &["cannot read the events: absent.json: there is no such file", "- for standard input"],
    ),
    case("publish .", 2, &["cannot read the events: .: it is a directory"]),
    case("publish broken.json", 2, &["this is not JSON: broken.json: ", "line 2 column 0", "--unchecked"]),
    case("publish empty.json", 2, &["the file has no event: empty.json", "a JSON object"]),
    case("publish eventless.json", 2, &["the field \"event\"", "is missing: eventless.json: event 1", "--routing-key"]),
    case("publish --sample some", 2, &["--sample does not take \"some\": leadhook publish", "a whole number"]),
    case("publish --sample 1 --routing-key ''", 2, &["--routing-key is empty", "1 to 255 bytes"]),
    case(
        "publish event.json --store store.yaml",
        3,
        &["will reject this event as unknown_campaign: event.json: event 1", "cannot connect to amqp://127.0.0.1:9"],
    ),
    // Explanations.
    case("explain", 2, &["--campaign <ID> is missing: leadhook explain"]),
    case("explain --campaign ABC", 2, &["cannot use the webhook store: config/webhooks", "`leadhook check`"]),
    case("explain --campaign abc --store store.yaml", 1, &["no target (unknown_campaign)", "did you mean ABC?"]),
    // Receivers and signatures.
    case("listen --port 99999", 2, &["--port does not take \"99999\": leadhook listen", "from 0 to 65535"]),
    case("listen --respond 200,maybe", 2, &["--respond does not take \"200,maybe\"", "`maybe` is not a reply"]),
    case("listen --secret hunter2", 2, &["cannot use --secret number 1", "whsec_"]),
    case("listen --bind 192.0.2.1", 3, &["cannot listen: 192.0.2.1 port 8080", "does not have this address", "--bind"]),
    case("listen --record no/such/file", 2, &["cannot write the record: no/such/file", "no such file or directory"]),
    case("verify --id wh_1 --timestamp 1 --signature v1,x", 2, &["--secret <SECRET> is missing: leadhook verify"]),
    case(
        "verify --id wh_1 --timestamp 1 --signature v1,x --secret hunter2 taken.jsonl",
        2,
        &["cannot use --secret number 1", "whsec_"],
    ),
    with(
        &[("LEADHOOK_VERIFY_SECRETS", "whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3")],
        "verify --id wh_1 --timestamp 1 --signature v1,x absent.json",
        2,
        &["cannot read the body: absent.json: there is no such file"],
    ),
    case(
        "verify --id wh_1 --timestamp 1 --signature v1,x --tolerance soon",
        2,
        &["--tolerance does not take \"soon\"", "such as 500ms, 15s, 2m"],
    ),
    // Settings.
    case("check --config absent.toml --store store.yaml", 2, &["absent.toml: there is no such file"]),
    case(
        "check --config typo.toml --store store.yaml",
        2,
        &["typo.toml:2:1: amqp.url: unknown key, did you mean amqp.urls?"],
    ),
    case("check --config type.toml --store store.yaml", 2, &["type.toml:2:15: delivery.concurrency", "without quotes"]),
    case("check --config broken.toml --store store.yaml", 2, &["broken.toml:1", "is not TOML"]),
    with(
        &[("LEADHOOK_CONFIG", "absent.toml")],
        "failed list",
        2,
        &["cannot use the settings: absent.toml: there is no such file", "`leadhook check`"],
    ),
    with(
        &[("LEADHOOK_AMQP_URLS", "amqp://127.0.0.1")],
        "run",
        2,
        &["LEADHOOK_AMQP_URLS: is not read: did you mean LEADHOOK__AMQP__URLS"],
    ),
    with(
        &[("LEADHOOK__AMQP__URL", "amqp://127.0.0.1")],
        "run",
        2,
        &["LEADHOOK__AMQP__URL: unknown", "LEADHOOK__AMQP__URLS?"],
    ),
    with(
        &[("LEADHOOK__AMQP__URLS", "http://127.0.0.1")],
        "run",
        2,
        &["LEADHOOK__AMQP__URLS: amqp.urls: entry 1", "write amqp://"],
    ),
    with(
        &[("LEADHOOK__DELIVERY__CONCURRENCY", "many")],
        "run",
        2,
        &["delivery.concurrency: \"many\" is not a whole number"],
    ),
    with(&[("LEADHOOK__BACKOFF__INITIAL", "15")], "run", 2, &["backoff.initial: \"15\" has no unit", "15s"]),
    with(&[("LEADHOOK__ADMIN__LISTEN", "localhost")], "run", 2, &["admin.listen: \"localhost\" is not an address"]),
    with(
        &[("LEADHOOK__LOG__LEVEL", "loud"), ("LEADHOOK__AMQP__PREFIX", "a b")],
        "console",
        2,
        &["cannot use the settings: 2 problems", "log.level: \"loud\"", "amqp.prefix: \"a b\""],
    ),
    with(&[("LEADHOOK__CONSOLE__LISTEN", "0.0.0.0:9465")], "console", 2, &["console.listen", "console.credentials"]),
    // The webhook store.
    case("check --store absent.yaml", 2, &["absent.yaml: cannot be read: there is no such file", "1 error"]),
    case(
        "check --store typo.yaml",
        2,
        &["typo.yaml:3:5: organizations.acme", "acme.webhok", "did you mean `webhook`?"],
    ),
    case("check --store url.yaml", 2, &["url.yaml:3:21: organizations.acme.webhook.url", "https"]),
    case("check --store unset.yaml", 2, &["unset.yaml:6:27", "WEBHOOK_TOKEN"]),
    with(
        &[("LEADHOOK__EGRESS__PLAIN_HTTP", "false")],
        "check --store plain.yaml --strict",
        1,
        &[
            "--strict does not allow warnings",
            "deliveries to 1 enabled target will fail",
            "target acme: the URL begins with http://",
        ],
    ),
    // No broker, no worker.
    case("failed list", 3, &["cannot connect to amqp://127.0.0.1:9", "the connection was refused", "start the broker"]),
    case("failed discard --all --dry-run", 3, &["cannot connect to amqp://127.0.0.1:9", "start the broker"]),
    case("rejected list", 3, &["cannot connect to amqp://127.0.0.1:9", "start the broker"]),
    case("deliveries --lead lead_1", 3, &["cannot connect to amqp://127.0.0.1:9", "start the broker"]),
    case("topology apply", 3, &["cannot connect to amqp://127.0.0.1:9", "start the broker"]),
    case("topology check", 3, &["cannot connect to amqp://127.0.0.1:9", "start the broker"]),
    with(
        &[("LEADHOOK__ADMIN__LISTEN", "127.0.0.1:9")],
        "targets",
        3,
        &["no worker answers: 127.0.0.1:9", "`leadhook run`"],
    ),
    with(
        &[("LEADHOOK__ADMIN__LISTEN", "127.0.0.1:9")],
        "health",
        1,
        &["no worker answers: 127.0.0.1:9", "`leadhook run`"],
    ),
];

#[test]
fn bad_input_is_answered_with_what_where_and_what_to_do() {
    assert!(CASES.len() >= 60, "{}", CASES.len());
    let directory = tempfile::tempdir().unwrap();
    for (name, text) in FILES {
        fs::write(directory.path().join(name), text).unwrap();
    }
    let mut printed = String::new();
    let mut wrong = String::new();
    for case in CASES {
        let output = command(case, directory.path()).output().unwrap();
        let text = [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).unwrap()).concat();
        let code = output.status.code();
        let environment: String = case.environment.iter().map(|(name, value)| format!("{name}={value} ")).collect();
        let _ = write!(printed, "$ {environment}leadhook {}\n{text}-> exit {}\n\n", case.line, code.unwrap_or(-1));
        for problem in problems(case, code, &text) {
            let _ = writeln!(wrong, "{environment}leadhook {}: {problem}\n{text}", case.line);
        }
    }
    if let Some(file) = std::env::var_os("LEADHOOK_MESSAGES_FILE") {
        fs::write(file, printed).unwrap();
    }
    assert!(wrong.is_empty(), "{wrong}");
}

fn command(case: &Case, directory: &Path) -> Command {
    let mut command = leadhook(NO_BROKER);
    command.args(case.line.split(' ').map(|word| if word == "''" { "" } else { word }));
    command.envs(case.environment.iter().copied()).current_dir(directory).env("LEADHOOK__LOG__LEVEL", "info");
    if let Some((_, level)) = case.environment.iter().find(|(name, _)| *name == "LEADHOOK__LOG__LEVEL") {
        command.env("LEADHOOK__LOG__LEVEL", level);
    }
    command
}

/// Returns the faults of an answer.
fn problems(case: &Case, code: Option<i32>, text: &str) -> Vec<String> {
    let mut problems = Vec::new();
    if code != Some(case.code) {
        problems.push(format!("exit code {code:?} instead of {}", case.code));
    }
    let missing = case.words.iter().filter(|words| !text.contains(**words));
    problems.extend(missing.map(|words| format!("does not say {words:?}")));
    if !text.lines().any(|line| line.starts_with("help: ")) {
        problems.push("has no help".to_owned());
    }
    // An answer that found nothing is not an error.
    let is_error = text.lines().any(|line| line.starts_with("error: ") && line[7..].contains(": "));
    if !is_error && !case.line.starts_with("explain --campaign abc") {
        problems.push("has no line `error: <what>: <where>`".to_owned());
    }
    let never = ["os error", "IO error", "nobody", "somebody", "whoever", "hunter2\"", "user:hunter2", "panicked"];
    problems.extend(never.iter().filter(|word| text.contains(**word)).map(|word| format!("says {word:?}")));
    problems
}
