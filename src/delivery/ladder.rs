//! The delay ladder: the fixed list of delays, with one queue for each (ARCHITECTURE.md).
//!
//! A delay is 1, 1.25, 1.5 or 1.75 times a power of two in seconds, rounded up to whole milliseconds:
//! `... 63 79 94 110 | 125 157 188 219 | 250 313 375 438 | 500 625 750 875 | 1000 1250 1500 1750 | 2000 ...`.
//! The formula is not configurable. The TTL of an existing queue cannot change, so a new backoff policy never meets a
//! queue with other arguments. The policy only selects the part of the ladder that is declared.
//!
//! A wait of the schedule is rounded **up** to a delay. It is never early, and late by less than a quarter plus a
//! millisecond.
//!
//! Above the longest wait of the schedule, the ladder has delays that double, up to 2,048 s. The backlog of a dead
//! target must be able to wait for an hour, even if its retries wait for a second at most. Without these delays it
//! would return as often as the retries (200,000 jobs on a ladder that ends at 16 s: 14,000 times a second). They
//! follow the same formula and are at most 11 more queues; the default schedule needs none. A long wait takes several
//! of them, one after another.

use std::time::Duration;

use super::backoff;
use crate::settings::Backoff;

/// Every ladder has all delays of the formula between these two, whatever the schedule says. They serve the shortest
/// deferral and short `Retry-After` values.
const SHORT_WAIT: [Duration; 2] = [Duration::from_millis(250), Duration::from_secs(1)];

/// Index of the last doubling delay, 2^11 s or 34 minutes. A wait of an hour takes two or three hops.
const SPARSE_TO: i32 = 11 * 4;

/// From this delay on the gaps are so wide that [`Ladder::hop_evenly`] splits a wait into two delays.
const FINE: Duration = Duration::from_secs(32);

/// Index of the formula's first delay, 2^-6 s or 16 ms. Settings cannot ask for less than 50 ms (100 ms less half).
const FIRST: i32 = -6 * 4;

/// Index of the formula's last delay, 2^22 s or about 48 days. The next one would not fit into a message TTL of
/// RabbitMQ (32 bits of milliseconds). Settings cannot ask for more than ten and a half days (7 days plus half).
const LAST: i32 = 22 * 4;

/// The delays that one policy uses, in ascending order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ladder {
    delays: Vec<Duration>,
    /// How many delays follow each other without a gap, counted from the lowest.
    close: usize,
}

/// One hop on the ladder: the delay that a message waits now, and the rest of its wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hop {
    /// A delay of the ladder, in whole milliseconds.
    pub delay: Duration,
    /// The rest of the wait, for further steps. Zero if this delay covers the whole wait.
    pub remaining: Duration,
}

impl Ladder {
    /// Returns the ladder for a policy. It begins with the delay that holds the shortest wait, or 250 ms if that is
    /// less. It contains every delay up to the one that holds the longest backoff (maximum plus jitter), and then the
    /// doubling ones. `Retry-After` adds no delays: longer waits take several.
    pub fn for_backoff(policy: &Backoff) -> Ladder {
        let lowest = index_for(backoff::shortest(policy).min(SHORT_WAIT[0]));
        let highest = index_for(backoff::longest(policy).max(SHORT_WAIT[1]));
        let sparse = (highest + 1..=SPARSE_TO).filter(|index| index % 4 == 0);
        let close = (lowest..=highest).count();
        Ladder { delays: (lowest..=highest).chain(sparse).map(delay).collect(), close }
    }

    /// Returns every delay to declare, ascending, in whole milliseconds. Never empty.
    pub fn delays(&self) -> &[Duration] {
        &self.delays
    }

    /// Returns the longest delay.
    pub fn longest(&self) -> Duration {
        self.delays.last().copied().unwrap_or(SHORT_WAIT[1])
    }

    /// Returns the first hop of a wait that may end a little late: the last delay that is not longer, with the rest
    /// left for later hops. It spreads messages that were deferred in one moment and return over a long time. Rounding
    /// each up to a delay would return them in lumps: around an hour there is one delay every ten minutes. Below half a
    /// minute a second hop is not worth its cost.
    ///
    /// Among the doubling delays, each binary digit of the rest is a hop. So the wait is rounded up to as many digits
    /// as spreading needs.
    pub fn hop_evenly(&self, wait: Duration) -> Hop {
        let Some(at) = self.not_longer(wait) else { return self.hop(wait) };
        let below = self.delays[at];
        if at < self.close {
            return match below >= FINE {
                true => Hop { delay: below, remaining: wait - below },
                false => self.hop(wait),
            };
        }
        let grain = below / if below >= FINE { 8 } else { 2 };
        let rounded = grain * u32::try_from(wait.as_nanos().div_ceil(grain.as_nanos())).unwrap_or(u32::MAX);
        let delay = self.not_longer(rounded).map_or(below, |at| self.delays[at]);
        Hop { delay, remaining: rounded - delay }
    }

    /// Returns the first hop of a wait that should end on time, at the price of a second hop: the last delay that is
    /// not longer. Jobs that take turns would return in lumps otherwise.
    pub fn hop_finely(&self, wait: Duration) -> Hop {
        match self.not_longer(wait) {
            Some(at) if at < self.close => Hop { delay: self.delays[at], remaining: wait - self.delays[at] },
            Some(_) | None => self.hop_evenly(wait),
        }
    }

    /// Returns the first hop of a wait: the first delay that is not shorter. A wait beyond the schedule takes the
    /// longest delay that is not longer, and leaves the rest for later hops.
    pub fn hop(&self, wait: Duration) -> Hop {
        let above = self.delays[..self.close].partition_point(|delay| *delay < wait);
        if above < self.close {
            return Hop { delay: self.delays[above], remaining: Duration::ZERO };
        }
        let delay = self.not_longer(wait).map_or(SHORT_WAIT[1], |at| self.delays[at]);
        Hop { delay, remaining: wait - delay }
    }

    /// Returns the index of the longest delay that is not longer than `wait`.
    fn not_longer(&self, wait: Duration) -> Option<usize> {
        self.delays.partition_point(|delay| *delay <= wait).checked_sub(1)
    }
}

/// Returns the index of the formula's first delay that is not shorter than `wait`, declared or not, and at most
/// [`LAST`].
fn index_for(wait: Duration) -> i32 {
    (FIRST..LAST).find(|index| delay(*index) >= wait).unwrap_or(LAST)
}

/// Returns delay `index`: quarter `index mod 4` above the power of two `index div 4`, in seconds.
fn delay(index: i32) -> Duration {
    let quarters = 4 + u64::from(index.rem_euclid(4).unsigned_abs());
    let power = index.div_euclid(4);
    let millis_at_one_second = 250 * quarters;
    let shift = power.unsigned_abs();
    Duration::from_millis(if power >= 0 {
        millis_at_one_second << shift
    } else {
        millis_at_one_second.div_ceil(1 << shift)
    })
}

#[cfg(test)]
mod tests;
