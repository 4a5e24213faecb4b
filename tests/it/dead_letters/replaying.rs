//! Replaying: a job is published and confirmed before it is removed, whatever happens in between.

use std::{collections::BTreeMap, process::Stdio};

use jiff::Timestamp;
use lapin::options::QueueDeleteOptions;
use leadhook::{delivery::reason::FailReason, job::Job};
use reqwest::Method;

use super::{connect, drain, fail, failed, job, litter, publish, quiet_world, set};
use crate::{
    harness::{PATIENCE, World, event, eventually, receiver},
    node::Node,
};

#[tokio::test]
async fn a_replayed_job_is_delivered_under_the_same_id_with_all_attempts_anew() {
    let world = World::new().await;
    let receiver = receiver("500").await;
    world.simple_store(&receiver.url(), "retry_attempts: 1");
    let worker = world.worker(&[]).await;
    world.publish(event("ABC", 1).as_bytes()).await;
    eventually("it has failed", async || (world.ready("failed").await == 1).then_some(())).await;
    receiver.set_script("200".parse().unwrap());
    let id = receiver.received()[0].webhook_id().unwrap().to_owned();
    let replay = failed(&world, &["replay", &id[..14]]).await;
    assert_eq!((replay.code, replay.out.trim()), (Some(0), "1 job replayed"), "{}", replay.err);
    let received = receiver.wait_for(3, PATIENCE).await.unwrap();
    assert_eq!(received[2].webhook_id(), Some(id.as_str()));
    assert_eq!(received[2].attempt(), Some(1));
    assert_eq!(received[2].body, event("ABC", 1).into_bytes());
    eventually("it is delivered", async || {
        (worker.metric("leadhook_jobs_total", "delivered").await >= 1.0).then_some(())
    })
    .await;
    worker.stop().await;
    assert_eq!((world.ready("failed").await, world.ready("jobs").await), (0, 0));
}

#[tokio::test]
async fn all_are_replayed_copies_as_one_and_what_is_no_job_stays() {
    let world = quiet_world().await;
    // Copies in one batch, and in batches far apart.
    let order = [5, 5].into_iter().chain(0..600).chain([7]);
    let ids = fail(&world, order.map(job)).await;
    litter(&world, "not-ours").await;
    let unasked = failed(&world, &["replay", "--all"]).await;
    assert_eq!(unasked.code, Some(2), "{}", unasked.out);
    assert!(unasked.err.contains("--yes"), "{}", unasked.err);
    assert_eq!(world.ready("jobs").await, 0);

    let replay = failed(&world, &["replay", "--all", "--yes", "--json"]).await;
    assert_eq!(replay.code, Some(1), "some messages stay: {}", replay.err);
    let tally = replay.json();
    assert_eq!(
        (&tally["replayed"], &tally["copies_removed"], &tally["unreadable"]),
        (&600.into(), &3.into(), &1.into())
    );
    let jobs = world.take("jobs", 600).await;
    let mut seen = Vec::new();
    for message in &jobs {
        assert_eq!(message.text("leadhook-attempts").as_deref(), Some("0"));
        assert_eq!(message.text("leadhook-replays").as_deref(), Some("1"));
        assert_eq!(message.text("leadhook-reason"), None);
        seen.push(message.properties.message_id().as_ref().unwrap().to_string());
    }
    assert_eq!(set(&seen), set(&ids));
    assert_eq!(drain(&world, "failed").await, ["not-ours"]);
}

/// Maps each job on a queue to its numbers of replays, by id.
async fn replays(world: &World, queue: &str) -> BTreeMap<String, Vec<u32>> {
    let count = world.ready(queue).await as usize;
    let mut replays: BTreeMap<String, Vec<u32>> = BTreeMap::new();
    for message in world.take(queue, count).await {
        let id = message.properties.message_id().as_ref().unwrap().to_string();
        let times = message.text("leadhook-replays").map_or(0, |text| text.parse().unwrap());
        replays.entry(id).or_default().push(times);
    }
    replays
}

/// Returns the job of event `n`, replayed this many times before.
fn replayed(n: u32, times: u32) -> Job {
    Job { replays: times, ..job(n) }
}

