//! One consume connection, from connecting to its loss or the stop.

use std::{collections::BTreeMap, fmt, time::Duration};

use lapin::{Channel, Connection};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::{Context, intake, source::Source};
use crate::{
    admin::{BrokerState, TopologyState},
    broker::{
        connection,
        topology::{self, TopologyError},
    },
};

/// How often the queues are counted, with passive declares only (rule 8).
const COUNT_EVERY: Duration = Duration::from_secs(10);

/// Longest wait for the broker while declaring, and again while starting to consume. A broker that is coming up may
/// take a request and never answer it.
const SETTING_UP: Duration = Duration::from_secs(20);

/// How a session ended.
pub(super) enum End {
    /// The stop was asked for; what is in flight still needs the connection, if there was one.
    Stopped(Option<Box<Open>>),
    /// The topology is not as it must be.
    Topology(TopologyError),
    /// Connection, channel or consumer lost: start anew.
    Lost {
        /// For the log; names no credentials.
        why: String,
        /// Whether it had come as far as consuming.
        consumed: bool,
    },
}

/// What in-flight work still needs: the connection, and the channels that its receipts are good on.
pub(super) struct Open {
    pub(super) connection: Connection,
    _channels: [Channel; 2],
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            End::Stopped(_) => f.write_str("stopping"),
            End::Topology(problem) => problem.fmt(f),
            End::Lost { why, .. } => f.write_str(why),
        }
    }
}

/// Connects, makes sure of the topology and consumes until something ends it. Sets `started` once it consumes.
pub(super) async fn run(context: &std::sync::Arc<Context>, shutdown: &CancellationToken, started: &mut bool) -> End {
    let connecting = connection::connect(&context.settings.amqp, "consume");
    let connection = match shutdown.run_until_cancelled(connecting).await {
        None => return End::Stopped(None),
        Some(Err(error)) => return End::Lost { why: error.to_string(), consumed: false },
        Some(Ok(connection)) => connection,
    };
    let declaring = async {
        match context.settings.topology.declare {
            true => topology::declare(&connection, &context.plan).await,
            false => topology::verify(&connection, &context.plan).await,
        }
    };
    match shutdown.run_until_cancelled(tokio::time::timeout(SETTING_UP, declaring)).await {
        None => return End::Stopped(None),
        Some(Ok(Ok(()))) => {}
        Some(Ok(Err(problem))) => {
            context.health.set_topology(TopologyState::Problem(problem.to_string()));
            return End::Topology(problem);
        }
        Some(Err(_)) => return silent("declaring the topology"),
    }
    context.health.set_topology(TopologyState::Ok);
    let names = context.plan.names();
    let delivery = &context.settings.delivery;
    let consuming = async {
        let jobs = Source::open(&connection, &names.jobs, delivery.job_prefetch()).await?;
        let events = Source::open(&connection, &names.events, delivery.event_prefetch).await?;
        Ok::<_, lapin::Error>((jobs, events))
    };
    let (jobs, events) = match shutdown.run_until_cancelled(tokio::time::timeout(SETTING_UP, consuming)).await {
        None => return End::Stopped(None),
        Some(Ok(Ok(both))) => both,
        Some(Ok(Err(error))) => return End::Lost { why: error.to_string(), consumed: false },
        Some(Err(_)) => return silent("starting the consumers"),
    };
    context.health.set_consuming(BrokerState::Connected);
    if !std::mem::replace(started, true) {
        info!("ready");
    } else {
        context.metrics.reconnected("consume");
        info!("consuming again");
    }
    // Either intake ending ends the other: half a worker is a worker that lies about being ready.
    let stop = shutdown.child_token();
    let counting = tokio::spawn(count_queues(context.clone(), stop.clone()));
    let guard = stop.clone().drop_guard();
    let (jobs_end, events_end) = tokio::join!(
        stopping(&stop, intake::jobs(context, jobs, &stop)),
        stopping(&stop, intake::events(context, events, &stop)),
    );
    drop(guard);
    counting.abort();
    if shutdown.is_cancelled() {
        let _channels = [jobs_end.channel, events_end.channel];
        return End::Stopped(Some(Box::new(Open { connection, _channels })));
    }
    // Receipts of this connection turn bad with it, so that its attempts know that their jobs come again.
    let _ = tokio::time::timeout(Duration::from_secs(1), connection.close(200, "starting anew".into())).await;
    let why = jobs_end.why.or(events_end.why).unwrap_or_else(|| "a consumer ended".into());
    End::Lost { why, consumed: true }
}

/// A quorum queue without a leader takes a consumer's request and never answers it.
fn silent(what: &str) -> End {
    let limit = SETTING_UP.as_secs();
    let why = format!("the broker did not answer within {limit} s while {what} (has each queue a leader?)");
    End::Lost { why, consumed: false }
}

async fn stopping(stop: &CancellationToken, intake: impl Future<Output = intake::End>) -> intake::End {
    let end = intake.await;
    stop.cancel();
    end
}

/// Counts the messages of every queue now and then, on the publishing connection.
async fn count_queues(context: std::sync::Arc<Context>, stop: CancellationToken) {
    let own = format!("{}.", context.settings.amqp.prefix);
    let mut tick = tokio::time::interval(COUNT_EVERY);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    while stop.run_until_cancelled(tick.tick()).await.is_some() {
        let counting = async {
            let connection = context.publisher.shared().get().await.map_err(|error| error.to_string())?;
            topology::counts(&connection, &context.plan).await.map_err(|error| error.to_string())
        };
        match tokio::time::timeout(COUNT_EVERY, counting).await {
            Ok(Ok(counts)) => {
                let short = |queue: &str| queue.strip_prefix(&own).unwrap_or(queue).to_owned();
                let ready: BTreeMap<_, _> = counts.iter().map(|(queue, count)| (short(queue), count.ready)).collect();
                context.metrics.set_queue_messages(ready.iter().map(|(queue, ready)| (queue.as_str(), *ready)));
                context.health.set_queue_counts(ready);
                context.metrics.set_not_empty(context.health.not_empty());
            }
            Ok(Err(error)) => warn!(error, "cannot count the queues"),
            Err(_) => warn!("counting the queues takes too long"),
        }
    }
}
