//! Writes the delivery log: collects records for a moment, and publishes them to the stream as one message.
//!
//! Writing a record never waits and never fails, because deliveries come first. This has its price:
//!
//! * **A killed process** loses its unconfirmed records. While the stream confirms as fast as records come, these are
//!   the records of the last [`GATHER`] and of the message in flight. Otherwise they are all that it keeps.
//! * **While the stream takes nothing** (missing, full, its leader away), up to [`MOST`] bytes of records are kept,
//!   about 10,000 records. Later records are lost, and counted. Readiness warns meanwhile.
//! * **RabbitMQ confirms a stream's message before it is on the disk**: a machine that loses power loses the last
//!   moment.
//!
//! One task publishes one message at a time, on a channel of its own. So a stream that is missing or refuses messages
//! does not disturb other confirms.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use lapin::{
    BasicProperties, Channel, Confirmation,
    options::{BasicPublishOptions, ConfirmSelectOptions},
};
use tokio::{
    sync::{Notify, watch},
    task::JoinHandle,
};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::{
    batch::{self, writer},
    entry::Entry,
};
use crate::{
    broker::{
        connection,
        pause::Pause,
        publisher::{Link, Publisher},
        shared::Shared,
        topology::{self, Plan, Queue, Retention, Standing},
    },
    health::Health,
    metrics::Metrics,
    settings::Settings,
};

/// How long a record waits for others.
pub const GATHER: Duration = Duration::from_millis(250);

/// Bytes of records that are enough to send a message at once.
pub const BATCH: usize = 64 * 1024;

/// Most bytes of records in one message, apart from its last record. Messages grow while confirms are slow, so that one
/// in flight is enough.
const LARGEST: usize = 1024 * 1024;

/// Most bytes of records that are kept while the stream takes none.
pub const MOST: usize = 4 * 1024 * 1024;

/// Longest wait for the connection that is shared with the publisher, and for channels on it.
const HOLDING: Duration = Duration::from_secs(1);

/// Longest wait for the answer to a declaration.
const OPENING: Duration = Duration::from_secs(10);

/// Problem to report if the broker does not answer.
const SILENT: &str = "the broker does not answer";

/// Longest time for a stopping worker to write its last records.
pub const CLOSING: Duration = Duration::from_secs(2);

/// Longest wait for room, for callers that may wait.
const ROOM: Duration = Duration::from_secs(10);

/// A handle to the delivery log, cheap to clone. If the log is off, it drops all records.
#[derive(Clone, Default)]
pub struct DeliveryLog(Option<Arc<Inner>>);

struct Inner {
    gathered: Mutex<Vec<u8>>,
    metrics: Option<Arc<Metrics>>,
    /// Signals that there is something to write.
    some: Notify,
    /// Signals that there is enough to write at once.
    enough: Notify,
    /// Signals that there may be room again.
    room: Notify,
    /// A caller waited for room in vain, and nothing was written since.
    in_vain: AtomicBool,
    /// Records that are not confirmed, including those that found no room.
    unwritten: AtomicU64,
    closing: CancellationToken,
    task: Mutex<Option<JoinHandle<()>>>,
}

/// Where a log is written, and where its state is reported.
pub struct To {
    /// The connection to open a channel on.
    pub shared: Arc<Shared>,
    /// Whether the connection works.
    pub link: watch::Receiver<Link>,
    /// The stream.
    pub stream: Queue,
    /// The rest of the topology, for advice in errors.
    pub plan: Plan,
    /// Whether the stream may be declared. If not, it must exist.
    pub declare: bool,
    /// Longest wait for a confirm.
    pub confirm_timeout: Duration,
    /// Counts records, and warns while the log cannot be written.
    pub tell: Option<(Arc<Metrics>, Arc<Health>)>,
}

/// Starts the log that the settings ask for, on the connection of `publisher`. Its state is reported to `tell`; without
/// `tell`, it does not declare the stream. Needs a tokio runtime.
pub fn start(
    settings: &Settings,
    plan: &Plan,
    publisher: &Publisher,
    tell: Option<(Arc<Metrics>, Arc<Health>)>,
) -> DeliveryLog {
    let log = &settings.delivery_log;
    if !log.enabled {
        return DeliveryLog::off();
    }
    DeliveryLog::start(To {
        shared: publisher.shared().clone(),
        link: publisher.link(),
        stream: plan.log(Retention::of(log)),
        plan: plan.clone(),
        // Support has no permission to declare it.
        declare: settings.topology.declare && tell.is_some(),
        confirm_timeout: settings.amqp.confirm_timeout,
        tell,
    })
}

