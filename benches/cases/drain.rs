//! *drain*: a full events queue and healthy receivers. How many deliveries a second, and at what cost?

use super::{Case, Scale, Variant};
use crate::{
    rig::{Broker, Process, Target, World, upstream::event},
    summary::{Sample, sample},
};

/// Targets, each of an organization of its own.
const TARGETS: usize = 20;

/// Who drains.
#[derive(Clone, Copy)]
pub enum Who {
    /// The worker.
    Worker,
    /// The barest program that does the same.
    Ceiling(&'static [&'static str]),
}

/// The ceiling is the baseline.
pub fn case(scale: Scale) -> Case {
    let events = if scale.long { 50_000 } else { 30_000 };
    let variant = |name: &str, who: Who| {
        Variant::new(name, move |broker| {
            Box::pin(drain(
                broker,
                who,
                Load { events, first: events, targets: TARGETS, bytes: 400, workers: 1, more: "" },
                &[],
            ))
        })
    };
    let variants = vec![variant("ceiling", Who::Ceiling(&[])), variant("worker", Who::Worker)];
    Case { name: "drain", runs: [3, 7], variants }
}

/// *ceiling*: the layouts that were tried for the ceiling, each in its turn. Run by name only.
pub fn layouts(scale: Scale) -> Case {
    let events = if scale.long { 50_000 } else { 30_000 };
    let layouts: [(&str, &'static [&'static str]); 10] = [
        ("as it is", &[]),
        ("prefetch 300", &["--event-prefetch", "300", "--job-prefetch", "300"]),
        ("prefetch 2000", &["--event-prefetch", "2000", "--job-prefetch", "2000"]),
        ("two runtime threads", &["--threads", "2"]),
        ("one runtime thread", &["--threads", "1"]),
        ("one connection", &["--one-connection"]),
        ("sockets after 256 turns", &["--event-interval", "256"]),
        ("an ack for each", &["--single-acks"]),
        ("each publish written first", &["--await-writes"]),
        ("ten headers more", &["--headers", "10"]),
    ];
    let variant = |(name, layout)| {
        Variant::new(name, move |broker| {
            let load = Load { events, first: events, targets: TARGETS, bytes: 400, workers: 1, more: "" };
            Box::pin(drain(broker, Who::Ceiling(layout), load, &[]))
        })
    };
    Case { name: "ceiling", runs: [3, 5], variants: layouts.into_iter().map(variant).collect() }
}

/// What is drained.
#[derive(Clone, Copy)]
pub struct Load {
    /// How many are queued.
    pub events: u64,
    /// After how many of them it is enough.
    pub first: u64,
    /// To how many targets.
    pub targets: usize,
    /// How large each is.
    pub bytes: usize,
    /// By how many workers.
    pub workers: usize,
    /// More of each webhook in the store.
    pub more: &'static str,
}

/// Fills the queue, then starts whoever drains it. The time is the receivers': from the first request to the last.
pub async fn drain(broker: &Broker, who: Who, load: Load, environment: &[(&str, &str)]) -> anyhow::Result<Vec<Sample>> {
    let world = World::new(broker, environment).await?;
    world.write_store(&vec![Target::Does("ok".to_owned()); load.targets], load.more)?;
    let mut upstream = world.upstream().await?;
    for n in 0..load.events {
        upstream.publish(&event(&format!("c{}", n as usize % load.targets), n, load.bytes)).await?;
    }
    upstream.done().await?;
    let before = world.costs(&[]);
    let start = || match who {
        Who::Worker => world.worker(),
        Who::Ceiling(layout) => world.ceiling(layout),
    };
    let mut workers: Vec<Process> = (0..load.workers).map(|_| start()).collect::<anyhow::Result<_>>()?;
    let report = world.received("ok", load.first, &mut workers).await?;
    let costs = world.costs(&workers).since(before);
    drop(workers);
    world.end().await?;
    let ok = &report["ok"];
    let each = |seconds: f64| seconds * 1e6 / ok.requests as f64;
    Ok(vec![
        sample("deliveries", "1/s", (ok.requests - 1) as f64 / ((ok.last - ok.first) as f64 / 1e9)),
        sample("worker CPU each", "µs", each(costs.worker.cpu)),
        sample("broker CPU each", "µs", each(costs.broker.cpu)),
        sample("receiver CPU each", "µs", each(costs.receiver.cpu)),
        sample("worker peak memory", "MiB", costs.worker.peak),
    ])
}
