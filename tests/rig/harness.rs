//! A world for each test: a vhost on a broker, a store, receivers, workers as real processes, and queries of the
//! queues.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::atomic::{AtomicU32, Ordering},
    time::{Duration, Instant},
};

use lapin::{
    BasicProperties, Channel, Confirmation, Connection, ConnectionProperties, ExchangeKind,
    options::{
        BasicAckOptions, BasicGetOptions, BasicPublishOptions, BasicRejectOptions, ConfirmSelectOptions,
        ExchangeDeclareOptions, QueueDeclareOptions, QueueDeleteOptions,
    },
    types::FieldTable,
};
use leadhook::{
    broker::connection,
    delivery::ladder::Ladder,
    receiver::{Options, Receiver},
};

pub use super::message::Message;
use super::node::{Node, Vhost};
pub use super::worker::Worker;

/// Limit of the wait for any state. It is far above the usual time, so that a slow machine does not fail a test.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// Waits for a state: calls `ask` every 20 ms until it returns a value.
pub async fn eventually<T>(what: &str, ask: impl AsyncFnMut() -> Option<T>) -> T {
    asked_every(Duration::from_millis(20), what, ask).await
}

/// The same with another pause, for a question that is expensive.
pub async fn asked_every<T>(pause: Duration, what: &str, ask: impl AsyncFnMut() -> Option<T>) -> T {
    asked_within(PATIENCE, pause, what, ask).await
}

/// The same with another limit, for a state that may take longer.
pub async fn asked_within<T>(
    most: Duration,
    pause: Duration,
    what: &str,
    mut ask: impl AsyncFnMut() -> Option<T>,
) -> T {
    let begun = Instant::now();
    let mut tick = tokio::time::interval(pause);
    loop {
        tick.tick().await;
        if let Some(answer) = ask().await {
            return answer;
        }
        assert!(begun.elapsed() < most, "did not happen within {most:?}: {what}");
    }
}

/// A vhost, a store, and everything that a test starts in it.
pub struct World {
    /// AMQP URL of the vhost.
    pub url: String,
    /// The directory of the store and the logs.
    pub directory: tempfile::TempDir,
    connection: Connection,
    /// The connection of [`World::waiting`].
    looking: tokio::sync::Mutex<Option<Connection>>,
    /// Deleted with the world.
    _vhost: Vhost,
}

impl World {
    /// Creates a world on the shared broker.
    pub async fn new() -> World {
        World::on(Node::shared()).await
    }

    /// Creates a world on this broker.
    pub async fn on(node: &Node) -> World {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let vhost = node.vhost(&format!("test-{}", NEXT.fetch_add(1, Ordering::Relaxed))).await;
        let url = vhost.url.clone();
        let connection = connect(&url).await;
        let channel = connection.create_channel().await.expect("a channel");
        let options = ExchangeDeclareOptions { durable: true, ..ExchangeDeclareOptions::default() };
        let declared =
            channel.exchange_declare("lead.events".into(), ExchangeKind::Topic, options, FieldTable::default());
        declared.await.expect("the exchange of upstream");
        let directory = tempfile::tempdir().expect("a temporary directory");
        World { url, directory, connection, looking: Default::default(), _vhost: vhost }
    }

    /// Connects again after an outage of the broker.
    pub async fn reconnect(&mut self) {
        self.connection = connect(&self.url).await;
    }

    /// Returns the name of the vhost.
    pub fn vhost(&self) -> &str {
        self.url.rsplit('/').next().unwrap_or_default()
    }

    /// Opens a channel on upstream's connection.
    pub async fn channel(&self) -> Channel {
        connection::channel(&self.connection).await.expect("a channel")
    }

    /// Returns the path of the store.
    pub fn store_path(&self) -> PathBuf {
        self.directory.path().join("store.yaml")
    }

    /// Writes the store.
    pub fn store(&self, yaml: &str) {
        std::fs::write(self.store_path(), yaml).expect("the store");
    }

