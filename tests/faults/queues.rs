//! Queues of ours vanish or are replaced while a worker runs (settling rule 7, and the consumers of what is deleted).

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

/// The rungs that short waits end on.
const RUNGS: [&str; 4] = ["delay.94", "delay.110", "delay.188", "delay.219"];

/// Missing from before the load on: what needs them finds nothing.
async fn missing(queues: &[&str]) {
    let mut trial = Trial::new(Node::shared(), fastrand::u64(..)).await;
    trial.start().await;
    for queue in queues {
        delete(&trial, queue).await;
    }
    trial.load(300, 0);
    trial.quiet().await;
    let account = trial.adds_up().await;
    assert_eq!((account.duplicates, account.both), (0, 0), "nothing is POSTed twice for that");
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
    missing(&RUNGS).await;
}

/// A worker that has nothing to do looks all the same: on the connections that it has.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_idle_worker_declares_anew_what_is_missing() {
    let mut trial = Trial::new(Node::shared(), fastrand::u64(..)).await;
    trial.start().await;
    let before = trial.proxy.accepted();
    // The first look comes with the start; the second time it is one of those that follow.
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

/// Deletes a queue and a binding, and waits until both are there again.
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

/// Somebody declares it anew, with other arguments. A worker that looks after its queues just then may be quicker: again.
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

/// The worker says so, takes nothing more in, and goes on by itself when it is gone. What had been put there meanwhile is
/// the operator's to move: `home` is where to.
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
    // Attempts that were in flight end, and their outcomes are recorded.
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
    assert_eq!((account.duplicates, account.both), (0, 0), "nothing is POSTed twice for that");
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
    // Empty: what lies on a queue that is deleted is gone, and that is no fault of the worker's.
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

/// The events in flight are on a connection of their own: they are settled, and not dispatched again.
#[tokio::test]
async fn a_deleted_jobs_queue_costs_no_event_in_flight() {
    // Few enough for a target that is new: none of their jobs is put back for want of room.
    const EVENTS: usize = 3;
    let mut trial = Trial::new(Node::shared(), fastrand::u64(..)).await;
    // Neither gives up while confirms are held back.
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
