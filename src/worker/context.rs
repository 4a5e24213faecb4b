//! Everything that the worker's parts share.

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
    poster::Poster,
    settings::Settings,
    store::LiveStore,
};

/// Everything the worker's parts share. Made by the composition root.
pub struct Context {
    /// Checked settings.
    pub settings: Settings,
    /// The webhook store, reloaded while running.
    pub store: Arc<LiveStore>,
    /// Which queues there are.
    pub plan: Plan,
    /// The delay rungs.
    pub ladder: Ladder,
    /// Confirmed publishing.
    pub publisher: Publisher,
    /// The number of the broker of `amqp.urls` to try first, so that workers spread over them.
    pub first_broker: usize,
    /// Makes POSTs.
    pub poster: Poster,
    /// Work on suspects.
    pub children: Children,
    /// What happened, for support.
    pub log: DeliveryLog,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// What readiness says.
    pub health: Arc<Health>,
    /// Outcomes that wait to be recorded.
    pub waiting: Waiting,
    /// Outcomes whose ack may have been lost.
    pub memory: Memory,
    /// What became of events whose ack may have been lost.
    pub dispatched: Memory,
    /// What the log says about deliveries.
    pub reports: Reports,
    /// Limits the requests of each circuit.
    pub circuits: Circuits,
    /// Slots for attempts, as many as `delivery.concurrency`.
    pub slots: Slots,
    /// Everything in flight.
    pub tasks: TaskTracker,
    /// Jobs that this worker has deferred because of the egress proxy.
    pub at_proxy: Mutex<Away>,
    /// How many workers there are with this one, 1 or more: they share the limits that hold over all workers.
    pub workers: watch::Sender<usize>,
}

impl Context {
    /// When new work may start.
    pub(crate) fn gate(&self) -> Gate {
        Gate::new(self.publisher.link(), &self.waiting, self.settings.delivery.concurrency)
    }
}