/// Copies of four jobs, with equal and different numbers of replays, in one batch and in batches far apart.
fn forked() -> impl Iterator<Item = Job> {
    let first = [replayed(1, 0), replayed(2, 2), replayed(3, 1), replayed(3, 2)];
    let last = [replayed(1, 2), replayed(2, 0), replayed(4, 1), replayed(4, 0), replayed(1, 1)];
    first.into_iter().chain((4..600).map(job)).chain(last)
}

/// Returns the expected number of replays of each of the jobs 1 to 599, after a replay of `forked`.
fn each_once(ids: &[String]) -> BTreeMap<String, Vec<u32>> {
    let more = |n: u32| {
        if n < 4 {
            3
        } else if n == 4 {
            2
        } else {
            1
        }
    };
    let id = |n: u32| job(n).webhook_id;
    let all: BTreeMap<_, _> = (1..600).map(|n| (id(n), vec![more(n)])).collect();
    assert!(all.keys().map(String::as_str).eq(set(ids)));
    all
}

#[tokio::test]
async fn copies_that_were_replayed_more_or_less_often_are_one_job() {
    let world = quiet_world().await;
    let ids = fail(&world, forked()).await;
    let replay = failed(&world, &["replay", "--all", "--yes", "--json"]).await;
    assert_eq!(replay.code, Some(0), "{} {}", replay.out, replay.err);
    let tally = replay.json();
    assert_eq!(
        (&tally["replayed"], &tally["copies_removed"], &tally["failed_again"]),
        (&599.into(), &6.into(), &0.into())
    );
    assert_eq!(replays(&world, "jobs").await, each_once(&ids), "not one more than its highest copy");
    assert_eq!(world.ready("failed").await, 0);
}

#[tokio::test]
async fn a_copy_that_the_filter_does_not_match_is_the_same_job() {
    let world = quiet_world().await;
    let queue = "leadhook.failed".into();
    let older = replayed(1, 0).to_failed(&queue, FailReason::Gone, "gone", Timestamp::now());
    publish(&world, [older]).await;
    let ids = fail(&world, (2..600).map(job).chain([replayed(1, 1)])).await;
    let replay = failed(&world, &["replay", "--reason", "gone", "--yes", "--json"]).await;
    assert_eq!(replay.code, Some(0), "{} {}", replay.out, replay.err);
    let tally = replay.json();
    assert_eq!(
        (&tally["replayed"], &tally["copies_removed"], &tally["failed_again"]),
        (&1.into(), &1.into(), &0.into())
    );
    let last = ids.last().unwrap().clone();
    assert_eq!(replays(&world, "jobs").await, BTreeMap::from([(last, vec![2])]));
    assert_eq!(world.ready("failed").await, 598);
}

#[tokio::test]
async fn what_fails_again_while_a_replay_runs_is_not_taken_for_a_copy() {
    let world = quiet_world().await;
    let ids = fail(&world, forked()).await;
    let receiver = receiver("410").await;
    world.simple_store(&receiver.url(), "");
    let worker = world.worker(&[]).await;
    // The replay takes two seconds. The first jobs fail again before the last ones are replayed, and before the last
    // look.
    let replay = failed(&world, &["replay", "--all", "--yes", "--json", "--rate", "300"]).await;
    assert_eq!(replay.code, Some(0), "{} {}", replay.out, replay.err);
    assert_eq!(replay.json()["replayed"], 599);
    eventually("all have failed again", async || (world.ready("failed").await >= 599).then_some(())).await;
    worker.stop().await;
    assert_eq!(replays(&world, "failed").await, each_once(&ids), "a job was lost or duplicated");
}

#[tokio::test]
async fn one_id_takes_its_copies_along_and_leaves_the_rest() {
    let world = quiet_world().await;
    let ids = fail(&world, [0, 1, 2, 1, 3, 1].map(job)).await;
    let replay = failed(&world, &["replay", &ids[1], "--json"]).await;
    assert_eq!(replay.code, Some(0), "{}", replay.err);
    assert_eq!((&replay.json()["replayed"], &replay.json()["copies_removed"]), (&1.into(), &2.into()));
    assert_eq!(drain(&world, "jobs").await, ids[1..2]);
    assert_eq!(drain(&world, "failed").await, [&*ids[0], &*ids[2], &*ids[4]]);
}

