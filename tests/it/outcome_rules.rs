//! Targets that define the meaning of an answer: accepted, final and refused answers, and answers from systems in front
//! of a receiver.

use std::{
    net::Ipv4Addr,
    process::Stdio,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use leadhook::delivery::request::AGENT;
use serde_json::Value;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

use crate::harness::{PATIENCE, World, event, eventually, receiver};

/// A receiver that gives these answers in turn and repeats the last one, each on its own connection.
struct Canned {
    url: String,
    requests: Arc<Mutex<Vec<Request>>>,
}

struct Request {
    at: Instant,
    text: String,
}

impl Canned {
    async fn new(answers: &[String]) -> Canned {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let url = format!("http://{}/hook", listener.local_addr().unwrap());
        let requests: Arc<Mutex<Vec<Request>>> = Arc::default();
        let (seen, answers) = (requests.clone(), answers.to_vec());
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let Some(text) = read(&mut stream).await else { continue };
                let turn = {
                    let mut seen = seen.lock().unwrap();
                    seen.push(Request { at: Instant::now(), text });
                    seen.len() - 1
                };
                let _ = stream.write_all(answers[turn.min(answers.len() - 1)].as_bytes()).await;
            }
        });
        Canned { url, requests }
    }

    fn count(&self) -> usize {
        self.requests.lock().unwrap().len()
    }

    async fn wait_for(&self, count: usize) {
        eventually(&format!("{count} requests"), async || (self.count() >= count).then_some(())).await;
    }

    fn has_lead(&self, request: usize, lead: &str) -> bool {
        self.requests.lock().unwrap()[request].text.contains(lead)
    }
}

async fn read(stream: &mut TcpStream) -> Option<String> {
    let mut text = Vec::new();
    loop {
        if stream.read_buf(&mut text).await.ok()? == 0 {
            return None;
        }
        let so_far = String::from_utf8_lossy(&text);
        let Some((head, body)) = so_far.split_once("\r\n\r\n") else { continue };
        let length =
            head.lines().find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length: ")?.parse().ok());
        if body.len() >= length.unwrap_or(0) {
            return Some(so_far.into_owned());
        }
    }
}

fn answer(status: u16, headers: &str, body: &str) -> String {
    let length = body.len();
    format!("HTTP/1.1 {status} Canned\r\n{headers}Content-Length: {length}\r\nConnection: close\r\n\r\n{body}")
}

const NO: &str = r#"{"success": false, "email": "john@example.com"}"#;

const SUCCESS: &str = "accept_if: { json: /success, equals: true }";

async fn said(world: &World, arguments: &[&str]) -> String {
    let mut command = world.command();
    command.args(arguments).env("LEADHOOK__DELIVERY_LOG__ENABLED", "true").stdout(Stdio::piped());
    let output = tokio::task::spawn_blocking(move || command.output().expect("leadhook")).await.unwrap();
    String::from_utf8(output.stdout).expect("UTF-8")
}

#[tokio::test]
async fn accepted_statuses_are_delivered_and_never_retried_ones_fail_at_once() {
    let world = World::new().await;
    let (duplicate, wrong) = (receiver("409").await, receiver("422").await);
    world.store(&format!(
        "default_organization: acme\norganizations:\n  acme:\n    webhook: {{ url: \"{}\", events: \"*\", accept: [409], never_retry: [400, 422] }}\n    \
         campaigns:\n      WRONG: {{ override: true, webhook: {{ url: \"{}\" }} }}\n",
        duplicate.url(),
        wrong.url()
    ));
    let worker = world.worker(&[]).await;
    world.publish_many(["ABC", "WRONG"].map(|campaign| event(campaign, 1))).await;
    let failed = world.take("failed", 1).await.remove(0);
    assert_eq!(failed.text("leadhook-reason").as_deref(), Some("never_retry"));
    let detail = failed.text("leadhook-detail").unwrap();
    assert_eq!(detail, "final at attempt 1: never_retry lists status 422");
    assert_eq!(failed.history().len(), 1);
    eventually("the other is delivered", async || {
        (worker.metric("leadhook_jobs_total", "outcome=\"delivered\"").await == 1.0).then_some(())
    })
    .await;
    assert_eq!((duplicate.received().len(), wrong.received().len()), (1, 1));
    worker.metric_is("leadhook_attempts_total", "class=\"4xx\",outcome=\"delivered\"", 1.0).await;
    worker.metric_is("leadhook_attempts_total", "class=\"4xx\",outcome=\"failed\"", 1.0).await;
}

