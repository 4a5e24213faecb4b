//! Consumes both queues for as long as the worker runs, each on its own connection. Losing one connection does not
//! raise the delivery count of messages on the other.

mod intake;
mod liveness;
mod outage;
mod presence;
mod session;
mod shared;
mod source;
mod suspensions;
mod topology_watch;

use std::{sync::Arc, time::Instant};

use tokio_util::sync::CancellationToken;
use tracing::error;

pub(crate) use self::session::{LAST_ACKS, Open};
use self::{
    session::{End, Session},
    shared::Shared,
};
use super::context::Context;
use crate::{
    broker::{Intake, pause::Pause, topology::TopologyError},
    health::ConsumeState,
};

/// A session that lasted this many heartbeats counts as one that worked.
const LASTING: u32 = 3;

/// Consumes both queues until `shutdown`. Returns the connections that in-flight work still needs.
///
/// # Errors
/// The topology was wrong at the first start.
pub(crate) async fn consume(context: &Arc<Context>, shutdown: &CancellationToken) -> Result<Vec<Open>, TopologyError> {
    let shared = Shared::default();
    let keep = |intake| keep_consuming(Session { context, intake, shared: &shared, shutdown });
    let (jobs, events) = tokio::try_join!(keep(Intake::Jobs), keep(Intake::Events))?;
    Ok([jobs, events].into_iter().flatten().map(|open| *open).collect())
}

/// Runs one session after another.
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
                // A session that keeps ending is restarted at growing intervals: each end adds one redelivery to every
                // message that it held.
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
