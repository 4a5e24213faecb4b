//! Only public addresses are ever connected to, however the URL writes them and whatever a name server answers.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use tokio::net::TcpListener;

use super::hostile_urls::{LITERALS, NAMED};
use super::{
    names::{Answer, NameServer},
    *,
};
use crate::egress::special;

/// Counts the connections to one port on all local addresses.
struct Watch {
    port: u16,
    connections: Arc<AtomicUsize>,
}

impl Watch {
    async fn start() -> Watch {
        // Both families, and every address of this machine: loopback and those of its networks.
        let listener = match TcpListener::bind((Ipv6Addr::UNSPECIFIED, 0)).await {
            Ok(listener) => listener,
            Err(_) => TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0)).await.unwrap(),
        };
        let port = listener.local_addr().unwrap().port();
        let connections = Arc::new(AtomicUsize::new(0));
        let counting = connections.clone();
        tokio::spawn(async move {
            while listener.accept().await.is_ok() {
                counting.fetch_add(1, Ordering::SeqCst);
            }
        });
        let watch = Watch { port, connections };
        // Prove that it counts: a check that cannot fail is worthless.
        drop(TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.unwrap());
        while watch.count() == 0 {
            tokio::task::yield_now().await;
        }
        watch.connections.store(0, Ordering::SeqCst);
        watch
    }

    fn count(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }
}

/// Makes a sender without exceptions, except for plain HTTP.
fn guarded(name_servers: &[SocketAddr]) -> Sender {
    let egress = Egress { plain_http: true, name_servers: name_servers.to_vec(), ..Egress::default() };
    Sender::new(&egress, &Tls::default()).unwrap()
}

async fn forbidden(sender: &Sender, url: &str) -> Result<(), String> {
    let url = url.parse().map_err(|error| format!("{url}: {error}"))?;
    let exchange = sender.post(to("acme", &url, LONG), HeaderMap::new(), Bytes::from_static(b"{}")).await;
    match exchange.result {
        Err(Fault::ForbiddenAddress(_) | Fault::ForbiddenName(_)) => Ok(()),
        other => Err(format!("{url}: {other:?}")),
    }
}

fn address(text: &str) -> Answer {
    Answer::Address(text.parse().unwrap())
}

/// Runs before anything is dialled, so that the test never calls strangers if the guard is broken.
fn all_are_special() {
    for literal in LITERALS {
        let url: Url = format!("http://{literal}:1/").parse().unwrap_or_else(|error| panic!("{literal}: {error}"));
        let host = url.host_str().unwrap();
        let address = resolver::literal(host).unwrap_or_else(|| panic!("{literal} is not an address: {host}"));
        assert!(special(address).is_some(), "{literal} is public: {address}");
    }
    for (name, addresses) in NAMED {
        let special = |text: &&str| special(text.parse().unwrap()).is_some();
        assert!(addresses.iter().any(special), "{name}");
    }
}

#[tokio::test]
async fn no_hostile_url_and_no_hostile_answer_connects() {
    all_are_special();
    let watch = Watch::start().await;
    let names = NameServer::start(|name, _| {
        let label = name.split('.').next().unwrap_or_default();
        let aliased = label.strip_prefix("alias-");
        let found = NAMED.iter().find(|(known, _)| *known == aliased.unwrap_or(label));
        let addresses = found.into_iter().flat_map(|(_, addresses)| addresses.iter().map(|text| address(text)));
        let alias = aliased.map(|to| Answer::Alias(format!("{to}.inside.example")));
        alias.into_iter().chain(addresses).collect()
    })
    .await;
    let sender = guarded(&[names.address]);
    let mut urls: Vec<String> = Vec::new();
    for literal in LITERALS {
        urls.push(format!("http://{literal}:{}/hooks?key=1", watch.port));
    }
    // With TLS the same holds, before the handshake.
    urls.extend(["127.0.0.1", "[::1]", "0x7f.1"].map(|host| format!("https://{host}:{}/", watch.port)));
    for (name, _) in NAMED {
        urls.push(format!("http://{name}.tenant.example:{}/", watch.port));
        urls.push(format!("http://{name}.tenant.example.:{}/", watch.port));
        urls.push(format!("http://alias-{name}.tenant.example:{}/", watch.port));
    }
    urls.push(format!("http://LOOPBACK.Tenant.Example:{}/", watch.port));
    assert!(urls.len() >= 120, "{} URLs", urls.len());
    let mut wrong = Vec::new();
    for url in &urls {
        wrong.extend(forbidden(&sender, url).await.err());
    }
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), urls.len(), wrong.join("\n"));
    assert_eq!(watch.count(), 0, "connections");
}

