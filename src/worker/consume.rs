//! Both intakes, each on a connection of its own, for as long as the worker runs. What ends one connection charges
//! nothing on the other.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Instant,
};

use lapin::types::ShortString;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::{debug, error, info, warn};

use super::{
    Context,
    outage::{Course, Outage},
    session::{End, Open, Session},
};
use crate::{
    admin::ConsumeState,
    broker::{pause::Pause, topology::TopologyError},
};

/// Heartbeats after which a session counts as one that worked.
const LASTING: u32 = 3;

/// One of the two queues that a worker consumes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Intake {
    /// Events become jobs.
    Events,
    /// Jobs become attempts.
    Jobs,
}

impl Intake {
    /// The queue's name without the prefix. Also the role of its connection, in the management UI and in metrics.
    pub fn name(self) -> &'static str {
        match self {
            Intake::Events => "events",
            Intake::Jobs => "jobs",
        }
    }

    pub(super) fn other(self) -> Intake {
        match self {
            Intake::Events => Intake::Jobs,
            Intake::Jobs => Intake::Events,
        }
    }

    /// The queue, and how many of its messages the broker sends ahead.
    pub(super) fn source(self, context: &Context) -> (&ShortString, u16) {
        let (names, delivery) = (context.plan.names(), &context.settings.delivery);
        match self {
            Intake::Events => (&names.events, delivery.event_prefetch),
            Intake::Jobs => (&names.jobs, delivery.job_prefetch()),
        }
    }
}

/// What the sessions of both intakes share.
pub(super) struct Shared {
    course: Mutex<Course>,
    topology: watch::Sender<bool>,
}

/// Consumes both queues until `shutdown`. Returns the connections that in-flight work still needs.
///
/// # Errors
/// The topology was wrong at the first start.
pub(super) async fn consume(context: &Arc<Context>, shutdown: &CancellationToken) -> Result<Vec<Open>, TopologyError> {
    let shared = Shared { course: Mutex::default(), topology: watch::Sender::new(false) };
    let keep = |intake| keep_consuming(Session { context, intake, shared: &shared, shutdown });
    let (jobs, events) = tokio::try_join!(keep(Intake::Jobs), keep(Intake::Events))?;
    Ok([jobs, events].into_iter().flatten().map(|open| *open).collect())
}

/// One session after another.
async fn keep_consuming(session: Session<'_>) -> Result<Option<Box<Open>>, TopologyError> {
    let Session { context, intake, shared, shutdown } = session;
    let mut pause = Pause::for_connecting();
    let mut first = context.first_broker;
    loop {
        let begun = Instant::now();
        let ended = session.run(&mut first).await;
        context.health.set_consuming(intake, ConsumeState::Lost(ended.to_string()));
        match ended {
            End::Stopped(open) => return Ok(open),
            End::Topology(problem) if !shared.course().has_begun(intake) && problem.is_final() => return Err(problem),
            End::Topology(problem) => {
                if let Some(failed) = shared.course().lost(intake, Instant::now()).failed(Instant::now()) {
                    error!("cannot use the broker's queues {failed}: {problem}");
                }
            }
            End::Lost { why, consumed } => {
                shared.lost(intake, &why, consumed);
                // A session that keeps ending is restarted ever more slowly: each end adds one redelivery to all that
                // it held.
                if consumed && begun.elapsed() > LASTING * context.settings.amqp.heartbeat {
                    pause.reset();
                }
            }
        }
        let wait = tokio::time::sleep(pause.next(fastrand::f64()));
        if shutdown.run_until_cancelled(wait).await.is_none() {
            return Ok(None);
        }
    }
}

impl Shared {
    /// Whether the session of jobs has found the topology as it must be.
    pub(super) fn is_topology_ok(&self) -> bool {
        *self.topology.borrow()
    }

    /// The session of jobs says so.
    pub(super) fn set_topology(&self, ok: bool) {
        self.topology.send_replace(ok);
    }

    /// Waits until [`Shared::is_topology_ok`] equals `ok`.
    pub(super) async fn topology_is(&self, ok: bool) {
        // Fails only when the sender is gone, which is here.
        let _ = self.topology.subscribe().wait_for(|now| *now == ok).await;
    }

    /// An intake has a connection that works, whether or not it consumes.
    pub(super) fn connected(&self, intake: Intake) {
        if let Some(outage) = self.course().connected(intake) {
            info!("broker reachable again after {} s", outage.seconds(Instant::now()));
        }
    }

    /// An intake consumes.
    pub(super) fn begun(&self, context: &Context, intake: Intake) {
        self.connected(intake);
        let mut course = self.course();
        if !course.begun(intake) {
            context.metrics.reconnected(intake.name());
        } else if course.all_begun() {
            info!("ready");
        }
    }

    /// One outage of the broker is one story, although it ends several connections.
    fn lost(&self, intake: Intake, why: &str, consumed: bool) {
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

    fn course(&self) -> MutexGuard<'_, Course> {
        self.course.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
