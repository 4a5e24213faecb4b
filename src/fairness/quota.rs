//! What one target has in flight, where it allows less than its lane: targets of one organization may share an origin, and one
//! that allows two attempts must neither be kept out by its neighbours' fifty nor narrow them.

use std::time::{Duration, Instant};

use super::{pace::Backlog, parked::Parked};
use crate::store::TargetKey;

/// A target's own limit, as its job brings it along.
#[derive(Clone, Copy, Debug)]
pub struct Own<'a> {
    /// Which target.
    pub target: &'a TargetKey,
    /// Most attempts in flight that it allows, in this worker.
    pub most: usize,
}

/// See the module's words.
#[derive(Clone, Debug)]
pub struct Quota {
    /// Attempts in flight.
    pub in_flight: usize,
    /// Jobs that wait in the process until one of them ends.
    pub waiting: usize,
    /// Jobs parked because of it that are still away.
    parked: Parked,
}

impl Quota {
    /// Nothing in flight yet.
    pub fn new(now: Instant) -> Quota {
        Quota { in_flight: 0, waiting: 0, parked: Parked::new(now) }
    }

    /// Jobs parked because of it that are still away.
    pub fn parked(&mut self, now: Instant) -> u64 {
        self.parked.away(now)
    }

    /// A job was parked because of it.
    pub fn park(&mut self, wait: Duration, now: Instant) {
        self.parked.add(wait, now);
    }

    /// What a job's wait is made from: `most` attempts at a time, and seconds that an answer takes. Others are left out: it is
    /// this target's own wish that is in the way.
    pub fn backlog(&mut self, most: usize, seconds: f64, now: Instant) -> Backlog {
        let rate = most as f64 / seconds;
        Backlog { lane: self.parked(now) as f64, all: 0.0, lanes: 0.0, returning: 0.0, rate }
    }

    /// Whether forgetting it loses nothing.
    pub fn is_idle(&mut self, now: Instant) -> bool {
        self.in_flight == 0 && self.waiting == 0 && self.parked(now) == 0
    }
}
