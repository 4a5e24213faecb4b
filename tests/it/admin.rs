//! The admin port in front of clients that mean harm.

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::harness::{PATIENCE, World, event, receiver};

/// With fewer files than there are clients.
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
    assert_eq!(idle[0].read(&mut answer).await.unwrap_or(0), 0, "the first one has given way");
    worker.stop().await;
}
