//! `make console-test`: runs the web console in a real browser, with 10,000 failed jobs, some of them hostile.
//!
//!     browser NODE SCRIPT CHROMIUM      (scripts/console-browser.sh knows them)
//!
//! The exit status is 1 if it finds a problem. browser.mjs holds the steps in the browser.

use std::process::{Command, ExitCode};

use bytes::Bytes;
use jiff::{SignedDuration, Timestamp};
use lapin::options::{BasicPublishOptions, ConfirmSelectOptions};
use leadhook::{
    delivery::reason::FailReason,
    event::{Event, EventKind},
    job::{Envelope, HistoryEntry, Job},
    store::TargetKey,
};

/// The rig: worlds, nodes and workers.
#[path = "../rig/mod.rs"]
mod rig;

use rig::harness::{Worker, World, event, eventually, leadhook, receiver};

const FAILED: u32 = 10_000;
const EVIL: &str = "<script>document.title='owned'</script>\"'><img src=x onerror=alert(1)>";

#[tokio::main]
async fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [node, script, chromium] = &arguments[..] else {
        eprintln!("browser NODE SCRIPT CHROMIUM (make console-test knows them)");
        return ExitCode::from(2);
    };
    let world = World::new().await;
    let broken = receiver("500").await;
    let fine = receiver("200").await;
    world.store(&format!(
        "default_organization: acme\norganizations:\n  acme:\n    webhook: {{ url: \"{}\", events: \"*\", retry_attempts: 2, headers: {{ Authorization: token }} }}\n    campaigns:\n      ABC: {{ override: true, webhook: {{ url: \"{}\", events: \"*\", retry_attempts: 1 }} }}\n",
        fine.url(),
        broken.url()
    ));
    let log = ("LEADHOOK__DELIVERY_LOG__ENABLED", "true");
    let worker = world.worker(&[log]).await;
    // Deliveries for the pages: some fail, the others succeed.
    world.publish_many((0..40).map(|n| event(if n % 8 == 0 { "ABC" } else { "XYZ" }, n))).await;
    eventually("all are settled", async || (world.waiting().await? == 0).then_some(())).await;
    eventually("five have failed", async || (world.ready("failed").await == 5).then_some(())).await;
    fail(&world).await;
    let mut command = leadhook(&world.url);
    command.arg("console").arg("--store").arg(world.store_path());
    command.envs([
        log,
        ("LEADHOOK__CONSOLE__LISTEN", "127.0.0.1:0"),
        ("LEADHOOK__CONSOLE__CREDENTIALS", "anna:act:an-act-secret-0001,ben:read:a-read-secret-0002"),
        ("LEADHOOK__CONSOLE__DISCARD_DIRECTORY", world.directory.path().to_str().expect("UTF-8")),
        ("LEADHOOK__ADMIN__LISTEN", &worker.admin().await),
        ("LEADHOOK__LOG__FORMAT", "json"),
    ]);
    let console = Worker::spawn(command, world.directory.path().join("console.log"));
    let address = eventually("the console listens", async || {
        let log = console.log();
        let line = log.lines().find(|line| line.contains("console listening"))?.to_owned();
        let at = line.find("127.0.0.1:")?;
        Some(line[at..].chars().take_while(|c| *c != '"').collect::<String>())
    })
    .await;
    let mut browser = Command::new(node);
    browser.arg(script).arg(chromium).arg(format!("http://{address}"));
    browser.arg(std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/how-to/console"));
    browser.arg(broken.received()[0].webhook_id().expect("an id"));
    let status = tokio::task::spawn_blocking(move || browser.status()).await.expect("a task").expect("node");
    let left = world.ready("failed").await;
    println!("{left} jobs are left on the failed queue");
    worker.stop().await;
    if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Publishes failed jobs of several targets and reasons, over some days. The last one is hostile.
async fn fail(world: &World) {
    let channel = world.channel().await;
    channel.confirm_select(ConfirmSelectOptions::default()).await.expect("confirms");
    let queue = "leadhook.failed".into();
    let reasons = [FailReason::Exhausted, FailReason::Exhausted, FailReason::Gone, FailReason::Expired];
    let mut confirms = Vec::new();
    for n in 0..FAILED {
        let campaign = ["ABC", "XYZ", "SUMMER-24"][n as usize % 3];
        let evil = n + 1 == FAILED;
        let at = Timestamp::now() - SignedDuration::from_secs(i64::from(FAILED - n) * 20 + 60);
        let read = Event {
            kind: EventKind::ALL[n as usize % 3],
            campaign: campaign.into(),
            organization: None,
            lead: if evil { EVIL.into() } else { format!("lead_{n}").into() },
            submission: format!("sub_{n}").into(),
            timestamp: at,
        };
        let target = TargetKey::new("acme", (n % 3 == 0).then_some("ABC"), None);
        let body = if evil {
            event(campaign, n).replace("John", "</pre><script>alert(1)</script>")
        } else {
            event(campaign, n)
        };
        let mut job = Job::new(&read, "acme", &target, &Envelope::default(), Bytes::from(body), at);
        for attempt in 1..=3 {
            job = job.attempted(HistoryEntry {
                at: at + SignedDuration::from_secs(i64::from(attempt)),
                attempt,
                outcome: "retry".into(),
                reason: if n % 5 == 0 { "timeout".into() } else { "status".into() },
                status: (n % 5 != 0).then_some(503),
                ms: 40 + u64::from(n % 90),
                snippet: Some(if evil { EVIL.to_owned() } else { "upstream unavailable".to_owned() }),
            });
        }
        let reason = reasons[n as usize % reasons.len()];
        let message = job.to_failed(&queue, reason, "all attempts made", at + SignedDuration::from_secs(30));
        let options = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
        let publishing =
            channel.basic_publish(message.exchange, message.routing_key, options, &message.body, message.properties);
        confirms.push(publishing.await.expect("published"));
    }
    for confirm in confirms {
        confirm.await.expect("confirmed");
    }
}
