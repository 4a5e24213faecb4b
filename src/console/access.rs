//! What every reading of queues and of the delivery log needs, and every action.

use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use crate::{broker::topology::Plan, dead_letters::interrupt::Interrupt, settings::Settings};

/// Settings and limits for work on the broker.
pub struct Access {
    pub settings: Settings,
    pub plan: Plan,
    /// Limits how many requests read the delivery log at a time.
    pub readings: Semaphore,
    /// Asks browses to end, so that they give their messages back in order.
    pub interrupt: Interrupt,
    pub shutdown: CancellationToken,
}
