//! The store of a running worker: the last good revision, replaced as a whole.
//!
//! A broken store is refused as a whole, because half of it could send a campaign's leads to the organization's URL.
//! The last good revision stays in use. Status and log say so, once for the same broken contents.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError, RwLock},
    time::Duration,
};

use jiff::Timestamp;

use super::{
    load::{self, Attempt, Digest},
    problem::{Problem, Problems, Severity},
    resolve::Store,
    secrets::{Environment, Reference},
};
use crate::{duration, failpoint, settings};

/// The current store, and how it was loaded.
pub struct LiveStore {
    path: PathBuf,
    secrets: settings::Secrets,
    environment: Environment,
    grace: Option<Duration>,
    current: RwLock<Arc<Store>>,
    last: Mutex<Last>,
    /// Held while loading, so that the locks above are never held for long. Readiness needs them.
    loading: Mutex<()>,
}

/// The last attempt to load, successful or not.
struct Last {
    digest: Digest,
    references: Vec<Reference>,
    loaded_at: Timestamp,
    refused: Option<Arc<Problems>>,
}

/// The result of a reload.
#[derive(Clone, Debug)]
pub enum ReloadReport {
    /// This revision is current now.
    Loaded(Arc<Store>),
    /// The contents are broken; the last good revision stays in use.
    Refused(Arc<Problems>),
}

/// The store as readiness and metrics show it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoreStatus {
    /// See [`Store::revision`].
    pub revision: String,
    /// When the current revision was loaded.
    pub loaded_at: Timestamp,
    /// The number of organizations.
    pub organizations: usize,
    /// The number of listed campaigns.
    pub campaigns: usize,
    /// Why the present contents of the files were refused, on one line; `None` if they are in use.
    pub refused: Option<String>,
}

impl LiveStore {
    /// Loads the store at `path`, or returns all its problems.
    pub fn open(path: impl Into<PathBuf>, secrets: &settings::Secrets) -> Result<LiveStore, Problems> {
        LiveStore::open_with(path.into(), secrets, load::process_environment)
    }

    /// Does the same with another environment than that of the process.
    pub(super) fn open_with(
        path: PathBuf,
        secrets: &settings::Secrets,
        environment: Environment,
    ) -> Result<LiveStore, Problems> {
        let Attempt { result, digest, references } = load::attempt(&path, secrets, environment);
        let store = Arc::new(result?);
        let last = Last { digest, references, loaded_at: Timestamp::now(), refused: None };
        Ok(LiveStore {
            path,
            secrets: secrets.clone(),
            environment,
            grace: None,
            current: RwLock::new(store),
            last: Mutex::new(last),
            loading: Mutex::new(()),
        })
    }

    /// Makes the store refuse a reload with a timeout that is not below `grace` (`shutdown.grace`). No worker could
    /// start with such a store, so a running one must not use it.
    pub fn with_timeouts_below(mut self, grace: Duration) -> LiveStore {
        self.grace = Some(grace);
        self
    }

    fn fits(&self, store: Store) -> Result<Store, Problems> {
        match (store.longest_timeout(), self.grace) {
            (Some(longest), Some(grace)) if longest >= grace => Err(Problems(vec![Problem {
                severity: Severity::Error,
                place: None,
                path: String::new(),
                text: format!(
                    "the longest timeout is {}, which must be less than shutdown.grace ({})",
                    duration::spoken(longest),
                    duration::spoken(grace)
                ),
            }])),
            _ => Ok(store),
        }
    }

    /// Returns the current revision. Cheap: call it again for each event and each attempt.
    pub fn current(&self) -> Arc<Store> {
        self.current.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Loads the files again, whether they have changed or not. Blocks on files.
    pub fn reload(&self) -> ReloadReport {
        let _alone = self.loading.lock().unwrap_or_else(PoisonError::into_inner);
        let Attempt { result, digest, references } = load::attempt(&self.path, &self.secrets, self.environment);
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        (last.digest, last.references) = (digest, references);
        match result.and_then(|store| self.fits(store)) {
            Ok(store) => {
                let store = Arc::new(store);
                failpoint::hit("store.loaded", "");
                *self.current.write().unwrap_or_else(PoisonError::into_inner) = store.clone();
                (last.loaded_at, last.refused) = (Timestamp::now(), None);
                tracing::info!(
                    revision = store.revision(),
                    organizations = store.organizations().count(),
                    campaigns = store.campaign_count(),
                    warnings = store.warnings().len(),
                    "webhook store loaded"
                );
                ReloadReport::Loaded(store)
            }
            Err(problems) => {
                let problems = Arc::new(problems);
                last.refused = Some(problems.clone());
                tracing::error!(
                    revision = self.current().revision(),
                    problems = problems.len(),
                    first = problems.summary(),
                    "webhook store refused; the last good revision stays"
                );
                ReloadReport::Refused(problems)
            }
        }
    }

    /// Returns the status of the store.
    pub fn status(&self) -> StoreStatus {
        let last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let store = self.current();
        StoreStatus {
            revision: store.revision().to_owned(),
            loaded_at: last.loaded_at,
            organizations: store.organizations().count(),
            campaigns: store.campaign_count(),
            refused: last.refused.as_ref().map(|problems| problems.summary()),
        }
    }

    /// Returns the present digest of the files, if it differs from that of the last attempt. Blocks on files.
    pub(super) fn changed(&self) -> Option<Digest> {
        let (before, references) = {
            let last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
            (last.digest.clone(), last.references.clone())
        };
        let now = load::look(&self.path, &self.secrets, self.environment, &references);
        (now != before).then_some(now)
    }

    /// Returns the path of the store.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns the directory of its secret files.
    pub(super) fn secrets_directory(&self) -> Option<&Path> {
        self.secrets.directory.as_deref()
    }
}
