//! Words for records of the delivery log.

use jiff::Timestamp;

use crate::{
    cli::{output::Tone, readable},
    delivery_log::{Entry, What},
    job::HistoryEntry,
};

/// Returns the word for a state.
pub(crate) fn state(what: What) -> &'static str {
    match what {
        What::Delivered => "delivered",
        What::Refused => "refused",
        What::Retry => "retrying",
        What::Failed => "failed",
        What::Deferred => "deferred",
        What::NoTarget => "no target",
        What::Rejected => "rejected",
        What::Replayed => "replayed",
        What::Discarded => "discarded",
        What::Requeued => "requeued",
        What::Revealed => "data shown",
        What::Unknown => "(newer)",
    }
}

/// Returns the tone of a state.
pub(crate) fn tone(what: What) -> Tone {
    match what {
        What::Delivered => Tone::Good,
        What::Failed | What::Rejected => Tone::Bad,
        What::Refused | What::Retry | What::Deferred | What::Discarded => Tone::Warning,
        What::NoTarget | What::Replayed | What::Requeued | What::Revealed | What::Unknown => Tone::Quiet,
    }
}

/// Formats attempts: `2/6`, or a dash.
pub(crate) fn attempts(attempt: Option<u32>, of: Option<u32>) -> String {
    match (attempt, of) {
        (Some(attempt), Some(of)) => format!("{attempt}/{of}"),
        (Some(attempt), None) => attempt.to_string(),
        (None, _) => "-".to_owned(),
    }
}

/// Formats a result: `200`, `500`, `429 pushback`, `timeout`, or a dash.
pub(crate) fn result(status: Option<u16>, error: Option<&str>) -> String {
    match (status, error) {
        (Some(status), None | Some("status")) => status.to_string(),
        (Some(status), Some(error)) => format!("{status} {error}"),
        (None, Some(error)) => error.to_owned(),
        (None, None) => "-".to_owned(),
    }
}

/// Formats the result of an attempt in a job's history, with its detail: `301 redirect to https://www.example.com`.
pub(crate) fn result_of(attempt: &HistoryEntry) -> String {
    result(attempt.status, Some(attempt.detail.as_deref().unwrap_or(&attempt.reason)))
}

/// Returns more about a record: when the next attempt is due, why the delivery ended, who did it.
pub(crate) fn note(what: What, next: Option<Timestamp>, reason: Option<&str>, by: Option<&str>) -> String {
    let said = match (what, next, reason) {
        (What::Retry, Some(next), _) => format!("next attempt {}", readable::clock(next)),
        (_, _, Some(reason)) => reason.to_owned(),
        (_, _, None) => String::new(),
    };
    match by {
        Some(by) if said.is_empty() => format!("by {by}"),
        Some(by) => format!("by {by}: {said}"),
        None => said,
    }
}

/// Returns the note of a record, with the record's own note.
pub(crate) fn note_of(entry: &Entry<'_>) -> String {
    let note = note(entry.what, entry.next_time(), entry.reason.as_deref(), entry.by.as_deref());
    match entry.note.as_deref() {
        None => note,
        Some(more) if note.is_empty() => more.to_owned(),
        Some(more) => format!("{note}; {more}"),
    }
}
