//! Rejected messages: listed by cause, shown, and repaired.

use lapin::{
    BasicProperties,
    types::{AMQPValue, FieldTable},
};

use super::{ACT, Console, READ, console};
use crate::harness::{World, event, eventually, receiver};

const LOG: (&str, &str) = ("LEADHOOK__DELIVERY_LOG__ENABLED", "true");

/// Creates a world with messages without a leadId, which a worker rejected before it stopped.
async fn world_with(ids: &[&str]) -> World {
    let world = World::new().await;
    let receiver = receiver("200").await;
    world.simple_store(&receiver.url(), "");
    let worker = world.worker(&[]).await;
    for id in ids {
        let mut headers = FieldTable::default();
        headers.insert("x-tenant".into(), AMQPValue::LongString("shop-7".into()));
        let properties = BasicProperties::default().with_message_id((*id).into()).with_headers(headers);
        world.publish_with(without_lead().as_bytes(), properties).await;
    }
    eventually("all are rejected", async || (world.ready("rejected").await as usize == ids.len()).then_some(())).await;
    worker.stop().await;
    world
}

fn without_lead() -> String {
    event("ABC", 1).replace("\"leadId\":\"lead_1\",", "")
}

async fn token(console: &Console, who: &str, id: &str) -> String {
    let page = console.page(who, &format!("/rejected/{id}")).await;
    page.split("name=\"token\" value=\"").nth(1).expect("a form").split('"').next().expect("a value").to_owned()
}

#[tokio::test]
async fn a_rejected_message_is_found_by_its_cause_repaired_and_put_back() {
    let world = world_with(&["sub_1/first", "sub_1/second"]).await;
    let console = console(&world, &[LOG]).await;
    let causes = console.page(READ, "/rejected").await;
    assert!(causes.contains("missing_field") && causes.contains("field &quot;leadId&quot; is missing"), "{causes}");
    let link =
        causes.split("/rejected?reason=").nth(1).expect("a link").split('"').next().unwrap().replace("&amp;", "&");
    let listed = console.page(READ, &format!("/rejected?reason={link}")).await;
    assert!(listed.contains("/rejected/sub_1%2Ffirst") && listed.contains("/rejected/sub_1%2Fsecond"), "{listed}");
    let page = console.page(ACT, "/rejected/sub_1%2Ffirst").await;
    assert!(page.contains("leadhook rejected requeue --set") && !page.contains("john@example.com"), "{page}");

    let token = token(&console, ACT, "sub_1%2Ffirst").await;
    let form = |field, value| {
        [("token", token.as_str()), ("action", "requeue"), ("field", field), ("how", "text"), ("value", value)]
    };
    let asked = console.post(ACT, "/rejected/sub_1%2Ffirst/preview", &form("status", "x")).await;
    let asked = asked.text().await.unwrap();
    assert!(asked.contains("still not be a usable event") && !asked.contains("/act"), "{asked}");
    let asked = console.post(ACT, "/rejected/sub_1%2Ffirst/preview", &form("leadId", "lead 9")).await;
    let asked = asked.text().await.unwrap();
    assert!(asked.contains("leadId added") && asked.contains("/rejected/sub_1%2Ffirst/act"), "{asked}");
    assert_eq!((world.ready("rejected").await, world.ready("events").await), (2, 0), "the preview changed something");

    let page = console.done("/rejected/sub_1%2Ffirst/act", &form("leadId", "lead 9")).await;
    assert!(page.contains("1 message put back onto the events queue") && page.contains("anna"), "{page}");
    let message = world.take("events", 1).await.remove(0);
    let body = without_lead();
    let expected = format!("{},\"leadId\":\"lead 9\"}}", &body[..body.len() - 1]);
    assert_eq!(String::from_utf8(message.body.clone()).unwrap(), expected);
    assert_eq!(message.text("x-tenant").as_deref(), Some("shop-7"));
    assert_eq!(message.properties.message_id().as_ref().unwrap().as_str(), "sub_1/first");
    eventually("it is in the delivery log", async || {
        let page = console.page(ACT, "/search?by=lead&q=lead+9").await;
        page.contains("by anna: repaired: leadId added").then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_rejected_message_is_shown_and_discarded_on_record() {
    let world = world_with(&["first-one", "second-one"]).await;
    let console = console(&world, &[LOG]).await;
    let token = token(&console, ACT, "first-one").await;
    let shown = console.post(ACT, "/rejected/first-one/reveal", &[("token", &token)]).await;
    assert!(shown.text().await.unwrap().contains("john@example.com"));
    let form = [("token", token.as_str()), ("action", "discard")];
    let asked = console.post(ACT, "/rejected/first-one/preview", &form).await.text().await.unwrap();
    assert!(asked.contains("because") && world.ready("rejected").await == 2, "{asked}");
    assert_eq!(console.post(ACT, "/rejected/first-one/act", &form).await.status(), 400, "without a reason");
    let form = [form[0], form[1], ("because", "a test")];
    let page = console.done("/rejected/first-one/act", &form).await;
    assert!(page.contains("1 message discarded") && page.contains("To the rejected messages"), "{page}");
    assert_eq!(world.ready("rejected").await, 1);
    let files: Vec<_> = std::fs::read_dir(world.directory.path()).unwrap().map(|file| file.unwrap().path()).collect();
    let file = files.iter().find(|file| file.to_string_lossy().contains("discarded-")).expect("a file");
    assert!(std::fs::read_to_string(file).unwrap().contains("first-one"));
}

#[tokio::test]
async fn nothing_is_repaired_by_a_reader_or_without_a_token() {
    let world = world_with(&["first-one"]).await;
    let console = console(&world, &[]).await;
    let page = console.page(READ, "/rejected/first-one").await;
    assert!(!page.contains("method=\"post\"") && !page.contains("john@example.com"), "{page}");
    let token = token(&console, ACT, "first-one").await;
    for path in ["preview", "act", "reveal"] {
        let path = format!("/rejected/first-one/{path}");
        let form = [("token", token.as_str()), ("action", "requeue"), ("field", "leadId"), ("value", "x")];
        assert_eq!(console.post(READ, &path, &form).await.status(), 403, "{path}");
        for form in [&form[1..], &[("token", "forged"), form[1], form[2], form[3]]] {
            assert_eq!(console.post(ACT, &path, form).await.status(), 403, "{path}");
        }
        let foreign = console.ask(ACT, reqwest::Method::POST, &path).header("origin", "https://evil.example");
        assert_eq!(foreign.body("token=x").send().await.unwrap().status(), 403, "{path}");
    }
    assert_eq!((world.ready("rejected").await, world.ready("events").await), (1, 0));
}
