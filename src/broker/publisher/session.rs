//! One confirm channel, from opening to loss.
//!
//! **Finding the returned message.** The broker sends `basic.return` before the ack of the same message. But lapin
//! (4.12) attaches it to the confirm that completes next, which may be another message's. So a session never assumes
//! that a return belongs to the confirm that carries it. It first collects all confirms that are ready: the one with
//! the return became ready no later than that of the returned message. Then it compares the returned address,
//! `message_id` and body with the messages under way:
//!
//! - If some match, only they count as returned. Their neighbours do not: a queue that is declared between two
//!   publishes takes the second. Publishing that one again would POST it twice.
//! - If none matches, the broker changed something, and every message under way to that address counts as returned.
//! - If there is none to that address, the message that carries the return counts as unclear.
//!
//! The last two may call a routed message *not done*. Publishing it again makes a duplicate with the same `webhook-id`;
//! the opposite mistake would lose it.
//!
//! **A nack** retires the channel. The session publishes nothing new on it, waits for the confirms under way, and opens
//! a new one. RabbitMQ up to 3.12.4 can nack on the old channel indefinitely.

use std::{
    collections::BTreeMap,
    pin::Pin,
    sync::Arc,
    time::{Duration, Instant},
};

use futures::{FutureExt, Stream, StreamExt, future::BoxFuture, stream::FuturesUnordered};
use lapin::{
    Channel, Confirmation, ConnectionStatus, ErrorKind, Event,
    options::{BasicPublishOptions, ConfirmSelectOptions},
};

use super::{
    Actor, Link, Outgoing, PublishError, Request,
    returned::{Identity, Pending, Return},
};
use crate::{
    broker::{
        channel::is_soft,
        connection::{self, ConnectError},
        shared::{self, Shared},
    },
    failpoint,
};

/// Most confirms in flight on a channel; the requirement is at least 50.
const IN_FLIGHT: usize = 256;

/// Interval of checks for an overdue confirm. The shortest `amqp.confirm_timeout` is twice that.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Longest wait for a channel on an open connection.
const OPENING: Duration = Duration::from_secs(10);

/// How a session ended.
pub(super) enum End {
    /// All handles are gone.
    Closed,
    /// The task continues at once with a new channel.
    FreshChannel,
    /// The channel or the connection is lost.
    Lost(String),
}

/// A confirm channel and its connection's events.
pub(super) struct Open {
    channel: Channel,
    events: Pin<Box<dyn Stream<Item = Event> + Send>>,
    status: ConnectionStatus,
    /// The broker's URL without credentials.
    url: String,
}

/// Opens a confirm channel on the shared connection.
pub(super) async fn open(shared: &Shared) -> Result<Open, ConnectError> {
    let connection = shared.get().await?;
    let url = connection.url().to_owned();
    let opening = async {
        let channel = connection::channel(&connection).await?;
        channel.confirm_select(ConfirmSelectOptions::default()).await?;
        Ok(channel)
    };
    let refused = |error| ConnectError::Refused { url: "channel".into(), source: Box::new(error) };
    let silent = |_| ConnectError::Silent { url: "channel".into() };
    let channel = match tokio::time::timeout(OPENING, opening).await.map_err(silent)? {
        Ok(channel) => channel,
        Err(error) => {
            // A connection without channels is useless: the next caller gets another one.
            shared::discard(connection);
            return Err(refused(error));
        }
    };
    let events = Box::pin(connection.events_listener());
    Ok(Open { channel, events, status: connection.status().clone(), url })
}

type Confirm = BoxFuture<'static, (u64, Result<Confirmation, lapin::Error>)>;

struct Session<'a> {
    actor: &'a mut Actor,
    /// In an `Arc`, because a clone of a channel increments a dozen counters.
    channel: Arc<Channel>,
    status: ConnectionStatus,
    url: String,
    next: u64,
    pending: BTreeMap<u64, Pending>,
    confirms: FuturesUnordered<Confirm>,
    blocked: bool,
    retiring: bool,
}

