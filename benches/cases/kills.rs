//! *kills*: the only worker receives SIGKILL 20 times while 5,000 events arrive. How many requests are repeated?

use std::time::Duration;

use anyhow::ensure;

use super::NOT_DIRECT;
use crate::{
    case::{Case, Scale, Variant},
    figures::{Figure, Sample, sample},
    rig::{Broker, Target, Who, World, upstream::event},
};

/// Events a second.
const RATE: f64 = 250.0;

const DIRECT: &str = "direct";
const NOT: &str = "not direct";

/// Runs with direct attempts and without. A run that loses an event fails.
pub fn case(scale: Scale) -> Case {
    let kills = scale.count(20);
    let variant = |name, environment| Variant::new(name, move |broker| Box::pin(killed(broker, kills, environment)));
    let variants = vec![variant(DIRECT, &[]), variant(NOT, NOT_DIRECT)];
    let figures = vec![
        Figure::of("repeats", DIRECT).against(NOT).at_most(1.1),
        Figure::of("repeats", DIRECT),
        Figure::of("repeats", NOT),
    ];
    Case::new("20 kills", variants, figures)
}

async fn killed(broker: &Broker, kills: u64, environment: &[(&str, &str)]) -> anyhow::Result<Vec<Sample>> {
    let world = World::new(broker, environment).await?;
    // The receivers take 20 ms, so that each kill meets requests in flight.
    world.write_store(&[Target("after20", ""); 20])?;
    let mut worker = world.start(Who::Worker)?;
    let mut upstream = world.upstream().await?;
    let mut sent = 0;
    for _ in 0..kills {
        // Each worker lives for a random time, a second on average, and is then killed.
        let life = Duration::from_millis(fastrand::u64(500..1_500));
        sent += upstream.steadily(RATE, life, |n| event(&format!("c{}", n % 20), n, 400)).await?;
        // Dropping it sends SIGKILL.
        drop(worker);
        worker = world.start(Who::Worker)?;
    }
    let rest = (kills * RATE as u64).saturating_sub(sent);
    for n in 0..rest {
        upstream.publish(&event(&format!("c{}", n % 20), n, 400)).await?;
    }
    upstream.done().await?;
    let group = world.received("after20", sent + rest, &mut [worker]).await?;
    world.end().await?;
    ensure!(group.distinct == sent + rest, "more events than were sent");
    Ok(vec![sample("repeats", "requests", (group.requests - group.distinct) as f64)])
}
