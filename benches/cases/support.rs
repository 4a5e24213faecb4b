//! *support*: how long is an answer waited for, among a million records of the delivery log and 100,000 failed jobs?

use std::time::{Duration, Instant};

use anyhow::ensure;
use jiff::Timestamp;
use lapin::BasicProperties;
use leadhook::{
    broker::{
        publisher::{Outgoing, Publisher},
        topology::{self, Plan},
    },
    delivery::{ladder::Ladder, outcome::FailReason},
    delivery_log::{self, Entry, What, batch},
    event::{Event, EventKind},
    job::{Envelope, Job},
    store::TargetKey,
};
use tokio_util::sync::CancellationToken;

use super::{Case, Scale, Variant};
use crate::{
    rig::{Broker, Target, World, upstream::event},
    summary::{Sample, sample},
};

/// Records to a message of the stream: as a busy worker writes them, and as one that has next to nothing to do.
const VARIANTS: [(&str, usize); 2] = [("busy", 200), ("quiet", 1)];

/// One variant for each way in which the log was written, and one for the failed queue.
pub fn case(scale: Scale) -> Case {
    let (records, failed) = if scale.long { (1_000_000, 100_000) } else { (200_000, 20_000) };
    let mut variants: Vec<_> = VARIANTS
        .map(|(name, each)| Variant::new(format!("log, {name}"), move |broker| Box::pin(log(broker, records, each))))
        .into();
    variants.push(Variant::new("failed queue", move |broker| Box::pin(failed_jobs(broker, failed))));
    Case { name: "support", runs: [1, 3], variants }
}

/// Confirms under way at the same time.
const AT_ONCE: usize = 500;

/// Publishes so many at once, and goes on when all of them are confirmed.
async fn publish(publisher: &Publisher, messages: impl Iterator<Item = Outgoing>) -> anyhow::Result<()> {
    let mut messages = messages.peekable();
    while messages.peek().is_some() {
        let some = messages.by_ref().take(AT_ONCE).map(|message| publisher.publish(message));
        futures::future::try_join_all(some).await?;
    }
    Ok(())
}

fn publisher(world: &World<'_>) -> Publisher {
    Publisher::start(&world.settings().amqp, "bench", None, CancellationToken::new())
}

/// A delivery with one retry, for each lead: two records.
fn records(n: u64, now: Timestamp) -> [Vec<u8>; 2] {
    let (id, lead, submission) = (format!("wh_{n:032x}"), format!("lead_{n}"), format!("sub_{n}"));
    let entry = |what, status: u16, attempt| {
        let mut line = Vec::new();
        batch::add(
            &mut line,
            &Entry {
                id: Some(id.as_str().into()),
                event: Some("lead.delivered".into()),
                lead: Some(lead.as_str().into()),
                submission: Some(submission.as_str().into()),
                campaign: Some("ABC".into()),
                organization: Some("acme".into()),
                target: Some("acme/ABC".into()),
                attempt: Some(attempt),
                of: Some(6),
                status: Some(status),
                ms: Some(12),
                revision: Some("0123456789ab".into()),
                ..Entry::new(what, now)
            },
        );
        line
    };
    [entry(What::Retry, 500, 1), entry(What::Delivered, 200, 2)]
}

/// What a search in the console came to.
struct Searched {
    took: Duration,
    found: bool,
    peak_mib: f64,
}

