use std::{collections::BTreeMap, net::SocketAddr, sync::Arc};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tokio_util::sync::CancellationToken;

use super::Admin;
use crate::{
    broker::Intake,
    health::{BrokerState, ConsumeState, Health, Thresholds, TopologyState},
    metrics::Metrics,
};

const THRESHOLDS: Thresholds = Thresholds { failed: 10, rejected: 5, unreadable: 1, waiting: 4 };

/// Makes the health of a ready worker.
fn healthy() -> Health {
    let health = Health::new(THRESHOLDS);
    recover(&health);
    health
}

fn recover(health: &Health) {
    health.set_consuming(Intake::Events, ConsumeState::Consuming);
    health.set_consuming(Intake::Jobs, ConsumeState::Consuming);
    health.set_publishing(BrokerState::Connected);
    health.set_topology(TopologyState::Ok);
    health.set_store("r1", None);
}

/// Removes the times from reasons.
fn timeless(reasons: &[String]) -> Vec<String> {
    let cut = |reason: &String| match reason.split_once(" since 2") {
        Some((before, after)) => {
            format!("{before} since{}", after.trim_start_matches(|c| c != 'Z').trim_start_matches('Z'))
        }
        None => reason.clone(),
    };
    reasons.iter().map(cut).collect()
}

fn counts<N: Copy>(counts: &[(&str, N)]) -> BTreeMap<String, N> {
    counts.iter().map(|(queue, messages)| (queue.to_string(), *messages)).collect()
}

