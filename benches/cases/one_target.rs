//! *one target*: 20,000 events for one target that answers after 10 ms, with a limit of 64 in flight.
//! Which share of 64 / 10 ms does the worker reach?

use crate::{
    case::{Case, Scale, Variant},
    figures::{Figure, Sample, sample},
    rig::{Broker, Target, Who, World, upstream::event},
};

const LIMIT: f64 = 64.0;

const VARIANT: &str = "limit 64, 10 ms answers";

/// One variant.
pub fn case(scale: Scale) -> Case {
    let events = scale.count(20_000);
    let variants = vec![Variant::new(VARIANT, move |broker| Box::pin(queued(broker, events)))];
    let figures = vec![
        Figure::of("share of 64 / 10 ms", VARIANT).at_least(0.85),
        Figure::of("share of 64 / the receiver's real time", VARIANT),
        Figure::of("the receiver's real time", VARIANT),
        Figure::of("deliveries", VARIANT),
        Figure::of("most in flight", VARIANT),
    ];
    Case::new("one target", variants, figures)
}

async fn queued(broker: &Broker, events: u64) -> anyhow::Result<Vec<Sample>> {
    // The default of the setting, written out because the bar depends on it.
    let world = World::new(broker, &[("LEADHOOK__DELIVERY__MAX_IN_FLIGHT", "64")]).await?;
    world.write_store(&[Target("after10", "")])?;
    let mut upstream = world.upstream().await?;
    for n in 0..events {
        upstream.publish(&event("c0", n, 400)).await?;
    }
    upstream.done().await?;
    let mut workers = [world.start(Who::Worker)?];
    let group = world.received("after10", events, &mut workers).await?;
    drop(workers);
    world.end().await?;
    // Timers fire up to a millisecond late, and so does a receiver that shares its cores.
    let held = group.held / 1e6;
    Ok(vec![
        sample("share of 64 / 10 ms", "ratio", group.rate() * 0.010 / LIMIT),
        sample("share of 64 / the receiver's real time", "ratio", group.rate() * held / LIMIT),
        sample("the receiver's real time", "ms", held * 1000.0),
        sample("deliveries", "1/s", group.rate()),
        sample("most in flight", "requests", group.most_in_flight as f64),
    ])
}
