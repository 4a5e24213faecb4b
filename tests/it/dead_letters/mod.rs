//! The commands for failed and rejected messages on a real broker: looking changes nothing, replaying loses nothing.

mod looking;
mod refusing;
mod rejected;
mod replaying;
mod resolve_again;
mod taking;

use std::{collections::BTreeSet, process::Stdio, time::Duration};

use bytes::Bytes;
use jiff::Timestamp;
use lapin::{
    BasicProperties, Channel, Confirmation, Connection, ConnectionProperties,
    options::{BasicGetOptions, BasicPublishOptions, ConfirmSelectOptions},
};
use leadhook::{
    broker::{publisher::Outgoing, topology},
    delivery::{ladder::Ladder, reason::FailReason},
    event::{Event, EventKind},
    job::{Envelope, Job},
    settings,
    store::TargetKey,
};
use serde_json::Value;

use crate::harness::{World, event};

/// The output and exit code of a command.
struct Said {
    code: Option<i32>,
    out: String,
    err: String,
}

impl Said {
    fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}: {} {}", self.out, self.err))
    }

    /// Returns the ids of a list.
    fn ids(&self) -> Vec<String> {
        assert_eq!(self.code, Some(0), "{} {}", self.out, self.err);
        let list = self.json();
        list["jobs"].as_array().unwrap().iter().map(|job| job["id"].as_str().unwrap().to_owned()).collect()
    }
}

/// Runs `leadhook failed ...`.
async fn failed(world: &World, arguments: &[&str]) -> Said {
    failed_as(world, &world.url, arguments).await
}

/// Runs it with another AMQP URL.
async fn failed_as(world: &World, url: &str, arguments: &[&str]) -> Said {
    let mut command = world.command();
    command
        .arg("failed")
        .args(arguments)
        .env("LEADHOOK__AMQP__URLS", url)
        .env("LEADHOOK__DELIVERY_LOG__ENABLED", "true")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let output = tokio::task::spawn_blocking(move || command.output().expect("leadhook")).await.unwrap();
    let text = |bytes| String::from_utf8(bytes).expect("UTF-8");
    Said { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) }
}

/// Creates a world with our queues and no worker.
pub async fn quiet_world() -> World {
    let world = World::new().await;
    world.simple_store("http://127.0.0.1:9", "");
    let url = ("LEADHOOK__AMQP__URLS".to_owned(), world.url.clone());
    let settings = settings::load(None, None, [url].into_iter()).expect("settings");
    let plan = topology::Plan::new(&settings.amqp, &Ladder::for_backoff(&settings.backoff));
    let connection = connect(&world).await;
    topology::declare(&connection, &plan).await.expect("the topology");
    let log = plan.log(topology::Retention { age: Duration::from_secs(3600), bytes: 10 << 20 });
    topology::stream(connection.create_channel().await.unwrap(), &plan, &log, true).await.expect("the delivery log");
    world
}

async fn connect(world: &World) -> Connection {
    Connection::connect(&world.url, ConnectionProperties::default()).await.expect("a connection")
}

/// Returns the job of event `n`.
pub fn job(n: u32) -> Job {
    let body = event("ABC", n);
    let read = Event {
        kind: EventKind::Delivered,
        campaign: "ABC".into(),
        organization: None,
        lead: format!("lead_{n}"),
        submission: format!("sub_{n}"),
        timestamp: "2024-06-15T10:30:00Z".into(),
        time: "2024-06-15T10:30:00Z".parse().ok(),
    };
    let target = TargetKey::new("acme", None, None);
    Job::new(&read, "acme", &target, &Envelope::default(), Bytes::from(body), Timestamp::now())
}

/// Publishes jobs to the failed queue in this order, waits for the confirms, and returns their ids.
pub async fn fail(world: &World, jobs: impl IntoIterator<Item = Job>) -> Vec<String> {
    let jobs: Vec<_> = jobs.into_iter().collect();
    let queue = "leadhook.failed".into();
    let message = |job: &Job| job.to_failed(&queue, FailReason::Exhausted, "all attempts made", Timestamp::now());
    publish(world, jobs.iter().map(message)).await;
    jobs.into_iter().map(|job| job.webhook_id).collect()
}

async fn publish(world: &World, messages: impl IntoIterator<Item = Outgoing>) {
    let channel = connect(world).await.create_channel().await.unwrap();
    channel.confirm_select(ConfirmSelectOptions::default()).await.unwrap();
    let options = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
    let mut confirms = Vec::new();
    for message in messages {
        let publishing =
            channel.basic_publish(message.exchange, message.routing_key, options, &message.body, message.properties);
        confirms.push(publishing.await.unwrap());
    }
    for confirm in confirms {
        assert!(matches!(confirm.await.unwrap(), Confirmation::Ack(None)));
    }
}

/// Puts a message that is not a job on the failed queue.
pub async fn litter(world: &World, message_id: &str) {
    let properties = BasicProperties::default().with_message_id(message_id.into()).with_type("theirs".into());
    world.publish_to("", "leadhook.failed", b"\x00\xffgarbage", properties).await;
}

/// Opens a connection and a channel for raw AMQP.
pub async fn raw(world: &World) -> (Connection, Channel) {
    let connection = connect(world).await;
    let channel = connection.create_channel().await.unwrap();
    (connection, channel)
}

/// Takes one message without acking it.
async fn get(channel: &Channel, queue: &str) -> lapin::message::BasicGetMessage {
    channel.basic_get(queue.into(), BasicGetOptions::default()).await.unwrap().expect("a message")
}

/// Empties a queue; returns the message ids in its order.
pub async fn drain(world: &World, queue: &str) -> Vec<String> {
    let count = world.ready(queue).await as usize;
    let taken = world.take(queue, count).await;
    taken
        .iter()
        .map(|message| message.properties.message_id().as_ref().map_or_else(|| "-".to_owned(), ToString::to_string))
        .collect()
}

fn set(ids: &[String]) -> BTreeSet<&str> {
    ids.iter().map(String::as_str).collect()
}
