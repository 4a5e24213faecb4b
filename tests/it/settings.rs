//! Settings whose effect shows only in a running worker: each test fails if its setting is ignored.
//!
//! Other modules test the rest: backoff.initial and .maximum in `retries`, store.settle in `reload`,
//! delivery.max_event_bytes in `rejected`, shutdown.grace in `stopping`, those of the topology in `topology`.

use lapin::BasicProperties;
use reqwest::Method;

use crate::{
    harness::{PATIENCE, World, event, eventually, receiver},
    node::Node,
};

/// An address without a listener.
const NOBODY: &str = "amqp://127.0.0.1:1/";

#[tokio::test]
async fn brokers_are_tried_in_turn() {
    let world = World::new().await;
    world.simple_store("http://127.0.0.1:1/", "");
    let urls = format!("{NOBODY},{}", world.url);
    let worker = world.worker(&[("LEADHOOK__AMQP__URLS", &urls)]).await;
    worker.stop().await;
}

#[tokio::test]
async fn what_is_asked_of_the_broker_is_a_setting() {
    let world = World::new().await;
    world.simple_store("http://127.0.0.1:1/", "");
    let environment = [
        ("LEADHOOK__DELIVERY__CONCURRENCY", "17"),
        ("LEADHOOK__DELIVERY__EVENT_PREFETCH", "23"),
        ("LEADHOOK__AMQP__HEARTBEAT", "7s"),
    ];
    let worker = world.worker(&environment).await;
    let vhost = world.vhost();
    let prefetch = async |queue: &str, expected: u64| {
        eventually("the consumers in the management API", async || {
            let consumers = Node::shared().manage(Method::GET, &format!("consumers/{vhost}"), "").await;
            let consumers: serde_json::Value = serde_json::from_str(&consumers).unwrap();
            let of_queue = consumers.as_array()?.iter().filter(|one| one["queue"]["name"] == queue);
            let all: u64 = of_queue.filter_map(|one| one["prefetch_count"].as_u64()).sum();
            (all == expected).then_some(())
        })
        .await
    };
    prefetch("leadhook.events", 23).await;
    // A fifth more than the concurrency, so that no slot waits for the broker.
    prefetch("leadhook.jobs", 21).await;
    let heartbeats = eventually("all connections in the management API", async || {
        let connections = Node::shared().manage(Method::GET, &format!("vhosts/{vhost}/connections"), "").await;
        let connections: serde_json::Value = serde_json::from_str(&connections).unwrap();
        let ours = connections.as_array()?.iter().filter(|one| {
            one["client_properties"]["connection_name"].as_str().is_some_and(|name| name.starts_with("leadhook/"))
        });
        let heartbeats: Vec<_> = ours.filter_map(|one| one["timeout"].as_u64()).collect();
        (heartbeats.len() == 3).then_some(heartbeats)
    })
    .await;
    // Three quarters of the setting, so that silence is noticed within two intervals of the setting.
    assert_eq!(heartbeats, [5, 5, 5]);
    worker.stop().await;
}

#[tokio::test]
async fn attempts_in_flight_are_bounded_by_concurrency() {
    let world = World::new().await;
    // The first answer shows that the target works.
    let receiver = receiver("200,hang").await;
    world.simple_store(&receiver.url(), "timeout: 2");
    let _worker = world.worker(&[("LEADHOOK__DELIVERY__CONCURRENCY", "4")]).await;
    world.publish(event("ABC", 99).as_bytes()).await;
    receiver.wait_for(1, PATIENCE).await.unwrap();
    world.publish_many((0..9).map(|n| event("ABC", n))).await;
    let received = receiver.wait_for(5, PATIENCE).await.unwrap();
    // One circuit has three of four slots. Its fourth request came only after one of the first three had timed out.
    let gap = received[4].at.duration_since(received[1].at).unwrap();
    assert!(gap.as_secs_f64() > 1.9, "{gap:?}");
    assert!(received[3].at.duration_since(received[1].at).unwrap().as_secs_f64() < 1.9);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn confirms_are_waited_for_no_longer_than_set() {
    let node = Node::private();
    let world = World::on(&node).await;
    let receiver = receiver("hang").await;
    world.simple_store(&receiver.url(), "timeout: 1");
    let environment = [("LEADHOOK__AMQP__CONFIRM_TIMEOUT", "300ms"), ("LEADHOOK__AMQP__HEARTBEAT", "60s")];
    let worker = world.worker(&environment).await;
    world.publish(event("ABC", 1).as_bytes()).await;
    receiver.wait_for(1, PATIENCE).await.unwrap();
    node.pause();
    let paused = std::time::Instant::now();
    eventually("a confirm timed out", async || worker.log().contains("not confirmed in time").then_some(())).await;
    assert!(paused.elapsed() < std::time::Duration::from_secs(8), "the default is 10 s: {:?}", paused.elapsed());
    node.resume();
    receiver.set_script("200".parse().unwrap());
    let received = receiver.wait_for(2, PATIENCE).await.unwrap();
    assert_eq!(received[1].attempt(), Some(2), "the outcome was not recorded");
}

#[tokio::test]
async fn the_schedule_follows_the_backoff_settings() {
    let world = World::new().await;
    let receiver = receiver("404").await;
    world.simple_store(&receiver.url(), "retry_attempts: 4");
    let environment = [
        ("LEADHOOK__BACKOFF__INITIAL", "100ms"),
        ("LEADHOOK__BACKOFF__MULTIPLIER", "3"),
        ("LEADHOOK__BACKOFF__MAXIMUM", "500ms"),
        ("LEADHOOK__BACKOFF__JITTER", "0"),
    ];
    let worker = world.worker(&environment).await;
    world.publish(event("ABC", 1).as_bytes()).await;
    world.take("failed", 1).await;
    let log = worker.log();
    let lines = log.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
    let waits: Vec<u64> = lines.filter_map(|line| line["wait_ms"].as_u64()).collect();
    assert_eq!(waits, [100, 300, 500, 500]);
}

#[tokio::test]
async fn secrets_come_from_where_the_settings_say() {
    let world = World::new().await;
    let receiver = receiver("200").await;
    std::fs::write(world.directory.path().join("token"), "from-a-file\n").unwrap();
    let headers = "headers:\n  Authorization: \"Bearer ${HOOKS_TOKEN}\"\n  X-Key: { file: token }";
    world.simple_store(&receiver.url(), headers);
    let directory = world.directory.path().to_str().unwrap().to_owned();
    let environment = [
        ("HOOKS_TOKEN", "from-environment"),
        ("LEADHOOK__SECRETS__ENVIRONMENT_PREFIX", "HOOKS_"),
        ("LEADHOOK__SECRETS__DIRECTORY", directory.as_str()),
    ];
    let worker = world.worker(&environment).await;
    world.publish(event("ABC", 1).as_bytes()).await;
    let received = receiver.wait_for(1, PATIENCE).await.unwrap();
    assert_eq!(received[0].header("authorization"), Some("Bearer from-environment"));
    assert_eq!(received[0].header("x-key"), Some("from-a-file"));
    worker.stop().await;

    // With the defaults neither is allowed, and the message names both.
    let output = world.command().arg("run").env("HOOKS_TOKEN", "from-environment").output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{text}");
    assert!(text.contains("HOOKS_TOKEN") && text.contains("secrets.directory"), "{text}");
    assert!(!text.contains("from-environment"), "{text}");
}

#[tokio::test]
async fn the_store_path_is_a_setting() {
    let world = World::new().await;
    let receiver = receiver("200").await;
    world.simple_store(&receiver.url(), "");
    let mut command = crate::harness::leadhook(&world.url);
    // An empty variable counts as not set.
    let output = command
        .arg("check")
        .env("LEADHOOK_CONFIG", "")
        .env("LEADHOOK__STORE__PATH", world.store_path())
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success() && text.contains(&receiver.address().to_string()), "{text} {output:?}");
}

