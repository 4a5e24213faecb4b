//! Notices when the files of the store change.
//!
//! File system notifications are fast, but miss changes behind links and on network and overlay file systems. A digest
//! of the contents, taken every second, misses nothing. So only the digest decides, and a notification only triggers it
//! earlier.
//!
//! A change counts when the contents have been stable for a moment. A program that writes a file in place leaves half a
//! file in between, and half a file can be a valid store.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use notify::{
    EventKind, RecursiveMode, Watcher,
    event::{AccessKind, AccessMode},
};
use tokio::{sync::mpsc, time::MissedTickBehavior};
use tokio_util::sync::CancellationToken;

use super::live::{LiveStore, ReloadReport};

/// Interval of the checks without any notification.
const POLL: Duration = Duration::from_secs(1);

/// How long the contents must be stable.
const STILL: Duration = Duration::from_millis(200);

/// Number of checks after which contents that are never stable are loaded anyway.
const PATIENCE: u32 = 4;

impl LiveStore {
    /// Reloads the store when its files change or SIGHUP arrives, until `shutdown`. Calls `on_reload` after each
    /// attempt.
    ///
    /// A change is in use within two seconds. SIGHUP reloads even if nothing has changed.
    pub async fn watch(
        self: Arc<Self>,
        shutdown: CancellationToken,
        on_reload: impl Fn(&ReloadReport) + Send + 'static,
    ) {
        let (wake, mut woken) = mpsc::channel(1);
        let _watcher = watcher(&self, wake.clone());
        let mut hangups = Hangups::new();
        let mut poll = tokio::time::interval(POLL);
        poll.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let asked = tokio::select! {
                () = shutdown.cancelled() => return,
                () = hangups.next() => true,
                // `wake` lives as long as this loop, so the channel never closes.
                _ = woken.recv() => false,
                _ = poll.tick() => false,
            };
            if asked || self.change_has_settled(&shutdown).await {
                let store = self.clone();
                if let Some(report) = blocking(move || store.reload()).await {
                    on_reload(&report);
                }
            }
        }
    }

    /// Returns whether the contents differ from those of the last attempt, and are stable (or never become so).
    async fn change_has_settled(self: &Arc<Self>, shutdown: &CancellationToken) -> bool {
        let mut before = None;
        for _ in 0..PATIENCE {
            let store = self.clone();
            let now = blocking(move || store.changed()).await.flatten();
            if now.is_none() || now == before {
                return now.is_some();
            }
            before = now;
            tokio::select! {
                () = shutdown.cancelled() => return false,
                () = tokio::time::sleep(STILL) => {}
            }
        }
        true
    }
}

/// Does file work outside the async threads. Returns `None` if it panicked, which is logged; the next check tries
/// again.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    match tokio::task::spawn_blocking(work).await {
        Ok(value) => Some(value),
        Err(error) => {
            // The text of the panic is left out, because it may quote a file.
            tracing::error!(panicked = error.is_panic(), "reading the webhook store failed; the next look tries again");
            None
        }
    }
}

/// Starts notifications about the places of the store, for as long as the result lives. Without them the poll still
/// finds every change.
fn watcher(store: &LiveStore, wake: mpsc::Sender<()>) -> Option<notify::RecommendedWatcher> {
    let handler = move |event: notify::Result<notify::Event>| {
        if event.map_or(true, |event| is_change(event.kind)) {
            // A full channel means that the loop is woken already.
            let _ = wake.try_send(());
        }
    };
    let mut watcher = notify::recommended_watcher(handler)
        .inspect_err(|error| tracing::warn!(%error, "no file notifications; the webhook store is polled every second"))
        .ok()?;
    for place in places(store.path(), store.secrets_directory()) {
        if let Err(error) = watcher.watch(&place, RecursiveMode::NonRecursive) {
            tracing::debug!(%error, place = %place.display(), "no file notifications for this place");
        }
    }
    Some(watcher)
}

/// Returns the directories to watch. A replaced file or link is an event of its directory, not of itself.
fn places(path: &Path, secrets: Option<&Path>) -> BTreeSet<PathBuf> {
    let mut places = BTreeSet::new();
    for path in [Some(path), secrets].into_iter().flatten() {
        for path in [Some(path.to_owned()), path.canonicalize().ok()].into_iter().flatten() {
            let parent =
                path.parent().map(|parent| if parent.as_os_str().is_empty() { Path::new(".") } else { parent });
            places.extend(parent.map(Path::to_owned));
            if path.is_dir() {
                places.insert(path);
            }
        }
    }
    places
}

/// Returns whether an event means a change. Reads are events too, and our own checks must not wake the loop.
fn is_change(kind: EventKind) -> bool {
    match kind {
        EventKind::Access(AccessKind::Close(AccessMode::Write)) => true,
        EventKind::Access(_) => false,
        EventKind::Any | EventKind::Create(_) | EventKind::Modify(_) | EventKind::Remove(_) | EventKind::Other => true,
    }
}

/// SIGHUP, on systems that have it.
struct Hangups {
    #[cfg(unix)]
    signals: Option<tokio::signal::unix::Signal>,
}

impl Hangups {
    fn new() -> Hangups {
        Hangups {
            #[cfg(unix)]
            signals: tokio::signal::unix::signal(tokio::signal::unix::SignalKind::hangup())
                .inspect_err(|error| tracing::warn!(%error, "cannot listen for SIGHUP; the webhook store is reloaded only when its files change"))
                .ok(),
        }
    }

    async fn next(&mut self) {
        #[cfg(unix)]
        if let Some(signals) = &mut self.signals
            && signals.recv().await.is_some()
        {
            return;
        }
        std::future::pending().await
    }
}
