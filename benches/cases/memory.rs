//! *memory*: the peak memory of a worker with a thousand requests of 1 KiB in flight.

use crate::{
    case::{Case, Scale, Variant},
    figures::{Figure, Sample, sample},
    rig::{Broker, Target, Who, World, upstream::event},
};

/// Room for a thousand requests in flight.
const ROOM: &[(&str, &str)] = &[("LEADHOOK__DELIVERY__CONCURRENCY", "1100")];

const VARIANT: &str = "1000 requests of 1 KiB";

/// One variant.
pub fn case(scale: Scale) -> Case {
    let events = scale.count(20_000);
    let variants = vec![Variant::new(VARIANT, move |broker| Box::pin(hold(broker, events)))];
    let figures = vec![
        Figure::of("worker peak memory", VARIANT).at_most(64.0),
        Figure::of("most in flight", VARIANT).at_least(900.0),
    ];
    Case::new("memory", variants, figures)
}

async fn hold(broker: &Broker, events: u64) -> anyhow::Result<Vec<Sample>> {
    let world = World::new(broker, ROOM).await?;
    // A hundred targets that take a second each reach a thousand in flight without meeting their own limits.
    world.write_store(&[Target("after1000", ""); 100])?;
    let mut workers = [world.start(Who::Worker)?];
    let mut upstream = world.upstream().await?;
    for n in 0..events {
        upstream.publish(&event(&format!("c{}", n % 100), n, 1024)).await?;
    }
    upstream.done().await?;
    let group = world.received("after1000", events, &mut workers).await?;
    let costs = world.costs(&workers);
    drop(workers);
    world.end().await?;
    Ok(vec![
        sample("worker peak memory", "MiB", costs.worker.peak),
        sample("most in flight", "requests", group.most_together as f64),
    ])
}
