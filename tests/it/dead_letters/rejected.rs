//! Rejected messages: looking changes nothing, and they are put back once the cause is fixed.

use lapin::{
    BasicProperties,
    types::{AMQPValue, FieldTable},
};
use serde_json::Value;

use super::{drain, fail, job, set};
use crate::{
    harness::{PATIENCE, World, event, eventually, leadhook, receiver},
    rig::scripted_broker::{Content, ScriptedBroker},
};

/// Runs `leadhook rejected ...`; returns exit code, answer as JSON, and stderr.
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
    // Only a header names the organization, which must return with the event.
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
    // The campaign is unknown, and the default organization is gone too.
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

/// Builds a body with spaces, odd forms and a number that JSON writers spell differently.
fn odd(campaign: &str) -> String {
    format!(
        "{{ \"event\": \"lead.delivered\",\n  \"leadId\" : \"lead_1\", \"submissionId\":\"sub_1\",\t\"campaignId\":\"{campaign}\", \
         \"status\": null, \"timestamp\":1718447400, \"data\": {{\"n\":1.0e2, \"n\":\"\\ud83d\", \"firstName\":\"Jane\"}} }}"
    )
}

fn named(id: &str, organization: Option<&str>) -> BasicProperties {
    let mut headers = FieldTable::default();
    headers.insert("x-tenant".into(), AMQPValue::LongString("shop-7".into()));
    if let Some(organization) = organization {
        headers.insert("organization-id".into(), AMQPValue::LongString(organization.into()));
    }
    BasicProperties::default().with_message_id(id.into()).with_headers(headers)
}

/// Makes a worker reject these messages, and stops it.
async fn reject(world: &World, messages: &[(&str, &str, Option<&str>)]) {
    let worker = world.worker(&[]).await;
    for (id, body, organization) in messages {
        world.publish_with(body.as_bytes(), named(id, *organization)).await;
    }
    eventually("all are rejected", async || (world.ready("rejected").await as usize == messages.len()).then_some(()))
        .await;
    worker.stop().await;
}

#[tokio::test]
async fn a_repair_changes_one_field_and_no_other_byte_and_is_on_record() {
    let world = World::new().await;
    let receiver = receiver("200").await;
    world.simple_store(&receiver.url(), "");
    let right = odd("ABC");
    let without = right.replace("\"leadId\" : \"lead_1\", ", "");
    let twice = right.replace("\"status\"", "\"leadId\":\"lead_2\", \"status\"");
    let wrong = right.replace("\"ABC\"", "\"A B C\"");
    reject(&world, &[("first-one", &without, None), ("second-one", &twice, None), ("third-one", &wrong, None)]).await;

    let repair =
        ["requeue", "first-one", "second-one", "third-one", "--set", "leadId=lead_9", "--set", "campaignId=ABC"];
    let (code, dry, err) = rejected(&world, &[&repair[..], &["--dry-run"]].concat()).await;
    assert_eq!((code, world.ready("rejected").await), (Some(0), 3), "{dry:#} {err}");
    let changes = &dry["repairs"]["changes"];
    assert_eq!(changes["leadId added"]["messages"], 1, "{dry:#}");
    assert_eq!(changes["leadId changed"]["messages"], 1, "{dry:#}");
    assert_eq!(changes["leadId changed, campaignId changed"]["messages"], 1, "{dry:#}");
    for lead in ["lead_1", "lead_9", "Jane", "A B C"] {
        assert!(!dry.to_string().contains(lead), "{lead}: {dry:#}");
    }
    let (_, shown, _) = rejected(&world, &[&repair[..], &["--dry-run", "--show-data"]].concat()).await;
    let shown = shown["repairs"]["shown"].to_string();
    assert!(shown.contains("lead_1") && shown.contains("lead_9") && !shown.contains("Jane"), "{shown}");

    let (code, _, err) = rejected(&world, &repair).await;
    assert!(code == Some(2) && err.contains("Put 3 messages back onto the events queue, repaired?"), "{err}");
    let (code, done, err) = rejected(&world, &[&repair[..], &["--yes", "--by", "Ada"]].concat()).await;
    assert_eq!((code, &done["requeued"]), (Some(0), &3.into()), "{done:#} {err}");
    let put_back = world.take("events", 3).await;
    let end = |body: &str| format!("{},\"leadId\":\"lead_9\" }}", body.trim_end_matches(" }"));
    let expected = [
        ("first-one", end(&without)),
        ("second-one", right.replace("lead_1", "lead_9")),
        ("third-one", right.replace("lead_1", "lead_9")),
    ];
    for (id, body) in expected {
        let of = |message: &&crate::harness::Message| message.properties.message_id().as_ref().unwrap().as_str() == id;
        let message = put_back.iter().find(of).unwrap();
        assert_eq!(String::from_utf8(message.body.clone()).unwrap(), body, "{id}");
        assert_eq!(message.text("x-tenant").as_deref(), Some("shop-7"));
        assert_eq!(message.text("organization-id"), None);
    }
    let mut command = world.command();
    command.args(["deliveries", "--lead", "lead_9", "--json"]);
    let log = tokio::task::spawn_blocking(move || command.output().expect("leadhook")).await.unwrap();
    println!("{}", String::from_utf8_lossy(&log.stderr));
    let log = String::from_utf8(log.stdout).unwrap();
    assert!(log.contains("Ada") && log.contains("repaired: leadId added") && !log.contains("Jane"), "{log}");
}

