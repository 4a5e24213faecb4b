//! Receivers that answer badly, or not at all. An accepted lead is delivered by one POST, whatever follows the status.
//! All other answers cost exactly the attempts that the store allows, each within its timeout. They take neither memory
//! nor time of the worker.

mod cases;

use std::{
    collections::BTreeMap,
    io,
    net::{Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

use self::cases::{Act, Case, End, OK, accepting, failing, say};
use crate::harness::{Message, PATIENCE, World, event, eventually, receiver};

/// Minimum number of bad 2xx answers, and of unusable answers.
const WAYS: usize = 30;

/// Timeout in seconds of the targets that fail.
const SHORT: u64 = 3;

/// Timeout in seconds of the targets that accept. Their bodies are allowed less, and a slow machine has enough time for
/// a head.
const LONG: u64 = 12;

/// Limit of the growth of resident memory, in MiB.
const MOST_MEMORY: f64 = 20.0;

/// The requests that one receiver has read, one entry for each connection.
type Seen = Arc<Mutex<Vec<Vec<u8>>>>;

/// Serves until the test ends.
async fn serve(acts: Vec<Act>) -> (SocketAddr, Seen) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let seen = Seen::default();
    let seeing = seen.clone();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let nth = {
                let mut seen = seeing.lock().unwrap();
                seen.push(Vec::new());
                seen.len() - 1
            };
            let (acts, seeing) = (acts.clone(), seeing.clone());
            tokio::spawn(async move { behave(&acts, stream, |bytes| seeing.lock().unwrap()[nth].extend(bytes)).await });
        }
    });
    (address, seen)
}

async fn behave(acts: &[Act], mut stream: TcpStream, mut saw: impl FnMut(&[u8])) -> io::Result<()> {
    let mut read = Vec::new();
    for act in acts {
        match act {
            Act::Read => {
                read.clear();
                while !read.ends_with(b"}") {
                    let mut some = [0; 4096];
                    let size = stream.read(&mut some).await?;
                    if size == 0 {
                        return Ok(());
                    }
                    saw(&some[..size]);
                    read.extend_from_slice(&some[..size]);
                }
            }
            Act::Peek => drop(stream.peek(&mut [0]).await?),
            Act::Say(bytes) => stream.write_all(bytes).await?,
            Act::Spell(bytes) => {
                for byte in bytes {
                    stream.write_all(&[*byte]).await?;
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
            }
            Act::Pause(pause) => tokio::time::sleep(*pause).await,
            // Limited to the speed of a network, because the worker under test shares two cores with this.
            Act::Repeat(bytes) => loop {
                stream.write_all(bytes).await?;
                tokio::time::sleep(Duration::from_millis(if bytes.len() == 1 { 100 } else { 1 })).await;
            },
            Act::Hang => return read_to_end(stream, saw).await,
            Act::Close => return Ok(()),
            Act::Reset => {
                socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO))?;
                return Ok(());
            }
        }
    }
    stream.shutdown().await?;
    read_to_end(stream, saw).await
}

