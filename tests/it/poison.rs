//! Whatever bytes upstream writes into properties and headers, other messages continue, and tools find the message
//! (rule 9).

use std::time::{Duration, Instant};

use lapin::options::{BasicConsumeOptions, BasicRejectOptions};
use serde_json::Value;

use crate::{
    harness::{World, event, eventually, receiver},
    rig::{
        poison::{NOT_UTF8, entry, headers, kinds, nested, texts, value},
        raw_publisher::RawPublisher,
    },
};

/// Limit of the delay of events behind a message that lapin cannot read.
const DELAY: Duration = Duration::from_secs(5);

/// Good events behind each such message.
const GOOD: usize = 5;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_message_of_upstream_stops_a_worker_or_delays_others() {
    let world = World::new().await;
    let receiver = receiver("200").await;
    world.simple_store(&receiver.url(), "");
    let worker = world.worker(&[]).await;
    let mut raw = RawPublisher::connect(&world.url).await;
    let mut number = 100u32;
    let mut wanted = Vec::new();
    for (name, properties, reason) in kinds() {
        let body = event("ABC", 1);
        raw.publish("lead.events", b"lead.delivered", &properties, body.as_bytes()).await;
        let begun = Instant::now();
        number += GOOD as u32;
        world.publish_many((number..number + GOOD as u32).map(|n| event("ABC", n))).await;
        let leads: Vec<_> = (number..number + GOOD as u32).map(|n| format!("\"lead_{n}\"")).collect();
        let posts = |lead: &String| {
            let bodies = receiver.received();
            bodies.iter().filter(|it| String::from_utf8_lossy(&it.body).contains(lead.as_str())).count()
        };
        eventually(name, async || leads.iter().all(|lead| posts(lead) > 0).then_some(())).await;
        assert!(begun.elapsed() < DELAY, "{name}: {:?}", begun.elapsed());
        wanted.extend(reason);
    }
    // The routing key may contain any bytes, and so may messages on the jobs queue.
    raw.publish("lead.events", b"lead.\xff\xfe", &texts(&[]), event("ABC", 1).as_bytes()).await;
    raw.publish("", b"leadhook.jobs", &texts(&[(7, NOT_UTF8)]), b"{}").await;
    wanted.extend(["unreadable_properties", "malformed_job"]);
    let rejected = world.take("rejected", wanted.len()).await;
    let mut reasons: Vec<_> = rejected.iter().map(|message| message.text("leadhook-reason").unwrap()).collect();
    reasons.sort_unstable();
    wanted.sort_unstable();
    assert_eq!(reasons, wanted);
    let details: Vec<_> = rejected.iter().map(|message| message.text("leadhook-detail").unwrap()).collect();
    for words in
        ["message_id is not UTF-8", "the name of a header is not UTF-8", "nested deeper", "the routing key is not"]
    {
        assert!(details.iter().any(|detail| detail.contains(words)), "{words}: {details:?}");
    }
    // The body is unchanged, and so are readable properties.
    assert!(rejected.iter().filter(|message| message.body == event("ABC", 1).as_bytes()).count() >= wanted.len() - 1);
    let posts = receiver.received().len();
    let good = kinds().len() * GOOD + kinds().iter().filter(|(_, _, reason)| reason.is_none()).count();
    assert_eq!(posts, good, "not one POST for each good event");
    let log = worker.log();
    assert!(!log.contains("lost the broker"), "{log}");
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_tool_steps_over_what_lapin_cannot_read() {
    let world = World::new().await;
    let receiver = receiver("200").await;
    world.simple_store(&receiver.url(), "");
    world.worker(&[]).await.stop().await;
    let mut raw = RawPublisher::connect(&world.url).await;
    let poisons = [
        texts(&[(7, NOT_UTF8)]),
        headers(&entry(b"n", &nested(4_000, b"A"))),
        headers(&entry(NOT_UTF8, b"V")),
        headers(&entry(b"n", &value(b'A', &[b'V'; 100_000]))),
    ];
    let body = event("ABC", 7);
    for queue in ["leadhook.rejected", "leadhook.failed", "leadhook.unreadable"] {
        for poison in &poisons {
            raw.publish("", queue.as_bytes(), poison, body.as_bytes()).await;
        }
    }
    let run = async |words: &str| -> String {
        let mut command = world.command();
        command.args(words.split(' '));
        let output = tokio::task::spawn_blocking(move || command.output().expect("the command")).await.unwrap();
        assert!(matches!(output.status.code(), Some(0 | 1)), "{words}: {output:?}");
        String::from_utf8(output.stdout).expect("text")
    };
    for words in
        ["rejected list", "rejected list --json", "failed list", "failed stats", "unreadable list", "deliveries"]
    {
        run(words).await;
    }
    for queue in ["rejected", "failed", "unreadable"] {
        let list: Value = serde_json::from_str(&run(&format!("{queue} list --json")).await).unwrap();
        assert_eq!(list["present"], poisons.len(), "{queue}: {list}");
    }
    let list: Value = serde_json::from_str(&run("unreadable list --json").await).unwrap();
    let ids: Vec<_> =
        list["messages"].as_array().unwrap().iter().map(|it| it["id"].as_str().unwrap().to_owned()).collect();
    let shown = run(&format!("unreadable show {}", ids[0])).await + &run("unreadable list").await;
    assert!(shown.contains("message_id is not UTF-8"), "{shown}");
    let file = world.directory.path().join("rejected.jsonl");
    let told = run(&format!("rejected export --all --to {}", file.display())).await;
    let lines = std::fs::read_to_string(file).expect("the file").lines().count();
    assert_eq!(lines, poisons.len(), "{told}");
    // All of them are events once their properties are repaired. Two may have lost their organization.
    let told = run("unreadable requeue --all --yes").await;
    assert!(told.contains("name its organization"), "{told}");
    assert_eq!((world.ready("unreadable").await, world.ready("events").await), (2, 2));
    run("unreadable requeue --all --yes --organization acme").await;
    assert_eq!((world.ready("unreadable").await, world.ready("events").await), (0, poisons.len() as u32));
    let worker = world.worker(&[]).await;
    eventually("the repaired events are delivered", async || (receiver.count() >= 1).then_some(())).await;
    eventually("the events queue is empty", async || (world.waiting().await? == 0).then_some(())).await;
    assert_eq!(world.ready("unreadable").await, 0);
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_event_that_the_broker_gave_up_on_comes_back_from_the_unreadable_queue() {
    let world = World::new().await;
    let receiver = receiver("200").await;
    world.simple_store(&receiver.url(), "");
    let worker = world.worker(&[]).await;
    worker.looked().await;
    worker.stop().await;
    RawPublisher::connect(&world.url)
        .await
        .publish("lead.events", b"lead.delivered", &texts(&[(7, b"order-77")]), event("ABC", 7).as_bytes())
        .await;
    let channel = world.channel().await;
    let options = BasicConsumeOptions::default();
    let mut consumer =
        channel.basic_consume("leadhook.events".into(), "giver".into(), options, Default::default()).await.unwrap();
    eventually("the broker gives up", async || {
        let next = tokio::time::timeout(Duration::from_millis(100), futures::StreamExt::next(&mut consumer)).await;
        if let Ok(Some(Ok(delivery))) = next {
            delivery.acker.reject(BasicRejectOptions { requeue: true }).await.unwrap();
        }
        (world.ready("unreadable").await == 1).then_some(())
    })
    .await;
    channel.close(200, "".into()).await.unwrap();
    let worker = world.worker(&[]).await;
    worker.looked().await;
    let (_, report) = worker.get("/readyz").await.unwrap();
    assert!(report.contains("the unreadable queue holds 1 messages (warned from 1)"), "{report}");
    let run = async |words: &[&str]| {
        let output = world.command().args(words).output().expect("the command");
        assert!(output.status.success(), "{words:?}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    let list = run(&["unreadable", "list"]).await;
    assert!(list.contains("order-77") && list.contains("delivery_limit"), "{list}");
    assert!(run(&["unreadable", "show", "order-77"]).await.contains("delivery_limit"));
    assert!(run(&["unreadable", "requeue", "order-77", "--yes"]).await.contains("1 message put back"));
    eventually("it is delivered", async || (receiver.count() == 1).then_some(())).await;
    worker.stop().await;
}
