use std::time::{Duration, SystemTime};

use bytes::Bytes;
use clap::Parser;
use reqwest::header::HeaderMap;

use super::*;
use crate::receiver::{Action, Reply};

#[derive(Parser)]
struct Cli {
    #[command(flatten)]
    listen: super::Args,
}

const BODY: &str = r#"{"event":"lead.delivered","leadId":"lead_1","submissionId":"sub_xyz789",
    "data":{"firstName":"John","email":"john@example.com"}}"#;

fn args(words: &[&str]) -> Result<Args, clap::Error> {
    Cli::try_parse_from([&["listen"], words].concat()).map(|cli| cli.listen)
}

fn received(id: &'static str, action: Action, verified: Option<bool>) -> Arc<Received> {
    let headers = [("webhook-id", id), ("leadhook-attempt", "2"), ("webhook-signature", "v1,x")];
    let headers = headers.map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()));
    Arc::new(Received {
        at: SystemTime::UNIX_EPOCH + Duration::from_millis(1_718_447_400_250),
        method: "POST".into(),
        path: "/hooks/leads".into(),
        query: Some("key=secret".into()),
        headers: HeaderMap::from_iter(headers),
        body: Bytes::from_static(BODY.as_bytes()),
        reply: Reply { action, delay: Duration::ZERO },
        status: action.status(),
        verified,
    })
}

fn answer(status: u16) -> Action {
    Action::Answer { status, retry_after: None }
}

fn log(words: &[&str]) -> Log<Vec<u8>, Vec<u8>> {
    let mut log = Log::new(&args(words).unwrap(), Vec::new(), Some(Vec::new()));
    log.style.colour = false;
    log
}

fn printed(log: &Log<Vec<u8>, Vec<u8>>) -> &str {
    std::str::from_utf8(&log.out).unwrap()
}

#[test]
fn a_line_says_what_came_and_what_was_answered_and_nothing_of_the_lead() {
    let mut log = log(&[]);
    log.listening("http://127.0.0.1:8080").unwrap();
    log.requests(&[received("3f2a9c1b77e04d55", answer(500), Some(true))]).unwrap();
    let wanted = "listening on http://127.0.0.1:8080\n\
        10:30:00.250Z  POST /hooks/leads  lead.delivered  submission sub_xyz789  webhook 3f2a9c1b77e0  attempt 2  \
        signature verified  -> 500\n";
    assert_eq!(printed(&log), wanted);
}

#[test]
fn bad_signatures_and_duplicates_stand_out() {
    let mut log = log(&[]);
    let pushback = Action::Answer { status: 429, retry_after: Some(7) };
    log.requests(&[received("a", pushback, Some(false)), received("a", answer(200), None)]).unwrap();
    log.requests(&[received("a", Action::Hang, None)]).unwrap();
    let endings = ["signature BAD  -> 429:7", "attempt 2  -> 200", "attempt 2  duplicate  -> hang"];
    for (line, ending) in printed(&log).lines().zip(endings) {
        assert!(line.ends_with(ending), "{line}");
    }
}

#[test]
fn the_summary_counts() {
    let mut log = log(&["--quiet"]);
    let all = [("a", 500), ("a", 200), ("a", 200), ("b", 204), ("c", 301)];
    let arrived: Vec<_> = all.into_iter().map(|(id, status)| received(id, answer(status), Some(id != "c"))).collect();
    log.requests(&arrived).unwrap();
    assert_eq!(printed(&log), "");
    log.summary().unwrap();
    assert_eq!(printed(&log), "\n5 requests, 3 webhooks, 2 delivered, 1 duplicate, 1 bad or missing signature\n");
}

