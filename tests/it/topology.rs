//! The exchange and the queues on a real broker: declared, verified, explained, compared.

use std::process::Output;

use lapin::BasicProperties;
use reqwest::Method;
use serde_json::{Value, json};

use crate::{
    harness::{PATIENCE, World, event, eventually, receiver},
    node::Node,
};

/// Permissions of a worker that declares the queues but not the exchange, then those of one that declares nothing.
const DECLARES: &str =
    r#"{"configure":"^leadhook\\.","write":"^(leadhook\\.|amq\\.default$)","read":"^(leadhook\\.|lead\\.events$)"}"#;
const VERIFIES: &str =
    r#"{"configure":"^$","write":"^(leadhook\\.|amq\\.default$)","read":"^(leadhook\\.|lead\\.events$)"}"#;

impl World {
    async fn manage(&self, method: Method, kind: &str, name: &str, body: Value) -> String {
        let path = format!("{kind}/{}/{name}", self.vhost());
        Node::shared().manage(method, path.trim_end_matches('/'), &body.to_string()).await
    }

    async fn read(&self, kind: &str, name: &str) -> Value {
        serde_json::from_str(&self.manage(Method::GET, kind, name, Value::Null).await).expect("JSON")
    }

    async fn queue(&self, name: &str, arguments: Value) {
        self.manage(Method::PUT, "queues", name, json!({ "durable": true, "arguments": arguments })).await;
    }

    async fn delete_queue(&self, name: &str) {
        self.manage(Method::DELETE, "queues", name, Value::Null).await;
    }

    /// Runs `leadhook topology ...`; returns exit code, stdout and stderr.
    fn topology(&self, arguments: &[&str], environment: &[(&str, &str)]) -> (i32, String, String) {
        let mut command = self.command();
        command.arg("topology").args(arguments).envs(environment.iter().copied());
        let Output { status, stdout, stderr } = command.output().expect("leadhook");
        let text = |bytes| String::from_utf8(bytes).expect("UTF-8");
        (status.code().expect("an exit code"), text(stdout), text(stderr))
    }

    fn apply(&self, environment: &[(&str, &str)]) -> Value {
        let (exit, stdout, stderr) = self.topology(&["apply", "--json"], environment);
        assert_eq!(exit, 0, "{stdout} {stderr}");
        serde_json::from_str(&stdout).expect("JSON")
    }

    /// Runs a worker that cannot start, and returns its log.
    async fn refused_worker(&self, environment: &[(&str, &str)]) -> String {
        self.simple_store("http://127.0.0.1:9/", "");
        let mut worker = self.start_worker(environment);
        assert_eq!(worker.ended().await.code(), Some(3), "{}", worker.log());
        worker.log()
    }

    /// Delivers an event through a worker, with one retry.
    async fn delivers(&self, environment: &[(&str, &str)]) {
        let receiver = receiver("500,200").await;
        self.simple_store(&receiver.url(), "");
        let worker = self.worker(environment).await;
        self.publish(event("ABC", 1).as_bytes()).await;
        receiver.wait_for(2, PATIENCE).await.expect("a delivery");
        worker.stop().await;
    }
}

fn results(applied: &Value, result: &str) -> usize {
    applied["things"].as_array().expect("things").iter().filter(|thing| thing["result"] == result).count()
}

fn states<'a>(checked: &'a Value, state: &str) -> Vec<&'a str> {
    let rows = checked["rows"].as_array().expect("rows").iter().filter(|row| row["state"] == state);
    rows.map(|row| row["name"].as_str().expect("a name")).collect()
}

fn management() -> (&'static str, &'static str) {
    ("LEADHOOK__AMQP__MANAGEMENT_URL", Node::shared().management_url())
}

