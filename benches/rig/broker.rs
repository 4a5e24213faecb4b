//! A RabbitMQ node for the runs alone.

use std::{path::Path, process::Command};

use anyhow::{Context, ensure};

/// Ends with this process, however it ends.
pub struct Broker {
    /// AMQP URL.
    pub url: String,
    /// Process id of its virtual machine.
    pub pid: u32,
    directory: tempfile::TempDir,
}

impl Broker {
    /// Starts it.
    pub fn start() -> anyhow::Result<Broker> {
        let directory = tempfile::tempdir()?;
        let path = directory.path().to_str().context("a directory that is UTF-8")?;
        let said = script(&["start", path, "--owner", &std::process::id().to_string()])?;
        let url =
            said.lines().find_map(|line| line.strip_prefix("url=")).context("no url from rabbitmq.sh")?.to_owned();
        let pid = std::fs::read_to_string(directory.path().join("pid"))?.trim().parse()?;
        Ok(Broker { url, pid, directory })
    }

    /// `rabbitmqctl`.
    pub fn ctl(&self, arguments: &[&str]) -> anyhow::Result<String> {
        let path = self.directory.path().to_str().context("a directory that is UTF-8")?;
        script(&[&["ctl", path], arguments].concat())
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        if let Some(path) = self.directory.path().to_str() {
            let _ = script(&["wipe", path]);
        }
    }
}

fn script(arguments: &[&str]) -> anyhow::Result<String> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/rabbitmq.sh");
    let output = Command::new(script).args(arguments).output()?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    ensure!(output.status.success(), "rabbitmq.sh {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(said)
}
