//! The delay ladder: the fixed list of waits that queues exist for (ARCHITECTURE.md).
//!
//! Rung n lasts 1, 1.25, 1.5 or 1.75 times a power of two in seconds, in whole milliseconds rounded up:
//! `... 63 79 94 110 | 125 157 188 219 | 250 313 375 438 | 500 625 750 875 | 1000 1250 1500 1750 | 2000 ...`.
//! The formula is no setting: a queue's TTL never changes once its name is taken, so a new backoff policy can meet no
//! queue with foreign arguments. Only which stretch of the ladder is declared depends on the policy.
//!
//! A wait of the schedule is rounded **up** to a rung: never early, and less than a quarter (and a millisecond) late.
//!
//! Above what the schedule needs the ladder goes on in rungs that double, up to 2,048 s, whatever the schedule: a backlog
//! for one dead target must be able to wait for an hour where retries wait for a second at most, and would come back as often
//! as those otherwise (200,000 jobs on a ladder that ends at 16 s: 14,000 times a second). They are rungs of the same formula,
//! at most 11 more queues, and none with the default schedule. A long wait takes several of them, one after another.

use std::time::Duration;

use super::backoff;
use crate::settings::Backoff;

/// The shortest wait of every ladder, and the longest one that it must hold in steps no coarser than the rule, whatever the
/// schedule says: the shortest deferral, and short `Retry-After` values.
const SHORT_WAIT: [Duration; 2] = [Duration::from_millis(250), Duration::from_secs(1)];

/// The last of the doubling rungs, 2^11 s, 34 minutes: an hour's wait takes two or three hops.
const SPARSE_TO: i32 = 11 * 4;

/// From here on rungs are so far apart that a wait is made of two of them, see [`Ladder::step_evenly`].
const FINE: Duration = Duration::from_secs(32);

/// First rung of the formula, 16 ms: 2^-6 s. Settings cannot ask for less than 50 ms (100 ms less half).
const FIRST: i32 = -6 * 4;

/// Last rung of the formula, 2^22 s, about 48 days: the last one that a message TTL of RabbitMQ (32 bits of
/// milliseconds) can hold. Settings cannot ask for more than ten and a half days (7 days and half).
const LAST: i32 = 22 * 4;

/// The rungs that one policy uses, ascending.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ladder {
    rungs: Vec<Duration>,
    /// How many of them, from the lowest on, follow each other without a gap.
    close: usize,
}

/// One hop on the ladder: on which rung a message waits now, and how much of its wait remains when it comes back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step {
    /// A rung of the ladder, in whole milliseconds.
    pub rung: Duration,
    /// Zero unless the wait was longer than the longest rung: then this is to be waited out by further steps.
    pub remaining: Duration,
}

impl Ladder {
    /// The ladder for a policy: from the rung that holds its shortest wait (or 250 ms, if that is less) up to the
    /// one that holds its longest backoff (maximum plus jitter), and the doubling ones above. `Retry-After` adds no rungs:
    /// longer waits take several.
    pub fn for_backoff(policy: &Backoff) -> Ladder {
        let lowest = index_for(backoff::shortest(policy).min(SHORT_WAIT[0]));
        let highest = index_for(backoff::longest(policy).max(SHORT_WAIT[1]));
        let sparse = (highest + 1..=SPARSE_TO).filter(|index| index % 4 == 0);
        let close = (lowest..=highest).count();
        Ladder { rungs: (lowest..=highest).chain(sparse).map(rung).collect(), close }
    }

    /// Every rung to be declared, ascending, in whole milliseconds. Never empty.
    pub fn rungs(&self) -> &[Duration] {
        &self.rungs
    }

    /// The longest rung.
    pub fn longest(&self) -> Duration {
        self.rungs.last().copied().unwrap_or(SHORT_WAIT[1])
    }

    /// Where a wait starts that only has to be about as long as it says, and never mind a little less: on the last rung that is
    /// not longer, with the rest to be waited out afterwards. Many messages that were put aside in one moment, to come back
    /// over a long time, would come back in lumps if each were rounded up to a rung: of the rungs around an hour there is
    /// one every ten minutes. Below half a minute a second hop is not worth its cost.
    ///
    /// Among the doubling rungs each binary digit of the rest is a hop, so no more digits are kept than spreading needs.
    pub fn step_evenly(&self, wait: Duration) -> Step {
        let Some(at) = self.not_longer(wait) else { return self.step(wait) };
        let below = self.rungs[at];
        if at < self.close {
            return match below >= FINE {
                true => Step { rung: below, remaining: wait - below },
                false => self.step(wait),
            };
        }
        let grain = below / if below >= FINE { 8 } else { 2 };
        let rounded = grain * u32::try_from(wait.as_nanos().div_ceil(grain.as_nanos())).unwrap_or(u32::MAX);
        let rung = self.not_longer(rounded).map_or(below, |at| self.rungs[at]);
        Step { rung, remaining: rounded - rung }
    }

    /// Where a wait starts that should end at its time, at the price of a second hop: on the last rung that is not longer. Jobs that
    /// take turns would come back in lumps otherwise.
    pub fn step_finely(&self, wait: Duration) -> Step {
        match self.not_longer(wait) {
            Some(at) if at < self.close => Step { rung: self.rungs[at], remaining: wait - self.rungs[at] },
            Some(_) | None => self.step_evenly(wait),
        }
    }

    /// Where a wait starts: the first rung that is not shorter. A wait beyond what the schedule needs takes the longest rung that
    /// is not longer, and leaves the rest to be waited out afterwards; a wait below the lowest takes the lowest.
    pub fn step(&self, wait: Duration) -> Step {
        let above = self.rungs[..self.close].partition_point(|rung| *rung < wait);
        if above < self.close {
            return Step { rung: self.rungs[above], remaining: Duration::ZERO };
        }
        let rung = self.not_longer(wait).map_or(SHORT_WAIT[1], |at| self.rungs[at]);
        Step { rung, remaining: wait - rung }
    }

    /// The longest rung that is not longer.
    fn not_longer(&self, wait: Duration) -> Option<usize> {
        self.rungs.partition_point(|rung| *rung <= wait).checked_sub(1)
    }
}

/// The first rung of the formula that is not shorter than `wait`, declared or not; at most the formula's last (48 days).
pub fn rung_for(wait: Duration) -> Duration {
    rung(index_for(wait))
}

fn index_for(wait: Duration) -> i32 {
    (FIRST..LAST).find(|index| rung(*index) >= wait).unwrap_or(LAST)
}

/// Rung `index`: quarter `index mod 4` above the power of two `index div 4`.
fn rung(index: i32) -> Duration {
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
