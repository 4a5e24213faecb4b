//! Where webhooks may go, in a running worker: what is refused fails at once, and a proxy's faults cost nobody anything.

use std::net::{Ipv4Addr, SocketAddr};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

use crate::harness::{PATIENCE, World, event, eventually, receiver};

#[tokio::test]
async fn what_may_not_be_called_fails_at_once_and_says_why() {
    for (environment, reason, detail) in [
        (&[("LEADHOOK__EGRESS__ALLOW", "")][..], "forbidden_address", "a loopback address"),
        (&[("LEADHOOK__EGRESS__DENY", "127.0.0.0/8")], "forbidden_address", "egress.deny"),
        (&[("LEADHOOK__EGRESS__ALLOW", "127.0.0.0/8 for globex")], "forbidden_address", "a loopback address"),
        (&[("LEADHOOK__EGRESS__PLAIN_HTTP", "")], "plain_http", "final at attempt 1"),
    ] {
        let world = World::new().await;
        let receiver = receiver("200").await;
        world.simple_store(&receiver.url(), "retry_attempts: 3");
        let worker = world.worker(environment).await;
        assert!(worker.log().contains("URLs that webhooks may not go to"), "{}", worker.log());
        world.publish(event("ABC", 1).as_bytes()).await;
        let failed = world.take("failed", 1).await;
        assert_eq!(failed[0].text("leadhook-reason").as_deref(), Some(reason), "{environment:?}");
        let said = failed[0].text("leadhook-detail").unwrap();
        assert!(said.contains(detail) && !said.contains("127.0.0"), "{said}");
        assert_eq!(receiver.received().len(), 0, "{environment:?}");
        worker.stop().await;
        let output = world.command().arg("check").envs(environment.iter().copied()).output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(text.contains(&format!("its jobs will fail as {reason}")), "{text}");
    }
}

/// A proxy for CONNECT, at an address that is known before.
async fn proxy(listener: TcpListener) {
    while let Ok((mut stream, _)) = listener.accept().await {
        tokio::spawn(async move {
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                if stream.read_buf(&mut head).await? == 0 {
                    return Ok(());
                }
            }
            let head = String::from_utf8_lossy(&head).into_owned();
            let to: SocketAddr = head.split(' ').nth(1).and_then(|to| to.parse().ok()).expect("an address");
            stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await?;
            let mut beyond = TcpStream::connect(to).await?;
            tokio::io::copy_bidirectional(&mut stream, &mut beyond).await?;
            std::io::Result::Ok(())
        });
    }
}

#[tokio::test]
async fn a_proxy_that_is_down_costs_no_attempt() {
    let world = World::new().await;
    let receiver = receiver("200").await;
    world.simple_store(&receiver.url(), "retry_attempts: 1");
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let worker = world.worker(&[("LEADHOOK__EGRESS__PROXY", &format!("http://{address}"))]).await;
    world.publish(event("ABC", 1).as_bytes()).await;
    eventually("the job is deferred", async || {
        (worker.metric("leadhook_jobs_total", "reason=\"proxy\"").await >= 1.0).then_some(())
    })
    .await;
    let proxying = tokio::spawn(proxy(TcpListener::bind(address).await.unwrap()));
    let received = receiver.wait_for(1, PATIENCE).await.unwrap();
    assert_eq!(received[0].attempt(), Some(1));
    assert_eq!(world.ready("failed").await, 0);
    worker.stop().await;
    proxying.abort();
}