#[tokio::test]
async fn an_organization_is_named_where_the_message_names_it_and_the_event_is_delivered() {
    let world = World::new().await;
    let receiver = receiver("200").await;
    world.simple_store(&receiver.url(), "");
    let store = std::fs::read_to_string(world.store_path()).unwrap();
    world.store(&store.replacen("default_organization: acme\n", "", 1));
    let plain = odd("LATER");
    let in_body = plain.replace("\"status\"", "\"organizationId\": \"globex\" , \"status\"");
    reject(
        &world,
        &[("plain-one", &plain, None), ("header-one", &plain, Some("globex")), ("both-one", &in_body, Some("acme"))],
    )
    .await;
    let (code, done, err) = rejected(&world, &["requeue", "--all", "--organization", "acme", "--yes"]).await;
    assert_eq!((code, &done["requeued"]), (Some(0), &3.into()), "{done:#} {err}");
    let worker = world.worker(&[]).await;
    let received = receiver.wait_for(3, PATIENCE).await.unwrap();
    let mut bodies: Vec<_> = received.iter().map(|one| String::from_utf8(one.body.to_vec()).unwrap()).collect();
    bodies.sort();
    let mut expected = [plain.clone(), plain, in_body.replace("globex", "acme")];
    expected.sort();
    assert_eq!(bodies, expected);
    worker.stop().await;
}

#[tokio::test]
async fn a_message_is_edited_and_put_back_or_left_as_it_was() {
    let world = World::new().await;
    let receiver = receiver("200").await;
    world.simple_store(&receiver.url(), "");
    let broken = odd("ABC").replace("\"status\": null", "\"status\": nil");
    reject(&world, &[("broken-one", &broken, None)]).await;
    let edit = async |editor: &str, more: &[&str]| {
        let mut command = world.command();
        command.args(["rejected", "edit", "broken-one", "--json"]).args(more);
        command.env_remove("VISUAL").env("EDITOR", editor).env("TMPDIR", world.directory.path());
        let output = tokio::task::spawn_blocking(move || command.output().expect("leadhook")).await.unwrap();
        let answer: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
        (output.status.code(), answer, String::from_utf8(output.stderr).unwrap())
    };
    for (editor, said) in
        [("true", "not a usable event"), ("sed -i s/nil/nul/", "not a usable event"), ("false", "the editor failed")]
    {
        let (code, _, err) = edit(editor, &["--yes"]).await;
        assert!(code == Some(1) && err.contains(said) && !err.contains("Jane"), "{editor}: {err}");
    }
    let (code, dry, err) = edit("sed -i s/nil/null/", &["--dry-run", "--yes"]).await;
    assert_eq!(
        (code, &dry["repairs"]["changes"]["(the whole body) changed"]["messages"]),
        (Some(0), &1.into()),
        "{err}"
    );
    assert_eq!(world.ready("rejected").await, 1);
    let (code, done, err) = edit("sed -i s/nil/null/", &["--yes"]).await;
    assert_eq!((code, &done["requeued"]), (Some(0), &1.into()), "{done:#} {err}");
    let put_back = world.take("events", 1).await.remove(0);
    assert_eq!(String::from_utf8(put_back.body).unwrap(), odd("ABC"));
    assert_eq!(put_back.properties.message_id().as_ref().unwrap().as_str(), "broken-one");
    let left = std::fs::read_dir(world.directory.path()).unwrap();
    let left: Vec<_> = left.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    assert!(!left.iter().any(|name| name.starts_with("leadhook-")), "{left:?}");
}