#[tokio::test]
async fn without_a_jobs_queue_nothing_is_removed() {
    let world = quiet_world().await;
    let ids = fail(&world, (0..300).map(job)).await;
    let channel = connect(&world).await.create_channel().await.unwrap();
    channel.queue_delete("leadhook.jobs".into(), QueueDeleteOptions::default()).await.unwrap();
    for arguments in [&["replay", "--all", "--yes"][..], &["replay", &ids[4]]] {
        let replay = failed(&world, arguments).await;
        assert_eq!(replay.code, Some(1), "{}", replay.out);
        assert!(replay.out.contains("the queue leadhook.jobs does not exist"), "{}", replay.out);
    }
    assert_eq!(drain(&world, "failed").await, ids);
}

#[tokio::test]
async fn what_the_jobs_queue_refuses_stays_failed() {
    let world = quiet_world().await;
    let ids = fail(&world, (0..600).map(job)).await;
    let vhost = world.url.rsplit('/').next().unwrap();
    let policy = r#"{"pattern":"^leadhook\\.jobs$","definition":{"max-length":10},"apply-to":"queues"}"#;
    Node::shared().manage(Method::PUT, &format!("policies/{vhost}/small"), policy).await;
    // A policy takes a moment to reach the queue; the replay is repeated until it has an effect.
    let replay = eventually("a refusal", async || {
        let replay = failed(&world, &["replay", "--all", "--yes"]).await;
        (replay.code != Some(0)).then_some(replay)
    })
    .await;
    assert!(replay.out.contains("the broker refuses messages for leadhook.jobs"), "{} {}", replay.out, replay.err);
    Node::shared().manage(Method::DELETE, &format!("policies/{vhost}/small"), "").await;
    let (jobs, rest) = (drain(&world, "jobs").await, drain(&world, "failed").await);
    assert!(!rest.is_empty());
    let everywhere: Vec<_> = jobs.into_iter().chain(rest).collect();
    assert_eq!(set(&everywhere), set(&ids), "a job was lost");
}

#[tokio::test]
async fn killed_in_the_middle_a_replay_loses_nothing() {
    const JOBS: u32 = 6_000;
    let world = quiet_world().await;
    let ids = fail(&world, (0..JOBS).map(job)).await;
    let mut command = world.command();
    command.args(["failed", "replay", "--all", "--yes"]).stdout(Stdio::null()).stderr(Stdio::null());
    let mut replay = command.spawn().unwrap();
    eventually("some are back", async || (world.ready("jobs").await >= 1_000).then_some(())).await;
    replay.kill().unwrap();
    replay.wait().unwrap();
    let rest = eventually("the held messages are on the queue again", async || {
        let rest = failed(&world, &["list", "--json", "--limit", "10000"]).await.ids();
        let (jobs, failed) = (world.ready("jobs").await as usize, world.ready("failed").await as usize);
        (failed == rest.len() && jobs + failed >= ids.len()).then_some(rest)
    })
    .await;
    assert!(!rest.is_empty() && rest.len() < ids.len(), "not killed in the middle: {}", rest.len());
    // Does not check the order: the broker puts the messages of a dead visitor behind those that were visited before.
    assert_eq!(failed(&world, &["replay", "--all", "--yes"]).await.code, Some(0));
    assert_eq!(world.ready("failed").await, 0);
    let jobs = drain(&world, "jobs").await;
    assert_eq!(set(&jobs), set(&ids), "a job was lost");
    // These acks had not been processed by the broker.
    assert!(jobs.len() - ids.len() <= 1_000, "{} duplicates", jobs.len() - ids.len());
}

#[tokio::test]
async fn two_replays_at_once_share_nothing() {
    let world = quiet_world().await;
    let ids = fail(&world, (0..1_000).map(job)).await;
    let arguments = ["replay", "--all", "--yes"];
    let (first, second) = tokio::join!(failed(&world, &arguments), failed(&world, &arguments));
    // The first one to end reports that the other still holds messages, with code 1.
    for one in [&first, &second] {
        let told = one.out.contains("held by another reader");
        assert_eq!(one.code, Some(i32::from(told)), "{} {}", first.out, second.out);
    }
    let jobs = drain(&world, "jobs").await;
    assert_eq!((jobs.len(), set(&jobs)), (ids.len(), set(&ids)), "a job was lost or duplicated");
}
