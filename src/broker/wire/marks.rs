//! Which messages of one connection were repaired.

use std::{
    collections::HashMap,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

use super::repairs::Repairs;

/// The repaired messages of one connection, by channel and delivery tag: only the broker chooses these.
///
/// The filter marks a message before lapin sees it. The worker and the commands ask once, as they take the message from
/// lapin.
#[derive(Debug, Default)]
pub struct Marks {
    /// How many there are, so that a look costs no lock as long as there are none.
    count: AtomicUsize,
    by_delivery: Mutex<HashMap<(u16, u64), Repairs>>,
}

impl Marks {
    /// The repairs of this message; [`Repairs::NONE`] if there were none, or at the second call.
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

    /// A channel with this number begins. Messages of an earlier one are gone.
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
