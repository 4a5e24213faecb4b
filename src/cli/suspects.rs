//! `leadhook suspects`: the child process of a worker. It is not in the help, because only a worker starts it
//! ([`crate::worker::child`]).

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
    worker::child::{self, Child},
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

/// Works until standard input ends. Its parent is asked to stop, and not this process: it settles what is in flight first.
pub(super) async fn run(from: &StoreArgs) -> Result<Exit, Refusal> {
    let signals = [signal(SignalKind::terminate()), signal(SignalKind::interrupt())];
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
    child::serve(Child { settings, store, poster }).await;
    drop(signals);
    Ok(Exit::Ok)
}

/// Where memory runs out, the kernel ends this process before its parent. It shows as `leadhook`, like its parent. Linux only, and harmless
/// where it fails.
fn die_first() {
    let _ = std::fs::write("/proc/self/oom_score_adj", "1000");
    let _ = std::fs::write("/proc/self/comm", "leadhook");
}
