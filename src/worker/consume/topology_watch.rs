//! Watches the topology during a session: an operator may delete a queue, unbind it, or replace it.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use lapin::Connection;
use tracing::warn;

use crate::{
    broker::topology::{self, Existence, TopologyError},
    worker::context::Context,
};

/// How often the queues are checked. No message is taken from them for that.
const EVERY: Duration = Duration::from_secs(10);

/// Longest wait for the broker while counting, and again while declaring.
const LIMIT: Duration = Duration::from_secs(10);

/// The error when the broker takes longer.
const SILENT: &str = "the broker does not answer";

/// Counts the messages on every queue. If Leadhook owns the topology, declares missing queues and bindings again. Ends
/// when one of our queues exists with other arguments, because a message on it may never come back.
///
/// Uses a consuming connection, because an alarm never blocks it and no publish waits behind it.
pub(crate) async fn watch(connection: &Connection, context: &Context) -> TopologyError {
    let mut tick = tokio::time::interval(EVERY);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let (mut missing, mut counting, mut declaring) = (BTreeSet::new(), Trouble::default(), Trouble::default());
    loop {
        tick.tick().await;
        let counted = tokio::time::timeout(LIMIT, count(connection, context)).await;
        // If the connection is lost, the session ends and reports it.
        if !connection.status().connected() {
            continue;
        }
        match counted.map_err(|_| SILENT.to_owned()).and_then(|counted| counted.map_err(|error| error.to_string())) {
            Ok(now) => {
                now.difference(&missing).for_each(|queue| warn!(queue, "a queue is missing"));
                (missing, counting) = (now, Trouble::default());
            }
            Err(error) if counting.is_new(&error) => warn!(error, "cannot count the messages on the queues"),
            Err(_) => {}
        }
        if !context.settings.topology.declare {
            continue;
        }
        match tokio::time::timeout(LIMIT, topology::declare_again(connection, &context.plan)).await {
            Ok(Ok(())) => declaring = Trouble::default(),
            Ok(Err(problem)) if problem.is_foreign() => return problem,
            _ if !connection.status().connected() => {}
            Ok(Err(error)) if declaring.is_new(&error.to_string()) => warn!(%error, "cannot declare the queues"),
            Err(_) if declaring.is_new(SILENT) => warn!(error = SILENT, "cannot declare the queues"),
            Ok(Err(_)) | Err(_) => {}
        }
    }
}

/// The last error of a check. The same error is logged once, not every ten seconds.
#[derive(Default)]
struct Trouble(Option<String>);

impl Trouble {
    fn is_new(&mut self, error: &str) -> bool {
        self.0.replace(error.to_owned()).as_deref() != Some(error)
    }
}

/// Reports the lengths of the queues to metrics and readiness. Returns the names of the missing queues.
async fn count(connection: &Connection, context: &Context) -> Result<BTreeSet<String>, TopologyError> {
    let seen = topology::queues(connection, &context.plan).await?;
    let own = format!("{}.", context.settings.amqp.prefix);
    let short = |queue: &str| queue.strip_prefix(&own).unwrap_or(queue).to_owned();
    let counts = seen.iter().filter_map(|(queue, existence)| Some((short(queue), existence.count()?.ready)));
    let ready: BTreeMap<_, _> = counts.collect();
    context.metrics.set_queue_messages(ready.iter().map(|(queue, ready)| (queue.as_str(), *ready)));
    context.health.set_queue_counts(ready);
    context.metrics.set_not_empty(context.health.not_empty());
    Ok(seen.into_iter().filter(|(_, existence)| *existence == Existence::Missing).map(|(queue, _)| queue).collect())
}
