//! State that all parts of the worker share.

use std::sync::{Arc, Mutex};

use tokio::sync::watch;
use tokio_util::task::TaskTracker;

use super::{
    poison::children::Children,
    report::Reports,
    settle::{
        gate::{Gate, Waiting},
        memory::Memory,
    },
    slots::Slots,
};
use crate::{
    broker::{publisher::Publisher, topology::Plan},
    delivery::ladder::Ladder,
    delivery_log::DeliveryLog,
    health::Health,
    limits::{Circuits, deferral::Away},
    metrics::Metrics,
    sender::Sender,
    settings::Settings,
    store::LiveStore,
};

/// State that all parts of the worker share. The composition root makes it.
pub struct Context {
    /// Checked settings.
    pub settings: Settings,
    /// The webhook store, reloaded while the worker runs.
    pub store: Arc<LiveStore>,
    /// Names and arguments of the queues.
    pub plan: Plan,
    /// The delay ladder.
    pub ladder: Ladder,
    /// Publishes with confirms.
    pub publisher: Publisher,
    /// Number in `amqp.urls` of the broker to try first. It differs between workers, so that they spread over the
    /// brokers.
    pub first_broker: usize,
    /// Makes POSTs.
    pub sender: Sender,
    /// Child processes for suspects.
    pub children: Children,
    /// The delivery log, for support.
    pub log: DeliveryLog,
    /// The counters.
    pub metrics: Arc<Metrics>,
    /// State of readiness.
    pub health: Arc<Health>,
    /// Outcomes that wait to be recorded.
    pub waiting: Waiting,
    /// Results of jobs whose ack may have been lost.
    pub memory: Memory,
    /// Results of events whose ack may have been lost.
    pub dispatched: Memory,
    /// Log lines and counts about deliveries.
    pub reports: Reports,
    /// Limits the requests of each circuit.
    pub circuits: Circuits,
    /// Slots for attempts, as many as `delivery.concurrency`.
    pub slots: Slots,
    /// Tasks of all messages in flight.
    pub tasks: TaskTracker,
    /// Tracks the jobs that this worker has deferred because of the egress proxy.
    pub at_proxy: Mutex<Away>,
    /// Number of workers, 1 or more, including this one. They share the limits that hold over all workers.
    pub workers: watch::Sender<usize>,
}

impl Context {
    /// Returns a gate that opens while new work may start.
    pub(crate) fn gate(&self) -> Gate {
        Gate::new(self.publisher.link(), &self.waiting, self.settings.delivery.concurrency)
    }
}