#[tokio::test]
async fn everything_is_declared_as_planned_and_a_second_time_changes_nothing() {
    let world = World::new().await;
    let plan: Value = serde_json::from_str(&world.topology(&["--json"], &[]).1).unwrap();
    let queues = plan["queues"].as_array().unwrap();
    let applied = world.apply(&[]);
    assert_eq!((results(&applied, "created"), results(&applied, "stood")), (queues.len(), 1), "{applied}");
    let standing = world.read("queues", "").await;
    assert_eq!(standing.as_array().unwrap().len(), queues.len());
    for planned in queues {
        let name = planned["name"].as_str().unwrap();
        let stands = world.read("queues", name).await;
        assert_eq!(stands["arguments"], planned["arguments"], "{name}");
        let kind = if name == "leadhook.log" { "stream" } else { "quorum" };
        assert_eq!((&stands["durable"], &stands["type"]), (&json!(true), &json!(kind)), "{name}");
    }
    let bindings = world.read("queues", "leadhook.events/bindings").await;
    let keys: Vec<_> =
        bindings.as_array().unwrap().iter().filter(|binding| binding["source"] == "lead.events").collect();
    assert_eq!((keys.len(), &keys[0]["routing_key"]), (1, &json!("lead.*")), "{bindings}");
    let again = world.apply(&[]);
    assert_eq!(results(&again, "stood"), queues.len() + 1, "{again}");
    assert_eq!(world.read("queues", "").await.as_array().unwrap().len(), queues.len());
}

#[tokio::test]
async fn names_exchange_and_keys_are_settings() {
    let world = World::new().await;
    let settings = [
        ("LEADHOOK__AMQP__PREFIX", "hooks.v2"),
        ("LEADHOOK__AMQP__EXCHANGE", "upstream.leads"),
        ("LEADHOOK__AMQP__ROUTING_KEYS", "lead.a,lead.b.#"),
    ];
    world.apply(&settings);
    let queues = world.read("queues", "").await;
    let names = queues.as_array().unwrap().iter().map(|queue| queue["name"].as_str().unwrap());
    assert!(names.clone().all(|name| name.starts_with("hooks.v2.")), "{:?}", names.collect::<Vec<_>>());
    let exchange = world.read("exchanges", "upstream.leads").await;
    assert_eq!((&exchange["type"], &exchange["durable"]), (&json!("topic"), &json!(true)));
    let bindings = world.read("queues", "hooks.v2.events/bindings").await;
    let bindings = bindings.as_array().unwrap().iter().filter(|binding| binding["source"] == "upstream.leads");
    let mut keys: Vec<_> = bindings.map(|binding| binding["routing_key"].as_str().unwrap()).collect();
    keys.sort_unstable();
    assert_eq!(keys, ["lead.a", "lead.b.#"]);
    world.publish_to("upstream.leads", "lead.b.c.d", b"{}", BasicProperties::default()).await;
    let plan: Value = serde_json::from_str(&world.topology(&["--json"], &settings).1).unwrap();
    assert_eq!((&plan["queues"][0]["name"], &plan["queues"][0]["ready"]), (&json!("hooks.v2.events"), &json!(1)));
}

#[tokio::test]
async fn the_plan_is_printed_with_counts_and_without_a_broker() {
    let world = World::new().await;
    world.apply(&[]);
    world.delete_queue("leadhook.rejected").await;
    for _ in 0..3 {
        world.publish_to("", "leadhook.jobs", b"{}", BasicProperties::default()).await;
    }
    let (exit, text, _) = world.topology(&[], &[]);
    assert_eq!(exit, 0);
    let line = |name: &str| text.lines().find(|line| line.split(' ').next() == Some(name)).unwrap_or_default();
    assert!(line("leadhook.jobs").contains("  3  delivery limit 100, dead-letters to leadhook.failed"), "{text}");
    let delay = line("leadhook.delay.1750");
    assert!(delay.contains("jobs that wait 1.75 s") && delay.contains("ttl 1.75 s"), "{text}");
    assert!(line("leadhook.rejected").contains("  -  "), "the rejected queue was counted: {text}");
    let away = [("LEADHOOK__AMQP__URLS", "amqp://guest:hidden@127.0.0.1:1")];
    let (exit, text, warning) = world.topology(&["plan"], &away);
    assert_eq!(exit, 0);
    assert!(text.contains("  ?  delivery limit 100, dead-letters to leadhook.failed"), "{text}");
    assert!(warning.contains("are not counted") && !warning.contains("hidden"), "{warning}");
    let plan: Value = serde_json::from_str(&world.topology(&["plan", "--json"], &away).1).unwrap();
    assert_eq!((&plan["counted"], &plan["queues"][0]["ready"]), (&json!(false), &Value::Null));
    for command in ["apply", "check"] {
        let (exit, _, error) = world.topology(&[command], &away);
        assert!(exit == 3 && error.contains("amqp.urls") && !error.contains("hidden"), "{exit} {error}");
    }
}