/// One lead, the last day, in a console that has just been started.
async fn search(world: &World<'_>, address: &str, lead: &str) -> anyhow::Result<Searched> {
    let mut console = world.start(&["console"])?;
    let client = reqwest::Client::builder().no_proxy().build()?;
    let begun = Instant::now();
    while client.get(format!("http://{address}/style.css")).send().await.is_err() {
        ensure!(begun.elapsed() < Duration::from_secs(30), "the console does not answer");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let begun = Instant::now();
    let page = client.get(format!("http://{address}/search?q={lead}&by=lead&since=1d")).send().await?;
    let page = page.error_for_status()?.text().await?;
    let took = begun.elapsed();
    let status = std::fs::read_to_string(format!("/proc/{}/status", console.id()))?;
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")?.split_whitespace().next()?.parse().ok());
    console.kill()?;
    console.wait()?;
    Ok(Searched { took, found: page.contains("/deliveries/wh_"), peak_mib: peak.unwrap_or(f64::NAN) / 1024.0 })
}

async fn log(broker: &Broker, count: u64, each: usize) -> anyhow::Result<Vec<Sample>> {
    let console = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.to_string();
    let world = World::new(broker, &[("LEADHOOK__CONSOLE__LISTEN", &console)]).await?;
    world.write_store(&[Target::Does("ok".to_owned())], "")?;
    let publisher = publisher(&world);
    let plan = Plan::new(&world.settings().amqp, &Ladder::for_backoff(&world.settings().backoff));
    let stream = plan.log(topology::Retention::of(&world.settings().delivery_log));
    let channel = publisher.shared().get().await?.create_channel().await?;
    topology::stream(channel, &plan, &stream, true).await?;
    let now = Timestamp::now();
    let lines: Vec<_> = (0..count / 2).flat_map(|n| records(n, now)).collect();
    let bytes: usize = lines.iter().map(Vec::len).sum();
    // Writers send their messages one after the other: those that go at once are of different ones.
    let messages = lines.chunks(each).enumerate().map(|(at, lines)| Outgoing {
        exchange: "".into(),
        routing_key: stream.name.clone(),
        properties: BasicProperties::default().with_delivery_mode(2),
        body: batch::message(&format!("bench-{}", at % AT_ONCE), (at / AT_ONCE) as u64 + 1, &lines.concat()).into(),
    });
    publish(&publisher, messages).await?;
    drop(lines);
    let lead = format!("lead_{}", count / 4);
    let (found, by_lead) = world.command(&["deliveries", "--lead", &lead, "--json"])?;
    ensure!(found["deliveries"].as_array().is_some_and(|found| found.len() == 1), "{found}");
    let (found, all) = world.command(&["deliveries", "--json", "--since", "1h"])?;
    ensure!(found["records"] == count, "{}", found["records"]);
    let searched = search(&world, &console, &lead).await?;
    publisher.close().await;
    world.end().await?;
    Ok(vec![
        sample("records", "", count as f64),
        sample("a record", "bytes", bytes as f64 / count as f64),
        sample("one lead found after", "s", by_lead.as_secs_f64()),
        sample("the latest 50 of all", "s", all.as_secs_f64()),
        sample("console: one lead, answered after", "s", searched.took.as_secs_f64()),
        sample("console: found within its time", "", f64::from(u8::from(searched.found))),
        sample("console: peak memory", "MiB", searched.peak_mib),
    ])
}

fn job(n: u64, target: &TargetKey, reason: &str) -> Job {
    let body = event("c0", n, 400);
    let read = Event {
        kind: EventKind::Delivered,
        campaign: "c0".into(),
        organization: None,
        lead: format!("lead_{n}"),
        submission: format!("sub_{n}"),
        timestamp: String::new(),
        time: Some(Timestamp::now()),
    };
    let job = Job::new(&read, "o0", target, &Envelope::default(), body.into(), Timestamp::now());
    job.attempted(leadhook::job::HistoryEntry {
        at: Timestamp::now(),
        attempt: 6,
        outcome: "failed".into(),
        reason: reason.into(),
        status: None,
        ms: 30_000,
        detail: None,
        snippet: None,
    })
}

/// A world with a delivery log that goes back before all jobs.
pub(super) async fn with_log(broker: &Broker) -> anyhow::Result<(World<'_>, Publisher)> {
    let world = World::new(broker, &[]).await?;
    world.write_store(&[Target::Does("ok".to_owned())], "")?;
    let publisher = publisher(&world);
    let plan = Plan::new(&world.settings().amqp, &Ladder::for_backoff(&world.settings().backoff));
    let log = delivery_log::start(world.settings(), &plan, &publisher, None);
    let stream = plan.log(topology::Retention::of(&world.settings().delivery_log));
    let channel = publisher.shared().get().await?.create_channel().await?;
    topology::stream(channel, &plan, &stream, true).await?;
    log.write(&Entry::new(What::NoTarget, Timestamp::now()));
    ensure!(log.close(Duration::from_secs(60)).await == 0, "records were lost");
    Ok((world, publisher))
}

/// Lays so many jobs to rest on the failed queue.
pub(super) async fn fail(world: &World<'_>, publisher: &Publisher, count: u64) -> anyhow::Result<()> {
    let (names, target) = (world.names(), TargetKey::new("o0", None, None));
    let messages = (0..count).map(|n| {
        let reason = if n % 100 == 0 { "timeout" } else { "status" };
        job(n, &target, reason).to_failed(&names.failed, FailReason::Exhausted, "bench", Timestamp::now())
    });
    publish(publisher, messages).await
}

async fn failed_jobs(broker: &Broker, count: u64) -> anyhow::Result<Vec<Sample>> {
    let (world, publisher) = with_log(broker).await?;
    let names = world.names();
    fail(&world, &publisher, count).await?;
    let (list, filtered) = world.command(&["failed", "list", "--error", "timeout", "--json"])?;
    ensure!(list["matching"] == count / 100, "{}", list["matching"]);
    let (_, stats) = world.command(&["failed", "stats", "--json"])?;
    let (tally, replay) = world.command(&["failed", "replay", "--all", "--yes", "--json"])?;
    ensure!(tally["replayed"] == count, "{tally}");
    let ready = world.ready(&names.jobs).await?;
    ensure!(ready == count, "{ready} of {count} are back");
    publisher.close().await;
    world.end().await?;
    let seconds = |time: Duration| time.as_secs_f64();
    Ok(vec![
        sample("failed jobs", "", count as f64),
        sample("list with a filter", "s", seconds(filtered)),
        sample("stats", "s", seconds(stats)),
        sample("replay all", "s", seconds(replay)),
        sample("replay", "1/s", count as f64 / seconds(replay)),
    ])
}
