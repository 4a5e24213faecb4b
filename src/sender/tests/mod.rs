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
    delivery::fault::{DnsFault, HttpFault, TlsFault},
    receiver::{Options, Receiver},
    store::target::circuit_name,
};

/// The address guard.
mod answers;
mod guard;
mod hostile_urls;
mod names;
mod oauth;
/// Proxies.
mod proxy;
/// Certificates and versions.
mod secure;

const LONG: Duration = Duration::from_secs(20);

async fn receiver(script: &str) -> Receiver {
    Receiver::start(Options { script: script.parse().unwrap(), ..Options::default() }).await.unwrap()
}

fn to<'a>(organization: &'a str, url: &'a Url, timeout: Duration) -> Post<'a> {
    let circuit = Box::leak(Box::new(circuit_name(organization, url)));
    Post {
        organization,
        url,
        circuit,
        client_certificate: None,
        ca_certificate: None,
        oauth2: None,
        timeout,
        whole_body: false,
    }
}

fn this_machine() -> Vec<egress::Rule> {
    ["127.0.0.0/8", "::1"].map(|rule| rule.parse().unwrap()).into()
}

/// Makes a sender that may call this machine over plain HTTP.
fn sender() -> Sender {
    let egress = Egress { allow: this_machine(), plain_http: true, ..Egress::default() };
    Sender::new(&egress, &Tls::default()).unwrap()
}

async fn post_within(url: &str, timeout: Duration) -> Exchange {
    let sender = sender();
    sender.post(to("acme", &url.parse().unwrap(), timeout), HeaderMap::new(), Bytes::from_static(b"{}")).await
}

async fn post(url: &str) -> Exchange {
    post_within(url, LONG).await
}

/// Starts a server that reads the first bytes, writes this answer and closes the connection.
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
    let exchange = sender().post(to("acme", &url, LONG), headers, body.clone()).await;
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
}

/// A receiver that closes an idle connection just as the next request comes has not taken that request.
#[tokio::test]
async fn a_connection_that_closes_at_once_when_it_is_used_again_is_replaced_once() {
    let (url, mut seen) = leaves_when_asked_again(Duration::ZERO).await;
    let sender = sender();
    let call = async |body| sender.post(to("acme", &url, LONG), HeaderMap::new(), Bytes::from_static(body)).await;
    assert!(!call(b"{1}").await.replaced);
    let second = call(b"{2}").await;
    assert!(second.replaced);
    assert_eq!(answer_of(second).status, 200);
    let requests: Vec<_> = std::iter::from_fn(|| seen.try_recv().ok()).collect();
    assert_eq!(requests, [(0, '1'), (0, '2'), (1, '2')]);
}

/// After a second the receiver may have taken the lead.
#[tokio::test]
async fn a_connection_that_closes_later_is_not_replaced() {
    let (url, mut seen) = leaves_when_asked_again(Duration::from_millis(1200)).await;
    let sender = sender();
    let call = async |body| sender.post(to("acme", &url, LONG), HeaderMap::new(), Bytes::from_static(body)).await;
    assert_eq!(answer_of(call(b"{1}").await).status, 200);
    let second = call(b"{2}").await;
    assert_eq!((second.result, second.replaced), (Err(Fault::Http(HttpFault::Closed)), false));
    let requests: Vec<_> = std::iter::from_fn(|| seen.try_recv().ok()).collect();
    assert_eq!(requests, [(0, '1'), (0, '2')], "both came over one connection, each once");
}

/// Once the first byte of an answer has come, the receiver has taken the request.
#[tokio::test]
async fn a_connection_that_closes_within_an_answer_is_not_replaced() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap()).parse().unwrap();
    let server = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await?;
        answer_one(&mut stream).await?;
        let mut request = Vec::new();
        while !request.ends_with(b"\r\n\r\n{}") {
            stream.read_buf(&mut request).await?;
        }
        stream.write_all(b"HT").await?;
        drop(stream);
        io::Result::Ok(listener)
    });
    let sender = sender();
    let call = async || sender.post(to("acme", &url, LONG), HeaderMap::new(), Bytes::from_static(b"{}")).await;
    assert_eq!(answer_of(call().await).status, 200);
    let second = call().await;
    assert_eq!((second.result, second.replaced), (Err(Fault::Http(HttpFault::Closed)), false));
    let listener = server.await.unwrap().unwrap();
    assert!(futures::FutureExt::now_or_never(listener.accept()).is_none(), "another connection was made");
}

/// Starts a server that answers the first request of each connection, reads the second one, and closes the connection
/// after `pause`. Returns its URL, and a channel that says which request came over which connection.
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
async fn the_deadline_covers_waiting() {
    for script in ["hang", "200@60s"] {
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
    assert_eq!(fault_of(&format!("http://{}.invalid/", "a".repeat(64))).await, Fault::Dns(DnsFault::NoSuchName));
}

#[tokio::test]
async fn a_name_is_resolved_and_keeps_the_urls_port() {
    let receiver = receiver("200").await;
    let url = format!("http://localhost:{}/", receiver.address().port());
    assert_eq!(answer_of(post(&url).await).status, 200);
}

/// The other address has a full backlog, so it never answers.
#[tokio::test]
async fn a_first_address_that_says_nothing_costs_a_moment() {
    let receiver = receiver("200").await;
    let port = receiver.address().port();
    let black_hole = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    black_hole.bind(&SocketAddr::from(([127, 0, 0, 2], port)).into()).unwrap();
    black_hole.listen(0).unwrap();
    let connect = || TcpStream::connect(("127.0.0.2", port));
    let mut filling = Vec::new();
    while let Ok(connected) = tokio::time::timeout(Duration::from_millis(200), connect()).await {
        filling.push(connected.unwrap());
    }
    let names = names::NameServer::start(|_, _| {
        ["127.0.0.2", "127.0.0.1"].map(|text| names::Answer::Address(text.parse().unwrap())).into()
    })
    .await;
    let name_servers = vec![names.address];
    let egress = Egress { allow: this_machine(), plain_http: true, name_servers, ..Egress::default() };
    let sender = Sender::new(&egress, &Tls::default()).unwrap();
    let url = format!("http://hooks.example:{port}/").parse().unwrap();
    let exchange = sender.post(to("acme", &url, LONG), HeaderMap::new(), Bytes::from_static(b"{}")).await;
    assert!(exchange.elapsed < Duration::from_secs(3), "{:?}", exchange.elapsed);
    assert_eq!(answer_of(exchange).status, 200);
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
    let sender = sender();
    for _ in 0..3 {
        let exchange = sender.post(to("acme", &url, LONG), HeaderMap::new(), Bytes::from_static(b"{}")).await;
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
    let sender = sender();
    let posting =
        tokio::spawn(async move { sender.post(to("acme", &url, LONG), HeaderMap::new(), Bytes::new()).await });
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