#[tokio::test]
async fn jobs_that_wait_on_a_delay_queue_are_counted() {
    let world = World::new().await;
    let long = [("LEADHOOK__BACKOFF__MAXIMUM", "24h")];
    world.apply(&long);
    let plan = || serde_json::from_str::<Value>(&world.topology(&["--json"], &long).1).unwrap();
    let queues = plan()["queues"].as_array().unwrap().clone();
    let is_delay_queue = |queue: &&Value| queue["name"].as_str().unwrap().contains(".delay.");
    let longest = queues.iter().rfind(is_delay_queue).unwrap()["name"].as_str().unwrap().to_owned();
    for _ in 0..2 {
        world.publish_to("", &longest, b"{}", BasicProperties::default()).await;
    }
    let plan = plan();
    let found = plan["queues"].as_array().unwrap().iter().find(|queue| queue["name"] == longest.as_str()).unwrap();
    assert_eq!((&found["ready"], &plan["waiting_jobs"]), (&json!(2), &json!(2)));
}

#[tokio::test]
async fn a_worker_that_may_not_configure_verifies_and_delivers() {
    let world = World::new().await;
    world.apply(&[]);
    let url = Node::shared().user("verifies", world.vhost(), VERIFIES).await;
    world.delivers(&[("LEADHOOK__AMQP__URLS", &url), ("LEADHOOK__TOPOLOGY__DECLARE", "false")]).await;
    let log = world.refused_worker(&[("LEADHOOK__AMQP__URLS", &url)]).await;
    assert!(log.contains("needs configure on queue leadhook.failed"), "{log}");
    assert!(log.contains("topology.declare = false"), "{log}");
}

#[tokio::test]
async fn all_that_is_missing_is_named_where_the_topology_is_not_ours() {
    let world = World::new().await;
    world.apply(&[]);
    for queue in ["leadhook.failed", "leadhook.delay.1000"] {
        world.delete_queue(queue).await;
    }
    let log = world.refused_worker(&[("LEADHOOK__TOPOLOGY__DECLARE", "false")]).await;
    assert!(log.contains("missing: queue leadhook.failed, queue leadhook.delay.1000. "), "{log}");
    assert!(log.contains("leadhook topology apply"), "{log}");
    world.manage(Method::DELETE, "exchanges", "lead.events", Value::Null).await;
    let log = world.refused_worker(&[("LEADHOOK__TOPOLOGY__DECLARE", "false")]).await;
    assert!(log.contains("queue leadhook.delay.1000, exchange lead.events. "), "{log}");
}

#[tokio::test]
async fn queues_that_stand_with_other_arguments_are_all_explained() {
    let world = World::new().await;
    let jobs = json!({
        "x-queue-type": "quorum", "x-delivery-limit": 20, "x-dead-letter-exchange": "", "x-overflow": "reject-publish",
        "x-dead-letter-routing-key": "leadhook.failed", "x-dead-letter-strategy": "at-least-once",
    });
    world.queue("leadhook.jobs", jobs).await;
    world.queue("leadhook.rejected", json!({})).await;
    let log = world.refused_worker(&[]).await;
    let jobs = "queue leadhook.jobs stands with other arguments: x-delivery-limit is 20 there, must be 100 here";
    assert!(log.contains(jobs), "{log}");
    assert!(log.contains("queue leadhook.rejected stands with other arguments: x-queue-type is "), "{log}");
    assert!(log.contains("must be quorum here"), "{log}");
    assert!(log.contains("delete the queue once it is empty"), "{log}");
    let bindings = world.read("queues", "leadhook.events/bindings").await;
    assert_eq!(bindings.as_array().unwrap().len(), 1, "an unusable topology got a binding: {bindings}");
    let (exit, text, _) = world.topology(&["apply"], &[]);
    assert!(exit == 1 && text.contains(jobs), "{text}");
    let differing = text.lines().filter(|line| line.ends_with(" differs"));
    assert_eq!(differing.count(), 2, "{text}");
}

