//! Messages that kill the process that works on them (rule 4). Child processes work on suspects, and only their deaths
//! count.

use std::collections::BTreeSet;

use jiff::Timestamp;
use lapin::{
    BasicProperties,
    options::BasicGetOptions,
    types::{AMQPValue, FieldTable},
};
use leadhook::{
    broker::publisher::Outgoing,
    event::Event,
    job::{Envelope, Job},
    store::TargetKey,
};

use crate::harness::{PATIENCE, World, counts, event, eventually, receiver};

/// Number of redeliveries that make a message a suspect.
const SUSPECT: u32 = 8;

/// Writes a store with organization `acme`: campaign `SUS` goes to one receiver, and all others to the other.
fn two_targets(world: &World, suspect: &str, others: &str) {
    world.store(&format!(
        "default_organization: acme\norganizations:\n  acme:\n    webhook: {{ url: \"{others}\", events: \"*\" }}\n    campaigns:\n      SUS: {{ override: true, webhook: {{ url: \"{suspect}\" }} }}\n",
    ));
}

/// Builds a job that has been redelivered this many times.
fn redelivered(times: u32, campaign: Option<&str>, body: &str) -> Outgoing {
    let event = Event::decode(body.as_bytes(), Some("acme"), body.len()).unwrap();
    let target = TargetKey::new("acme", campaign, None);
    let body = body.as_bytes().to_vec().into();
    let job = Job::new(&event, "acme", &target, &Envelope::default(), body, Timestamp::now());
    Job { redeliveries: times, ..job }.to_message(&"leadhook.jobs".into())
}

async fn put(world: &World, message: Outgoing) {
    world.publish_to("", message.routing_key.as_str(), &message.body, message.properties).await;
}

fn deaths(log: &str) -> usize {
    log.matches("a child process died").count()
}

/// Lists the child processes of a worker.
fn children(worker: u32) -> Vec<std::ffi::OsString> {
    let parent = format!("PPid:\t{worker}");
    let processes = std::fs::read_dir("/proc").expect("processes").flatten();
    let children = processes.filter(|process| {
        let status = std::fs::read_to_string(process.path().join("status")).unwrap_or_default();
        status.lines().any(|line| line == parent)
    });
    children.map(|process| process.file_name()).collect()
}

/// Sends a signal to all child processes of a worker.
fn signal_children(worker: u32, signal: &str) {
    let sent = std::process::Command::new("kill").arg(format!("-{signal}")).args(children(worker)).status();
    assert!(sent.expect("kill").success());
}

#[tokio::test]
async fn a_job_that_kills_its_process_is_failed_after_three_deaths_and_the_worker_lives() {
    const OTHERS: u32 = 40;
    let world = World::new().await;
    let (suspect, others) = (receiver("200").await, receiver("200").await);
    two_targets(&world, &suspect.url(), &others.url());
    let mut worker = world.worker(&[("LEADHOOK_FAILPOINTS", "job.posting:acme/SUS=abort")]).await;
    put(&world, redelivered(SUSPECT, Some("SUS"), &event("SUS", 1))).await;
    world.publish_many((0..OTHERS).map(|n| event("ABC", n))).await;
    let failed = world.take("failed", 1).await;
    assert_eq!(failed[0].text("leadhook-reason").as_deref(), Some("crash_loop"));
    assert_eq!(failed[0].text("leadhook-deaths").as_deref(), Some("3"));
    assert_eq!(failed[0].body, event("SUS", 1).as_bytes());
    let received = others.wait_for(OTHERS as usize, PATIENCE).await.unwrap();
    assert_eq!(counts(&received).values().max(), Some(&1), "a neighbour was POSTed twice");
    assert!(worker.has_ended().is_none());
    // The first child could have been shared with other suspects. It had the other three to itself.
    let log = worker.log();
    assert_eq!(deaths(&log), 4, "{log}");
    assert!(log.contains("it was ended by signal 6"));
    worker.metric_is("leadhook_child_deaths_total", "alone", 3.0).await;
    worker.metric_is("leadhook_jobs_total", "reason=\"crash_loop\"", 1.0).await;
    assert!(suspect.received().is_empty());
    worker.stop().await;
}

