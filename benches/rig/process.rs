//! Processes and their costs.

use std::{
    io::{BufRead, BufReader},
    net::SocketAddr,
    process::{Child, Command, Stdio},
};

use anyhow::Context;

/// Clock ticks a second in `/proc/<pid>/stat`: 100 on every ordinary Linux.
const TICKS: f64 = 100.0;

/// A process that is killed when this is dropped.
pub struct Process {
    child: Child,
    admin: Option<SocketAddr>,
}

/// Resources that processes have used so far.
#[derive(Clone, Copy, Debug, Default)]
pub struct Usage {
    /// CPU seconds, user and kernel.
    pub cpu: f64,
    /// Peak resident memory, in MiB.
    pub peak: f64,
}

impl Process {
    /// Starts a process and discards its stderr.
    pub fn spawn(command: &mut Command) -> anyhow::Result<Process> {
        let child = command.stdin(Stdio::null()).stderr(Stdio::null()).spawn();
        child
            .map(|child| Process { child, admin: None })
            .with_context(|| format!("cannot start {:?}", command.get_program()))
    }

    /// Sets the address of a worker's admin port.
    pub fn with_admin(mut self, admin: SocketAddr) -> Process {
        self.admin = Some(admin);
        self
    }

    /// Returns the address of its admin port, if it is a worker.
    pub fn admin(&self) -> Option<SocketAddr> {
        self.admin
    }

    /// Reads the first line of its stdout.
    pub fn first_line(&mut self) -> anyhow::Result<String> {
        let mut line = String::new();
        BufReader::new(self.child.stdout.take().context("its output is not here")?).read_line(&mut line)?;
        Ok(line.trim().to_owned())
    }

    /// Returns its usage so far.
    pub fn usage(&self) -> Usage {
        usage(self.child.id())
    }

    /// Returns whether it has ended by itself, which is a fault.
    pub fn has_ended(&mut self) -> bool {
        !matches!(self.child.try_wait(), Ok(None))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Returns what a process has used so far, or zeros if it is gone.
pub fn usage(pid: u32) -> Usage {
    let read = |file: &str| std::fs::read_to_string(format!("/proc/{pid}/{file}")).unwrap_or_default();
    let stat = read("stat");
    // The name in brackets may contain spaces.
    let after_name = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    let field = |n: usize| after_name.split_whitespace().nth(n).and_then(|ticks| ticks.parse::<f64>().ok());
    let peak = read("status")
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:")?.trim().strip_suffix("kB")?.trim().parse::<f64>().ok());
    Usage {
        cpu: (field(11).unwrap_or_default() + field(12).unwrap_or_default()) / TICKS,
        peak: peak.unwrap_or_default() / 1024.0,
    }
}