#[tokio::test]
async fn localhost_is_no_way_around() {
    let watch = Watch::start().await;
    let sender = guarded(&[]);
    for host in ["localhost", "LOCALHOST", "localhost.", "ⓛocalhost"] {
        let url = format!("http://{host}:{}/", watch.port);
        forbidden(&sender, &url).await.unwrap();
    }
    assert_eq!(watch.count(), 0);
}

/// User information, a backslash, a fragment: a reader may take another part for the host, but only the dialled one
/// counts.
#[tokio::test]
async fn no_trick_of_notation_makes_an_inside_host_look_like_another() {
    let watch = Watch::start().await;
    let sender = guarded(&[]);
    for url in [
        format!("http://public.example@127.0.0.1:{}/", watch.port),
        format!("http://public.example:80@127.0.0.1:{}/", watch.port),
        format!("http://public.example%00@[::1]:{}/", watch.port),
    ] {
        let exchange =
            sender.post(to("acme", &url.parse().unwrap(), LONG), HeaderMap::new(), Bytes::from_static(b"{}")).await;
        assert_eq!(exchange.result, Err(Fault::UnusableTarget), "{url}");
    }
    for url in [
        format!("http:\\\\127.0.0.1:{}\\@public.example", watch.port),
        format!("http:///127.0.0.1:{}/", watch.port),
        format!("http://127.0.0.1:{}#@public.example/", watch.port),
        format!("http://127.0.0.1:{}?@public.example/", watch.port),
        format!("HTTP://127.0.0.1:{}/", watch.port),
        format!("http://12\t7.0.0.1:{}/", watch.port),
    ] {
        forbidden(&sender, &url).await.unwrap();
    }
    assert_eq!(watch.count(), 0);
}

/// "Public" is 127.0.0.2 here, which a rule allows, because the test must not call strangers.
#[tokio::test]
async fn a_name_that_leads_outside_first_and_inside_later_gets_one_connection() {
    let outside = TcpListener::bind("127.0.0.2:0").await.unwrap();
    let port = outside.local_addr().unwrap().port();
    let inside = TcpListener::bind(("127.0.0.1", port)).await.unwrap();
    let reached = Arc::new(AtomicUsize::new(0));
    let counting = reached.clone();
    tokio::spawn(async move {
        while inside.accept().await.is_ok() {
            counting.fetch_add(1, Ordering::SeqCst);
        }
    });
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = outside.accept().await {
            let mut request = Vec::new();
            while !request.ends_with(b"{}") {
                if stream.read_buf(&mut request).await.unwrap_or(0) == 0 {
                    break;
                }
            }
            // The connection is not kept, so the next attempt has to ask for the name again.
            let answer = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok";
            let _ = stream.write_all(answer).await;
        }
    });
    for inside in ["127.0.0.1", "10.0.0.1", "169.254.169.254", "::1", "0.0.0.0", "::ffff:127.0.0.1"] {
        let inside: IpAddr = inside.parse().unwrap();
        let names = NameServer::start(move |_, asked| match asked {
            0 => vec![address("127.0.0.2")],
            _ => vec![Answer::Address(inside)],
        })
        .await;
        let egress = Egress {
            allow: vec!["127.0.0.2".parse().unwrap()],
            plain_http: true,
            name_servers: vec![names.address],
            ..Egress::default()
        };
        let sender = Sender::new(&egress, &Tls::default()).unwrap();
        let url = format!("http://rebind.tenant.example:{port}/").parse().unwrap();
        let post = async || sender.post(to("acme", &url, LONG), HeaderMap::new(), Bytes::from_static(b"{}")).await;
        assert_eq!(answer_of(post().await).status, 200, "{inside}");
        for _ in 0..3 {
            assert!(matches!(post().await.result, Err(Fault::ForbiddenName(_))), "{inside}");
        }
    }
    assert_eq!(reached.load(Ordering::SeqCst), 0);
}

