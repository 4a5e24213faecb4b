//! A job that kills the process again and again (rule 4): it runs alone, then it is failed unstarted.

use std::time::Duration;

use jiff::Timestamp;
use lapin::options::{BasicGetOptions, BasicRejectOptions};
use leadhook::{
    broker::publisher::Outgoing,
    event::Event,
    job::{Envelope, Job},
    store::TargetKey,
};

use crate::harness::{PATIENCE, World, counts, event, eventually, receiver};

/// Puts one job of campaign `SUS` on the jobs queue, given out so many times without an outcome.
async fn a_job_given_out(world: &World, times: u32) {
    let hanging = receiver("hang").await;
    world.simple_store(&hanging.url(), "");
    let worker = world.worker(&[]).await;
    world.publish(event("SUS", 1).as_bytes()).await;
    hanging.wait_for(1, PATIENCE).await.unwrap();
    worker.kill().await; // the first time
    let channel = world.channel().await;
    // Rejecting counts on every version; from 4.3 on a nack does not.
    for _ in 1..times {
        let got = eventually("the job", async || {
            channel.basic_get("leadhook.jobs".into(), BasicGetOptions::default()).await.expect("get")
        })
        .await;
        let back = BasicRejectOptions { requeue: true };
        got.delivery.acker.reject(back).await.expect("reject");
    }
}

#[tokio::test]
async fn a_job_that_was_given_out_twelve_times_is_failed_unstarted() {
    let world = World::new().await;
    a_job_given_out(&world, 12).await;
    let receiver = receiver("200").await;
    world.simple_store(&receiver.url(), "");
    let worker = world.worker(&[]).await;
    let failed = world.take("failed", 1).await;
    assert_eq!(failed[0].text("leadhook-reason").as_deref(), Some("crash_loop"));
    assert_eq!(failed[0].body, event("SUS", 1).as_bytes());
    assert_eq!(receiver.received().len(), 0, "never started");
    worker.stop().await;
}

#[tokio::test]
async fn a_job_that_was_given_out_eight_times_runs_alone() {
    const SUSPECT: Duration = Duration::from_millis(700);
    const OTHER: Duration = Duration::from_millis(100);
    let world = World::new().await;
    let (suspect, others) = (receiver("200@700ms").await, receiver("200@100ms").await);
    world.store(&format!(
        "default_organization: acme\norganizations:\n  acme:\n    webhook: {{ url: \"{}\", events: \"*\" }}\n    campaigns:\n      ABC: {{ override: true, webhook: {{ url: \"{}\" }} }}\n",
        suspect.url(),
        others.url(),
    ));
    let worker = world.worker(&[("LEADHOOK__DELIVERY__CONCURRENCY", "4")]).await;
    // The first delivery has opened the window, so the suspect arrives together with others.
    world.publish_many((0..10).map(|n| event("ABC", n))).await;
    others.wait_for(1, PATIENCE).await.unwrap();
    let message = given_out(8, &event("SUS", 1));
    world.publish_to("", "leadhook.jobs", &message.body, message.properties).await;
    world.publish_many((10..40).map(|n| event("ABC", n))).await;
    let received = others.wait_for(40, PATIENCE).await.unwrap();
    let begun = suspect.wait_for(1, PATIENCE).await.unwrap()[0].at;
    let (before, after): (Vec<_>, Vec<_>) = received.iter().map(|one| one.at).partition(|at| *at < begun);
    assert!(
        !before.is_empty() && !after.is_empty(),
        "the suspect came in the middle: {} {}",
        before.len(),
        after.len()
    );
    let last = before.into_iter().max().unwrap();
    assert!(last + OTHER <= begun, "all others were settled before it began: {:?}", begun.duration_since(last));
    let next = after.into_iter().min().unwrap();
    assert!(begun + SUSPECT <= next, "none began until it was settled: {:?}", next.duration_since(begun));
    worker.stop().await;
}

/// A job whose header says how often it was given out.
fn given_out(times: u32, body: &str) -> Outgoing {
    let event = Event::decode(body.as_bytes(), Some("acme"), body.len()).unwrap();
    let target = TargetKey::new("acme", None, None);
    let body = body.as_bytes().to_vec().into();
    let job = Job::new(&event, "acme", &target, &Envelope::default(), body, Timestamp::now());
    Job { given_out: times, ..job }.to_message(&"leadhook.jobs".into())
}

#[tokio::test]
async fn a_job_that_kills_the_process_does_not_drag_its_neighbours_along() {
    const NEIGHBOURS: usize = 30;
    let world = World::new().await;
    let (suspect, others) = (receiver("hang").await, receiver("200").await);
    world.store(&format!(
        "default_organization: acme\norganizations:\n  acme:\n    webhook: {{ url: \"{}\", events: \"*\" }}\n    campaigns:\n      ABC: {{ override: true, webhook: {{ url: \"{}\" }} }}\n",
        suspect.url(),
        others.url(),
    ));
    // So many slots that the neighbours may hold theirs together, and nothing is parked or times out before the first death.
    let environment = [("LEADHOOK__DELIVERY__CONCURRENCY", "80")];
    let worker = world.worker(&environment).await;
    // A target that has answered before may have so many attempts in flight.
    world.publish_many((100..100 + NEIGHBOURS as u32).map(|n| event("ABC", n))).await;
    others.wait_for(NEIGHBOURS, PATIENCE).await.unwrap();
    eventually("nothing in flight", async || {
        (worker.metric("leadhook_attempts_in_flight", "").await == 0.0).then_some(())
    })
    .await;
    others.set_script("hang".parse().unwrap());
    world.publish(event("SUS", 1).as_bytes()).await;
    world.publish_many((0..NEIGHBOURS as u32).map(|n| event("ABC", n))).await;
    suspect.wait_for(1, PATIENCE).await.unwrap();
    others.wait_for(2 * NEIGHBOURS, PATIENCE).await.unwrap();
    worker.kill().await;
    // All of them have been given out once. The others would be delivered now, were it not for the one that kills.
    others.set_script("200".parse().unwrap());
    let mut deaths = 1;
    loop {
        let seen = suspect.received().len();
        let worker = world.start_worker(&environment);
        let failed = eventually("the one that kills", async || {
            let failed = worker.log().contains("crash_loop");
            (failed || suspect.received().len() > seen).then_some(failed)
        })
        .await;
        worker.kill().await;
        if failed {
            break;
        }
        deaths += 1;
    }
    assert_eq!(deaths, 12);
    let worker = world.worker(&environment).await;
    let failed = world.take("failed", 1).await;
    assert_eq!(failed[0].body, event("SUS", 1).as_bytes());
    eventually("all neighbours delivered", async || (world.waiting().await == Some(0)).then_some(())).await;
    worker.stop().await;
    let delivered = others.received().into_iter().filter(|one| one.status == Some(200));
    assert_eq!(counts(&delivered.collect::<Vec<_>>()).len(), 2 * NEIGHBOURS);
    assert_eq!(world.ready("failed").await, 0, "none of them failed");
}
