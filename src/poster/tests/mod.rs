use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
};

use http::HeaderValue;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::mpsc,
};

use super::*;
use crate::{
    delivery::outcome::TlsFault,
    receiver::{Options, Receiver},
};

/// The address guard.
mod guard;
mod names;
/// Proxies.
mod proxy;
/// Certificates, versions, HTTP/2.
mod secure;

const LONG: Duration = Duration::from_secs(20);

async fn receiver(script: &str) -> Receiver {
    Receiver::start(Options { script: script.parse().unwrap(), ..Options::default() }).await.unwrap()
}

fn to<'a>(organization: &'a str, url: &'a Url, timeout: Duration) -> Post<'a> {
    Post { organization, url, identity: None, timeout, whole_body: false }
}

fn this_machine() -> Vec<egress::Rule> {
    ["127.0.0.0/8", "::1"].map(|rule| rule.parse().unwrap()).into()
}

/// One that may call this machine, over plain HTTP.
fn poster() -> Poster {
    let egress = Egress { allow: this_machine(), plain_http: true, ..Egress::default() };
    Poster::new(&egress, &Tls::default()).unwrap()
}

async fn post_within(url: &str, timeout: Duration) -> Exchange {
    let poster = poster();
    poster.post(to("acme", &url.parse().unwrap(), timeout), HeaderMap::new(), Bytes::from_static(b"{}")).await
}

async fn post(url: &str) -> Exchange {
    post_within(url, LONG).await
}

/// A server that reads what comes first and then writes these bytes and hangs up.
async fn canned(answer: impl Into<Vec<u8>>) -> SocketAddr {
    let answer = answer.into();
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let answer = answer.clone();
            tokio::spawn(async move {
                let mut request = [0; 4096];
                let _ = stream.read(&mut request).await?;
                stream.write_all(&answer).await?;
                stream.shutdown().await?;
                // Read on: closing with unread bytes would reset the connection and may destroy the answer.
                tokio::io::copy(&mut stream, &mut tokio::io::sink()).await
            });
        }
    });
    address
}

async fn fault_of(url: &str) -> Fault {
    post(url).await.result.unwrap_err()
}

fn answer_of(exchange: Exchange) -> Answer {
    exchange.result.unwrap()
}

#[tokio::test]
async fn the_request_arrives_byte_for_byte_with_the_given_headers() {
    let receiver = receiver("200").await;
    let url = format!("{}/hooks/leads?key=1", receiver.url()).parse().unwrap();
    let headers = HeaderMap::from_iter([(http::header::USER_AGENT, HeaderValue::from_static("leadhook/0"))]);
    let body = Bytes::from_static(b"{ \"event\" : \"lead.delivered\"\n}");
    let exchange = poster().post(to("acme", &url, LONG), headers, body.clone()).await;
    let answer = answer_of(exchange);
    assert_eq!((answer.status, answer.retry_after), (200, None));
    assert_eq!(answer.snippet.as_deref(), Some("scripted answer 200"));
    let received = &receiver.received()[0];
    assert_eq!((received.method.as_str(), received.path.as_str()), ("POST", "/hooks/leads"));
    assert_eq!(received.query.as_deref(), Some("key=1"));
    assert_eq!(received.body, body);
    assert_eq!(received.header("user-agent"), Some("leadhook/0"));
    assert_eq!(received.header("accept-encoding"), None);
    assert_eq!(received.header("content-length"), Some("30"));
}

#[tokio::test]
async fn retry_after_is_handed_on_as_it_came() {
    let receiver = receiver("429:7").await;
    assert_eq!(answer_of(post(&receiver.url()).await).retry_after.as_deref(), Some("7"));
}

#[tokio::test]
async fn a_redirect_is_an_answer_and_is_not_followed() {
    for status in ["301", "302", "307", "308"] {
        let receiver = receiver(status).await;
        assert_eq!(answer_of(post(&receiver.url()).await).status.to_string(), status);
        assert_eq!(receiver.received().len(), 1);
    }
}

