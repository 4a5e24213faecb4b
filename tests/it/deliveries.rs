//! The request that a receiver gets: the event's bytes, the headers of section 4, a signature, and one POST per
//! attempt.

use lapin::{
    BasicProperties,
    types::{AMQPValue, FieldTable},
};
use leadhook::{delivery::signature::SigningSecret, receiver::Options};

use crate::harness::{PATIENCE, World, event, receiver, receiver_with};

/// The event of docs/reference/events.md, with its line breaks, because the bytes matter and not only the meaning.
const EXAMPLE: &str = r#"{
  "event": "lead.delivered",
  "leadId": "lead_abc123",
  "submissionId": "sub_xyz789",
  "campaignId": "ABC",
  "status": "delivered",
  "timestamp": "2024-06-15T10:30:00Z",
  "data": { "firstName": "John", "lastName": "Doe", "email": "john@example.com", "phone": "+15551234567" }
}
"#;

const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

fn headers(pairs: &[(&str, &str)]) -> FieldTable {
    let mut table = FieldTable::default();
    for (name, value) in pairs {
        table.insert((*name).into(), AMQPValue::LongString((*value).into()));
    }
    table
}

#[tokio::test]
async fn the_example_event_arrives_byte_for_byte() {
    let world = World::new().await;
    let secrets = vec![SigningSecret::parse(SECRET).unwrap()];
    let receiver = receiver_with(Options { secrets, ..Options::default() }).await;
    world.simple_store(
        &format!("{}/hooks", receiver.url()),
        "headers: { Authorization: \"Bearer ${WEBHOOK_TOKEN}\" }\nsigning_secrets: [\"${WEBHOOK_SECRET}\"]",
    );
    let worker = world.worker(&[("WEBHOOK_TOKEN", "t0ken"), ("WEBHOOK_SECRET", SECRET)]).await;
    let trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let properties = BasicProperties::default()
        .with_message_id("m-1".into())
        .with_priority(3)
        .with_headers(headers(&[("traceparent", trace), ("leadhook-target", "forged")]));
    world.publish_with(EXAMPLE.as_bytes(), properties).await;

    let received = receiver.wait_for(1, PATIENCE).await.unwrap();
    let one = &received[0];
    assert_eq!(one.body, EXAMPLE.as_bytes());
    assert_eq!((one.method.as_str(), one.path.as_str()), ("POST", "/hooks"));
    assert_eq!(one.header("content-type"), Some("application/json"));
    assert_eq!(one.header("user-agent"), Some(concat!("leadhook/", env!("CARGO_PKG_VERSION"))));
    assert_eq!(one.header("leadhook-attempt"), Some("1"));
    assert_eq!(one.header("traceparent"), Some(trace));
    assert_eq!(one.header("authorization"), Some("Bearer t0ken"));
    assert_eq!(one.verified, Some(true), "the signature is invalid");
    assert!(!one.webhook_id().unwrap().contains('.'));
    let log = worker.log();
    worker.stop().await;
    for secret in ["t0ken", "whsec", "John", "john@example.com", "guest:guest"] {
        assert!(!log.contains(secret), "{secret} is in the log");
    }
}

/// Uses the official Rust library in the middle of a rotation. `make interop` uses those of other languages.
#[tokio::test]
async fn the_official_verifier_takes_each_active_secret_and_no_other() {
    const NEW: &str = "whsec_//79/Pv6+fj39vX08/Lx8O/u7ezr6uno5+bl5OPi4eDf3t3c29rZ2NfW1dTT0tHQz87NzMvKycjHxsXEw8LBwA==";
    let world = World::new().await;
    let receiver = receiver("500,200").await;
    world.simple_store(&receiver.url(), &format!("signing_secrets: [{SECRET}, {NEW}]"));
    let worker = world.worker(&[]).await;
    world.publish(event("ABC", 1).replace("\":", "\" :  ").replace("John", "J\\u00f6hn \u{1f600}").as_bytes()).await;
    // Each attempt is signed again, with its own timestamp.
    for one in receiver.wait_for(2, PATIENCE).await.unwrap() {
        for (secret, takes) in [(SECRET, true), (NEW, true), ("whsec_YWJjZGVmZ2hpamtsbW5vcHFyc3R1dnd4", false)] {
            let verified = standardwebhooks::Webhook::new(secret).unwrap().verify(&one.body, &one.headers);
            assert_eq!(verified.is_ok(), takes, "{verified:?}");
        }
    }
    worker.stop().await;
}

