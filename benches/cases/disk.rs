//! *events queue on disk*: one target that hangs for 120 s, beside 2,000 events a second for others. An event that is
//! not acked keeps all later ones on the broker's disk: how large do the queues grow?

use std::time::Duration;

use super::NOT_DIRECT;
use crate::{
    case::{Case, Scale, Variant},
    figures::{Figure, Sample, sample},
    rig::{Broker, OK, Target, Who, World, upstream::event},
};

/// Events a second for the 20 other targets.
const OTHERS: f64 = 2_000.0;

/// One event in this many is for the target that hangs.
const ONE_IN: u64 = 200;

const NONE: &str = "none hangs";
const DIRECT: &str = "one hangs";
const NOT: &str = "one hangs, not direct";

/// Compares with a run in which no target hangs, and with one without direct attempts.
pub fn case(scale: Scale) -> Case {
    let lasting = scale.seconds(120);
    let variant = |name, does, environment| {
        Variant::new(name, move |broker| Box::pin(beside(broker, does, environment, lasting)))
    };
    let variants = vec![variant(NONE, OK, &[]), variant(DIRECT, HANGS, &[]), variant(NOT, HANGS, NOT_DIRECT)];
    let figures = [NONE, DIRECT, NOT].map(|name| Figure::of("growth of the queues on disk", name)).into();
    Case::new("events queue on disk", variants, figures).once(lasting + Duration::from_secs(120))
}

const HANGS: Target = Target("hang", ", timeout: 120");

async fn beside(
    broker: &Broker,
    does: Target,
    environment: &[(&str, &str)],
    lasting: Duration,
) -> anyhow::Result<Vec<Sample>> {
    let world = World::new(broker, environment).await?;
    let mut targets = vec![OK; 21];
    targets[0] = does;
    world.write_store(&targets)?;
    let workers = [world.start(Who::Worker)?];
    let mut upstream = world.upstream().await?;
    let next = |n: u64| event(&format!("c{}", if n.is_multiple_of(ONE_IN) { 0 } else { 1 + n % 20 }), n, 400);
    upstream.steadily(OTHERS, Duration::from_secs(2), next).await?;
    let before = broker.queues_on_disk()?;
    let mut most = before;
    let begun = std::time::Instant::now();
    while begun.elapsed() < lasting {
        upstream.steadily(OTHERS, Duration::from_secs(1), next).await?;
        most = most.max(broker.queues_on_disk()?);
    }
    drop(workers);
    world.end().await?;
    Ok(vec![sample("growth of the queues on disk", "MiB", (most - before) as f64 / 1_048_576.0)])
}
