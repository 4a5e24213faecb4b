//! Processes, and what they cost.

use std::{
    io::{BufRead, BufReader},
    process::{Child, Command, Stdio},
};

use anyhow::Context;

/// Clock ticks of `/proc/<pid>/stat` in a second: 100 on every Linux that is not built for something special.
const TICKS: f64 = 100.0;

/// A process that is killed when this is dropped.
pub struct Process(Child);

/// What processes have cost so far.
#[derive(Clone, Copy, Debug, Default)]
pub struct Usage {
    /// Seconds of CPU, in user and kernel.
    pub cpu: f64,
    /// The most memory that was resident at once, in MiB.
    pub peak: f64,
}

impl Process {
    /// Starts it; what it says on stderr goes nowhere.
    pub fn spawn(command: &mut Command) -> anyhow::Result<Process> {
        let child = command.stdin(Stdio::null()).stderr(Stdio::null()).spawn();
        child.map(Process).with_context(|| format!("cannot start {:?}", command.get_program()))
    }

    /// The first line that it says on stdout.
    pub fn first_line(&mut self) -> anyhow::Result<String> {
        let mut line = String::new();
        BufReader::new(self.0.stdout.take().context("its output is not here")?).read_line(&mut line)?;
        Ok(line.trim().to_owned())
    }

    /// What it has cost so far.
    pub fn usage(&self) -> Usage {
        usage(self.0.id())
    }

    /// Whether it has ended, which none is meant to.
    pub fn has_ended(&mut self) -> bool {
        !matches!(self.0.try_wait(), Ok(None))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// What a process has cost so far; nothing, if it is gone.
pub fn usage(pid: u32) -> Usage {
    let read = |file: &str| std::fs::read_to_string(format!("/proc/{pid}/{file}")).unwrap_or_default();
    let stat = read("stat");
    // The name in brackets may hold blanks.
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
