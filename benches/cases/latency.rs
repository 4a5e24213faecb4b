//! *latency*: a steady rate to 20 healthy targets, measured from before the publish until the whole request has
//! arrived.

use std::time::Duration;

use super::drain::direct_share;
use crate::{
    case::{Case, Scale, Variant},
    figures::{Figure, Sample, sample},
    rig::{Broker, OK, Who, World, upstream::event},
};

/// Runs the ceilings and the worker at one rate.
pub fn case(name: &'static str, rate: f64, scale: Scale) -> Case {
    let lasting = scale.seconds(10);
    let variant = |name, who| Variant::new(name, move |broker| Box::pin(steady(broker, who, rate, lasting)));
    let variants = vec![
        variant("two-hop ceiling", Who::TwoHops(&[])),
        variant("one-hop ceiling", Who::OneHop(&[])),
        variant("worker", Who::Worker),
    ];
    let figures = vec![
        Figure::of("p50", "worker").against("two-hop ceiling").at_most(0.65),
        Figure::of("p99", "worker").against("two-hop ceiling").at_most(0.7),
        Figure::of("p50", "worker").against("one-hop ceiling"),
        Figure::of("p99", "worker").against("one-hop ceiling"),
        Figure::of("p50", "worker"),
        Figure::of("p99", "worker"),
        Figure::of("went direct", "worker"),
        Figure::of("worker CPU each", "worker").against("two-hop ceiling"),
        Figure::of("broker CPU each", "worker").against("two-hop ceiling"),
    ];
    Case::new(name, variants, figures)
}

async fn steady(broker: &Broker, who: Who, rate: f64, lasting: Duration) -> anyhow::Result<Vec<Sample>> {
    let world = World::new(broker, &[]).await?;
    world.write_store(&[OK; 20])?;
    let mut workers = [world.start(who)?];
    let mut upstream = world.upstream().await?;
    // The first events open connections and warm up, and do not count.
    let warm = upstream.steadily(rate, Duration::from_secs(1), |n| event(&format!("c{}", n % 20), n, 400)).await?;
    world.received("ok", warm, &mut workers).await?;
    world.tell("/reset").await?;
    let before = world.costs(&workers);
    let sent = upstream.steadily(rate, lasting, |n| event(&format!("c{}", n % 20), n + warm, 400)).await?;
    let ok = world.received("ok", sent, &mut workers).await?;
    let costs = world.costs(&workers).since(before);
    let direct = direct_share(&world, &workers, warm + ok.requests).await?;
    drop(workers);
    world.end().await?;
    let [p50, p99] = ok.latency_ms();
    let mut samples = vec![
        sample("p50", "ms", p50),
        sample("p99", "ms", p99),
        sample("worker CPU each", "µs", costs.worker.cpu * 1e6 / sent as f64),
        sample("broker CPU each", "µs", costs.broker.cpu * 1e6 / sent as f64),
    ];
    samples.extend(direct);
    Ok(samples)
}
