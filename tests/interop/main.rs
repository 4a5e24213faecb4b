//! `make interop`: checks a worker's signatures with the official Standard Webhooks libraries of Python and JavaScript,
//! in the receivers beside this file. (tests/it/deliveries.rs uses the Rust library.) It also checks how a worker reads
//! the answers of httpbin, an independent HTTP server for testing clients.
//!
//!     interop PYTHON NODE DIRECTORY      the interpreters, and the directory of the receivers and their packages
//!
//! The exit status is 1 if a receiver refuses a valid signature or accepts an invalid one.

use std::{
    net::{Ipv4Addr, TcpListener},
    path::Path,
    process::{Child, Command, ExitCode, Stdio},
};

/// The rig: worlds, nodes and workers.
#[path = "../rig/mod.rs"]
mod rig;

use rig::harness::{World, event, eventually};

const OLD: &str = "whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3";
const NEW: &str = "whsec_//79/Pv6+fj39vX08/Lx8O/u7ezr6uno5+bl5OPi4eDf3t3c29rZ2NfW1dTT0tHQz87NzMvKycjHxsXEw8LBwA==";
const STRANGE: &str = "whsec_YWJjZGVmZ2hpamtsbW5vcHFyc3R1dnd4";

struct Receiver {
    child: Child,
    url: String,
}

