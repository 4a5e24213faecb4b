//! Listing and showing: they lose, wear out and reorder nothing.

use std::collections::BTreeMap;

use futures::future::join_all;
use jiff::Timestamp;
use lapin::{
    options::BasicRejectOptions,
    types::{AMQPValue, ShortString},
};
use leadhook::job::HistoryEntry;

use super::{fail, failed, failed_as, get, job, litter, publish, quiet_world, raw, set};
use crate::{
    harness::{World, event, eventually, receiver},
    node::Node,
};

/// Three batches of a browse, of which the last is not full.
const JOBS: u32 = 700;

#[tokio::test]
async fn looking_again_and_again_changes_nothing() {
    let world = quiet_world().await;
    let ids = fail(&world, (0..JOBS).map(job)).await;
    // LEADHOOK_LOOKS=1000 is as often as support looks in a year.
    let looks = std::env::var("LEADHOOK_LOOKS").map_or(3, |looks| looks.parse().expect("a number"));
    for _ in 0..looks {
        let list = failed(&world, &["list", "--json"]).await;
        assert_eq!(list.ids(), ids);
        let list = list.json();
        assert_eq!((&list["complete"], &list["matching"]), (&true.into(), &JOBS.into()));
        assert_eq!(world.ready("failed").await, JOBS);
    }
    assert_eq!(failed(&world, &["show", &ids[3]]).await.code, Some(0));
    let kept = world.take("failed", JOBS as usize).await;
    for (n, message) in (0..).zip(&kept) {
        assert_eq!(message.body, event("ABC", n).into_bytes());
        assert_eq!(message.properties.message_id().as_ref().unwrap().as_str(), ids[n as usize]);
        assert_eq!(message.text("leadhook-reason").as_deref(), Some("exhausted"));
        assert_eq!(
            message.text("x-delivery-count").as_deref(),
            Some(&*format!("{}", looks + 1)),
            "a look did not count exactly once"
        );
    }
}