async fn read_to_end(mut stream: TcpStream, mut saw: impl FnMut(&[u8])) -> io::Result<()> {
    let mut some = [0; 4096];
    loop {
        match stream.read(&mut some).await? {
            0 => return Ok(()),
            size => saw(&some[..size]),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bad_answers_cost_no_accepted_lead_and_no_attempt_too_many() {
    let world = World::new().await;
    let decent = receiver("200").await;
    let mut store = format!(
        "organizations:\n  acme:\n    webhook: {{ url: {}, events: \"*\", retry_attempts: 1 }}\n    campaigns:\n      decent: {{}}\n",
        decent.url()
    );
    let (accepting, failing) = (accepting(), failing());
    assert!(accepting.len() >= WAYS && failing.len() >= WAYS, "{} and {}", accepting.len(), failing.len());
    let mut receivers = BTreeMap::new();
    for Case { name, acts, end } in accepting.into_iter().chain(failing) {
        let reads = matches!(acts[0], Act::Read);
        let (address, seen) = serve(acts).await;
        let timeout = if matches!(end, End::Delivered) { LONG } else { SHORT };
        store.push_str(&format!(
            "      {name}: {{ override: true, webhook: {{ url: \"http://{address}/\", events: \"*\", timeout: {timeout} }} }}\n"
        ));
        assert!(receivers.insert(name, (end, reads, seen)).is_none(), "{name} is there twice");
    }
    world.store(&store);
    let worker = world.worker(&[("LEADHOOK__LOG__LEVEL", "info")]).await;

    // Measures the needs of the worker without bad answers: the broker, connections, buffers.
    const HEALTHY: usize = 100;
    world.publish_many((0..HEALTHY as u32).map(|n| event("decent", n))).await;
    decent.wait_for(HEALTHY, PATIENCE).await.unwrap();
    let level = worker.metric("process_resident_memory_bytes", "").await;

    world.publish_many(receivers.keys().map(|name| event(name, 0))).await;
    let (mut peak, mut failed) = (level, 0);
    eventually("all of them settled", async || {
        peak = peak.max(worker.metric("process_resident_memory_bytes", "").await);
        failed = worker.metric("leadhook_jobs_total", "failed").await as usize;
        let delivered = worker.metric("leadhook_jobs_total", "delivered").await as usize;
        (failed + delivered == HEALTHY + receivers.len()).then_some(())
    })
    .await;
    let mut wrong = Vec::new();
    let more = (peak - level) / f64::from(1 << 20);
    println!("{more:.1} MiB more than {:.1} MiB", level / f64::from(1 << 20));
    if more >= MOST_MEMORY {
        wrong.push(format!("{more:.1} MiB more than at the beginning"));
    }

    let failures: BTreeMap<_, _> = world
        .take("failed", failed)
        .await
        .into_iter()
        .map(|job| (job.text("leadhook-campaign").unwrap(), job))
        .collect();
    for (name, (end, reads, seen)) in &receivers {
        let (attempts, reasons): (_, &[&str]) = match end {
            End::Delivered => (1, &[]),
            End::Failed(reasons) => (2, reasons),
        };
        let history = failures.get(*name).map(Message::history).unwrap_or_default();
        let told: Vec<_> =
            history.iter().map(|entry| format!("{} {} {} ms", entry.attempt, entry.reason, entry.ms)).collect();
        println!("{name}: {told:?}");
        let mut check = |what: &str, holds: bool| {
            if !holds {
                wrong.push(format!("{name}: {what} {told:?}"));
            }
        };
        let reason = failures.get(*name).and_then(|job| job.text("leadhook-reason"));
        match end {
            End::Delivered => check("is not delivered", reason.is_none()),
            End::Failed(_) => {
                check("is not exhausted", reason.as_deref() == Some("exhausted"));
                check("has other attempts", history.iter().map(|entry| entry.attempt).eq(1..=2));
                check("has another reason", history.iter().all(|entry| reasons.contains(&entry.reason.as_str())));
                check("took too long", history.iter().all(|entry| entry.ms <= (SHORT + 1) * 1000));
            }
        }
        let seen = seen.lock().unwrap();
        check(&format!("has {} connections", seen.len()), seen.len() == attempts);
        if *reads {
            let numbers: Vec<_> = seen.iter().map(|request| numbers(request)).collect();
            let each_once: Vec<_> = (1..=attempts).map(|attempt| vec![attempt]).collect();
            check(&format!("got the attempts {numbers:?}"), numbers == each_once);
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    worker.stop().await;
}

/// Returns the attempt numbers that came over a connection.
fn numbers(requests: &[u8]) -> Vec<usize> {
    let text = String::from_utf8_lossy(requests);
    let headers = text.split("Leadhook-Attempt: ").skip(1);
    headers.map(|rest| rest.lines().next().unwrap_or_default().parse().expect("a number")).collect()
}

/// A second answer to one request must not count for the next request on that connection. Otherwise a lead would be
/// lost, or POSTed again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_too_many_is_not_taken_for_the_next_request() {
    const JOBS: u32 = 20;
    let twice = format!("{OK}Content-Length: 2\r\n\r\nokHTTP/1.1 410 Gone\r\nContent-Length: 0\r\n\r\n");
    let (address, seen) = serve(vec![[Act::Read, say(twice)]; JOBS as usize].concat()).await;
    let world = World::new().await;
    world.simple_store(&format!("http://{address}/"), "max_in_flight: 1");
    let worker = world.worker(&[]).await;
    world.publish_many((0..JOBS).map(|n| event("any", n))).await;
    eventually("all of them settled", async || {
        let settled = worker.metric("leadhook_jobs_total", "delivered").await
            + worker.metric("leadhook_jobs_total", "failed").await;
        (settled == f64::from(JOBS)).then_some(())
    })
    .await;
    worker.metric_is("leadhook_jobs_total", "failed", 0.0).await;
    let requests: Vec<_> = seen.lock().unwrap().iter().flat_map(|requests| numbers(requests)).collect();
    assert_eq!(requests, vec![1; JOBS as usize]);
    worker.stop().await;
}
