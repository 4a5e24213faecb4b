//! The admin port in front of hostile clients, and its warnings.

use std::time::Duration;

use reqwest::Method;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::{
    harness::{PATIENCE, World, event, eventually, receiver},
    node::Node,
};

/// The worker may open fewer files than there are clients.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_idle_clients_change_nothing() {
    let world = World::new().await;
    let receiver = receiver("200").await;
    world.simple_store(&receiver.url(), "");
    let worker = world.worker_with_files("-n", 512, &[]).await;
    let admin = worker.admin().await;
    let mut idle = Vec::new();
    for n in 0..1000 {
        let mut client = TcpStream::connect(&admin).await.unwrap();
        if n % 2 == 0 {
            let _ = client.write_all(b"GET /livez HTTP/1.1\r\nx: ").await;
        }
        idle.push(client);
    }
    for asked in ["/livez", "/readyz", "/metrics"] {
        assert_eq!(worker.get(asked).await.map(|(status, _)| status), Some(200), "{asked}");
    }
    world.publish_many((0..50).map(|n| event("ABC", n))).await;
    receiver.wait_for(50, PATIENCE).await.unwrap();
    let open = std::fs::read_dir(format!("/proc/{}/fd", worker.id())).unwrap().count();
    assert!(open < 256, "{open} files are open");
    let mut answer = [0; 1];
    assert_eq!(idle[0].read(&mut answer).await.unwrap_or(0), 0, "the oldest idle connection was not closed");
    worker.stop().await;
}

/// Publishers and consumers cannot see a policy on existing queues.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn policies_that_can_lose_messages_are_warned_of() {
    let node = Node::shared();
    let world = World::new().await;
    world.simple_store("http://127.0.0.1:1", "");
    let vhost = world.vhost();
    let policy =
        r#"{"pattern":"^leadhook\\.(failed|rejected)$","apply-to":"queues","definition":{"message-ttl":60000}}"#;
    node.manage(Method::PUT, &format!("policies/{vhost}/short"), policy).await;
    let operator = r#"{"pattern":"^leadhook\\.jobs$","apply-to":"queues","definition":{"max-length":1000}}"#;
    node.manage(Method::PUT, &format!("operator-policies/{vhost}/cap"), operator).await;
    let worker = world.worker(&[("LEADHOOK__AMQP__MANAGEMENT_URL", node.management_url())]).await;
    let ttl = "policy short sets message-ttl to 60000: after that time messages are deleted";
    let cap = "operator policy cap sets max-length to 1000: above it the queue refuses messages";
    let report = eventually("both warnings", async || {
        let (status, report) = worker.get("/readyz").await?;
        assert_eq!(status, 200, "a warning: {report}");
        (report.contains(ttl) && report.contains(cap)).then_some(report)
    })
    .await;
    assert!(report.contains("queues leadhook.failed and leadhook.rejected: policy short"), "{report}");
    assert!(report.contains("queue leadhook.jobs: operator policy cap"), "{report}");
    worker.metric_is("leadhook_broker_policy_problems", "", 2.0).await;
    let log = worker.log();
    assert!(log.contains(ttl) && log.contains(cap), "{log}");

    // The command reports the same.
    let mut check = world.command();
    check.args(["topology", "check"]).env("LEADHOOK__AMQP__MANAGEMENT_URL", node.management_url());
    let check = check.output().unwrap();
    let said = String::from_utf8_lossy(&check.stdout);
    assert!(check.status.code() == Some(1) && said.contains(ttl) && said.contains(cap), "{said}");
    worker.stop().await;
}

#[tokio::test]
async fn policies_that_cannot_be_looked_at_are_a_warning() {
    let world = World::new().await;
    world.simple_store("http://127.0.0.1:1", "");
    let worker = world.worker(&[("LEADHOOK__AMQP__MANAGEMENT_URL", "http://u:hunter2@127.0.0.1:1")]).await;
    let report = eventually("the warning", async || {
        let (_, report) = worker.get("/readyz").await?;
        report
            .contains("cannot look at the broker's policies (amqp.management_url): http://127.0.0.1:1/")
            .then_some(report)
    })
    .await;
    assert!(!report.contains("hunter2") && !worker.log().contains("hunter2"), "{report}");
    tokio::time::timeout(Duration::from_secs(10), worker.stop()).await.expect("the stop waits for the management API");
}
