//! A proxy gets only addresses that have passed the guard, and its own faults are not the receiver's.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicBool, AtomicUsize, Ordering},
};

use super::{
    names::{self, NameServer},
    *,
};
use crate::settings::{ProxyUrl, Rotating};

/// A proxy that records its requests. It answers CONNECT with a status, or tunnels to a given address.
struct Proxy {
    url: ProxyUrl,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Proxy {
    /// `answer` is the whole head of the answer. With `to`, the bytes after it are forwarded there.
    async fn connect(answer: &'static str, to: Option<SocketAddr>) -> Proxy {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let url = format!("http://us%65r:p%40ss@{}", listener.local_addr().unwrap()).parse().unwrap();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let noting = asked.clone();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let noting = noting.clone();
                tokio::spawn(async move {
                    let mut head = Vec::new();
                    while !head.ends_with(b"\r\n\r\n") {
                        if stream.read_buf(&mut head).await? == 0 {
                            return Ok(());
                        }
                    }
                    noting.lock().unwrap().push(String::from_utf8(head).unwrap());
                    stream.write_all(answer.as_bytes()).await?;
                    if let Some(to) = to {
                        let mut beyond = TcpStream::connect(to).await?;
                        tokio::io::copy_bidirectional(&mut stream, &mut beyond).await?;
                    }
                    io::Result::Ok(())
                });
            }
        });
        Proxy { url: ProxyUrl::new(url), asked }
    }

    /// Starts a SOCKS 5 proxy with user and password. It answers with `code`, and tunnels if that is 0.
    async fn socks(code: u8, to: SocketAddr) -> Proxy {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let url = format!("socks5://user:p%40ss@{}", listener.local_addr().unwrap()).parse().unwrap();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let noting = asked.clone();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let noting = noting.clone();
                tokio::spawn(async move {
                    let methods = read_counted(&mut stream, 1).await?;
                    assert!(methods.contains(&2), "{methods:?}");
                    stream.write_all(&[5, 2]).await?;
                    let user = read_counted(&mut stream, 1).await?;
                    let size = stream.read_u8().await?;
                    let mut password = vec![0; size.into()];
                    stream.read_exact(&mut password).await?;
                    assert_eq!((user, password), (b"user".to_vec(), b"p@ss".to_vec()));
                    stream.write_all(&[1, 0]).await?;
                    let mut head = [0; 4];
                    stream.read_exact(&mut head).await?;
                    let host = match head[3] {
                        1 => Ipv4Addr::from(stream.read_u32().await?).to_string(),
                        3 => {
                            let size = stream.read_u8().await?;
                            let mut name = vec![0; size.into()];
                            stream.read_exact(&mut name).await?;
                            String::from_utf8(name).unwrap()
                        }
                        _ => std::net::Ipv6Addr::from(stream.read_u128().await?).to_string(),
                    };
                    let port = stream.read_u16().await?;
                    noting.lock().unwrap().push(format!("{} {host}:{port}", head[3]));
                    stream.write_all(&[5, code, 0, 1, 0, 0, 0, 0, 0, 0]).await?;
                    if code == 0 {
                        let mut beyond = TcpStream::connect(to).await?;
                        tokio::io::copy_bidirectional(&mut stream, &mut beyond).await?;
                    }
                    io::Result::Ok(())
                });
            }
        });
        Proxy { url: ProxyUrl::new(url), asked }
    }

    fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

/// Reads a SOCKS message: `skip` bytes, a count, and as many bytes as the count says.
async fn read_counted(stream: &mut TcpStream, skip: usize) -> io::Result<Vec<u8>> {
    let mut head = vec![0; skip];
    stream.read_exact(&mut head).await?;
    let size = stream.read_u8().await?;
    let mut bytes = vec![0; size.into()];
    stream.read_exact(&mut bytes).await?;
    Ok(bytes)
}

/// Starts a name server. Names that begin with `inside` lead to 10.0.0.1, and all others to 127.0.0.1.
async fn name_server() -> NameServer {
    NameServer::start(|name, _| {
        let address = if name.starts_with("inside") { "10.0.0.1" } else { "127.0.0.1" };
        vec![names::Answer::Address(address.parse().unwrap())]
    })
    .await
}

fn through(proxy: &Proxy, names: &NameServer, resolves: bool) -> Sender {
    let egress = Egress {
        allow: this_machine(),
        plain_http: true,
        proxy: Some(Rotating::said(proxy.url.clone())),
        proxy_resolves: resolves,
        deny: vec!["*.denied.example".parse().unwrap()],
        name_servers: vec![names.address],
    };
    Sender::new(&egress, &Tls::default()).unwrap()
}

