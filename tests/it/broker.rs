//! The broker goes away under an idle and under a busy worker, and queues of ours vanish.

use reqwest::Method;

use crate::{
    harness::{PATIENCE, World, counts, event, eventually, receiver},
    node::Node,
};

#[tokio::test]
async fn a_restart_while_idle_is_survived() {
    let node = Node::start();
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
    assert!(worker.metric("leadhook_reconnects_total", "consume").await >= 1.0);
    worker.stop().await;
}

#[tokio::test]
async fn a_restart_while_busy_loses_nothing() {
    const EVENTS: usize = 500;
    let node = Node::start();
    let mut world = World::on(&node).await;
    let receiver = receiver("200@30ms").await;
    world.simple_store(&receiver.url(), "");
    let worker = world.worker(&[("LEADHOOK__DELIVERY__CONCURRENCY", "8")]).await;
    world.publish_many((0..EVENTS as u32).map(|n| event("ABC", n))).await;
    receiver.wait_for(30, PATIENCE).await.unwrap();
    node.settle();
    node.kill();
    worker.not_ready().await;
    node.start_again();
    worker.ready().await;
    world.reconnect().await;
    eventually("all events delivered", async || (counts(&receiver.received()).len() == EVENTS).then_some(())).await;
    // What was in flight when the broker died finished, and was settled from memory, not POSTed again.
    let duplicates = receiver.received().len() - EVENTS;
    assert_eq!(duplicates, 0, "settled from memory instead of POSTed again");
    worker.stop().await;
}

#[tokio::test]
async fn a_missing_queue_of_ours_is_declared_anew() {
    let world = World::new().await;
    let receiver = receiver("500").await;
    world.simple_store(&receiver.url(), "retry_attempts: 1");
    let worker = world.worker(&[]).await;
    let vhost = world.vhost();
    Node::shared().manage(Method::DELETE, &format!("queues/{vhost}/leadhook.failed"), "").await;
    world.publish(event("ABC", 1).as_bytes()).await;
    let failed = world.take_when_there("failed", 1).await;
    assert_eq!(failed[0].text("leadhook-reason").as_deref(), Some("exhausted"));
    assert_eq!(receiver.received().len(), 2, "nothing is POSTed twice for that");
    assert!(worker.log().contains("declared anew"), "{}", worker.log());
    worker.stop().await;
}

#[tokio::test]
async fn a_deleted_input_queue_is_a_failure_to_recover_from() {
    let world = World::new().await;
    let receiver = receiver("200").await;
    world.simple_store(&receiver.url(), "");
    let worker = world.worker(&[]).await;
    let vhost = world.vhost();
    Node::shared().manage(Method::DELETE, &format!("queues/{vhost}/leadhook.jobs"), "").await;
    eventually("consuming again", async || worker.log().contains("consuming again").then_some(())).await;
    world.publish(event("ABC", 1).as_bytes()).await;
    receiver.wait_for(1, PATIENCE).await.unwrap();
    worker.stop().await;
}
