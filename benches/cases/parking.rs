//! *parking*: 200,000 jobs for one target that hangs, or takes a second for each, beside healthy ones. What does their parking
//! cost the broker?

use std::{net::SocketAddr, time::Duration};

use anyhow::{Context, ensure};

use super::{Case, Scale, Variant};
use crate::{
    receiver,
    rig::{Broker, Target, World, upstream::event},
    summary::{Sample, sample},
};

/// Events a second for the healthy target, while the backlog is away.
const HEALTHY: f64 = 1_000.0;

/// What the broker does for a delivery (it takes and gives out an event and a job, and takes an ack for each), and for a park (it
/// takes the job and its ack, moves it at the end of its wait, and gives it out again). Confirms are not counted.
const OF_DELIVERY: f64 = 6.0;
const OF_PARK: f64 = 4.0;

/// Longest wait for the backlog to have been seen once.
const PATIENCE: Duration = Duration::from_secs(300);

/// One variant for each way to be slow.
pub fn case(scale: Scale) -> Case {
    let backlog = if scale.long { 200_000 } else { 20_000 };
    let lasting = Duration::from_secs(if scale.long { 60 } else { 20 });
    let variant =
        |does: &'static str| Variant::new(does, move |broker| Box::pin(beside(broker, does, backlog, lasting)));
    Case { name: "parking", runs: [1, 3], variants: ["hang", "after1000"].map(variant).into() }
}

async fn beside(broker: &Broker, does: &str, backlog: u64, lasting: Duration) -> anyhow::Result<Vec<Sample>> {
    // Bound and let go of: the worker's own choice would be unknown here.
    let admin = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?;
    let world = World::new(broker, &[("LEADHOOK__ADMIN__LISTEN", &admin.to_string())]).await?;
    world.write_store(&[Target::Does(does.to_owned()), Target::Does("ok".to_owned())], ", timeout: 30")?;
    let mut upstream = world.upstream().await?;
    for n in 0..backlog {
        upstream.publish(&event("c0", n, 400)).await?;
    }
    upstream.done().await?;
    let workers = vec![world.worker()?];
    let begun = std::time::Instant::now();
    let mut seen = Jobs::default();
    while seen.parked + seen.delivered < 0.99 * backlog as f64 {
        ensure!(begun.elapsed() < PATIENCE, "{} of {backlog} jobs were parked after {PATIENCE:?}", seen.parked);
        tokio::time::sleep(Duration::from_millis(500)).await;
        // It may not listen yet.
        seen = jobs(admin).await.unwrap_or_default();
    }
    let first = begun.elapsed();
    let (before, costs) = (jobs(admin).await?, world.costs(&workers));
    upstream.steadily(HEALTHY, lasting, |n| event("c1", n, 400)).await?;
    let (after, costs) = (jobs(admin).await?, world.costs(&workers).since(costs));
    let healthy = world.report().await?.remove("ok").context("nothing has come to the healthy target")?;
    drop(workers);
    world.end().await?;
    let parks = after.parked - before.parked;
    let operations = OF_PARK * parks + OF_DELIVERY * (after.delivered - before.delivered);
    let seconds = lasting.as_secs_f64();
    Ok(vec![
        sample("the backlog was parked after", "s", first.as_secs_f64()),
        sample("parks", "1/s", parks / seconds),
        sample("deliveries", "1/s", (after.delivered - before.delivered) / seconds),
        sample("the broker's work for parks", "%", 100.0 * OF_PARK * parks / operations),
        sample("parks among its operations", "%", 100.0 * parks / operations),
        sample("healthy p99", "ms", healthy.latency[1] as f64 / 1000.0),
        sample("worker CPU", "s", costs.worker.cpu),
        sample("broker CPU", "s", costs.broker.cpu),
    ])
}

/// What a worker says it has done.
#[derive(Clone, Copy, Debug, Default)]
struct Jobs {
    parked: f64,
    delivered: f64,
}

async fn jobs(admin: SocketAddr) -> anyhow::Result<Jobs> {
    let metrics = receiver::ask(admin, "/metrics").await?;
    let sum = |outcome: &str| {
        let of = format!("leadhook_jobs_total{{outcome=\"{outcome}\"");
        let lines = metrics.lines().filter(|line| line.starts_with(&of));
        lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
    };
    Ok(Jobs { parked: sum("parked"), delivered: sum("delivered") })
}
