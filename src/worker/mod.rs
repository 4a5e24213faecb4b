//! The worker: joins store, broker and sender under the settling rules (ARCHITECTURE.md).
//!
//! ```text
//!  session  --> consumes events --> dispatch --> record (jobs)                      --> ack
//!  session  --> consumes jobs   --> deliver  --> attempt --> record (delay, failed) --> ack
//!     '-- each on its own connection; when it is lost, another session follows (`consume`)
//!  gate     : nothing starts while outcomes cannot be recorded
//!  memory   : what was done with a copy whose ack was lost
//!  record   : nothing is acked before its successor is confirmed
//! ```
//!
//! Attempts belong to the worker, not to a session. An attempt that runs when the connection is lost finishes, and its
//! result is used when the broker redelivers the job.

mod attempt;
mod consume;
mod context;
mod defer_newer;
mod deliver;
mod dispatch;
mod message;
#[cfg(test)]
mod model;
pub mod poison;
mod post;
mod read_event;
mod reject;
mod report;
mod settle;
mod slots;
mod upkeep;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use self::consume::{LAST_ACKS, Open};
pub use self::{
    context::Context,
    poison::{child_process::Recipe, children::Children},
    slots::Slots,
};
use crate::{
    broker::{publisher::Link, topology::TopologyError},
    delivery_log, failpoint,
    health::BrokerState,
};

/// How long a stop may take after the grace period if the broker does not answer. The admin port may take another half
/// second, so a stop ends within `shutdown.grace` plus 3 s.
const GOODBYE: Duration = Duration::from_millis(2500);

/// How the worker ended.
#[derive(Debug)]
pub enum End {
    /// Everything in flight was settled.
    Clean,
    /// The grace period ended. This many messages were abandoned and will be redelivered.
    Abandoned(usize),
    /// The worker never started: the topology is wrong, and waiting will not fix it.
    CannotStart(TopologyError),
}

/// Runs until `shutdown`, and reconnects for as long as necessary. Ends within `shutdown.grace` plus 3 s of it,
/// whatever the broker does.
pub async fn run(context: Arc<Context>, shutdown: CancellationToken) -> End {
    let watching = [
        tokio::spawn(watch_links(context.clone())),
        tokio::spawn(report::summary::watch(context.clone())),
        tokio::spawn(upkeep::watch_files(context.clone())),
        tokio::spawn(upkeep::watch_policies(context.clone())),
        tokio::spawn(upkeep::watch_proxy(context.clone())),
    ];
    let grace = context.settings.shutdown.grace;
    let over = async {
        shutdown.cancelled().await;
        tokio::time::sleep(grace).await;
    };
    let mut over = std::pin::pin!(over);
    let consumed = tokio::select! {
        consumed = consume::consume(&context, &shutdown) => Some(consumed),
        () = &mut over => None,
    };
    let end = match consumed {
        Some(Err(problem)) => End::CannotStart(problem),
        Some(Ok(open)) => finish(&context, open, over).await,
        None => finish(&context, Vec::new(), std::future::ready(())).await,
    };
    watching.iter().for_each(|task| task.abort());
    end
}

/// Settles the work in flight until the grace period is `over`, and closes the connections.
async fn finish(context: &Context, open: Vec<Open>, over: impl Future<Output = ()>) -> End {
    failpoint::hit("stop.consumers_ended", "");
    let end = drain(context, over).await;
    context.reports.summarize(Instant::now());
    let _ = tokio::time::timeout(GOODBYE, say_goodbye(context, open)).await;
    end
}

/// Waits for the work in flight until the grace period is `over`.
async fn drain(context: &Context, over: impl Future<Output = ()>) -> End {
    context.tasks.close();
    if !context.tasks.is_empty() {
        let grace_s = context.settings.shutdown.grace.as_secs();
        info!(in_flight = context.tasks.len(), grace_s, "finishing attempts in flight");
    }
    tokio::select! {
        biased;
        () = context.tasks.wait() => End::Clean,
        () = over => End::Abandoned(context.tasks.len()),
    }
}

/// Writes the rest of the delivery log and closes all connections, concurrently.
async fn say_goodbye(context: &Context, consuming: Vec<Open>) {
    let publishing = async {
        context.log.close(delivery_log::writer::CLOSING).await;
        context.publisher.close().await;
    };
    let consuming = async {
        if !consuming.is_empty() {
            tokio::time::sleep(LAST_ACKS).await;
        }
        let closing = consuming.iter().map(|open| open.connection.close(200, "goodbye".into()));
        futures::future::join_all(closing).await;
    };
    tokio::join!(publishing, consuming);
}

/// Keeps readiness, metrics and log up to date about publishing and about outcomes that wait.
async fn watch_links(context: Arc<Context>) {
    let (mut link, mut waiting) = (context.publisher.link(), context.waiting.watch());
    let mut blocked = false;
    loop {
        let state = link.borrow_and_update().clone();
        match &state {
            Link::Ready => context.health.set_publishing(BrokerState::Connected),
            Link::Blocked(_) => context.health.set_publishing(BrokerState::Blocked),
            Link::Lost(why) => context.health.set_publishing(BrokerState::Lost(why.clone())),
        }
        match &state {
            Link::Blocked(reason) if !blocked => warn!(reason, "the broker blocks publishing; no new attempt starts"),
            Link::Ready if blocked => info!("the broker takes messages again"),
            Link::Blocked(_) | Link::Ready | Link::Lost(_) => {}
        }
        blocked = matches!(state, Link::Blocked(_)) || (blocked && state != Link::Ready);
        let queues = waiting.borrow_and_update().clone();
        context.metrics.set_waiting_outcomes(queues.values().sum());
        context.health.set_waiting(queues);
        let changed = tokio::select! {
            changed = link.changed() => changed,
            changed = waiting.changed() => changed,
        };
        if changed.is_err() {
            return;
        }
    }
}
