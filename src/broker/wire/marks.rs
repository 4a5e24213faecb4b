//! The repaired messages of one connection.

use std::{
    collections::HashMap,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

use super::repairs::Repairs;

/// The repaired messages of one connection, by channel and delivery tag, which only the broker chooses.
///
/// The filter marks a message before lapin sees it. The worker and the commands ask once, when they take the message
/// from lapin.
#[derive(Debug, Default)]
pub struct Marks {
    /// Number of marks, so that a look needs no lock while there are none.
    count: AtomicUsize,
    by_delivery: Mutex<HashMap<(u16, u64), Repairs>>,
}

impl Marks {
    /// Returns the repairs of this message. Returns [`Repairs::NONE`] if there were none, and for a second call.
    pub fn take(&self, channel: u16, delivery_tag: u64) -> Repairs {
        if self.count.load(Ordering::Acquire) == 0 {
            return Repairs::NONE;
        }
        let mut marks = self.lock();
        let repairs = marks.remove(&(channel, delivery_tag)).unwrap_or_default();
        self.count.store(marks.len(), Ordering::Release);
        repairs
    }

    pub(super) fn add(&self, channel: u16, delivery_tag: u64, repairs: Repairs) {
        let mut marks = self.lock();
        marks.insert((channel, delivery_tag), repairs);
        self.count.store(marks.len(), Ordering::Release);
    }

    /// Removes the marks of an earlier channel with this number.
    pub(super) fn forget(&self, channel: u16) {
        if self.count.load(Ordering::Acquire) > 0 {
            let mut marks = self.lock();
            marks.retain(|(of, _), _| *of != channel);
            self.count.store(marks.len(), Ordering::Release);
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<(u16, u64), Repairs>> {
        self.by_delivery.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
