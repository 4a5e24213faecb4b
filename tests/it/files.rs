//! A lack of open files on this machine does not count against a receiver.

use crate::harness::{PATIENCE, World, event, eventually, receiver};

#[tokio::test]
async fn the_soft_limit_of_open_files_is_raised_to_the_hard_one() {
    let world = World::new().await;
    world.simple_store("http://127.0.0.1:9/", "");
    let worker = world.worker_with_files("-Sn", 128, &[]).await;
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", worker.id())).unwrap();
    let line = limits.lines().find(|line| line.starts_with("Max open files")).unwrap();
    let [soft, hard] = [3, 4].map(|nth| line.split_whitespace().nth(nth).unwrap());
    assert_eq!(soft, hard, "{line}");
    worker.stop().await;
}

/// More receivers than files: everything is delivered, and each delivery is a first attempt.
#[tokio::test]
async fn files_that_run_out_cost_no_attempt() {
    const RECEIVERS: u32 = 120;
    let world = World::new().await;
    let receiver = receiver("200@300ms").await;
    let organization =
        |n| format!("  o{n}:\n    webhook: {{ url: {}, events: \"*\", retry_attempts: 1 }}\n", receiver.url());
    let organizations: String = (0..RECEIVERS).map(organization).collect();
    world.store(&format!("organizations:\n{organizations}"));
    // The worker itself needs some thirty files.
    let worker = world.worker_with_files("-n", 80, &[("LEADHOOK__DELIVERY__CONCURRENCY", "256")]).await;
    let of = |n: u32| event("ABC", n).replacen('{', &format!("{{\"organizationId\":\"o{n}\","), 1);
    world.publish_many((0..RECEIVERS).map(of)).await;
    eventually("readiness tells", async || {
        let (_, report) = worker.get("/readyz").await?;
        report.contains("was left for a connection").then_some(())
    })
    .await;
    receiver.wait_for(RECEIVERS as usize, PATIENCE).await.unwrap();
    let received = receiver.received();
    assert!(received.iter().all(|request| request.header("leadhook-attempt") == Some("1")));
    assert_eq!(received.len(), RECEIVERS as usize);
    assert!(worker.metric("leadhook_jobs_total", "reason=\"local\"").await > 0.0);
    assert!(worker.log().contains("no file, memory or port left"), "{}", worker.log());
    worker.stop().await;
}
