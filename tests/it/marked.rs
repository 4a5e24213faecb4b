//! Marked secrets and marked lead data go through everything that a worker and its commands do, at the highest log
//! level. The test searches all output for them.

use std::{collections::BTreeMap, net::Ipv4Addr};

use lapin::{BasicProperties, types::AMQPValue};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};

use crate::{
    console::console,
    harness::{World, event, eventually},
};

/// Marks values of the lead and messages that are not events.
const LEAD: &str = "Mar7edLead";

/// Marks ids that upstream chose. Lists show them, because people search for messages by id.
const ID: &str = "Mar7edName";

/// Marks the paths of URLs, which often are tokens. `leadhook explain` shows them, because it says where an event would
/// go.
const PATH: &str = "Mar7edPath";

/// Marks header values, signing secrets, queries of URLs, and the worker's own variables.
const SECRET: &str = "Mar7edSecret";

/// `whsec_` and the base64 of "Mar7edSecretMar7edSecret", which contains no other mark to search for.
const SIGNING: &str = "whsec_TWFyN2VkU2VjcmV0TWFyN2VkU2VjcmV0";

/// Returns the forms that a leak could have: plain, base64 at each of its three offsets, and hex.
fn marks(mark: &str) -> Vec<String> {
    use base64::{Engine, prelude::BASE64_STANDARD_NO_PAD};
    let hex = mark.bytes().map(|byte| format!("{byte:02x}")).collect();
    let mut marks = vec![mark.to_lowercase(), hex];
    for offset in 0..3 {
        let shifted = format!("{}{mark}", &"___"[..offset]);
        let encoded = BASE64_STANDARD_NO_PAD.encode(&shifted);
        // Only the groups of four that contain nothing but bytes of the mark.
        let (from, to) = ((offset * 8).div_ceil(6), (shifted.len() * 8 / 6).min(encoded.len()));
        marks.push(encoded[from..to].to_lowercase());
    }
    marks
}

/// Returns each line that contains a mark.
fn found(text: &str, marks: &[String]) -> Vec<String> {
    let hit = |line: &&str| marks.iter().any(|mark| line.to_lowercase().contains(mark));
    text.lines().filter(hit).map(|line| line.chars().take(600).collect()).collect()
}

/// Starts a receiver that answers every request with `status` and with the request itself.
async fn echo(status: u16) -> String {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut request = Vec::new();
                while !request.ends_with(b"}}") {
                    if stream.read_buf(&mut request).await? == 0 {
                        break;
                    }
                }
                let head = format!(
                    "HTTP/1.1 {status} {SECRET}{LEAD}\r\nConnection: close\r\nX-Echo: {SECRET}{LEAD}\r\nRetry-After: {LEAD}\r\n\r\n"
                );
                stream.write_all(head.as_bytes()).await?;
                // The body comes first, so that the snippet contains lead data.
                let body = request.iter().rposition(|byte| *byte == b'{').unwrap_or_default();
                stream.write_all(&request[body..]).await?;
                stream.shutdown().await
            });
        }
    });
    format!("http://{address}")
}

fn marked(campaign: &str, n: u32) -> String {
    let event = event(campaign, n);
    let value = serde_json::from_str(&event).unwrap();
    let serde_json::Value::Object(mut value) = value else { panic!("{event}") };
    value.insert("status".into(), format!("{LEAD}-status").into());
    value.insert("unknown".into(), format!("{LEAD}-unknown").into());
    // `data` goes last, at the end of the body.
    value.remove("data");
    let rest = serde_json::to_string(&value).unwrap();
    format!("{},\"data\":{{\"firstName\":\"{LEAD}\",\"email\":\"{LEAD}@example.com\"}}}}", rest.trim_end_matches('}'))
}

/// Returns messages that are not events, each with the mark at a place that a careless message would show.
fn unusable() -> Vec<String> {
    let good = marked("ok", 999);
    vec![
        format!("{LEAD}, no JSON"),
        format!("\"{LEAD}\""),
        format!("[\"{LEAD}\"]"),
        format!("{{\"event\": \"{LEAD}\"}}"),
        good.replace("\"lead.", &format!("\"{LEAD}.")),
        good.replace("\"campaignId\":\"ok\"", &format!("\"campaignId\":\"{ID}\"")),
        good.replace("\"campaignId\":\"ok\"", &format!("\"campaignId\":{{\"{LEAD}\":1}}")),
        good.replace("\"data\":{", &format!("\"data\":\"{LEAD}\",\"more\":{{")),
        good.replace("\"data\":{", &format!("\"data\":{{\"{LEAD}\":1,\"{LEAD}\":2,")),
        good.replace("\"data\":{", &format!("\"{LEAD}\":1,\"{LEAD}\":2,\"data\":{{")),
        good.replace("\"timestamp\":\"", &format!("\"timestamp\":\"{LEAD}")),
        good.replace("\"organizationId\":", "\"was\":").replacen('{', &format!("{{\"organizationId\":\"{ID}\","), 1),
        good.trim_end_matches('}').to_owned(),
    ]
}

