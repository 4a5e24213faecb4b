//! Decides when a session suspends consuming because the gate is closed.

use std::time::{Duration, Instant};

use crate::worker::settle::gate::Gate;

/// How long the gate may stay closed before the consumer is cancelled.
const PATIENCE: Duration = Duration::from_secs(10);

/// Shortest time between two suspensions. Each adds one redelivery to every message that is given back (RabbitMQ up to
/// 4.2).
const BETWEEN: Duration = Duration::from_secs(60);

/// Decides when to suspend consuming.
pub(crate) struct Suspensions {
    patience: Duration,
    between: Duration,
    earliest: Instant,
}

impl Default for Suspensions {
    fn default() -> Suspensions {
        Suspensions::new(PATIENCE, BETWEEN)
    }
}

impl Suspensions {
    fn new(patience: Duration, between: Duration) -> Suspensions {
        Suspensions { patience, between, earliest: Instant::now() }
    }

    /// Waits until the gate has been closed for long enough and the last suspension is long enough ago.
    pub(crate) async fn due(&self, gate: &mut Gate) {
        tokio::time::sleep_until(self.earliest.into()).await;
        gate.closed_for(self.patience).await;
    }

    /// Notes that consuming was suspended.
    pub(crate) fn suspended(&mut self, now: Instant) {
        self.earliest = now + self.between;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::broker::publisher::Link;
    use crate::worker::settle::gate::Waiting;

    #[tokio::test]
    async fn two_suspensions_lie_apart() {
        assert_eq!(BETWEEN, Duration::from_secs(60), "the guarantees promise it");
        let (_link, receiver) = tokio::sync::watch::channel(Link::Blocked("memory".into()));
        let mut gate = Gate::new(receiver, &Waiting::default(), 4);
        let between = Duration::from_millis(300);
        let mut suspensions = Suspensions::new(Duration::from_millis(10), between);
        suspensions.due(&mut gate).await;
        let begun = Instant::now();
        suspensions.suspended(begun);
        suspensions.due(&mut gate).await;
        assert!(begun.elapsed() >= between, "{:?}", begun.elapsed());
    }
}
