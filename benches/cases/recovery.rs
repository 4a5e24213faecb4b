//! *recovery*: a target is down for a while, under load. How long until its deliveries are back at the rate of the load?

use std::time::Duration;

use anyhow::Context;

use super::{Case, Scale, Variant};
use crate::{
    clock,
    rig::{Broker, Target, World, upstream::event},
    summary::{Sample, sample},
};

/// Events a second.
const RATE: f64 = 500.0;

/// One variant for each way to be down.
pub fn case(scale: Scale) -> Case {
    let down = Duration::from_secs(if scale.long { 120 } else { 12 });
    let after = Duration::from_secs(if scale.long { 40 } else { 15 });
    let variant = |(name, does)| Variant::new(name, move |broker| Box::pin(outage(broker, does, down, after)));
    let variants = [("hangs", "hang"), ("answers 500", "status500")].map(variant).into();
    Case { name: "recovery", runs: [1, 5], variants }
}

async fn outage(broker: &Broker, does: &str, down: Duration, after: Duration) -> anyhow::Result<Vec<Sample>> {
    let world = World::new(broker, &[]).await?;
    world.write_store(&[Target::Does("switch".to_owned())], ", timeout: 30")?;
    let workers = vec![world.worker()?];
    let mut upstream = world.upstream().await?;
    let mut sent = upstream.steadily(RATE, Duration::from_secs(5), |n| event("c0", n, 400)).await?;
    world.ask(&format!("/switch/{does}")).await?;
    sent += upstream.steadily(RATE, down, |n| event("c0", n + sent, 400)).await?;
    world.ask("/switch/ok").await?;
    let (back, before) = (clock::now() / 1_000_000_000, world.report().await?);
    upstream.steadily(RATE, after, |n| event("c0", n + sent, 400)).await?;
    let report = world.report().await?;
    drop(workers);
    world.end().await?;
    let seen = &report["switch"];
    let whole = after.as_secs();
    let count = |second: u64| seen.seconds.get(&(back + second)).copied().unwrap_or(0) as f64;
    // At the rate of the load, and from there on.
    let full = (1..whole - 3).find(|second| (0..3).all(|more| count(second + more) >= 0.95 * RATE));
    let full = full.with_context(|| format!("not back at {RATE} deliveries a second after {whole} s"))?;
    Ok(vec![
        sample("back at full rate after", "s", full as f64),
        sample("deliveries in the last seconds", "1/s", (whole - 4..whole).map(count).sum::<f64>() / 4.0),
        sample("backlog when it came back", "jobs", (sent - before["switch"].distinct) as f64),
        sample("most in flight", "requests", seen.most_in_flight as f64),
    ])
}