#[tokio::test]
async fn an_exchange_of_another_type_is_explained() {
    let world = World::new().await;
    world.manage(Method::PUT, "exchanges", "leads.direct", json!({ "type": "direct", "durable": true })).await;
    world.manage(Method::PUT, "exchanges", "leads.brief", json!({ "type": "topic", "durable": false })).await;
    let log = world.refused_worker(&[("LEADHOOK__AMQP__EXCHANGE", "leads.direct")]).await;
    assert!(log.contains("exchange leads.direct stands with other properties: type is direct there"), "{log}");
    assert!(log.contains("belongs to upstream"), "{log}");
    let log = world.refused_worker(&[("LEADHOOK__AMQP__EXCHANGE", "leads.brief")]).await;
    assert!(log.contains("durable is false there, must be true here"), "{log}");
}

#[tokio::test]
async fn an_exchange_that_we_may_not_declare_is_used_as_it_stands() {
    let world = World::new().await;
    // A property that does not matter to Leadhook, and for which the broker would refuse a plain declaration.
    world.manage(Method::DELETE, "exchanges", "lead.events", Value::Null).await;
    let exchange = json!({ "type": "topic", "durable": true, "arguments": { "alternate-exchange": "amq.fanout" } });
    world.manage(Method::PUT, "exchanges", "lead.events", exchange).await;
    world.delivers(&[]).await;
    let url = Node::shared().user("declares", world.vhost(), DECLARES).await;
    world.delivers(&[("LEADHOOK__AMQP__URLS", &url)]).await;
}

#[tokio::test]
async fn permissions_that_are_missing_are_named() {
    let world = World::new().await;
    let all = "^(leadhook\\.|lead\\.events$|amq\\.default$)";
    let refused = async |configure: &str, write: &str, read: &str| {
        let permissions = json!({ "configure": configure, "write": write, "read": read }).to_string();
        let url = Node::shared().user("lacks", world.vhost(), &permissions).await;
        let (exit, text, _) = world.topology(&["apply"], &[("LEADHOOK__AMQP__URLS", &url)]);
        assert_eq!(exit, 1, "{text}");
        text.lines().find(|line| line.starts_with("refused:")).expect("a refusal").to_owned()
    };
    let no_dead_letters = refused(all, "^leadhook\\.", all).await;
    assert!(no_dead_letters.contains("needs write on exchange amq.default (for dead letters)"), "{no_dead_letters}");
    let no_binding = refused(all, "^amq\\.default$", all).await;
    assert!(no_binding.contains("needs write on queue leadhook.events"), "{no_binding}");
    let no_upstream = refused("^leadhook\\.", all, "^leadhook\\.").await;
    assert!(no_upstream.contains(" on exchange lead.events"), "{no_upstream}");
    world.manage(Method::DELETE, "exchanges", "lead.events", Value::Null).await;
    let no_exchange = refused("^leadhook\\.", all, all).await;
    assert!(no_exchange.contains("needs configure on exchange lead.events"), "{no_exchange}");
}

#[tokio::test]
async fn a_check_over_amqp_says_what_it_could_not_see() {
    let world = World::new().await;
    let check = || {
        let (exit, json, _) = world.topology(&["check", "--json"], &[]);
        (exit, serde_json::from_str::<Value>(&json).expect("JSON"))
    };
    let (exit, before) = check();
    let missing = states(&before, "missing");
    assert!(exit == 1 && before["ok"] == false, "{before}");
    assert!(missing.contains(&"leadhook.jobs") && missing.contains(&"lead.events lead.*"), "{before}");
    world.apply(&[]);
    let (exit, after) = check();
    assert_eq!((exit, &after["findings"]), (0, &json!(0)), "{after}");
    assert!(states(&after, "stands").contains(&"leadhook.jobs"), "{after}");
    assert_eq!(states(&after, "unseen"), ["lead.events lead.*"]);
    assert!(states(&after, "ok").is_empty(), "AMQP cannot prove that anything is right: {after}");
    let (_, text, _) = world.topology(&["check"], &[]);
    for word in ["not seen", "arguments", "bindings", "policies", "amqp.management_url"] {
        assert!(text.contains(word), "{word} in {text}");
    }
}

