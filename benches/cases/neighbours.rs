//! *bad neighbours*: 100 targets, of which some are bad. What do the others feel of it?

use std::time::Duration;

use super::{Case, Scale, Variant};
use crate::{
    rig::{Broker, Target, World, upstream::event},
    summary::{Sample, sample},
};

/// Targets altogether, each of an organization of its own.
const TARGETS: u64 = 100;

/// Events a second for the healthy ones, in every variant.
const HEALTHY: f64 = 1_000.0;

/// How many are bad, in what way, and how much of the traffic is theirs.
#[derive(Clone, Copy)]
struct Bad {
    targets: u64,
    does: &'static str,
    share: f64,
}

/// A run without bad ones is the baseline.
pub fn case(scale: Scale) -> Case {
    let lasting = Duration::from_secs(if scale.long { 60 } else { 14 });
    let mut kinds = vec![
        ("none", Bad { targets: 0, does: "ok", share: 0.0 }),
        ("10 hang, 10 %", Bad { targets: 10, does: "hang", share: 0.1 }),
        ("50 hang, 50 %", Bad { targets: 50, does: "hang", share: 0.5 }),
    ];
    if scale.long {
        kinds.extend([
            ("1 hangs, 10 %", Bad { targets: 1, does: "hang", share: 0.1 }),
            ("1 hangs, 50 %", Bad { targets: 1, does: "hang", share: 0.5 }),
            ("10 hang, 50 %", Bad { targets: 10, does: "hang", share: 0.5 }),
            ("50 hang, 10 %", Bad { targets: 50, does: "hang", share: 0.1 }),
            ("50 answer 500, 50 %", Bad { targets: 50, does: "status500", share: 0.5 }),
            ("50 refuse, 50 %", Bad { targets: 50, does: "refuse", share: 0.5 }),
        ]);
    }
    let variant = |(name, bad)| Variant::new(name, move |broker| Box::pin(beside(broker, bad, lasting)));
    Case { name: "bad neighbours", runs: [1, 5], variants: kinds.into_iter().map(variant).collect() }
}

async fn beside(broker: &Broker, bad: Bad, lasting: Duration) -> anyhow::Result<Vec<Sample>> {
    let world = World::new(broker, &[]).await?;
    let target = |n| match (n < bad.targets, bad.does) {
        (false, _) => Target::Does("ok".to_owned()),
        (true, "refuse") => Target::Refuses,
        (true, does) => Target::Does(does.to_owned()),
    };
    world.write_store(&(0..TARGETS).map(target).collect::<Vec<_>>(), ", timeout: 30")?;
    let mut workers = vec![world.worker()?];
    let mut upstream = world.upstream().await?;
    let rate = HEALTHY / (1.0 - bad.share);
    let mut healthy = 0;
    // Of a hundred events in a row, as many as the share says are for bad targets, evenly among them.
    let mut next = |n: u64| {
        let is_bad = (n as f64 * bad.share).fract() + bad.share >= 1.0;
        let campaign = match is_bad {
            true => n % bad.targets.max(1),
            false => {
                healthy += 1;
                bad.targets + healthy % (TARGETS - bad.targets)
            }
        };
        event(&format!("c{campaign}"), n, 400)
    };
    let warm = upstream.steadily(rate, Duration::from_secs(2), &mut next).await?;
    world.ask("/reset").await?;
    let before = world.costs(&workers);
    upstream.steadily(rate, lasting, |n| next(n + warm)).await?;
    let sent = HEALTHY * lasting.as_secs_f64();
    // Some of the first ones were on their way when the counting began.
    let report = world.received("ok", (sent * 0.98) as u64, &mut workers).await?;
    let costs = world.costs(&workers).since(before);
    drop(workers);
    world.end().await?;
    let ok = &report["ok"];
    let [p50, p99, p999, most] = ok.latency.map(|micros| micros as f64 / 1000.0);
    Ok(vec![
        sample("healthy deliveries", "1/s", ok.requests as f64 / ((ok.last - ok.first) as f64 / 1e9)),
        sample("healthy p50", "ms", p50),
        sample("healthy p99", "ms", p99),
        sample("healthy p99.9", "ms", p999),
        sample("healthy, longest", "ms", most),
        sample("worker CPU", "s", costs.worker.cpu),
        sample("broker CPU", "s", costs.broker.cpu),
    ])
}
