//! A bad target costs its neighbours nothing, and no target gets more than it can handle.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use jiff::Timestamp;
use leadhook::{
    event::Event,
    job::{Envelope, Job},
    limits::{State, View},
    receiver::{Received, Receiver},
    store::TargetKey,
};

use crate::harness::{PATIENCE, Worker, World, counts, event, eventually, receiver};

/// Time for which the receivers of these tests keep each request, so that concurrent requests are visible.
const KEPT: Duration = Duration::from_millis(300);

/// Writes a store with two organizations, whose campaigns are `BAD` and `GOOD`.
fn two(world: &World, bad: &Receiver, good: &Receiver, more: &str) {
    world.store(&format!(
        "organizations:\n  bad:\n    webhook: {{ url: \"{}\", events: \"*\"{more} }}\n    campaigns: {{ BAD: {{}} }}\n  good:\n    webhook: {{ url: \"{}\", events: \"*\"{more} }}\n    campaigns: {{ GOOD: {{}} }}\n",
        bad.url(),
        good.url()
    ));
}

/// Checks that no more than `most` requests arrived within the time that each is kept.
fn never_more_than(most: usize, received: &[Arc<Received>]) {
    let mut times: Vec<SystemTime> = received.iter().map(|one| one.at).collect();
    times.sort_unstable();
    for window in times.windows(most + 1) {
        let apart = window[most].duration_since(window[0]).unwrap();
        // The next request may arrive as soon as an answer has begun.
        assert!(apart >= KEPT - Duration::from_millis(30), "{} within {apart:?}", most + 1);
    }
}

async fn deferred(worker: &Worker, reason: &str) -> f64 {
    worker.metric("leadhook_jobs_total", &format!("outcome=\"deferred\",reason=\"{reason}\"")).await
}

#[tokio::test]
async fn the_limit_of_attempts_in_flight_is_a_setting() {
    let world = World::new().await;
    let receiver = receiver("200@300ms").await;
    world.simple_store(&receiver.url(), "");
    let worker = world.worker(&[("LEADHOOK__DELIVERY__MAX_IN_FLIGHT", "2")]).await;
    world.publish_many((0..20).map(|n| event("ABC", n))).await;
    let received = receiver.wait_for(20, PATIENCE).await.unwrap();
    assert_eq!(received.len(), 20);
    never_more_than(2, &received);
    worker.stop().await;
}

#[tokio::test]
async fn a_target_may_lower_its_own_limit() {
    let world = World::new().await;
    let receiver = receiver("200@300ms").await;
    world.simple_store(&receiver.url(), "max_in_flight: 1");
    let worker = world.worker(&[]).await;
    world.publish_many((0..8).map(|n| event("ABC", n))).await;
    never_more_than(1, &receiver.wait_for(8, PATIENCE).await.unwrap());
    worker.stop().await;
}

#[tokio::test]
async fn a_rate_is_kept_and_spends_no_attempt() {
    let world = World::new().await;
    let receiver = receiver("200").await;
    world.simple_store(&receiver.url(), "max_per_second: 10");
    let worker = world.worker(&[]).await;
    world.publish_many((0..60).map(|n| event("ABC", n))).await;
    let received = receiver.wait_for(60, PATIENCE).await.unwrap();
    let mut times: Vec<_> = received.iter().map(|one| one.at).collect();
    times.sort_unstable();
    for (n, at) in times.iter().enumerate() {
        let within = times[n..].iter().take_while(|other| other.duration_since(*at).unwrap() < Duration::from_secs(1));
        assert!(within.count() <= 15, "more than 15 in a second");
    }
    assert!(received.iter().all(|one| one.attempt() == Some(1)), "waiting for the rate spent an attempt");
    assert!(deferred(&worker, "rate").await > 0.0);
    worker.stop().await;
}

#[tokio::test]
async fn a_target_that_hangs_costs_its_neighbour_nothing() {
    const EACH: u32 = 200;
    const FURTHER: u32 = 20;
    let world = World::new().await;
    let (bad, good) = (receiver("hang").await, receiver("200").await);
    two(&world, &bad, &good, ", timeout: 120");
    let environment = [("LEADHOOK__DELIVERY__CONCURRENCY", "20"), ("LEADHOOK__SHUTDOWN__GRACE", "121s")];
    let worker = world.worker(&environment).await;
    world.publish_many((0..EACH).flat_map(|n| [event("BAD", n), event("GOOD", n)])).await;
    good.wait_for(EACH as usize, PATIENCE).await.unwrap();
    assert!(bad.received().len() <= 10, "more than half of the slots: {}", bad.received().len());
    eventually("the rest of the hanging ones is deferred", async || {
        (worker.metric("leadhook_jobs_total", "outcome=\"deferred\"").await >= 100.0).then_some(())
    })
    .await;
    // The worker now knows that the neighbour answers, and does not defer its jobs while slots are free.
    let before = deferrals(&worker, "good");
    for n in 0..FURTHER {
        world.publish(event("GOOD", EACH + n).as_bytes()).await;
        good.wait_for((EACH + n) as usize + 1, PATIENCE).await.unwrap();
    }
    assert_eq!(deferrals(&worker, "good"), before, "a job for the target that answers was deferred");
    assert!(deferrals(&worker, "bad") > 0, "the log names no deferred job");
    // No attempt at the hanging target has timed out yet, so none of these deliveries waited for one.
    worker.metric_is("leadhook_attempts_total", "class=\"timeout\"", 0.0).await;
    worker.kill().await;
}

