//! The set of events that a webhook selects.

use std::fmt;

use crate::event::EventKind;

/// A set of event kinds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EventSet(u8);

impl EventSet {
    /// The empty set.
    pub const NONE: EventSet = EventSet(0);

    /// Returns the set of all events: `"*"` in a store.
    pub fn all() -> EventSet {
        EventKind::ALL.into_iter().fold(EventSet::NONE, EventSet::with)
    }

    /// Returns this set with `kind` added.
    #[must_use]
    pub fn with(self, kind: EventKind) -> EventSet {
        EventSet(self.0 | bit(kind))
    }

    /// Returns whether the set contains `kind`.
    pub fn contains(self, kind: EventKind) -> bool {
        self.0 & bit(kind) != 0
    }

    /// Returns whether the set is empty.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Iterates over the kinds, in the order of [`EventKind::ALL`].
    pub fn iter(self) -> impl Iterator<Item = EventKind> {
        EventKind::ALL.into_iter().filter(move |kind| self.contains(*kind))
    }
}

fn bit(kind: EventKind) -> u8 {
    1 << kind as u8
}

impl fmt::Display for EventSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if *self == EventSet::all() {
            return f.write_str("all events");
        }
        for (number, kind) in self.iter().enumerate() {
            write!(f, "{}{kind}", if number > 0 { ", " } else { "" })?;
        }
        Ok(())
    }
}