#[tokio::test]
async fn a_signal_during_an_edit_leaves_no_data_behind() {
    let world = World::new().await;
    let receiver = receiver("200").await;
    world.simple_store(&receiver.url(), "");
    reject(&world, &[("broken-one", &odd("ABC").replace("null", "nil"), None)]).await;
    let directory = tempfile::tempdir().unwrap();
    for signal in ["INT", "TERM", "HUP"] {
        let mut command = world.command();
        command.args(["rejected", "edit", "broken-one", "--yes"]);
        // A signal does not end this editor; only Leadhook gets one.
        let editor = "sh -c 'mkfifo \"$1.fifo\" && read line < \"$1.fifo\"' sh";
        command.env_remove("VISUAL").env("EDITOR", editor).env("TMPDIR", directory.path());
        let mut child = command.spawn().expect("leadhook");
        let mut fifo = None;
        eventually("the editor runs", async || {
            let mut there = std::fs::read_dir(directory.path()).unwrap();
            fifo = Some(there.next()?.unwrap().path().join("event.json.fifo"));
            fifo.as_ref().is_some_and(|fifo| fifo.exists()).then_some(())
        })
        .await;
        // This keeps the editor's end open until the test ends it.
        let held = std::fs::OpenOptions::new().read(true).write(true).open(fifo.unwrap()).unwrap();
        let pid = child.id().to_string();
        assert!(std::process::Command::new("kill").args(["-s", signal, &pid]).status().unwrap().success());
        let ended = tokio::task::spawn_blocking(move || child.wait().unwrap()).await.unwrap();
        assert_eq!(ended.code(), Some(130), "{signal}");
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0, "{signal}");
        std::io::Write::write_all(&mut { held }, b"\n").unwrap();
    }
    assert_eq!(world.ready("rejected").await, 1);
}

/// A busy broker does not count messages that it has already handed out, and they arrive after that answer.
#[tokio::test]
async fn messages_that_come_late_are_seen_all_the_same() {
    let broker = ScriptedBroker::start().await;
    broker.be_late();
    for _ in 0..3 {
        let content = Content { properties: vec![0, 0], body: b"{}".to_vec(), ..Content::default() };
        broker.deliver("unreadable", content);
    }
    let mut command = leadhook(&broker.url);
    command.args(["unreadable", "list", "--json"]);
    let output = tokio::task::spawn_blocking(move || command.output().expect("leadhook")).await.unwrap();
    let list: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
    assert_eq!(list["messages"].as_array().map(Vec::len), Some(3), "{output:?}");
}

#[tokio::test]
async fn rejected_messages_are_counted_by_cause() {
    let world = World::new().await;
    let receiver = receiver("200").await;
    world.simple_store(&receiver.url(), "");
    let without = |field: &str| odd("ABC").replace(&format!("\"{field}\""), "\"x\"");
    let messages = [
        ("message-1", without("leadId"), None),
        ("message-2", without("leadId"), None),
        ("message-3", without("data"), None),
        ("message-4", odd("ABC").replace("lead_1", "\u{1}"), None),
        ("message-5", odd("ABC").replace("sub_1", "\u{1}"), None),
    ];
    let messages: Vec<_> = messages.iter().map(|(id, body, none)| (*id, body.as_str(), *none)).collect();
    reject(&world, &messages).await;
    let (code, stats, err) = rejected(&world, &["stats"]).await;
    assert_eq!((code, &stats["present"]), (Some(0), &5.into()), "{err}");
    let causes = stats["causes"].as_array().unwrap();
    let count = |reason: &str, detail: &str| {
        let cause = causes.iter().find(|cause| cause["reason"] == reason && cause["detail"] == detail);
        let cause = cause.unwrap_or_else(|| panic!("{reason} {detail}: {stats:#}"));
        assert!(
            cause["meaning"].as_str().unwrap().contains("leadhook rejected") && !cause["first"].is_null(),
            "{cause}"
        );
        assert!(cause["example"].as_str().unwrap().starts_with("message-"), "{cause}");
        cause["messages"].as_u64().unwrap()
    };
    assert_eq!(count("missing_field", "field \"leadId\" is missing"), 2);
    assert_eq!(count("missing_field", "field \"data\" is missing"), 1);
    assert_eq!(count("not_json", "not well-formed JSON"), 2);
    assert_eq!(causes.len(), 3);
}

/// They were lost near 32 KiB, and sooner if they held characters that JSON escapes.
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
