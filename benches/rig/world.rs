//! One run: its own queues, a store, receivers, and the programs that deliver.

use std::{
    collections::HashSet,
    net::{SocketAddr, TcpListener},
    path::PathBuf,
    process::{Command, Stdio},
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use anyhow::{Context, ensure};
use lapin::{
    Connection, ConnectionProperties,
    options::{QueueDeclareOptions, QueueDeleteOptions},
    types::FieldTable,
};
use leadhook::{
    broker::topology::{self, Plan},
    delivery::ladder::Ladder,
    settings::{self, Settings},
};

use super::{Broker, Process, Usage, process, upstream::Upstream};
use crate::receiver::{self, Group, Report};

/// One organization's webhook: the first part of its path at the receivers, and more store keys.
#[derive(Clone, Copy, Debug)]
pub struct Target(pub &'static str, pub &'static str);

/// Answers 200 at once.
pub const OK: Target = Target("ok", "");

/// The program that delivers.
#[derive(Clone, Copy, Debug)]
pub enum Who {
    /// The worker.
    Worker,
    /// The ceiling with two hops, and arguments that change its layout.
    TwoHops(&'static [&'static str]),
    /// The ceiling with one hop, and arguments that change its layout.
    OneHop(&'static [&'static str]),
}

/// The queues, store and receivers of one run.
pub struct World<'b> {
    broker: &'b Broker,
    settings: Settings,
    connection: Connection,
    receiver: Process,
    receiver_address: SocketAddr,
    questions: SocketAddr,
    directory: tempfile::TempDir,
    environment: Vec<(String, String)>,
}

/// The cost of each side.
#[derive(Clone, Copy, Debug, Default)]
pub struct Costs {
    /// The workers, or the ceiling.
    pub worker: Usage,
    /// The broker.
    pub broker: Usage,
    /// The receivers.
    pub receiver: Usage,
}

