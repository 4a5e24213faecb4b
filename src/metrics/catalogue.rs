//! The closed list of metrics. [`super::Metrics`] registers them, and `docs/reference/metrics.md` is generated from
//! them.

/// One metric as a scrape shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The name with which its samples begin. The names of counters end in `_total`.
    pub name: &'static str,
    /// Its kind.
    pub kind: Kind,
    /// Label names, in the order in which they are written.
    pub labels: &'static [&'static str],
    /// The help text, without the last full stop, which the encoder adds.
    pub help: &'static str,
}

/// The kind of a metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Only grows.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Counts observations by size.
    Histogram,
    /// Always 1: the labels hold the information.
    Info,
}

impl Kind {
    /// Returns the word for a `# TYPE` line.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
            Kind::Info => "info",
        }
    }
}

impl Entry {
    /// Returns the name under which the metric is registered. The client library appends `_total` and `_info` itself.
    pub(super) fn registered(&self) -> &'static str {
        match self.kind {
            Kind::Counter => self.name.strip_suffix("_total").unwrap_or(self.name),
            Kind::Info => self.name.strip_suffix("_info").unwrap_or(self.name),
            Kind::Gauge | Kind::Histogram => self.name,
        }
    }
}

/// Returns all metrics, in the order in which a scrape shows them.
pub fn catalogue() -> &'static [Entry] {
    ALL
}

macro_rules! entries {
    ($($id:ident = $kind:ident $name:literal [$($label:literal),*] $help:literal;)*) => {
        $(pub(super) const $id: Entry =
            Entry { name: $name, kind: Kind::$kind, labels: &[$($label),*], help: $help };)*
        const ALL: &[Entry] = &[$($id),*];
    };
}

entries! {
    EVENTS = Counter "leadhook_events_total" ["result"]
        "Events settled: dispatched (attempted directly, or at least one job was made), no_target, or rejected";
    NO_TARGET = Counter "leadhook_no_target_total" ["reason"]
        "Events without a target, by reason";
    EVENTS_REJECTED = Counter "leadhook_events_rejected_total" ["reason"]
        "Messages put on the rejected queue, by reason";
    EVENTS_IRREGULAR = Counter "leadhook_events_irregular_total" ["field"]
        "Events delivered although a field could not be read, by field. Today only timestamp: the event's lag is not measured";
    DELIVERIES = Counter "leadhook_deliveries_total" []
        "Deliveries of the events settled, one for each target: attempted directly, or confirmed as jobs";
    JOBS = Counter "leadhook_jobs_total" ["outcome", "reason"]
        "Jobs and direct attempts settled: delivered, refused (reason: kept on the failed queue, or empty), failed, retry (attempted again later), deferred (no attempt spent), rejected (not a usable job)";
    ATTEMPTS = Counter "leadhook_attempts_total" ["class", "outcome"]
        "HTTP attempts, by status class or the fault that prevented an answer, and by outcome: delivered, refused, retry, failed, deferred (not counted against the job)";
    DIRECT_ATTEMPTS = Counter "leadhook_direct_attempts_total" []
        "Attempts made straight from an event, without a job on the broker; they are among leadhook_attempts_total";
    ANSWERS_INCOMPLETE = Counter "leadhook_answers_incomplete_total" []
        "Answers with invalid headers, or whose body broke, did not end in 2 s or was longer than 64 KiB; their status counted";
    CONNECTIONS_REPLACED = Counter "leadhook_connections_replaced_total" []
        "Connections that a receiver had closed as idle when a request met them; the request was sent again over a new one, within the same attempt";
    ATTEMPT_SECONDS = Histogram "leadhook_attempt_seconds" []
        "Duration of attempts, from start to the last byte read or the fault";
    EVENT_LAG = Histogram "leadhook_event_lag_seconds" []
        "Time from an event's own timestamp to its first attempt at each target";
    DUE_LAG = Histogram "leadhook_due_lag_seconds" []
        "Time from when a retry was due to when it was made";
    IN_FLIGHT = Gauge "leadhook_attempts_in_flight" []
        "Attempts in flight now";
    CIRCUITS = Gauge "leadhook_circuits" ["state"]
        "Circuits (one organization's calls to one URL origin), by state: healthy, limited, failing, paused";
    CONFIRM_SECONDS = Histogram "leadhook_publish_confirm_seconds" []
        "Time from a publish to the broker's confirm";
    PUBLISH_FAILURES = Counter "leadhook_publish_failures_total" ["reason"]
        "Publishes that count as not done: returned, nacked, timed_out, unclear, channel_closed, lost";
    RECONNECTS = Counter "leadhook_reconnects_total" ["role"]
        "Reconnects that succeeded after a loss, by role: events, jobs or publish";
    STORE_RELOADS = Counter "leadhook_store_reloads_total" ["result"]
        "Reloads of the webhook store: loaded, unchanged or refused";
    STORE_INFO = Gauge "leadhook_store_info" ["revision"]
        "Always 1: the revision of the webhook store in use";
    STORE_RELOAD_SUCCESS = Gauge "leadhook_store_last_reload_success" []
        "1 if the last reload of the webhook store was accepted, 0 if it was refused and the previous store stays in use";
    QUEUE_MESSAGES = Gauge "leadhook_queue_messages" ["queue"]
        "Messages ready on each of Leadhook's queues, named without the prefix: events, jobs, failed, rejected, unreadable, workers (always 0), delay_<ms>";
    NOT_EMPTY = Gauge "leadhook_queue_not_empty_seconds" ["queue"]
        "For how long this worker has seen the failed, the rejected or the unreadable queue not empty; 0 when empty";
    RETRIES_WAITING = Gauge "leadhook_retries_waiting" []
        "Jobs on the delay queues, retries and deferred ones together";
    DUPLICATES_SUPPRESSED = Counter "leadhook_duplicates_suppressed_total" []
        "Redelivered events and jobs settled from memory, without a second POST";
    WAITING_OUTCOMES = Gauge "leadhook_waiting_outcomes" []
        "Outcomes known but not yet recorded on the broker";
    POLICY_PROBLEMS = Gauge "leadhook_broker_policy_problems" []
        "Policies and arguments on the broker that can lose or misroute messages, see /readyz; 0 without amqp.management_url";
    DELIVERY_LOG = Counter "leadhook_delivery_log_records_total" ["result"]
        "Records of the delivery log: written (confirmed by the broker) or lost (no room, or no time at the stop)";
    SUSPECTS = Gauge "leadhook_suspects_in_flight" []
        "Messages in progress that were redelivered 8 times or more; child processes work on them";
    CHILD_DEATHS = Counter "leadhook_child_deaths_total" ["child"]
        "Child processes that died: shared (by several messages), or alone (with one message, against which the death counts)";
    PANICS = Counter "leadhook_panics_total" []
        "Panics caught; each costs its job one attempt and is a bug in Leadhook";
    WORKERS = Gauge "leadhook_workers" []
        "Workers, as the broker counts them; they share the limits that hold over all workers. Each worker reports the same number";
    PROXY_FAILING = Gauge "leadhook_proxy_failing" []
        "1 while the egress proxy fails and deliveries wait for it, else 0";
    BUILD_INFO = Info "leadhook_build_info" ["version"]
        "Always 1: the version of Leadhook";
    TASKS = Gauge "leadhook_tasks" []
        "Tasks alive in this process, including those of its connections";
    RESIDENT_MEMORY = Gauge "process_resident_memory_bytes" []
        "Resident memory of this process; missing where the system has no /proc";
    START_TIME = Gauge "process_start_time_seconds" []
        "When this process began to count, in seconds since 1970";
}