/// Publishes on a channel until it ends.
pub(super) async fn run(actor: &mut Actor, open: Open) -> End {
    let Open { channel, mut events, status, url } = open;
    let blocked = status.blocked();
    let mut distrusted = actor.distrust.watch(&url, actor.shared.has_others());
    let mut session = Session {
        actor,
        channel: Arc::new(channel),
        status,
        url,
        next: 0,
        pending: BTreeMap::new(),
        confirms: FuturesUnordered::new(),
        blocked: false,
        retiring: false,
    };
    if blocked {
        session.block("memory or disk alarm".into());
    }
    // A timer for each message would cost more than a look at intervals.
    let mut look = tokio::time::interval(LOOK_EVERY);
    look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        if session.retiring && session.pending.is_empty() {
            return End::FreshChannel;
        }
        let room = !session.retiring && !session.blocked && session.pending.len() < IN_FLIGHT;
        let waits = !session.pending.is_empty();
        let end = tokio::select! {
            biased;
            Some(first) = session.confirms.next() => session.settle(first),
            event = events.next() => session.react(event),
            () = distrusted.told() => {
                Some(session.lose(PublishError::Lost("its broker does not serve the queues".into())))
            }
            _ = look.tick(), if waits => session.is_late().then(|| session.lose(PublishError::TimedOut)),
            request = session.actor.inbox.recv(), if room => match request {
                Some(request) => { session.start(request); None }
                None if session.pending.is_empty() => Some(End::Closed),
                None => { session.retiring = true; None }
            },
        };
        if let Some(end) = end {
            return end;
        }
    }
}

impl Session<'_> {
    fn start(&mut self, request: Request) {
        let Request { message, wanted, reply } = request;
        if !wanted() {
            // The caller may be gone as well.
            let _ = reply.send(Err(PublishError::Unwanted));
            return;
        }
        let seq = self.next;
        self.next += 1;
        self.pending.insert(seq, Pending { identity: Identity::of(&message), reply, since: Instant::now() });
        let channel = self.channel.clone();
        let queue = message.routing_key.clone();
        // Only this task polls confirms, and it first polls them in this order. So delivery tags have the same order.
        let confirm = async move {
            let options = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
            let Outgoing { exchange, routing_key, properties, body } = *message;
            match channel.basic_publish(exchange, routing_key, options, &body, properties).await {
                Ok(confirm) => {
                    failpoint::hit("publish.sent", queue.as_str());
                    (seq, confirm.await)
                }
                Err(error) => (seq, Err(error)),
            }
        };
        self.confirms.push(confirm.boxed());
    }

    /// Judges all ready confirms together.
    fn settle(&mut self, first: (u64, Result<Confirmation, lapin::Error>)) -> Option<End> {
        let mut ready = vec![first];
        while let Some(Some(next)) = self.confirms.next().now_or_never() {
            ready.push(next);
        }
        let mut returned = BTreeMap::new();
        for (seq, result) in &ready {
            let Some(message) = result.as_ref().ok().and_then(Return::carried) else { continue };
            let meant = message.identity.among(&self.pending);
            if meant.is_empty() {
                returned.insert(*seq, PublishError::Unclear);
            }
            returned.extend(meant.into_iter().map(|seq| (seq, message.error())));
        }
        let mut broken = None;
        for (seq, result) in ready {
            let Some(pending) = self.pending.remove(&seq) else { continue };
            let answer = match result {
                Ok(Confirmation::Ack(_)) => returned.remove(&seq).map_or(Ok(()), Err),
                Ok(Confirmation::Nack(_) | Confirmation::NotRequested) => {
                    self.retiring = true;
                    Err(PublishError::Nacked)
                }
                Err(error) => {
                    let error = lost(&error);
                    broken = Some(error.clone());
                    Err(error)
                }
            };
            self.answer(pending, answer);
        }
        for (seq, error) in returned {
            if let Some(pending) = self.pending.remove(&seq) {
                self.answer(pending, Err(error));
            }
        }
        broken.map(|error| self.lose(error))
    }

    fn react(&mut self, event: Option<Event>) -> Option<End> {
        match event {
            Some(Event::ConnectionBlocked(reason)) => self.block(reason),
            Some(Event::ConnectionUnblocked) => {
                self.blocked = false;
                self.pending.values_mut().for_each(|pending| pending.since = Instant::now());
                self.actor.link.send_replace(Link::Ready);
            }
            // Errors of other users' channels on this connection arrive here too.
            Some(Event::Error(error)) if !(self.status.connected() && self.channel.status().connected()) => {
                return Some(self.lose(lost(&error)));
            }
            None => return Some(self.lose(PublishError::Lost("the connection is gone".into()))),
            Some(_) => {} // lapin's enum is non-exhaustive; the rest does not matter here.
        }
        None
    }

    fn block(&mut self, reason: String) {
        self.blocked = true;
        self.actor.link.send_replace(Link::Blocked(reason));
    }

    /// Answers all messages under way with this error, because none of them is certain any more.
    fn lose(&mut self, error: PublishError) -> End {
        let oldest = self.pending.first_key_value().map(|(_, pending)| pending.identity.routing_key.clone());
        for pending in std::mem::take(&mut self.pending).into_values() {
            self.answer(pending, Err(error.clone()));
        }
        match error {
            // A node that was cut off from its cluster still listens and opens channels, but confirms nothing (from 4.3
            // on). With only one broker, the next channel is on the same connection.
            PublishError::TimedOut => {
                if let Some(queue) = oldest {
                    self.actor.doubts.late(queue, &self.url);
                }
                self.actor.shared.move_on();
                End::FreshChannel
            }
            // The connection still works, so a new channel is enough.
            PublishError::ChannelClosed { .. } => End::FreshChannel,
            other => End::Lost(other.to_string()),
        }
    }

    fn answer(&mut self, pending: Pending, answer: Result<(), PublishError>) {
        if answer.is_ok()
            && let Some(doubted) = self.actor.doubts.confirmed(&pending.identity.routing_key, &self.url)
        {
            self.actor.distrust.tell(&doubted);
        }
        if let Some(metrics) = &self.actor.metrics {
            match &answer {
                Ok(()) => metrics.publish_confirmed(pending.since.elapsed()),
                Err(error) => metrics.publish_failed(error.label()),
            }
        }
        // This fails only if the caller no longer waits.
        let _ = pending.reply.send(answer);
    }

    /// Returns whether the oldest confirm is overdue. Never true while blocked: the broker reads nothing then, so
    /// silence means nothing.
    fn is_late(&self) -> bool {
        let oldest = self.pending.values().next();
        !self.blocked && oldest.is_some_and(|oldest| oldest.since.elapsed() >= self.actor.confirm_timeout)
    }
}