#[tokio::test]
async fn readiness_warns_from_the_thresholds_on() {
    let world = World::new().await;
    world.simple_store("http://127.0.0.1:1/", "");
    world.worker(&[]).await.stop().await;
    for queue in ["leadhook.failed", "leadhook.rejected"] {
        world.publish_to("", queue, b"{}", BasicProperties::default()).await;
    }
    let environment = [("LEADHOOK__ADMIN__FAILED_THRESHOLD", "1"), ("LEADHOOK__ADMIN__REJECTED_THRESHOLD", "2")];
    let worker = world.worker(&environment).await;
    let report = eventually("a warning", async || {
        let (_, body) = worker.get("/readyz").await?;
        body.contains("warned from 1").then_some(body)
    })
    .await;
    assert!(report.contains("not_empty_seconds"), "{report}");
    assert!(!report.contains("warned from 2"), "warned below the threshold of rejected messages: {report}");
    worker.stop().await;

    let worker = world.worker(&[("LEADHOOK__ADMIN__REJECTED_THRESHOLD", "1")]).await;
    eventually("the other warning", async || {
        worker.get("/readyz").await?.1.contains("the rejected queue holds 1 messages").then_some(())
    })
    .await;
    worker.stop().await;
}

#[tokio::test]
async fn the_log_has_the_form_and_level_that_are_set() {
    let world = World::new().await;
    world.simple_store("http://127.0.0.1:1/", "");
    let text = world.start_worker(&[("LEADHOOK__LOG__FORMAT", "text")]);
    eventually("a line of text", async || {
        let log = text.log();
        log.lines().any(|line| line.contains("leadhook starting") && !line.starts_with('{')).then_some(())
    })
    .await;
    text.kill().await;
    let receiver = receiver("200").await;
    world.simple_store(&receiver.url(), "");
    let said = async |level: &str| {
        let worker = world.worker(&[("LEADHOOK__LOG__FORMAT", "auto"), ("LEADHOOK__LOG__LEVEL", level)]).await;
        world.publish(event("ABC", 1).as_bytes()).await;
        receiver.take().await;
        eventually("its settlement", async || {
            (worker.metric("leadhook_jobs_total", "delivered").await >= 1.0).then_some(())
        })
        .await;
        let log = worker.log();
        worker.stop().await;
        log
    };
    let (debug, info) = (said("info,leadhook=debug").await, said("info").await);
    assert!(debug.contains("\"message\":\"delivered\"") && debug.lines().all(|line| line.starts_with('{')), "{debug}");
    assert!(!info.contains("\"message\":\"delivered\"") && info.contains("\"INFO\""), "{info}");
}

#[tokio::test]
async fn check_tells_the_problems_of_settings_and_store_at_once() {
    let world = World::new().await;
    world.simple_store("ftp://a.example", "retry_attempts: 99");
    let output = world.command().arg("check").env("LEADHOOK__LOG__LEVEL", "=loud=").output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(2), "{text}");
    for part in ["log.level", "webhook.url", "webhook.retry_attempts"] {
        assert!(text.contains(part), "{part} in {text}");
    }
}