/// "Public" is 127.0.0.2 here too.
#[tokio::test]
async fn of_a_mixed_answer_only_the_public_address_is_called() {
    let outside = TcpListener::bind("127.0.0.2:0").await.unwrap();
    let port = outside.local_addr().unwrap().port();
    let inside = TcpListener::bind(("127.0.0.1", port)).await.unwrap();
    let inside6 = TcpListener::bind(("::1", port)).await;
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = outside.accept().await {
            let mut request = Vec::new();
            while !request.ends_with(b"{}") && stream.read_buf(&mut request).await.unwrap_or(0) > 0 {}
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n").await;
        }
    });
    let mixed: [&[&str]; 4] = [
        &["127.0.0.1", "127.0.0.2"],
        &["127.0.0.2", "127.0.0.1"],
        &["::1", "127.0.0.2"],
        &["10.0.0.1", "127.0.0.2", "169.254.169.254"],
    ];
    for addresses in mixed {
        let names = NameServer::start(|_, _| addresses.iter().map(|text| address(text)).collect()).await;
        let egress = Egress {
            allow: vec!["127.0.0.2".parse().unwrap()],
            plain_http: true,
            name_servers: vec![names.address],
            ..Egress::default()
        };
        let sender = Sender::new(&egress, &Tls::default()).unwrap();
        let url = format!("http://tenant.example:{port}/").parse().unwrap();
        let exchange = sender.post(to("acme", &url, LONG), HeaderMap::new(), Bytes::from_static(b"{}")).await;
        assert_eq!(answer_of(exchange).status, 200, "{addresses:?}");
    }
    let untouched = |listener: &TcpListener| futures::FutureExt::now_or_never(listener.accept()).is_none();
    assert!(untouched(&inside) && inside6.as_ref().map_or(true, untouched));
}

/// A connection that one organization may have is not given to another.
#[tokio::test]
async fn a_kept_connection_serves_only_those_whose_rules_it_was_dialled_under() {
    let receiver = receiver("200").await;
    let egress = Egress { allow: vec!["127.0.0.0/8 for acme".parse().unwrap()], plain_http: true, ..Egress::default() };
    let sender = Sender::new(&egress, &Tls::default()).unwrap();
    let url = receiver.url().parse().unwrap();
    let post = async |organization| {
        sender.post(to(organization, &url, LONG), HeaderMap::new(), Bytes::from_static(b"{}")).await
    };
    assert_eq!(answer_of(post("acme").await).status, 200);
    for other in ["globex", "", "ACME"] {
        assert!(matches!(post(other).await.result, Err(Fault::ForbiddenAddress(_))), "{other}");
    }
    assert_eq!(answer_of(post("acme").await).status, 200);
    assert_eq!(receiver.received().len(), 2);
}

#[tokio::test]
async fn plain_http_needs_to_be_allowed() {
    let watch = Watch::start().await;
    let egress = Egress { allow: vec!["127.0.0.0/8".parse().unwrap()], ..Egress::default() };
    let sender = Sender::new(&egress, &Tls::default()).unwrap();
    let url = format!("http://127.0.0.1:{}/", watch.port).parse().unwrap();
    let exchange = sender.post(to("acme", &url, LONG), HeaderMap::new(), Bytes::new()).await;
    assert_eq!(exchange.result, Err(Fault::PlainHttp));
    assert_eq!(watch.count(), 0);
}

#[tokio::test]
async fn a_denied_host_is_not_called() {
    let receiver = receiver("200").await;
    let names = NameServer::start(|_, _| vec![address("127.0.0.1")]).await;
    let egress = Egress {
        allow: vec!["127.0.0.0/8".parse().unwrap()],
        deny: vec!["*.evil.example".parse().unwrap()],
        plain_http: true,
        name_servers: vec![names.address],
        ..Egress::default()
    };
    let sender = Sender::new(&egress, &Tls::default()).unwrap();
    let post = async |host: &str| {
        let url = format!("http://{host}:{}/", receiver.address().port()).parse().unwrap();
        sender.post(to("acme", &url, LONG), HeaderMap::new(), Bytes::from_static(b"{}")).await
    };
    assert_eq!(answer_of(post("good.example").await).status, 200);
    for host in ["a.evil.example", "A.b.EVIL.example."] {
        assert_eq!(post(host).await.result, Err(Fault::ForbiddenName(crate::egress::Refusal::Denied)), "{host}");
    }
}

/// Looking up the name counts towards the attempt's timeout.
#[tokio::test]
async fn a_name_server_that_says_nothing_costs_no_more_than_the_timeout() {
    let silent = tokio::net::UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let sender = guarded(&[silent.local_addr().unwrap()]);
    let url = "http://slow.tenant.example/".parse().unwrap();
    let timeout = Duration::from_millis(300);
    let exchange = sender.post(to("acme", &url, timeout), HeaderMap::new(), Bytes::new()).await;
    assert_eq!(exchange.result, Err(Fault::Timeout));
    assert!(exchange.elapsed < timeout + Duration::from_secs(1), "{:?}", exchange.elapsed);
}