    /// Writes a store with one organization `acme` that sends every event to `url`, with extra lines for its webhook.
    pub fn simple_store(&self, url: &str, more: &str) {
        let more: String = more.lines().map(|line| format!("      {line}\n")).collect();
        self.store(&format!(
            "default_organization: acme\norganizations:\n  acme:\n    webhook:\n      url: {url}\n      events: \"*\"\n{more}"
        ));
    }

    /// Starts a worker with short waits, and waits until it is ready. `environment` takes precedence over the defaults.
    pub async fn worker(&self, environment: &[(&str, &str)]) -> Worker {
        let worker = self.start_worker(environment);
        worker.ready().await;
        worker
    }

    /// Starts the same worker without waiting for it.
    pub fn start_worker(&self, environment: &[(&str, &str)]) -> Worker {
        Worker::spawn(self.run(environment), self.next_log())
    }

    /// Starts a worker with a limit of open files. `limit` is `-Sn` for the soft limit or `-n` for both.
    pub async fn worker_with_files(&self, limit: &str, files: u32, environment: &[(&str, &str)]) -> Worker {
        let run = self.run(environment);
        let mut command = Command::new("bash");
        command.arg("-c").arg(format!("ulimit {limit} {files}; exec \"$0\" \"$@\""));
        command.arg(run.get_program()).args(run.get_args());
        command.envs(run.get_envs().filter_map(|(name, value)| Some((name, value?))));
        let worker = Worker::spawn(command, self.next_log());
        worker.ready().await;
        worker
    }

    fn run(&self, environment: &[(&str, &str)]) -> Command {
        let mut command = leadhook(&self.url);
        command.arg("run").arg("--store").arg(self.store_path());
        command.envs(environment.iter().copied());
        command
    }

    fn next_log(&self) -> std::path::PathBuf {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        self.directory.path().join(format!("worker-{}.log", NEXT.fetch_add(1, Ordering::Relaxed)))
    }

    /// Returns a command that runs the binary in this world.
    pub fn command(&self) -> Command {
        let mut command = leadhook(&self.url);
        command.env("LEADHOOK__STORE__PATH", self.store_path());
        command
    }

    /// Publishes as upstream does, persistent and confirmed.
    pub async fn publish(&self, body: &[u8]) {
        self.publish_with(body, BasicProperties::default()).await;
    }

    /// Publishes likewise, with properties.
    pub async fn publish_with(&self, body: &[u8], properties: BasicProperties) {
        self.publish_to("lead.events", "lead.test", body, properties).await;
    }

    /// Publishes to any exchange.
    pub async fn publish_to(&self, exchange: &str, key: &str, body: &[u8], properties: BasicProperties) {
        let channel = self.confirming().await;
        publish_on(&channel, exchange, key, body, properties).await;
    }

    /// Publishes many events without waiting for each confirm.
    pub async fn publish_many(&self, bodies: impl IntoIterator<Item = String>) {
        let channel = self.confirming().await;
        let bodies: Vec<_> = bodies.into_iter().collect();
        let publishing = bodies
            .iter()
            .map(|body| publish_on(&channel, "lead.events", "lead.test", body.as_bytes(), BasicProperties::default()));
        futures::future::join_all(publishing).await;
    }

    async fn confirming(&self) -> Channel {
        let channel = connection::channel(&self.connection).await.expect("a channel");
        channel.confirm_select(ConfirmSelectOptions::default()).await.expect("confirms");
        channel
    }

    /// Counts the ready messages on one of our queues (`events`, `jobs`, `failed` ...).
    pub async fn ready(&self, queue: &str) -> u32 {
        let channel = connection::channel(&self.connection).await.expect("a channel");
        let passive = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
        let counted = channel.queue_declare(format!("leadhook.{queue}").into(), passive, FieldTable::default());
        counted.await.expect("the queue").message_count()
    }

