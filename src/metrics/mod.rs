//! The metrics of the worker. Callers report events ([`Metrics::event_rejected`], [`Metrics::attempt`]). Names, labels
//! and buckets are private to this module.
//!
//! Label values are `&'static str` if possible, so that no id, URL or text of a receiver becomes a label. Such labels
//! would grow the scrape without bound, and leak lead data. The two exceptions are the store's revision (one at a time)
//! and the queues (a fixed ladder).

mod catalogue;
mod families;
mod process;

#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    sync::{Arc, Mutex, PoisonError, atomic::AtomicU64},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use prometheus_client::{
    encoding::text,
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram, info::Info},
    registry::Registry,
};

pub use catalogue::{Entry, Kind, catalogue};

use self::families::{
    ATTEMPT_BUCKETS, Attempting, CONFIRM_BUCKETS, EVENT_RESULTS, LAG_BUCKETS, LOG_RESULTS, Labelled, Named,
    PUBLISH_FAILURES, RELOAD_RESULTS, count, gauge_value, register,
};

use crate::{
    delivery::{exchange::Exchange, fault::Fault},
    limits::State,
};

/// Queues that only people empty.
pub const RESTING: [&str; 3] = ["failed", "rejected", "unreadable"];

/// The content type of [`Metrics::encode`].
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// All metrics of one worker. Any task can update them cheaply: the only waits are for short locks.
pub struct Metrics {
    registry: Registry,
    events: Labelled,
    no_target: Labelled,
    events_rejected: Labelled,
    events_irregular: Labelled,
    deliveries: Counter,
    jobs: Family<[(&'static str, &'static str); 2], Counter>,
    attempts: Family<[(&'static str, &'static str); 2], Counter>,
    direct_attempts: Counter,
    answers_incomplete: Counter,
    connections_replaced: Counter,
    attempt_seconds: Histogram,
    event_lag: Histogram,
    due_lag: Histogram,
    in_flight: Gauge,
    circuits: Family<[(&'static str, &'static str); 1], Gauge>,
    confirm_seconds: Histogram,
    publish_failures: Labelled,
    reconnects: Labelled,
    store_reloads: Labelled,
    store_info: Named,
    store_reload_success: Gauge,
    queue_messages: Named,
    not_empty: Named,
    retries_waiting: Gauge,
    duplicates_suppressed: Counter,
    waiting_outcomes: Gauge,
    policy_problems: Gauge,
    delivery_log: Labelled,
    suspects: Gauge,
    child_deaths: Labelled,
    panics: Counter,
    workers: Gauge,
    proxy_failing: Gauge,
    /// Label values in use. Unused ones are removed one by one, so that the scrape is never empty for a moment.
    shown: Mutex<Shown>,
}

#[derive(Default)]
struct Shown {
    revision: Option<String>,
    queues: BTreeSet<String>,
}

impl Metrics {
    /// Makes a set with every value at zero, and with the current time as start time.
    pub fn new() -> Arc<Metrics> {
        let mut registry = Registry::default();
        let build = Info::new([("version", env!("CARGO_PKG_VERSION"))]);
        let started = Gauge::<f64, AtomicU64>::default();
        started.set(SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64()));