#[tokio::test]
async fn an_event_that_kills_its_process_is_rejected_after_three_deaths_and_the_worker_lives() {
    let world = World::new().await;
    let (suspect, others) = (receiver("200").await, receiver("200").await);
    two_targets(&world, &suspect.url(), &others.url());
    let armed = world.worker(&[]).await;
    armed.stop().await;
    world.publish(event("SUS", 1).as_bytes()).await;
    world.redeliver("events", SUSPECT).await;
    let mut worker = world.worker(&[("LEADHOOK_FAILPOINTS", "event.resolved:SUS=abort")]).await;
    world.publish_many((0..20).map(|n| event("ABC", n))).await;
    let rejected = world.take("rejected", 1).await;
    assert_eq!(rejected[0].text("leadhook-reason").as_deref(), Some("crash_loop"));
    assert_eq!(rejected[0].body, event("SUS", 1).as_bytes());
    // It was put back twice meanwhile.
    assert_eq!(rejected[0].text("leadhook-exchange").as_deref(), Some("lead.events"));
    assert_eq!(rejected[0].text("leadhook-routing-key").as_deref(), Some("lead.test"));
    others.wait_for(20, PATIENCE).await.unwrap();
    assert!(worker.has_ended().is_none());
    worker.metric_is("leadhook_child_deaths_total", "alone", 3.0).await;
    worker.stop().await;
}

#[tokio::test]
async fn what_shares_a_child_with_a_killer_is_delivered() {
    const SHARING: u32 = 12;
    let world = World::new().await;
    let (suspect, others) = (receiver("200").await, receiver("200@300ms").await);
    two_targets(&world, &suspect.url(), &others.url());
    let worker = world.worker(&[("LEADHOOK_FAILPOINTS", "job.posting:acme/SUS=abort")]).await;
    for n in 0..SHARING {
        put(&world, redelivered(SUSPECT, None, &event("ABC", n))).await;
        if n == SHARING / 2 {
            put(&world, redelivered(SUSPECT, Some("SUS"), &event("SUS", 1))).await;
        }
    }
    let failed = world.take("failed", 1).await;
    assert_eq!(failed[0].body, event("SUS", 1).as_bytes());
    eventually("all delivered", async || (counts(&others.received()).len() == SHARING as usize).then_some(())).await;
    eventually("all settled", async || (world.waiting().await == Some(0)).then_some(())).await;
    worker.stop().await;
    assert_eq!(world.ready("failed").await, 0, "a harmless suspect failed");
}

#[tokio::test]
async fn suspects_are_worked_on_beside_normal_work() {
    let world = World::new().await;
    let (suspect, others) = (receiver("hang").await, receiver("200").await);
    two_targets(&world, &suspect.url(), &others.url());
    let worker = world.worker(&[("LEADHOOK__DELIVERY__CONCURRENCY", "4")]).await;
    put(&world, redelivered(SUSPECT, Some("SUS"), &event("SUS", 1))).await;
    suspect.wait_for(1, PATIENCE).await.unwrap();
    worker.metric_is("leadhook_suspects_in_flight", "", 1.0).await;
    world.publish_many((0..20).map(|n| event("ABC", n))).await;
    others.wait_for(20, PATIENCE).await.unwrap();
    worker.metric_is("leadhook_suspects_in_flight", "", 1.0).await;
    worker.kill().await;
}

#[tokio::test]
async fn a_suspect_is_delivered_and_retried_as_any_job() {
    let world = World::new().await;
    let receiver = receiver("500, 200").await;
    world.simple_store(&receiver.url(), "retry_attempts: 2");
    let worker = world.worker(&[]).await;
    put(&world, redelivered(SUSPECT, None, &event("ABC", 1))).await;
    let received = receiver.wait_for(2, PATIENCE).await.unwrap();
    let ids: Vec<_> = received.iter().map(|one| one.header("webhook-id").map(str::to_owned)).collect();
    assert_eq!(ids[0], ids[1]);
    assert_eq!(received[1].header("leadhook-attempt"), Some("2"));
    eventually("it is counted", async || {
        (worker.metric("leadhook_jobs_total", "outcome=\"delivered\"").await == 1.0).then_some(())
    })
    .await;
    assert_eq!(deaths(&worker.log()), 0);
    worker.stop().await;
}