fn store(urls: &BTreeMap<&str, String>) -> String {
    let mut store = format!(
        "organizations:\n  acme:\n    webhook:\n      url: \"{}/{PATH}/in?token={SECRET}\"\n      events: \"*\"\n      \
         retry_attempts: 1\n      timeout: 2\n      headers: {{ Authorization: \"Bearer ${{WEBHOOK_TOKEN}}\", X-File: {{ file: token }} }}\n      \
         signing_secrets: [ \"${{WEBHOOK_SIGNING}}\" ]\n    campaigns:\n",
        urls["ok"]
    );
    for (campaign, url) in urls {
        store.push_str(&format!(
            "      {campaign}: {{ override: true, webhook: {{ url: \"{url}/{PATH}/x?token={SECRET}\", events: \"*\", headers: \
             {{ X-Inline: \"{SECRET}\" }}, signing_secrets: [ {SIGNING} ] }} }}\n"
        ));
    }
    store
}

#[tokio::test]
async fn nothing_that_is_secret_or_personal_comes_out() {
    let world = World::new().await;
    let nobody = "http://127.0.0.1:1".to_owned();
    let urls = BTreeMap::from([
        ("ok", echo(200).await),
        ("refusing", echo(500).await),
        ("gone", echo(410).await),
        ("busy", echo(429).await),
        ("nobody", nobody),
        ("inside", "https://10.0.0.1".to_owned()),
        ("tls", echo(200).await.replace("http:", "https:")),
    ]);
    world.store(&store(&urls));
    std::fs::write(world.directory.path().join("token"), format!("{SECRET}-file\n")).unwrap();
    let directory = world.directory.path().to_str().unwrap().to_owned();
    let token = format!("{SECRET}-token");
    let management = format!("http://{SECRET}:{SECRET}@127.0.0.1:1/");
    let environment = [
        ("LEADHOOK__LOG__LEVEL", "trace,lapin=trace,hyper_util=trace,h2=trace,hickory_resolver=trace"),
        ("LEADHOOK__SECRETS__DIRECTORY", directory.as_str()),
        ("LEADHOOK__AMQP__MANAGEMENT_URL", management.as_str()),
        ("WEBHOOK_TOKEN", token.as_str()),
        ("WEBHOOK_SIGNING", SIGNING),
        ("DATABASE_PASSWORD", token.as_str()),
        ("RUST_BACKTRACE", "1"),
        // Panics at all places that hold a lead.
        (
            "LEADHOOK_FAILPOINTS",
            "event.posting:acme/ok=panic@2;job.taken=panic@3;event.taken=panic@4;event.recorded=panic@5",
        ),
    ];
    let worker = world.worker(&environment).await;
    for (n, campaign) in urls.keys().enumerate() {
        for copy in 0..3 {
            world.publish(marked(campaign, (n * 10 + copy) as u32).as_bytes()).await;
        }
    }
    let mut headers = lapin::types::FieldTable::default();
    headers.insert("organization-id".into(), AMQPValue::LongString(ID.into()));
    headers.insert("traceparent".into(), AMQPValue::LongString(LEAD.into()));
    headers.insert("x-upstream".into(), AMQPValue::LongString(SECRET.into()));
    world.publish_with(marked("ok", 500).as_bytes(), BasicProperties::default().with_headers(headers)).await;
    let unusable = unusable();
    for body in &unusable {
        world.publish(body.as_bytes()).await;
    }
    // Messages on the jobs queue that are not jobs, with forged headers.
    for body in ["", LEAD] {
        let properties = BasicProperties::default().with_message_id(ID.into()).with_type(ID.into());
        world.publish_to("", "leadhook.jobs", body.as_bytes(), properties).await;
    }
    // Stores that refer to secrets outside their reach, and one that is broken at the secrets.
    let good = store(&urls);
    for broken in [
        good.replace("${WEBHOOK_TOKEN}", "${DATABASE_PASSWORD}"),
        good.replace("file: token", "file: ../token"),
        good.replace("file: token", "file: /etc/hostname"),
        good.replace("${WEBHOOK_SIGNING}", "whsec_${WEBHOOK_TOKEN}"),
        good.replace("X-Inline: \"", "X-Inline: \"\\n"),
        good.replace("http://", &format!("http://{SECRET}:{SECRET}@")),
        good.replace("/x?token", &format!("/x#{SECRET}")),
    ] {
        world.store(&broken);
        let revision = worker.log().matches("webhook store refused").count();
        worker.signal("HUP");
        eventually("the store is refused", async || {
            (worker.log().matches("webhook store refused").count() > revision).then_some(())
        })
        .await;
    }
    let mut outputs = vec![("readyz", worker.get("/readyz").await.unwrap().1)];
    let broken = world.command().arg("check").envs(environment).output().unwrap();
    outputs.push(("check of a broken store", String::from_utf8_lossy(&broken.stdout).into_owned()));
    world.store(&good);
    // All campaigns but `ok`, with three events each.
    eventually("all failing jobs have failed", async || (world.ready("failed").await >= 18).then_some(())).await;
    eventually("the unusable messages are rejected", async || {
        (world.ready("rejected").await as usize >= unusable.len()).then_some(())
    })
    .await;
    for path in ["/metrics", "/readyz", "/livez", "/targets"] {
        outputs.push((path, worker.get(path).await.unwrap().1));
    }
    let id = {
        let listed = world.command().args(["failed", "list", "--json"]).envs(environment).output().unwrap();
        let listed = String::from_utf8_lossy(&listed.stdout).into_owned();
        let id = listed.split('"').find(|word| word.starts_with("wh_"));
        id.unwrap_or_else(|| panic!("no id in {listed}")).to_owned()
    };
    // The worker writes the delivery log a little later than the failed queue.
    eventually("the delivery log has the failure", async || {
        let story = world.command().args(["deliveries", "show", &id]).envs(environment).output().unwrap();
        String::from_utf8_lossy(&story.stdout).contains("failed").then_some(())
    })
    .await;
    outputs.extend(console_shows(&world, &environment, &id).await);
    for arguments in [
        &["check"][..],
        &["check", "--json"],
        &["explain", "--campaign", "ok", "--event", "lead.delivered"],
        &["explain", "--campaign", "ok", "--event", "lead.delivered", "--json"],
        &["topology"],
        &["topology", "check"],
        &["failed", "list"],
        &["failed", "list", "--json"],
        &["failed", "show", &id],
        &["failed", "show", &id, "--json"],
        &["failed", "stats"],
        &["rejected", "list"],
        &["rejected", "list", "--json"],
        &["deliveries"],
        &["deliveries", "--json"],
        &["deliveries", "show", &id],
        &["deliveries", "show", &id, "--json"],
        &["failed", "replay", &id, "--yes"],
    ] {
        let output = world.command().args(arguments).envs(environment).output().unwrap();
        let text = [output.stdout, output.stderr].concat();
        let name: &'static str = arguments.join(" ").leak();
        outputs.push((name, String::from_utf8_lossy(&text).into_owned()));
    }
    let log = worker.log();
    assert!(
        log.contains("\"panic\"") && log.contains("\"TRACE\"") | log.contains("\"DEBUG\""),
        "it spoke and it panicked"
    );
    worker.stop().await;
    outputs.push(("the log", log));

    let (lead, ids, mut secret, path) = (marks(LEAD), marks(ID), marks(SECRET), marks(PATH));
    secret.push(SIGNING.trim_start_matches("whsec_").to_lowercase());
    let mut leaks = Vec::new();
    for (name, text) in &outputs {
        // Both show the snippet of an answer, and the second one shows the whole lead.
        let shows_snippets = name.starts_with("failed show") || *name == REVEAL;
        leaks.extend(found(text, &secret).into_iter().map(|line| format!("secret in {name}: {line}")));
        if !name.starts_with("explain") && !name.starts_with("console /settings") {
            leaks.extend(found(text, &path).into_iter().map(|line| format!("path in {name}: {line}")));
        }
        if !name.starts_with("rejected list") && !name.starts_with("deliveries") {
            leaks.extend(found(text, &ids).into_iter().map(|line| format!("id in {name}: {line}")));
        }
        if !shows_snippets {
            leaks.extend(found(text, &lead).into_iter().map(|line| format!("lead data in {name}: {line}")));
        }
    }
    // On the broker, bodies contain upstream's text and snippets a receiver's. Leadhook's own fields contain neither.
    let mut messages = 0;
    for queue in ["events", "jobs", "failed", "rejected"] {
        for message in world.take_all(queue).await {
            messages += 1;
            let mut properties = message.properties.clone();
            let mut headers = properties.headers().clone().unwrap_or_default();
            for kept in ["leadhook-upstream", "leadhook-history"] {
                headers = headers.inner().iter().filter(|(name, _)| name.as_str() != kept).fold(
                    lapin::types::FieldTable::default(),
                    |mut all, (name, value)| {
                        all.insert(name.clone(), value.clone());
                        all
                    },
                );
            }
            let history = message.text("leadhook-history").unwrap_or_default();
            properties = properties.with_headers(headers);
            let said = format!("{properties:?}");
            leaks.extend(found(&said, &path).into_iter().map(|line| format!("path on {queue}: {line}")));
            leaks.extend(found(&said, &secret).into_iter().map(|line| format!("secret on {queue}: {line}")));
            // The status line and headers of an answer are not kept, and only the beginning of its body is.
            leaks.extend(
                found(&history, &secret).into_iter().map(|line| format!("secret in a history on {queue}: {line}")),
            );
            leaks.extend(found(&said, &lead).into_iter().map(|line| format!("lead data on {queue}: {line}")));
        }
    }
    assert!(messages >= 18 + unusable.len(), "{messages}");
    assert!(leaks.is_empty(), "{} leaks:\n{}", leaks.len(), leaks.join("\n"));
}