#[tokio::test]
async fn one_call_is_one_request_whatever_comes_back() {
    for script in ["500", "503:0", "429:0", "408", "close", "reset", "garbage", "endless"] {
        let receiver = receiver(script).await;
        post(&receiver.url()).await;
        assert_eq!(receiver.received().len(), 1, "{script}");
    }
    // Over a kept connection a client may believe that it can send a request again.
    for pause in [Duration::ZERO, Duration::from_millis(1200)] {
        let (url, mut seen) = leaves_when_asked_again(pause).await;
        let poster = poster();
        let call = async |body| poster.post(to("acme", &url, LONG), HeaderMap::new(), Bytes::from_static(body)).await;
        assert_eq!(answer_of(call(b"{1}").await).status, 200);
        assert_eq!(call(b"{2}").await.result, Err(Fault::Broken), "{pause:?}");
        let requests: Vec<_> = std::iter::from_fn(|| seen.try_recv().ok()).collect();
        assert_eq!(requests, [(0, '1'), (0, '2')], "both over one connection, each once, after {pause:?}");
    }
}

/// The URL of a server that answers the first request of each connection. It takes the second one, and closes the connection after
/// `pause`. The channel says which request came over which connection.
async fn leaves_when_asked_again(pause: Duration) -> (Url, mpsc::UnboundedReceiver<(usize, char)>) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap()).parse().unwrap();
    let (says, seen) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        for connection in 0.. {
            let (mut stream, _) = listener.accept().await?;
            let says = says.clone();
            tokio::spawn(async move {
                let first = numbered(&mut stream).await?;
                says.send((connection, first)).ok();
                stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await?;
                let second = numbered(&mut stream).await?;
                says.send((connection, second)).ok();
                tokio::time::sleep(pause).await;
                io::Result::Ok(())
            });
        }
        io::Result::Ok(())
    });
    (url, seen)
}

/// Reads a request whose body is a digit in braces.
async fn numbered(stream: &mut TcpStream) -> io::Result<char> {
    let mut request = Vec::new();
    while !request.ends_with(b"}") {
        if stream.read_buf(&mut request).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    Ok(char::from(request[request.len() - 2]))
}

#[tokio::test]
async fn the_deadline_covers_waiting_and_the_body() {
    for script in ["hang", "drip", "200@60s"] {
        let receiver = receiver(script).await;
        let timeout = Duration::from_millis(700);
        let exchange = post_within(&receiver.url(), timeout).await;
        assert_eq!(exchange.result, Err(Fault::Timeout), "{script}");
        assert!(exchange.elapsed >= timeout && exchange.elapsed < LONG, "{script}: {:?}", exchange.elapsed);
    }
}

#[tokio::test]
async fn a_handshake_that_never_ends_is_a_timeout() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let url = format!("https://{}", listener.local_addr().unwrap());
    let exchange = post_within(&url, Duration::from_millis(300)).await;
    assert_eq!(exchange.result, Err(Fault::Timeout));
}

#[tokio::test]
async fn a_body_without_end_is_cut_and_judged_by_its_status() {
    for (script, status) in [("endless", 500), ("endless:200", 200), ("endless:410", 410)] {
        let receiver = receiver(script).await;
        let answer = answer_of(post(&receiver.url()).await);
        assert_eq!(answer.status, status);
        assert_eq!(answer.snippet.unwrap(), ".".repeat(SNIPPET_LIMIT));
    }
}

#[tokio::test]
async fn a_name_that_does_not_exist_is_dns() {
    // A label of 64 characters is refused before any name server is asked.
    assert_eq!(fault_of(&format!("http://{}.invalid/", "a".repeat(64))).await, Fault::Dns);
}

#[tokio::test]
async fn a_name_is_resolved_and_keeps_the_urls_port() {
    let receiver = receiver("200").await;
    let url = format!("http://localhost:{}/", receiver.address().port());
    assert_eq!(answer_of(post(&url).await).status, 200);
}