impl<'b> World<'b> {
    /// Declares the queues as the worker does, and starts receivers. `environment` holds settings of the worker.
    pub async fn new(broker: &'b Broker, environment: &[(&str, &str)]) -> anyhow::Result<World<'b>> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let prefix = format!("run{}", NEXT.fetch_add(1, Ordering::Relaxed));
        let directory = tempfile::tempdir()?;
        let mut variables: Vec<(String, String)> = [
            ("LEADHOOK__AMQP__URLS", broker.url.as_str()),
            ("LEADHOOK__AMQP__PREFIX", &prefix),
            ("LEADHOOK__AMQP__EXCHANGE", &format!("{prefix}.lead")),
            ("LEADHOOK__EGRESS__ALLOW", "127.0.0.0/8"),
            ("LEADHOOK__EGRESS__PLAIN_HTTP", "true"),
            ("LEADHOOK__LOG__LEVEL", "warn"),
        ]
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .into();
        variables.extend(environment.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())));
        let settings =
            settings::load(None, None, variables.iter().cloned()).map_err(|error| anyhow::anyhow!("{error}"))?;
        let connection = Connection::connect(&broker.url, ConnectionProperties::default()).await?;
        topology::declare(&connection, &plan(&settings)).await?;
        let mut command = Command::new(std::env::current_exe()?);
        let mut receiver = Process::spawn(command.arg("receiver").stdout(Stdio::piped()))?;
        let line = receiver.first_line()?;
        let (targets, questions) = line.split_once(' ').context("the receiver said nothing")?;
        let (receiver_address, questions) = (targets.parse()?, questions.parse()?);
        Ok(World {
            broker,
            settings,
            connection,
            receiver,
            receiver_address,
            questions,
            directory,
            environment: variables,
        })
    }

    /// Creates an upstream on its own channel.
    pub async fn upstream(&self) -> anyhow::Result<Upstream> {
        Upstream::new(&self.connection, &self.settings.amqp.exchange).await
    }

    /// Writes a store with one organization and one campaign (`c0`, `c1`, ...) for each target.
    pub fn write_store(&self, targets: &[Target]) -> anyhow::Result<()> {
        Ok(std::fs::write(self.store_path(), store(targets, self.receiver_address))?)
    }

    /// Starts the program that delivers. A ceiling sends everything to the receivers that answer at once.
    pub fn start(&self, who: Who) -> anyhow::Result<Process> {
        let (hops, layout) = match who {
            Who::Worker => return self.worker(),
            Who::TwoHops(layout) => (None, layout),
            Who::OneHop(layout) => (Some("--one-hop"), layout),
        };
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["ceiling", "--amqp", &self.broker.url, "--prefix", &self.settings.amqp.prefix, "--target"]);
        command.arg(format!("http://{}/ok", self.receiver_address)).args(hops).args(layout);
        Process::spawn(command.stdout(Stdio::null()))
    }

    /// Starts a worker process.
    pub fn worker(&self) -> anyhow::Result<Process> {
        // Binds a port and releases it, because a port that the worker chose itself would be unknown here.
        let admin = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
        let mut command = Command::new(std::env::current_exe()?.with_file_name("leadhook"));
        command.envs(self.environment.iter().cloned()).env("LEADHOOK__ADMIN__LISTEN", admin.to_string());
        command.arg("run").arg("--store").arg(self.store_path());
        Ok(Process::spawn(command.stdout(Stdio::null()))?.with_admin(admin))
    }

    /// Counts messages that are ready on one of its queues, such as `events`.
    pub async fn ready(&self, queue: &str) -> anyhow::Result<u64> {
        let channel = self.connection.create_channel().await?;
        let passive = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
        let name = format!("{}.{queue}", self.settings.amqp.prefix);
        let declared = channel.queue_declare(name.into(), passive, FieldTable::default()).await?;
        channel.close(200, "counted".into()).await?;
        Ok(declared.message_count().into())
    }

    /// Waits until fewer than `below` messages are ready on a queue.
    pub async fn drained(&self, queue: &str, below: u64) -> anyhow::Result<()> {
        while self.ready(queue).await? >= below {
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        Ok(())
    }

    /// Sums a metric over the workers. `None` if no worker has it.
    pub async fn metric(&self, workers: &[Process], name: &str) -> anyhow::Result<Option<f64>> {
        let mut sum = None;
        for admin in workers.iter().filter_map(Process::admin) {
            let text = receiver::ask(admin, "/metrics").await?;
            let of_it =
                text.lines().filter(|line| line.strip_prefix(name).is_some_and(|rest| rest.starts_with(['{', ' '])));
            for value in of_it.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()) {
                *sum.get_or_insert(0.0) += value;
            }
        }
        Ok(sum)
    }

    /// Returns the counts of a group of receivers, for events that were sent since the last reset.
    pub async fn group(&self, name: &str) -> anyhow::Result<Group> {
        let mut report: Report = serde_json::from_str(&receiver::ask(self.questions, "/report").await?)?;
        Ok(report.remove(name).unwrap_or_default())
    }

    /// Returns the send times of all events that have been delivered.
    pub async fn delivered(&self) -> anyhow::Result<HashSet<u64>> {
        Ok(serde_json::from_str(&receiver::ask(self.questions, "/delivered").await?)?)
    }

    /// Tells the receivers to `/reset` or to `/switch/<behaviour>`.
    pub async fn tell(&self, path: &str) -> anyhow::Result<()> {
        let answer = receiver::ask(self.questions, path).await?;
        ensure!(answer == "ok", "{path}: {answer}");
        Ok(())
    }

    /// Waits until a group of receivers has received `count` distinct events that were sent since the last reset.
    pub async fn received(&self, name: &str, count: u64, workers: &mut [Process]) -> anyhow::Result<Group> {
        loop {
            let group = self.group(name).await?;
            if group.distinct >= count {
                return Ok(group);
            }
            ensure!(!workers.iter_mut().any(Process::has_ended), "a worker has ended");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// Returns the cost of each side so far.
    pub fn costs(&self, workers: &[Process]) -> Costs {
        let add = |sum: Usage, one: Usage| Usage { cpu: sum.cpu + one.cpu, peak: sum.peak.max(one.peak) };
        Costs {
            worker: workers.iter().map(Process::usage).fold(Usage::default(), add),
            broker: process::usage(self.broker.pid),
            receiver: self.receiver.usage(),
        }
    }

    /// Deletes its queues. The workers must have ended.
    pub async fn end(self) -> anyhow::Result<()> {
        let channel = self.connection.create_channel().await?;
        for queue in plan(&self.settings).queues().iter().rev() {
            channel.queue_delete(queue.name.as_str().into(), QueueDeleteOptions::default()).await?;
        }
        let log = plan(&self.settings).names().log.clone();
        channel.queue_delete(log, QueueDeleteOptions::default()).await?;
        self.connection.close(200, "the run is over".into()).await?;
        Ok(())
    }

    fn store_path(&self) -> PathBuf {
        self.directory.path().join("store.yaml")
    }
}

impl Costs {
    /// Returns the usage since an earlier reading. Peaks stay absolute.
    pub fn since(self, before: Costs) -> Costs {
        let added = |now: Usage, before: Usage| Usage { cpu: now.cpu - before.cpu, peak: now.peak };
        Costs {
            worker: added(self.worker, before.worker),
            broker: added(self.broker, before.broker),
            receiver: added(self.receiver, before.receiver),
        }
    }
}

fn plan(settings: &Settings) -> Plan {
    Plan::new(&settings.amqp, &Ladder::for_backoff(&settings.backoff))
}

fn store(targets: &[Target], receiver: SocketAddr) -> String {
    let webhook = |(n, Target(does, more)): (usize, &Target)| {
        let url = format!("http://{receiver}/{does}/c{n}");
        format!("  o{n}:\n    webhook: {{ url: \"{url}\", events: \"*\"{more} }}\n    campaigns: {{ c{n}: {{}} }}\n")
    };
    "organizations:\n".to_owned() + &targets.iter().enumerate().map(webhook).collect::<String>()
}