/// The page that shows the data of the lead on request.
const REVEAL: &str = "console reveal";

/// Returns the console's pages about this failed job, and the console's log.
async fn console_shows(world: &World, environment: &[(&str, &str)], id: &str) -> Vec<(&'static str, String)> {
    let secret = format!("{SECRET}-of-a-person");
    let credentials = ("LEADHOOK__CONSOLE__CREDENTIALS", format!("anna:act:{secret}"));
    let environment = [environment, &[(credentials.0, credentials.1.as_str())]].concat();
    let console = console(world, &environment).await;
    let anna = format!("anna:{secret}");
    let mut outputs = Vec::new();
    for path in [
        "/",
        "/search?q=lead_10",
        "/search?by=campaign&q=refusing",
        "/settings?campaign=ok",
        "/failed",
        "/failed?campaign=refusing&fresh=1",
        &format!("/failed/{id}"),
        &format!("/failed/preview?which=chosen&id={id}&action=replay"),
        &format!("/deliveries/{id}"),
    ] {
        let page = console.page(&anna, path).await;
        // Masked payloads show the status, because it is one of the sender's words (src/console/mask.rs).
        let page = page.replace(&format!("{LEAD}-status"), "");
        outputs.push((&*format!("console {path}").leak(), page));
    }
    let token = console.token_of(&anna, id).await;
    let revealed = console.post(&anna, &format!("/failed/{id}/reveal"), &[("token", &token)]).await;
    outputs.push((REVEAL, revealed.text().await.unwrap()));
    assert!(outputs.last().unwrap().1.contains(LEAD), "the page did not show the lead, so its log proves nothing");
    let wrong = console.get(&format!("anna:{SECRET}-wrong"), "/").await;
    outputs.push(("console without the right secret", wrong.text().await.unwrap()));
    outputs.push(("the console's log", console.process.log()));
    outputs
}

/// The search finds marks in every form.
#[test]
fn marks_are_found_in_every_disguise() {
    use base64::{Engine, prelude::BASE64_STANDARD};
    let hex: String = SECRET.bytes().map(|byte| format!("{byte:02X}")).collect();
    let leaks = [
        format!("x {SECRET} y"),
        SECRET.to_uppercase(),
        hex,
        BASE64_STANDARD.encode(format!("a{SECRET}")),
        BASE64_STANDARD.encode(format!("ab{SECRET}c")),
        BASE64_STANDARD.encode(format!("Basic {SECRET}:{SECRET}")),
    ];
    for leak in leaks {
        assert_eq!(found(&leak, &marks(SECRET)).len(), 1, "{leak}");
    }
    assert!(found("nothing\nof note", &marks(SECRET)).is_empty());
}