#[tokio::test]
async fn nobody_listens() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    assert_eq!(fault_of(&format!("http://{address}/")).await, Fault::Connect);
    assert_eq!(fault_of(&format!("https://{address}/")).await, Fault::Connect);
}

#[tokio::test]
async fn tls_with_someone_who_speaks_none() {
    let plain = canned("HTTP/1.1 400 Bad Request\r\n\r\n").await;
    assert_eq!(fault_of(&format!("https://{plain}/")).await, Fault::Tls(TlsFault::Other));
    let silent = canned("").await;
    assert_eq!(fault_of(&format!("https://{silent}/")).await, Fault::Tls(TlsFault::Other));
}

#[tokio::test]
async fn broken_answers() {
    let answers = [
        "",
        "SSH-2.0-OpenSSH_9.6\r\n",
        "HTTP/1.1 200",
        "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
    ];
    for answer in answers {
        let address = canned(answer).await;
        assert_eq!(fault_of(&format!("http://{address}/")).await, Fault::Broken, "{answer:?}");
    }
    let receiver = receiver("close").await;
    assert_eq!(fault_of(&receiver.url()).await, Fault::Broken);
}

#[tokio::test]
async fn a_url_that_makes_no_request_is_unusable() {
    for url in ["ftp://example.com/", "mailto:lead@example.com", "file:///etc/hosts", "http://user:pass@127.0.0.1:1/"] {
        assert_eq!(fault_of(url).await, Fault::UnusableTarget, "{url}");
    }
}

#[tokio::test]
async fn connections_are_used_again_after_a_whole_answer() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap()).parse().unwrap();
    // Accepts once: a second connection would never be answered.
    let server = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await?;
        for _ in 0..3 {
            answer_one(&mut stream).await?;
        }
        io::Result::Ok(())
    });
    let poster = poster();
    for _ in 0..3 {
        let exchange = poster.post(to("acme", &url, LONG), HeaderMap::new(), Bytes::from_static(b"{}")).await;
        assert_eq!(answer_of(exchange).status, 200);
    }
    server.await.unwrap().unwrap();
}

async fn answer_one(stream: &mut TcpStream) -> io::Result<()> {
    let mut request = Vec::new();
    while !request.ends_with(b"\r\n\r\n{}") {
        stream.read_buf(&mut request).await?;
    }
    stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await
}

#[tokio::test]
async fn a_dropped_post_closes_its_connection() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap()).parse().unwrap();
    let poster = poster();
    let posting =
        tokio::spawn(async move { poster.post(to("acme", &url, LONG), HeaderMap::new(), Bytes::new()).await });
    let (mut stream, _) = listener.accept().await.unwrap();
    let mut request = [0; 4];
    stream.read_exact(&mut request).await.unwrap();
    posting.abort();
    // Ends only when the other side has closed.
    tokio::io::copy(&mut stream, &mut tokio::io::sink()).await.unwrap();
    assert!(posting.await.unwrap_err().is_cancelled());
}

#[test]
fn snippets_are_short_and_safe_to_show() {
    assert_eq!(snippet(b""), None);
    assert_eq!(snippet(b" \r\n\0"), None);
    assert_eq!(snippet(b"no\x1b[31m\r\nred").as_deref(), Some("no [31m  red"));
    for unsafe_to_show in ['\u{202e}', '\u{2066}', '\u{200f}', '\u{61c}', '\u{2028}', '\u{e0041}'] {
        assert_eq!(snippet(format!("a{unsafe_to_show}b").as_bytes()).as_deref(), Some("a b"));
    }
    assert_eq!(snippet(&[0xff; 256]).unwrap().len(), 255);
    let cut = snippet("ä".repeat(200).as_bytes()).unwrap();
    assert_eq!((cut.len(), cut.chars().count()), (256, 128));
}
