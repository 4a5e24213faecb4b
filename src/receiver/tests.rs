use std::time::Instant;

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;
use crate::delivery::request::{self, DeliveryRequest};

const SOON: Duration = Duration::from_secs(10);

async fn receiver(script: &str) -> Receiver {
    Receiver::start(Options { script: script.parse().unwrap(), ..Options::default() }).await.unwrap()
}

fn client() -> reqwest::Client {
    reqwest::Client::builder().no_proxy().redirect(reqwest::redirect::Policy::none()).build().unwrap()
}

/// Sends bytes as they are, and returns everything that comes back until the connection ends.
async fn raw(receiver: &Receiver, request: &str) -> String {
    let mut stream = TcpStream::connect(receiver.address()).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    String::from_utf8(answer).unwrap()
}

#[tokio::test]
async fn it_answers_in_turn_and_remembers_what_came() {
    let receiver = receiver("500,429:7,301,204").await;
    let client = client();
    let mut statuses = Vec::new();
    for n in 0..5 {
        let url = format!("{}/hooks/leads?n={n}", receiver.url());
        let answer = client.post(url).header("webhook-id", "w1").body(format!("body {n}")).send().await.unwrap();
        let header = |name: &str| answer.headers().get(name).map(|value| value.to_str().unwrap().to_owned());
        statuses.push((answer.status().as_u16(), header("retry-after"), header("location")));
    }
    let plain = |status| (status, None, None);
    let pushback = (429, Some("7".to_owned()), None);
    assert_eq!(statuses, [plain(500), pushback, (301, None, Some("/elsewhere".to_owned())), plain(204), plain(204)]);
    let received = receiver.received();
    assert_eq!(received.len(), 5);
    assert_eq!(received[1].path, "/hooks/leads");
    assert_eq!(received[1].query.as_deref(), Some("n=1"));
    assert_eq!(received[1].body, "body 1");
    assert_eq!(received[1].status, Some(429));
    assert_eq!(received[1].method, "POST");
    assert_eq!(received[1].webhook_id(), Some("w1"));
    assert_eq!(received[1].signature(), Signature::Unchecked);
}

#[tokio::test]
async fn each_webhook_can_have_its_own_run_of_the_script() {
    let options = Options { script: "500,200".parse().unwrap(), per_webhook: true, ..Options::default() };
    let receiver = Receiver::start(options).await.unwrap();
    let client = client();
    for id in ["a", "b", "a", "b", "a"] {
        client.post(receiver.url()).header("webhook-id", id).send().await.unwrap();
    }
    let statuses: Vec<_> = receiver.received().iter().map(|received| received.status.unwrap()).collect();
    assert_eq!(statuses, [500, 500, 200, 200, 200]);
}

#[tokio::test]
async fn a_new_script_starts_at_its_beginning() {
    let receiver = receiver("500,200").await;
    let client = client();
    for _ in 0..2 {
        client.post(receiver.url()).send().await.unwrap();
    }
    receiver.set_script("503:1,202".parse().unwrap());
    assert_eq!(client.post(receiver.url()).send().await.unwrap().status(), 503);
    assert_eq!(client.post(receiver.url()).send().await.unwrap().status(), 202);
}

#[tokio::test]
async fn waiting_is_answered_when_enough_has_come_or_time_is_up() {
    let receiver = receiver("hang").await;
    let (client, url) = (client(), receiver.url());
    let sending = tokio::spawn(async move { client.post(url).body("x").send().await });
    let received = receiver.wait_for(1, SOON).await.unwrap();
    assert_eq!((received.len(), received[0].status), (1, None));
    let error = receiver.wait_for(2, Duration::ZERO).await.unwrap_err();
    assert_eq!(error, WaitError { waited: Duration::ZERO, received: 1 });
    assert_eq!(receiver.take().await.len(), 1);
    assert!(receiver.received().is_empty());
    receiver.shutdown().await;
    assert!(sending.await.unwrap().is_err());
}

#[tokio::test]
async fn after_shutdown_connections_are_refused_and_the_port_is_free() {
    let first = receiver("200").await;
    let address = first.address();
    let kept = client();
    kept.post(first.url()).send().await.unwrap();
    first.shutdown().await;
    let refused = TcpStream::connect(address).await.unwrap_err();
    assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
    let again = Receiver::start(Options { port: address.port(), ..Options::default() }).await.unwrap();
    assert_eq!(again.address(), address);
}