/// Counts the deferrals of this target's jobs in the worker's log.
fn deferrals(worker: &Worker, target: &str) -> usize {
    let target = format!("\"target\":\"{target}\"");
    worker.log().lines().filter(|line| line.contains("\"message\":\"deferred\"") && line.contains(&target)).count()
}

#[tokio::test]
async fn twelve_targets_that_hang_leave_a_part_of_twenty_slots_to_their_neighbour() {
    const EACH: u32 = 200;
    let world = World::new().await;
    let good = receiver("200").await;
    let mut bad = Vec::new();
    for _ in 0..12 {
        bad.push(receiver("hang").await);
    }
    let organization = |name: &str, url: &str, campaign: &str| {
        format!(
            "  {name}:\n    webhook: {{ url: \"{url}\", events: \"*\", timeout: 120 }}\n    campaigns: {{ {campaign}: {{}} }}\n"
        )
    };
    let hanging =
        bad.iter().enumerate().map(|(n, bad)| organization(&format!("bad{n}"), &bad.url(), &format!("BAD{n}")));
    let store: String = hanging.chain([organization("good", &good.url(), "GOOD")]).collect();
    world.store(&format!("organizations:\n{store}"));
    let environment = [("LEADHOOK__DELIVERY__CONCURRENCY", "20"), ("LEADHOOK__SHUTDOWN__GRACE", "121s")];
    let worker = world.worker(&environment).await;
    // Half of the slots stay free for targets that have answered, and this one has.
    world.publish(event("GOOD", EACH).as_bytes()).await;
    eventually("the neighbour has answered", async || {
        (worker.metric("leadhook_jobs_total", "outcome=\"delivered\"").await == 1.0).then_some(())
    })
    .await;
    let to_all = |n: u32| (0..12).map(move |bad| event(&format!("BAD{bad}"), n)).chain([event("GOOD", n)]);
    world.publish_many((0..EACH).flat_map(to_all)).await;
    good.wait_for(EACH as usize + 1, PATIENCE).await.unwrap();
    worker.metric_is("leadhook_attempts_total", "class=\"timeout\"", 0.0).await;
    let slots: usize = bad.iter().map(|bad| bad.received().len()).sum();
    assert!((1..=10).contains(&slots), "not at most half of the slots: {slots}");
    worker.kill().await;
}

#[tokio::test]
async fn what_was_deferred_is_delivered_when_the_target_answers_again() {
    const JOBS: u32 = 100;
    let world = World::new().await;
    let receiver = receiver("hang").await;
    world.simple_store(&receiver.url(), "timeout: 2\nretry_attempts: 10");
    let worker = world.worker(&[]).await;
    world.publish_many((0..JOBS).map(|n| event("ABC", n))).await;
    eventually("jobs are deferred", async || {
        (worker.metric("leadhook_jobs_total", "outcome=\"deferred\"").await >= 20.0).then_some(())
    })
    .await;
    receiver.set_script("200".parse().unwrap());
    eventually("all are delivered", async || {
        (worker.metric("leadhook_jobs_total", "outcome=\"delivered\"").await >= f64::from(JOBS)).then_some(())
    })
    .await;
    for (id, posts) in counts(&receiver.received()) {
        let attempts = receiver.received().into_iter().filter(|one| one.webhook_id() == Some(id.as_str()));
        let last = attempts.filter_map(|one| one.attempt()).max();
        assert_eq!(last, u32::try_from(posts).ok(), "a deferral spent an attempt");
    }
    worker.stop().await;
}

