//! Receivers that require a token. Whatever its endpoint does, no lead is lost, none is accepted twice, and no secret
//! is shown.

use std::{
    collections::HashMap,
    net::Ipv4Addr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

use crate::harness::{World, event, eventually};

const CLIENT_SECRET: &str = "cl1ent-s3cret";

/// The prefix of all tokens.
const TOKEN: &str = "t0ken-";

const LEADS: u32 = 100;

/// Reads whole requests and answers each.
async fn serve<F>(answer: impl Fn(String) -> F + Clone + Send + Sync + 'static) -> String
where
    F: Future<Output = String> + Send,
{
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let answer = answer.clone();
            tokio::spawn(async move {
                while let Some(request) = request(&mut stream).await {
                    let answer = answer(request).await;
                    if stream.write_all(answer.as_bytes()).await.is_err() {
                        return;
                    }
                }
            });
        }
    });
    url
}

async fn request(stream: &mut TcpStream) -> Option<String> {
    let mut bytes = Vec::new();
    loop {
        let text = String::from_utf8_lossy(&bytes);
        if let Some((head, body)) = text.split_once("\r\n\r\n")
            && let Some(length) = head.lines().find_map(|line| line.strip_prefix("Content-Length: "))
            && body.len() >= length.parse().unwrap()
        {
            return Some(text.into_owned());
        }
        if stream.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    }
}

fn answer(status: &str, body: &str) -> String {
    format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n{body}", body.len())
}

fn value<'r>(request: &'r str, header: &str) -> &'r str {
    request.lines().find_map(|line| line.strip_prefix(header)).unwrap_or_default()
}

/// Counts token requests: all, concurrent now, and the maximum concurrent.
#[derive(Default)]
struct Asked {
    all: AtomicUsize,
    now: AtomicUsize,
    most: AtomicUsize,
}

/// Starts a token endpoint: slow, failing two times of five, with tokens that live for a second.
async fn endpoint(asked: Arc<Asked>) -> String {
    serve(move |request| {
        let asked = asked.clone();
        async move {
            assert!(value(&request, "Authorization: Basic ").len() > 10, "{request}");
            let nth = asked.all.fetch_add(1, SeqCst);
            asked.most.fetch_max(asked.now.fetch_add(1, SeqCst) + 1, SeqCst);
            tokio::time::sleep(Duration::from_millis(50)).await;
            asked.now.fetch_sub(1, SeqCst);
            let token = format!("{{\"access_token\":\"{TOKEN}{nth}\",\"token_type\":\"Bearer\",\"expires_in\":1}}");
            match nth % 5 {
                1 => answer("503 Service Unavailable", ""),
                2 => answer("200 OK", "<html>"),
                _ => answer("200 OK", &token),
            }
        }
    })
    .await
}

/// Starts a receiver that refuses one token in ten, and counts accepted leads by `webhook-id`.
async fn receiver(accepted: Arc<Mutex<HashMap<String, u32>>>) -> String {
    serve(move |request| {
        let accepted = accepted.clone();
        async move {
            let token = value(&request, "Authorization: Bearer ").strip_prefix(TOKEN);
            match token.and_then(|token| token.parse::<usize>().ok()) {
                Some(number) if number % 10 != 0 => {
                    *accepted.lock().unwrap().entry(value(&request, "Webhook-Id: ").to_owned()).or_default() += 1;
                    answer("200 OK", "")
                }
                _ => answer("401 Unauthorized", ""),
            }
        }
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bad_token_endpoint_loses_no_lead_and_shows_no_secret() {
    let world = World::new().await;
    let (asked, accepted) = (Arc::<Asked>::default(), Arc::<Mutex<HashMap<String, u32>>>::default());
    let (endpoint, receiver) = (endpoint(asked.clone()).await, receiver(accepted.clone()).await);
    let oauth2 = format!("{{ token_url: \"{endpoint}token\", client_id: us, client_secret: {CLIENT_SECRET} }}");
    world.simple_store(&receiver, &format!("retry_attempts: 10\noauth2: {oauth2}"));
    let worker = world.worker(&[("LEADHOOK__LOG__LEVEL", "trace"), ("LEADHOOK__BACKOFF__MAXIMUM", "1s")]).await;
    world.publish_many((0..LEADS).map(|n| event("ABC", n))).await;
    eventually("all leads are settled", async || {
        (worker.metric("leadhook_jobs_total", "outcome=\"delivered\"").await == f64::from(LEADS)).then_some(())
    })
    .await;
    let times: Vec<_> = accepted.lock().unwrap().values().copied().collect();
    assert_eq!(times, vec![1; LEADS as usize], "a lead was not accepted exactly once");
    assert_eq!(asked.most.load(SeqCst), 1, "concurrent token requests");
    let failed = worker.metric("leadhook_attempts_total", "class=\"oauth\"").await;
    assert!(failed > 0.0, "the endpoint failed nothing");

    let mut shown = worker.log();
    for path in ["/metrics", "/readyz", "/targets"] {
        shown.push_str(&worker.get(path).await.unwrap().1);
    }
    for arguments in
        [&["deliveries", "--since", "1h", "--json"][..], &["check"], &["explain", "ABC", "--event", "lead.delivered"]]
    {
        let output = world.command().args(arguments).output().unwrap();
        shown.push_str(&String::from_utf8_lossy(&output.stdout));
        shown.push_str(&String::from_utf8_lossy(&output.stderr));
    }
    assert!(shown.contains("oauth"), "the fault has no name anywhere");
    // The last one is client and secret as they are sent.
    for secret in [CLIENT_SECRET, TOKEN, "dXM6Y2wxZW50LXMzY3JldA"] {
        assert!(!shown.contains(secret), "{secret} in {:?}", shown.lines().find(|line| line.contains(secret)));
    }
    worker.stop().await;
}
