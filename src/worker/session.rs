//! One consume connection, from connecting to its loss or the stop.

use std::{
    fmt,
    time::{Duration, Instant},
};

use lapin::Channel;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info};

use super::{
    Context, intake,
    outage::Course,
    pulse::{self, Ward},
    source::Source,
    tend,
};
use crate::{
    admin::{BrokerState, TopologyState},
    broker::{
        connection::{self, Connection},
        topology::{self, TopologyError},
    },
};

/// Longest wait for the broker while declaring, and again while starting to consume. A broker that is coming up may
/// take a request and never answer it.
const SETTING_UP: Duration = Duration::from_secs(20);

/// Longest wait for events in flight when a session ends on a connection that is well: meanwhile nothing is consumed.
const SETTLING: Duration = Duration::from_secs(5);

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

/// Connects, makes sure of the topology and consumes until something ends it. Tells `course` once it consumes.
///
/// `broker` is the number of the broker to try first.
pub(super) async fn run(
    context: &std::sync::Arc<Context>,
    shutdown: &CancellationToken,
    course: &mut Course,
    broker: usize,
) -> End {
    let connecting = connection::connect(&context.settings.amqp, "consume", broker);
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
    let first = !course.started;
    if let Some(outage) = course.consumes() {
        info!("broker reachable again after {} s", outage.seconds(Instant::now()));
    }
    match first {
        true => info!("ready"),
        false => context.metrics.reconnected("consume"),
    }
    // Either intake ending ends the other: half a worker is a worker that lies about being ready.
    let stop = shutdown.child_token();
    let wards = [jobs.ward(), events.ward()];
    let intakes = async {
        let (jobs, events) = tokio::join!(
            stopping(&stop, intake::jobs(context, jobs, &stop)),
            stopping(&stop, intake::events(context, events, &stop)),
        );
        ([jobs.channel, events.channel], jobs.why.or(events.why))
    };
    let mut intakes = std::pin::pin!(intakes);
    let ((channels, mut why), mut problem) = tokio::select! {
        ended = &mut intakes => (ended, None),
        problem = tend::watch(&connection, context) => {
            stop.cancel();
            (intakes.await, Some(problem))
        }
        why = pulse::watch(&connection, wards.clone(), context.settings.amqp.heartbeat) => {
            // There is nobody to give anything back to. Receipts turn bad at once, so that attempts in flight know that
            // their jobs come again.
            wards.iter().for_each(|ward| ward.abandon());
            abandon(connection);
            return End::Lost { why, consumed: true };
        }
    };
    if connection.status().connected() {
        // It is well: a queue was deleted, or its leader is gone. What is in flight can still be acked.
        let [_, events] = &wards;
        shutdown.run_until_cancelled(settle(events)).await;
    }
    if shutdown.is_cancelled() {
        return End::Stopped(Some(Box::new(Open { connection, _channels: channels })));
    }
    // Receipts of this connection turn bad with it, so that its attempts know that their jobs come again.
    let _ = tokio::time::timeout(Duration::from_secs(1), connection.close(200, "starting anew".into())).await;
    match problem.take() {
        Some(problem) => {
            context.health.set_topology(TopologyState::Problem(problem.to_string()));
            End::Topology(problem)
        }
        None => End::Lost { why: why.take().unwrap_or_else(|| "a consumer ended".into()), consumed: true },
    }
}

/// Waits until the events in flight are settled and the broker has taken in their acks, or each of them would be dispatched
/// again. Attempts are not waited for: they may take as long as a receiver does, and the memory knows them.
async fn settle(events: &Ward) {
    debug!("an intake has ended, settling the events in flight");
    let _ = tokio::time::timeout(SETTLING, events.settled()).await;
    tokio::time::sleep(super::LAST_ACKS).await;
}

/// Lets go of a connection that does not answer, without waiting for its goodbye.
fn abandon(connection: Connection) {
    tokio::spawn(async move {
        let _ = tokio::time::timeout(SETTING_UP, connection.close(200, "starting anew".into())).await;
    });
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
