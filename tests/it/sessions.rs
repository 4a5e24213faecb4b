//! The broker that the connections of a worker choose, and the reasons to leave it.

use crate::{
    harness::{Worker, eventually, leadhook},
    rig::scripted_broker::{ScriptedBroker, Wrong},
};

/// Starts a worker for these brokers; also returns the directory of its files.
fn worker(urls: &str) -> (Worker, tempfile::TempDir) {
    let directory = tempfile::tempdir().unwrap();
    let store = directory.path().join("store.yaml");
    std::fs::write(&store, "organizations: { acme: { webhook: { url: 'https://a.example', events: '*' } } }").unwrap();
    let mut command = leadhook(urls);
    command.arg("run").arg("--store").arg(&store);
    (Worker::spawn(command, directory.path().join("worker.log")), directory)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn workers_begin_at_a_random_broker() {
    const WORKERS: usize = 32;
    let (a, b) = (ScriptedBroker::start().await, ScriptedBroker::start().await);
    for _ in 0..WORKERS {
        let before = a.connections() + b.connections();
        let (worker, _directory) = worker(&format!("{},{}", a.url, b.url));
        eventually("a connection", async || (a.connections() + b.connections() > before).then_some(())).await;
        worker.kill().await;
        if a.connections() > 0 && b.connections() > 0 {
            return;
        }
    }
    panic!("{WORKERS} workers began at the same broker");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_queue_without_a_leader_costs_the_other_intake_nothing() {
    let broker = ScriptedBroker::start().await;
    let (worker, _directory) = worker(&format!("{0},{0}", broker.url));
    worker.ready().await;
    let (events, jobs) = (broker.connection_of("events"), broker.connection_of("jobs"));
    broker.spoil("events", Wrong::Leaderless);
    eventually("another connection for events", async || {
        broker.connection_of("events").filter(|now| Some(*now) != events)
    })
    .await;
    worker.ready().await;
    assert_eq!(broker.connection_of("jobs"), jobs, "{}", worker.log());

    broker.spoil("jobs", Wrong::Leaderless);
    eventually("the broker is blamed", async || worker.log().contains("does not serve the queues").then_some(())).await;
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_lost_while_declaring_suspends_no_events() {
    let broker = ScriptedBroker::start().await;
    let (worker, _directory) = worker(&broker.url);
    worker.ready().await;
    let events = broker.connection_of("events");
    broker.spoil("jobs", Wrong::HangsUp);
    let before = broker.connections();
    assert!(broker.send("jobs", |_, _| b"no frame".to_vec()));
    eventually("two more sessions that end while declaring", async || {
        (broker.connections() >= before + 3).then_some(())
    })
    .await;
    let (_, report) = worker.get("/readyz").await.unwrap();
    assert!(report.contains("no connection to the broker"), "{report}");
    assert_eq!(broker.connection_of("events"), events, "{}", worker.log());
    worker.stop().await;
}
