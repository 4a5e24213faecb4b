//! *latency*: a steady rate, healthy receivers. From publishing to the whole request having arrived.

use std::time::Duration;

use super::{Case, Scale, Variant, drain::Who};
use crate::{
    rig::{Broker, Target, World, upstream::event},
    summary::{Sample, sample},
};

/// One case for each rate; the ceiling is the baseline.
pub fn cases(scale: Scale) -> Vec<Case> {
    let lasting = Duration::from_secs(if scale.long { 20 } else { 6 });
    let rates = [("latency at 100/s", 100.0), ("latency at 500/s", 500.0), ("latency at 2000/s", 2000.0)];
    let case = |(name, rate)| {
        let variant =
            |name: &str, who: Who| Variant::new(name, move |broker| Box::pin(steady(broker, who, rate, lasting)));
        let variants = vec![variant("ceiling", Who::Ceiling(&[])), variant("worker", Who::Worker)];
        Case { name, runs: [1, 5], variants }
    };
    rates.into_iter().map(case).collect()
}

async fn steady(broker: &Broker, who: Who, rate: f64, lasting: Duration) -> anyhow::Result<Vec<Sample>> {
    let world = World::new(broker, &[]).await?;
    world.write_store(&vec![Target::Does("ok".to_owned()); 20], "")?;
    let mut workers = vec![match who {
        Who::Worker => world.worker()?,
        Who::Ceiling(layout) => world.ceiling(layout)?,
    }];
    let mut upstream = world.upstream().await?;
    // The first ones connect and warm up, and are not counted.
    let warm = upstream.steadily(rate, Duration::from_secs(1), |n| event(&format!("c{}", n % 20), n, 400)).await?;
    world.received("ok", warm, &mut workers).await?;
    world.ask("/reset").await?;
    let before = world.costs(&workers);
    let sent = upstream.steadily(rate, lasting, |n| event(&format!("c{}", n % 20), n + warm, 400)).await?;
    let report = world.received("ok", sent, &mut workers).await?;
    let costs = world.costs(&workers).since(before);
    drop(workers);
    world.end().await?;
    let [p50, p99, p999, _] = report["ok"].latency.map(|micros| micros as f64 / 1000.0);
    Ok(vec![
        sample("p50", "ms", p50),
        sample("p99", "ms", p99),
        sample("p99.9", "ms", p999),
        sample("worker CPU each", "µs", costs.worker.cpu * 1e6 / sent as f64),
    ])
}
