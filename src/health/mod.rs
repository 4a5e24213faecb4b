//! The health of this worker. Other modules report facts ([`Health::set_store`], [`Health::set_waiting`] ...).
//! [`Health::report`] judges them, in one place and without I/O.
//!
//! *Ready* means that this worker takes and settles messages now. Some problems need a person, but no other replica
//! would do better: a long failed queue, or a refused reload of the store. These are *warnings*, because taking the
//! worker out of service would only make things worse.

mod report;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use jiff::Timestamp;

pub use self::report::{QueueReport, Report, StoreReport};
use crate::{broker::Intake, limits::deferral, metrics::RESTING, sender::ProxyOutage};

/// The numbers from which a problem is reported.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Thresholds {
    /// Failed messages that cause a warning (`admin.failed_threshold`).
    pub failed: u64,
    /// Rejected messages that cause a warning (`admin.rejected_threshold`).
    pub rejected: u64,
    /// Unreadable messages that cause a warning (`admin.unreadable_threshold`).
    pub unreadable: u64,
    /// Outcomes waiting to be recorded that close the intake and make the worker not ready.
    pub waiting: usize,
}

impl Thresholds {
    /// Takes the thresholds from the settings. The intake closes when half of the slots hold an outcome that cannot be
    /// recorded.
    pub fn new(settings: &crate::settings::Settings) -> Thresholds {
        Thresholds {
            failed: settings.admin.failed_threshold,
            rejected: settings.admin.rejected_threshold,
            unreadable: settings.admin.unreadable_threshold,
            waiting: settings.delivery.concurrency.div_ceil(2),
        }
    }
}

/// The state of the publishing connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BrokerState {
    /// Open and usable.
    Connected,
    /// Open, but the broker has blocked publishers (memory or disk alarm).
    Blocked,
    /// Not open, with the reason in words that hold no credentials.
    Lost(String),
}

/// Whether the events queue or the jobs queue is consumed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ConsumeState {
    /// It is consumed.
    Consuming,
    /// Its connection is open, but consuming is suspended, with the reason.
    Suspended(String),
    /// It has no connection, with the reason in words that hold no credentials.
    Lost(String),
}

/// A state, and the time since which it has been of this variant.
#[derive(Debug)]
struct Lasting<S> {
    state: S,
    since: Timestamp,
}

impl<S> Lasting<S> {
    fn new(state: S) -> Lasting<S> {
        Lasting { state, since: Timestamp::now() }
    }

    fn set(&mut self, state: S) {
        if std::mem::discriminant(&self.state) != std::mem::discriminant(&state) {
            self.since = Timestamp::now();
        }
        self.state = state;
    }

    /// Shows the time as `since 2026-11-30T16:12:06Z`.
    fn since(&self) -> String {
        format!("since {}", self.since.strftime("%Y-%m-%dT%H:%M:%SZ"))
    }
}

/// Whether the queues are as they must be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TopologyState {
    /// Declared or verified.
    Ok,
    /// Something is missing or differs, in words.
    Problem(String),
}

/// How long readiness reports that this machine had no file, memory or port left for a connection.
const EXHAUSTED: Duration = Duration::from_secs(30);

/// How long readiness reports a fault of the egress proxy, unless the proxy works again sooner: a little longer than the
/// longest deferral. Without jobs the proxy is not asked, so its state is unknown.
const PROXY_SEEN: Duration = Duration::from_secs(deferral::LONGEST.as_secs() * 6 / 5);

/// The known facts, shared by all modules that report.
#[derive(Debug)]
pub struct Health {
    thresholds: Thresholds,
    facts: Mutex<Facts>,
}

#[derive(Debug)]
struct Facts {
    events: Lasting<ConsumeState>,
    jobs: Lasting<ConsumeState>,
    publish: Lasting<BrokerState>,
    topology: TopologyState,
    revision: Option<String>,
    store_error: Option<String>,
    waiting: BTreeMap<String, usize>,
    delivery_log: Option<String>,
    files: Vec<String>,
    policies: Vec<String>,
    broker_warnings: BTreeMap<Intake, String>,
    workers: Option<String>,
    proxy: Option<ProxyOutage>,
    exhausted: Option<Instant>,
    stopping: bool,
    queues: BTreeMap<String, u64>,
    not_empty_since: BTreeMap<String, Instant>,
}

impl Health {
    /// Makes the health of a worker that is not ready yet: without connections, and with an unchecked topology.
    pub fn new(thresholds: Thresholds) -> Health {
        let starting = || "not connected yet".to_owned();
        let facts = Facts {
            events: Lasting::new(ConsumeState::Lost(starting())),
            jobs: Lasting::new(ConsumeState::Lost(starting())),
            publish: Lasting::new(BrokerState::Lost(starting())),
            topology: TopologyState::Problem("not checked yet".to_owned()),
            revision: None,
            store_error: None,
            waiting: BTreeMap::new(),
            delivery_log: None,
            files: Vec::new(),
            policies: Vec::new(),
            broker_warnings: BTreeMap::new(),
            workers: None,
            proxy: None,
            exhausted: None,
            stopping: false,
            queues: BTreeMap::new(),
            not_empty_since: BTreeMap::new(),
        };
        Health { thresholds, facts: Mutex::new(facts) }
    }