#[tokio::test]
async fn close_sends_not_a_byte() {
    let receiver = receiver("close").await;
    assert_eq!(raw(&receiver, "POST / HTTP/1.1\r\nContent-Length: 2\r\n\r\nhi").await, "");
    assert_eq!(receiver.received()[0].body, "hi");
}

#[tokio::test]
async fn endless_and_drip_go_on() {
    for (script, status) in [("endless", 500), ("endless:200", 200), ("drip", 200)] {
        let receiver = receiver(script).await;
        let mut answer = client().post(receiver.url()).send().await.unwrap();
        assert_eq!(answer.status(), status, "{script}");
        assert!(answer.chunk().await.unwrap().is_some(), "{script}");
        assert!(answer.chunk().await.unwrap().is_some(), "{script}");
    }
}

#[tokio::test]
async fn reset_and_garbage_are_no_answers() {
    for script in ["reset", "garbage"] {
        let receiver = receiver(script).await;
        let answer = async { client().post(receiver.url()).send().await?.bytes().await };
        assert!(answer.await.is_err(), "{script}");
        assert_eq!(receiver.received()[0].status, None, "{script}");
    }
}

#[tokio::test]
async fn a_delayed_reply_waits_that_long() {
    let receiver = receiver("200@120ms").await;
    let started = Instant::now();
    client().post(receiver.url()).send().await.unwrap();
    assert!(started.elapsed() >= Duration::from_millis(120));
}

#[tokio::test]
async fn chunked_bodies_and_expectations_are_understood() {
    let receiver = receiver("200").await;
    let chunked = "POST / HTTP/1.1\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n\
                   4\r\nlead\r\n5;x=y\r\nhook!\r\n0\r\ntrailer: x\r\n\r\n";
    assert!(raw(&receiver, chunked).await.starts_with("HTTP/1.1 200 "));
    assert_eq!(receiver.received()[0].body, "leadhook!");
    let expecting = "POST / HTTP/1.1\r\nConnection: close\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\nx";
    assert!(raw(&receiver, expecting).await.starts_with("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 "));
}

#[tokio::test]
async fn what_is_no_http_is_refused_and_not_counted() {
    let receiver = receiver("200").await;
    for nonsense in
        ["hello\r\n\r\n", "POST / HTTP/1.1\r\nno header\r\n\r\n", "POST / HTTP/1.1\r\nContent-Length: x\r\n\r\n"]
    {
        assert!(raw(&receiver, nonsense).await.starts_with("HTTP/1.1 400 "), "{nonsense:?}");
    }
    let chunk_too_long = "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\n";
    assert!(raw(&receiver, chunk_too_long).await.starts_with("HTTP/1.1 400 "));
    assert!(receiver.received().is_empty());
}

#[tokio::test]
async fn signatures_are_verified_missing_or_bad() {
    let secret = |byte: char| format!("whsec_{}", byte.to_string().repeat(32));
    let ours = SigningSecret::parse(&secret('A')).unwrap();
    let theirs = SigningSecret::parse(&secret('B')).unwrap();
    let receiver = Receiver::start(Options { secrets: vec![ours.clone()], ..Options::default() }).await.unwrap();
    for (signing_secrets, wanted) in
        [(vec![ours], Signature::Verified), (vec![theirs], Signature::Bad), (vec![], Signature::Missing)]
    {
        let key = crate::store::TargetKey::new("acme", None, None);
        let plain = crate::store::Target::plain(key, "acme", receiver.url().parse().unwrap());
        let target = crate::store::Target { signing_secrets, ..plain };
        let timestamp = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
        let (webhook_id, attempt, traceparent, body) = ("w1", 1, None, b"{}".as_slice());
        let request = DeliveryRequest { webhook_id, attempt, timestamp, traceparent, body, target: &target };
        let headers = request::headers(&request).unwrap();
        client().post(receiver.url()).headers(headers).body("{}").send().await.unwrap();
        assert_eq!(receiver.take().await[0].signature(), wanted);
    }
}
