//! Arguments that several commands take, read alike.

use jiff::Timestamp;

use crate::{desk::filter, event::EventKind};

/// The name of an event.
pub(super) fn event_kind(text: &str) -> Result<EventKind, String> {
    EventKind::parse(text).ok_or_else(|| format!("expected one of {}", EventKind::ALL.map(EventKind::name).join(", ")))
}

/// A moment as people write it.
pub(super) fn moment(text: &str) -> Result<Timestamp, String> {
    filter::moment(text, Timestamp::now())
}
