//! SIGTERM, replicas and crashes: nothing is lost, and no attempt is charged.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use leadhook::receiver::Received;

use crate::harness::{PATIENCE, World, counts, event, eventually, receiver};

const EVENTS: u32 = 600;

#[tokio::test]
async fn sigterm_under_load_loses_and_duplicates_nothing() {
    let world = World::new().await;
    let receiver = receiver("200@20ms").await;
    world.simple_store(&receiver.url(), "");
    let mut worker = world.worker(&[("LEADHOOK__DELIVERY__CONCURRENCY", "8")]).await;
    world.publish_many((0..EVENTS).map(|n| event("ABC", n))).await;
    receiver.wait_for(50, PATIENCE).await.unwrap();
    worker.signal("TERM");
    let status = worker.ended().await;
    assert_eq!(status.code(), Some(0), "{}", worker.log());
    assert!(worker.log().contains("everything in flight is settled"), "{}", worker.log());
    let before = receiver.received().len();
    assert!(before < EVENTS as usize, "it was not stopped under load");

    let second = world.worker(&[]).await;
    let received = all_delivered(&receiver).await;
    assert_eq!(received.len(), EVENTS as usize, "a duplicate POST");
    assert!(received.iter().all(|one| one.attempt() == Some(1)), "an attempt was charged");
    second.stop().await;
    assert_eq!((world.ready("events").await, world.ready("jobs").await), (0, 0));
}

async fn all_delivered(receiver: &leadhook::receiver::Receiver) -> Vec<Arc<Received>> {
    eventually("all events delivered", async || {
        let received = receiver.received();
        (counts(&received).len() == EVENTS as usize).then_some(received)
    })
    .await
}

#[tokio::test]
async fn a_stop_lets_attempts_in_flight_finish() {
    let world = World::new().await;
    let receiver = receiver("200@3s").await;
    world.simple_store(&receiver.url(), "timeout: 30");
    let worker = world.worker(&[("LEADHOOK__SHUTDOWN__GRACE", "31s")]).await;
    world.publish(event("ABC", 1).as_bytes()).await;
    receiver.wait_for(1, PATIENCE).await.unwrap();
    worker.stop().await;
    assert_eq!((world.ready("events").await, world.ready("jobs").await), (0, 0), "the job is not settled");
    assert_eq!(receiver.received().len(), 1);
}

#[tokio::test]
async fn a_stop_that_does_not_come_to_its_end_ends_with_the_grace_period() {
    const GRACE: Duration = Duration::from_millis(2500);
    let world = World::new().await;
    let receiver = receiver("410@500ms").await;
    world.simple_store(&receiver.url(), "timeout: 1");
    let environment = [("LEADHOOK__SHUTDOWN__GRACE", "2500ms"), ("LEADHOOK__TOPOLOGY__DECLARE", "false")];
    let first = world.worker(&[]).await;
    first.stop().await;
    let mut worker = world.worker(&environment).await;
    // An outcome that cannot be recorded keeps its job in flight: this worker may not declare missing queues.
    world.delete("failed").await;
    world.publish(event("ABC", 1).as_bytes()).await;
    receiver.wait_for(1, PATIENCE).await.unwrap();
    let asked = Instant::now();
    worker.signal("TERM");
    let status = worker.ended().await;
    let took = asked.elapsed();
    assert_eq!(status.code(), Some(4), "{}", worker.log());
    assert!(
        worker.log().contains("\"in_flight\":1") && worker.log().contains("the grace period is over"),
        "{}",
        worker.log()
    );
    // Closing the connections takes 3 s at most; the rest is for a busy machine. Otherwise the drain would continue.
    assert!(took >= GRACE && took < GRACE + Duration::from_secs(20), "{took:?}");
    // The event is given back, and the next worker makes the same first attempt.
    eventually("the event is back", async || (world.ready("events").await == 1).then_some(())).await;
    receiver.set_script("200".parse().unwrap());
    let second = world.worker(&[]).await;
    let received = receiver.wait_for(2, PATIENCE).await.unwrap();
    assert_eq!(received[1].attempt(), Some(1));
    assert_eq!(received[1].webhook_id(), received[0].webhook_id());
    second.stop().await;
    assert_eq!((world.ready("jobs").await, world.ready("failed").await), (0, 0));
}

#[tokio::test]
async fn a_second_signal_ends_at_once() {
    let world = World::new().await;
    let receiver = receiver("hang").await;
    world.simple_store(&receiver.url(), "timeout: 60");
    let mut worker = world.worker(&[]).await;
    world.publish(event("ABC", 1).as_bytes()).await;
    receiver.wait_for(1, PATIENCE).await.unwrap();
    worker.signal("TERM");
    assert!(worker.not_ready().await.contains("stopping"));
    worker.signal("TERM");
    assert_eq!(worker.ended().await.code(), Some(4));
}

#[tokio::test]
async fn two_replicas_share_the_work_and_one_may_stop() {
    let world = World::new().await;
    let receiver = receiver("200@10ms").await;
    world.simple_store(&receiver.url(), "");
    let environment = [("LEADHOOK__DELIVERY__CONCURRENCY", "4"), ("LEADHOOK__DELIVERY__EVENT_PREFETCH", "20")];
    let (first, second) = (world.worker(&environment).await, world.worker(&environment).await);
    world.publish_many((0..EVENTS).map(|n| event("ABC", n))).await;
    for worker in [&first, &second] {
        eventually("both deliver", async || {
            (worker.metric("leadhook_jobs_total", "delivered").await >= 10.0).then_some(())
        })
        .await;
    }
    first.stop().await;
    let received = all_delivered(&receiver).await;
    assert_eq!(received.len(), EVENTS as usize, "a duplicate POST");
    second.stop().await;
}

#[tokio::test]
async fn a_killed_worker_loses_nothing() {
    let world = World::new().await;
    let receiver = receiver("200@10ms").await;
    world.simple_store(&receiver.url(), "");
    let few = [("LEADHOOK__DELIVERY__CONCURRENCY", "64"), ("LEADHOOK__DELIVERY__EVENT_PREFETCH", "200")];
    let first = world.worker(&few).await;
    world.publish_many((0..EVENTS).map(|n| event("ABC", n))).await;
    receiver.wait_for(100, PATIENCE).await.unwrap();
    first.kill().await;
    let second = world.worker(&[]).await;
    let received = all_delivered(&receiver).await;
    let duplicates = received.len() - EVENTS as usize;
    // Attempts and events that may have been in flight.
    assert!(duplicates <= 264, "more duplicates than messages in flight: {duplicates}");
    second.stop().await;
}
