//! *deferred backlog*: 200,000 events for one target that never answers, and 1,000 events a second for a healthy one.
//! How much broker CPU do the deferred deliveries cost, and how much do they slow the healthy target down?
//!
//! A deferral lasts for a share of the delivery's age, so an older delivery costs less. The case measures when all have
//! been deferred once, and again four minutes later.

use std::time::Duration;

use crate::{
    case::{Case, Scale, Variant},
    figures::{Figure, Sample, sample},
    rig::{
        Broker, OK, Process, Target, Who, World,
        upstream::{Upstream, event},
    },
};

/// Events a second for the healthy target.
const HEALTHY: f64 = 1_000.0;

const VARIANT: &str = "200000 deferred";

/// One variant. Each run first measures the broker without the backlog.
pub fn case(scale: Scale) -> Case {
    let (backlog, window, wait) = (scale.count(200_000), scale.seconds(20), scale.seconds(240));
    let variants = vec![Variant::new(VARIANT, move |broker| Box::pin(beside(broker, backlog, window, wait)))];
    let figures = vec![
        Figure::of("broker CPU for them / for 1000 events/s, at first", VARIANT),
        Figure::of("broker CPU for them / for 1000 events/s, after 4 min", VARIANT).at_most(1.0),
        Figure::of("neighbour's p99, at first", VARIANT).at_most(100.0),
        Figure::of("neighbour's p99, after 4 min", VARIANT).at_most(100.0),
        Figure::of("all deferred once after", VARIANT),
    ];
    Case::new("deferred backlog", variants, figures).once(Duration::from_secs(900))
}

async fn beside(broker: &Broker, backlog: u64, window: Duration, wait: Duration) -> anyhow::Result<Vec<Sample>> {
    let world = World::new(broker, &[]).await?;
    world.write_store(&[Target("hang", ", timeout: 30"), OK])?;
    let mut workers = [world.start(Who::Worker)?];
    let mut upstream = world.upstream().await?;
    // The warm-up lets the worker connect first.
    let warm = upstream.steadily(HEALTHY, Duration::from_secs(2), |n| event("c1", n, 400)).await?;
    world.received("ok", warm, &mut workers).await?;
    let idle = resting(&world, &workers, window).await?;
    let [busy, _] = serving(&world, &workers, &mut upstream, window).await?;
    for n in 0..backlog {
        upstream.publish(&event("c0", n, 400)).await?;
    }
    upstream.done().await?;
    let begun = std::time::Instant::now();
    world.drained("events", 1).await?;
    // Deliveries that return from a delay queue are on the jobs queue for a moment.
    world.drained("jobs", backlog / 100).await?;
    let deferred = begun.elapsed();
    let direct = busy - idle;
    let first = resting(&world, &workers, window).await? - idle;
    let [_, first_p99] = serving(&world, &workers, &mut upstream, window).await?;
    tokio::time::sleep(wait.saturating_sub(2 * window)).await;
    let later = resting(&world, &workers, window).await? - idle;
    let [_, later_p99] = serving(&world, &workers, &mut upstream, window).await?;
    drop(workers);
    world.end().await?;
    Ok(vec![
        sample("broker CPU for them / for 1000 events/s, at first", "ratio", first / direct),
        sample("broker CPU for them / for 1000 events/s, after 4 min", "ratio", later / direct),
        sample("neighbour's p99, at first", "ms", first_p99),
        sample("neighbour's p99, after 4 min", "ms", later_p99),
        sample("all deferred once after", "s", deferred.as_secs_f64()),
    ])
}

/// Returns the broker's CPU, in cores, over a window without new events.
async fn resting(world: &World<'_>, workers: &[Process], window: Duration) -> anyhow::Result<f64> {
    let before = world.costs(workers);
    tokio::time::sleep(window).await;
    Ok(world.costs(workers).since(before).broker.cpu / window.as_secs_f64())
}

/// Returns the broker's CPU in cores, over a window with events for the healthy target, and the p99 of their latency in
/// milliseconds.
async fn serving(
    world: &World<'_>,
    workers: &[Process],
    upstream: &mut Upstream,
    window: Duration,
) -> anyhow::Result<[f64; 2]> {
    world.tell("/reset").await?;
    let before = world.costs(workers);
    let sent = upstream.steadily(HEALTHY, window, |n| event("c1", n, 400)).await?;
    let cores = world.costs(workers).since(before).broker.cpu / window.as_secs_f64();
    let p99 = world.received("ok", sent, &mut []).await?.latency_ms()[1];
    Ok([cores, p99])
}
