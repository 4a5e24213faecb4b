//! *desk*: support at work on a long failed queue: killed half-way, two at once, and looking on and on. Each run ends with a
//! ledger that must add up: a run that loses a job, or sees another order, ends the benchmark with an error.

use std::{collections::BTreeMap, time::Duration};

use anyhow::{Context, ensure};

use super::{
    Case, Scale, Variant,
    support::{fail, with_log},
};
use crate::{
    rig::{Broker, World},
    summary::{Sample, sample},
};

/// One variant for each kind of trouble.
pub fn case(scale: Scale) -> Case {
    let (jobs, kills, looks) = if scale.long { (100_000, 10, 1_000) } else { (5_000, 2, 20) };
    let variants = vec![
        Variant::new("replay, killed", move |broker| Box::pin(killed(broker, jobs, kills))),
        Variant::new("replay, two at once", move |broker| Box::pin(two(broker, jobs))),
        Variant::new("list, on and on", move |broker| Box::pin(looks_at(broker, looks))),
    ];
    Case { name: "desk", runs: [1, 1], variants }
}

const REPLAY: [&str; 5] = ["failed", "replay", "--all", "--yes", "--json"];

/// What lies on the jobs queue must be every job at least once; the number that lie there twice.
async fn duplicates(world: &World<'_>, jobs: u64) -> anyhow::Result<u64> {
    let failed = world.ready(&world.names().failed).await?;
    ensure!(failed == 0, "{failed} are on the failed queue still");
    let mut there: BTreeMap<String, u64> = BTreeMap::new();
    for id in world.take(&world.names().jobs).await? {
        *there.entry(id).or_default() += 1;
    }
    ensure!(there.len() as u64 == jobs, "{} of {jobs} jobs are there", there.len());
    Ok(there.values().sum::<u64>() - jobs)
}

async fn killed(broker: &Broker, jobs: u64, kills: u32) -> anyhow::Result<Vec<Sample>> {
    let (world, publisher) = with_log(broker).await?;
    fail(&world, &publisher, jobs).await?;
    let (_, whole) = world.command(&REPLAY)?;
    ensure!(duplicates(&world, jobs).await? == 0, "without a kill nothing is there twice");
    let (mut hit, mut half_way, mut most) = (0, 0, 0);
    for _ in 0..kills {
        fail(&world, &publisher, jobs).await?;
        let mut replay = world.start(&REPLAY)?;
        tokio::time::sleep(whole.mul_f64(fastrand::f64())).await;
        hit += u32::from(replay.try_wait()?.is_none());
        replay.kill()?;
        replay.wait()?;
        let (tally, _) = world.command(&REPLAY)?;
        let rest = tally["replayed"].as_u64().context("a tally")?;
        half_way += u32::from(rest > 0 && rest < jobs);
        most = most.max(duplicates(&world, jobs).await?);
    }
    publisher.close().await;
    world.end().await?;
    Ok(vec![
        sample("jobs", "", jobs as f64),
        sample("kills that hit", "", hit.into()),
        sample("of them between the first and the last job", "", half_way.into()),
        sample("most jobs twice after a kill", "", most as f64),
    ])
}

async fn two(broker: &Broker, jobs: u64) -> anyhow::Result<Vec<Sample>> {
    let (world, publisher) = with_log(broker).await?;
    fail(&world, &publisher, jobs).await?;
    let mut other = world.start(&REPLAY)?;
    let (tally, took) = world.command(&REPLAY)?;
    let status = other.wait()?;
    ensure!(status.success(), "the other one ended with {status}");
    let twice = duplicates(&world, jobs).await?;
    publisher.close().await;
    world.end().await?;
    Ok(vec![
        sample("jobs", "", jobs as f64),
        sample("replayed by the one", "", tally["replayed"].as_u64().context("a tally")? as f64),
        sample("both have ended after", "s", took.as_secs_f64()),
        sample("jobs twice", "", twice as f64),
    ])
}

/// Jobs that are looked at again and again.
const FEW: u64 = 200;

async fn looks_at(broker: &Broker, looks: u32) -> anyhow::Result<Vec<Sample>> {
    let (world, publisher) = with_log(broker).await?;
    fail(&world, &publisher, FEW).await?;
    let (mut order, mut all) = (None, Duration::ZERO);
    for look in 0..looks {
        let (list, took) = world.command(&["failed", "list", "--json"])?;
        let ids: Vec<_> = list["jobs"].as_array().context("a list")?.iter().map(|job| job["id"].clone()).collect();
        ensure!(ids.len() as u64 == FEW && list["complete"] == true, "look {look} saw {} of {FEW}", ids.len());
        ensure!(*order.get_or_insert_with(|| ids.clone()) == ids, "look {look} saw another order");
        all += took;
    }
    publisher.close().await;
    world.end().await?;
    Ok(vec![
        sample("looks", "", looks.into()),
        sample("a look", "ms", all.as_secs_f64() * 1000.0 / f64::from(looks.max(1))),
    ])
}
