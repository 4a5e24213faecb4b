//! The broker goes away under an idle and under a busy worker, and our queues vanish.

use std::{
    collections::{BTreeSet, HashSet},
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

use futures::{StreamExt, stream};
use lapin::{
    BasicProperties, Connection, ConnectionProperties,
    options::QueueDeclareOptions,
    types::{FieldTable, ShortString},
};
use leadhook::{
    broker::{
        connection::channel,
        publisher::{Outgoing, PublishError, Publisher},
    },
    settings,
};
use reqwest::Method;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::{
    harness::{PATIENCE, World, counts, event, eventually, receiver},
    node::Node,
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_while_idle_is_survived() {
    let node = Node::private();
    let mut world = World::on(&node).await;
    let receiver = receiver("200").await;
    world.simple_store(&receiver.url(), "");
    let worker = world.worker(&[]).await;
    world.publish(event("ABC", 1).as_bytes()).await;
    receiver.wait_for(1, PATIENCE).await.unwrap();
    node.stop();
    let reasons = worker.not_ready().await;
    assert!(reasons.contains("broker") || reasons.contains("connect"), "{reasons}");
    assert_eq!(worker.get("/livez").await.unwrap().0, 200);
    node.start_again();
    worker.ready().await;
    world.reconnect().await;
    world.publish(event("ABC", 2).as_bytes()).await;
    receiver.wait_for(2, PATIENCE).await.unwrap();
    for role in ["events", "jobs", "publish"] {
        worker.metric_reaches("leadhook_reconnects_total", role, 1.0).await;
    }
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_while_busy_loses_nothing() {
    const EVENTS: usize = 300;
    let node = Node::private();
    let mut world = World::on(&node).await;
    let receiver = receiver("200@200ms").await;
    world.simple_store(&receiver.url(), "");
    let worker = world.worker(&[("LEADHOOK__DELIVERY__CONCURRENCY", "8")]).await;
    world.publish_many((0..EVENTS as u32).map(|n| event("ABC", n))).await;
    // The broker redelivers events whose acks it lost, and they are dispatched again (docs/explanation/guarantees.md: a
    // job may double). This test is about jobs, so it first waits until the events queue is empty.
    let events = ("leadhook.events".to_owned(), "0".to_owned());
    eventually("all events dispatched, and their acks processed", async || {
        let dispatched = worker.metric("leadhook_events_total", "dispatched").await == EVENTS as f64;
        (dispatched && node.held(world.vhost()).contains(&events)).then_some(())
    })
    .await;
    receiver.wait_for(30, PATIENCE).await.unwrap();
    node.settle();
    node.kill();
    assert!(counts(&receiver.received()).len() < EVENTS, "the worker was idle when the broker died");
    worker.not_ready().await;
    node.start_again();
    worker.ready().await;
    world.reconnect().await;
    eventually("all events delivered", async || (counts(&receiver.received()).len() == EVENTS).then_some(())).await;
    // Attempts in flight when the broker died finished. Their jobs were settled from memory, and not POSTed again. Only
    // a job whose deferral was never confirmed may double.
    let log = worker.log();
    for (id, _) in counts(&receiver.received()).into_iter().filter(|(_, posts)| *posts > 1) {
        let deferred = |line: &&str| line.contains("\"deferred\"") && line.contains(&id);
        assert!(log.lines().any(|line| deferred(&line)), "POSTed again instead of settled from memory: {id}\n{log}");
    }
    worker.stop().await;
}

#[tokio::test]
async fn a_missing_queue_of_ours_is_declared_anew() {
    let world = World::new().await;
    let receiver = receiver("500").await;
    world.simple_store(&receiver.url(), "retry_attempts: 1");
    let worker = world.worker(&[]).await;
    worker.looked().await;
    // The first check may still be under way, and declare the queue before the worker publishes to it. The next one is
    // 10 s away.
    for n in 1..=2 {
        world.delete("failed").await;
        world.publish(event("ABC", n).as_bytes()).await;
        let failed = world.take_when_there("failed", 1).await;
        assert_eq!(failed[0].text("leadhook-reason").as_deref(), Some("exhausted"));
        assert_eq!(receiver.received().len(), 2 * n as usize, "a missing queue caused another POST");
    }
    assert!(worker.log().contains("declared again"), "{}", worker.log());
    worker.stop().await;
}

#[tokio::test]
async fn an_event_right_behind_a_deleted_jobs_queue_is_delivered() {
    let world = World::new().await;
    let receiver = receiver("200").await;
    world.simple_store(&receiver.url(), "");
    let worker = world.worker(&[]).await;
    worker.looked().await;
    world.delete("jobs").await;
    world.publish(event("ABC", 1).as_bytes()).await;
    receiver.wait_for(1, PATIENCE).await.unwrap();
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_starts_while_the_broker_blocks_publishing() {
    const EVENTS: usize = 200;
    let node = Node::private();
    let world = World::on(&node).await;
    let receiver = receiver("500,200@50ms").await;
    world.simple_store(&receiver.url(), "");
    let environment = [
        ("LEADHOOK__DELIVERY__CONCURRENCY", "2"),
        ("LEADHOOK__BACKOFF__INITIAL", "100ms"),
        ("LEADHOOK__AMQP__CONFIRM_TIMEOUT", "500ms"),
    ];
    // All jobs are published before the alarm, because the outcome of the first attempt needs publishing.
    receiver.set_script("hang".parse().unwrap());
    let worker = world.worker(&environment).await;
    world.publish_many((0..EVENTS as u32).map(|n| event("ABC", n))).await;
    eventually("all events dispatched", async || {
        (worker.metric("leadhook_events_total", "dispatched").await == EVENTS as f64).then_some(())
    })
    .await;
    worker.kill().await;
    receiver.set_script("500,200@50ms".parse().unwrap());
    let before = receiver.received().len();
    node.low_on_memory(true);
    let worker = world.start_worker(&environment);
    let reasons = eventually("blocked", async || {
        let (_, body) = worker.get("/readyz").await?;
        body.contains("publishing: blocked by the broker since 2").then_some(body)
    })
    .await;
    assert!(reasons.contains("publishing"), "{reasons}");
    eventually("the started attempts have ended", async || {
        (worker.metric("leadhook_attempts_in_flight", "").await == 0.0).then_some(())
    })
    .await;
    let started = receiver.received().len();
    assert!(started - before < EVENTS, "no work was left when the gate closed: {started}");
    // Two seconds are enough for many attempts. Waiting messages are counted meanwhile.
    let begun = Instant::now();
    eventually("two seconds", async || (begun.elapsed() > Duration::from_secs(2)).then_some(())).await;
    assert!(worker.metric("leadhook_queue_messages", "\"jobs\"").await > 0.0, "queues are not counted in the alarm");
    assert_eq!(receiver.received().len(), started, "an attempt started during the alarm");
    node.low_on_memory(false);
    worker.ready().await;
    // Compares ids: an event whose ack died with the first worker is dispatched and delivered again.
    eventually("all are delivered", async || {
        let received = receiver.received();
        let delivered = received[before..].iter().filter(|one| one.status == Some(200));
        let ids: HashSet<_> = delivered.filter_map(|one| one.header("webhook-id")).collect();
        (ids.len() == EVENTS).then_some(())
    })
    .await;
    worker.stop().await;
}

/// Messages that were not started are given back. They continue when the alarm ends, at once and without a second POST.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_alarm_suspends_consuming_and_gives_back_what_was_not_started() {
    const EVENTS: usize = 60;
    let node = Node::private();
    let world = World::on(&node).await;
    let receiver = receiver("500").await;
    world.simple_store(&receiver.url(), "retry_attempts: 10");
    let worker = world.worker(&[("LEADHOOK__BACKOFF__INITIAL", "1s"), ("LEADHOOK__BACKOFF__MAXIMUM", "1s")]).await;
    world.publish_many((0..EVENTS as u32).map(|n| event("ABC", n))).await;
    receiver.wait_for(20, PATIENCE).await.unwrap();
    node.low_on_memory(true);
    // Readiness says which queue, since when, and why.
    let reasons = eventually("suspended", async || {
        let (_, body) = worker.get("/readyz").await?;
        body.contains("consuming jobs: suspended since 2").then_some(body)
    })
    .await;
    assert!(reasons.contains("because the broker blocks publishing"), "{reasons}");
    // Due retries return to the queue. A consumer would take all of them, because its window is larger than their
    // number.
    eventually("retries stay on the queue", async || (world.ready("jobs").await > 0).then_some(())).await;
    receiver.set_script("200".parse().unwrap());
    node.low_on_memory(false);
    let ended = Instant::now();
    worker.ready().await;
    assert!(ended.elapsed() < Duration::from_secs(10), "{:?}", ended.elapsed());
    eventually("all are delivered", async || {
        let delivered = receiver.received().iter().filter(|one| one.status == Some(200)).count();
        (delivered >= EVENTS).then_some(())
    })
    .await;
    let received = receiver.received();
    let attempts: HashSet<_> = received.iter().map(|one| (one.header("webhook-id"), one.attempt())).collect();
    assert_eq!(attempts.len(), received.len(), "an attempt was made twice");
    worker.stop().await;
    assert_eq!(world.ready("failed").await, 0);
}

#[tokio::test]
async fn a_full_failed_queue_closes_the_intake_and_nothing_is_posted_twice() {
    // A full quorum queue accepts a few more messages before it refuses.
    const EVENTS: usize = 40;
    let world = World::new().await;
    let receiver = receiver("410").await;
    world.simple_store(&receiver.url(), "");
    let policy = format!("policies/{}/full", world.vhost());
    let full = r#"{"pattern":"failed$","apply-to":"queues","definition":{"max-length":0,"overflow":"reject-publish"}}"#;
    Node::shared().manage(Method::PUT, &policy, full).await;
    let worker = world.worker(&[("LEADHOOK__DELIVERY__CONCURRENCY", "4")]).await;
    world.publish_many((0..EVENTS as u32).map(|n| event("ABC", n))).await;
    // For a moment, the reason may be a channel that is being reopened.
    eventually("the worker says which queue is full", async || {
        let answer = worker.get("/readyz").await;
        answer.filter(|(status, reasons)| *status == 503 && reasons.contains("leadhook.failed"))
    })
    .await;
    assert!(receiver.received().len() < EVENTS, "the intake did not close");
    Node::shared().manage(Method::DELETE, &policy, "").await;
    world.take("failed", EVENTS).await;
    assert_eq!(receiver.received().len(), EVENTS, "the full queue caused duplicates");
    worker.ready().await;
    worker.stop().await;
}

/// lapin keeps the error of a channel that the broker closed, and returns it to the next channel with the same number.
#[tokio::test]
async fn the_number_of_a_channel_that_the_broker_closed_is_passed_over() {
    const NUMBERS: u16 = 8;
    let world = World::new().await;
    let url = format!("{}?channel_max={NUMBERS}", world.url);
    let connection = Connection::connect(&url, ConnectionProperties::default()).await.expect("a connection");
    assert_eq!(connection.configuration().channel_max(), NUMBERS);
    let passive = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
    let closed = channel(&connection).await.expect("a channel");
    let missing = closed.queue_declare("nowhere".into(), passive, FieldTable::default()).await;
    assert!(missing.is_err(), "the broker did not close the channel");
    let mut seen = BTreeSet::new();
    for _ in 0..2 * NUMBERS {
        let next = channel(&connection).await.expect("the spoilt channel number was used again");
        seen.insert(next.id());
        next.close(200, "".into()).await.expect("closed");
    }
    let all: BTreeSet<u16> = (1..=NUMBERS).filter(|number| *number != closed.id()).collect();
    assert_eq!(seen, all, "each number was used except the spoilt one");
}

/// A queue is declared while publishes to it are under way. Publishes that it accepted count as done and must not be
/// repeated. The others do not count as done.
#[tokio::test]
async fn a_queue_that_is_declared_among_publishes_takes_what_counts_as_done() {
    let world = World::new().await;
    let url = ("LEADHOOK__AMQP__URLS".to_owned(), world.url.clone());
    let settings = settings::load(None, None, [url].into_iter()).expect("settings");
    let publisher = Publisher::start(&settings.amqp, "publish", None, CancellationToken::new());
    let channel = world.channel().await;
    for round in 0..20 {
        let queue = format!("leadhook.round-{round}");
        let (missed, declared) = (Notify::new(), AtomicBool::new(false));
        let declaring = async {
            missed.notified().await;
            let options = QueueDeclareOptions::default();
            channel.queue_declare(queue.as_str().into(), options, FieldTable::default()).await.expect("a queue");
            declared.store(true, Ordering::Relaxed);
        };
        // Neighbours differ in their id, as jobs of one event do, or in their body.
        let message = |n: u32| Outgoing {
            exchange: ShortString::default(),
            routing_key: queue.as_str().into(),
            properties: BasicProperties::default().with_message_id(format!("id-{}", n / 2).into()),
            body: format!("body {}", n.div_ceil(2)).into(),
        };
        let publishing = stream::iter(0..)
            .take_while(|_| std::future::ready(!declared.load(Ordering::Relaxed)))
            .chain(stream::iter(1_000_000..1_000_100))
            .map(|n| publisher.publish(message(n)))
            .buffer_unordered(100)
            .fold([0, 0], async |[done, returned], answer| match answer {
                Ok(()) => [done + 1, returned],
                Err(PublishError::Returned { .. }) => {
                    missed.notify_one();
                    [done, returned + 1]
                }
                Err(error) => panic!("{error}"),
            });
        let ([done, returned], ()) = tokio::join!(publishing, declaring);
        assert_eq!(world.ready(&format!("round-{round}")).await, done, "{returned} came back");
    }
    publisher.close().await;
}