    /// Sets whether a queue is consumed.
    pub fn set_consuming(&self, intake: Intake, state: ConsumeState) {
        self.change(|facts| match intake {
            Intake::Events => facts.events.set(state),
            Intake::Jobs => facts.jobs.set(state),
        });
    }

    /// Sets the state of the publishing connection.
    pub fn set_publishing(&self, state: BrokerState) {
        self.change(|facts| facts.publish.set(state));
    }

    /// Sets whether the queues are as they must be.
    pub fn set_topology(&self, state: TopologyState) {
        self.change(|facts| facts.topology = state);
    }

    /// Sets the revision of the store in use, and why the last reload was refused, if it was.
    pub fn set_store(&self, revision: &str, last_error: Option<String>) {
        self.change(|facts| (facts.revision, facts.store_error) = (Some(revision.to_owned()), last_error));
    }

    /// Sets the number of outcomes waiting to be recorded, by the queue that does not accept them. Replaces earlier
    /// numbers.
    pub fn set_waiting(&self, waiting: BTreeMap<String, usize>) {
        self.change(|facts| facts.waiting = waiting);
    }

    /// Sets why the delivery log cannot be written, if so. This is a warning, because deliveries go on without the log.
    pub fn set_delivery_log(&self, problem: Option<String>) {
        self.change(|facts| facts.delivery_log = problem);
    }

    /// Sets which files with credentials cannot be used, in whole sentences. These are warnings, because the last good
    /// content stays in use. Replaces earlier ones.
    pub fn set_files(&self, problems: Vec<String>) {
        self.change(|facts| facts.files = problems);
    }

    /// Sets the warning about the broker from which this intake consumes, if any. Returns whether the warning is new:
    /// the other intake may consume from the same broker, or from another one.
    pub fn set_broker_warning(&self, intake: Intake, warning: Option<&str>) -> bool {
        let mut is_news = false;
        self.change(|facts| {
            is_news = warning.is_some_and(|warning| facts.broker_warnings.values().all(|known| known != warning));
            facts.broker_warnings.remove(&intake);
            facts.broker_warnings.extend(warning.map(|warning| (intake, warning.to_owned())));
        });
        is_news
    }

    /// Sets which policies and arguments on the broker can lose or misroute messages, in whole sentences. Replaces
    /// earlier ones.
    pub fn set_policies(&self, problems: Vec<String>) {
        self.change(|facts| facts.policies = problems);
    }

    /// Sets why the number of workers is unknown, if so, in a whole sentence. This is a warning, because the last
    /// number stays in use.
    pub fn set_workers(&self, problem: Option<String>) {
        self.change(|facts| facts.workers = problem);
    }

    /// Sets the outage of the egress proxy, while there is one.
    pub fn set_proxy(&self, outage: Option<ProxyOutage>) {
        self.change(|facts| facts.proxy = outage);
    }

    /// Notes that this machine has just had no file, memory or port left for a connection.
    pub fn set_exhausted(&self) {
        self.change(|facts| facts.exhausted = Some(Instant::now()));
    }

    /// Notes that this worker stops. This cannot be undone.
    pub fn set_stopping(&self) {
        self.change(|facts| facts.stopping = true);
    }

    /// Sets the number of messages ready on each queue, and replaces earlier numbers. Names have no prefix, as in
    /// [`crate::metrics::Metrics::set_queue_messages`].
    ///
    /// Also notes since when the queues in [`RESTING`] are not empty. The age of their messages is unknown: reading it
    /// would redeliver them, which counts towards the broker's delivery limit.
    pub fn set_queue_counts(&self, messages: BTreeMap<String, u64>) {
        self.change(|facts| {
            let now = Instant::now();
            let resting =
                messages.iter().filter(|(queue, messages)| RESTING.contains(&queue.as_str()) && **messages > 0);
            let since = |queue: &String| facts.not_empty_since.get(queue).copied().unwrap_or(now);
            facts.not_empty_since = resting.map(|(queue, _)| (queue.clone(), since(queue))).collect();
            facts.queues = messages;
        });
    }

    /// Returns for how long each queue in [`RESTING`] has not been empty, as far as this worker has seen. Omits empty
    /// queues.
    pub fn not_empty(&self) -> Vec<(&'static str, Duration)> {
        let facts = self.facts.lock().unwrap_or_else(PoisonError::into_inner);
        RESTING.into_iter().filter_map(|queue| Some((queue, facts.not_empty_since.get(queue)?.elapsed()))).collect()
    }

