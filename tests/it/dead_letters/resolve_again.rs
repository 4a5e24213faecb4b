//! Replays that change the delivery: to the target that the store names now, or as the original event.

use std::collections::BTreeSet;

use jiff::Timestamp;
use lapin::{
    BasicProperties,
    types::{AMQPValue, FieldTable},
};
use leadhook::{
    delivery_log::{Entry, What, batch},
    job::Job,
    store::TargetKey,
};
use serde_json::json;

use super::{drain, fail, failed, job, quiet_world};
use crate::harness::{PATIENCE, World, event, eventually, receiver};

#[tokio::test]
async fn resolved_again_a_job_goes_where_the_store_sends_its_campaign_now() {
    let world = World::new().await;
    let (old, new) = (receiver("500").await, receiver("200").await);
    world.simple_store(&old.url(), "retry_attempts: 1");
    let worker = world.worker(&[]).await;
    world.publish(event("ABC", 1).as_bytes()).await;
    eventually("it has failed", async || (world.ready("failed").await == 1).then_some(())).await;
    let id = old.received()[0].webhook_id().unwrap().to_owned();

    world.store(&format!(
        "organizations: {{ acme: {{ webhook: {{ url: '{}', events: [lead.delivered] }},
          campaigns: {{ ABC: {{ override: true, webhook: {{ url: '{}', events: [lead.delivered] }} }} }} }} }}",
        old.url(),
        new.url()
    ));
    let would = failed(&world, &["replay", "--all", "--resolve-again", "--dry-run", "--json"]).await.json();
    assert_eq!(would["would_replay"], 1, "{would}");
    assert_eq!(would["would_redirect"][0]["from"], "acme", "{would}");
    assert_eq!(would["would_redirect"][0]["to"], "acme/ABC", "{would}");
    let told = failed(&world, &["replay", "--all", "--resolve-again", "--dry-run"]).await.out;
    assert!(told.contains("1 job for acme goes to acme/ABC, under a new webhook-id"), "{told}");
    let replay = failed(&world, &["replay", "--all", "--resolve-again", "--yes", "--json"]).await;
    assert_eq!(replay.code, Some(0), "{} {}", replay.out, replay.err);
    let tally = replay.json();
    assert_eq!((&tally["replayed"], &tally["redirected"]), (&1.into(), &1.into()), "{tally}");

    let received = new.wait_for(1, PATIENCE).await.unwrap();
    let there = received[0].webhook_id().unwrap().to_owned();
    assert_ne!(there, id, "another target needs another id");
    assert_eq!(received[0].body, event("ABC", 1).into_bytes());
    assert_eq!(old.received().len(), 2, "the old target got another POST");
    // Each delivery's history names the other.
    for (id, word) in [(&id, format!("now for acme/ABC as {there}")), (&there, format!("was for acme as {id}"))] {
        eventually("it is on record", async || {
            let mut command = world.command();
            command.args(["deliveries", "show", id, "--json"]).env("LEADHOOK__AMQP__URLS", &world.url);
            let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
            String::from_utf8(output.stdout).unwrap().contains(&word).then_some(())
        })
        .await;
    }
    worker.stop().await;
    assert_eq!((world.ready("failed").await, world.ready("jobs").await), (0, 0));
}

#[tokio::test]
async fn without_a_target_in_its_organization_a_job_stays() {
    let world = quiet_world().await;
    let ids = fail(&world, (0..3).map(job)).await;
    world.store(
        "organizations: { acme: { webhook: { enabled: false } }, globex: { webhook: { enabled: false }, campaigns:
          { ABC: { override: true, webhook: { url: 'http://127.0.0.1:9', events: [lead.delivered] } } } } }",
    );
    for arguments in [
        &["replay", "--all", "--resolve-again", "--yes", "--json"][..],
        &["replay", &ids[0], "--resolve-again", "--json"],
    ] {
        let replay = failed(&world, arguments).await;
        assert_eq!(replay.code, Some(1), "{}", replay.out);
        let left = &replay.json()["without_target"]["organization_mismatch"];
        assert!(left.as_u64() >= Some(1), "{}", replay.out);
    }
    assert_eq!((drain(&world, "failed").await, world.ready("jobs").await), (ids, 0));
}