#[test]
fn json_is_one_object_a_line() {
    let mut log = log(&["--json"]);
    log.listening("http://127.0.0.1:1").unwrap();
    log.requests(&[received("a", answer(200), None)]).unwrap();
    log.summary().unwrap();
    let lines: Vec<serde_json::Value> = printed(&log).lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines[0], serde_json::json!({ "type": "listening", "url": "http://127.0.0.1:1" }));
    let request = serde_json::json!({
        "type": "request", "time": "2024-06-15T10:30:00.250Z", "method": "POST", "path": "/hooks/leads",
        "event": "lead.delivered", "submission": "sub_xyz789", "campaign": null, "webhook_id": "a", "attempt": 2,
        "signature": "unchecked", "duplicate": false, "reply": "200", "status": 200,
    });
    assert_eq!(lines[1], request);
    assert_eq!(lines[2]["summary"]["delivered"], 1);
}

#[test]
fn brief_lines_of_a_named_receiver_fit_a_terminal() {
    let mut log = log(&["--name", "crm", "--brief"]);
    log.listening("http://127.0.0.1:1").unwrap();
    log.requests(&[received("3f2a9c1b77e04d55", answer(503), Some(true))]).unwrap();
    log.summary().unwrap();
    let wanted = "crm  listening on http://127.0.0.1:1\n\
        crm  10:30:00.250  lead.delivered                -       3f2a9c1b77e  attempt 2  signed  -> 503\n\
        crm  1 request, 1 webhook, 0 delivered, 0 duplicates, 0 bad or missing signatures\n";
    assert_eq!(printed(&log), wanted);
}

#[test]
fn the_record_is_what_json_would_have_printed() {
    for words in [&["--brief"][..], &["--quiet"], &["--json"]] {
        let (mut log, mut json) = (log(&[words, &["--name", "crm"]].concat()), self::log(&["--json", "--name", "crm"]));
        for log in [&mut log, &mut json] {
            log.listening("http://127.0.0.1:1").unwrap();
            log.requests(&[received("a", answer(200), None), received("a", answer(200), None)]).unwrap();
            log.summary().unwrap();
        }
        assert_eq!(std::str::from_utf8(log.record.as_ref().unwrap()).unwrap(), printed(&json), "{words:?}");
        assert!(printed(&json).contains("\"receiver\":\"crm\""));
    }
}

#[test]
fn the_body_is_shown_on_request_only() {
    for (words, shown) in [(vec![], false), (vec!["--json"], false), (vec!["--show-body"], true)] {
        let mut log = log(&words);
        log.requests(&[received("a", answer(200), None)]).unwrap();
        assert_eq!(printed(&log).contains("john@example.com"), shown, "{words:?}");
        assert!(!printed(&log).contains("key=secret"));
    }
}

#[test]
fn a_sender_cannot_move_the_cursor() {
    let mut hostile = Received::clone(&received("a", answer(200), None));
    hostile.body = Bytes::from_static(br#"{"event":"\u001b[2Jx\ny"}"#);
    hostile.path = "/\u{1b}[1A".into();
    let mut log = log(&["--show-body"]);
    log.requests(&[Arc::new(hostile)]).unwrap();
    assert!(!printed(&log).contains('\u{1b}'));
    assert_eq!(printed(&log).lines().count(), 2);
}

#[test]
fn arguments_and_their_defaults() {
    let defaults = args(&[]).unwrap();
    assert_eq!((defaults.port, defaults.bind.to_string().as_str()), (8080, "127.0.0.1"));
    assert_eq!(defaults.respond, Script::default());
    let error = args(&["--respond", "200,maybe"]).err().unwrap().to_string();
    assert!(error.contains("`maybe` is not a reply"), "{error}");
}

#[test]
fn an_unusable_secret_is_named_by_its_place_only() {
    let good = format!("whsec_{}", "A".repeat(32));
    let given = args(&["--secret", &good, "--secret", "whsec_hunter2"]).unwrap();
    let error = parse_secrets(&given.secrets).unwrap_err().to_string();
    assert!(error.contains("cannot use --secret number 2"), "{error}");
    assert!(!error.contains("hunter2"));
    assert_eq!(parse_secrets(&[good.clone(), good]).unwrap().len(), 2);
}
