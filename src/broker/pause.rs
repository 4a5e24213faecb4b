//! Pauses before the broker is tried again: exponential and capped, with jitter so that workers do not retry in step.

use std::time::Duration;

/// Pauses that double from `initial` to `maximum`.
#[derive(Clone, Debug)]
pub struct Pause {
    initial: Duration,
    maximum: Duration,
    tries: u32,
}

impl Pause {
    /// Returns the pauses between tries to connect: 100 ms to 10 s.
    pub fn for_connecting() -> Pause {
        Pause { initial: Duration::from_millis(100), maximum: Duration::from_secs(10), tries: 0 }
    }

    /// Returns the pauses between tries to record something: 100 ms to 5 s.
    pub fn for_recording() -> Pause {
        Pause { initial: Duration::from_millis(100), maximum: Duration::from_secs(5), tries: 0 }
    }

    /// Returns the pauses between tries to count the workers: 2 s to 1 min. Each refusal costs a channel number.
    pub fn for_counting() -> Pause {
        Pause { initial: Duration::from_secs(2), maximum: Duration::from_secs(60), tries: 0 }
    }

    /// Returns the next pause. `draw` in `[0, 1)` spreads it over its upper half.
    pub fn next(&mut self, draw: f64) -> Duration {
        let longest = self.initial.saturating_mul(1 << self.tries.min(16)).min(self.maximum);
        self.tries = self.tries.saturating_add(1);
        longest.mul_f64(0.5 + draw.clamp(0.0, 1.0) / 2.0)
    }

    /// Starts again with the initial pause, because the last try worked.
    pub fn reset(&mut self) {
        self.tries = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doubles_to_its_maximum_within_its_upper_half() {
        let mut pause = Pause::for_connecting();
        let longest: Vec<_> = (0..9).map(|_| pause.next(1.0).as_millis()).collect();
        assert_eq!(longest, [100, 200, 400, 800, 1600, 3200, 6400, 10_000, 10_000]);
        assert_eq!(pause.next(0.0).as_millis(), 5_000);
        pause.reset();
        assert_eq!(pause.next(0.0).as_millis(), 50);
    }
}
