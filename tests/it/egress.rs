//! The egress rules in a running worker: forbidden URLs fail at once, and faults of a proxy cost no attempt.

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Instant,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

use crate::harness::{PATIENCE, World, counts, event, eventually, receiver};

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

/// Serves CONNECT as a proxy, on a listener whose address is already known.
async fn proxy(listener: TcpListener) {
    proxy_if(listener, Arc::new(AtomicBool::new(true)), Arc::default()).await;
}

/// Serves likewise, but closes each connection at once unless it `works`, and counts them.
async fn proxy_if(listener: TcpListener, works: Arc<AtomicBool>, connections: Arc<AtomicUsize>) {
    while let Ok((mut stream, _)) = listener.accept().await {
        connections.fetch_add(1, Ordering::SeqCst);
        if !works.load(Ordering::SeqCst) {
            continue;
        }
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

#[tokio::test]
async fn a_proxy_that_fails_is_asked_once_in_a_while_for_all_jobs_and_readiness_says_so() {
    const EVENTS: u32 = 300;
    let world = World::new().await;
    let receiver = receiver("200").await;
    world.simple_store(&receiver.url(), "retry_attempts: 1");
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let (works, connections) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let proxying = tokio::spawn(proxy_if(listener, works.clone(), connections.clone()));
    let worker = world.worker(&[("LEADHOOK__EGRESS__PROXY", &format!("http://user:hunter2@{address}"))]).await;
    let begun = Instant::now();
    world.publish_many((0..EVENTS).map(|n| event("ABC", n))).await;
    let said = worker.not_ready().await;
    assert!(said.contains(&format!("the egress proxy http://{address} does not work")), "{said}");
    assert!(!said.contains("hunter2") && !worker.log().contains("hunter2"), "{said}");
    eventually("each job is deferred three times", async || {
        (worker.metric("leadhook_jobs_total", "reason=\"proxy\"").await >= f64::from(3 * EVENTS)).then_some(())
    })
    .await;
    // Four faults, four attempts that were in flight with them, and at most one probe each second.
    let most = 4 + 4 + 1 + begun.elapsed().as_secs() as usize;
    let connected = connections.load(Ordering::SeqCst);
    assert!(connected <= most, "{connected} connections, and not {most} at most");
    worker.metric_is("leadhook_proxy_failing", "", 1.0).await;
    works.store(true, Ordering::SeqCst);
    let received = receiver.wait_for(EVENTS as usize, PATIENCE).await.unwrap();
    assert!(received.iter().all(|one| one.attempt() == Some(1)), "an attempt was spent");
    let counts = counts(&received);
    assert!(counts.len() == EVENTS as usize && counts.values().all(|count| *count == 1));
    worker.ready().await;
    worker.metric_is("leadhook_proxy_failing", "", 0.0).await;
    assert_eq!(world.ready("failed").await, 0);
    worker.stop().await;
    proxying.abort();
}