impl DeliveryLog {
    /// Returns a log that keeps nothing.
    pub fn off() -> DeliveryLog {
        DeliveryLog(None)
    }

    /// Starts the task that writes. Needs a tokio runtime.
    pub fn start(to: To) -> DeliveryLog {
        let inner = Arc::new(Inner {
            gathered: Mutex::default(),
            metrics: to.tell.as_ref().map(|(metrics, _)| metrics.clone()),
            some: Notify::new(),
            enough: Notify::new(),
            room: Notify::new(),
            in_vain: AtomicBool::new(false),
            unwritten: AtomicU64::new(0),
            closing: CancellationToken::new(),
            task: Mutex::default(),
        });
        let task = Task { inner: inner.clone(), to, writer: writer(), number: 0, channel: None, well: true };
        let task = tokio::spawn(task.run());
        *inner.task.lock().unwrap_or_else(PoisonError::into_inner) = Some(task);
        DeliveryLog(Some(inner))
    }

    /// Returns whether records are kept. If not, callers need not create any.
    pub fn is_on(&self) -> bool {
        self.0.is_some()
    }

    /// Takes a record. Never waits.
    pub fn write(&self, entry: &Entry<'_>) {
        let Some(inner) = &self.0 else { return };
        inner.unwritten.fetch_add(1, Relaxed);
        let (before, after) = {
            let mut gathered = inner.gathered.lock().unwrap_or_else(PoisonError::into_inner);
            let before = gathered.len();
            if before < MOST {
                batch::add(&mut gathered, entry);
            }
            (before, gathered.len())
        };
        if after == before {
            return inner.count("lost", 1);
        }
        if before == 0 {
            inner.some.notify_one();
        }
        if before < BATCH && after >= BATCH {
            inner.enough.notify_one();
        }
    }

    /// Waits until there is room for records, at most 10 seconds. It is for actions of people, which must be on record.
    /// After a wait in vain, later calls return at once until something is written.
    pub async fn room(&self) {
        self.room_within(ROOM).await;
    }

    async fn room_within(&self, longest: Duration) {
        let Some(inner) = &self.0 else { return };
        let waiting = async {
            loop {
                let told = inner.room.notified();
                if inner.length() < MOST / 2 || inner.in_vain.load(Relaxed) {
                    return;
                }
                told.await;
            }
        };
        if tokio::time::timeout(longest, waiting).await.is_err() {
            inner.in_vain.store(true, Relaxed);
            inner.room.notify_waiters();
        }
    }

    /// Writes the remaining records and stops, within this time. Returns how many records of all were not written.
    pub async fn close(&self, within: Duration) -> u64 {
        let Some(inner) = &self.0 else { return 0 };
        inner.closing.cancel();
        let task = inner.task.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(mut task) = task
            && tokio::time::timeout(within, &mut task).await.is_err()
        {
            task.abort();
        }
        inner.unwritten.load(Relaxed)
    }
}

impl Inner {
    fn count(&self, result: &'static str, records: u64) {
        if let Some(metrics) = &self.metrics {
            metrics.delivery_log(result, records);
        }
    }

    fn length(&self) -> usize {
        self.gathered.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// Takes out the records of the next message: a quarter of the waiting bytes, within bounds.
    fn take(&self) -> Vec<u8> {
        let mut gathered = self.gathered.lock().unwrap_or_else(PoisonError::into_inner);
        let most = (gathered.len() / 4).clamp(BATCH, LARGEST);
        if gathered.len() <= most {
            return std::mem::take(&mut gathered);
        }
        let end = gathered[most..].iter().position(|byte| *byte == b'\n').map_or(gathered.len(), |at| most + at + 1);
        let rest = gathered.split_off(end);
        std::mem::replace(&mut gathered, rest)
    }
}

struct Task {
    inner: Arc<Inner>,
    to: To,
    writer: String,
    number: u64,
    channel: Option<Channel>,
    /// Whether the last message was written.
    well: bool,
}

impl Task {
    async fn run(mut self) {
        // Opens the stream at once, so that readers can follow it and a problem is reported.
        if let Some(Err(problem)) = self.inner.closing.clone().run_until_cancelled(self.open()).await {
            self.complain(problem);
        }
        while self.gather().await {
            let records = self.inner.take();
            self.write(&records).await;
        }
        if let Some(channel) = self.channel {
            let _ = tokio::time::timeout(CLOSING / 2, channel.close(200, "goodbye".into())).await;
        }
    }

