//! Brokers that cannot keep the promises, or not all of them, are recognized by their greeting.

use crate::{
    harness::{Worker, eventually, leadhook},
    rig::scripted_broker::ScriptedBroker,
};

/// A worker on a scripted broker with this greeting.
struct Greeted {
    worker: Worker,
    /// Its readiness once that contains the expected text.
    status: u16,
    report: String,
    _broker: ScriptedBroker,
    _directory: tempfile::TempDir,
}

async fn greeted(product: &'static str, version: &'static str, expected: &str) -> Greeted {
    let broker = ScriptedBroker::start_as(product, version).await;
    let directory = tempfile::tempdir().unwrap();
    let store = directory.path().join("store.yaml");
    std::fs::write(&store, "organizations: { acme: { webhook: { url: 'https://a.example', events: '*' } } }").unwrap();
    let mut command = leadhook(&broker.url);
    command.arg("run").arg("--store").arg(&store);
    let worker = Worker::spawn(command, directory.path().join("worker.log"));
    let (status, report) =
        eventually(expected, async || worker.get("/readyz").await.filter(|(_, report)| report.contains(expected)))
            .await;
    eventually("the line in the log", async || worker.log().contains(expected).then_some(())).await;

    // The commands report it as well.
    let mut check = leadhook(&broker.url);
    let check = check.args(["topology", "check"]).output().unwrap();
    let said = [check.stdout, check.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    assert!(said.contains(expected), "{said}");
    Greeted { worker, status, report, _broker: broker, _directory: directory }
}

/// The scripted broker accepts a queue of any type, as LavinMQ does.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_that_ignores_the_type_of_queues_is_refused() {
    let greeted = greeted("LavinMQ", "2.4.0", "is LavinMQ 2.4.0: it ignores x-queue-type").await;
    assert_eq!(greeted.status, 503, "{}", greeted.report);
    assert!(greeted.report.contains("Leadhook needs RabbitMQ 3.10.5 or later"), "{}", greeted.report);
    greeted.worker.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rabbitmq_without_quorum_queues_is_refused() {
    let greeted = greeted("RabbitMQ", "3.7.28", "is RabbitMQ 3.7.28: it has no quorum queues").await;
    assert_eq!(greeted.status, 503, "{}", greeted.report);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rabbitmq_with_known_faults_is_warned_of() {
    let expected = "is RabbitMQ 3.10.4: its dead-lettering can fail and stop a queue";
    let greeted = greeted("RabbitMQ", "3.10.4", expected).await;
    greeted.worker.ready().await;
    let (_, report) = greeted.worker.get("/readyz").await.unwrap();
    assert!(report.contains(expected), "{report}");
    let log = greeted.worker.log();
    assert_eq!(log.matches(expected).count(), 1, "{log}");
}