#[tokio::test]
async fn suspects_wait_while_no_child_can_be_started_and_nothing_counts_against_them() {
    let world = World::new().await;
    let receiver = receiver("200").await;
    world.simple_store(&receiver.url(), "");
    let worker = world.worker(&[("LEADHOOK__DELIVERY_LOG__ENABLED", "false")]).await;
    world.store("organizations: {{");
    worker.signal("HUP");
    put(&world, redelivered(SUSPECT, None, &event("ABC", 1))).await;
    eventually("no child", async || worker.log().contains("cannot start a child process").then_some(())).await;
    // The worker keeps its last good store, and other deliveries continue.
    world.publish(event("ABC", 2).as_bytes()).await;
    receiver.wait_for(1, PATIENCE).await.unwrap();
    world.simple_store(&receiver.url(), "");
    receiver.wait_for(2, PATIENCE).await.unwrap();
    worker.metric_is("leadhook_child_deaths_total", "", 0.0).await;
    worker.stop().await;
    assert_eq!(world.ready("failed").await, 0);
}

#[tokio::test]
async fn a_storm_of_kills_fails_nothing() {
    const EVENTS: u32 = 40;
    const KILLS: usize = 10;
    let world = World::new().await;
    // Each kill cuts the attempts in flight, so the same jobs are redelivered again and again.
    let receiver = receiver("hang").await;
    world.simple_store(&receiver.url(), "");
    let environment = [("LEADHOOK__DELIVERY__CONCURRENCY", "4")];
    // This worker declares the queues.
    world.worker(&environment).await.stop().await;
    for n in 0..EVENTS {
        put(&world, redelivered(SUSPECT, None, &event("ABC", n))).await;
    }
    let mut workers = vec![world.worker(&environment).await, world.start_worker(&environment)];
    for _ in 0..KILLS {
        let (killed, seen) = (workers.remove(0), receiver.count());
        eventually("it works", async || (receiver.count() > seen).then_some(())).await;
        killed.kill().await;
        workers.push(world.start_worker(&environment));
    }
    receiver.set_script("200".parse().unwrap());
    workers.remove(0).kill().await;
    workers.remove(0).kill().await;
    let worker = world.worker(&environment).await;
    let delivered = || {
        let answered = receiver.received().into_iter().filter(|one| one.status == Some(200));
        counts(&answered.collect::<Vec<_>>()).len()
    };
    eventually("all delivered", async || (delivered() == EVENTS as usize).then_some(())).await;
    eventually("all settled", async || (world.waiting().await == Some(0)).then_some(())).await;
    worker.metric_is("leadhook_child_deaths_total", "", 0.0).await;
    worker.stop().await;
    assert_eq!((world.ready("failed").await, world.ready("rejected").await), (0, 0));
}

#[tokio::test]
async fn a_message_is_published_again_before_the_broker_gives_up_on_it() {
    const WORN: u32 = 60;
    let world = World::new().await;
    let hanging = receiver("hang").await;
    world.simple_store(&hanging.url(), "");
    let worker = world.worker(&[]).await;
    worker.stop().await;
    let upstream = FieldTable::from(std::collections::BTreeMap::from([("mine".into(), AMQPValue::LongInt(7))]));
    let properties = BasicProperties::default().with_message_id("m-1".into()).with_headers(upstream);
    world.publish_with(event("ABC", 1).as_bytes(), properties).await;
    world.redeliver("events", WORN).await;
    let worker = world.worker(&[]).await;
    hanging.wait_for(1, PATIENCE).await.unwrap();
    worker.kill().await;
    // The event was settled, and its job has its own count.
    world.redeliver("jobs", WORN).await;
    let worker = world.worker(&[]).await;
    hanging.wait_for(2, PATIENCE).await.unwrap();
    worker.kill().await;
    let channel = world.channel().await;
    let job = eventually("the job", async || {
        channel.basic_get("leadhook.jobs".into(), BasicGetOptions::default()).await.expect("get")
    })
    .await;
    let headers = job.delivery.properties.headers().clone().unwrap_or_default();
    let count = |name: &str| match headers.inner().get(name) {
        Some(AMQPValue::LongLongInt(count)) => *count,
        other => panic!("{name}: {other:?}"),
    };
    assert!(count("x-delivery-count") < 10, "the broker did not count from 0 again");
    assert!(count("leadhook-redeliveries") >= WORN.into(), "it is no longer a suspect");
    let Some(AMQPValue::LongString(said)) = headers.inner().get("leadhook-upstream") else { panic!("{headers:?}") };
    assert!(String::from_utf8_lossy(said.as_bytes()).contains("\"mine\":7"), "the headers of upstream are lost");
}

