//! A job that kills the process again and again (rule 4): it runs alone, then it is failed unstarted.

use lapin::options::{BasicGetOptions, BasicRejectOptions};

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
    const OTHERS: usize = 20;
    let world = World::new().await;
    a_job_given_out(&world, 8).await;
    let (suspect, others) = (receiver("200@700ms").await, receiver("200@100ms").await);
    world.store(&format!(
        "default_organization: acme\norganizations:\n  acme:\n    webhook: {{ url: \"{}\", events: \"*\" }}\n    campaigns:\n      ABC: {{ override: true, webhook: {{ url: \"{}\" }} }}\n",
        suspect.url(),
        others.url(),
    ));
    // Events first, so that the jobs queue fills behind and around the suspect while the worker runs.
    world.publish_many((0..OTHERS as u32).map(|n| event("ABC", n))).await;
    let worker = world.worker(&[("LEADHOOK__DELIVERY__CONCURRENCY", "4")]).await;
    others.wait_for(OTHERS, PATIENCE).await.unwrap();
    let alone = suspect.wait_for(1, PATIENCE).await.unwrap()[0].at;
    let during = others
        .received()
        .into_iter()
        .filter(|one| one.at.duration_since(alone).is_ok_and(|after| after.as_millis() < 700));
    assert_eq!(during.count(), 0, "nothing else starts until it is settled");
    worker.stop().await;
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