    /// Counts the ready messages on all queues that a worker empties. `None` without an answer.
    ///
    /// It uses its own connection until a queue is missing. Each such question uses up a channel number for good (see
    /// [`connection::channel`]), and a waiting test asks often.
    pub async fn waiting(&self) -> Option<u32> {
        let passive = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
        let mut kept = self.looking.lock().await;
        let connection = match kept.take() {
            Some(connection) if connection.status().connected() => connection,
            _ => Connection::connect(&self.url, ConnectionProperties::default()).await.ok()?,
        };
        let (mut sum, mut missing) = (0, false);
        let mut channel = connection.create_channel().await.ok()?;
        for queue in working_queues() {
            match channel.queue_declare(format!("leadhook.{queue}").into(), passive, FieldTable::default()).await {
                Ok(queue) => sum += queue.message_count(),
                // The queue is missing, and the question has closed the channel.
                Err(_) => {
                    missing = true;
                    channel = connection.create_channel().await.ok()?;
                }
            }
        }
        let _ = match missing {
            true => connection.close(200, "counted".into()).await,
            false => channel.close(200, "counted".into()).await,
        };
        *kept = Some(connection).filter(|_| !missing);
        Some(sum)
    }

    /// Deletes one of our queues.
    pub async fn delete(&self, queue: &str) {
        let channel = connection::channel(&self.connection).await.expect("a channel");
        let name = format!("leadhook.{queue}");
        channel.queue_delete(name.into(), QueueDeleteOptions::default()).await.expect("the queue is deleted");
    }

    /// Takes the message at the head of a queue and rejects it, `times` times, to raise its delivery count. From 4.3 on
    /// a nack does not count.
    pub async fn redeliver(&self, queue: &str, times: u32) {
        let channel = self.channel().await;
        for _ in 0..times {
            let got = eventually("the message", async || {
                let name = format!("leadhook.{queue}");
                channel.basic_get(name.into(), BasicGetOptions::default()).await.expect("get")
            })
            .await;
            got.delivery.acker.reject(BasicRejectOptions { requeue: true }).await.expect("reject");
        }
    }

    /// Takes all messages from a queue; none if the queue does not exist.
    pub async fn take_all(&self, queue: &str) -> Vec<Message> {
        let channel = connection::channel(&self.connection).await.expect("a channel");
        let mut taken = Vec::new();
        let name = format!("leadhook.{queue}");
        while let Ok(Some(got)) = channel.basic_get(name.as_str().into(), BasicGetOptions::default()).await {
            got.delivery.acker.ack(BasicAckOptions::default()).await.expect("ack");
            taken.push(Message { properties: got.delivery.properties, body: got.delivery.data });
        }
        taken
    }

    /// The same for a queue that may be missing for a while. A queue is visible before its process runs, and a
    /// `basic.get` in that moment ends the connection (3.10). So this counts its messages first.
    pub async fn take_when_there(&self, queue: &str, count: usize) -> Vec<Message> {
        eventually(&format!("queue {queue}"), async || {
            let channel = connection::channel(&self.connection).await.expect("a channel");
            let passive = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
            let counted = channel.queue_declare(format!("leadhook.{queue}").into(), passive, FieldTable::default());
            (counted.await.ok()?.message_count() as usize >= count).then_some(())
        })
        .await;
        self.take(queue, count).await
    }

    /// Waits until a queue holds `count` messages, and takes them.
    pub async fn take(&self, queue: &str, count: usize) -> Vec<Message> {
        let channel = connection::channel(&self.connection).await.expect("a channel");
        let mut taken = Vec::new();
        eventually(&format!("{count} messages on {queue}"), async || {
            let name = format!("leadhook.{queue}");
            while let Some(got) =
                channel.basic_get(name.as_str().into(), BasicGetOptions::default()).await.expect("get")
            {
                got.delivery.acker.ack(BasicAckOptions::default()).await.expect("ack");
                taken.push(Message { properties: got.delivery.properties, body: got.delivery.data });
            }
            (taken.len() >= count).then_some(())
        })
        .await;
        assert_eq!(taken.len(), count, "messages on {queue}");
        taken
    }
}

