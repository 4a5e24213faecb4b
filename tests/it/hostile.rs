//! Receivers that mean harm: bodies and headers without end, bombs, floods, resets. The worker keeps its memory and its time, and
//! makes one request for each attempt.

use std::{
    collections::BTreeMap,
    io,
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::{
    ServerConfig,
    pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer},
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpListener,
};
use tokio_rustls::TlsAcceptor;

use crate::harness::{PATIENCE, World, event, eventually, receiver};

/// Jobs for each of them.
const JOBS: usize = 4;

/// Seconds; the targets' timeout.
const TIMEOUT: u64 = 4;

/// What is written once, and what again and again behind it.
struct Behaviour {
    name: &'static str,
    http2: bool,
    first: Vec<u8>,
    again: Vec<u8>,
    /// How its attempts may end: `delivered`, or with a reason. What goes on without end breaks a limit, or on a busy machine
    /// comes to the timeout first.
    outcomes: &'static [&'static str],
}

fn behaviours() -> Vec<Behaviour> {
    let plain = |name, first: &str, again: &str, outcomes| Behaviour {
        name,
        http2: false,
        first: first.as_bytes().to_vec(),
        again: again.as_bytes().to_vec(),
        outcomes,
    };
    let http2 = |name, frames: &[Vec<u8>], again: Vec<u8>, outcomes| Behaviour {
        name,
        http2: true,
        first: [frame(4, 0, 0, &[])].iter().chain(frames).flatten().copied().collect(),
        again,
        outcomes,
    };
    const OK: &str = "HTTP/1.1 200 OK\r\n";
    let long = "x".repeat(8000);
    // The head of a gzip stream, and then what unpacks to zeros a thousand times as long.
    let bomb = format!("{OK}Content-Encoding: gzip\r\n\r\n\x1f");
    vec![
        plain("bomb", &bomb, &"\0".repeat(8192), &["delivered"]),
        plain("drip", &format!("{OK}Content-Length: 9999\r\n\r\n"), "x", &["timeout"]),
        plain("drip-of-headers", OK, "X", &["timeout"]),
        plain("endless-headers", OK, &format!("X-Header: {long}\r\n"), &["broken", "timeout"]),
        plain("many-headers", OK, &"X: y\r\n".repeat(50), &["broken", "timeout"]),
        plain("endless-status-line", "HTTP/1.1 200 ", &long, &["broken", "timeout"]),
        plain("continue-for-ever", "", "HTTP/1.1 100 Continue\r\n\r\n", &["timeout"]),
        plain("hints-for-ever", "", &format!("HTTP/1.1 103 Early Hints\r\nLink: {long}\r\n\r\n"), &["timeout"]),
        plain(
            "switching",
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
            "",
            &["status", "broken"],
        ),
        plain("too-short", &format!("{OK}Content-Length: 10\r\n\r\nhalf"), "", &["broken"]),
        plain("too-long", &format!("{OK}Content-Length: 2\r\n\r\nok and more"), "", &["delivered"]),
        plain("two-lengths", &format!("{OK}Content-Length: 1\r\nContent-Length: 2\r\n\r\nok"), "", &["broken"]),
        plain(
            "chunk-of-exabytes",
            &format!("{OK}Transfer-Encoding: chunked\r\n\r\nffffffffffffff\r\n"),
            &long,
            &["delivered"],
        ),
        plain(
            "extension-for-ever",
            &format!("{OK}Transfer-Encoding: chunked\r\n\r\n1;"),
            &long,
            &["broken", "timeout"],
        ),
        plain(
            "trailers-for-ever",
            &format!("{OK}Transfer-Encoding: chunked\r\n\r\n0\r\n"),
            &format!("X: {long}\r\n"),
            &["broken", "timeout"],
        ),
        plain("nothing", "", "", &["broken"]),
        http2("h2-reset", &[frame(3, 0, 1, &[0, 0, 0, 2])], Vec::new(), &["broken"]),
        http2("h2-refused", &[frame(3, 0, 1, &[0, 0, 0, 7])], Vec::new(), &["broken"]),
        http2("h2-goaway", &[frame(7, 0, 0, &[0; 8])], Vec::new(), &["broken"]),
        http2("h2-pings", &[], frame(6, 0, 0, &[0; 8]), &["timeout", "broken"]),
        http2("h2-settings", &[], frame(4, 0, 0, &[]), &["timeout", "broken"]),
        http2("h2-headers-for-ever", &[frame(1, 0, 1, &[0x88])], frame(9, 0, 1, &field()), &["broken", "timeout"]),
        // It sends more than it was allowed to: what comes first is the end of what is read of a body, or the breach.
        http2(
            "h2-endless-body",
            &[frame(1, 4, 1, &[0x88])],
            frame(0, 0, 1, &[0; 8192]),
            &["delivered", "timeout", "broken"],
        ),
    ]
}

/// A frame of HTTP/2 (RFC 9113, section 4.1).
fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let size = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&size[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// A header field of 4,000 bytes, not indexed and not compressed (RFC 7541, section 6.2.2).
fn field() -> Vec<u8> {
    // 4,000 = 127 + 33 + 30 * 128
    [&[0, 1, b'x', 127, 128 + 33, 30][..], &[b'y'; 4000]].concat()
}

/// Serves until the test is over; returns its address and how many connections there were.
async fn serve(behaviour: Behaviour, tls: Option<TlsAcceptor>) -> (SocketAddr, Arc<AtomicUsize>) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let connections = Arc::new(AtomicUsize::new(0));
    let (behaviour, counting) = (Arc::new(behaviour), connections.clone());
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            counting.fetch_add(1, Ordering::SeqCst);
            let (behaviour, tls) = (behaviour.clone(), tls.clone());
            tokio::spawn(async move {
                match tls {
                    None => behave(&behaviour, stream).await,
                    Some(tls) => behave(&behaviour, tls.accept(stream).await?).await,
                }
            });
        }
    });
    (address, connections)
}

