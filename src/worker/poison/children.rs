//! The child processes of this worker: one that many suspects share, and a few with one suspect each.
//!
//! This module does not decide what a death means; [`super`] does.

use std::{
    ops::Deref,
    sync::{Arc, Weak},
    time::{Duration, Instant},
};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tracing::warn;

use super::child_process::{Child, Kind, Recipe, start};
use crate::{metrics::Metrics, store::LiveStore};

/// Most children with one suspect each, at a time.
const ALONE: usize = 4;

/// How long a shared child is kept without a suspect in it.
const IDLE: Duration = Duration::from_secs(10);

/// Pause after a failed start.
const AFTER_A_FAILURE: Duration = Duration::from_secs(5);

/// The child processes of a worker. Cheap to clone.
#[derive(Clone)]
pub struct Children(Arc<Inner>);

struct Inner {
    recipe: Recipe,
    metrics: Arc<Metrics>,
    shared: tokio::sync::Mutex<Shared>,
    alone: Arc<Semaphore>,
}

#[derive(Default)]
struct Shared {
    /// Lives for [`IDLE`], and after that as long as a suspect is in it.
    child: Weak<Child>,
    /// The child before it, which has an older revision of the store.
    former: Weak<Child>,
    /// When the last start failed.
    failed: Option<Instant>,
}

/// A child could not be started, which is never the fault of a message.
#[derive(Debug)]
pub(crate) struct NoChild;

impl Children {
    /// Returns the children of a worker; none runs yet.
    pub fn new(recipe: Recipe, metrics: Arc<Metrics>) -> Children {
        let alone = Arc::new(Semaphore::new(ALONE));
        Children(Arc::new(Inner { recipe, metrics, shared: Default::default(), alone }))
    }

    /// Returns a seat in the shared child as soon as one is free.
    pub(crate) async fn shared(&self, store: &LiveStore) -> Result<Seat, NoChild> {
        loop {
            let seat = Seat::take(self.shared_child(store.current().revision()).await?).await;
            // The child or the store may have changed during the wait.
            if seat.is_alive() && seat.revision() == store.current().revision() {
                return Ok(seat);
            }
        }
    }

    /// Returns the shared child, and starts one if none has this revision. At most two exist, each with its own copy of
    /// the store.
    async fn shared_child(&self, revision: &str) -> Result<Arc<Child>, NoChild> {
        let living = |child: &Weak<Child>| child.upgrade().filter(|child| child.is_alive());
        let mut shared = self.0.shared.lock().await;
        if let Some(child) = living(&shared.child) {
            if child.revision() == revision {
                return Ok(child);
            }
            if living(&shared.former).is_some() {
                return Err(NoChild);
            }
            shared.former = Arc::downgrade(&child);
        }
        if shared.failed.is_some_and(|failed| failed.elapsed() < AFTER_A_FAILURE) {
            return Err(NoChild);
        }
        match self.start(Kind::Shared, revision).await {
            Ok(child) => {
                (shared.child, shared.failed) = (Arc::downgrade(&child), None);
                tokio::spawn(keep(child.clone()));
                Ok(child)
            }
            Err(NoChild) => {
                (shared.child, shared.failed) = (Weak::new(), Some(Instant::now()));
                Err(NoChild)
            }
        }
    }

    /// Waits up to `patience` for the right to start a child for one suspect.
    pub(crate) async fn place(&self, patience: Duration) -> Option<OwnedSemaphorePermit> {
        tokio::time::timeout(patience, self.0.alone.clone().acquire_owned()).await.ok()?.ok()
    }

    /// Starts a child for one suspect.
    pub(crate) async fn alone(&self, store: &LiveStore) -> Result<Seat, NoChild> {
        Ok(Seat::take(self.start(Kind::Alone, store.current().revision()).await?).await)
    }

    async fn start(&self, kind: Kind, revision: &str) -> Result<Arc<Child>, NoChild> {
        match start(&self.0.recipe, kind, revision, &self.0.metrics).await {
            Ok(child) => Ok(Arc::new(child)),
            Err(error) => {
                warn!(error, "cannot start a child process; suspects wait for it");
                Err(NoChild)
            }
        }
    }
}

/// Keeps a child for a while: it ends with its last handle.
async fn keep(child: Arc<Child>) {
    tokio::time::sleep(IDLE).await;
    drop(child);
}

/// A suspect's place in a child process. The process ends after the last one is dropped.
pub(crate) struct Seat {
    child: Arc<Child>,
    _taken: Option<OwnedSemaphorePermit>,
}

impl Seat {
    async fn take(child: Arc<Child>) -> Seat {
        let taken = child.seats().acquire_owned().await.ok();
        Seat { child, _taken: taken }
    }
}

impl Deref for Seat {
    type Target = Child;

    fn deref(&self) -> &Child {
        &self.child
    }
}
