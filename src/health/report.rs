//! The judgement of readiness, as `/readyz` shows it.

use std::collections::BTreeMap;

use serde::Serialize;

/// The judgement, as `/readyz` shows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Whether this worker takes and settles messages now.
    pub ready: bool,
    /// Why not; empty when ready.
    pub reasons: Vec<String>,
    /// The problems that need a person, whether ready or not.
    pub warnings: Vec<String>,
    /// The webhook store in use.
    pub store: StoreReport,
    /// Leadhook's queues, without the prefix of their names.
    pub queues: BTreeMap<String, QueueReport>,
}

/// The webhook store in use.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct StoreReport {
    /// Its revision, once one is loaded.
    pub revision: Option<String>,
    /// Why the last reload was refused, if it was.
    pub last_error: Option<String>,
}

/// One queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct QueueReport {
    /// Messages ready on it.
    pub messages: u64,
    /// For how many seconds without a break this worker has seen it not empty; only for the queues in [`crate::metrics::RESTING`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub not_empty_seconds: Option<u64>,
}