/// Converts an error of lapin by its kind, never by its text.
fn lost(error: &lapin::Error) -> PublishError {
    match error.kind() {
        ErrorKind::ProtocolError(cause) if is_soft(cause) => {
            PublishError::ChannelClosed { code: cause.get_id(), text: cause.get_message().to_string() }
        }
        _ => PublishError::Lost(connection::words(error)),
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use lapin::types::ShortString;
    use tokio::sync::oneshot;

    use super::*;

    fn identity(key: &str, id: &str, body: &'static str) -> Identity {
        Identity {
            exchange: ShortString::default(),
            routing_key: key.into(),
            message_id: Some(id.into()),
            body: Bytes::from_static(body.as_bytes()),
        }
    }

    #[test]
    fn a_return_is_about_its_own_message_or_all_at_its_address() {
        let all =
            [("jobs", "a", "1"), ("jobs", "b", "1"), ("jobs", "a", "2"), ("jobs", "a", "1"), ("failed", "a", "1")];
        let pending = |(key, id, body)| {
            let (reply, _) = oneshot::channel();
            Pending { identity: identity(key, id, body), reply, since: Instant::now() }
        };
        let under_way: BTreeMap<u64, Pending> = (0..).zip(all.map(pending)).collect();
        let meant = |key, id, body| identity(key, id, body).among(&under_way);
        assert_eq!(meant("jobs", "b", "1"), [1], "its neighbours may have reached the queue");
        assert_eq!(meant("jobs", "a", "2"), [2]);
        assert_eq!(meant("jobs", "a", "1"), [0, 3], "equal messages cannot be distinguished");
        assert_eq!(meant("jobs", "a", "3"), [0, 1, 2, 3], "changed by the broker");
        assert_eq!(meant("delay", "a", "1"), Vec::<u64>::new());
    }
}
