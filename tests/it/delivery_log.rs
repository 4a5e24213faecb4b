//! The delivery log: a stream keeps and reports the history of each delivery, without lead data, and no delivery waits
//! for it.

use std::process::Stdio;

use lapin::{
    BasicProperties,
    options::{QueueDeclareOptions, QueueDeleteOptions},
    types::{AMQPValue, FieldTable},
};
use leadhook::receiver::Receiver;
use reqwest::Method;
use serde_json::Value;

use crate::{
    harness::{PATIENCE, Worker, World, event, eventually, receiver},
    node::Node,
};

/// Set explicitly, so that a test fails if the setting is ignored.
const ON: (&str, &str) = ("LEADHOOK__DELIVERY_LOG__ENABLED", "true");

/// Runs a command; returns its exit code, stdout and stderr.
async fn said(world: &World, arguments: &[&str]) -> (Option<i32>, String, String) {
    let mut command = world.command();
    command
        .args(arguments)
        .env(ON.0, ON.1)
        .env("LEADHOOK__AMQP__URLS", &world.url)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let output = tokio::task::spawn_blocking(move || command.output().expect("leadhook")).await.unwrap();
    let text = |bytes| String::from_utf8(bytes).expect("UTF-8");
    (output.status.code(), text(output.stdout), text(output.stderr))
}

async fn json(world: &World, arguments: &[&str]) -> Value {
    let (_, out, err) = said(world, arguments).await;
    serde_json::from_str(&out).unwrap_or_else(|error| panic!("{error}: {out} {err}"))
}

/// Waits until a query finds a delivery in this state, and returns it.
async fn delivery(world: &World, question: &[&str], state: &str) -> Value {
    let arguments = [&["deliveries", "--json"][..], question].concat();
    eventually(&format!("{question:?} {state}"), async || {
        let (_, out, _) = said(world, &arguments).await;
        let found: Value = serde_json::from_str(&out).ok()?;
        let mut deliveries = found["deliveries"].as_array()?.iter();
        deliveries.find(|one| one["state"] == state).cloned()
    })
    .await
}

async fn readiness(worker: &Worker) -> Value {
    let (_, text) = worker.get("/readyz").await.expect("an answer");
    serde_json::from_str(&text).expect("JSON")
}

/// Returns kind, attempt number and status of each record of a delivery.
fn told(story: &Value) -> Vec<(String, Option<u64>, Option<u64>)> {
    let records = story["records"].as_array().unwrap().iter();
    records
        .map(|one| (one["what"].as_str().unwrap().to_owned(), one["attempt"].as_u64(), one["status"].as_u64()))
        .collect()
}

fn attempt(what: &str, number: u64, status: u64) -> (String, Option<u64>, Option<u64>) {
    (what.to_owned(), Some(number), Some(status))
}

/// Checks that the recorded attempts are those that the receiver got.
fn matches_the_receiver(story: &Value, receiver: &Receiver) {
    let attempts: Vec<_> = story["records"].as_array().unwrap().iter().filter(|one| one["ms"].is_u64()).collect();
    let received = receiver.received();
    assert_eq!(attempts.len(), received.len(), "{story:#}");
    for (told, got) in attempts.iter().zip(&received) {
        assert_eq!(told["attempt"].as_u64(), got.attempt().map(u64::from));
        assert_eq!(story["id"].as_str(), got.webhook_id());
    }
}

