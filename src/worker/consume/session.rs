//! One consuming connection, from connecting until it is lost or the worker stops.
//!
//! Each intake has its own session. Losing one connection does not raise the delivery count of messages on the other.
//! The session of jobs also keeps the topology: it declares the queues when it connects, and then watches them. No
//! message from upstream travels on that connection.
//!
//! A session consumes only while the gate is open. When the gate has been closed for 10 s ([`super::suspensions`]), the
//! session cancels its consumer and gives back the prefetched messages. So an alarm that outlasts `consumer_timeout`
//! raises the delivery count of each message by at most one.

use std::{
    fmt,
    sync::Arc,
    time::{Duration, Instant},
};

use lapin::types::ShortString;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info};

use super::{
    intake,
    liveness::{self, Dead},
    presence,
    shared::Shared,
    source::Source,
    suspensions::Suspensions,
    topology_watch,
};
use crate::{
    broker::{
        Intake,
        connection::{self, Connection},
        topology::{self, TopologyError},
    },
    health::{ConsumeState, TopologyState},
    worker::{context::Context, message::consumer_state::ConsumerState, settle::gate::Gate, upkeep},
};

/// Longest wait for the broker while declaring, and again while starting to consume. A broker that is starting may
/// accept a request and never answer it.
const SETTING_UP: Duration = Duration::from_secs(20);

/// Longest wait for events in flight when a session ends on a healthy connection. Nothing is consumed meanwhile.
const SETTLING: Duration = Duration::from_secs(5);

/// How long a consuming connection stays open after the last ack. A busy RabbitMQ delays acks, and forgets the delayed
/// ones when their channel closes: 17 of 600 on 3.10, none with this pause (measured).
pub(crate) const LAST_ACKS: Duration = Duration::from_secs(1);

/// How often a session that does not consume checks whether its connection still exists.
const LOOK: Duration = Duration::from_secs(1);

/// How a session ended.
pub(crate) enum End {
    /// A stop was requested. Work in flight still needs the connection, if there was one.
    Stopped(Option<Box<Open>>),
    /// The topology is wrong.
    Topology(TopologyError),
    /// The connection, channel or consumer was lost: start again.
    Lost {
        /// For the log; contains no credentials.
        why: String,
        /// Whether the session had begun to consume.
        consumed: bool,
    },
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

/// The connection that work in flight still needs, and the channel on which its receipts are valid.
pub(crate) struct Open {
    pub(crate) connection: Connection,
    _source: Option<Source>,
}

/// One intake on one connection.
pub(crate) struct Session<'a> {
    pub(crate) context: &'a Arc<Context>,
    pub(crate) intake: Intake,
    pub(crate) shared: &'a Shared,
    pub(crate) shutdown: &'a CancellationToken,
}

/// Why a session stops consuming, for good or until the gate opens.
enum StopReason {
    /// A stop was requested.
    Stop,
    /// The consumer, channel or connection was lost.
    Ended(String),
    /// The broker does not answer.
    Dead(Dead),
    /// Consuming is suspended: the gate has been closed for long, or the session of jobs found the topology wrong.
    Suspended,
    /// The topology watch found a queue with other arguments.
    Topology(TopologyError),
}

