use std::time::Duration;

use crate::harness::{PATIENCE, World, counts, event, eventually, receiver};

/// Without the delivery log, the worker publishes only jobs.
const QUIET: (&str, &str) = ("LEADHOOK__DELIVERY_LOG__ENABLED", "false");

/// Waits until the worker has published so many messages and made so many direct attempts.
async fn figures_are(worker: &crate::rig::worker::Worker, published: f64, direct: f64) {
    worker.metric_is("leadhook_publish_confirm_seconds_count", "", published).await;
    worker.metric_is("leadhook_direct_attempts_total", "", direct).await;
}

#[tokio::test]
async fn an_event_with_one_target_publishes_nothing() {
    // A new target may not have more in flight.
    const EVENTS: u32 = 4;
    let world = World::new().await;
    let receiver = receiver("200").await;
    world.simple_store(&receiver.url(), "");
    for (direct, expected) in [("true", (0.0, EVENTS.into())), ("false", (EVENTS.into(), 0.0))] {
        let worker = world.worker(&[QUIET, ("LEADHOOK__DELIVERY__DIRECT", direct)]).await;
        world.publish_many((0..EVENTS).map(|n| event("ABC", n))).await;
        eventually("all are settled", async || {
            (worker.metric("leadhook_jobs_total", "delivered").await == f64::from(EVENTS)).then_some(())
        })
        .await;
        let (published, attempted) = expected;
        figures_are(&worker, published, attempted).await;
        worker.metric_is("leadhook_deliveries_total", "", f64::from(EVENTS)).await;
        worker.stop().await;
    }
    let received = receiver.received();
    assert_eq!(received.len(), 2 * EVENTS as usize);
    assert!(received.iter().all(|one| one.attempt() == Some(1)));
    assert_eq!(world.waiting().await, Some(0));
}

#[tokio::test]
async fn what_a_direct_attempt_came_to_counts_as_the_first_of_its_delivery() {
    let world = World::new().await;
    let receiver = receiver("500,410").await;
    world.simple_store(&receiver.url(), "");
    let worker = world.worker(&[QUIET]).await;
    world.publish(event("ABC", 1).as_bytes()).await;
    let failed = world.take("failed", 1).await;
    let history: Vec<_> = failed[0].history().iter().map(|entry| (entry.attempt, entry.status)).collect();
    assert_eq!(history, [(1, Some(500)), (2, Some(410))]);
    assert_eq!(failed[0].body, event("ABC", 1).as_bytes());
    // The retry and the failed job were published.
    figures_are(&worker, 2.0, 1.0).await;
    worker.stop().await;
}

#[tokio::test]
async fn several_targets_take_the_long_way() {
    let world = World::new().await;
    let receiver = receiver("200").await;
    let url = receiver.url();
    world.store(&format!(
        "default_organization: acme\norganizations:\n  acme:\n    webhooks:\n      - {{ name: one, url: \"{url}\", events: \"*\" }}\n      - {{ name: two, url: \"{url}\", events: \"*\" }}\n"
    ));
    let worker = world.worker(&[QUIET]).await;
    world.publish(event("ABC", 1).as_bytes()).await;
    receiver.wait_for(2, PATIENCE).await.unwrap();
    figures_are(&worker, 2.0, 0.0).await;
    worker.metric_is("leadhook_deliveries_total", "", 2.0).await;
    worker.stop().await;
}

#[tokio::test]
async fn a_redelivered_event_takes_the_long_way() {
    let world = World::new().await;
    let receiver = receiver("200").await;
    world.simple_store(&receiver.url(), "");
    world.worker(&[]).await.stop().await;
    world.publish(event("ABC", 1).as_bytes()).await;
    world.redeliver("events", 1).await;
    let worker = world.worker(&[QUIET]).await;
    receiver.wait_for(1, PATIENCE).await.unwrap();
    figures_are(&worker, 1.0, 0.0).await;
    worker.stop().await;
}

#[tokio::test]
async fn receivers_that_hang_leave_half_of_the_event_window() {
    const OTHERS: usize = 40;
    let world = World::new().await;
    let (hanging, healthy) = (receiver("hang").await, receiver("200").await);
    world.store(&format!(
        "default_organization: acme\norganizations:\n  acme:\n    webhook: {{ url: \"{}\", events: \"*\", timeout: 60 }}\n    campaigns:\n      WELL: {{ override: true, webhook: {{ url: \"{}\", events: \"*\" }} }}\n",
        hanging.url(),
        healthy.url()
    ));
    let window = [QUIET, ("LEADHOOK__DELIVERY__EVENT_PREFETCH", "4"), ("LEADHOOK__SHUTDOWN__GRACE", "2m")];
    let worker = world.worker(&window).await;
    world.publish_many((0..20).map(|n| event("HANGS", n))).await;
    eventually("hanging attempts fill their share", async || {
        (worker.metric("leadhook_attempts_in_flight", "").await >= 2.0).then_some(())
    })
    .await;
    world.publish_many((0..OTHERS as u32).map(|n| event("WELL", n))).await;
    let received = healthy.wait_for(OTHERS, Duration::from_secs(30)).await.unwrap();
    assert_eq!(counts(&received).values().max(), Some(&1));
    // The window is four. Without the limit, hanging attempts would fill it, and no further event would arrive.
    worker.metric_reaches("leadhook_direct_attempts_total", "", 2.0).await;
    worker.kill().await;
}
