//! Unusable messages go to the rejected queue with their reason and their bytes, and the events behind them continue.

use lapin::{
    BasicProperties,
    options::QueueDeclareOptions,
    types::{AMQPValue, FieldTable},
};

use crate::harness::{Message, PATIENCE, World, event, eventually, receiver};

#[tokio::test]
async fn unusable_messages_rest_on_the_rejected_queue_and_the_rest_flows_on() {
    let world = World::new().await;
    let receiver = receiver("200").await;
    world.store(&format!(
        "organizations:\n  acme:\n    webhook: {{ url: \"{}\", events: \"*\" }}\n    campaigns: {{ ABC: {{}} }}\n  other:\n    webhook: {{ url: \"{}\", events: \"*\" }}\n",
        receiver.url(),
        receiver.url()
    ));
    let worker = world.worker(&[]).await;
    let good = event("ABC", 1);
    let with = |from: &str, to: &str| good.replace(from, to).into_bytes();
    let huge = with("\"John\"", &format!("\"{}\"", "x".repeat(2 << 20)));
    let cases: Vec<(&str, Vec<u8>)> = vec![
        ("not_json", b"hello".to_vec()),
        ("not_json", b"".to_vec()),
        ("too_large", huge),
        ("missing_field", with("\"leadId\":\"lead_1\",", "")),
        ("invalid_field", with("\"sub_1\"", "[17]")),
        ("unknown_event", with("lead.delivered", "lead.exploded")),
        ("unknown_campaign", with("\"ABC\"", "\"NOPE\"")),
        ("organization_mismatch", with("\"status\"", "\"organizationId\":\"other\",\"status\"")),
        ("unknown_organization", with("\"ABC\"", "\"NOPE\",\"organizationId\":\"nobody\"")),
        ("duplicate_key", with("\"status\"", "\"leadId\":\"again\",\"status\"")),
        ("not_json", vec![0x00, 0xff, 0xfe, 0x80, 0x01]),
    ];
    for (_, body) in &cases {
        world.publish(body).await;
    }
    // A handmade message on the jobs queue, with broken headers.
    let mut headers = FieldTable::default();
    headers.insert("leadhook-version".into(), AMQPValue::LongString("one".into()));
    let forged = BasicProperties::default().with_headers(headers).with_message_id("m".into());
    world.publish_to("", "leadhook.jobs", b"{}", forged).await;
    world.publish(good.as_bytes()).await;

    let received = receiver.wait_for(1, PATIENCE).await.unwrap();
    assert_eq!(received[0].body, good.as_bytes());
    let mut rejected = world.take("rejected", cases.len() + 1).await;
    for (reason, body) in cases.into_iter().chain([("malformed_job", b"{}".to_vec())]) {
        let at = rejected
            .iter()
            .position(|message| message.text("leadhook-reason").as_deref() == Some(reason) && message.body == body)
            .unwrap_or_else(|| panic!("no {reason} of {} bytes", body.len()));
        let message = rejected.remove(at);
        assert!(!message.text("leadhook-detail").unwrap().is_empty(), "{reason}");
        assert_eq!(*message.properties.delivery_mode(), Some(2));
    }
    assert_eq!(receiver.received().len(), 1);
    let log = worker.log();
    for private in ["John", "exploded", "hello", "xxxx"] {
        assert!(!log.contains(private), "{private} is in the log");
    }
}