impl Session<'_> {
    /// Connects, ensures the topology and consumes until something ends the session. `first` is the number of the
    /// broker to try first; afterwards it is the number of the next one.
    pub(crate) async fn run(&self, first: &mut usize) -> End {
        match self.shutdown.run_until_cancelled(self.open(first)).await {
            None => End::Stopped(None),
            Some(Err(end)) => end,
            Some(Ok((connection, source))) => self.consume(connection, source).await,
        }
    }

    async fn open(&self, first: &mut usize) -> Result<(Connection, Source), End> {
        let connecting = connection::connect_in_turn(&self.context.settings.amqp, self.intake.name(), *first);
        *first += 1;
        let (connection, number) = connecting.await.map_err(not_begun)?;
        *first = number + 1;
        upkeep::note_broker(self.context, self.intake, &connection);
        let declaring = tokio::time::timeout(SETTING_UP, self.declare(&connection));
        declaring.await.map_err(|_| silent("declaring the topology"))??;
        let (queue, prefetch) = source_of(self.intake, self.context);
        let opening = tokio::time::timeout(SETTING_UP, Source::open(&connection, queue, prefetch));
        let source = opening.await.map_err(|_| silent("opening a channel"))?.map_err(not_begun)?;
        Ok((connection, source))
    }

    /// Jobs: declares the whole topology, or only verifies it. Events: declares the events queue once the rest exists,
    /// because it may have been deleted under its consumer (see [`topology::declare_again`]).
    async fn declare(&self, connection: &Connection) -> Result<(), End> {
        let (plan, declare) = (&self.context.plan, self.context.settings.topology.declare);
        match self.intake {
            Intake::Jobs => {
                let declared = match declare {
                    true => topology::declare(connection, plan).await,
                    false => topology::verify(connection, plan).await,
                };
                declared.map_err(|problem| self.judge(problem))?;
                self.context.health.set_topology(TopologyState::Ok);
                self.shared.set_topology(true);
                Ok(())
            }
            Intake::Events if declare && self.shared.is_topology_ok() => {
                topology::declare_events(connection, plan).await.map_err(not_begun)
            }
            Intake::Events => Ok(()),
        }
    }

    /// Returns how the session ends after this problem. A lost connection says nothing about the queues, so events are
    /// consumed as before.
    fn judge(&self, problem: TopologyError) -> End {
        if let TopologyError::Problems { .. } = problem {
            self.context.health.set_topology(TopologyState::Problem(problem.to_string()));
            self.shared.set_topology(false);
            return End::Topology(problem);
        }
        not_begun(problem)
    }

    async fn consume(&self, connection: Connection, source: Source) -> End {
        let state = source.state();
        let mut source = Some(source);
        let mut consumed = false;
        let url = connection.url().to_owned();
        let publisher = &self.context.publisher;
        let mut distrusted = publisher.distrust().watch(&url, publisher.shared().has_others());
        let ended = tokio::select! {
            ended = self.consume_in_turns(&connection, &state, &mut source, &mut consumed) => ended,
            () = distrusted.told() => StopReason::Dead(Dead::of(format!("{url} does not serve the queues"))),
        };
        let why = match ended {
            StopReason::Dead(Dead { why, blames_broker }) => {
                if blames_broker {
                    publisher.distrust().tell(&url);
                }
                // Nothing can be given back. Receipts become invalid at once, so that attempts in flight know that
                // their jobs come again.
                state.abandon();
                abandon(connection);
                return End::Lost { why, consumed };
            }
            StopReason::Stop | StopReason::Suspended => Ok("stopping".to_owned()),
            StopReason::Ended(why) => Ok(why),
            StopReason::Topology(problem) => Err(problem),
        };
        if connection.status().connected() {
            // The connection is healthy: a queue was deleted, or its leader is gone. Messages in flight can still be
            // acked.
            self.shutdown.run_until_cancelled(self.settle(&state)).await;
        }
        if self.shutdown.is_cancelled() {
            return End::Stopped(Some(Box::new(Open { connection, _source: source })));
        }
        // Receipts become invalid with the connection, so that attempts in flight know that their jobs come again.
        let _ = tokio::time::timeout(Duration::from_secs(1), connection.close(200, "starting again".into())).await;
        match why {
            Ok(why) => End::Lost { why, consumed },
            Err(problem) => self.judge(problem),
        }
    }

    /// Consumes whenever the gate is open, until something ends the session.
    async fn consume_in_turns(
        &self,
        connection: &Connection,
        state: &Arc<ConsumerState>,
        kept: &mut Option<Source>,
        consumed: &mut bool,
    ) -> StopReason {
        let mut gate = self.context.gate();
        let (other, _) = source_of(self.intake.other(), self.context);
        let mut suspensions = Suspensions::default();
        let mut watching = std::pin::pin!(async {
            match self.intake {
                Intake::Jobs => tokio::select! {
                    problem = topology_watch::watch(connection, self.context) => problem,
                    never = presence::watch(connection, self.context) => match never {},
                },
                Intake::Events => std::future::pending().await,
            }
        });
        loop {
            if let Some(closed) = self.closed(&mut gate) {
                self.shared.connected(self.intake);
                self.context.health.set_consuming(self.intake, ConsumeState::Suspended(closed));
                tokio::select! {
                    () = self.opened(&mut gate) => {}
                    problem = &mut watching => return StopReason::Topology(problem),
                    () = lost(connection) => return StopReason::Ended("the connection is lost".to_owned()),
                    () = self.shutdown.cancelled() => return StopReason::Stop,
                }
            }
            let Some(mut source) = kept.take() else { return StopReason::Stop };
            let begin = tokio::time::timeout(SETTING_UP, source.begin(connection));
            match self.shutdown.run_until_cancelled(begin).await {
                Some(Ok(Ok(()))) => {}
                Some(Ok(Err(error))) => return StopReason::Ended(connection::words(&error)),
                Some(Err(_)) => return StopReason::Ended(no_answer("starting to consume")),
                None => {
                    *kept = Some(source);
                    return StopReason::Stop;
                }
            }
            self.context.health.set_consuming(self.intake, ConsumeState::Consuming);
            self.shared.begun(self.context, self.intake);
            *consumed = true;
            let token = self.shutdown.child_token();
            // Another connection may report this broker, and then this future is dropped. The guard stops the intake in
            // that case too.
            let stop = token.clone().drop_guard();
            // A task of its own, so that a message wakes only its intake.
            let taking = tokio::spawn(intake::run(self.context.clone(), self.intake, source, token));
            let mut taking = std::pin::pin!(taking);
            let mut reason = tokio::select! {
                ended = &mut taking => {
                    let ended = joined(ended);
                    *kept = Some(ended.source);
                    return ended.why.map_or(StopReason::Stop, StopReason::Ended);
                }
                problem = &mut watching => StopReason::Topology(problem),
                dead = liveness::watch(connection, state, other, self.context.settings.amqp.heartbeat) => {
                    StopReason::Dead(dead)
                }
                () = self.closed_for_long(&mut gate, &suspensions) => StopReason::Suspended,
            };
            drop(stop);
            if matches!(reason, StopReason::Dead(_)) {
                return reason;
            }
            let ended = joined(taking.await);
            *kept = Some(ended.source);
            match (ended.why, ended.gave_back) {
                (Some(why), _) if matches!(reason, StopReason::Suspended) => reason = StopReason::Ended(why),
                (None, false) if matches!(reason, StopReason::Suspended) => {
                    reason = StopReason::Ended(no_answer("giving back"));
                }
                _ => {}
            }
            if !matches!(reason, StopReason::Suspended) || self.shutdown.is_cancelled() {
                return reason;
            }
            suspensions.suspended(Instant::now());
            let (queue, closed) = (self.intake.name(), self.closed(&mut gate));
            info!(
                queue,
                reason = closed,
                "consuming is suspended, and the messages that were not started are given back"
            );
        }
    }

    /// Returns the reason if the intake must not consume now, else `None`.
    fn closed(&self, gate: &mut Gate) -> Option<String> {
        match self.may_use_topology() {
            true => gate.closed(),
            false => Some("the queues on the broker do not match the expected topology".to_owned()),
        }
    }

    /// Returns whether the topology may be used. The session of jobs finds out by trying.
    fn may_use_topology(&self) -> bool {
        self.intake == Intake::Jobs || self.shared.is_topology_ok()
    }

    async fn opened(&self, gate: &mut Gate) {
        while self.closed(gate).is_some() {
            if self.intake == Intake::Events {
                self.shared.topology_is(true).await;
            }
            gate.opened().await;
        }
    }

    /// Waits until consuming should be suspended; a wrong topology suspends it at once.
    async fn closed_for_long(&self, gate: &mut Gate, suspensions: &Suspensions) {
        let topology_is_wrong = async {
            match self.intake {
                Intake::Events => self.shared.topology_is(false).await,
                Intake::Jobs => std::future::pending().await,
            }
        };
        tokio::select! {
            () = suspensions.due(gate) => {}
            () = topology_is_wrong => {}
        }
    }

    /// Waits until the events in flight are settled, or else each would be dispatched again. Then waits until the
    /// broker has processed the acks. Does not wait for attempts: they take as long as a receiver does, and the memory
    /// knows them.
    async fn settle(&self, state: &ConsumerState) {
        if self.intake == Intake::Events {
            debug!("the intake has ended, settling the events in flight");
            let _ = tokio::time::timeout(SETTLING, state.settled()).await;
        }
        tokio::time::sleep(LAST_ACKS).await;
    }
}

