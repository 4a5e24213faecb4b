//! *outage*: one target is down for two minutes at 500 events a second, then answers. When do new events arrive at the
//! full rate again, and when has the backlog arrived?

use std::time::Duration;

use crate::{
    case::{Case, Scale, Variant},
    clock,
    figures::{Figure, Sample, sample},
    rig::{Broker, Target, Who, World, upstream::event},
};

/// Events a second, before, during and after the outage.
const RATE: f64 = 500.0;

/// One variant for each kind of outage.
pub fn case(scale: Scale) -> Case {
    let down = scale.seconds(120);
    let variant = |name, does| Variant::new(name, move |broker| Box::pin(outage(broker, does, down)));
    let variants = vec![variant("hangs", "hang"), variant("answers 500", "status500")];
    let figures = variants.iter().flat_map(|variant| {
        [
            Figure::of("new events at full rate after", variant.name).at_most(6.0),
            Figure::of("backlog gone after", variant.name).at_most(120.0),
            Figure::of("backlog", variant.name),
        ]
    });
    let figures = figures.collect();
    Case::new("outage of 2 minutes", variants, figures).once(4 * down + Duration::from_secs(120))
}

async fn outage(broker: &Broker, does: &str, down: Duration) -> anyhow::Result<Vec<Sample>> {
    let world = World::new(broker, &[]).await?;
    world.write_store(&[Target("switch", ", timeout: 30")])?;
    let workers = [world.start(Who::Worker)?];
    let mut upstream = world.upstream().await?;
    let mut sent = upstream.steadily(RATE, Duration::from_secs(5), |n| event("c0", n, 400)).await?;
    world.tell(&format!("/switch/{does}")).await?;
    sent += upstream.steadily(RATE, down, |n| event("c0", n + sent, 400)).await?;
    world.tell("/switch/ok").await?;
    world.tell("/reset").await?;
    let back = clock::now();
    let after = || Duration::from_nanos(clock::now() - back);
    let (seen, backlog) = loop {
        upstream.steadily(RATE, Duration::from_secs(5), |n| event("c0", n, 400)).await?;
        let seen = world.group("switch").await?;
        // An event that was attempted waits for its scheduled retry; the others are the backlog.
        let backlog = sent - seen.known_at_reset;
        if after() >= Duration::from_secs(20) && (seen.older >= backlog || after() >= 3 * down) {
            break (seen, backlog);
        }
    };
    let whole = after().as_secs();
    drop(workers);
    world.end().await?;
    let is_full = |second: u64| seen.in_second(back, second as f64) as f64 >= 0.95 * RATE;
    let full = (0..whole.saturating_sub(3)).find(|second| (0..3).all(|more| is_full(second + more)));
    // A state that was not reached counts with the whole time of the wait.
    let full = full.unwrap_or(whole);
    let gone = if seen.older >= backlog { seen.older_last.saturating_sub(back) as f64 / 1e9 } else { whole as f64 };
    Ok(vec![
        sample("new events at full rate after", "s", full as f64),
        sample("backlog", "events", backlog as f64),
        sample("backlog gone after", "s", gone),
    ])
}
