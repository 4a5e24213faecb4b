//! Labels, buckets and the registering of metrics.

use std::{borrow::Cow, fmt, sync::atomic::AtomicI64};

use prometheus_client::{
    encoding::EncodeMetric,
    metrics::{TypedMetric, counter::Counter, family::Family, gauge::Gauge},
    registry::Registry,
};

use super::catalogue::Entry;

/// Results of an event.
pub(super) const EVENT_RESULTS: [&str; 3] = ["dispatched", "no_target", "rejected"];

/// Results of a reload of the store.
pub(super) const RELOAD_RESULTS: [&str; 3] = ["loaded", "unchanged", "refused"];

/// Results of a record of the delivery log.
pub(super) const LOG_RESULTS: [&str; 2] = ["written", "lost"];

/// Reasons for which a publish is not done.
pub(super) const PUBLISH_FAILURES: [&str; 6] = ["returned", "nacked", "timed_out", "unclear", "channel_closed", "lost"];

/// Seconds. An HTTP exchange ends within the target's timeout, at most 120 s.
pub(super) const ATTEMPT_BUCKETS: [f64; 14] =
    [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0];

/// Seconds. Lag is milliseconds in normal operation, and hours after an outage.
pub(super) const LAG_BUCKETS: [f64; 14] =
    [0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 15.0, 60.0, 300.0, 1800.0, 7200.0, 86_400.0];

/// Seconds. A confirm takes a disk write on a majority of the cluster.
pub(super) const CONFIRM_BUCKETS: [f64; 12] =
    [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0];

pub(super) fn register<M>(registry: &mut Registry, entry: Entry, metric: M) -> M
where
    M: Clone + EncodeMetric + TypedMetric + fmt::Debug + Send + Sync + 'static,
{
    registry.register(entry.registered(), entry.help, metric.clone());
    metric
}

pub(super) fn count(family: &Labelled, label: &'static str, value: &'static str) {
    family.get_or_create(&[(label, value)]).inc();
}

/// Converts a number to `i64`, the type of gauges. Caps it at the largest value.
pub(super) fn gauge_value(messages: u64) -> i64 {
    i64::try_from(messages).unwrap_or(i64::MAX)
}

pub(super) type Labelled = Family<[(&'static str, &'static str); 1], Counter>;

pub(super) type Named = Family<[(&'static str, Cow<'static, str>); 1], Gauge<i64, AtomicI64>>;

/// Decrements its gauge when dropped, however the work ends.
pub(super) struct Attempting(pub(super) Gauge);

impl Drop for Attempting {
    fn drop(&mut self) {
        self.0.dec();
    }
}
