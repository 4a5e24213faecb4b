//! The worker's log: few lines, none of them ambiguous, and all that an operator needs.

use std::fmt;

use lapin::BasicProperties;
use serde::{
    Deserialize, Deserializer,
    de::{Error, MapAccess, Visitor},
};
use serde_json::{Map, Value};

use crate::{
    harness::{Worker, World, event, eventually, receiver},
    node::Node,
};

const INFO: (&str, &str) = ("LEADHOOK__LOG__LEVEL", "info");

/// One line: a JSON object without duplicate keys.
struct Line(Map<String, Value>);

impl<'de> Deserialize<'de> for Line {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Line, D::Error> {
        struct Strict;
        impl<'de> Visitor<'de> for Strict {
            type Value = Line;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Line, A::Error> {
                let mut line = Map::new();
                while let Some((key, value)) = entries.next_entry::<String, Value>()? {
                    if line.insert(key.clone(), value).is_some() {
                        return Err(A::Error::custom(format!("{key} stands twice")));
                    }
                }
                Ok(Line(line))
            }
        }
        from.deserialize_map(Strict)
    }
}

impl Line {
    fn text(&self, key: &str) -> &str {
        self.0.get(key).and_then(Value::as_str).unwrap_or_default()
    }

    fn number(&self, key: &str) -> u64 {
        self.0.get(key).and_then(Value::as_u64).unwrap_or_else(|| panic!("{key} in {:?}", self.0))
    }
}

fn lines(log: &str) -> Vec<Line> {
    log.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))).collect()
}

/// Returns the lines whose message begins with this text.
fn said<'a>(lines: &'a [Line], message: &str) -> Vec<&'a Line> {
    lines.iter().filter(|line| line.text("message").starts_with(message)).collect()
}

/// Sums a field over all summaries.
fn sum(lines: &[Line], key: &str) -> u64 {
    said(lines, "summary of deliveries").iter().map(|line| line.number(key)).sum()
}

/// Stops the worker cleanly, and returns its whole log.
async fn end(mut worker: Worker) -> Vec<Line> {
    worker.signal("TERM");
    assert_eq!(worker.ended().await.code(), Some(0), "{}", worker.log());
    lines(&worker.log())
}

#[tokio::test]
async fn no_line_holds_a_key_twice_and_deliveries_are_named_in_full() {
    let world = World::new().await;
    let (good, bad) = (receiver("200").await, receiver("500").await);
    world.store(&format!(
        "organizations:\n  acme:\n    webhook: {{ url: \"{}\", events: \"*\", retry_attempts: 1 }}\n    campaigns:\n      GOOD: {{}}\n      \
         BAD: {{ override: true, webhook: {{ url: \"{}\", events: \"*\", retry_attempts: 1 }} }}\n      \
         OFF: {{ override: true, webhook: {{ enabled: false }} }}\n",
        good.url(),
        bad.url()
    ));
    let worker = world.worker(&[("LEADHOOK__LOG__LEVEL", "trace")]).await;
    for campaign in ["GOOD", "BAD", "OFF"] {
        world.publish(event(campaign, 1).as_bytes()).await;
    }
    for id in ["upstream-7/lead.delivered", "Jane Doe <jane@example.com>"] {
        world.publish_with(b"nonsense", BasicProperties::default().with_message_id(id.into())).await;
    }
    let forged = BasicProperties::default().with_message_id("jane".into());
    world.publish_to("", "leadhook.jobs", b"{}", forged).await;
    world.take("failed", 1).await;
    world.take("rejected", 3).await;
    eventually("the good one is settled", async || {
        (worker.metric("leadhook_jobs_total", "delivered").await >= 1.0).then_some(())
    })
    .await;
    let log = worker.log();
    assert!(!log.to_lowercase().contains("jane"), "{log}");
    let lines = end(worker).await;

    for (message, level, outcome, campaign, attempt) in [
        ("delivered", "DEBUG", "delivered", "GOOD", 1),
        ("attempt failed, will retry", "DEBUG", "retry", "BAD", 1),
        ("delivery failed", "WARN", "failed", "BAD", 2),
    ] {
        let found = said(&lines, message);
        assert_eq!(found.len(), 1, "{message}");
        let line = found[0];
        assert_eq!((line.text("level"), line.text("outcome")), (level, outcome));
        let target = if campaign == "BAD" { "acme/BAD" } else { "acme" };
        let names = ["organization", "campaign", "target", "event"].map(|key| line.text(key));
        assert_eq!(names, ["acme", campaign, target, "lead.delivered"]);
        assert!(line.text("webhook_id").starts_with("wh_"));
        assert_eq!((line.number("attempt"), line.number("duration_ms") < 60_000), (attempt, true));
    }
    assert_eq!(said(&lines, "delivery failed")[0].text("reason"), "exhausted");
    let mut ids: Vec<_> = said(&lines, "event rejected").iter().map(|line| line.text("message_id")).collect();
    ids.sort_unstable();
    assert_eq!(ids, ["", "upstream-7/lead.delivered"]);
    assert_eq!(said(&lines, "job rejected").len(), 1);
    let settled = ["delivered", "retry", "failed", "rejected", "no_target"].map(|key| sum(&lines, key));
    assert_eq!(settled, [1, 1, 1, 3, 1]);
}

