//! *slow receiver*: 20,000 jobs for a healthy receiver that takes 2 s for each. How much do they slow its neighbours
//! down?

use std::time::Duration;

use crate::{
    case::{Case, Scale, Variant},
    figures::{Figure, Sample, sample},
    rig::{Broker, OK, Target, Who, World, upstream::event},
};

/// Events a second for the 10 neighbours.
const NEIGHBOURS: f64 = 500.0;

const WITHOUT: &str = "no slow receiver";
const SLOW: &str = "20000 jobs of 2 s";

/// Compares with a run without the slow receiver.
pub fn case(scale: Scale) -> Case {
    let (jobs, lasting) = (scale.count(20_000), scale.seconds(30));
    let variant = |name, jobs| Variant::new(name, move |broker| Box::pin(beside(broker, jobs, lasting)));
    let variants = vec![variant(WITHOUT, 0), variant(SLOW, jobs)];
    let figures = vec![
        Figure::of("neighbours' p99", SLOW).at_most(100.0),
        Figure::of("neighbours' p99", WITHOUT),
        Figure::of("deliveries of the slow receiver", SLOW),
    ];
    Case::new("slow receiver", variants, figures)
}

async fn beside(broker: &Broker, jobs: u64, lasting: Duration) -> anyhow::Result<Vec<Sample>> {
    let world = World::new(broker, &[]).await?;
    let mut targets = vec![OK; 11];
    targets[0] = Target("after2000", "");
    world.write_store(&targets)?;
    let mut workers = [world.start(Who::Worker)?];
    let mut upstream = world.upstream().await?;
    let neighbour = |n: u64| event(&format!("c{}", 1 + n % 10), n, 400);
    let warm = upstream.steadily(NEIGHBOURS, Duration::from_secs(2), neighbour).await?;
    world.received("ok", warm, &mut workers).await?;
    for n in 0..jobs {
        upstream.publish(&event("c0", n, 400)).await?;
    }
    upstream.done().await?;
    // All events wait behind 20,000 others in the same queue. The case is about 20,000 jobs.
    world.drained("events", 1).await?;
    world.tell("/reset").await?;
    let sent = upstream.steadily(NEIGHBOURS, lasting, neighbour).await?;
    let others = world.received("ok", sent, &mut workers).await?;
    let slow = world.group("after2000").await?;
    drop(workers);
    world.end().await?;
    Ok(vec![
        sample("neighbours' p99", "ms", others.latency_ms()[1]),
        sample("deliveries of the slow receiver", "1/s", slow.older as f64 / lasting.as_secs_f64()),
    ])
}
