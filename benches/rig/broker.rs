//! A private RabbitMQ node for the runs.

use std::{os::unix::fs::MetadataExt, path::Path, process::Command};

use anyhow::{Context, ensure};

/// A node that ends with this process, however the process ends.
pub struct Broker {
    /// AMQP URL.
    pub url: String,
    /// Process id of its virtual machine.
    pub pid: u32,
    directory: tempfile::TempDir,
}

impl Broker {
    /// Starts a node.
    pub fn start() -> anyhow::Result<Broker> {
        let directory = tempfile::tempdir()?;
        let path = directory.path().to_str().context("a directory that is UTF-8")?;
        let said = script(&["start", path, "--owner", &std::process::id().to_string()])?;
        let url =
            said.lines().find_map(|line| line.strip_prefix("url=")).context("no url from rabbitmq.sh")?.to_owned();
        let pid = std::fs::read_to_string(directory.path().join("pid"))?.trim().parse()?;
        Ok(Broker { url, pid, directory })
    }

    /// Returns the bytes that its quorum queues take on the disk, including their common log.
    pub fn queues_on_disk(&self) -> anyhow::Result<u64> {
        let mut directories = vec![self.directory.path().to_owned()];
        let mut sum = 0;
        while let Some(directory) = directories.pop() {
            // Files may disappear meanwhile.
            for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
                match entry.metadata() {
                    Ok(metadata) if metadata.is_dir() => directories.push(entry.path()),
                    Ok(metadata) if entry.path().components().any(|part| part.as_os_str() == "quorum") => {
                        sum += metadata.blocks() * 512;
                    }
                    Ok(_) | Err(_) => {}
                }
            }
        }
        Ok(sum)
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