/// With one probe every five seconds they would take six minutes, and a day's leads longer than the maximum age.
#[tokio::test]
async fn a_receiver_that_answers_each_lead_with_500_gets_its_attempts_and_they_end() {
    const JOBS: usize = 40;
    let world = World::new().await;
    let receiver = receiver("500").await;
    world.simple_store(&receiver.url(), "retry_attempts: 1");
    let worker = world.worker(&[]).await;
    world.publish_many((0..JOBS).map(|n| event("ABC", n as u32))).await;
    for message in world.take("failed", JOBS).await {
        assert_eq!(message.text("leadhook-reason").as_deref(), Some("exhausted"));
    }
    worker.metric_is("leadhook_circuits", "state=\"failing\"", 1.0).await;
    assert!(counts(&receiver.received()).values().all(|posts| *posts == 2));
    worker.stop().await;
}

#[tokio::test]
async fn a_pause_is_meant_for_the_whole_target() {
    let world = World::new().await;
    let (bad, good) = (receiver("429:4,200").await, receiver("200").await);
    two(&world, &bad, &good, "");
    let worker = world.worker(&[]).await;
    world.publish(event("BAD", 0).as_bytes()).await;
    let first = bad.wait_for(1, PATIENCE).await.unwrap()[0].at;
    eventually("the circuit is paused", async || {
        (worker.metric("leadhook_circuits", "state=\"paused\"").await == 1.0).then_some(())
    })
    .await;
    world.publish_many((1..20).flat_map(|n| [event("BAD", n), event("GOOD", n)])).await;
    good.wait_for(19, PATIENCE).await.unwrap();
    let received = bad.wait_for(20, PATIENCE).await.unwrap();
    let second = received[1].at.duration_since(first).unwrap();
    assert!(second >= Duration::from_millis(3900), "the next request came after {second:?}");
    // Beside other tests a job may be deferred twice.
    worker.metric_reaches("leadhook_jobs_total", "outcome=\"deferred\",reason=\"paused\"", 19.0).await;
    worker.stop().await;
}

#[tokio::test]
async fn jobs_that_grow_too_old_fail_as_expired() {
    let world = World::new().await;
    let receiver = receiver("200").await;
    world.simple_store(&receiver.url(), "");
    let old = |n: u32, hours: i64| {
        let body = event("ABC", n);
        let event = Event::decode(body.as_bytes(), Some("acme"), 1 << 20).unwrap();
        let then = Timestamp::now() - jiff::SignedDuration::from_hours(hours);
        let target = TargetKey::new("acme", None, None);
        let job = Job::new(&event, "acme", &target, &Envelope::default(), body.into_bytes().into(), then);
        job.to_message(&"leadhook.jobs".into())
    };
    let worker = world.worker(&[("LEADHOOK__DELIVERY__MAXIMUM_AGE", "2h")]).await;
    for message in [old(1, 1), old(2, 3)] {
        world.publish_to("", "leadhook.jobs", &message.body, message.properties).await;
    }
    let failed = world.take("failed", 1).await;
    assert_eq!(failed[0].body, event("ABC", 2).as_bytes());
    assert_eq!(failed[0].text("leadhook-reason").as_deref(), Some("expired"));
    assert_eq!(failed[0].text("leadhook-detail").as_deref(), Some("older than delivery.maximum_age (2h)"));
    let delivered = receiver.wait_for(1, PATIENCE).await.unwrap();
    assert_eq!(delivered[0].body, event("ABC", 1).as_bytes());
    worker.stop().await;
}

#[tokio::test]
async fn targets_are_shown_as_they_stand() {
    let world = World::new().await;
    let (bad, good) = (receiver("429:600").await, receiver("200").await);
    two(&world, &bad, &good, "");
    let worker = world.worker(&[]).await;
    world.publish_many([event("BAD", 1), event("GOOD", 1)]).await;
    bad.wait_for(1, PATIENCE).await.unwrap();
    good.wait_for(1, PATIENCE).await.unwrap();
    let admin = worker.admin().await;
    let targets = |arguments: &[&str]| {
        let mut command = world.command();
        command.env("LEADHOOK__ADMIN__LISTEN", admin.trim_start_matches("http://")).arg("targets").args(arguments);
        let output = command.output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    let circuits = eventually("both targets have answered", async || {
        let circuits: Vec<View> = serde_json::from_str(&targets(&["--json"])).unwrap();
        circuits.iter().all(|circuit| circuit.in_flight == 0).then_some(circuits)
    })
    .await;
    let states: Vec<_> = circuits.iter().map(|circuit| (circuit.organization.as_str(), circuit.state)).collect();
    assert_eq!(states, [("bad", State::Paused), ("good", State::Healthy)]);
    assert!((1..=600).contains(&circuits[0].paused_for_seconds));
    assert!(good.url().starts_with(&circuits[1].origin), "{}", circuits[1].origin);
    let table = targets(&["--troubled"]);
    assert!(table.contains("paused") && !table.contains("good"), "{table}");
    worker.stop().await;
}