        let mut metrics = Metrics {
            events: register(&mut registry, catalogue::EVENTS, Family::default()),
            no_target: register(&mut registry, catalogue::NO_TARGET, Family::default()),
            events_rejected: register(&mut registry, catalogue::EVENTS_REJECTED, Family::default()),
            events_irregular: register(&mut registry, catalogue::EVENTS_IRREGULAR, Family::default()),
            deliveries: register(&mut registry, catalogue::DELIVERIES, Counter::default()),
            jobs: register(&mut registry, catalogue::JOBS, Family::default()),
            attempts: register(&mut registry, catalogue::ATTEMPTS, Family::default()),
            direct_attempts: register(&mut registry, catalogue::DIRECT_ATTEMPTS, Counter::default()),
            answers_incomplete: register(&mut registry, catalogue::ANSWERS_INCOMPLETE, Counter::default()),
            connections_replaced: register(&mut registry, catalogue::CONNECTIONS_REPLACED, Counter::default()),
            attempt_seconds: register(&mut registry, catalogue::ATTEMPT_SECONDS, Histogram::new(ATTEMPT_BUCKETS)),
            event_lag: register(&mut registry, catalogue::EVENT_LAG, Histogram::new(LAG_BUCKETS)),
            due_lag: register(&mut registry, catalogue::DUE_LAG, Histogram::new(LAG_BUCKETS)),
            in_flight: register(&mut registry, catalogue::IN_FLIGHT, Gauge::default()),
            circuits: register(&mut registry, catalogue::CIRCUITS, Family::default()),
            confirm_seconds: register(&mut registry, catalogue::CONFIRM_SECONDS, Histogram::new(CONFIRM_BUCKETS)),
            publish_failures: register(&mut registry, catalogue::PUBLISH_FAILURES, Family::default()),
            reconnects: register(&mut registry, catalogue::RECONNECTS, Family::default()),
            store_reloads: register(&mut registry, catalogue::STORE_RELOADS, Family::default()),
            store_info: register(&mut registry, catalogue::STORE_INFO, Family::default()),
            store_reload_success: register(&mut registry, catalogue::STORE_RELOAD_SUCCESS, Gauge::default()),
            queue_messages: register(&mut registry, catalogue::QUEUE_MESSAGES, Family::default()),
            not_empty: register(&mut registry, catalogue::NOT_EMPTY, Family::default()),
            retries_waiting: register(&mut registry, catalogue::RETRIES_WAITING, Gauge::default()),
            duplicates_suppressed: register(&mut registry, catalogue::DUPLICATES_SUPPRESSED, Counter::default()),
            policy_problems: register(&mut registry, catalogue::POLICY_PROBLEMS, Gauge::default()),
            waiting_outcomes: register(&mut registry, catalogue::WAITING_OUTCOMES, Gauge::default()),
            delivery_log: register(&mut registry, catalogue::DELIVERY_LOG, Family::default()),
            suspects: register(&mut registry, catalogue::SUSPECTS, Gauge::default()),
            child_deaths: register(&mut registry, catalogue::CHILD_DEATHS, Family::default()),
            panics: register(&mut registry, catalogue::PANICS, Counter::default()),
            workers: register(&mut registry, catalogue::WORKERS, Gauge::default()),
            proxy_failing: register(&mut registry, catalogue::PROXY_FAILING, Gauge::default()),
            shown: Mutex::default(),
            registry,
        };
        let entry = catalogue::BUILD_INFO;
        metrics.registry.register(entry.registered(), entry.help, build);
        metrics.registry.register_collector(Box::new(process::Tasks));
        metrics.registry.register_collector(Box::new(process::ResidentMemory));
        register(&mut metrics.registry, catalogue::START_TIME, started);
        metrics.begin_at_zero();
        Arc::new(metrics)
    }

    /// Returns the scrape: OpenMetrics text, which Prometheus reads as well ([`CONTENT_TYPE`]).
    pub fn encode(&self) -> String {
        let mut page = String::new();
        // Writing to a String cannot fail, and our collectors never fail. An error would only truncate the page.
        let _ = text::encode(&mut page, &self.registry);
        page
    }

    /// Counts an event of which each delivery was attempted directly or confirmed as a job.
    pub fn event_dispatched(&self, deliveries: usize) {
        count(&self.events, "result", "dispatched");
        self.deliveries.inc_by(deliveries as u64);
    }

    /// Counts an event without a target.
    pub fn event_without_target(&self, reason: &'static str) {
        count(&self.events, "result", "no_target");
        count(&self.no_target, "reason", reason);
    }

    /// Counts an event that is delivered although this field cannot be read.
    pub fn event_irregular(&self, field: &'static str) {
        count(&self.events_irregular, "field", field);
    }

    /// Counts an event that was confirmed on the rejected queue.
    pub fn event_rejected(&self, reason: &'static str) {
        count(&self.events, "result", "rejected");
        count(&self.events_rejected, "reason", reason);
    }

    /// Counts a job that was delivered and acked.
    pub fn job_delivered(&self) {
        self.job("delivered", "");
    }

    /// Counts a job that its receiver refused and that was acked. `kept` says that it was confirmed on the failed
    /// queue.
    pub fn job_refused(&self, kept: bool) {
        self.job("refused", if kept { "kept" } else { "" });
    }

    /// Counts a job that was confirmed on the failed queue.
    pub fn job_failed(&self, reason: &'static str) {
        self.job("failed", reason);
    }

    /// Counts a job that was confirmed on a delay queue for its next attempt.
    pub fn job_retry(&self, reason: &'static str) {
        self.job("retry", reason);
    }

    /// Counts a deferred job that was confirmed on a delay queue.
    pub fn job_deferred(&self, reason: &'static str) {
        self.job("deferred", reason);
    }

    /// Counts and times one POST that ended, with the label of its outcome. A panic is also counted as such.
    pub fn attempt(&self, exchange: &Exchange, outcome: &'static str) {
        self.attempts.get_or_create(&[("class", exchange.class()), ("outcome", outcome)]).inc();
        self.attempt_seconds.observe(exchange.elapsed.as_secs_f64());
        if exchange.is_incomplete() {
            self.answers_incomplete.inc();
        }
        if exchange.replaced {
            self.connections_replaced.inc();
        }
        if exchange.result == Err(Fault::Panic) {
            self.panics.inc();
        }
    }

    /// Counts a direct attempt.
    pub fn direct_attempt(&self) {
        self.direct_attempts.inc();
    }

    /// Counts a message of the jobs queue that is not a usable job and was confirmed on the rejected queue.
    pub fn job_rejected(&self, reason: &'static str) {
        self.job("rejected", reason);
    }

    /// Counts a suspect in progress, as long as the guard lives.
    pub fn suspect(&self) -> impl Drop + use<> {
        self.suspects.inc();
        Attempting(self.suspects.clone())
    }

    /// Counts a child process that died; `child` is `shared` or `alone`.
    pub fn child_died(&self, child: &'static str) {
        self.child_deaths.get_or_create(&[("child", child)]).inc();
    }

    /// Counts a panic that was caught outside an attempt.
    pub fn panic(&self) {
        self.panics.inc();
    }

    /// Records the time from an event's timestamp to its first attempt at a target. A timestamp in the future counts as
    /// no lag.
    pub fn event_lag(&self, lag: Duration) {
        self.event_lag.observe(lag.as_secs_f64());
    }

    /// Records the time from the due time of a retry to its attempt.
    pub fn due_lag(&self, lag: Duration) {
        self.due_lag.observe(lag.as_secs_f64());
    }

    /// Counts an attempt in flight, until the guard is dropped.
    pub fn attempting(&self) -> impl Drop + use<> {
        self.in_flight.inc();
        Attempting(self.in_flight.clone())
    }

    /// Sets the number of circuits in each state, in the order of [`State::ALL`].
    pub fn set_circuits(&self, circuits: [usize; 4]) {
        for (state, circuits) in State::ALL.into_iter().zip(circuits) {
            self.circuits.get_or_create(&[("state", state.label())]).set(gauge_value(circuits as u64));
        }
    }

    /// Records the time until a publish was confirmed.
    pub fn publish_confirmed(&self, elapsed: Duration) {
        self.confirm_seconds.observe(elapsed.as_secs_f64());
    }

    /// Counts a publish that is not done, with the reason of [`crate::broker::publisher::PublishError::label`].
    pub fn publish_failed(&self, reason: &'static str) {
        count(&self.publish_failures, "reason", reason);
    }

    /// Counts a lost connection that works again; `role` is `events`, `jobs` or `publish`.
    pub fn reconnected(&self, role: &'static str) {
        count(&self.reconnects, "role", role);
    }

    /// Shows this revision of the store as the one in use, and the last reload as accepted.
    pub fn store_revision(&self, revision: &str) {
        self.store_reload_success.set(1);
        let mut shown = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
        self.store_info.get_or_create(&[("revision", revision.to_owned().into())]).set(1);
        if let Some(before) = shown.revision.replace(revision.to_owned()).filter(|before| before != revision) {
            self.store_info.remove(&[("revision", before.into())]);
        }
    }

    /// Counts a reload that brought a new store into use.
    pub fn store_loaded(&self) {
        count(&self.store_reloads, "result", "loaded");
        self.store_reload_success.set(1);
    }

    /// Counts a reload that found the same store again.
    pub fn store_unchanged(&self) {
        count(&self.store_reloads, "result", "unchanged");
        self.store_reload_success.set(1);
    }

    /// Counts a reload that was refused. The previous store stays in use.
    pub fn store_refused(&self) {
        count(&self.store_reloads, "result", "refused");
        self.store_reload_success.set(0);
    }

    /// Sets for how long the queues in [`RESTING`] have not been empty. Those that are not named are empty.
    pub fn set_not_empty(&self, queues: Vec<(&'static str, Duration)>) {
        for resting in RESTING {
            let seconds = queues.iter().find(|(queue, _)| *queue == resting).map_or(0, |(_, since)| since.as_secs());
            self.not_empty.get_or_create(&[("queue", resting.into())]).set(gauge_value(seconds));
        }
    }

    /// Sets the number of messages ready on each queue, named without the prefix: `events`, `jobs`, `failed`,
    /// `rejected`, `unreadable`, `workers`, `delay_<ms>`. Accepts `delay.<ms>` as well. Removes queues that are no
    /// longer named.
    pub fn set_queue_messages<'a>(&self, queues: impl IntoIterator<Item = (&'a str, u64)>) {
        let queues: BTreeMap<String, u64> =
            queues.into_iter().map(|(queue, messages)| (queue.replace('.', "_"), messages)).collect();
        let mut shown = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
        for (queue, messages) in &queues {
            self.queue_messages.get_or_create(&[("queue", queue.clone().into())]).set(gauge_value(*messages));
        }
        for gone in shown.queues.iter().filter(|queue| !queues.contains_key(*queue)) {
            self.queue_messages.remove(&[("queue", gone.clone().into())]);
        }
        let waiting =
            queues.iter().filter(|(queue, _)| queue.starts_with("delay_")).map(|(_, messages)| messages).sum();
        self.retries_waiting.set(gauge_value(waiting));
        shown.queues = queues.into_keys().collect();
    }

    /// Counts a redelivered event or job that was settled from memory, without a second POST.
    pub fn duplicate_suppressed(&self) {
        self.duplicates_suppressed.inc();
    }

    /// Counts records of the delivery log that are on the stream (`written`) or never will be (`lost`).
    pub fn delivery_log(&self, result: &'static str, records: u64) {
        self.delivery_log.get_or_create(&[("result", result)]).inc_by(records);
    }

    /// Sets the number of outcomes that are known but not recorded yet.
    pub fn set_waiting_outcomes(&self, outcomes: usize) {
        self.waiting_outcomes.set(outcomes as i64);
    }

    /// Sets the number of policies and arguments on the broker that can lose or misroute messages.
    pub fn set_policy_problems(&self, problems: usize) {
        self.policy_problems.set(problems as i64);
    }

    /// Sets the number of workers that share the limits over all workers.
    pub fn set_workers(&self, workers: usize) {
        self.workers.set(workers as i64);
    }

    /// Sets whether the egress proxy fails, so that deliveries wait for it.
    pub fn set_proxy_failing(&self, failing: bool) {
        self.proxy_failing.set(failing.into());
    }

    fn job(&self, outcome: &'static str, reason: &'static str) {
        self.jobs.get_or_create(&[("outcome", outcome), ("reason", reason)]).inc();
    }

    /// Starts series with known labels at 0. A rate over a series that appears with its first count misses that count.
    fn begin_at_zero(&self) {
        let known: [(&Labelled, &'static str, &[&'static str]); 5] = [
            (&self.events, "result", &EVENT_RESULTS),
            (&self.events_irregular, "field", &["timestamp"]),
            (&self.publish_failures, "reason", &PUBLISH_FAILURES),
            (&self.store_reloads, "result", &RELOAD_RESULTS),
            (&self.delivery_log, "result", &LOG_RESULTS),
        ];
        for (family, label, values) in known {
            for value in values {
                drop(family.get_or_create(&[(label, value)]));
            }
        }
        self.set_workers(1);
        self.set_circuits([0; 4]);
        for outcome in ["delivered", "refused"] {
            drop(self.jobs.get_or_create(&[("outcome", outcome), ("reason", "")]));
        }
    }
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Metrics")
    }
}
