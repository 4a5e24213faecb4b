//! State that the sessions of both intakes share: whether the topology is right, and the course of an outage of the
//! broker.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::Instant,
};

use tokio::sync::watch;
use tracing::{debug, info, warn};

use super::outage::{Course, Outage};
use crate::{broker::Intake, worker::context::Context};

/// State that the sessions of both intakes share.
#[derive(Default)]
pub(super) struct Shared {
    course: Mutex<Course>,
    topology: watch::Sender<bool>,
}

impl Shared {
    /// Returns whether the session of jobs has found the topology right.
    pub(super) fn is_topology_ok(&self) -> bool {
        *self.topology.borrow()
    }

    /// Notes whether the session of jobs has found the topology right.
    pub(super) fn set_topology(&self, ok: bool) {
        self.topology.send_replace(ok);
    }

    /// Waits until [`Shared::is_topology_ok`] equals `ok`.
    pub(crate) async fn topology_is(&self, ok: bool) {
        // Fails only if the sender is gone, and `self` holds it.
        let _ = self.topology.subscribe().wait_for(|now| *now == ok).await;
    }

    /// Notes that an intake has a working connection, whether or not it consumes.
    pub(super) fn connected(&self, intake: Intake) {
        if let Some(outage) = self.course().connected(intake) {
            info!("broker reachable again after {} s", outage.seconds(Instant::now()));
        }
    }

    /// Notes that an intake consumes.
    pub(super) fn begun(&self, context: &Context, intake: Intake) {
        self.connected(intake);
        let mut course = self.course();
        if !course.begun(intake) {
            context.metrics.reconnected(intake.name());
        } else if course.all_begun() {
            info!("ready");
        }
    }

    /// Notes and logs a lost connection. An outage of the broker is reported once, although it ends several
    /// connections.
    pub(super) fn lost(&self, intake: Intake, why: &str, consumed: bool) {
        let mut course = self.course();
        let queue = intake.name();
        if !consumed {
            let outage: &mut Outage = course.lost(intake, Instant::now());
            if let Some(failed) = outage.failed(Instant::now()) {
                warn!(queue, "broker unreachable {failed}: {why}");
            }
        } else if course.is_outage() {
            course.lost(intake, Instant::now());
            debug!(queue, reason = why, "lost another broker connection, reconnecting");
        } else {
            course.lost(intake, Instant::now());
            warn!(queue, reason = why, "lost the broker connection, reconnecting");
        }
    }

    pub(super) fn course(&self) -> MutexGuard<'_, Course> {
        self.course.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
