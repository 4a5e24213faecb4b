//! Upstream: publishes numbered events until each is confirmed and not returned, whatever breaks meanwhile, as the
//! README requires.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    time::Duration,
};

use futures::{FutureExt, StreamExt, stream::FuturesUnordered};
use lapin::{
    BasicProperties, Channel, Confirmation, Connection, ConnectionProperties,
    options::{BasicPublishOptions, ConfirmSelectOptions},
};

use super::ledger::Event;

/// Confirms in flight.
const IN_FLIGHT: usize = 50;

/// Limit of the wait for a confirm. After it, upstream publishes again.
const CONFIRM: Duration = Duration::from_secs(10);

/// A publisher. Tests can query its progress while it works.
#[derive(Clone)]
pub struct Upstream {
    urls: Vec<String>,
    done: Arc<Mutex<Vec<Event>>>,
    /// The highest number of an event that has been published, confirmed or not.
    latest: Arc<AtomicU32>,
    /// Whether no new events are published.
    held: Arc<AtomicBool>,
}

impl Upstream {
    /// Creates an upstream that publishes to the first of these brokers that accepts a connection.
    pub fn new(urls: Vec<String>) -> Upstream {
        Upstream { urls, done: Arc::default(), latest: Arc::default(), held: Arc::default() }
    }

    /// Returns the events that have been confirmed so far.
    pub fn confirmed(&self) -> Vec<Event> {
        self.done.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Counts them.
    pub fn count(&self) -> usize {
        self.done.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// Returns the highest number of an event that has been published, confirmed or not.
    pub fn latest(&self) -> u32 {
        self.latest.load(Ordering::Relaxed)
    }

    /// Publishes no more new events. Those already published continue until their confirms.
    pub fn hold(&self) {
        self.held.store(true, Ordering::Relaxed);
    }

    /// Publishes all events, `rate` a second, or as fast as they are confirmed if `rate` is 0.
    pub async fn publish(&self, events: Vec<Event>, rate: u32) {
        let mut todo = events;
        todo.reverse();
        self.held.store(false, Ordering::Relaxed);
        let mut broker = 0;
        while !todo.is_empty() {
            let url = &self.urls[broker % self.urls.len()];
            broker += 1;
            let connecting = tokio::time::timeout(CONFIRM, connect(url));
            let Ok(Ok((connection, channel))) = connecting.await else {
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            };
            self.publish_on(&channel, &mut todo, rate).await;
            let _ = tokio::time::timeout(Duration::from_millis(200), connection.close(200, "".into())).await;
        }
    }

    /// Publishes on one channel until everything is done or a publish fails. Unfinished events go back to `todo`.
    async fn publish_on(&self, channel: &Channel, todo: &mut Vec<Event>, rate: u32) {
        let mut pace = tokio::time::interval(Duration::from_micros(1_000_000 / u64::from(rate.max(1))));
        pace.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Burst);
        let mut under_way = FuturesUnordered::new();
        let mut broken = false;
        loop {
            if self.held.load(Ordering::Relaxed) {
                todo.retain(|event| event.publishes > 0);
            }
            let room = !broken && under_way.len() < IN_FLIGHT && !todo.is_empty();
            if under_way.is_empty() && !room {
                return;
            }
            tokio::select! {
                Some(first) = under_way.next() => {
                    let mut ready = vec![first];
                    while let Some(Some(next)) = under_way.next().now_or_never() {
                        ready.push(next);
                    }
                    // lapin attaches a returned message to the next confirm that completes. So one bad result makes
                    // those beside it and after it doubtful.
                    broken |= ready.iter().any(|(_, ok)| !ok);
                    let events = ready.into_iter().map(|(event, _)| event);
                    match broken {
                        true => todo.extend(events),
                        false => self.done.lock().unwrap_or_else(PoisonError::into_inner).extend(events),
                    }
                }
                _ = pace.tick(), if room && rate > 0 => under_way.push(publish(channel, self.next(todo))),
                () = std::future::ready(()), if room && rate == 0 => under_way.push(publish(channel, self.next(todo))),
            }
        }
    }

    fn next(&self, todo: &mut Vec<Event>) -> Event {
        let mut event = todo.pop().expect("there is room only where there is an event");
        self.latest.fetch_max(event.number, Ordering::Relaxed);
        event.publishes += 1;
        event
    }
}

async fn connect(url: &str) -> lapin::Result<(Connection, Channel)> {
    let name = ConnectionProperties::default().with_connection_name("upstream".into());
    let connection = Connection::connect(url, name).await?;
    let channel = connection.create_channel().await?;
    channel.confirm_select(ConfirmSelectOptions::default()).await?;
    Ok((connection, channel))
}

async fn publish(channel: &Channel, event: Event) -> (Event, bool) {
    let properties = BasicProperties::default()
        .with_delivery_mode(2)
        .with_content_type("application/json".into())
        .with_message_id(event.message_id.as_str().into());
    let options = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
    let publishing = async {
        let confirm =
            channel.basic_publish("lead.events".into(), "lead.test".into(), options, event.body.as_bytes(), properties);
        confirm.await?.await
    };
    let ok = matches!(tokio::time::timeout(CONFIRM, publishing).await, Ok(Ok(Confirmation::Ack(None))));
    (event, ok)
}