#[tokio::test]
async fn the_start_takes_ten_lines() {
    let world = World::new().await;
    world.simple_store("https://crm.example.com/hooks", "");
    let worker = world.worker(&[INFO]).await;
    let lines = eventually("the worker says that it is ready", async || {
        let lines = lines(&worker.log());
        (!said(&lines, "ready").is_empty()).then_some(lines)
    })
    .await;
    let all: Vec<_> = lines.iter().map(|line| line.text("message")).collect();
    assert!(lines.len() <= 10 && all.last() == Some(&"ready"), "{all:#?}");
    let settings = said(&lines, "settings that differ from their defaults")[0].text("message");
    assert!(settings.contains("backoff.initial = 200ms") && !settings.contains("backoff.multiplier"), "{settings}");
    let store = said(&lines, "webhook store loaded")[0];
    assert_eq!(["organizations", "campaigns", "targets"].map(|key| store.number(key)), [1, 0, 1]);
    let egress = said(&lines, "webhooks may go to")[0].text("message");
    assert_eq!(egress, "webhooks may go to public addresses and to 127.0.0.0/8, ::1, over https and http");
    let brokers = said(&lines, "connecting to the broker")[0].text("brokers");
    assert!(brokers.starts_with("amqp://127.0.0.1:") && !worker.log().contains("guest"), "{brokers}");
    worker.stop().await;
}

/// 80 attempts, half of them retried, and 20 messages that are not events.
#[tokio::test]
async fn what_repeats_is_counted_and_not_told_line_by_line() {
    let world = World::new().await;
    let receiver = receiver("404").await;
    world.simple_store(&receiver.url(), "retry_attempts: 1");
    let worker = world.worker(&[INFO]).await;
    world.publish_many((0..40).map(|n| event("ABC", n))).await;
    world.publish_many((0..20).map(|_| "nonsense".to_owned())).await;
    world.take("failed", 40).await;
    world.take("rejected", 20).await;
    let lines = end(worker).await;
    // Three of each kind in a minute; a slow machine may need two minutes.
    for message in ["delivery failed", "event rejected"] {
        let told = said(&lines, message);
        assert!((3..=6).contains(&told.len()), "{message}: {}", told.len());
        assert!(told.iter().all(|line| line.text("level") == "WARN"));
    }
    assert!(said(&lines, "attempt failed").is_empty());
    let told = said(&lines, "delivery failed").len() + said(&lines, "event rejected").len();
    assert_eq!(["retry", "failed", "rejected"].map(|key| sum(&lines, key)), [40, 40, 20]);
    assert_eq!(sum(&lines, "lines_held_back"), 60 - told as u64);
}

#[tokio::test]
async fn an_outage_of_the_broker_is_told_ever_more_rarely() {
    let node = Node::start();
    let world = World::on(&node).await;
    world.simple_store("http://127.0.0.1:1/", "");
    let worker = world.worker(&[INFO]).await;
    node.settle();
    node.kill();
    let tries = |lines: &[Line]| {
        let last = |line: &&Line| line.text("message").split_once(", try ")?.1.split(':').next()?.parse::<u32>().ok();
        said(lines, "broker unreachable for ").iter().filter_map(last).collect::<Vec<_>>()
    };
    eventually("the eighth try", async || (tries(&lines(&worker.log())).last() >= Some(&8)).then_some(())).await;
    node.start_again();
    eventually("consuming again", async || worker.log().contains("broker reachable again").then_some(())).await;
    let lines = end(worker).await;
    let tries = tries(&lines);
    assert!(tries.iter().zip(0..).all(|(tried, n)| *tried == 1 << n), "{tries:?}");
    assert!(said(&lines, "broker unreachable for ").iter().all(|line| line.text("level") == "WARN"));
    assert_eq!(said(&lines, "lost the broker connection, reconnecting").len(), 1);
    assert_eq!(said(&lines, "broker reachable again after ").len(), 1);
}

#[tokio::test]
async fn a_target_in_trouble_is_told_once_and_so_is_its_recovery() {
    let world = World::new().await;
    let receiver = receiver("500").await;
    world.simple_store(&receiver.url(), "retry_attempts: 10");
    let worker = world.worker(&[INFO]).await;
    world.publish_many((0..20).map(|n| event("ABC", n))).await;
    eventually("it is in trouble", async || worker.log().contains("target in trouble").then_some(())).await;
    receiver.set_script("200".parse().unwrap());
    world.publish(event("ABC", 100).as_bytes()).await;
    eventually("it has recovered", async || worker.log().contains("target recovered after ").then_some(())).await;
    let lines = end(worker).await;
    let (trouble, recovery) = (said(&lines, "target in trouble"), said(&lines, "target recovered after "));
    assert_eq!((trouble.len(), recovery.len()), (1, 1));
    let origin = format!("http://{}", receiver.address());
    for line in [trouble[0], recovery[0]] {
        assert_eq!((line.text("organization"), line.text("origin")), ("acme", origin.as_str()));
    }
    let said = ["level", "state", "reason"].map(|key| trouble[0].text(key));
    assert_eq!((said, trouble[0].number("status")), (["WARN", "failing", "status"], 500));
}