#[tokio::test]
async fn what_upstream_said_stays_with_a_rejected_message_and_acts_no_more() {
    let world = World::new().await;
    let receiver = receiver("410").await;
    world.simple_store(&receiver.url(), "");
    let worker = world.worker(&[]).await;
    // If the broker acts on a CC, the copy arrives here.
    let channel = world.channel().await;
    let durable = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
    channel.queue_declare("leadhook.copies".into(), durable, FieldTable::default()).await.unwrap();
    let mut headers = FieldTable::default();
    headers.insert("x-trace".into(), AMQPValue::LongString("t".into()));
    headers.insert("CC".into(), copies_to("leadhook.copies"));
    let properties = BasicProperties::default()
        .with_user_id("guest".into())
        .with_expiration("600000".into())
        .with_priority(9)
        .with_correlation_id("c".into())
        .with_headers(headers);
    world.publish_with(b"nonsense", properties.clone()).await;
    world.publish_with(event("ABC", 1).as_bytes(), properties).await;
    // They are counted after their confirms, and a copy would be on its queue before that.
    eventually("both are settled", async || {
        let rejected = worker.metric("leadhook_events_total", "rejected").await;
        (rejected + worker.metric("leadhook_jobs_total", "failed").await == 2.0).then_some(())
    })
    .await;
    assert_eq!(world.ready("copies").await, 0);
    let (rejected, failed) = (world.take("rejected", 1).await.remove(0), world.take("failed", 1).await.remove(0));
    for message in [&rejected, &failed] {
        acts_no_more(message);
        let upstream: serde_json::Value = serde_json::from_str(&message.text("leadhook-upstream").unwrap()).unwrap();
        assert_eq!(upstream["user_id"], "guest");
        assert_eq!(upstream["headers"]["x-trace"], "t");
    }
    assert_eq!(rejected.properties.correlation_id().as_ref().unwrap().as_str(), "c");
}

/// Returns a value of the header `CC`, for which the broker puts a copy on this queue.
fn copies_to(queue: &str) -> AMQPValue {
    AMQPValue::FieldArray(vec![AMQPValue::LongString(queue.into())].into())
}

fn acts_no_more(message: &Message) {
    let properties = &message.properties;
    assert_eq!((properties.expiration(), properties.user_id(), properties.priority()), (&None, &None, &None));
    assert!(!properties.headers().as_ref().unwrap().inner().contains_key("CC"));
}

#[tokio::test]
async fn the_size_limit_is_a_setting() {
    let world = World::new().await;
    let receiver = receiver("200").await;
    world.simple_store(&receiver.url(), "");
    let _worker = world.worker(&[("LEADHOOK__DELIVERY__MAX_EVENT_BYTES", "2 KiB")]).await;
    world.publish(event("ABC", 1).replace("John", &"x".repeat(2048)).as_bytes()).await;
    world.publish(event("ABC", 2).as_bytes()).await;
    receiver.wait_for(1, PATIENCE).await.unwrap();
    assert_eq!(world.take("rejected", 1).await[0].text("leadhook-reason").as_deref(), Some("too_large"));
}

#[tokio::test]
async fn jobs_of_a_newer_version_wait_for_a_newer_worker() {
    let world = World::new().await;
    world.simple_store("http://127.0.0.1:9", "");
    let _worker = world.worker(&[]).await;
    let newer = |since: Option<i64>| {
        let mut headers = FieldTable::default();
        headers.insert("leadhook-version".into(), AMQPValue::LongLongInt(leadhook::job::VERSION + 1));
        headers.insert("leadhook-novelty".into(), AMQPValue::LongString("kept".into()));
        headers.insert("CC".into(), copies_to("leadhook.nowhere"));
        if let Some(since) = since {
            headers.insert("leadhook-held-since".into(), AMQPValue::LongLongInt(since));
        }
        BasicProperties::default().with_headers(headers).with_message_id("wh_1".into()).with_expiration("600000".into())
    };
    world.publish_to("", "leadhook.jobs", b"{\"a\":1}", newer(None)).await;
    let held = world.take("delay.512000", 1).await.remove(0);
    assert_eq!(held.body, b"{\"a\":1}");
    assert_eq!(held.text("leadhook-novelty").as_deref(), Some("kept"));
    assert_eq!(held.text("leadhook-version"), Some((leadhook::job::VERSION + 1).to_string()));
    assert!(held.text("leadhook-held-since").is_some());
    acts_no_more(&held);
    // Waiting since 2020: no newer worker came within a day.
    world.publish_to("", "leadhook.jobs", b"{\"a\":1}", newer(Some(1_577_836_800_000))).await;
    let rejected = world.take("rejected", 1).await.remove(0);
    assert_eq!(rejected.text("leadhook-reason").as_deref(), Some("newer_version"));
    assert!(rejected.text("leadhook-upstream").unwrap().contains("novelty"));
}