impl Drop for Receiver {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

async fn start(interpreter: &str, script: &Path, secret: &str) -> Receiver {
    // The port is free now, and another process is unlikely to take it within a moment.
    let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port").local_addr().expect("its address").port();
    let mut command = Command::new(interpreter);
    command.arg(script).arg(port.to_string()).env("WEBHOOK_SECRET", secret);
    let child = command.spawn().unwrap_or_else(|error| panic!("{interpreter}: {error}"));
    eventually("the receiver listens", async || tokio::net::TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.ok())
        .await;
    Receiver { child, url: format!("http://127.0.0.1:{port}/") }
}

#[tokio::main]
async fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [python, node, directory] = &arguments[..] else {
        eprintln!("interop PYTHON NODE DIRECTORY (make interop knows them)");
        return ExitCode::from(2);
    };
    let mut good = true;
    for (language, interpreter, script) in [("Python", python, "receive.py"), ("JavaScript", node, "receive.mjs")] {
        for (secret, which, takes) in
            [(OLD, "the old secret", true), (NEW, "the new secret", true), (STRANGE, "another secret", false)]
        {
            let receiver = start(interpreter, &Path::new(directory).join(script), secret).await;
            let world = World::new().await;
            // In the middle of a rotation, both secrets are active.
            world.simple_store(&receiver.url, &format!("retry_attempts: 1\nsigning_secrets: [{OLD}, {NEW}]"));
            let worker = world.worker(&[]).await;
            let mut events: Vec<String> = (0..5).map(|n| event("ABC", n)).collect();
            // A parser that writes these bodies again would change their bytes.
            events.push(event("ABC", 5).replace("\":", "\" :  "));
            events.push(event("ABC", 6).replace("John", "J\\u00f6hn Sm\u{ef}th \u{1f600}"));
            let count = events.len();
            world.publish_many(events).await;
            eventually("all are settled", async || {
                let settled = ["delivered", "failed"].map(|outcome| worker.metric("leadhook_jobs_total", outcome));
                let [delivered, failed] = settled;
                (delivered.await + failed.await >= count as f64).then_some(())
            })
            .await;
            let delivered = worker.metric("leadhook_jobs_total", "delivered").await as usize;
            worker.stop().await;
            let expected = if takes { count } else { 0 };
            println!("{language:10}  {which:14}  {delivered} of {count} accepted, {expected} expected");
            good &= delivered == expected;
        }
    }
    good &= httpbin(python).await;
    if good { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Campaign, path of httpbin, and the expected result: `delivered`, or the reason of the failed attempts.
const ANSWERS: [(&str, &str, &str); 13] = [
    ("post", "/post", "delivered"),
    ("anything", "/anything", "delivered"),
    ("no-content", "/status/204", "delivered"),
    ("headers", "/response-headers?X-Many=1&X-More=2", "delivered"),
    ("slow", "/delay/1", "delivered"),
    ("too-slow", "/delay/9", "timeout"),
    ("not-there", "/status/404", "status"),
    ("not-allowed", "/gzip", "status"),
    ("gone", "/status/410", "gone"),
    ("pushback", "/status/429", "pushback"),
    ("error", "/status/500", "status"),
    ("redirect", "/redirect-to?url=/post&status_code=307", "redirect"),
    ("random", "/status/201,202,500,503", ""),
];

/// The timeout of the targets, in seconds.
const TIMEOUT: u64 = 3;

async fn httpbin(python: &str) -> bool {
    let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port").local_addr().expect("its address").port();
    let server = "import sys; from httpbin import app; app.run(port=int(sys.argv[1]), threaded=True)";
    let mut command = Command::new(python);
    command.args(["-c", server, &port.to_string()]).stdout(Stdio::null()).stderr(Stdio::null());
    let child = command.spawn().expect("python");
    let _server = Receiver { child, url: String::new() };
    eventually("httpbin listens", async || tokio::net::TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.ok())
        .await;

    let world = World::new().await;
    let mut store = format!(
        "organizations:\n  acme:\n    webhook: {{ url: \"http://127.0.0.1:{port}/post\", events: \"*\", retry_attempts: 1, timeout: \
         {TIMEOUT} }}\n    campaigns:\n"
    );
    for (campaign, path, _) in ANSWERS {
        store.push_str(&format!(
            "      {campaign}: {{ override: true, webhook: {{ url: \"http://127.0.0.1:{port}{path}\", events: \"*\" }} }}\n"
        ));
    }
    world.store(&store);
    let worker = world.worker(&[]).await;
    world.publish_many((0..50).map(|n| event("post", n))).await;
    let settled = async || {
        let [delivered, failed] = ["delivered", "failed"].map(|outcome| worker.metric("leadhook_jobs_total", outcome));
        (delivered.await + failed.await) as usize
    };
    eventually("the first are delivered", async || (settled().await >= 50).then_some(())).await;
    let level = worker.metric("process_resident_memory_bytes", "").await;
    let events: Vec<_> = ANSWERS.iter().flat_map(|(campaign, ..)| (100..104).map(|n| event(campaign, n))).collect();
    let count = 50 + events.len();
    world.publish_many(events).await;
    let mut peak = level;
    eventually("all are settled", async || {
        peak = peak.max(worker.metric("process_resident_memory_bytes", "").await);
        (settled().await >= count).then_some(())
    })
    .await;
    worker.stop().await;

    let mut good = true;
    let failed = world.take_all("failed").await;
    for (campaign, path, expected) in ANSWERS {
        let mine = failed.iter().filter(|record| record.text("leadhook-campaign").as_deref() == Some(campaign));
        let entries: Vec<_> = mine.flat_map(|record| record.history()).collect();
        let longest = entries.iter().map(|entry| entry.ms).max().unwrap_or_default();
        let as_expected = match expected {
            "delivered" => entries.is_empty(),
            "" => true,
            reason => entries.len() >= 4 && entries.iter().all(|entry| entry.reason == reason),
        } && longest <= (TIMEOUT + 1) * 1000;
        println!(
            "httpbin     {campaign:12}  {path:45}  {expected:10}  {} failed attempts, the longest {longest} ms{}",
            entries.len(),
            if as_expected { "" } else { "  WRONG" }
        );
        good &= as_expected;
    }
    let more = (peak - level) / f64::from(1 << 20);
    println!("httpbin     {more:.1} MiB more than {:.1} MiB", level / f64::from(1 << 20));
    good && more < 20.0
}