/// Returns the intake's queue, and how many of its messages the broker sends ahead.
fn source_of(intake: Intake, context: &Context) -> (&ShortString, u16) {
    let (names, delivery) = (context.plan.names(), &context.settings.delivery);
    match intake {
        Intake::Events => (&names.events, delivery.event_prefetch),
        Intake::Jobs => (&names.jobs, delivery.job_prefetch()),
    }
}

/// Returns how the intake ended. A panic in it is a bug, and ends the process.
fn joined(ended: Result<intake::End, tokio::task::JoinError>) -> intake::End {
    match ended {
        Ok(end) => end,
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    }
}

/// Waits until the connection is lost.
async fn lost(connection: &Connection) {
    let mut tick = tokio::time::interval(LOOK);
    while connection.status().connected() {
        tick.tick().await;
    }
}

/// Abandons a connection that does not answer, without waiting for it to close.
fn abandon(connection: Connection) {
    tokio::spawn(async move {
        let _ = tokio::time::timeout(SETTING_UP, connection.close(200, "starting again".into())).await;
    });
}

fn not_begun(error: impl fmt::Display) -> End {
    End::Lost { why: error.to_string(), consumed: false }
}

fn silent(what: &str) -> End {
    not_begun(no_answer(what))
}

/// Returns the words for a missing answer. A quorum queue without a leader accepts a consumer's request and never
/// answers it.
fn no_answer(what: &str) -> String {
    let limit = SETTING_UP.as_secs();
    format!("the broker did not answer within {limit} s while {what} (does every queue have a leader?)")
}
