//! A suspect and the child that works on it.

use std::time::Duration;

use super::{child::Message, child_process::Died, children::Seat};
use crate::delivery::exchange::Exchange;

/// A suspect and the child that works on it.
pub(crate) struct Suspect {
    pub(super) child: Seat,
    pub(super) message: Message,
    /// The message's id, for the log.
    pub(super) id: String,
}

impl Suspect {
    /// Asks the child to make the next attempt. Returns `None` if the child does not know the target.
    pub(crate) async fn attempt(&self, timeout: Duration) -> Result<Option<Exchange>, Died> {
        self.child.attempt(&self.message, &self.id, timeout).await
    }
}
