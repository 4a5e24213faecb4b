//! *max_per_second*: a target with a limit of 10 requests a second over all workers.

use std::time::Duration;

use anyhow::Context;

use crate::{
    case::{Case, Scale, Variant},
    clock,
    figures::{Figure, Sample, sample},
    rig::{Broker, OK, Target, Who, World, upstream::event},
};

const LIMITED: &str = ", max_per_second: 10";

/// The limit, in requests a second.
const LIMIT: f64 = 10.0;

/// Events a second for the 10 healthy neighbours.
const NEIGHBOURS: f64 = 500.0;

const WITHOUT: &str = "no limited target";
const QUEUED: &str = "3 workers, 2000 queued";

/// Queues 2,000 events for the limited target, then runs three workers for a minute.
pub fn case(scale: Scale) -> Case {
    let lasting = scale.seconds(60);
    let queued = scale.count(2_000);
    let variant = |name, queued| Variant::new(name, move |broker| Box::pin(beside(broker, queued, lasting)));
    let variants = vec![variant(WITHOUT, 0), variant(QUEUED, queued)];
    let figures = vec![
        Figure::of("requests in a minute", QUEUED).between(540.0, 610.0),
        Figure::of("requests in the busiest second", QUEUED).at_most(15.0),
        Figure::of("neighbours' deliveries", QUEUED).against(WITHOUT).at_least(0.95),
        Figure::of("neighbours' p99", QUEUED).against(WITHOUT).at_most(1.5),
        Figure::of("neighbours' p99", QUEUED),
    ];
    Case::new("max_per_second", variants, figures).once(lasting + Duration::from_secs(120)).needs("max_per_second")
}

async fn beside(broker: &Broker, queued: u64, lasting: Duration) -> anyhow::Result<Vec<Sample>> {
    let world = World::new(broker, &[]).await?;
    let mut targets = vec![OK; 11];
    targets[0] = Target("after0", LIMITED);
    world.write_store(&targets)?;
    let mut workers = (0..3).map(|_| world.start(Who::Worker)).collect::<anyhow::Result<Vec<_>>>()?;
    let mut upstream = world.upstream().await?;
    let neighbour = |n: u64| event(&format!("c{}", 1 + n % 10), n, 400);
    // The warm-up lets all three workers connect and count each other.
    let warm = upstream.steadily(NEIGHBOURS, Duration::from_secs(5), neighbour).await?;
    world.received("ok", warm, &mut workers).await?;
    world.tell("/reset").await?;
    for n in 0..queued {
        upstream.publish(&event("c0", n, 400)).await?;
    }
    upstream.done().await?;
    let sent = upstream.steadily(NEIGHBOURS, lasting, neighbour).await?;
    let others = world.received("ok", sent, &mut workers).await?;
    let limited = world.group("after0").await?;
    drop(workers);
    world.end().await?;
    let minute = limited.tenths.range(..limited.first / 100_000_000 + lasting.as_millis() as u64 / 100);
    Ok(vec![
        sample("requests in a minute", "requests", minute.map(|(_, count)| *count).sum::<u64>() as f64),
        sample("requests in the busiest second", "requests", limited.busiest_second() as f64),
        sample("neighbours' deliveries", "1/s", others.rate()),
        sample("neighbours' p99", "ms", others.latency_ms()[1]),
    ])
}

const AFTER: &str = "9/s arriving";

/// A tenth of the default backoff, to match an outage of one minute instead of ten.
const A_TENTH: &[(&str, &str)] = &[("LEADHOOK__BACKOFF__INITIAL", "1500ms"), ("LEADHOOK__BACKOFF__MAXIMUM", "6m")];

/// The limited target is down while 9 events a second arrive, then answers again. After another two outage lengths, the
/// case compares the age of the oldest waiting delivery with that in a FIFO queue that delivers 10 a second.
///
/// The outage of one minute represents one of 10 minutes.
pub fn after_an_outage(scale: Scale) -> Case {
    let outage = scale.seconds(60);
    let variants = vec![Variant::new(AFTER, move |broker| Box::pin(oldest(broker, outage)))];
    let figures = vec![
        Figure::of("oldest delivery's age / with FIFO", AFTER).at_most(1.5),
        Figure::of("oldest delivery's age", AFTER),
        Figure::of("deliveries after the outage", AFTER),
    ];
    Case::new("10/s limit after an outage", variants, figures)
        .once(3 * outage + Duration::from_secs(120))
        .needs("max_per_second")
}

async fn oldest(broker: &Broker, outage: Duration) -> anyhow::Result<Vec<Sample>> {
    const ARRIVING: f64 = 9.0;
    let world = World::new(broker, A_TENTH).await?;
    world.write_store(&[Target("switch", ", max_per_second: 10, timeout: 3")])?;
    let mut workers = [world.start(Who::Worker)?];
    let mut upstream = world.upstream().await?;
    let mut sent = Vec::new();
    let mut next = |n| {
        let body = event("c0", n, 400);
        sent.extend(clock::sent_at(&body));
        body
    };
    let before = upstream.steadily(ARRIVING, Duration::from_secs(10), &mut next).await?;
    world.received("switch", before, &mut workers).await?;
    world.tell("/switch/hang").await?;
    upstream.steadily(ARRIVING, outage, &mut next).await?;
    world.tell("/switch/ok").await?;
    let back = clock::now();
    upstream.steadily(ARRIVING, 2 * outage, &mut next).await?;
    let (now, delivered) = (clock::now(), world.delivered().await?);
    drop(workers);
    world.end().await?;
    let seconds = |since: u64| (now.saturating_sub(since)) as f64 / 1e9;
    let in_order = before as usize + (LIMIT * seconds(back)) as usize;
    let fifo = sent.get(in_order).context("a FIFO would have delivered all of them")?;
    let oldest = sent.iter().find(|sent| !delivered.contains(sent)).map_or(0.0, |sent| seconds(*sent));
    Ok(vec![
        sample("oldest delivery's age / with FIFO", "ratio", oldest / seconds(*fifo)),
        sample("oldest delivery's age", "s", oldest),
        sample("deliveries after the outage", "1/s", (delivered.len() as f64 - before as f64) / seconds(back)),
    ])
}
