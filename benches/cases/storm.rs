//! *retry storm*: each job fails twice, then succeeds. How late does a retry fire, and what does it cost the broker?

use std::time::Duration;

use anyhow::ensure;

use super::{Case, Scale, Variant};
use crate::{
    rig::{Broker, Target, World, upstream::event},
    summary::{Sample, sample},
};

/// Without jitter and exactly on rungs, so that what is late is late.
const SCHEDULE: [(&str, &str); 3] =
    [("LEADHOOK__BACKOFF__INITIAL", "4s"), ("LEADHOOK__BACKOFF__MULTIPLIER", "2"), ("LEADHOOK__BACKOFF__JITTER", "0")];

/// Targets, each of an organization of its own.
const TARGETS: u64 = 1_000;

/// Jobs a second, each of which makes three attempts.
const RATE: f64 = 500.0;

/// One form only: there is nothing to compare it with but the schedule.
pub fn case(scale: Scale) -> Case {
    let jobs = if scale.long { 20_000 } else { 8_000 };
    let variants = vec![Variant::new(format!("{jobs} jobs"), move |broker| Box::pin(storm(broker, jobs)))];
    Case { name: "retry storm", runs: [1, 5], variants }
}

async fn storm(broker: &Broker, jobs: u64) -> anyhow::Result<Vec<Sample>> {
    let world = World::new(broker, &SCHEDULE).await?;
    world.write_store(&vec![Target::Does("flaky".to_owned()); TARGETS as usize], "")?;
    let mut workers = vec![world.worker()?];
    let mut upstream = world.upstream().await?;
    let before = world.costs(&workers);
    let lasting = Duration::from_secs_f64(jobs as f64 / RATE);
    let sent = upstream.steadily(RATE, lasting, |n| event(&format!("c{}", n % TARGETS), n, 400)).await?;
    let mut report = world.received("flaky", sent, &mut workers).await?;
    while report["flaky"].requests < 3 * sent {
        tokio::time::sleep(Duration::from_millis(200)).await;
        report = world.received("flaky", sent, &mut workers).await?;
    }
    let costs = world.costs(&workers).since(before);
    drop(workers);
    world.end().await?;
    let late = |n: usize, wait: f64| report["flaky"].gaps[n].map(|micros| micros as f64 / 1000.0 - wait);
    let ([first_least, first_p50, first_p99, _], [second_least, second_p50, second_p99, _]) =
        (late(0, 4_000.0), late(1, 8_000.0));
    // The histogram knows a wait to a thousandth.
    ensure!(first_least >= -4.0 && second_least >= -8.0, "a retry was early by {first_least} or {second_least} ms");
    Ok(vec![
        sample("first retry, earliest", "ms", first_least),
        sample("first retry, late by p50", "ms", first_p50),
        sample("first retry, late by p99", "ms", first_p99),
        sample("second retry, earliest", "ms", second_least),
        sample("second retry, late by p50", "ms", second_p50),
        sample("second retry, late by p99", "ms", second_p99),
        sample("broker CPU for each attempt", "µs", costs.broker.cpu * 1e6 / (3 * sent) as f64),
        sample("worker CPU for each attempt", "µs", costs.worker.cpu * 1e6 / (3 * sent) as f64),
    ])
}
