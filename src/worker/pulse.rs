//! Whether the consumers live: not only the process and the sockets.
//!
//! A connection can be half-open (bytes vanish, nobody is told), and a consumer can starve on a connection that is well: the
//! broker has forgotten it, or its deliveries go nowhere. Either way the worker would sit there connected and idle, with
//! work waiting. So each half heartbeat the consuming connection itself is asked about both queues, and the answer is
//! held against what the intake sees:
//!
//! | what is seen | what it means |
//! |---|---|
//! | no answer within a heartbeat | half-open, or a broker that hangs |
//! | no consumer counted, twice in a row | the broker has forgotten ours |
//! | messages ready, twice in a row, while the intake has waited for one for a whole heartbeat with room in its window | deliveries do not arrive |
//!
//! Each ends the session: readiness says why, and another connection follows. lapin notices a silent broker by itself, but
//! looks only every half heartbeat once two are over (`broker::connection::address`).

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use lapin::{Connection, types::ShortString};

use crate::broker::topology::{self, Count};

/// Looks in a row that must agree before a consumer counts as dead: a queue whose leader moves counts nothing for a moment.
const AGREED: u32 = 2;

/// What an intake shows of itself.
pub(super) struct Ward {
    queue: ShortString,
    /// How many messages the broker sends ahead at most.
    window: AtomicUsize,
    /// Messages taken and not yet done with.
    held: AtomicUsize,
    /// Since when the intake waits for the next message, if it does.
    since: Mutex<Option<Instant>>,
    /// The session has given its connection up.
    abandoned: AtomicBool,
}

impl Ward {
    pub(super) fn new(queue: &ShortString) -> Arc<Ward> {
        Arc::new(Ward {
            queue: queue.clone(),
            window: AtomicUsize::new(0),
            held: AtomicUsize::new(0),
            since: Mutex::default(),
            abandoned: AtomicBool::new(false),
        })
    }

    /// So many more may be sent ahead.
    pub(super) fn widen(&self, by: u16) {
        self.window.fetch_add(by.into(), Ordering::Relaxed);
    }

    /// The intake waits, for as long as the guard lives.
    pub(super) fn waits(self: &Arc<Ward>) -> Waits {
        *self.since.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
        Waits(self.clone())
    }

    /// One message is held, for as long as the guard lives.
    pub(super) fn holds(self: &Arc<Ward>) -> Holds {
        self.held.fetch_add(1, Ordering::Relaxed);
        Holds(self.clone())
    }

    /// Whether the connection has been given up: what it brought comes again by another.
    pub(super) fn is_abandoned(&self) -> bool {
        self.abandoned.load(Ordering::Acquire)
    }

    /// Gives the connection up.
    pub(super) fn abandon(&self) {
        self.abandoned.store(true, Ordering::Release);
    }

    fn waited(&self, now: Instant) -> Option<Duration> {
        let room = self.held.load(Ordering::Relaxed) < self.window.load(Ordering::Relaxed);
        let since = *self.since.lock().unwrap_or_else(PoisonError::into_inner);
        since.filter(|_| room).map(|since| now.duration_since(since))
    }
}

/// See [`Ward::waits`].
pub(super) struct Waits(Arc<Ward>);

impl Drop for Waits {
    fn drop(&mut self) {
        *self.0.since.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

/// See [`Ward::holds`].
pub(super) struct Holds(Arc<Ward>);

impl Holds {
    /// The intake that it came from.
    pub(super) fn ward(&self) -> &Ward {
        &self.0
    }
}

impl Drop for Holds {
    fn drop(&mut self) {
        self.0.held.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What is wrong with one consumer, as far as one look shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Trouble {
    Forgotten,
    Starving,
}

/// Judges one look: what the broker counts, and for how long the intake has waited with room to spare.
fn trouble(count: Count, waited: Option<Duration>, heartbeat: Duration) -> Option<Trouble> {
    match count {
        Count { consumers: 0, .. } => Some(Trouble::Forgotten),
        Count { ready, .. } if ready > 0 && waited.is_some_and(|waited| waited >= heartbeat) => Some(Trouble::Starving),
        _ => None,
    }
}

/// Looks until something is wrong, and says what.
pub(super) async fn watch(connection: &Connection, wards: [Arc<Ward>; 2], heartbeat: Duration) -> String {
    let mut tick = tokio::time::interval(heartbeat / 2);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut seen = [(None, 0), (None, 0)];
    loop {
        tick.tick().await;
        for (ward, seen) in wards.iter().zip(&mut seen) {
            let count = match tokio::time::timeout(heartbeat, topology::count(connection, ward.queue.as_str())).await {
                Ok(Ok(Some(count))) => count,
                // Missing or hidden: what that means is not for this place to say.
                Ok(Ok(None)) => continue,
                Ok(Err(error)) => return error.to_string(),
                Err(_) => return format!("the broker has not answered for {} s", heartbeat.as_secs_f64()),
            };
            let now = trouble(count, ward.waited(Instant::now()), heartbeat);
            *seen = if now == seen.0 { (now, seen.1 + 1) } else { (now, 1) };
            match *seen {
                (Some(Trouble::Forgotten), AGREED..) => {
                    return format!("the broker counts no consumer on {}", ward.queue);
                }
                (Some(Trouble::Starving), AGREED..) => {
                    return format!("{} messages wait on {}, and its consumer gets none", count.ready, ward.queue);
                }
                _ => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEARTBEAT: Duration = Duration::from_secs(10);

    #[test]
    fn a_consumer_is_in_trouble_when_it_is_forgotten_or_starves() {
        let long = Some(HEARTBEAT);
        let just_now = Some(Duration::from_secs(9));
        let count = |ready, consumers| Count { ready, consumers };
        assert_eq!(trouble(count(0, 0), None, HEARTBEAT), Some(Trouble::Forgotten));
        assert_eq!(trouble(count(5, 1), long, HEARTBEAT), Some(Trouble::Starving));
        assert_eq!(trouble(count(0, 1), long, HEARTBEAT), None, "nothing to do is no trouble");
        assert_eq!(trouble(count(5, 1), just_now, HEARTBEAT), None);
        assert_eq!(trouble(count(5, 1), None, HEARTBEAT), None, "busy, or its window is full");
    }

    #[test]
    fn an_intake_waits_only_with_room_in_its_window() {
        let ward = Ward::new(&"jobs".into());
        let now = Instant::now;
        ward.widen(1);
        assert_eq!(ward.waited(now()), None);
        let waits = ward.waits();
        assert!(ward.waited(now()).is_some());
        let held = ward.holds();
        assert_eq!(ward.waited(now()), None, "the window is full");
        ward.widen(1);
        assert!(ward.waited(now()).is_some());
        drop(held);
        drop(waits);
        assert_eq!(ward.waited(now()), None);
    }
}
