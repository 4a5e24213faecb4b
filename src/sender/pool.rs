//! Connections that wait for the next exchange.
//!
//! Receivers close idle connections, and a POST that meets a closing one is lost. So a connection waits for 4 s at
//! most, or for one second less than the receiver announces. It lives for 60 s at most, so that a DNS change takes
//! effect under load too.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError, Weak},
    time::{Duration, Instant},
};

use http::HeaderMap;

use super::connection::Connection;

/// How long a connection waits if the receiver announces nothing. Common receivers close after five seconds.
const IDLE: Duration = Duration::from_secs(4);

/// The longest life of a connection, and the longest wait that a receiver can announce.
const LIFETIME: Duration = Duration::from_secs(60);

/// How often connections that have waited too long are closed.
const SWEEP: Duration = Duration::from_secs(1);

/// The most waiting connections for one key: more than the usual concurrency, because they are closed after [`IDLE`].
const MOST: usize = 1024;

/// The exchanges that share connections: one organization, one origin, one client certificate, one trusted authority.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(super) struct Key {
    /// `<organization> <origin>`.
    pub(super) circuit: Arc<str>,
    /// The fingerprint of our client certificate, if there is one.
    pub(super) client_certificate: Option<[u8; 32]>,
    /// The fingerprint of the receiver's own authority, if there is one.
    pub(super) ca_certificate: Option<[u8; 32]>,
}

struct Waiting {
    connection: Connection,
    until: Instant,
}

/// The waiting connections.
#[derive(Default)]
pub(super) struct Pool(Mutex<HashMap<Key, Vec<Waiting>>>);

impl Pool {
    /// Starts an empty pool, which closes connections that wait too long. Needs a Tokio runtime.
    pub(super) fn start() -> Arc<Pool> {
        let pool = Arc::new(Pool::default());
        tokio::spawn(sweep(Arc::downgrade(&pool)));
        pool
    }

    /// Takes the connection that has waited for the shortest time, if there is one.
    pub(super) fn take(&self, key: &Key) -> Option<Connection> {
        let mut pool = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let waiting = pool.get_mut(key)?.pop()?;
        (waiting.until > Instant::now()).then_some(waiting.connection)
    }

    /// Closes all waiting connections, and returns when their file descriptors are free. Returns whether there were
    /// any.
    pub(super) async fn clear(&self) -> bool {
        let over = std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner));
        let mut any = false;
        for waiting in over.into_values().flatten() {
            any = true;
            waiting.connection.abort().await;
        }
        any
    }

    /// Keeps a connection for the next exchange, for as long as the last answer allows.
    pub(super) fn keep(&self, key: Key, connection: Connection, answer: &HeaderMap) {
        connection.mark_idle();
        let now = Instant::now();
        let until = until(now, connection.opened, answer);
        let mut pool = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let there = pool.entry(key).or_default();
        if there.len() < MOST && until > now {
            there.push(Waiting { connection, until });
        }
    }
}

/// Returns until when a connection may be used again that was opened at `opened` and got this answer at `now`.
fn until(now: Instant, opened: Instant, answer: &HeaderMap) -> Instant {
    (now + idle(answer)).min(opened + LIFETIME)
}

/// Returns how long a connection may wait after this answer: `Keep-Alive: timeout=SECONDS` (RFC 2068, section
/// 19.7.1.1).
fn idle(answer: &HeaderMap) -> Duration {
    let announced = answer.get("keep-alive").and_then(|value| value.to_str().ok()).and_then(|value| {
        let parameters = value.split(',').filter_map(|parameter| parameter.split_once('='));
        let mut timeouts = parameters.filter(|(name, _)| name.trim().eq_ignore_ascii_case("timeout"));
        timeouts.next()?.1.trim().trim_matches('"').parse().ok()
    });
    announced.map_or(IDLE, |seconds: u64| Duration::from_secs(seconds.saturating_sub(1)).min(LIFETIME))
}

async fn sweep(pool: Weak<Pool>) {
    let mut tick = tokio::time::interval(SWEEP);
    loop {
        tick.tick().await;
        let Some(pool) = pool.upgrade() else { return };
        let now = Instant::now();
        let mut over = Vec::new();
        pool.0.lock().unwrap_or_else(PoisonError::into_inner).retain(|_, waiting| {
            over.extend(waiting.extract_if(.., |waiting| waiting.until <= now));
            !waiting.is_empty()
        });
        over.into_iter().for_each(|waiting| waiting.connection.close());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_connection_outlives_a_minute() {
        let opened = Instant::now();
        let announced = HeaderMap::from_iter([("keep-alive".parse().unwrap(), "timeout=300".parse().unwrap())]);
        for (age, left) in [(0, 60), (30, 30), (59, 1), (60, 0)] {
            let now = opened + Duration::from_secs(age);
            assert_eq!(until(now, opened, &announced), now + Duration::from_secs(left), "after {age} s");
        }
        let now = opened + Duration::from_secs(10);
        assert_eq!(until(now, opened, &HeaderMap::new()), now + IDLE);
    }

    #[test]
    fn a_connection_waits_for_less_than_the_receiver_announces() {
        let idle_of =
            |value: &str| idle(&HeaderMap::from_iter([("keep-alive".parse().unwrap(), value.parse().unwrap())]));
        assert_eq!(idle(&HeaderMap::new()), IDLE);
        for (value, seconds) in [
            ("timeout=5", 4),
            ("max=100, timeout=3", 2),
            ("Timeout = \"15\", max=2", 14),
            ("timeout=1", 0),
            ("timeout=0", 0),
        ] {
            assert_eq!(idle_of(value), Duration::from_secs(seconds), "{value}");
        }
        assert_eq!(idle_of("timeout=3600"), LIFETIME);
        for value in ["timeout", "max=5", "timeout=-1", "timeout=soon"] {
            assert_eq!(idle_of(value), IDLE, "{value}");
        }
    }
}