#[tokio::test]
async fn a_refusal_is_final_and_is_seen_everywhere_but_on_the_failed_queue() {
    let world = World::new().await;
    let buyer = Canned::new(&[answer(200, "", NO)]).await;
    world.simple_store(&buyer.url, SUCCESS);
    let worker = world.worker(&[("LEADHOOK__DELIVERY_LOG__ENABLED", "true")]).await;
    world.publish(event("ABC", 1).as_bytes()).await;
    eventually("it is refused", async || {
        (worker.metric("leadhook_jobs_total", "outcome=\"refused\",reason=\"\"").await == 1.0).then_some(())
    })
    .await;
    worker.metric_is("leadhook_attempts_total", "class=\"2xx\",outcome=\"refused\"", 1.0).await;
    let found = eventually("a record in the delivery log", async || {
        let found: Value =
            serde_json::from_str(&said(&world, &["deliveries", "--state", "refused", "--json"]).await).ok()?;
        found["deliveries"].as_array()?.first().cloned()
    })
    .await;
    assert_eq!((found["lead"].as_str(), found["status"].as_u64()), (Some("lead_1"), Some(200)));
    let log = worker.log();
    let line = log.lines().find(|line| line.contains("delivery refused")).unwrap_or_else(|| panic!("{log}"));
    assert!(line.contains("INFO") && line.contains("the answer does not say /success = true"), "{line}");
    assert!(!log.contains("john@example.com"), "{log}");
    worker.stop().await;
    assert_eq!(buyer.count(), 1);
    assert_eq!((world.ready("failed").await, world.ready("jobs").await, world.waiting().await), (0, 0, Some(0)));
}

#[tokio::test]
async fn a_refused_delivery_is_kept_for_support_where_the_target_says_so() {
    let world = World::new().await;
    let buyer = Canned::new(&[answer(200, "", NO)]).await;
    world.simple_store(&buyer.url, &format!("{SUCCESS}\nkeep_refused: true"));
    let worker = world.worker(&[]).await;
    world.publish(event("ABC", 1).as_bytes()).await;
    eventually("it is kept", async || (world.ready("failed").await == 1).then_some(())).await;
    eventually("it is counted", async || {
        (worker.metric("leadhook_jobs_total", "outcome=\"refused\",reason=\"kept\"").await == 1.0).then_some(())
    })
    .await;
    let listed: Value =
        serde_json::from_str(&said(&world, &["failed", "list", "--reason", "refused", "--json"]).await).unwrap();
    assert_eq!(listed["jobs"][0]["owner"], "customer", "{listed}");
    let failed = world.take("failed", 1).await.remove(0);
    assert_eq!(failed.text("leadhook-reason").as_deref(), Some("refused"));
    let history = failed.history();
    assert_eq!((history[0].outcome.as_str(), history[0].status, history.len()), ("refused", Some(200), 1));
    assert_eq!(history[0].snippet.as_deref(), Some(NO), "the snippet for support is missing");
    assert_eq!(buyer.count(), 1);
}

