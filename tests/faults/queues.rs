//! Our queues vanish or are replaced while a worker runs (settling rule 7, and the consumers of deleted queues).

use std::time::Duration;

use lapin::{
    options::QueueDeclareOptions,
    types::{AMQPValue, FieldTable},
};
use reqwest::Method;

use crate::rig::{
    harness::{asked_every, eventually},
    node::Node,
    proxy::{Direction, Which},
    trial::Trial,
};

async fn delete(trial: &Trial<'_>, queue: &str) {
    trial.node.manage(Method::DELETE, &format!("queues/{}/leadhook.{queue}", trial.world.vhost()), "").await;
}

/// The delay queues that short waits use.
const DELAYS: [&str; 4] = ["delay.94", "delay.110", "delay.188", "delay.219"];

/// The queues are missing before the load begins, so publishes to them are returned.
async fn missing(queues: &[&str]) {
    let mut trial = Trial::new(Node::shared(), fastrand::u64(..)).await;
    trial.start().await;
    for queue in queues {
        delete(&trial, queue).await;
    }
    trial.load(300, 0);
    trial.quiet().await;
    let account = trial.adds_up().await;
    assert_eq!((account.duplicates, account.both), (0, 0), "an outage of a queue caused duplicates");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_failed_queue_is_missing() {
    missing(&["failed"]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_rejected_queue_is_missing() {
    missing(&["rejected"]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn delay_queues_are_missing() {
    missing(&DELAYS).await;
}

/// An idle worker also checks its queues, on the connections that it has.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_idle_worker_declares_anew_what_is_missing() {
    let mut trial = Trial::new(Node::shared(), fastrand::u64(..)).await;
    trial.start().await;
    let before = trial.proxy.accepted();
    // The first check comes with the start. The second round proves the periodic checks.
    for _ in 0..2 {
        lose_and_find_again(&trial).await;
    }
    assert_eq!(trial.proxy.accepted(), before);
    let log = trial.workers[0].log();
    assert!(log.contains("a queue is missing") && log.contains("leadhook.failed"), "{log}");
    trial.load(100, 0);
    let account = trial.adds_up().await;
    assert_eq!((account.duplicates, account.both), (0, 0));
}

/// Deletes a queue and a binding, and waits until both exist again.
async fn lose_and_find_again(trial: &Trial<'_>) {
    let vhost = trial.world.vhost().to_owned();
    delete(trial, "failed").await;
    trial.node.manage(Method::DELETE, &format!("bindings/{vhost}/e/lead.events/q/leadhook.events/lead.*"), "").await;
    let failed = format!("queues/{vhost}?columns=name");
    asked_every(Duration::from_millis(200), "the failed queue", async || {
        trial.node.manage(Method::GET, &failed, "").await.contains("leadhook.failed").then_some(())
    })
    .await;
    let bindings = format!("bindings/{vhost}/e/lead.events/q/leadhook.events");
    asked_every(Duration::from_millis(200), "the binding", async || {
        trial.node.manage(Method::GET, &bindings, "").await.contains("lead.*").then_some(())
    })
    .await;
}

/// Replaces a queue by one with other arguments. A worker that checks its queues at that moment may be quicker, so this
/// tries again.
async fn replace(trial: &Trial<'_>, queue: &str, kind: &str) {
    let mut arguments = FieldTable::default();
    arguments.insert("x-queue-type".into(), AMQPValue::LongString(kind.into()));
    let durable = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
    let name = format!("leadhook.{queue}");
    eventually("a foreign queue", async || {
        delete(trial, queue).await;
        let channel = trial.world.channel().await;
        channel.queue_declare(name.as_str().into(), durable, arguments.clone()).await.ok()
    })
    .await;
}

/// The worker reports the foreign queue, stops its intake, and resumes by itself when the queue is gone. An operator
/// has to move the messages that went there meanwhile: `home` is their destination.
async fn foreign(queue: &str, kind: &str, home: Option<&str>) {
    let mut trial = Trial::new(Node::shared(), fastrand::u64(..)).await;
    trial.start().await;
    replace(&trial, queue, kind).await;
    trial.load(200, 0);
    let name = format!("leadhook.{queue}");
    eventually("readiness names the queue", async || {
        let (status, body) = trial.workers[0].get("/readyz").await?;
        (status == 503 && body.contains(&name) && body.contains("topology")).then_some(())
    })
    .await;
    // Attempts in flight end, and their outcomes are recorded.
    eventually("the intake is closed", async || {
        (trial.workers[0].metric_if_there("leadhook_attempts_in_flight", "").await? == 0.0).then_some(())
    })
    .await;
    match home {
        Some(home) => {
            for message in trial.world.take_all(queue).await {
                trial.world.publish_to("", home, &message.body, message.properties).await;
            }
        }
        None => trial.gather().await,
    }
    delete(&trial, queue).await;
    trial.workers[0].ready().await;
    trial.quiet().await;
    let account = trial.adds_up().await;
    assert_eq!((account.duplicates, account.both), (0, 0), "a foreign queue caused duplicates");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_failed_queue_is_another_one_now() {
    foreign("failed", "classic", None).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_rejected_queue_is_another_one_now() {
    foreign("rejected", "quorum", None).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_delay_queue_is_another_one_now() {
    foreign("delay.110", "quorum", Some("leadhook.jobs")).await;
}

/// The broker cancels the consumer of a queue that is deleted.
async fn deleted_and_recreated(queue: &str) {
    let mut trial = Trial::new(Node::shared(), fastrand::u64(..)).await;
    trial.start().await;
    trial.load(100, 0);
    trial.quiet().await;
    // The queue is empty: a deleted queue loses its messages, which is not the worker's fault.
    delete(&trial, queue).await;
    trial.load(200, 150);
    eventually("consuming again", async || trial.workers[0].log().contains("broker reachable again").then_some(()))
        .await;
    trial.broke("the queue was deleted", 0);
    trial.adds_up().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_consumer_of_jobs_is_cancelled() {
    deleted_and_recreated("jobs").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_consumer_of_events_is_cancelled() {
    deleted_and_recreated("events").await;
}

/// The events in flight are on their own connection: they are settled, and not dispatched again.
#[tokio::test]
async fn a_deleted_jobs_queue_costs_no_event_in_flight() {
    // Few enough for a new target: none of their jobs is deferred for lack of room.
    const EVENTS: usize = 3;
    let mut trial = Trial::new(Node::shared(), fastrand::u64(..)).await;
    // Neither side gives up while confirms are held back.
    trial.spawn(&[("LEADHOOK__AMQP__CONFIRM_TIMEOUT", "2m"), ("LEADHOOK__AMQP__HEARTBEAT", "2m")]);
    trial.workers[0].ready().await;
    trial.workers[0].looked().await;
    trial.proxy.wait(Which::Publish, Direction::ToWorker);
    let events = trial.events_of(&[("HEALTHY", EVENTS)]);
    trial.load_of(events, 0);
    eventually("their jobs are POSTed", async || (trial.post_count() == EVENTS).then_some(())).await;
    delete(&trial, "jobs").await;
    eventually("consuming again", async || trial.workers[0].log().contains("broker reachable again").then_some(()))
        .await;
    trial.proxy.go_on(Which::Publish);
    trial.broke("the queue was deleted", 0);
    trial.adds_up().await;
}
