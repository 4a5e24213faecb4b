//! A worker as a real process, with its log, its admin port and its signals.

use std::{
    fs::File,
    path::PathBuf,
    process::{Child, Command, ExitStatus},
    sync::OnceLock,
};

use super::{harness::eventually, node::http_client};

/// A worker process; killed when dropped.
pub struct Worker {
    child: Child,
    log: PathBuf,
    /// Its admin address, once the log contains it.
    admin: OnceLock<String>,
}

impl Worker {
    /// Starts a worker that logs to the file `log`.
    pub fn spawn(mut command: Command, log: PathBuf) -> Worker {
        command.stderr(File::create(&log).expect("a log file"));
        Worker { child: command.spawn().expect("the worker"), log, admin: OnceLock::new() }
    }

    /// Returns its log so far.
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Returns its admin address.
    pub async fn admin(&self) -> String {
        if let Some(address) = self.admin.get() {
            return address.clone();
        }
        let address = eventually("the admin address in the log", async || {
            let log = self.log();
            let line = log.lines().find(|line| line.contains("admin listening"))?;
            let line: serde_json::Value = serde_json::from_str(line).ok()?;
            Some(line["address"].as_str()?.to_owned())
        })
        .await;
        self.admin.get_or_init(|| address).clone()
    }

    /// Sends a GET to the admin port. Returns status and body, or `None` without an answer.
    pub async fn get(&self, path: &str) -> Option<(u16, String)> {
        let answer = http_client().get(format!("http://{}{path}", self.admin().await)).send().await.ok()?;
        Some((answer.status().as_u16(), answer.text().await.ok()?))
    }

    /// Waits until it is ready.
    pub async fn ready(&self) {
        eventually("the worker is ready", async || self.get("/readyz").await.filter(|(status, _)| *status == 200))
            .await;
    }

    /// Waits until its first check of the queues has counted them, which begins when the worker is ready. That check
    /// declares missing queues, and the next one follows ten seconds later.
    pub async fn looked(&self) {
        eventually("the first look at the queues", async || {
            let (_, report) = self.get("/readyz").await?;
            let report: serde_json::Value = serde_json::from_str(&report).ok()?;
            report["queues"].as_object().is_some_and(|queues| !queues.is_empty()).then_some(())
        })
        .await;
    }

    /// Waits until it is not ready.
    pub async fn not_ready(&self) -> String {
        let (_, body) = eventually("the worker is not ready", async || {
            self.get("/readyz").await.filter(|(status, _)| *status == 503)
        })
        .await;
        body
    }

    /// Returns the sum of a metric over the labels that contain `with`.
    pub async fn metric(&self, name: &str, with: &str) -> f64 {
        self.metric_if_there(name, with).await.expect("metrics")
    }

    /// The same, or `None` if the worker does not answer.
    pub async fn metric_if_there(&self, name: &str, with: &str) -> Option<f64> {
        let (_, text) = self.get("/metrics").await?;
        let lines = text.lines().filter(|line| line.starts_with(name) && line.contains(with));
        Some(lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum())
    }

    /// Waits until a metric has this value. What a receiver or a queue shows first is counted a moment later.
    pub async fn metric_is(&self, name: &str, with: &str, value: f64) {
        let what = format!("{name} {{{with}}} is {value}");
        eventually(&what, async || (self.metric(name, with).await == value).then_some(())).await;
    }

    /// Waits until a metric has at least this value.
    pub async fn metric_reaches(&self, name: &str, with: &str, least: f64) {
        let what = format!("{name} {{{with}}} is at least {least}");
        eventually(&what, async || (self.metric(name, with).await >= least).then_some(())).await;
    }

    /// Sends a signal, by name.
    pub fn signal(&self, name: &str) {
        let sent = Command::new("kill").arg(format!("-{name}")).arg(self.child.id().to_string()).status();
        assert!(sent.expect("kill").success());
    }

    /// Returns its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Returns its exit status if it has ended.
    pub fn has_ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("wait")
    }

    /// Waits until it has ended.
    pub async fn ended(&mut self) -> ExitStatus {
        let child = &mut self.child;
        eventually("the worker has ended", async || child.try_wait().expect("wait")).await
    }

    /// Sends SIGTERM, and checks that it ends cleanly.
    pub async fn stop(mut self) {
        self.signal("TERM");
        let status = self.ended().await;
        // Its last lines are printed when it is dropped.
        assert_eq!(status.code(), Some(0), "a clean stop");
    }

    /// Sends SIGKILL.
    pub async fn kill(mut self) {
        self.signal("KILL");
        self.ended().await;
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            let log = self.log();
            if let Some(directory) = std::env::var_os("LEADHOOK_KEEP_LOGS") {
                let name = self.log.file_name().unwrap_or_default();
                let _ = std::fs::create_dir_all(&directory);
                let _ = std::fs::write(std::path::Path::new(&directory).join(name), &log);
            }
            let last: Vec<_> = log.lines().rev().take(40).collect();
            eprintln!("--- last lines of a worker:\n{}", last.into_iter().rev().collect::<Vec<_>>().join("\n"));
        }
    }
}
