//! *drain*: a full events queue and 20 healthy targets. Measures deliveries a second, and the CPU for each delivery.

use super::{BY_NAME, NOT_DIRECT};
use crate::{
    case::{Case, Scale, Variant},
    figures::{Figure, Sample, sample},
    rig::{Broker, OK, Process, Who, World, upstream::event},
};

/// The ceilings, and the worker with and without direct attempts.
pub fn case(scale: Scale) -> Case {
    let events = scale.count(30_000);
    let variant =
        |name, who, environment| Variant::new(name, move |broker| Box::pin(drain(broker, who, events, environment)));
    let variants = vec![
        variant("two-hop ceiling", Who::TwoHops(&[]), &[]),
        variant("one-hop ceiling", Who::OneHop(&[]), &[]),
        variant("worker", Who::Worker, &[]),
        variant("worker, not direct", Who::Worker, NOT_DIRECT),
    ];
    let mut figures = vec![
        Figure::of("deliveries", "worker").against("two-hop ceiling").at_least(1.1),
        Figure::of("deliveries", "worker").against("one-hop ceiling").at_least(0.7),
        Figure::of("deliveries", "worker").against("worker, not direct"),
        Figure::of("went direct", "worker").at_least(95.0),
        Figure::of("worker CPU each", "worker").against("two-hop ceiling").at_most(0.95),
        Figure::of("worker CPU each", "worker").against("one-hop ceiling"),
        Figure::of("broker CPU each", "worker").against("two-hop ceiling").at_most(0.55),
        Figure::of("broker CPU each", "worker").against("one-hop ceiling"),
    ];
    for metric in ["deliveries", "worker CPU each", "broker CPU each"] {
        figures.extend(["two-hop ceiling", "one-hop ceiling", "worker"].map(|variant| Figure::of(metric, variant)));
    }
    Case::new("drain", variants, figures)
}

/// *ceiling layouts*: the layouts that were tried for the ceilings, one variant each.
pub fn layouts(scale: Scale) -> Case {
    let events = scale.count(30_000);
    const WINDOW_300: &[&str] = &["--event-prefetch", "300", "--job-prefetch", "300"];
    const WINDOW_2000: &[&str] = &["--event-prefetch", "2000", "--job-prefetch", "2000"];
    const SOCKETS_61: &[&str] = &["--event-interval", "61"];
    const THREADS_1: &[&str] = &["--threads", "1"];
    const THREADS_2: &[&str] = &["--threads", "2"];
    let layouts = [
        ("two hops", Who::TwoHops(&[])),
        ("two hops, window 300", Who::TwoHops(WINDOW_300)),
        ("two hops, window 2000", Who::TwoHops(WINDOW_2000)),
        ("two hops, sockets after 61 turns", Who::TwoHops(SOCKETS_61)),
        ("two hops, 1 thread of its own", Who::TwoHops(THREADS_1)),
        ("two hops, 2 threads", Who::TwoHops(THREADS_2)),
        ("one hop", Who::OneHop(&[])),
        ("one hop, window 300", Who::OneHop(WINDOW_300)),
        ("one hop, window 2000", Who::OneHop(WINDOW_2000)),
        ("one hop, sockets after 61 turns", Who::OneHop(SOCKETS_61)),
        ("one hop, 1 thread of its own", Who::OneHop(THREADS_1)),
        ("one hop, 2 threads", Who::OneHop(THREADS_2)),
    ];
    let against = |name: &str| if name.starts_with("two") { "two hops" } else { "one hop" };
    let figures = layouts.iter().flat_map(|(name, _)| {
        ["deliveries", "worker CPU each"].map(|metric| Figure::of(metric, name).against(against(name)))
    });
    let figures = figures.collect();
    let variant = |(name, who)| Variant::new(name, move |broker| Box::pin(drain(broker, who, events, &[])));
    Case::new(BY_NAME, layouts.map(variant).into(), figures)
}

/// Fills the queue, then starts the program that drains it. Measures at the receivers, from the first request to
/// the last.
async fn drain(broker: &Broker, who: Who, events: u64, environment: &[(&str, &str)]) -> anyhow::Result<Vec<Sample>> {
    let world = World::new(broker, environment).await?;
    world.write_store(&[OK; 20])?;
    let mut upstream = world.upstream().await?;
    for n in 0..events {
        upstream.publish(&event(&format!("c{}", n % 20), n, 400)).await?;
    }
    upstream.done().await?;
    let before = world.costs(&[]);
    let mut workers = [world.start(who)?];
    let ok = world.received("ok", events, &mut workers).await?;
    let costs = world.costs(&workers).since(before);
    let direct = direct_share(&world, &workers, ok.requests).await?;
    drop(workers);
    world.end().await?;
    let mut samples = vec![
        sample("deliveries", "1/s", ok.rate()),
        sample("worker CPU each", "µs", costs.worker.cpu * 1e6 / events as f64),
        sample("broker CPU each", "µs", costs.broker.cpu * 1e6 / events as f64),
    ];
    samples.extend(direct);
    Ok(samples)
}

/// Returns the share of the workers' requests that were direct attempts, or `None` if the workers do not count them.
pub async fn direct_share(world: &World<'_>, workers: &[Process], requests: u64) -> anyhow::Result<Option<Sample>> {
    let direct = world.metric(workers, "leadhook_direct_attempts_total").await?;
    Ok(direct.map(|direct| sample("went direct", "%", 100.0 * direct / requests as f64)))
}
