//! The number of workers: each one counts the consumers of `leadhook.workers`.

use lapin::BasicProperties;
use serde_json::Value;

use crate::{
    harness::{World, eventually},
    rig::worker::Worker,
};

async fn counts(worker: &Worker, workers: u32) {
    let what = format!("a worker counts {workers}");
    eventually(&what, async || (worker.metric("leadhook_workers ", "").await == f64::from(workers)).then_some(()))
        .await;
}

#[tokio::test]
async fn workers_count_each_other_and_no_longer_one_that_was_killed() {
    let world = World::new().await;
    world.simple_store("http://127.0.0.1:1/", "");
    let first = world.worker(&[]).await;
    counts(&first, 1).await;
    let second = world.worker(&[]).await;
    let third = world.worker(&[]).await;
    for worker in [&first, &second, &third] {
        counts(worker, 3).await;
    }
    second.kill().await;
    counts(&first, 2).await;
    third.stop().await;
    counts(&first, 1).await;
    first.stop().await;
}

#[tokio::test]
async fn a_message_on_the_queue_that_counts_the_workers_is_discarded() {
    let world = World::new().await;
    world.simple_store("http://127.0.0.1:1/", "");
    let worker = world.worker(&[]).await;
    for _ in 0..2 {
        world.publish_to("", "leadhook.workers", b"hello", BasicProperties::default()).await;
    }
    let warned = async || worker.log().matches("this queue only counts the workers").count();
    eventually("one warning", async || (warned().await == 1).then_some(())).await;
    counts(&worker, 1).await;
    worker.stop().await;
    assert_eq!(world.ready("workers").await, 0, "a message was given back");
}

#[tokio::test]
async fn while_the_workers_cannot_be_counted_the_last_number_stays_and_readiness_warns() {
    let world = World::new().await;
    world.simple_store("http://127.0.0.1:1/", "");
    let environment = [("LEADHOOK__TOPOLOGY__DECLARE", "false")];
    let mut command = world.command();
    assert!(command.args(["topology", "apply"]).output().expect("leadhook").status.success());
    let (first, second) = (world.worker(&environment).await, world.worker(&environment).await);
    counts(&first, 2).await;
    world.delete("workers").await;
    eventually("a warning", async || {
        let (status, report) = first.get("/readyz").await?;
        let report: Value = serde_json::from_str(&report).ok()?;
        let warnings = report["warnings"].as_array()?;
        let warned = warnings.iter().filter_map(Value::as_str);
        (status == 200 && warned.into_iter().any(|one| one.contains("limits over all workers assume 2"))).then_some(())
    })
    .await;
    counts(&first, 2).await;
    second.stop().await;
    first.stop().await;
}
