//! The delay ladder: the fixed list of waits that queues exist for (ARCHITECTURE.md).
//!
//! Rung n lasts 1, 1.25, 1.5 or 1.75 times a power of two in seconds, in whole milliseconds rounded up:
//! `... 63 79 94 110 | 125 157 188 219 | 250 313 375 438 | 500 625 750 875 | 1000 1250 1500 1750 | 2000 ...`.
//! The formula is no setting: a queue's TTL never changes once its name is taken, so a new backoff policy can meet no
//! queue with foreign arguments. Only which stretch of the ladder is declared depends on the policy.
//!
//! A wait is rounded **up** to a rung: never early, and less than a quarter (and a millisecond) late.

use std::time::Duration;

use super::backoff;
use crate::settings::Backoff;

/// The longest wait that every ladder must be able to hold in steps no coarser than the rule: parking and short
/// `Retry-After` values are about a second, whatever the schedule says.
const SHORT_WAIT: Duration = Duration::from_secs(1);

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
    /// The ladder for a policy: from the rung that holds its shortest wait (or a second, if that is less) up to the
    /// one that holds its longest backoff (maximum plus jitter). `Retry-After` adds no rungs: longer waits take the
    /// longest rung more than once.
    pub fn for_backoff(policy: &Backoff) -> Ladder {
        let lowest = index_for(backoff::shortest(policy).min(SHORT_WAIT));
        let highest = index_for(backoff::longest(policy).max(SHORT_WAIT));
        Ladder { rungs: (lowest..=highest).map(rung).collect() }
    }

    /// Every rung to be declared, ascending, in whole milliseconds. Never empty.
    pub fn rungs(&self) -> &[Duration] {
        &self.rungs
    }

    /// The longest rung.
    pub fn longest(&self) -> Duration {
        self.rungs.last().copied().unwrap_or(SHORT_WAIT)
    }

    /// Where a wait starts that only has to be about as long as it says, and never mind a little less: on the last rung that is
    /// not longer, with the rest to be waited out afterwards. Many messages that were put aside in one moment, to come back
    /// over a long time, would come back in lumps if each were rounded up to a rung: of the rungs around an hour there is
    /// one every ten minutes. Below half a minute a second hop is not worth its cost.
    pub fn step_evenly(&self, wait: Duration) -> Step {
        let below = self.rungs.partition_point(|rung| *rung <= wait);
        match below.checked_sub(1).and_then(|at| self.rungs.get(at)) {
            Some(rung) if *rung >= FINE => Step { rung: *rung, remaining: wait - *rung },
            Some(_) | None => self.step(wait),
        }
    }

    /// Where a wait starts: the first rung that is not shorter. A wait beyond the longest rung takes the longest and
    /// leaves the rest to be waited out afterwards; a wait below the lowest takes the lowest.
    pub fn step(&self, wait: Duration) -> Step {
        let above = self.rungs.partition_point(|rung| *rung < wait);
        match self.rungs.get(above) {
            Some(rung) => Step { rung: *rung, remaining: Duration::ZERO },
            None => Step { rung: self.longest(), remaining: wait.saturating_sub(self.longest()) },
        }
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