#[tokio::test]
async fn the_story_of_a_delivery_that_failed_and_was_put_back_is_whole_and_in_order() {
    let world = World::new().await;
    let receiver = receiver("500").await;
    world.simple_store(&receiver.url(), "retry_attempts: 1");
    let worker = world.worker(&[ON]).await;
    world.publish(event("ABC", 7).as_bytes()).await;
    let failed = delivery(&world, &["--lead", "lead_7"], "failed").await;
    let id = failed["id"].as_str().unwrap().to_owned();
    assert_eq!((&failed["error"], &failed["reason"]), (&"status".into(), &"exhausted".into()));
    receiver.set_script("200".parse().unwrap());
    let replay = said(&world, &["failed", "replay", &id, "--by", "Ada"]).await;
    assert_eq!(replay.0, Some(0), "{replay:?}");
    let delivered = delivery(&world, &["--submission", "sub_7"], "delivered").await;
    assert_eq!(delivered["id"], id);

    // The beginning of the id is enough.
    let story = json(&world, &["deliveries", "show", &id[..12], "--json"]).await;
    let expected = [
        attempt("retry", 1, 500),
        attempt("failed", 2, 500),
        ("replayed".to_owned(), None, None),
        attempt("delivered", 1, 200),
    ];
    assert_eq!(told(&story), expected, "{story:#}");
    matches_the_receiver(&story, &receiver);
    let records = story["records"].as_array().unwrap();
    assert_eq!((&records[0]["of"], &records[2]["by"]), (&2.into(), &"Ada".into()));
    let due = records[0]["next"].as_i64().unwrap() - records[0]["at"].as_i64().unwrap();
    assert!((160..2_000).contains(&due), "the next attempt is due in {due} ms");
    for field in ["event", "lead", "submission", "campaign", "organization", "target", "revision", "worker"] {
        assert!(records[0][field].as_str().is_some_and(|text| !text.is_empty()), "{field}: {story:#}");
    }
    let (code, text, _) = said(&world, &["deliveries", "show", &id]).await;
    assert_eq!(code, Some(0));
    for words in ["lead_7", "campaign", "delivered", "by Ada", "2/2", "next attempt"] {
        assert!(text.contains(words), "{words}: {text}");
    }
    worker.stop().await;
}

#[tokio::test]
async fn events_that_become_no_job_are_told_as_well() {
    let world = World::new().await;
    world.store(
        "organizations:\n  acme:\n    webhook: { url: \"http://127.0.0.1:9\", events: [lead.failed] }\n    campaigns:\n      ABC: {}\n",
    );
    let worker = world.worker(&[ON]).await;
    world.publish(event("ABC", 1).as_bytes()).await;
    world.publish(event("XYZ", 2).as_bytes()).await;
    world.publish(b"no event").await;
    let unwanted = delivery(&world, &["--lead", "lead_1"], "no_target").await;
    assert_eq!(unwanted["reason"], "event_not_selected");
    let unknown = delivery(&world, &["--lead", "lead_2"], "rejected").await;
    assert_eq!(unknown["reason"], "unknown_campaign");
    let unreadable = delivery(&world, &["--error", "not_json"], "rejected").await;
    assert_eq!(unreadable["lead"], Value::Null);
    worker.stop().await;
}

#[tokio::test]
async fn the_first_park_and_what_ends_without_an_attempt_are_told() {
    let world = World::new().await;
    let receiver = receiver("200").await;
    world.simple_store(&receiver.url(), "");
    // The target is disabled before the retry.
    let worker = world.worker(&[ON, ("LEADHOOK__STORE__SETTLE", "600ms")]).await;
    receiver.set_script("500".parse().unwrap());
    world.publish(event("ABC", 3).as_bytes()).await;
    receiver.wait_for(1, PATIENCE).await.unwrap();
    world.simple_store(&receiver.url(), "enabled: false");
    let failed = delivery(&world, &["--lead", "lead_3"], "failed").await;
    assert_eq!(failed["reason"], "target_disabled");
    let story = json(&world, &["deliveries", "show", failed["id"].as_str().unwrap(), "--json"]).await;
    let deferrals = told(&story).iter().filter(|(what, ..)| what == "deferred").count();
    assert_eq!(deferrals, 1, "several deferrals must make one record: {story:#}");
    worker.stop().await;
}