#[tokio::test]
async fn a_check_with_the_management_api_compares_everything() {
    let world = World::new().await;
    world.apply(&[]);
    let check = || {
        let (exit, json, _) = world.topology(&["check", "--json"], &[management()]);
        (exit, serde_json::from_str::<Value>(&json).expect("JSON"))
    };
    let (exit, good) = check();
    assert_eq!((exit, &good["findings"], &good["unseen"]), (0, &json!(0), &json!([])), "{good}");
    assert!(states(&good, "ok").contains(&"lead.events lead.*"), "{good}");

    world.delete_queue("leadhook.failed").await;
    world.queue("leadhook.failed", json!({ "x-queue-type": "quorum", "x-delivery-limit": 20 })).await;
    world.queue("leadhook.delay.9000000", json!({ "x-queue-type": "quorum" })).await;
    world.publish_to("", "leadhook.delay.9000000", b"{}", BasicProperties::default()).await;
    world.manage(Method::PUT, "exchanges", "old.leads", json!({ "type": "topic", "durable": true })).await;
    world.manage(Method::POST, "bindings", "e/old.leads/q/leadhook.events", json!({ "routing_key": "#" })).await;
    let (exit, bad) = check();
    assert_eq!((exit, states(&bad, "differs")), (1, vec!["old.leads #", "leadhook.failed"]), "{bad}");
    assert!(bad.to_string().contains("x-delivery-limit is 20 there, must be 100000 here"), "{bad}");
    assert_eq!(bad["superfluous"], json!([{ "name": "leadhook.delay.9000000", "ready": 1 }]));
    // The count is read from the queue itself, because the statistics of the management API are some seconds old.
    world.publish_to("", "leadhook.delay.9000000", b"{}", BasicProperties::default()).await;
    let (exit, text, _) = world.topology(&["check"], &[management()]);
    assert_eq!(exit, 1);
    assert!(text.contains("unused: queue leadhook.delay.9000000 with 2 jobs"), "{text}");
}

#[tokio::test]
async fn a_foreign_policy_is_a_finding() {
    let world = World::new().await;
    world.apply(&[]);
    let policy = json!({ "pattern": "^leadhook\\.(jobs|failed)$", "definition": { "message-ttl": 60000 }, "apply-to": "queues" });
    world.manage(Method::PUT, "policies", "everything", policy).await;
    // The broker's statistics, which show its policies, lag behind.
    eventually("the policy shows", async || {
        let effective = world.read("queues", "leadhook.failed").await["effective_policy_definition"].take();
        (effective == json!({ "message-ttl": 60000 })).then_some(())
    })
    .await;
    let (exit, text, _) = world.topology(&["check"], &[management()]);
    assert_eq!(exit, 1, "{text}");
    assert!(text.contains("queue leadhook.jobs: policy everything sets message-ttl to 60000"), "{text}");
    assert!(text.contains("2 findings"), "{text}");
    let (exit, text, _) = world.topology(&["check"], &[]);
    assert!(exit == 0 && text.contains("policies"), "the check does not say that AMQP shows no policies: {text}");
}

#[tokio::test]
async fn a_management_api_that_is_of_no_use_is_told_without_credentials() {
    let world = World::new().await;
    let (_, good) = management();
    let wrong = good.replace("guest:guest", "guest:hidden");
    for (url, expected) in [
        (wrong.as_str(), "refused with 401"),
        ("http://guest:hidden@127.0.0.1:1", "cannot be reached"),
        (&good.replace("guest:guest@", ""), "missing in the URL"),
    ] {
        let (exit, _, error) = world.topology(&["check"], &[("LEADHOOK__AMQP__MANAGEMENT_URL", url)]);
        assert!(exit == 3 && error.contains(expected), "{exit} {error}");
        assert!(error.contains("amqp.management_url") && !error.contains("hidden"), "{error}");
    }
}