async fn behave(behaviour: &Behaviour, mut stream: impl AsyncRead + AsyncWrite + Unpin) -> io::Result<()> {
    let mut request = Vec::new();
    // The whole request; of HTTP/2 its headers are enough, which come with the body or right before it.
    let whole = |request: &[u8]| request.ends_with(b"}") || (behaviour.http2 && request.len() > 200);
    while !whole(&request) {
        if stream.read_buf(&mut request).await? == 0 {
            return Ok(());
        }
    }
    stream.write_all(&behaviour.first).await?;
    stream.flush().await?;
    let slowly = behaviour.again.len() == 1;
    while !behaviour.again.is_empty() {
        stream.write_all(&behaviour.again).await?;
        stream.flush().await?;
        // Not faster than a network: the worker under test shares two cores with this.
        tokio::time::sleep(Duration::from_millis(if slowly { 100 } else { 1 })).await;
    }
    stream.shutdown().await?;
    tokio::io::copy(&mut stream, &mut tokio::io::sink()).await.map(drop)
}

/// A certificate for this machine, and the file that makes it trusted.
fn certificate(world: &World) -> (TlsAcceptor, String) {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    let file = world.directory.path().join("ca.pem");
    std::fs::write(&file, authority.pem()).unwrap();
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
    let certificate = params.signed_by(&key, &authority).unwrap().der().clone();
    let key: PrivateKeyDer<'static> = PrivatePkcs8KeyDer::from(key.serialize_der()).into();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)
        .unwrap();
    config.alpn_protocols = vec![b"h2".to_vec()];
    (TlsAcceptor::from(Arc::new(config)), file.to_str().unwrap().to_owned())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hostile_receivers_cost_neither_memory_nor_time() {
    let world = World::new().await;
    let (tls, ca_file) = certificate(&world);
    let decent = receiver("200").await;
    let mut store = format!(
        "organizations:\n  acme:\n    webhook: {{ url: {}, events: \"*\", retry_attempts: 1, timeout: {TIMEOUT} }}\n    \
         campaigns:\n      decent: {{}}\n",
        decent.url()
    );
    let mut expected = BTreeMap::new();
    let mut servers = Vec::new();
    for behaviour in behaviours() {
        let (name, http2, outcomes) = (behaviour.name, behaviour.http2, behaviour.outcomes);
        let (address, connections) = serve(behaviour, http2.then(|| tls.clone())).await;
        let scheme = if http2 { "https" } else { "http" };
        store.push_str(&format!(
            "      {name}: {{ override: true, webhook: {{ url: \"{scheme}://{address}/\", events: \"*\" }} }}\n"
        ));
        expected.insert(name, outcomes);
        servers.push((name, http2, connections));
    }
    world.store(&store);
    let environment = [("LEADHOOK__TLS__CA_FILE", ca_file.as_str()), ("LEADHOOK__LOG__LEVEL", "info")];
    let worker = world.worker(&environment).await;

    // What it needs without them: the broker, connections, buffers.
    world.publish_many((0..100).map(|n| event("decent", n))).await;
    decent.wait_for(100, PATIENCE).await.unwrap();
    let level = worker.metric("process_resident_memory_bytes", "").await;

    let names = expected.keys().copied();
    let events: Vec<_> = names.flat_map(|name| (0..JOBS as u32).map(move |n| event(name, n))).collect();
    let jobs = events.len();
    world.publish_many(events).await;
    let (mut peak, mut failed) = (level, 0);
    eventually("all of them settled", async || {
        peak = peak.max(worker.metric("process_resident_memory_bytes", "").await);
        failed = worker.metric("leadhook_jobs_total", "failed").await as usize;
        let delivered = worker.metric("leadhook_jobs_total", "delivered").await as usize - 100;
        (failed + delivered == jobs).then_some(())
    })
    .await;
    let more = (peak - level) / f64::from(1 << 20);
    println!("{more:.1} MiB more than {:.1} MiB", level / f64::from(1 << 20));
    assert!(more < 20.0, "{more:.1} MiB more than {:.1}", level / f64::from(1 << 20));

    let longest = Duration::from_secs(TIMEOUT + 1).as_millis() as u64;
    let mut failures: BTreeMap<_, usize> = BTreeMap::new();
    for record in world.take("failed", failed).await {
        let campaign = record.text("leadhook-campaign").unwrap();
        let history = record.history();
        assert_eq!(history.len(), 2, "{campaign}: one retry");
        for entry in history {
            let outcomes = expected[campaign.as_str()];
            assert!(outcomes.contains(&entry.reason.as_str()), "{campaign}: {} is none of {outcomes:?}", entry.reason);
            assert!(entry.ms <= longest, "{campaign}: {} ms", entry.ms);
        }
        *failures.entry(campaign).or_default() += 1;
    }
    for (name, http2, connections) in servers {
        let failed = failures.remove(name).unwrap_or_default();
        let connections = connections.load(Ordering::SeqCst);
        println!("{name}: {failed} of {JOBS} failed, {connections} connections");
        match expected[name] {
            ["delivered"] => assert_eq!(failed, 0, "{name}"),
            outcomes if outcomes.contains(&"delivered") => {}
            _ => assert_eq!(failed, JOBS, "{name}"),
        }
        // HTTP/2 shares connections; all others break theirs, so that there is one for each attempt and no more.
        let attempts = JOBS + failed;
        assert!(
            if http2 { connections <= 2 * JOBS } else { connections == attempts },
            "{name}: {connections} for {attempts}"
        );
    }
    worker.stop().await;
}
