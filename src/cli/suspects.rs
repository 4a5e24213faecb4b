//! `leadhook suspects`: the child process of a worker ([`crate::worker::poison::child`]). The help does not list it,
//! because only a worker starts it.

use std::path::PathBuf;

use tokio::signal::unix::{SignalKind, signal};
use tracing::error;

use super::{
    StoreArgs,
    output::{Exit, Refusal, after_help},
};
use crate::{
    sender::Sender,
    store,
    worker::poison::child::{self, Child},
};

/// Work on suspects for a worker, which starts this command itself
#[derive(clap::Args)]
#[command(after_help = after_help("leadhook suspects", ""))]
pub struct Args {}

/// Returns the arguments for the child processes of a worker that was started with `from`.
pub(super) fn arguments(from: &StoreArgs) -> Vec<std::ffi::OsString> {
    let option = |name: &str, value: Option<PathBuf>| {
        value.map(|value| [name.into(), value.into_os_string()]).into_iter().flatten().collect::<Vec<_>>()
    };
    let mut all = vec!["suspects".into()];
    all.extend(option("--config", from.file()));
    all.extend(option("--store", from.store()));
    all
}

/// Works until standard input ends. Ignores signals to stop or reload: they are meant for its parent, which first
/// settles what is in flight.
pub(super) async fn run(from: &StoreArgs) -> Result<Exit, Refusal> {
    let signals = [SignalKind::terminate(), SignalKind::interrupt(), SignalKind::hangup()].map(signal);
    let settings = from.load()?;
    if let Err(exit) = super::begin(&settings) {
        return Ok(exit);
    }
    die_first();
    let store = match store::load(&settings.store.path, &settings.secrets) {
        Ok(store) => store,
        Err(problems) => {
            error!(problems = problems.summary(), "a child process cannot use the webhook store");
            return Ok(Exit::Usage);
        }
    };
    let sender = match Sender::new(&settings.egress, &settings.tls) {
        Ok(sender) => sender,
        Err(error) => {
            error!(error = format!("{error:#}"), "a child process cannot set up the HTTP client");
            return Ok(Exit::CannotStart);
        }
    };
    super::run::raise_open_files();
    limit_memory();
    child::serve(Child { settings, store, sender }).await;
    drop(signals);
    Ok(Exit::Ok)
}

/// Memory in bytes that a child may take beyond its size when it is ready.
const MEMORY: u64 = 1 << 30;

/// In a small container the limit is a quarter of its memory, and at least this many bytes.
const LEAST_MEMORY: u64 = 128 << 20;

/// Limits this process's memory, so that a message that takes too much ends the process with SIGABRT. Otherwise the
/// kernel would kill it. A kill by the kernel does not count, because the kernel chooses a child, whichever process
/// took the memory. Linux only; a failure is harmless.
fn limit_memory() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let data =
        status.lines().find_map(|line| line.strip_prefix("VmData:")?.trim().strip_suffix(" kB")?.parse::<u64>().ok());
    let container = std::fs::read_to_string("/sys/fs/cgroup/memory.max").ok().and_then(|most| most.trim().parse().ok());
    let memory = MEMORY.min(container.map_or(MEMORY, |most: u64| (most / 4).max(LEAST_MEMORY)));
    if let Some(kilobytes) = data {
        let current = getrlimit(Resource::Data);
        let most = kilobytes.saturating_mul(1024).saturating_add(memory).min(current.maximum.unwrap_or(u64::MAX));
        let _ = setrlimit(Resource::Data, Rlimit { current: Some(most), ..current });
    }
}

/// Makes the kernel end this process before its parent if memory runs out. Names the process `leadhook`, like its
/// parent. Linux only; a failure is harmless.
fn die_first() {
    let _ = std::fs::write("/proc/self/oom_score_adj", "1000");
    let _ = std::fs::write("/proc/self/comm", "leadhook");
}
