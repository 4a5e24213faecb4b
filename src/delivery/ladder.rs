//! (to be written)

use std::time::Duration;

use crate::settings::Backoff;

/// STUB
pub struct Ladder(Vec<Duration>);

impl Ladder {
    /// STUB
    pub fn for_backoff(policy: &Backoff) -> Ladder {
        let longest = policy.maximum.mul_f64(1.0 + policy.jitter);
        let mut rungs = Vec::new();
        'all: for power in -4i32.. {
            for step in [1.0, 1.25, 1.5, 1.75] {
                let rung = Duration::from_millis((2f64.powi(power) * step * 1000.0).ceil() as u64);
                rungs.push(rung);
                if rung >= longest {
                    break 'all;
                }
            }
        }
        Ladder(rungs)
    }

    /// STUB: the shortest rung that is not shorter than `wait`, or the longest.
    pub fn step(&self, wait: Duration) -> Duration {
        self.0.iter().copied().find(|rung| *rung >= wait).unwrap_or(self.0[self.0.len() - 1])
    }
}