    /// Judges the current facts.
    pub fn report(&self) -> Report {
        let facts = self.facts.lock().unwrap_or_else(PoisonError::into_inner);
        let reasons = facts.reasons(&self.thresholds);
        let mut queues = BTreeMap::new();
        for (name, messages) in &facts.queues {
            // Fifty delay queues would hide the few queues that a person looks for.
            let shown = if name.starts_with("delay.") { "delay" } else { name };
            let not_empty_seconds = facts.not_empty_since.get(name).map(|since| since.elapsed().as_secs());
            let queue = queues.entry(shown.to_owned()).or_insert(QueueReport { messages: 0, not_empty_seconds });
            queue.messages += messages;
        }
        Report {
            ready: reasons.is_empty(),
            reasons,
            warnings: facts.warnings(&self.thresholds),
            store: StoreReport { revision: facts.revision.clone(), last_error: facts.store_error.clone() },
            queues,
        }
    }

    /// Changes a fact. A panic during a change spoils at most that fact, so a poisoned lock is used anyway.
    fn change(&self, change: impl FnOnce(&mut Facts)) {
        change(&mut self.facts.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

impl Facts {
    fn reasons(&self, thresholds: &Thresholds) -> Vec<String> {
        let mut reasons = Vec::new();
        if self.stopping {
            reasons.push("stopping: attempts in flight are being finished".to_owned());
        }
        reasons.extend(consume_problem(Intake::Events, &self.events));
        reasons.extend(consume_problem(Intake::Jobs, &self.jobs));
        reasons.extend(publish_problem(&self.publish));
        if let TopologyState::Problem(text) = &self.topology {
            reasons.push(format!("topology: {text}"));
        }
        if self.revision.is_none() {
            reasons.push("the webhook store is not loaded yet".to_owned());
        }
        if let Some(ago) = self.exhausted.map(|at| at.elapsed()).filter(|ago| *ago < EXHAUSTED) {
            let seconds = ago.as_secs();
            reasons
                .push(format!("no file, memory or port was left for a connection {seconds} s ago (see `ulimit -n`)"));
        }
        let outage = self.proxy.as_ref().filter(|outage| outage.seen.elapsed() < PROXY_SEEN);
        reasons.extend(outage.map(ToString::to_string));
        let waiting: usize = self.waiting.values().sum();
        if waiting > 0 && waiting >= thresholds.waiting {
            let queues = self.waiting.iter().filter(|(_, waiting)| **waiting > 0);
            let queues: Vec<_> = queues.map(|(queue, waiting)| format!("{waiting} for {queue}")).collect();
            reasons.push(format!("intake closed: outcomes cannot be recorded ({})", queues.join(", ")));
        }
        reasons
    }

    fn warnings(&self, thresholds: &Thresholds) -> Vec<String> {
        let mut warnings = Vec::new();
        if let Some(error) = &self.store_error {
            warnings
                .push(format!("the last reload of the webhook store was refused, the one before it stays: {error}"));
        }
        if let Some(problem) = &self.delivery_log {
            warnings.push(format!("the delivery log cannot be written, its records will be lost: {problem}"));
        }
        warnings.extend(self.files.iter().map(|problem| format!("{problem}; its last good content stays in use")));
        let of_brokers: BTreeSet<_> = self.broker_warnings.values().collect();
        warnings.extend(of_brokers.into_iter().chain(&self.policies).chain(&self.workers).cloned());
        let resting = [thresholds.failed, thresholds.rejected, thresholds.unreadable];
        for (queue, threshold) in RESTING.into_iter().zip(resting) {
            let Some(messages) = self.queues.get(queue).copied().filter(|messages| *messages >= threshold) else {
                continue;
            };
            let mut text = format!("the {queue} queue holds {messages} messages (warned from {threshold})");
            if let Some(since) = self.not_empty_since.get(queue) {
                // Writing to a String cannot fail.
                let _ = write!(text, ", not empty for {} s", since.elapsed().as_secs());
            }
            warnings.push(text);
        }
        warnings
    }
}

fn consume_problem(intake: Intake, consuming: &Lasting<ConsumeState>) -> Option<String> {
    let (queue, since) = (intake.name(), consuming.since());
    match &consuming.state {
        ConsumeState::Consuming => None,
        ConsumeState::Suspended(reason) => Some(format!("consuming {queue}: suspended {since} because {reason}")),
        ConsumeState::Lost(reason) => Some(format!("consuming {queue}: no connection to the broker {since}: {reason}")),
    }
}

fn publish_problem(publishing: &Lasting<BrokerState>) -> Option<String> {
    let since = publishing.since();
    match &publishing.state {
        BrokerState::Connected => None,
        BrokerState::Blocked => Some(format!("publishing: blocked by the broker {since} (memory or disk alarm)")),
        BrokerState::Lost(reason) => Some(format!("publishing: no connection to the broker {since}: {reason}")),
    }
}