#[tokio::test]
async fn an_answer_that_accept_if_cannot_read_is_retried() {
    let world = World::new().await;
    let long = format!(r#"{{"success": true, "more": "{}"}}"#, "x".repeat(64 * 1024));
    let cut = answer(200, "", r#"{"success": true}"#).replace("Content-Length: 17", "Content-Length: 18");
    let yes = answer(200, "", r#"{"success": true}"#);
    let buyer = Canned::new(&[answer(200, "", "<html>ok</html>"), answer(200, "", &long), cut, yes]).await;
    world.simple_store(&buyer.url, SUCCESS);
    let worker = world.worker(&[]).await;
    world.publish(event("ABC", 1).as_bytes()).await;
    eventually("it is delivered", async || {
        (worker.metric("leadhook_jobs_total", "outcome=\"delivered\"").await == 1.0).then_some(())
    })
    .await;
    assert_eq!(buyer.count(), 4);
    worker.metric_is("leadhook_jobs_total", "outcome=\"retry\"", 3.0).await;
    worker.metric_reaches("leadhook_jobs_total", "outcome=\"retry\",reason=\"answer_unreadable\"", 2.0).await;
}

#[tokio::test]
async fn retry_after_beside_another_status_delays_its_own_delivery_only() {
    let world = World::new().await;
    let receiver = Canned::new(&[answer(502, "Retry-After: 4\r\n", ""), answer(200, "", "")]).await;
    world.simple_store(&receiver.url, "");
    let worker = world.worker(&[]).await;
    world.publish(event("ABC", 1).as_bytes()).await;
    eventually("the first waits for its retry", async || {
        (worker.metric("leadhook_jobs_total", "outcome=\"retry\"").await == 1.0).then_some(())
    })
    .await;
    world.publish(event("ABC", 2).as_bytes()).await;
    receiver.wait_for(3).await;
    assert!(receiver.has_lead(0, "lead_1") && receiver.has_lead(1, "lead_2") && receiver.has_lead(2, "lead_1"));
    let requests = receiver.requests.lock().unwrap();
    let gap = requests[2].at - requests[0].at;
    assert!(gap >= Duration::from_secs(4), "{gap:?}");
}

#[tokio::test]
async fn a_bot_challenge_has_a_reason_of_its_own_and_is_retried_whatever_the_lists_say() {
    let world = World::new().await;
    let challenge = answer(403, "cf-mitigated: challenge\r\n", "<html>");
    let receiver = Canned::new(&[challenge, answer(200, "", "")]).await;
    world.simple_store(&receiver.url, "never_retry: [403]");
    let worker = world.worker(&[]).await;
    world.publish(event("ABC", 1).as_bytes()).await;
    eventually("it is delivered", async || {
        (worker.metric("leadhook_jobs_total", "outcome=\"delivered\"").await == 1.0).then_some(())
    })
    .await;
    worker.metric_is("leadhook_jobs_total", "outcome=\"retry\",reason=\"bot_challenge\"", 1.0).await;
    assert_eq!(receiver.count(), 2);
}

#[tokio::test]
async fn a_redirect_says_where_to_and_nothing_of_the_lead() {
    let world = World::new().await;
    let location = "Location: https://www.example.com/hook?email=john%40example.com\r\n";
    let receiver = Canned::new(&[answer(301, location, "")]).await;
    world.simple_store(&receiver.url, "retry_attempts: 1");
    let worker = world.worker(&[]).await;
    world.publish(event("ABC", 1).as_bytes()).await;
    eventually("it has failed", async || (world.ready("failed").await == 1).then_some(())).await;
    let listed: Value = serde_json::from_str(&said(&world, &["failed", "list", "--json"]).await).unwrap();
    let shown = said(&world, &["failed", "show", listed["jobs"][0]["id"].as_str().unwrap()]).await;
    assert!(shown.contains("301 redirect to https://www.example.com "), "{shown}");
    assert!(shown.contains("all 2 attempts were made; the last one: redirect to https://www.example.com\n"), "{shown}");
    let log = worker.log();
    assert!(log.contains("redirect to https://www.example.com"), "{log}");
    for text in [&log, &shown] {
        assert!(!text.contains("/hook") && !text.contains("john%40"), "{text}");
    }
}

#[tokio::test]
async fn a_target_adds_a_charset_and_a_suffix_to_the_headers_of_leadhook() {
    let world = World::new().await;
    let receiver = receiver("200").await;
    let more = "headers: { Content-Type: application/json; charset=utf-8, User-Agent: acme-leads/1 }";
    world.simple_store(&receiver.url(), more);
    let _worker = world.worker(&[]).await;
    world.publish(event("ABC", 1).as_bytes()).await;
    let received = receiver.wait_for(1, PATIENCE).await.unwrap();
    assert_eq!(received[0].header("content-type"), Some("application/json; charset=utf-8"));
    assert_eq!(received[0].header("user-agent"), Some(format!("{AGENT} acme-leads/1").as_str()));
}