#[tokio::test]
async fn an_event_that_panics_each_time_outside_an_attempt_is_rejected() {
    let world = World::new().await;
    let receiver = receiver("200").await;
    world.simple_store(&receiver.url(), "");
    let worker = world.worker(&[("LEADHOOK_FAILPOINTS", "event.taken=panic")]).await;
    world.publish(event("ABC", 1).as_bytes()).await;
    let rejected = world.take("rejected", 1).await;
    assert_eq!(rejected[0].text("leadhook-reason").as_deref(), Some("crash_loop"));
    worker.metric_is("leadhook_child_deaths_total", "alone", 3.0).await;
    assert_eq!(worker.log().matches("settling a message panicked").count(), SUSPECT as usize);
    worker.stop().await;
}

#[tokio::test]
async fn kills_of_child_processes_from_outside_count_against_no_message() {
    const KILLS: usize = 5;
    let world = World::new().await;
    let receiver = receiver("hang").await;
    world.simple_store(&receiver.url(), "");
    let worker = world.worker(&[]).await;
    put(&world, redelivered(SUSPECT, None, &event("ABC", 1))).await;
    for seen in 1..=KILLS {
        receiver.wait_for(seen, PATIENCE).await.unwrap();
        // Children ignore SIGHUP, which asks the worker for a reload.
        signal_children(worker.id(), "HUP");
        signal_children(worker.id(), "KILL");
        eventually("a death", async || {
            (worker.log().matches("it was ended by signal 9").count() == seen).then_some(())
        })
        .await;
        if seen == KILLS {
            receiver.set_script("200".parse().unwrap());
        }
    }
    receiver.wait_for(KILLS + 1, PATIENCE).await.unwrap();
    eventually("it is delivered", async || {
        (worker.metric("leadhook_jobs_total", "outcome=\"delivered\"").await == 1.0).then_some(())
    })
    .await;
    worker.stop().await;
    assert_eq!(world.ready("failed").await, 0);
}

#[tokio::test]
async fn no_third_child_starts_while_suspects_hang_in_two_of_older_stores() {
    let world = World::new().await;
    let receiver = receiver("hang").await;
    world.simple_store(&receiver.url(), "");
    let worker = world.worker(&[]).await;
    for n in 0..3 {
        put(&world, redelivered(SUSPECT, None, &event("ABC", n))).await;
        if n == 2 {
            break;
        }
        receiver.wait_for(n as usize + 1, PATIENCE).await.unwrap();
        // Makes another revision.
        world.simple_store(&receiver.url(), &format!("retry_attempts: {}", n + 2));
        worker.signal("HUP");
        // The signal and the watch on the files can each load the same revision.
        let revisions = || {
            let log = worker.log();
            let of = |line: &str| line.split_once("\"revision\":\"").map(|(_, rest)| rest[..12].to_owned());
            log.lines().filter_map(of).collect::<BTreeSet<_>>().len()
        };
        eventually("the store", async || (revisions() > n as usize + 1).then_some(())).await;
    }
    eventually("the third waits", async || {
        (worker.metric("leadhook_jobs_total", "reason=\"suspect\"").await >= 1.0).then_some(())
    })
    .await;
    assert_eq!(children(worker.id()).len(), 2);
    assert_eq!(receiver.count(), 2);
    worker.kill().await;
}