#[tokio::test]
async fn an_event_that_the_broker_gave_up_goes_back_onto_the_events_queue() {
    let world = quiet_world().await;
    let ids = fail(&world, [job(7)]).await;
    let mut headers = FieldTable::default();
    headers.insert("organization-id".into(), AMQPValue::LongString("acme".into()));
    headers.insert("x-delivery-count".into(), AMQPValue::LongLongInt(20));
    let properties = BasicProperties::default().with_message_id("theirs".into()).with_headers(headers);
    world.publish_to("", "leadhook.failed", event("ABC", 1).as_bytes(), properties).await;
    world.publish_to("", "leadhook.failed", b"nonsense", BasicProperties::default()).await;

    let named = failed(&world, &["requeue", &ids[0], "--yes", "--json"]).await;
    assert_eq!((named.code, &named.json()["unusable"]), (Some(1), &1.into()), "a job is not an event: {}", named.out);
    for (reason, chosen) in [("unknown", 2), ("dead_lettered", 0)] {
        let some = failed(&world, &["requeue", "--reason", reason, "--dry-run", "--json"]).await;
        assert_eq!(some.json()["chosen"], chosen, "{reason}: {}", some.out);
    }
    let all = failed(&world, &["requeue", "--all", "--yes", "--json"]).await;
    let tally = all.json();
    assert_eq!((all.code, &tally["requeued"], &tally["unusable"]), (Some(1), &1.into(), &1.into()), "{tally}");
    let events = world.take("events", 1).await;
    assert_eq!(events[0].body, event("ABC", 1).into_bytes());
    assert_eq!(events[0].text("organization-id").as_deref(), Some("acme"));
    assert_eq!(events[0].properties.message_id().as_ref().unwrap().as_str(), "theirs");
    assert_eq!(world.ready("failed").await, 2);
}

#[tokio::test]
async fn no_event_is_sent_twice_to_the_target_that_two_of_its_jobs_would_get() {
    let world = quiet_world().await;
    let ids = fail(&world, [named("crm"), named("mail"), job(2)]).await;
    let dry = failed(&world, &["replay", "--all", "--resolve-again", "--dry-run", "--json"]).await.json();
    assert_eq!((&dry["would_replay"], &dry["without_target"]["goes_there_already"]), (&2.into(), &1.into()), "{dry}");
    let replay = failed(&world, &["replay", "--all", "--resolve-again", "--yes", "--json"]).await;
    assert_eq!((replay.code, &replay.json()["redirected"]), (Some(1), &1.into()), "{}", replay.out);
    let there = drain(&world, "jobs").await;
    let both = [job(1).webhook_id, job(2).webhook_id];
    assert_eq!(there.iter().collect::<BTreeSet<_>>(), both.iter().collect(), "a job was lost or duplicated");
    let left = drain(&world, "failed").await;
    assert!(left.len() == 1 && ids.contains(&left[0]), "{left:?}");
}

/// Records that a job was delivered.
async fn delivered_all_the_same(world: &World, job: &Job) {
    let mut lines = Vec::new();
    batch::add(&mut lines, &Entry::of_job(What::Delivered, Timestamp::now(), job));
    world.publish_to("", "leadhook.log", &batch::message("test", 1, &lines), BasicProperties::default()).await;
}

/// Returns the job of event 1, for a target of this name.
fn named(name: &str) -> Job {
    job(1).redirected(&TargetKey::new("acme", None, Some(name)))
}

#[tokio::test]
async fn what_the_log_says_was_delivered_there_is_left_and_takes_nothing_there() {
    let (first, second) = (named("crm"), named("mail"));
    // Either one of the two was delivered, or the event was delivered under the id that both would get.
    for (delivered, replayed) in [(&first, 1_u32), (&second, 1), (&job(1), 0)] {
        let world = quiet_world().await;
        delivered_all_the_same(&world, delivered).await;
        fail(&world, [first.clone(), second.clone()]).await;
        let replay = failed(&world, &["replay", "--all", "--resolve-again", "--yes", "--json"]).await;
        let tally = replay.json();
        assert_eq!(replay.code, Some(0), "{tally:#} {}", replay.err);
        assert_eq!((&tally["replayed"], &tally["without_target"]), (&replayed.into(), &json!({})), "{tally:#}");
        assert_eq!(tally["delivered_already"], 2 - replayed, "{tally:#}");
        assert_eq!(world.ready("jobs").await, replayed);
    }
}