#[test]
fn a_worker_is_ready_only_when_everything_it_needs_is_there() {
    assert!(healthy().report().ready);
    type Row = (fn(&Health), &'static str);
    let spoil: [Row; 9] = [
        (
            |h| h.set_consuming(Intake::Events, ConsumeState::Lost("refused".into())),
            "consuming events: no connection to the broker since: refused",
        ),
        (
            |h| h.set_consuming(Intake::Jobs, ConsumeState::Lost("reset".into())),
            "consuming jobs: no connection to the broker since: reset",
        ),
        (
            |h| h.set_consuming(Intake::Jobs, ConsumeState::Suspended("the broker blocks publishing".into())),
            "consuming jobs: suspended since because the broker blocks publishing",
        ),
        (
            |h| h.set_publishing(BrokerState::Lost("reset".into())),
            "publishing: no connection to the broker since: reset",
        ),
        (|h| h.set_publishing(BrokerState::Blocked), "publishing: blocked by the broker since (memory or disk alarm)"),
        (
            |h| h.set_topology(TopologyState::Problem("no queue leadhook.jobs".into())),
            "topology: no queue leadhook.jobs",
        ),
        (
            |h| h.set_waiting(counts(&[("leadhook.failed", 4)])),
            "intake closed: outcomes cannot be recorded (4 for leadhook.failed)",
        ),
        (
            |h| h.set_waiting(counts(&[("a", 2), ("b", 3), ("c", 0)])),
            "intake closed: outcomes cannot be recorded (2 for a, 3 for b)",
        ),
        (Health::set_stopping, "stopping: attempts in flight are being finished"),
    ];
    for (spoil, reason) in spoil {
        let health = healthy();
        spoil(&health);
        let report = health.report();
        assert!(!report.ready);
        assert_eq!(timeless(&report.reasons), [reason]);
    }
    assert_eq!(Health::new(THRESHOLDS).report().reasons.len(), 5);
}

#[test]
fn each_broker_that_an_intake_consumes_from_is_warned_of_once() {
    let health = healthy();
    let set = |intake, warning| health.set_broker_warning(intake, warning);
    assert!(set(Intake::Jobs, Some("broker a is old")));
    assert!(!set(Intake::Events, Some("broker a is old")), "known from the other intake");
    assert_eq!(health.report().warnings, ["broker a is old"]);
    assert!(set(Intake::Events, Some("broker b is old")));
    assert!(!set(Intake::Jobs, Some("broker a is old")), "known from before the reconnect");
    assert_eq!(health.report().warnings, ["broker a is old", "broker b is old"]);
    assert!(!set(Intake::Events, None));
    assert_eq!(health.report().warnings, ["broker a is old"]);
}

#[test]
fn what_needs_a_person_is_a_warning_and_keeps_the_worker_in_service() {
    let health = healthy();
    health.set_waiting(counts(&[("leadhook.failed", 3)]));
    health.set_queue_counts(counts(&[("failed", 9), ("rejected", 4)]));
    assert_eq!(health.report().warnings, [""; 0]);

    health.set_store("r1", Some("acme.yaml:3:5: unknown key".into()));
    health.set_files(vec!["cannot use the file of amqp.urls_file: /run/urls:2: is not a URL".into()]);
    health.set_queue_counts(counts(&[("failed", 10), ("rejected", 5), ("jobs", 1_000_000)]));
    let report = health.report();
    assert!(report.ready, "{report:?}");
    assert_eq!(
        report.warnings,
        [
            "the last reload of the webhook store was refused, the one before it stays: acme.yaml:3:5: unknown key",
            "cannot use the file of amqp.urls_file: /run/urls:2: is not a URL; its last good content stays in use",
            "the failed queue holds 10 messages (warned from 10), not empty for 0 s",
            "the rejected queue holds 5 messages (warned from 5), not empty for 0 s",
        ]
    );
}

struct Reply {
    status: u16,
    content_type: String,
    body: String,
}

async fn ask(address: SocketAddr, path: &str) -> Reply {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").as_bytes()).await.unwrap();
    let mut page = String::new();
    stream.read_to_string(&mut page).await.unwrap();
    let (head, body) = page.split_once("\r\n\r\n").unwrap();
    let header = |name: &str| head.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default().to_owned();
    Reply {
        status: head.split(' ').nth(1).unwrap().parse().unwrap(),
        content_type: header("content-type: "),
        body: body.to_owned(),
    }
}

#[tokio::test]
async fn the_port_answers_until_shutdown() {
    let admin = Admin::bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let address = admin.address();
    assert_ne!(address.port(), 0);
    let (health, metrics, shutdown) = (Arc::new(Health::new(THRESHOLDS)), Metrics::new(), CancellationToken::new());
    let circuits = crate::limits::Circuits::new(64, 64, tokio::sync::watch::channel(1).1);
    let server = tokio::spawn(admin.serve(health.clone(), metrics.clone(), circuits.clone(), shutdown.clone()));

    let reply = ask(address, "/readyz").await;
    assert_eq!((reply.status, reply.content_type.as_str()), (503, "application/json"));
    let json: serde_json::Value = serde_json::from_str(&reply.body).unwrap();
    assert_eq!(json["ready"], false);
    assert_eq!(ask(address, "/livez").await.status, 200);

    recover(&health);
    health.set_queue_counts(counts(&[("failed", 2), ("delay.1000", 3), ("delay.2000", 4)]));
    let reply = ask(address, "/readyz").await;
    assert_eq!(reply.status, 200);
    let json: serde_json::Value = serde_json::from_str(&reply.body).unwrap();
    let expected = serde_json::json!({
        "ready": true, "reasons": [], "warnings": [],
        "store": { "revision": "r1", "last_error": null },
        "queues": { "failed": { "messages": 2, "not_empty_seconds": 0 }, "delay": { "messages": 7 } },
    });
    assert_eq!(json, expected);

    metrics.job_delivered();
    let reply = ask(address, "/metrics").await;
    assert_eq!(reply.content_type, "application/openmetrics-text; version=1.0.0; charset=utf-8");
    assert!(reply.body.contains("leadhook_jobs_total{outcome=\"delivered\",reason=\"\"} 1\n"), "{}", reply.body);
    assert!(reply.body.contains("leadhook_circuits{state=\"healthy\"} 0\n"), "{}", reply.body);
    assert_eq!(ask(address, "/targets").await.body, "[]");
    assert_eq!(ask(address, "/").await.status, 404);

    // A client that never finishes its request does not delay the stop.
    let mut idler = TcpStream::connect(address).await.unwrap();
    idler.write_all(b"GET /livez HT").await.unwrap();
    shutdown.cancel();
    server.await.unwrap();
    assert!(TcpStream::connect(address).await.is_err());
}