async fn via(sender: &Sender, url: &str) -> Result<Answer, Fault> {
    sender.post(to("acme", &url.parse().unwrap(), LONG), HeaderMap::new(), Bytes::from_static(b"{}")).await.result
}

#[tokio::test]
async fn a_connect_proxy_is_given_the_address_and_the_receiver_its_own_name() {
    let (receiver, names) = (receiver("200").await, name_server().await);
    let proxy = Proxy::connect("HTTP/1.1 200 Connection established\r\n\r\n", Some(receiver.address())).await;
    let sender = through(&proxy, &names, false);
    assert_eq!(via(&sender, "http://hooks.example:8080/in?k=1").await.unwrap().status, 200);
    let asked = proxy.asked().remove(0);
    assert!(asked.starts_with("CONNECT 127.0.0.1:8080 HTTP/1.1\r\n"), "{asked}");
    assert!(asked.to_lowercase().contains("proxy-authorization: basic dxnlcjpwqhnz"), "{asked}");
    let received = &receiver.received()[0];
    assert_eq!(received.header("host"), Some("hooks.example:8080"));
    assert_eq!((received.path.as_str(), received.query.as_deref()), ("/in", Some("k=1")));
    // The connection is used again, as without a proxy.
    assert_eq!(via(&sender, "http://hooks.example:8080/in").await.unwrap().status, 200);
    assert_eq!(proxy.asked().len(), 1);
}

#[tokio::test]
async fn a_socks_proxy_is_given_the_address_and_the_receiver_its_own_name() {
    let (receiver, names) = (receiver("200").await, name_server().await);
    let proxy = Proxy::socks(0, receiver.address()).await;
    assert_eq!(via(&through(&proxy, &names, false), "http://hooks.example:8080/").await.unwrap().status, 200);
    assert_eq!(via(&through(&proxy, &names, false), "http://[::1]:8081/").await.unwrap().status, 200);
    assert_eq!(proxy.asked(), ["1 127.0.0.1:8080", "4 ::1:8081"]);
    assert_eq!(receiver.received()[0].header("host"), Some("hooks.example:8080"));
}

#[tokio::test]
async fn a_proxy_resolves_only_where_that_is_said_and_not_all_then() {
    let (receiver, names) = (receiver("200").await, name_server().await);
    let ok = "HTTP/1.1 200 OK\r\n\r\n";
    let (connect, socks) =
        (Proxy::connect(ok, Some(receiver.address())).await, Proxy::socks(0, receiver.address()).await);
    for proxy in [&connect, &socks] {
        let ours = through(proxy, &names, false);
        assert!(matches!(via(&ours, "http://inside.example:8080/").await, Err(Fault::ForbiddenName(_))));
        assert!(matches!(via(&ours, "http://10.0.0.1:8080/").await, Err(Fault::ForbiddenAddress(_))));
        assert_eq!(proxy.asked(), [""; 0], "nothing forbidden reaches a proxy");
        let its = through(proxy, &names, true);
        for forbidden in ["http://10.0.0.1:8080/", "http://a.denied.example:8080/"] {
            let refused = via(&its, forbidden).await;
            assert!(matches!(refused, Err(Fault::ForbiddenAddress(_) | Fault::ForbiddenName(_))), "{forbidden}");
        }
        assert_eq!(via(&its, "http://inside.example:8080/").await.unwrap().status, 200);
    }
    assert!(connect.asked()[0].starts_with("CONNECT inside.example:8080 "), "{:?}", connect.asked());
    assert_eq!(socks.asked(), ["3 inside.example:8080"]);
}

#[tokio::test]
async fn what_is_wrong_with_the_proxy_is_not_the_receivers_fault() {
    let names = name_server().await;
    let gone = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let url = format!("http://{}", gone.local_addr().unwrap()).parse().unwrap();
    drop(gone);
    let gone = Proxy { url: ProxyUrl::new(url), asked: Arc::default() };
    assert_eq!(via(&through(&gone, &names, false), "https://hooks.example/").await, Err(Fault::Proxy));
    for (answer, fault) in [
        ("HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n", Fault::ProxyRefused),
        ("HTTP/1.1 500 Oops\r\nContent-Length: 0\r\n\r\n", Fault::ProxyRefused),
        ("SSH-2.0-OpenSSH\r\n", Fault::Proxy),
        ("", Fault::Proxy),
    ] {
        let proxy = Proxy::connect(answer, None).await;
        assert_eq!(via(&through(&proxy, &names, false), "https://hooks.example/").await, Err(fault), "{answer:?}");
    }
    for (code, fault) in [(1, Fault::ProxyRefused), (7, Fault::Proxy)] {
        let proxy = Proxy::socks(code, proxy_address()).await;
        assert_eq!(via(&through(&proxy, &names, false), "https://hooks.example/").await, Err(fault), "{code}");
    }
}

