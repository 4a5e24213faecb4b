//! Logs which targets are in trouble or have recovered, and once a minute the counts of settled messages.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use tracing::{info, warn};

use super::trouble::{Change, Troubles};
use crate::{limits::View, worker::context::Context};

/// Looks from one summary to the next, which is a minute.
const LOOKS: u32 = 12;

/// How often the log looks at the circuits.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// Logs changes of targets in trouble, and once a minute a summary. Never ends.
pub(crate) async fn watch(context: Arc<Context>) {
    let mut tick = tokio::time::interval(LOOK_EVERY);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    tick.tick().await;
    let mut troubles = Troubles::default();
    loop {
        for _ in 0..LOOKS {
            tick.tick().await;
            for change in troubles.look(context.circuits.view(), Instant::now()) {
                tell(&change);
            }
            context.reports.set_in_trouble(troubles.told());
        }
        context.reports.summarize(Instant::now());
    }
}

fn tell(change: &Change) {
    match change {
        Change::Begun { circuit: View { organization, origin, state, cause, .. } } => {
            // Attempts that hang have not ended yet, so they give no cause.
            let (reason, status) = cause.map_or(("no_answer", None), |cause| (cause.reason, cause.status));
            warn!(organization, origin, state = state.label(), reason, status, "target in trouble");
        }
        Change::Recovered { circuit: View { organization, origin, .. }, after } => {
            info!(organization, origin, "target recovered after {} s", after.as_secs());
        }
    }
}
