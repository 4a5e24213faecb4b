//! The store changes under load: waiting jobs use the change, a broken store changes nothing, and no event is lost.

use std::time::{Duration, Instant};

use crate::harness::{PATIENCE, Worker, World, counts, event, eventually, receiver};

#[tokio::test]
async fn a_changed_url_is_used_within_two_seconds_and_nothing_is_lost() {
    let world = World::new().await;
    let (old, new) = (receiver("200").await, receiver("200").await);
    world.simple_store(&old.url(), "");
    let worker = world.worker(&[]).await;
    let mut sent = 0;
    // Waits for each twenty events before the next twenty, so that the measured time is that of the reload and not of a
    // backlog.
    let mut deliver = async || {
        let begun = Instant::now();
        world.publish_many((0..20).map(|n| event("ABC", sent + n))).await;
        sent += 20;
        eventually("every event at one of the two receivers", async || {
            let both = [old.received(), new.received()].concat();
            (counts(&both).len() == sent as usize).then_some(())
        })
        .await;
        begun.elapsed()
    };
    deliver().await;
    assert!(new.received().is_empty());
    world.simple_store(&new.url(), "");
    let (changed, mut slowest) = (Instant::now(), Duration::ZERO);
    while new.received().is_empty() {
        slowest = slowest.max(deliver().await);
        assert!(changed.elapsed() < PATIENCE);
    }
    let took = changed.elapsed();
    // Beside other tests, a round may take a second.
    assert!(took < Duration::from_millis(2500) + 2 * slowest, "the new URL was used after {took:?}");
    deliver().await;
    worker.stop().await;
}

#[tokio::test]
async fn a_broken_store_changes_nothing_and_is_reported() {
    let world = World::new().await;
    let (good, broken) = (receiver("200").await, receiver("200").await);
    world.simple_store(&good.url(), "");
    let worker = world.worker(&[("LEADHOOK__SHUTDOWN__GRACE", "100s")]).await;
    world.simple_store(&broken.url(), "retry_attempts: 99");
    eventually("the refusal in metrics", async || {
        (worker.metric("leadhook_store_last_reload_success", "").await == 0.0).then_some(())
    })
    .await;
    let (status, detail) = worker.get("/readyz").await.unwrap();
    assert_eq!(status, 200, "no longer ready: {detail}");
    assert!(detail.contains("retry_attempts"), "{detail}");
    assert!(worker.log().contains("retry_attempts"), "{}", worker.log());
    world.publish(event("ABC", 1).as_bytes()).await;
    delivered(&worker, 1.0).await;
    // Valid by itself, but no worker could start with it, because the timeout is above shutdown.grace.
    world.simple_store(&broken.url(), "timeout: 110");
    eventually("the other refusal", async || {
        worker.get("/readyz").await?.1.contains("less than shutdown.grace").then_some(())
    })
    .await;
    world.publish(event("ABC", 2).as_bytes()).await;
    delivered(&worker, 2.0).await;
    assert_eq!((good.received().len(), broken.received().len()), (2, 0), "a broken store was used");
    world.simple_store(&broken.url(), "retry_attempts: 9");
    eventually("the repair in metrics", async || {
        (worker.metric("leadhook_store_last_reload_success", "").await == 1.0).then_some(())
    })
    .await;
    world.publish(event("ABC", 3).as_bytes()).await;
    broken.wait_for(1, PATIENCE).await.unwrap();
}

async fn delivered(worker: &Worker, jobs: f64) {
    eventually("all are delivered", async || {
        (worker.metric("leadhook_jobs_total", "outcome=\"delivered\"").await >= jobs).then_some(())
    })
    .await;
}

#[tokio::test]
async fn waiting_retries_use_a_repaired_url() {
    let world = World::new().await;
    let (wrong, right) = (receiver("500").await, receiver("200").await);
    world.simple_store(&wrong.url(), "retry_attempts: 10");
    let _worker = world.worker(&[]).await;
    world.publish(event("ABC", 1).as_bytes()).await;
    wrong.wait_for(1, PATIENCE).await.unwrap();
    world.simple_store(&right.url(), "retry_attempts: 10");
    let received = right.wait_for(1, PATIENCE).await.unwrap();
    assert_eq!(received[0].webhook_id(), wrong.received()[0].webhook_id());
}

#[tokio::test]
async fn a_removed_target_fails_its_jobs_after_settling() {
    let world = World::new().await;
    let receiver = receiver("500").await;
    let campaign = |body: &str| {
        world.store(&format!(
            "organizations:\n  acme:\n    webhook: {{ url: \"http://127.0.0.1:9\", events: [lead.failed] }}\n    campaigns:\n      OTHER: {{}}\n{body}"
        ));
    };
    let full = format!(
        "      GONE: {{ override: true, webhook: {{ url: \"{0}\", events: \"*\", retry_attempts: 10 }} }}\n      OFF: {{ override: true, webhook: {{ url: \"{0}\", events: \"*\", retry_attempts: 10 }} }}\n",
        receiver.url()
    );
    campaign(&full);
    let worker = world.worker(&[("LEADHOOK__STORE__SETTLE", "2s")]).await;
    world.publish(event("GONE", 1).as_bytes()).await;
    world.publish(event("OFF", 2).as_bytes()).await;
    receiver.wait_for(2, PATIENCE).await.unwrap();
    campaign(&format!(
        "      OFF: {{ override: true, webhook: {{ enabled: false, url: \"{}\", events: \"*\" }} }}\n",
        receiver.url()
    ));
    let failed = world.take("failed", 2).await;
    let mut reasons: Vec<_> = failed.iter().map(|message| message.text("leadhook-reason").unwrap()).collect();
    reasons.sort();
    assert_eq!(reasons, ["target_disabled", "target_removed"]);
    worker.metric_reaches("leadhook_jobs_total", "outcome=\"deferred\"", 2.0).await;
}

#[tokio::test]
async fn a_target_that_moved_to_another_organization_is_never_called() {
    let world = World::new().await;
    let (first, second) = (receiver("500").await, receiver("200").await);
    let store = |home: &str, url: &str| {
        let of = |name: &str| match name == home {
            true => format!(
                "    campaigns:\n      ABC: {{ override: true, webhook: {{ url: \"{url}\", events: \"*\", retry_attempts: 10 }} }}\n"
            ),
            false => String::new(),
        };
        world.store(&format!(
            "organizations:\n  acme:\n    webhook: {{ url: \"http://127.0.0.1:9\", events: [lead.failed] }}\n{}  rival:\n    webhook: {{ url: \"http://127.0.0.1:9\", events: [lead.failed] }}\n{}",
            of("acme"),
            of("rival")
        ));
    };
    store("acme", &first.url());
    let _worker = world.worker(&[]).await;
    world.publish(event("ABC", 1).as_bytes()).await;
    first.wait_for(1, PATIENCE).await.unwrap();
    store("rival", &second.url());
    let failed = world.take("failed", 1).await;
    assert_eq!(failed[0].text("leadhook-reason").as_deref(), Some("target_moved"));
    assert!(second.received().is_empty());
}
