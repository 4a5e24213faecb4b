//! Rejected messages: looked at without a change, and put back once the cause is mended.

use lapin::{
    BasicProperties,
    types::{AMQPValue, FieldTable},
};
use serde_json::Value;

use super::{drain, fail, job, set};
use crate::harness::{PATIENCE, World, event, eventually, receiver};

/// Runs `leadhook rejected ...`: exit code, answer as JSON, stderr.
async fn rejected(world: &World, arguments: &[&str]) -> (Option<i32>, Value, String) {
    let mut command = world.command();
    command.arg("rejected").args(arguments).arg("--json").env("LEADHOOK__AMQP__URLS", &world.url);
    let output = tokio::task::spawn_blocking(move || command.output().expect("leadhook")).await.unwrap();
    let answer = serde_json::from_slice(&output.stdout).unwrap_or_default();
    (output.status.code(), answer, String::from_utf8(output.stderr).unwrap())
}

async fn ids(world: &World) -> Vec<String> {
    let (code, list, err) = rejected(world, &["list"]).await;
    assert_eq!(code, Some(0), "{err}");
    list["messages"].as_array().unwrap().iter().map(|line| line["id"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn what_was_rejected_is_delivered_once_the_store_is_mended() {
    let world = World::new().await;
    let receiver = receiver("200").await;
    world.simple_store(&receiver.url(), "");
    let worker = world.worker(&[]).await;
    // The organization is named in a header only; it must come back with the event.
    let mut headers = FieldTable::default();
    headers.insert("organization-id".into(), AMQPValue::LongString("newcomer".into()));
    let properties = BasicProperties::default().with_message_id("first-event".into()).with_headers(headers);
    world.publish_with(event("LATER", 1).as_bytes(), properties).await;
    world.publish(b"no json").await;
    eventually("both are rejected", async || (world.ready("rejected").await == 2).then_some(())).await;
    worker.stop().await;

    let there = ids(&world).await;
    assert!(there.contains(&"first-event".to_owned()) && there.iter().any(|id| id.starts_with("raw_")), "{there:?}");
    let (code, shown, err) = rejected(&world, &["show", "first-event"]).await;
    assert_eq!((code, &shown["reason"]), (Some(0), &"unknown_organization".into()), "{shown:#} {err}");
    assert!(shown["meaning"].as_str().unwrap().contains("requeue") && shown["body"].is_null(), "{shown:#}");

    let (code, dry, _) = rejected(&world, &["requeue", "--all", "--dry-run"]).await;
    assert_eq!((code, &dry["chosen"], world.ready("rejected").await), (Some(0), &2.into(), 2));
    let (code, _, err) = rejected(&world, &["requeue", "--all"]).await;
    assert!(code == Some(2) && err.contains("Put 2 messages back onto the events queue?"), "{err}");
    let (code, done, err) = rejected(&world, &["requeue", "--all", "--yes", "--by", "Ada"]).await;
    assert_eq!((code, &done["requeued"], &done["unusable"]), (Some(1), &1.into(), &1.into()), "{done:#} {err}");
    assert_eq!((world.ready("rejected").await, world.ready("events").await), (1, 1));

    let store = std::fs::read_to_string(world.store_path()).unwrap();
    world.store(&store.replace("acme", "newcomer"));
    let worker = world.worker(&[]).await;
    let received = receiver.wait_for(1, PATIENCE).await.unwrap();
    assert_eq!(received[0].body, event("LATER", 1).as_bytes());
    worker.stop().await;

    let to = world.directory.path().join("gone.jsonl").display().to_string();
    let (code, gone, err) =
        rejected(&world, &["discard", "--reason", "not_json", "--because", "a test", "--to", &to, "--yes"]).await;
    assert_eq!((code, &gone["removed"]), (Some(0), &1.into()), "{gone:#} {err}");
    assert!(std::fs::read_to_string(&to).unwrap().contains("\"body\":\"no json\""));
    assert_eq!(world.ready("rejected").await, 0);
}

#[tokio::test]
async fn what_is_rejected_again_while_it_is_requeued_is_not_lost() {
    let world = World::new().await;
    let receiver = receiver("200").await;
    world.simple_store(&receiver.url(), "");
    let store = std::fs::read_to_string(world.store_path()).unwrap();
    // Nobody is there for a campaign that nobody knows.
    world.store(&store.replacen("default_organization: acme\n", "", 1));
    let _worker = world.worker(&[]).await;
    for n in 0..60_u32 {
        let properties = BasicProperties::default().with_message_id(format!("message-{n}").into());
        world.publish_with(event("LATER", n).as_bytes(), properties).await;
    }
    eventually("all are rejected", async || (world.ready("rejected").await == 60).then_some(())).await;
    for _ in 0..3 {
        let (code, done, err) = rejected(&world, &["requeue", "--all", "--yes"]).await;
        assert_eq!((code, &done["requeued"]), (Some(0), &60.into()), "{done:#} {err}");
        eventually("all are rejected again", async || {
            (world.ready("rejected").await >= 60 && world.ready("events").await == 0).then_some(())
        })
        .await;
    }
    let all = ids(&world).await;
    assert_eq!(set(&all).len(), 60);
}

#[tokio::test]
async fn looking_at_rejected_messages_changes_nothing() {
    let world = super::quiet_world().await;
    for n in 0..100_u32 {
        let properties = BasicProperties::default().with_message_id(format!("message-{n}").into());
        world.publish_to("", "leadhook.rejected", event("ABC", n).as_bytes(), properties).await;
    }
    let before = ids(&world).await;
    assert_eq!(before.len(), 100);
    let to = world.directory.path().join("all.jsonl").display().to_string();
    let (code, export, err) = rejected(&world, &["export", "--all", "--to", &to]).await;
    assert_eq!((code, &export["written"]), (Some(0), &100.into()), "{err}");
    let unknown = rejected(&world, &["requeue", "nobody-knows", "--yes"]).await;
    assert_eq!((unknown.0, &unknown.1["unknown"][0]), (Some(1), &"nobody-knows".into()));
    assert_eq!(drain(&world, "rejected").await, before);
}

/// They were lost where they came near 32 KiB, and sooner where they hold characters that JSON escapes.
#[tokio::test]
async fn long_headers_are_in_the_files_of_export_and_discard() {
    let world = World::new().await;
    let receiver = receiver("200").await;
    world.simple_store(&receiver.url(), "");
    let worker = world.worker(&[]).await;
    let cases = [("x", 32_600), ("x", 90_000), ("\"", 16_300), ("\"", 45_000), ("\u{1}", 15_000), ("\u{e9}", 20_000)];
    for (n, (letter, count)) in cases.into_iter().enumerate() {
        let mut headers = FieldTable::default();
        headers.insert("long".into(), AMQPValue::LongString(letter.repeat(count).into()));
        headers.insert("tenant".into(), AMQPValue::LongString("shop-7".into()));
        let properties = BasicProperties::default().with_message_id(format!("long-{n}").into()).with_headers(headers);
        let bad = event("ABC", 1).replace("\"leadId\"", "\"lead\"");
        world.publish_with(bad.as_bytes(), properties).await;
    }
    eventually("all are rejected", async || (world.ready("rejected").await == 6).then_some(())).await;
    worker.stop().await;
    for what in [&["export"][..], &["discard", "--because", "a test", "--yes"]] {
        let to = world.directory.path().join(format!("{}.jsonl", what[0]));
        let path = to.display().to_string();
        let (code, answer, err) = rejected(&world, &[what, &["--all", "--to", &path]].concat()).await;
        assert_eq!((code, &answer["written"]), (Some(0), &6.into()), "{err}");
        let file = std::fs::read_to_string(&to).unwrap();
        for (n, (letter, count)) in cases.into_iter().enumerate() {
            let line = file.lines().find(|line| line.contains(&format!("long-{n}"))).unwrap();
            let line: Value = serde_json::from_str(line).unwrap();
            let kept = line["properties"]["headers"]["leadhook-upstream"].as_str().unwrap();
            let kept: Value = serde_json::from_str(kept).unwrap();
            assert!(kept["headers"]["tenant"] == "shop-7" && kept["headers"]["long"] == letter.repeat(count), "{n}");
        }
    }
    assert_eq!(world.ready("rejected").await, 0);
}

#[tokio::test]
async fn a_job_is_never_requeued_as_an_event() {
    let world = super::quiet_world().await;
    fail(&world, [job(1)]).await;
    let message = job(2).to_message(&"leadhook.rejected".into());
    super::publish(&world, [message]).await;
    let (code, done, err) = rejected(&world, &["requeue", "--all", "--yes"]).await;
    assert_eq!((code, &done["unusable"]), (Some(1), &1.into()), "{done:#} {err}");
    assert_eq!((world.ready("events").await, drain(&world, "rejected").await.len()), (0, 1));
    assert_eq!(set(&drain(&world, "failed").await).len(), 1);
}
