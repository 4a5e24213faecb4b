//! One run: queues of its own, a store, receivers, and whoever works.

use std::{
    net::SocketAddr,
    path::PathBuf,
    process::{Command, Stdio},
    sync::atomic::{AtomicU32, Ordering},
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};
use lapin::{
    Connection, ConnectionProperties, options::QueueDeleteOptions
};
use leadhook::{
    broker::topology::{self, Names, Plan},
    delivery::ladder::Ladder,
    settings::{self, Settings},
};

use super::{Broker, Process, Usage, process, upstream::Upstream};
use crate::receiver::{self, Report};

/// Longest wait for a run to come to its end.
const PATIENCE: Duration = Duration::from_secs(900);

/// Where one organization's webhook goes: the first part of the path at the receivers, or another URL altogether.
#[derive(Clone, Debug)]
pub enum Target {
    /// What the receiver does.
    Does(String),
    /// A URL at which nobody listens.
    Refuses,
}

/// See the module's words.
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

/// What everybody has cost.
#[derive(Clone, Copy, Debug, Default)]
pub struct Costs {
    /// Whoever worked.
    pub worker: Usage,
    /// The broker.
    pub broker: Usage,
    /// The receivers.
    pub receiver: Usage,
}

impl<'b> World<'b> {
    /// Queues, declared as the worker does, and receivers. `environment` are settings of the worker.
    pub async fn new(broker: &'b Broker, environment: &[(&str, &str)]) -> anyhow::Result<World<'b>> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let prefix = format!("run{}", NEXT.fetch_add(1, Ordering::Relaxed));
        let directory = tempfile::tempdir()?;
        let mut variables: Vec<(String, String)> = [
            ("LEADHOOK__AMQP__URLS", broker.url.as_str()),
            ("LEADHOOK__AMQP__PREFIX", &prefix),
            ("LEADHOOK__AMQP__EXCHANGE", &format!("{prefix}.lead")),
            ("LEADHOOK__ADMIN__LISTEN", "127.0.0.1:0"),
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

    /// An upstream on a channel of its own.
    pub async fn upstream(&self) -> anyhow::Result<Upstream> {
        Upstream::new(&self.connection, &self.settings.amqp.exchange).await
    }

    /// Writes a store with one organization and one campaign (`c0`, `c1`, ...) for each target.
    pub fn write_store(&self, targets: &[Target], more: &str) -> anyhow::Result<()> {
        Ok(std::fs::write(self.store_path(), store(targets, self.receiver_address, more))?)
    }

    /// Starts a worker, the program itself.
    pub fn worker(&self) -> anyhow::Result<Process> {
        let program = std::env::current_exe()?.with_file_name("leadhook");
        let mut command = Command::new(program);
        command.envs(self.environment.iter().cloned()).arg("run").arg("--store").arg(self.store_path());
        Process::spawn(command.stdout(Stdio::null()))
    }

    /// Starts the ceiling. All its jobs go to the receivers that answer at once.
    pub fn ceiling(&self, layout: &[&str]) -> anyhow::Result<Process> {
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["ceiling", "--amqp", &self.broker.url, "--prefix", &self.settings.amqp.prefix, "--target"]);
        command.arg(format!("http://{}/ok", self.receiver_address)).args(layout);
        Process::spawn(command.stdout(Stdio::null()))
    }

    /// The names of its queues.
    pub fn names(&self) -> Names {
        plan(&self.settings).names().clone()
    }

    /// What the receivers have seen since the last reset.
    pub async fn report(&self) -> anyhow::Result<Report> {
        Ok(serde_json::from_str(&receiver::ask(self.questions, "/report").await?)?)
    }

    /// One of the receivers' other questions.
    pub async fn ask(&self, path: &str) -> anyhow::Result<()> {
        let answer = receiver::ask(self.questions, path).await?;
        ensure!(answer == "ok", "{path}: {answer}");
        Ok(())
    }

    /// Waits until so many different webhooks (or requests, of the ceiling) have come to a group of receivers.
    pub async fn received(&self, group: &str, count: u64, workers: &mut [Process]) -> anyhow::Result<Report> {
        let begun = Instant::now();
        loop {
            let report = self.report().await?;
            let seen =
                report.get(group).map_or(0, |seen| if seen.distinct > 0 { seen.distinct } else { seen.requests });
            if seen >= count {
                return Ok(report);
            }
            ensure!(begun.elapsed() < PATIENCE, "{seen} of {count} have come to {group} after {PATIENCE:?}");
            ensure!(!workers.iter_mut().any(Process::has_ended), "a worker has ended");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// What everybody has cost so far.
    pub fn costs(&self, workers: &[Process]) -> Costs {
        let add = |sum: Usage, one: Usage| Usage { cpu: sum.cpu + one.cpu, peak: sum.peak.max(one.peak) };
        Costs {
            worker: workers.iter().map(Process::usage).fold(Usage::default(), add),
            broker: process::usage(self.broker.pid),
            receiver: self.receiver.usage(),
        }
    }

    /// Removes its queues. Those who work must have ended.
    pub async fn end(self) -> anyhow::Result<()> {
        let channel = self.connection.create_channel().await?;
        for queue in plan(&self.settings).queues().iter().rev() {
            channel.queue_delete(queue.name.as_str().into(), QueueDeleteOptions::default()).await?;
        }
        channel.queue_delete(self.names().log.clone(), QueueDeleteOptions::default()).await?;
        self.connection.close(200, "the run is over".into()).await?;
        Ok(())
    }

    fn store_path(&self) -> PathBuf {
        self.directory.path().join("store.yaml")
    }
}

impl Costs {
    /// What was added since an earlier look; peaks as they are.
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

/// The text of a store with one organization and one campaign for each target; `more` are further keys of each webhook.
fn store(targets: &[Target], receiver: SocketAddr, more: &str) -> String {
    let mut text = "organizations:\n".to_owned();
    for (n, target) in targets.iter().enumerate() {
        let url = match target {
            Target::Does(what) => format!("http://{receiver}/{what}/c{n}"),
            // The discard port: nobody listens there, and binding it takes privileges.
            Target::Refuses => format!("http://127.0.0.1:9/c{n}"),
        };
        text.push_str(&format!(
            "  o{n}:\n    webhook: {{ url: \"{url}\", events: \"*\"{more} }}\n    campaigns: {{ c{n}: {{}} }}\n"
        ));
    }
    text
}
