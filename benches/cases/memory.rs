//! *memory*: a thousand requests in flight. How much does the worker hold at most?

use super::{Case, Scale, Variant};
use crate::{
    rig::{Broker, Target, World, upstream::event},
    summary::{Sample, sample},
};

/// So that a thousand can be in flight.
const ROOM: [(&str, &str); 1] = [("LEADHOOK__DELIVERY__CONCURRENCY", "1100")];

/// One form only.
pub fn case(_: Scale) -> Case {
    let variants = vec![Variant::new("1 KiB each", |broker| Box::pin(hold(broker)))];
    Case { name: "memory", runs: [1, 5], variants }
}

async fn hold(broker: &Broker) -> anyhow::Result<Vec<Sample>> {
    let world = World::new(broker, &ROOM).await?;
    // A hundred targets that take a second each: 64 in flight at each of them at most, a thousand altogether.
    world.write_store(&vec![Target::Does("after1000".to_owned()); 100], "")?;
    let mut workers = vec![world.worker()?];
    let mut upstream = world.upstream().await?;
    for n in 0..12_000 {
        upstream.publish(&event(&format!("c{}", n % 100), n, 1024)).await?;
    }
    upstream.done().await?;
    let report = world.received("after1000", 12_000, &mut workers).await?;
    let costs = world.costs(&workers);
    drop(workers);
    world.end().await?;
    Ok(vec![
        sample("most in flight", "requests", report["after1000"].most_together as f64),
        sample("worker peak memory", "MiB", costs.worker.peak),
    ])
}
