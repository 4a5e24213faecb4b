//! Limits how many of a worker's slots one circuit may take: dynamic thresholds (Choudhury and Hahne 1998).
//!
//! A circuit may start a request while its requests in flight are below [`FREE_SLOTS_FACTOR`] times the free slots. So some slots
//! stay free, however many circuits are slow. Circuits *on probation* have not answered since their start or since
//! their breaker last opened, or their origin has been silent for [`DOUBT`]. Together they hold at most half of the
//! slots, so the other half is left for circuits that answer. Within their half a similar rule holds
//! ([`PROBATION_DIVISOR`]), which leaves room for new circuits.

use std::time::Duration;

/// A circuit may have this many times the free slots in flight.
pub const FREE_SLOTS_FACTOR: usize = 2;

/// A circuit on probation may have 1/8 of the free slots of its half in flight.
pub const PROBATION_DIVISOR: usize = 8;

/// Shortest silence of an origin that puts its circuits on probation, or four times the 95th percentile if that is
/// longer. A host that serves many organizations hangs for all of them at once.
pub const DOUBT: Duration = Duration::from_millis(250);

/// The slots of a worker, and how many of them are taken.
#[derive(Clone, Copy, Debug)]
pub struct Slots {
    /// Most requests and waiting jobs at once.
    pub all: usize,
    /// Requests in flight.
    pub in_flight: usize,
    /// Requests in flight of circuits on probation.
    pub on_probation: usize,
    /// Jobs that wait in the process for a circuit.
    pub waiting: usize,
}

impl Slots {
    /// Returns whether a circuit with this many requests in flight may start one more. `on_probation` is `None` if the
    /// circuit is not on probation. Otherwise it is the number of requests in flight to its origin if that origin is
    /// silent, and 0 if it is not. Circuits that answer only errors (`is_erring`) use half of the slots for probation.
    pub fn admits(&self, in_flight: usize, on_probation: Option<usize>, is_erring: bool) -> bool {
        let free = self.all.saturating_sub(self.in_flight + self.waiting);
        let is_admitted = on_probation.is_none_or(|in_doubt| {
            let part = if is_erring { 4 } else { 2 };
            let free = self.all.div_ceil(part).saturating_sub(self.on_probation.max(in_doubt));
            // A small worker has room for a second request as well.
            in_flight < free.div_ceil(PROBATION_DIVISOR).max(free.div_ceil(2).min(2))
        });
        in_flight < FREE_SLOTS_FACTOR * free && is_admitted
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns how many requests each circuit has when all take as many as they can, and how many slots are left.
    fn taken(circuits: usize, on_probation: bool) -> (usize, usize) {
        let mut slots = Slots { all: 512, in_flight: 0, on_probation: 0, waiting: 0 };
        let mut each = vec![0; circuits];
        while each.iter().any(|one| slots.admits(*one, on_probation.then_some(0), false)) {
            for one in &mut each {
                if slots.admits(*one, on_probation.then_some(0), false) {
                    *one += 1;
                    slots.in_flight += 1;
                    slots.on_probation += usize::from(on_probation);
                }
            }
        }
        (each[0], 512 - slots.in_flight)
    }

    #[test]
    fn slow_circuits_leave_something_for_the_next_one() {
        assert_eq!([1, 2, 10, 100].map(|circuits| taken(circuits, false).1), [170, 102, 24, 2]);
    }

    #[test]
    fn circuits_on_probation_have_half_of_the_slots_and_leave_room_in_it() {
        for circuits in [1, 10, 50, 100, 1000] {
            let left = taken(circuits, true).1;
            assert!(left >= 256, "{circuits}: {left}");
        }
        assert!(taken(50, true).1 > 256 + 16, "a new circuit finds room");
    }
}
