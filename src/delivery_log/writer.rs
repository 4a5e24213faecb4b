//! Writing the delivery log: records gather for a moment, and go to the stream as one message.
//!
//! Whoever writes a record never waits and never fails: deliveries come first. What that costs:
//!
//! * **A process that is killed** takes along what had not been confirmed: while the stream confirms as fast as records come,
//!   those of the last [`GATHER`] and of the message that was under way; while it does not, all that is kept.
//! * **While the stream takes nothing** (missing, full, its leader away) records are kept up to [`MOST`] bytes, about
//!   10,000 of them; what comes then is lost, and counted. Readiness warns meanwhile.
//! * **RabbitMQ confirms a stream's message before it is on the disk**: a machine that loses power loses the last moment.
//!
//! One task publishes, one message at a time, on a channel of its own: a stream that refuses or is missing disturbs nobody
//! else's confirms.

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

use super::{Entry, batch};
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

/// Bytes of records from which a message is sent without waiting for more.
pub const BATCH: usize = 64 * 1024;

/// Most bytes of records in one message, and one record: messages grow when confirms are slow, so that one under way is enough.
const LARGEST: usize = 1024 * 1024;

/// Most bytes of records that are kept while the stream takes none.
pub const MOST: usize = 4 * 1024 * 1024;

/// Longest wait for the connection that is shared with the publisher, and for channels on it.
const HOLDING: Duration = Duration::from_secs(1);

/// Longest wait for the answer to a declaration.
const OPENING: Duration = Duration::from_secs(10);

/// What is told of a broker that does not answer.
const SILENT: &str = "the broker does not answer";

/// How long a worker's last records may take at its stop.
pub const CLOSING: Duration = Duration::from_secs(2);

/// Longest wait for room, of those who may wait.
const ROOM: Duration = Duration::from_secs(10);

/// A handle to the delivery log; cheap to clone. Where the log is switched off it takes records and drops them.
#[derive(Clone, Default)]
pub struct DeliveryLog(Option<Arc<Inner>>);

struct Inner {
    gathered: Mutex<Vec<u8>>,
    metrics: Option<Arc<Metrics>>,
    /// There is something to write.
    some: Notify,
    /// There is enough to write at once.
    enough: Notify,
    /// There may be room again.
    room: Notify,
    /// Somebody waited for room, and there was none.
    in_vain: AtomicBool,
    /// Records that were taken, or found no room, and have not been confirmed.
    unwritten: AtomicU64,
    closing: CancellationToken,
    task: Mutex<Option<JoinHandle<()>>>,
}

/// Where a log goes to, and who is told about it.
pub struct To {
    /// The connection to open a channel on.
    pub shared: Arc<Shared>,
    /// Whether it works.
    pub link: watch::Receiver<Link>,
    /// The stream.
    pub stream: Queue,
    /// What else there is, for advice.
    pub plan: Plan,
    /// Whether it may be declared; else it must be there.
    pub declare: bool,
    /// Longest wait for a confirm.
    pub confirm_timeout: Duration,
    /// Where records are counted, and who warns when the log cannot be written.
    pub tell: Option<(Arc<Metrics>, Arc<Health>)>,
}

/// Starts the log that the settings ask for, on the connection of `publisher`; `tell` is where its state is told, and those
/// who have nowhere to tell it may not make the stream either. Needs a tokio runtime.
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
        // Support has no right to.
        declare: settings.topology.declare && tell.is_some(),
        confirm_timeout: settings.amqp.confirm_timeout,
        tell,
    })
}

impl DeliveryLog {
    /// A log that keeps nothing.
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

    /// Whether records are kept. Where not, nobody needs to make any.
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

    /// Waits until there is room for records, for those who may wait: people whose doings must be on record. Bounded to
    /// 10 seconds; who has waited in vain once is not kept waiting again before something could be written.
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

    /// Writes what is left, and ends, within this time. Says how many of all the records could not be written.
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

    /// Takes out what goes into the next message: a quarter of what waits, within bounds.
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

/// Names this process, once: where it runs, its number, and what no other process of that number has.
fn writer() -> String {
    let host = std::env::var("HOSTNAME").unwrap_or_else(|_| "localhost".into());
    format!("{host}/{}/{:08x}", std::process::id(), fastrand::u32(..))
}

/// Why a message is not on the stream. In words that hold no credentials.
type Problem = String;

struct Task {
    inner: Arc<Inner>,
    to: To,
    writer: String,
    number: u64,
    channel: Option<Channel>,
    /// Whether the last message could be written.
    well: bool,
}

impl Task {
    async fn run(mut self) {
        // At once, so that it is there for those who want to follow it, and a problem with it is told of.
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

    /// Waits until there is something to write. `false`: there is nothing, and there will be nothing more.
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

    /// Publishes until it is confirmed; at the stop, once.
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

    fn complain(&mut self, problem: Problem) {
        if std::mem::replace(&mut self.well, false) {
            warn!(stream = %self.to.stream.name, problem, "the delivery log cannot be written; deliveries go on");
        }
        self.tell(Some(problem));
    }

    fn tell(&self, problem: Option<Problem>) {
        if let Some((_, health)) = &self.to.tell {
            health.set_delivery_log(problem);
        }
    }

    async fn publish(&mut self, message: &[u8]) -> Result<(), Problem> {
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

    /// A channel, when the stream has been found, or declared. Waits for as long as the publisher has no connection that works:
    /// a blocked one answers nothing.
    async fn open(&mut self) -> Result<Channel, Problem> {
        let ready = self.to.link.wait_for(|link| *link == Link::Ready).await;
        ready.map_err(|_| "the publisher has stopped".to_owned())?;
        let [asking, channel] = self.channels().await?;
        let preparing = async {
            let standing = topology::stream(asking, &self.to.plan, &self.to.stream, self.to.declare).await;
            let standing = standing.map_err(|error| error.to_string())?;
            channel.confirm_select(ConfirmSelectOptions::default()).await.map_err(|error| error.to_string())?;
            Ok::<_, Problem>(standing)
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

    /// Two channels. The connection is held for no longer than that takes: the publisher may need a fresh one.
    async fn channels(&self) -> Result<[Channel; 2], Problem> {
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