#[tokio::test]
async fn filters_limits_and_times() {
    let world = World::new().await;
    let receiver = receiver("200").await;
    world.simple_store(&receiver.url(), "");
    let worker = world.worker(&[ON]).await;
    world.publish_many((0..20).map(|n| event(if n % 2 == 0 { "EVEN" } else { "ODD" }, n))).await;
    eventually("all are in the delivery log", async || {
        let (_, out, _) = said(&world, &["deliveries", "--json"]).await;
        let all: Value = serde_json::from_str(&out).ok()?;
        (all["deliveries"].as_array()?.len() == 20).then_some(())
    })
    .await;
    let found = async |question: &[&str]| {
        let answer = json(&world, &[&["deliveries", "--json"], question].concat()).await;
        answer["deliveries"].as_array().unwrap().len()
    };
    assert_eq!(found(&["--campaign", "EVEN"]).await, 10);
    assert_eq!(found(&["--organization", "acme", "--target", "acme"]).await, 20);
    assert_eq!(found(&["--organization", "other"]).await, 0);
    assert_eq!(found(&["--event", "lead.delivered"]).await, 20);
    assert_eq!(found(&["--event", "lead.failed"]).await, 0);
    assert_eq!(found(&["--state", "delivered,failed"]).await, 20);
    assert_eq!(found(&["--state", "failed"]).await, 0);
    assert_eq!(found(&["--state", "retrying,retry"]).await, 0);
    assert_eq!(found(&["--limit", "3"]).await, 3);
    assert_eq!(found(&["--since", "1h"]).await, 20);
    assert_eq!(found(&["--before", "1h", "--since", "2h"]).await, 0);
    let (code, out, _) = said(&world, &["deliveries", "--lead", "nobody"]).await;
    assert_eq!(code, Some(1), "{out}");
    assert!(out.contains("nothing found in the whole log"), "{out}");
    let (code, _, err) = said(&world, &["deliveries", "--target", "acme/EVN"]).await;
    assert_eq!(code, Some(1), "{err}");
    assert!(err.contains("help: the webhook store has no target acme/EVN"), "{err}");
    worker.stop().await;
}

#[tokio::test]
async fn following_shows_records_as_they_are_written() {
    let world = World::new().await;
    let receiver = receiver("200").await;
    world.simple_store(&receiver.url(), "");
    let worker = world.worker(&[ON]).await;
    let log = world.directory.path().join("follow");
    let mut command = world.command();
    command.args(["deliveries", "--follow", "--campaign", "ABC", "--json"]).env("LEADHOOK__AMQP__URLS", &world.url);
    let mut following = command.stdout(std::fs::File::create(&log).unwrap()).stderr(Stdio::inherit()).spawn().unwrap();
    let mut n = 0;
    let line = eventually("a record", async || {
        n += 1;
        world.publish(event("OTHER", 1_000 + n).as_bytes()).await;
        world.publish(event("ABC", n).as_bytes()).await;
        let text = std::fs::read_to_string(&log).unwrap();
        text.lines().next().map(str::to_owned)
    })
    .await;
    following.kill().unwrap();
    following.wait().unwrap();
    let record: Value = serde_json::from_str(&line).unwrap();
    assert_eq!((&record["what"], &record["campaign"]), (&"delivered".into(), &"ABC".into()));
    worker.stop().await;
}

/// Returns all bytes of the stream.
async fn raw(world: &World) -> Vec<u8> {
    use futures::StreamExt;
    let channel = world.channel().await;
    channel.basic_qos(100, Default::default()).await.unwrap();
    let mut arguments = FieldTable::default();
    arguments.insert("x-stream-offset".into(), AMQPValue::LongString("first".into()));
    let consuming = channel.basic_consume("leadhook.log".into(), "".into(), Default::default(), arguments);
    let mut consumer = consuming.await.unwrap();
    let mut all = Vec::new();
    while let Ok(Some(Ok(delivery))) = tokio::time::timeout(std::time::Duration::from_secs(2), consumer.next()).await {
        all.extend_from_slice(&delivery.data);
    }
    all
}

