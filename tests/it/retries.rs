//! The schedule on the wire, for every kind of failing receiver.

use std::{
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use leadhook::receiver::Received;

use crate::harness::{Message, PATIENCE, World, counts, event, eventually, receiver};

/// `backoff.initial` in seconds; these tests also set `backoff.multiplier`, and the jitter is 0.2.
const INITIAL: f64 = 0.4;

/// Returns the lower jitter bound of the wait before retry `n`, in seconds.
fn lower(n: i32) -> f64 {
    INITIAL * 2f64.powi(n - 1) * 0.8
}

/// Returns the upper jitter bound in seconds, rounded up to a delay queue (at most a quarter more), plus 250 ms for
/// broker and worker.
fn upper(n: i32) -> f64 {
    INITIAL * 2f64.powi(n - 1) * 1.2 * 1.25 + 0.25
}

const ENVIRONMENT: [(&str, &str); 2] = [("LEADHOOK__BACKOFF__INITIAL", "400ms"), ("LEADHOOK__BACKOFF__MAXIMUM", "10s")];

/// Returns the gaps between requests, in seconds.
fn gaps(received: &[Arc<Received>]) -> Vec<f64> {
    let seconds = |pair: &[Arc<Received>]| pair[1].at.duration_since(pair[0].at).unwrap().as_secs_f64();
    received.windows(2).map(seconds).collect()
}

fn assert_schedule(gaps: &[f64]) {
    for (n, gap) in (1..).zip(gaps) {
        assert!(*gap >= lower(n), "retry {n} came after {gap:.3} s, allowed from {:.3}", lower(n));
        assert!(*gap <= upper(n), "retry {n} came after {gap:.3} s, allowed to {:.3}", upper(n));
    }
}

#[tokio::test]
async fn always_500_is_four_posts_and_one_failed_record() {
    let world = World::new().await;
    let receiver = receiver("500").await;
    world.simple_store(&receiver.url(), "retry_attempts: 3");
    let _worker = world.worker(&ENVIRONMENT).await;
    let body = event("ABC", 1);
    world.publish(body.as_bytes()).await;

    let failed = world.take("failed", 1).await;
    let received = receiver.received();
    assert_eq!(received.len(), 4);
    assert_eq!(counts(&received).len(), 1, "several webhook-ids");
    assert!(received.iter().all(|one| one.body == body.as_bytes()));
    assert_eq!(received.iter().map(|one| one.attempt()).collect::<Vec<_>>(), [Some(1), Some(2), Some(3), Some(4)]);
    assert_schedule(&gaps(&received));

    let record = &failed[0];
    assert_eq!(record.body, body.as_bytes());
    assert_eq!(record.text("leadhook-reason").as_deref(), Some("exhausted"));
    assert_eq!(record.properties.message_id().as_ref().unwrap().as_str(), received[0].webhook_id().unwrap());
    let history = record.history();
    assert_eq!(history.iter().map(|entry| entry.attempt).collect::<Vec<_>>(), [1, 2, 3, 4]);
    assert!(history.iter().all(|entry| entry.status == Some(500)));
}

/// Publishes one job that fails four times, and returns it from the failed queue.
async fn fails_four_times(world: &World, url: &str) -> Message {
    world.simple_store(url, "retry_attempts: 3\ntimeout: 3");
    let worker = world.worker(&[]).await;
    world.publish(event("ABC", 1).as_bytes()).await;
    let record = world.take("failed", 1).await.remove(0);
    assert_eq!(record.text("leadhook-reason").as_deref(), Some("exhausted"), "{url}");
    let history = record.history();
    assert_eq!(history.iter().map(|entry| entry.attempt).collect::<Vec<_>>(), [1, 2, 3, 4], "{url}");
    worker.stop().await;
    record
}

#[tokio::test]
async fn every_way_of_failing_is_retried_and_ends_on_the_failed_queue() {
    let check = async |script: &str, reason: &str| {
        let world = World::new().await;
        let receiver = receiver(script).await;
        let record = fails_four_times(&world, &receiver.url()).await;
        let history = record.history();
        assert!(history.iter().all(|entry| entry.reason == reason), "{script}: {history:?}");
        assert_eq!(receiver.received().len(), 4, "{script}");
        assert_eq!(counts(&receiver.received()).len(), 1, "{script}");
    };
    let refused = async {
        let world = World::new().await;
        // No process listens on port 1.
        let record = fails_four_times(&world, "http://127.0.0.1:1").await;
        assert!(record.history().iter().all(|entry| entry.reason == "connect" && entry.status.is_none()));
    };
    tokio::join!(
        refused,
        check("hang", "timeout"),
        check("301", "redirect"),
        check("endless", "status"),
        check("close", "closed_without_answer"),
        check("garbage", "not_http"),
    );
}

#[tokio::test]
async fn gone_fails_at_once() {
    let world = World::new().await;
    let receiver = receiver("410").await;
    world.simple_store(&receiver.url(), "");
    let _worker = world.worker(&[]).await;
    world.publish(event("ABC", 1).as_bytes()).await;
    let failed = world.take("failed", 1).await;
    assert_eq!(failed[0].text("leadhook-reason").as_deref(), Some("gone"));
    assert_eq!(failed[0].history().len(), 1);
    assert_eq!(receiver.received().len(), 1);
}

#[tokio::test]
async fn retry_after_is_honoured() {
    let world = World::new().await;
    let (busy, away) = (receiver("429:4,200").await, receiver("503:4,200").await);
    world.store(&format!(
        "default_organization: acme\norganizations:\n  acme:\n    webhook: {{ url: \"{}\", events: \"*\" }}\n    campaigns:\n      AWAY: {{ override: true, webhook: {{ url: \"{}\", events: \"*\" }} }}\n",
        busy.url(),
        away.url()
    ));
    // The waits are longer than the longest delay queue (1.25 s), so each takes several hops.
    let environment = [("LEADHOOK__BACKOFF__MAXIMUM", "1s")];
    let first = world.worker(&environment).await;
    world.publish_many(["BUSY", "AWAY"].map(|campaign| event(campaign, 1))).await;
    eventually("both wait", async || {
        (first.metric("leadhook_jobs_total", "outcome=\"retry\"").await >= 2.0).then_some(())
    })
    .await;
    // The next worker does not know that these targets are paused. Only the jobs carry their waits.
    first.stop().await;
    let _second = world.worker(&environment).await;
    for receiver in [busy, away] {
        let gaps = gaps(&receiver.wait_for(2, PATIENCE).await.unwrap());
        assert!(gaps[0] >= 4.0, "{gaps:?}");
    }
}

#[tokio::test]
async fn retry_after_is_capped() {
    let world = World::new().await;
    let receiver = receiver("429:3600,200").await;
    world.simple_store(&receiver.url(), "");
    let _worker = world.worker(&[("LEADHOOK__BACKOFF__RETRY_AFTER_MAXIMUM", "1s")]).await;
    world.publish(event("ABC", 1).as_bytes()).await;
    let gaps = gaps(&receiver.wait_for(2, PATIENCE).await.unwrap());
    assert!(gaps[0] >= 1.0, "{gaps:?}");
}

#[tokio::test]
async fn a_long_wait_never_delays_a_short_one() {
    let world = World::new().await;
    let (slow, quick) = (receiver("429:30").await, receiver("500,200").await);
    world.store(&format!(
        "default_organization: acme\norganizations:\n  acme:\n    webhook: {{ url: \"{}\", events: \"*\" }}\n    campaigns:\n      QUICK: {{ override: true, webhook: {{ url: \"{}\", events: \"*\" }} }}\n",
        slow.url(),
        quick.url()
    ));
    let worker = world.worker(&[("LEADHOOK__BACKOFF__MAXIMUM", "60s")]).await;
    world.publish_many((0..50).map(|n| event("SLOW", n))).await;
    eventually("all of them waiting", async || {
        let waiting = ["retry", "deferred"].map(|outcome| format!("outcome=\"{outcome}\""));
        let count = async |with: &str| worker.metric("leadhook_jobs_total", with).await;
        (count(&waiting[0]).await + count(&waiting[1]).await >= 50.0).then_some(())
    })
    .await;
    let asked = slow.received().len();
    let begun = Instant::now();
    world.publish(event("QUICK", 1).as_bytes()).await;
    quick.wait_for(2, PATIENCE).await.unwrap();
    assert!(begun.elapsed() < Duration::from_secs(20), "the short wait took {:?}", begun.elapsed());
    assert_eq!(slow.received().len(), asked, "a long wait ended early");
}

#[tokio::test]
async fn more_attempts_than_allowed_are_not_made_when_the_number_is_lowered() {
    let world = World::new().await;
    let receiver = receiver("500").await;
    world.simple_store(&receiver.url(), "retry_attempts: 10");
    let worker = world.worker(&[]).await;
    world.publish(event("ABC", 1).as_bytes()).await;
    receiver.wait_for(3, PATIENCE).await.unwrap();
    world.simple_store(&receiver.url(), "retry_attempts: 1");
    let failed = world.take("failed", 1).await;
    assert_eq!(failed[0].text("leadhook-reason").as_deref(), Some("exhausted"));
    assert!(receiver.received().len() < 11);
    worker.stop().await;
}

#[tokio::test]
async fn the_due_time_travels_with_a_retry() {
    let world = World::new().await;
    let receiver = receiver("429:60").await;
    world.simple_store(&receiver.url(), "");
    let _worker = world.worker(&[]).await;
    world.publish(event("ABC", 1).as_bytes()).await;
    // The longest delay queue that does not exceed the wait; the rest of the wait follows.
    let held = world.take("delay.32000", 1).await;
    let due: u128 = held[0].text("leadhook-due").unwrap().parse().unwrap();
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_millis();
    assert!((now + 40_000..now + 61_000).contains(&due), "due in {} ms", due - now);
    let remaining: u128 = held[0].text("leadhook-remaining").unwrap().parse().unwrap();
    assert!((20_000..29_000).contains(&remaining), "{remaining} ms remain");
}
