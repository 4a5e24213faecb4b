//! *hanging targets*: 100 targets, some of which never answer. How much do they slow the healthy ones down?

use std::time::Duration;

use crate::{
    case::{Case, Scale, Variant},
    figures::{Figure, Sample, sample},
    rig::{Broker, OK, Target, Who, World, upstream::event},
};

const TARGETS: u64 = 100;

/// Events a second for the healthy targets, in every variant. Events for hanging targets come on top.
const HEALTHY: f64 = 1_000.0;

const NONE: &str = "none hangs";
const TEN: &str = "10 hang, 10 % of the traffic";
const FIFTY: &str = "50 hang, 50 % of the traffic";

/// Compares with a run in which no target hangs.
pub fn case(scale: Scale) -> Case {
    let lasting = scale.seconds(20);
    // A hundred targets share the traffic evenly, so the percentage of hanging targets is also their share of the
    // traffic.
    let variant = |name, hanging| Variant::new(name, move |broker| Box::pin(beside(broker, hanging, lasting)));
    let variants = vec![variant(NONE, 0), variant(TEN, 10), variant(FIFTY, 50)];
    let figures = vec![
        Figure::of("healthy deliveries", TEN).against(NONE).at_least(0.95),
        Figure::of("healthy p99", TEN).against(NONE).at_most(1.5),
        Figure::of("healthy deliveries", FIFTY).against(NONE).at_least(0.85),
        Figure::of("healthy p99", FIFTY).against(NONE).at_most(2.0),
        Figure::of("healthy p99", NONE),
        Figure::of("healthy p99", TEN),
        Figure::of("healthy p99", FIFTY),
    ];
    Case::new("hanging targets", variants, figures)
}

async fn beside(broker: &Broker, hanging: u64, lasting: Duration) -> anyhow::Result<Vec<Sample>> {
    let world = World::new(broker, &[]).await?;
    let target = |n| if n < hanging { Target("hang", ", timeout: 30") } else { OK };
    world.write_store(&(0..TARGETS).map(target).collect::<Vec<_>>())?;
    let mut workers = [world.start(Who::Worker)?];
    let mut upstream = world.upstream().await?;
    let rate = HEALTHY * TARGETS as f64 / (TARGETS - hanging) as f64;
    // Coprime with the number of targets: each gets the same share, and hanging ones are spread among the others.
    let campaign = |n: u64| n * 37 % TARGETS;
    let next = |n: u64| event(&format!("c{}", campaign(n)), n, 400);
    let warm = upstream.steadily(rate, Duration::from_secs(2), next).await?;
    world.tell("/reset").await?;
    let sent = upstream.steadily(rate, lasting, |n| next(n + warm)).await?;
    let healthy = (warm..warm + sent).filter(|n| campaign(*n) >= hanging).count();
    let ok = world.received("ok", healthy as u64, &mut workers).await?;
    drop(workers);
    world.end().await?;
    Ok(vec![sample("healthy deliveries", "1/s", ok.rate()), sample("healthy p99", "ms", ok.latency_ms()[1])])
}