/// Removes the store and the logs with the world, unless `LEADHOOK_KEEP_LOGS` names a directory for them.
impl Drop for World {
    fn drop(&mut self) {
        if let Some(keep) = std::env::var_os("LEADHOOK_KEEP_LOGS") {
            let _ = Command::new("cp").arg("-r").arg(self.directory.path()).arg(keep).status();
        }
    }
}

/// Returns the queues that a worker empties: events, jobs, and the delay queues of a short backoff.
fn working_queues() -> Vec<String> {
    let settings = leadhook::settings::Backoff {
        initial: Duration::from_millis(100),
        multiplier: 2.0,
        maximum: Duration::from_secs(2),
        jitter: 0.2,
        retry_after_maximum: Duration::from_secs(1),
    };
    let ladder = Ladder::for_backoff(&settings);
    let delays = ladder.delays().iter().map(|delay| format!("delay.{}", delay.as_millis()));
    ["events".to_owned(), "jobs".to_owned()].into_iter().chain(delays).collect()
}

async fn connect(url: &str) -> Connection {
    eventually("a connection to the broker", async || {
        Connection::connect(url, ConnectionProperties::default()).await.ok()
    })
    .await
}

async fn publish_on(channel: &Channel, exchange: &str, key: &str, body: &[u8], properties: BasicProperties) {
    let options = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
    let properties = properties.with_delivery_mode(2);
    let published =
        channel.basic_publish(exchange.into(), key.into(), options, body, properties).await.expect("publish");
    assert!(matches!(published.await.expect("a confirm"), Confirmation::Ack(None)), "not confirmed");
}

/// Runs the binary with this broker, short waits, and none of our environment's settings. `LEADHOOK_BIN` replaces
/// cargo's binary, for example by a release build, which has no fail points.
pub fn leadhook(url: &str) -> Command {
    let binary = std::env::var_os("LEADHOOK_BIN").unwrap_or_else(|| env!("CARGO_BIN_EXE_leadhook").into());
    let mut command = Command::new(binary);
    command.stdin(Stdio::null()).current_dir(Path::new(env!("CARGO_MANIFEST_DIR")));
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("LEADHOOK")) {
        command.env_remove(name);
    }
    command.envs([
        ("LEADHOOK__AMQP__URLS", url),
        ("LEADHOOK__BACKOFF__INITIAL", "200ms"),
        ("LEADHOOK__BACKOFF__MAXIMUM", "2s"),
        ("LEADHOOK__ADMIN__LISTEN", "127.0.0.1:0"),
        // The receivers of tests are on this machine.
        ("LEADHOOK__EGRESS__ALLOW", "127.0.0.0/8,::1"),
        ("LEADHOOK__EGRESS__PLAIN_HTTP", "true"),
        ("LEADHOOK__LOG__LEVEL", "info,leadhook=debug"),
    ]);
    command
}

/// Starts a receiver that answers by script.
pub async fn receiver(script: &str) -> Receiver {
    receiver_with(Options { script: script.parse().expect("a script"), ..Options::default() }).await
}

/// Starts a receiver with options.
pub async fn receiver_with(options: Options) -> Receiver {
    Receiver::start(options).await.expect("a receiver")
}

/// Builds an event of a campaign; `n` makes it unique.
pub fn event(campaign: &str, n: u32) -> String {
    format!(
        r#"{{"event":"lead.delivered","leadId":"lead_{n}","submissionId":"sub_{n}","campaignId":"{campaign}","status":"delivered","timestamp":"2024-06-15T10:30:00Z","data":{{"firstName":"John","email":"john@example.com"}}}}"#
    )
}

/// Counts requests by webhook-id.
pub fn counts(received: &[std::sync::Arc<leadhook::receiver::Received>]) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for one in received {
        *counts.entry(one.webhook_id().unwrap_or_default().to_owned()).or_default() += 1;
    }
    counts
}