#[tokio::test]
async fn no_lead_data_no_secret_and_no_answer_is_in_the_log() {
    let world = World::new().await;
    let receiver = receiver("500").await;
    world.simple_store(
        &format!("{}/path?key=q-secret", receiver.url()),
        "retry_attempts: 1\nheaders: { X-Key: h-secret }",
    );
    let worker = world.worker(&[ON]).await;
    world.publish(event("ABC", 9).as_bytes()).await;
    world.publish(br#"{"event":"lead.delivered","data":{"email":"john@example.com"}}"#).await;
    delivery(&world, &["--lead", "lead_9"], "failed").await;
    delivery(&world, &["--state", "rejected"], "rejected").await;
    let text = String::from_utf8(raw(&world).await).unwrap();
    assert!(text.contains("lead_9"), "{text}");
    for never in ["John", "john@", "secret", "/path", "firstName", "X-Key", "scripted answer"] {
        assert!(!text.contains(never), "{never}: {text}");
    }
    worker.stop().await;
}

#[tokio::test]
async fn switched_off_there_is_no_log() {
    let world = World::new().await;
    let receiver = receiver("200").await;
    world.simple_store(&receiver.url(), "");
    let worker = world.worker(&[("LEADHOOK__DELIVERY_LOG__ENABLED", "false")]).await;
    world.publish(event("ABC", 1).as_bytes()).await;
    receiver.wait_for(1, PATIENCE).await.unwrap();
    worker.stop().await;
    let (code, _, err) = said(&world, &["deliveries"]).await;
    assert_eq!(code, Some(3), "{err}");
    assert!(err.contains("there is no delivery log (stream leadhook.log)"), "{err}");
}

#[tokio::test]
async fn the_retention_is_a_setting() {
    let world = World::new().await;
    world.simple_store("http://127.0.0.1:9", "");
    let environment =
        [ON, ("LEADHOOK__DELIVERY_LOG__MAXIMUM_AGE", "48h"), ("LEADHOOK__DELIVERY_LOG__MAX_BYTES", "40 MiB")];
    let worker = world.worker(&environment).await;
    world.publish(b"no event").await;
    delivery(&world, &["--since", "1h"], "rejected").await;
    let vhost = world.vhost();
    let arguments = eventually("the stream in the management API", async || {
        let queue = Node::shared().manage(Method::GET, &format!("queues/{vhost}/leadhook.log"), "").await;
        let queue: Value = serde_json::from_str(&queue).ok()?;
        queue["arguments"].is_object().then(|| queue["arguments"].clone())
    })
    .await;
    assert_eq!((&arguments["x-queue-type"], &arguments["x-max-age"]), (&"stream".into(), &"172800s".into()));
    assert_eq!(arguments["x-max-length-bytes"], 40 << 20);
    worker.stop().await;

    // A different retention does not stop a worker, which uses the existing stream.
    let worker = world.worker(&[ON]).await;
    world.publish(b"no event either").await;
    delivery(&world, &["--since", "1h"], "rejected").await;
    assert_eq!(readiness(&worker).await["warnings"].as_array().map(Vec::len), Some(0));
    worker.stop().await;
}

#[tokio::test]
async fn a_log_that_cannot_be_written_holds_nothing_up_and_is_told_of() {
    let world = World::new().await;
    let receiver = receiver("200").await;
    world.simple_store(&receiver.url(), "");
    // The worker must not fill a classic queue of that name.
    let channel = world.channel().await;
    let options = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
    channel.queue_declare("leadhook.log".into(), options, FieldTable::default()).await.unwrap();
    let worker = world.worker(&[ON]).await;
    world.publish_many((0..50).map(|n| event("ABC", n))).await;
    receiver.wait_for(50, PATIENCE).await.unwrap();
    let warning = eventually("a warning", async || {
        let readiness = readiness(&worker).await;
        let warnings = readiness["warnings"].as_array()?.iter().filter_map(Value::as_str);
        warnings.filter(|text| text.contains("delivery log")).map(str::to_owned).next()
    })
    .await;
    assert!(warning.contains("leadhook.log"), "{warning}");
    assert_eq!(world.ready("log").await, 0);
    // After the repair it is written again, including the records that were kept meanwhile.
    channel.queue_delete("leadhook.log".into(), QueueDeleteOptions::default()).await.unwrap();
    delivery(&world, &["--lead", "lead_49"], "delivered").await;
    eventually("no warning", async || (readiness(&worker).await["warnings"].as_array()?.is_empty()).then_some(()))
        .await;
    worker.stop().await;
}

#[tokio::test]
async fn what_was_written_before_the_stop_is_kept_and_a_job_that_was_delivered_all_the_same_is_not_sent_again() {
    let world = World::new().await;
    let receiver = receiver("200").await;
    world.simple_store(&receiver.url(), "");
    let worker = world.worker(&[ON]).await;
    world.publish(event("ABC", 4).as_bytes()).await;
    receiver.wait_for(1, PATIENCE).await.unwrap();
    // Stops at once, while the record still waits for others.
    worker.stop().await;
    let delivered = json(&world, &["deliveries", "--lead", "lead_4", "--json"]).await;
    let id = delivered["deliveries"][0]["id"].as_str().unwrap().to_owned();

    // A crash has forked the job, and its other copy fails.
    receiver.set_script("410".parse().unwrap());
    let worker = world.worker(&[ON]).await;
    world.publish(event("ABC", 4).as_bytes()).await;
    world.publish(event("ABC", 5).as_bytes()).await;
    eventually("both failed", async || (world.ready("failed").await == 2).then_some(())).await;
    worker.stop().await;
    let list = json(&world, &["failed", "list", "--json"]).await;
    let of = |id: &str| list["jobs"].as_array().unwrap().iter().find(|job| job["id"] == id).unwrap().clone();
    assert!(of(&id)["also_delivered_at"].is_string(), "{list:#}");
    let (_, text, _) = said(&world, &["failed", "list"]).await;
    assert!(text.contains("also delivered"), "{text}");

    let dry = json(&world, &["failed", "replay", "--all", "--dry-run", "--json"]).await;
    assert_eq!((&dry["would_replay"], &dry["delivered_already"]), (&1.into(), &1.into()), "{dry:#}");
    let (code, out, _) = said(&world, &["failed", "replay", "--all", "--yes"]).await;
    assert_eq!(code, Some(0), "{out}");
    assert!(out.contains("1 job replayed") && out.contains("delivered already"), "{out}");
    assert_eq!(world.take("jobs", 1).await.len(), 1);
    assert_eq!(world.ready("failed").await, 1);
    let (code, out, err) = said(&world, &["failed", "replay", &id]).await;
    assert_eq!(code, Some(0), "{out} {err}");
    world.take("jobs", 1).await;
}

#[tokio::test]
async fn a_record_of_a_message_that_was_published_twice_is_told_once() {
    let world = World::new().await;
    let receiver = receiver("200").await;
    world.simple_store(&receiver.url(), "");
    let worker = world.worker(&[ON]).await;
    world.publish(event("ABC", 6).as_bytes()).await;
    let id = delivery(&world, &["--lead", "lead_6"], "delivered").await["id"].as_str().unwrap().to_owned();
    worker.stop().await;
    let message = raw(&world).await;
    world.publish_to("", "leadhook.log", &message, BasicProperties::default()).await;
    let story = json(&world, &["deliveries", "show", &id, "--json"]).await;
    assert_eq!(story["records"].as_array().unwrap().len(), 1, "{story:#}");
}