    /// Waits until there is something to write. Returns `false` if the log is closing and nothing is left.
    async fn gather(&self) -> bool {
        let inner = &self.inner;
        let there = || inner.length() > 0;
        while !there() {
            if inner.closing.run_until_cancelled(inner.some.notified()).await.is_none() && !there() {
                return false;
            }
        }
        if inner.length() >= BATCH {
            return true;
        }
        let enough = tokio::time::timeout(GATHER, inner.enough.notified());
        let _ = inner.closing.run_until_cancelled(enough).await;
        true
    }

    /// Publishes until the message is confirmed. Tries only once while the log is closing.
    async fn write(&mut self, records: &[u8]) {
        self.inner.room.notify_waiters();
        self.number += 1;
        let message = batch::message(&self.writer, self.number, records);
        let count = records.iter().filter(|byte| **byte == b'\n').count() as u64;
        let mut pause = Pause::for_recording();
        loop {
            match self.publish(&message).await {
                Ok(()) => {
                    self.inner.count("written", count);
                    self.inner.unwritten.fetch_sub(count, Relaxed);
                    self.inner.in_vain.store(false, Relaxed);
                    if !std::mem::replace(&mut self.well, true) {
                        info!("the delivery log is written again");
                    }
                    return self.tell(None);
                }
                Err(problem) => {
                    self.channel = None;
                    self.complain(problem);
                }
            }
            let wait = tokio::time::sleep(pause.next(fastrand::f64()));
            if self.inner.closing.run_until_cancelled(wait).await.is_none() {
                return self.inner.count("lost", count);
            }
        }
    }

    fn complain(&mut self, problem: String) {
        if std::mem::replace(&mut self.well, false) {
            warn!(stream = %self.to.stream.name, problem, "the delivery log cannot be written; deliveries go on");
        }
        self.tell(Some(problem));
    }

    fn tell(&self, problem: Option<String>) {
        if let Some((_, health)) = &self.to.tell {
            health.set_delivery_log(problem);
        }
    }

    async fn publish(&mut self, message: &[u8]) -> Result<(), String> {
        let channel = match &self.channel {
            Some(channel) if channel.status().connected() => channel.clone(),
            _ => self.open().await?,
        };
        let options = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
        let properties = BasicProperties::default()
            .with_delivery_mode(2)
            .with_content_type("application/x-ndjson".into())
            .with_timestamp(u64::try_from(jiff::Timestamp::now().as_second()).unwrap_or_default())
            .with_app_id("leadhook".into());
        let publishing = async {
            channel.basic_publish("".into(), self.to.stream.name.clone(), options, message, properties).await?.await
        };
        match tokio::time::timeout(self.to.confirm_timeout, publishing).await {
            Err(_) => Err("not confirmed in time".to_owned()),
            Ok(Err(error)) => Err(error.to_string()),
            Ok(Ok(Confirmation::Ack(None))) => Ok(()),
            Ok(Ok(Confirmation::Ack(Some(_)))) => Err("there is no such stream".to_owned()),
            Ok(Ok(Confirmation::Nack(_))) => Err("refused by the broker".to_owned()),
            Ok(Ok(Confirmation::NotRequested)) => Err("the channel has no confirms".to_owned()),
        }
    }

    /// Finds or declares the stream, and opens a channel. Waits while the publisher has no working connection, because
    /// a blocked one answers nothing.
    async fn open(&mut self) -> Result<Channel, String> {
        let ready = self.to.link.wait_for(|link| *link == Link::Ready).await;
        ready.map_err(|_| "the publisher has stopped".to_owned())?;
        let [asking, channel] = self.channels().await?;
        let preparing = async {
            let standing = topology::stream(asking, &self.to.plan, &self.to.stream, self.to.declare).await;
            let standing = standing.map_err(|error| error.to_string())?;
            channel.confirm_select(ConfirmSelectOptions::default()).await.map_err(|error| error.to_string())?;
            Ok::<_, String>(standing)
        };
        let standing = tokio::time::timeout(OPENING, preparing).await.unwrap_or_else(|_| Err(SILENT.to_owned()))?;
        if standing == Standing::Otherwise && self.number <= 1 {
            info!(
                stream = %self.to.stream.name,
                "the delivery log stands with another retention than the settings say; a policy can change it"
            );
        }
        self.channel = Some(channel.clone());
        Ok(channel)
    }

    /// Opens two channels. Holds the connection no longer than that takes, because the publisher may need a new one.
    async fn channels(&self) -> Result<[Channel; 2], String> {
        let opening = async {
            let connection = self.to.shared.get().await.map_err(|error| error.to_string())?;
            let channel = async || connection::channel(&connection).await.map_err(|error| error.to_string());
            Ok([channel().await?, channel().await?])
        };
        tokio::time::timeout(HOLDING, opening).await.unwrap_or_else(|_| Err(SILENT.to_owned()))
    }
}

#[cfg(test)]
mod tests;
