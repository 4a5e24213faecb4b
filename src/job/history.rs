//! The attempts of a job so far, short enough to travel with it.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::delivery::exchange::{Answer, Exchange};

/// Number of entries kept: all attempts of the longest schedule (11) and of one replay, and a few more.
const KEPT: usize = 24;

/// One attempt. The snippet may repeat lead data, so it is shown to support and never logged.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HistoryEntry {
    /// When the attempt began.
    pub at: Timestamp,
    /// Its number, from 1; a replay starts at 1 again.
    pub attempt: u32,
    /// The outcome: `retry`, `refused` or `failed`.
    pub outcome: String,
    /// The reason: a label of [`crate::delivery::reason::RetryReason`] or [`crate::delivery::reason::FailReason`].
    pub reason: String,
    /// HTTP status, if there was an answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// Length of the exchange in milliseconds.
    pub ms: u64,
    /// More about the answer, such as the destination of a redirect; holds no lead data.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// First bytes of the answer's body, at most 256.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub snippet: Option<String>,
}

impl HistoryEntry {
    /// Creates the entry of an exchange.
    pub fn new(at: Timestamp, attempt: u32, outcome: &str, reason: &str, exchange: &Exchange) -> HistoryEntry {
        let answer: Option<&Answer> = exchange.result.as_ref().ok();
        HistoryEntry {
            at,
            attempt,
            outcome: outcome.to_owned(),
            reason: reason.to_owned(),
            status: answer.map(|answer| answer.status),
            ms: u64::try_from(exchange.elapsed.as_millis()).unwrap_or(u64::MAX),
            detail: exchange.detail(),
            snippet: answer.and_then(|answer| answer.snippet.clone()),
        }
    }
}

/// The latest entries, oldest first.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct History(Vec<HistoryEntry>);

impl History {
    /// Adds an entry, and drops the oldest one if there are too many.
    pub fn push(&mut self, entry: HistoryEntry) {
        self.0.push(entry);
        let surplus = self.0.len().saturating_sub(KEPT);
        self.0.drain(..surplus);
    }

    /// Returns the entries, oldest first.
    pub fn entries(&self) -> &[HistoryEntry] {
        &self.0
    }
}