#[tokio::test]
async fn several_people_at_once_each_see_everything_in_order() {
    let world = quiet_world().await;
    let ids = fail(&world, (0..JOBS).map(job)).await;
    for said in join_all((0..5).map(|_| failed(&world, &["list", "--json"]))).await {
        assert_eq!(said.ids(), ids);
    }
    assert_eq!(failed(&world, &["list", "--json"]).await.ids(), ids);
    assert_eq!(world.ready("failed").await, JOBS);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_another_program_holds_is_said_to_be_missing() {
    let world = quiet_world().await;
    let ids = fail(&world, (0..10).map(job)).await;
    let (_connection, channel) = raw(&world).await;
    let _held = get(&channel, "leadhook.failed").await;
    let list = failed(&world, &["list"]).await;
    assert_eq!(list.code, Some(1));
    assert!(list.out.contains("9 failed jobs"), "{}", list.out);
    assert!(list.out.contains("incomplete: another program reads the queue too"), "{}", list.out);
    let list = failed(&world, &["list", "--json"]).await.json();
    assert_eq!((&list["complete"], list["jobs"].as_array().unwrap().len()), (&false.into(), 9));
    channel.close(200, "done".into()).await.unwrap();
    eventually("it is on the queue again", async || (world.ready("failed").await == 10).then_some(())).await;
    // On some versions it is not in its old place, because the other program has moved it.
    assert_eq!(set(&failed(&world, &["list", "--json"]).await.ids()), set(&ids));
}

#[tokio::test]
async fn jobs_that_fail_meanwhile_come_to_the_end() {
    let world = World::new().await;
    let receiver = receiver("410").await;
    world.simple_store(&receiver.url(), "");
    let worker = world.worker(&[]).await;
    world.publish_many((0..300).map(|n| event("ABC", n))).await;
    let mut seen: Vec<String> = Vec::new();
    while seen.len() < 300 {
        let now = failed(&world, &["list", "--json"]).await.ids();
        assert_eq!(now[..seen.len()], seen, "earlier jobs moved or vanished");
        seen = now;
    }
    worker.stop().await;
    assert_eq!(world.ready("failed").await, 300);
}

#[tokio::test]
async fn a_failed_job_is_told_from_beginning_to_end() {
    let world = World::new().await;
    let receiver = receiver("500,hang").await;
    world.simple_store(&receiver.url(), "retry_attempts: 1\ntimeout: 1");
    let _worker = world.worker(&[]).await;
    world.publish(event("ABC", 7).as_bytes()).await;
    eventually("it has failed", async || (world.ready("failed").await == 1).then_some(())).await;

    let list = failed(&world, &["list"]).await;
    assert_eq!(list.code, Some(0), "{}", list.err);
    for said in ["lead.delivered", "lead_7", "ABC", "acme", "timeout", "exhausted", "customer", "1 failed job"] {
        assert!(list.out.contains(said), "{said}: {}", list.out);
    }
    let id = receiver.received()[0].webhook_id().unwrap().to_owned();
    let show = failed(&world, &["show", &id[..12]]).await;
    assert_eq!(show.code, Some(0), "{}", show.err);
    for said in ["lead_7", "sub_7", "ABC of organization acme", "exhausted, for: customer", "500", "timeout", "replay"]
    {
        assert!(show.out.contains(said), "{said}: {}", show.out);
    }
    assert!(!show.out.contains("john@example.com"), "lead data was shown without a request: {}", show.out);
    assert!(failed(&world, &["show", &id, "--body"]).await.out.contains("john@example.com"));

    let shown = failed(&world, &["show", &id, "--json", "--body"]).await.json();
    assert_eq!(shown["body"], event("ABC", 7));
    assert_eq!(shown["job"]["lead"], "lead_7");
    assert_eq!(shown["job"]["attempts"], 2);
    let statuses: Vec<_> =
        shown["job"]["history"].as_array().unwrap().iter().map(|entry| entry["status"].as_u64()).collect();
    assert_eq!(statuses, [Some(500), None]);
    assert!(failed(&world, &["show", &id, "--json"]).await.json().get("body").is_none());
}

#[tokio::test]
async fn answers_of_receivers_cannot_steer_the_terminal() {
    let world = quiet_world().await;
    let mut evil = job(1);
    evil.history.push(HistoryEntry {
        at: Timestamp::now(),
        attempt: 1,
        outcome: "failed".into(),
        reason: "status".into(),
        status: Some(500),
        ms: 3,
        detail: None,
        snippet: Some("\u{1b}[2Jgone\u{7}".into()),
    });
    let id = fail(&world, [evil]).await.remove(0);
    let show = failed(&world, &["show", &id]).await;
    assert!(show.out.contains("gone") && !show.out.contains('\u{1b}') && !show.out.contains('\u{7}'), "{}", show.out);
}

#[tokio::test]
async fn filters_limits_copies_and_what_is_no_job() {
    let world = quiet_world().await;
    let mut other = job(2);
    other.campaign = "XYZ".into();
    let ids = fail(&world, [job(1), other, job(3), job(1)]).await;
    litter(&world, "not-ours").await;
    assert_eq!(failed(&world, &["list", "--json", "--campaign", "XYZ"]).await.ids(), ids[1..2]);
    assert_eq!(failed(&world, &["list", "--json", "--since", "1h", "--reason", "exhausted"]).await.ids(), ids[..3]);
    assert!(failed(&world, &["list", "--json", "--before", "1h"]).await.ids().is_empty());
    // A time without a zone is UTC, and the command prints the time that it has read.
    let hour = jiff::SignedDuration::from_hours(1);
    let written = |at: jiff::Timestamp| at.strftime("%Y-%m-%dT%H:%M").to_string();
    let (early, late) = (written(jiff::Timestamp::now() - hour), written(jiff::Timestamp::now() + hour));
    let list = failed(&world, &["list", "--json", "--since", &late]).await;
    assert!(list.ids().is_empty() && list.err.contains(&format!("note: from {late}:00Z on")), "{}", list.err);
    assert_eq!(failed(&world, &["list", "--json", "--since", &early]).await.ids(), ids[..3]);
    let unknown = failed(&world, &["list", "--organization", "ACME"]).await;
    assert!(
        unknown.err.contains("help: the webhook store has no organization ACME; did you mean acme?"),
        "{}",
        unknown.err
    );
    let limited = failed(&world, &["list", "--limit", "2"]).await;
    assert!(limited.out.contains("showing the first 2 of 3 failed jobs"), "{}", limited.out);
    let list = failed(&world, &["list", "--json"]).await.json();
    assert_eq!(list["jobs"][0]["copies"], 2);
    assert_eq!((&list["unreadable_count"], &list["unreadable"][0]["message_id"]), (&1.into(), &"not-ours".into()));
    let shown = failed(&world, &["show", "not-ours"]).await;
    assert!(shown.out.contains("cannot be replayed") && !shown.out.contains("garbage"), "{}", shown.out);
    assert_eq!(world.ready("failed").await, 5);
}

#[tokio::test]
async fn what_the_broker_gave_up_has_a_derived_reason() {
    let world = quiet_world().await;
    publish(&world, [job(1).to_message(&"leadhook.jobs".into())]).await;
    let (_connection, channel) = raw(&world).await;
    // The delivery limit of the jobs queue is 100.
    for _ in 0..=100 {
        let requeue = BasicRejectOptions { requeue: true };
        let got = eventually("the job", async || {
            channel.basic_get("leadhook.jobs".into(), Default::default()).await.unwrap()
        });
        got.await.delivery.acker.reject(requeue).await.unwrap();
    }
    eventually("the broker gave it up", async || (world.ready("failed").await == 1).then_some(())).await;
    let list = failed(&world, &["list", "--json"]).await.json();
    assert_eq!((&list["jobs"][0]["reason"], &list["jobs"][0]["owner"]), (&"delivery_limit".into(), &"us".into()));
    assert!(list["jobs"][0]["failed_at"].is_string(), "the broker's time is missing");
    let id = &job(1).webhook_id;
    assert!(failed(&world, &["show", id]).await.out.contains("dead-lettered by the broker from leadhook.jobs"));

    assert_eq!(failed(&world, &["replay", id]).await.code, Some(0));
    let back = world.take("jobs", 1).await.remove(0);
    assert_eq!(back.body, event("ABC", 1).into_bytes());
    let headers = back.properties.headers().clone().unwrap();
    assert!(headers.inner().keys().all(|name| !name.as_str().contains("death")), "{headers:?}");
}

#[tokio::test]
async fn a_worn_message_is_published_anew_before_the_limit() {
    let world = quiet_world().await;
    let ids = fail(&world, [job(1), job(2)]).await;
    let (connection, channel) = raw(&world).await;
    // Reaches the broker's real count: the message is given back 10,001 times.
    let worn = get(&channel, "leadhook.failed").await;
    let _second = get(&channel, "leadhook.failed").await;
    // Uses reject, because from 4.3 on a nack does not count.
    let requeue = BasicRejectOptions { requeue: true };
    worn.delivery.acker.reject(requeue).await.unwrap();
    for _ in 0..10_000 {
        let got = loop {
            match channel.basic_get("leadhook.failed".into(), Default::default()).await.unwrap() {
                Some(got) => break got,
                None => tokio::task::yield_now().await,
            }
        };
        got.delivery.acker.reject(requeue).await.unwrap();
    }
    connection.close(200, "done".into()).await.unwrap();
    eventually("both are there", async || (world.ready("failed").await == 2).then_some(())).await;

    assert_eq!(failed(&world, &["list", "--json"]).await.ids().len(), 2);
    assert_eq!(world.ready("failed").await, 2);
    let kept = world.take("failed", 2).await;
    let found: BTreeMap<_, _> = kept
        .iter()
        .map(|message| {
            let headers = message.properties.headers().clone().unwrap();
            let count = match headers.inner().get(&ShortString::from("x-delivery-count")) {
                Some(AMQPValue::LongLongInt(count)) => *count,
                None => 0,
                other => panic!("{other:?}"),
            };
            (message.properties.message_id().as_ref().unwrap().to_string(), (count, message.body.clone()))
        })
        .collect();
    assert_eq!(found[&ids[0]], (0, event("ABC", 1).into_bytes()), "it was not published again");
    assert!(found[&ids[1]].0 > 0, "the other one was published again");
    assert_eq!(kept[0].properties.message_id().as_ref().unwrap().as_str(), ids[1], "it did not go to the end");
}

#[tokio::test]
async fn support_needs_few_rights_and_hears_when_the_lock_is_not_among_them() {
    let world = quiet_world().await;
    let ids = fail(&world, (0..10).map(job)).await;
    let vhost = world.url.rsplit('/').next().unwrap();
    let user = async |name: &str, configure: &str| {
        let read = r"^leadhook\\.(failed|log)$";
        let rights = format!(r#"{{"configure":"{configure}","write":"^amq\\.default$","read":"{read}"}}"#);
        Node::shared().user(&format!("{name}-{vhost}"), vhost, &rights).await
    };
    // The permissions of docs/how-to/rabbitmq.md.
    let support = user("support", r"^leadhook\\.browse$").await;
    let list = failed_as(&world, &support, &["list", "--json"]).await;
    assert_eq!((list.ids(), list.err.as_str()), (ids.clone(), ""));
    assert_eq!(failed_as(&world, &support, &["replay", &ids[3]]).await.code, Some(0));

    let lockless = user("lockless", "^$").await;
    let list = failed_as(&world, &lockless, &["list", "--json"]).await;
    assert_eq!(list.ids().len(), 9);
    assert!(list.err.contains("may not declare the lock \"leadhook.browse\""), "{}", list.err);
}
