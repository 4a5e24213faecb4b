//! `leadhook suspects`: the child process of a worker. It is not in the help, because only a worker starts it
//! ([`crate::worker::poison::child`]).

use std::path::PathBuf;

use tokio::signal::unix::{SignalKind, signal};
use tracing::error;

use super::{
    StoreArgs,
    output::{Exit, Refusal, after_help},
};
use crate::{
    poster::Poster,
    store,
    worker::poison::child::{self, Child},
};

/// Work on suspects for a worker, which starts this command itself
#[derive(clap::Args)]
#[command(after_help = after_help("leadhook suspects", ""))]
pub struct Args {}

/// The arguments with which a worker that was started with `from` starts its children.
pub(super) fn arguments(from: &StoreArgs) -> Vec<std::ffi::OsString> {
    let option = |name: &str, value: Option<PathBuf>| {
        value.map(|value| [name.into(), value.into_os_string()]).into_iter().flatten().collect::<Vec<_>>()
    };
    let mut all = vec!["suspects".into()];
    all.extend(option("--config", from.file()));
    all.extend(option("--store", from.store()));
    all
}

/// Works until standard input ends. Signals to stop or to reload are for its parent, which settles what is in flight
/// first.
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
    let poster = match Poster::new(&settings.egress, &settings.tls) {
        Ok(poster) => poster,
        Err(error) => {
            error!(error = format!("{error:#}"), "a child process cannot set up the HTTP client");
            return Ok(Exit::CannotStart);
        }
    };
    super::run::raise_open_files();
    limit_memory();
    child::serve(Child { settings, store, poster }).await;
    drop(signals);
    Ok(Exit::Ok)
}

/// Memory that a child may take beyond what it has when it is ready.
const MEMORY: u64 = 1 << 30;

/// The same in a small container: a quarter of its memory, and at least this.
const LEAST_MEMORY: u64 = 128 << 20;

/// A message that eats memory ends this process by its own doing (SIGABRT). Without the limit the kernel would, and a
/// kill by the kernel does not count: it chooses a child, no matter which process took the memory. Linux only, and
/// harmless where it fails.
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

/// Where memory runs out, the kernel ends this process before its parent. It shows as `leadhook`, like its parent.
/// Linux only, and harmless where it fails.
fn die_first() {
    let _ = std::fs::write("/proc/self/oom_score_adj", "1000");
    let _ = std::fs::write("/proc/self/comm", "leadhook");
}