#[tokio::test]
async fn webhook_ids_are_stable_and_differ_by_target() {
    let world = World::new().await;
    let (first, second) = (receiver("200").await, receiver("200").await);
    world.store(&format!(
        "default_organization: acme\norganizations:\n  acme:\n    webhooks:\n      - {{ name: a, url: \"{}\", events: \"*\" }}\n      - {{ name: b, url: \"{}\", events: \"*\" }}\n",
        first.url(),
        second.url()
    ));
    let _worker = world.worker(&[]).await;
    // The same upstream message twice, another message with the same body, and the same body without an id, twice.
    for id in [Some("m-1"), Some("m-1"), Some("m-2"), None, None] {
        let properties = BasicProperties::default();
        let properties = id.map_or(properties.clone(), |id| properties.with_message_id(id.into()));
        world.publish_with(EXAMPLE.as_bytes(), properties).await;
    }
    let ids = |received: Vec<std::sync::Arc<leadhook::receiver::Received>>| {
        let mut ids: Vec<String> = received.iter().map(|one| one.webhook_id().unwrap().to_owned()).collect();
        ids.sort();
        ids
    };
    let a = ids(first.wait_for(5, PATIENCE).await.unwrap());
    let b = ids(second.wait_for(5, PATIENCE).await.unwrap());
    let distinct = |ids: &[String]| ids.iter().collect::<std::collections::BTreeSet<_>>().len();
    assert_eq!((distinct(&a), distinct(&b)), (3, 3));
    assert_eq!(distinct(&[a, b].concat()), 6);
}

#[tokio::test]
async fn events_without_target_are_counted_with_their_reason() {
    let world = World::new().await;
    let receiver = receiver("200").await;
    world.store(&format!(
        "organizations:\n  acme:\n    webhook: {{ url: \"{0}\", events: [lead.failed] }}\n    campaigns:\n      OFF: {{ override: true, webhook: {{ enabled: false }} }}\n  off:\n    webhook: {{ enabled: false, url: \"{0}\", events: \"*\" }}\n    campaigns: {{ IDLE: {{}} }}\n",
        receiver.url()
    ));
    let worker = world.worker(&[]).await;
    let of_acme = || BasicProperties::default().with_headers(headers(&[("organization-id", "acme")]));
    world.publish_with(event("ABC", 1).as_bytes(), of_acme()).await;
    world.publish(event("OFF", 2).as_bytes()).await;
    world.publish(event("IDLE", 3).as_bytes()).await;
    // Another event follows them. When it is delivered, they have been settled or are about to be.
    let selected = event("ABC", 4).replace("lead.delivered\"", "lead.failed\"");
    world.publish_with(selected.as_bytes(), of_acme()).await;
    receiver.wait_for(1, PATIENCE).await.unwrap();
    for reason in ["event_not_selected", "campaign_disabled", "disabled"] {
        let label = format!("reason=\"{reason}\"");
        crate::harness::eventually(reason, async || {
            (worker.metric("leadhook_no_target_total", &label).await >= 1.0).then_some(())
        })
        .await;
    }
    assert_eq!(receiver.received().len(), 1);
}

/// AMQP splits bodies into frames, but not headers. A client that negotiates shorter frames than the broker's gets
/// nothing more once a message has longer headers (3.10, 4.0, 4.3). The worker must not do that.
#[tokio::test]
async fn headers_that_fill_a_frame_are_no_obstacle() {
    let world = World::new().await;
    let receiver = receiver("200").await;
    world.simple_store(&receiver.url(), "");
    let worker = world.worker(&[]).await;
    let long = "x".repeat(120_000);
    let properties = || BasicProperties::default().with_headers(headers(&[("x-long", &long)]));
    world.publish_with(event("ABC", 1).as_bytes(), properties()).await;
    world.publish_with(b"nonsense", properties()).await;
    world.publish_with(event("ABC", 2).as_bytes(), BasicProperties::default()).await;
    receiver.wait_for(2, PATIENCE).await.unwrap();
    let rejected = world.take_when_there("rejected", 1).await;
    let upstream = rejected[0].text("leadhook-upstream").unwrap();
    assert!(upstream.contains("bytes of upstream headers"), "{upstream}");
    worker.stop().await;
}