/// A proxy that closes each connection at once until `works` is set. Then it leads to `receiver`.
struct Failing {
    proxy: Proxy,
    connections: Arc<AtomicUsize>,
    works: Arc<AtomicBool>,
}

impl Failing {
    async fn start(receiver: SocketAddr) -> Failing {
        let behind = Proxy::connect("HTTP/1.1 200 OK\r\n\r\n", Some(receiver)).await;
        let behind: SocketAddr = behind.url.expose().socket_addrs(|| None).unwrap()[0];
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let url = format!("http://user:hunter2@{}", listener.local_addr().unwrap()).parse().unwrap();
        let (connections, works) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
        let (counting, working) = (connections.clone(), works.clone());
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                counting.fetch_add(1, Ordering::SeqCst);
                if working.load(Ordering::SeqCst) {
                    tokio::spawn(async move {
                        let mut behind = TcpStream::connect(behind).await?;
                        tokio::io::copy_bidirectional(&mut stream, &mut behind).await
                    });
                }
            }
        });
        Failing { proxy: Proxy { url: ProxyUrl::new(url), asked: Arc::default() }, connections, works }
    }
}

async fn probe_is_due(sender: &Sender) {
    let due = async {
        while sender.is_held() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(LONG, due).await.expect("a probe should become due");
}

#[tokio::test]
async fn a_proxy_that_fails_gets_one_probe_at_a_time_and_an_answer_ends_that() {
    let (receiver, names) = (receiver("200").await, name_server().await);
    let Failing { proxy, connections, works } = Failing::start(receiver.address()).await;
    let sender = through(&proxy, &names, false);
    let url = "http://hooks.example:8080/";
    assert!(!sender.is_held());
    for (round, connected) in [(1, 4), (2, 5), (3, 6)] {
        for _ in 0..10 {
            assert_eq!(via(&sender, url).await, Err(Fault::Proxy));
        }
        assert_eq!(connections.load(Ordering::SeqCst), connected, "round {round}");
        assert!(sender.is_held());
        let outage = sender.proxy_outage().unwrap().borrow().clone().expect("the proxy should have an outage");
        assert_eq!(outage.proxy, proxy.url.to_string());
        assert!(!format!("{outage:?}").contains("hunter2"), "{outage:?}");
        probe_is_due(&sender).await;
    }
    works.store(true, Ordering::SeqCst);
    assert_eq!(via(&sender, url).await.unwrap().status, 200);
    assert!(!sender.is_held());
    assert!(sender.proxy_outage().unwrap().borrow().is_none());
}

#[tokio::test]
async fn a_proxy_that_takes_no_connection_fails_within_seconds() {
    let names = name_server().await;
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
    let full = socket.listen(1).unwrap();
    let address = full.local_addr().unwrap();
    let mut queued = Vec::new();
    while let Ok(stream) = tokio::time::timeout(Duration::from_millis(200), TcpStream::connect(address)).await {
        queued.push(stream.unwrap());
    }
    let url = ProxyUrl::new(format!("http://{address}").parse().unwrap());
    let sender = through(&Proxy { url, asked: Arc::default() }, &names, false);
    let posts = (0..4).map(|_| via(&sender, "https://hooks.example/"));
    assert_eq!(futures::future::join_all(posts).await, [const { Err(Fault::Proxy) }; 4], "not a timeout");
    assert!(sender.is_held());
}

#[tokio::test]
async fn what_may_be_about_one_receiver_does_not_keep_others_from_the_proxy() {
    let names = name_server().await;
    let refusing = Proxy::connect("HTTP/1.1 407 Forbidden\r\nContent-Length: 0\r\n\r\n", None).await;
    let sender = through(&refusing, &names, false);
    for _ in 0..8 {
        assert_eq!(via(&sender, "https://hooks.example/").await, Err(Fault::ProxyRefused));
    }
    assert!(!sender.is_held());
    // It dials a receiver that hangs, for longer than the silence that would open the breaker.
    let (url, _, _) = with_one_good_connection().await;
    let dialling = through(&Proxy { url, asked: Arc::default() }, &names, false);
    assert_eq!(via(&dialling, "http://hooks.example/").await.unwrap().status, 200);
    let (url, limit) = ("http://other.example/".parse().unwrap(), crate::limits::breaker::SILENCE.mul_f64(1.2));
    let hanging = dialling.post(to("globex", &url, limit), HeaderMap::new(), Bytes::from_static(b"{}")).await;
    assert_eq!(hanging.result, Err(Fault::Timeout));
    assert!(!dialling.is_held());
}

#[tokio::test]
async fn what_the_proxy_says_of_the_receiver_is_the_receivers_fault() {
    let names = name_server().await;
    for status in ["403 Forbidden", "502 Bad Gateway", "503 Service Unavailable", "504 Gateway Timeout"] {
        let answer: &'static str = format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n").leak();
        let proxy = Proxy::connect(answer, None).await;
        let result = via(&through(&proxy, &names, false), "https://hooks.example/").await;
        assert_eq!(result, Err(Fault::Connect), "{status}");
    }
    for code in [2, 3, 4, 5, 6, 8] {
        let proxy = Proxy::socks(code, proxy_address()).await;
        assert_eq!(via(&through(&proxy, &names, false), "https://hooks.example/").await, Err(Fault::Connect), "{code}");
    }
}

/// Starts a proxy that serves its first connection and never answers on others. Returns its URL, the number of these
/// others, and how many of them are open.
async fn with_one_good_connection() -> (ProxyUrl, Arc<AtomicUsize>, Arc<AtomicUsize>) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let url = ProxyUrl::new(format!("http://{}", listener.local_addr().unwrap()).parse().unwrap());
    let (mute, open) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (came, still) = (mute.clone(), open.clone());
    tokio::spawn(async move {
        let (mut first, _) = listener.accept().await?;
        tokio::spawn(async move {
            let mut buffer = [0; 4096];
            let mut answer = "HTTP/1.1 200 Connection established\r\n\r\n";
            while first.read(&mut buffer).await? > 0 {
                first.write_all(answer.as_bytes()).await?;
                answer = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
                // Long enough for another request to ask for its own connection.
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
            io::Result::Ok(())
        });
        while let Ok((mut stream, _)) = listener.accept().await {
            came.fetch_add(1, Ordering::SeqCst);
            still.fetch_add(1, Ordering::SeqCst);
            let still = still.clone();
            tokio::spawn(async move {
                let mut buffer = [0; 4096];
                while stream.read(&mut buffer).await.is_ok_and(|read| read > 0) {}
                still.fetch_sub(1, Ordering::SeqCst);
            });
        }
        io::Result::Ok(())
    });
    (url, mute, open)
}

#[tokio::test]
async fn connections_that_no_exchange_waits_for_are_given_up() {
    let (url, mute, open) = with_one_good_connection().await;
    let proxy = Some(Rotating::said(url));
    let egress = Egress { allow: this_machine(), plain_http: true, proxy, proxy_resolves: true, ..Egress::default() };
    let sender = Sender::with_deadline(&egress, &Tls::default(), Duration::from_secs(1)).unwrap();
    // All of these requests but one ask for their own connection, and get the first one's as it becomes free.
    let posts = (0..4).map(|_| via(&sender, "http://hooks.example/"));
    let done = futures::future::join_all(posts).await;
    assert!(done.iter().any(Result::is_ok), "{done:?}");
    assert!(mute.load(Ordering::SeqCst) > 0, "no other connection was made");
    let all_closed = async {
        while open.load(Ordering::SeqCst) > 0 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), all_closed)
        .await
        .expect("a connection that no exchange waits for stays open");
}

/// An address that is never connected to: the proxies that get it refuse.
fn proxy_address() -> SocketAddr {
    (Ipv4Addr::LOCALHOST, 1).into()
}

#[test]
fn settings_show_no_credentials_of_a_proxy() {
    let url = ProxyUrl::new("http://user:hunter2@proxy.example:3128".parse().unwrap());
    for shown in [url.to_string(), format!("{url:?}")] {
        assert!(
            shown.contains("http://proxy.example:3128") && !shown.contains("hunter2") && !shown.contains("user"),
            "{shown}"
        );
    }
}
