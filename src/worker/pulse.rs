//! Whether the consumers live: not only the process and the sockets.
//!
//! A connection can be half-open (bytes vanish, nobody is told), and a consumer can starve on a connection that is well: the
//! broker has forgotten it, or its deliveries go nowhere. Either way the worker would sit there connected and idle, with
//! work waiting. So every 2 s a consuming connection itself is asked about its queue, and the answer is
//! held against what the intake sees:
//!
//! | what is seen | what it means |
//! |---|---|
//! | no answer within a heartbeat, and no delivery meanwhile | half-open, or a broker that hangs |
//! | messages ready and no consumer, for half a heartbeat | the broker has forgotten ours |
//! | nothing ready and no consumer, for 6 s, while the intake waits with room in its window | the same; or a queue without a leader, or a member that is cut off from its cluster |
//! | messages ready, for half a heartbeat, while the intake has waited for one for a whole heartbeat with room in its window | deliveries do not arrive |
//!
//! Each ends the session: readiness says why, and another connection follows. Ending a healthy one would be worse than the
//! trouble: all that it holds is charged a delivery, and its events are dispatched twice. So a delivery that arrives is
//! stronger than any count. The broker is blamed only if it counts nothing on the other intake's queue either, because that
//! costs both intakes their connections. RabbitMQ answers "nothing ready, no consumer" also when a queue's leader takes longer than a
//! quarter of a second to say (`rabbit_quorum_queue:stat`), and an answer may stand behind a window of large messages.
//! lapin notices a silent broker by itself (`broker::connection::address`).

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use lapin::{Connection, types::ShortString};
use tokio::sync::Notify;

use crate::broker::topology::{Count, Counter};

/// How often the broker is asked at least.
const LOOK: Duration = Duration::from_secs(2);

/// How long a count must say the same where it may only say that the leader did not answer. A member that is cut off
/// from its cluster answers so (4.3).
const UNSURE: Duration = Duration::from_secs(6);

/// What an intake shows of itself.
pub(super) struct Ward {
    queue: ShortString,
    /// How many messages the broker sends ahead at most.
    window: AtomicUsize,
    /// Messages taken and not yet done with.
    held: AtomicUsize,
    /// Told when the last of them is done with.
    settled: Notify,
    /// Since when the intake waits for the next message, if it does.
    since: Mutex<Option<Instant>>,
    /// Messages that have arrived.
    arrived: AtomicUsize,
    /// The session has given its connection up.
    abandoned: AtomicBool,
}

impl Ward {
    pub(super) fn new(queue: &ShortString) -> Arc<Ward> {
        Arc::new(Ward {
            queue: queue.clone(),
            window: AtomicUsize::new(0),
            held: AtomicUsize::new(0),
            settled: Notify::new(),
            since: Mutex::default(),
            arrived: AtomicUsize::new(0),
            abandoned: AtomicBool::new(false),
        })
    }

    /// So many messages may be sent ahead from now on.
    pub(super) fn set_window(&self, window: u16) {
        self.window.store(window.into(), Ordering::Relaxed);
    }

    /// The intake waits, for as long as the guard lives.
    pub(super) fn waits(self: &Arc<Ward>) -> Waits {
        *self.since.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
        Waits(self.clone())
    }

    /// One message is held, for as long as the guard lives.
    pub(super) fn holds(self: &Arc<Ward>) -> Holds {
        self.held.fetch_add(1, Ordering::Relaxed);
        self.arrived.fetch_add(1, Ordering::Relaxed);
        Holds(self.clone())
    }

    /// Waits until no message is held.
    pub(super) async fn settled(&self) {
        loop {
            // Listens before it looks: the last message may be done with in between.
            let settled = self.settled.notified();
            if self.held.load(Ordering::Acquire) == 0 {
                return;
            }
            settled.await;
        }
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
        if self.0.held.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.0.settled.notify_waiters();
        }
    }
}

/// What is wrong with one consumer, as far as one look shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Trouble {
    /// Messages wait and nobody is there.
    Forgotten,
    /// Nobody is counted, which may only mean that nobody was asked.
    Unsure,
    /// Messages wait, and the intake for them.
    Starving,
}

impl Trouble {
    /// How long looks must agree.
    fn lasting(self, heartbeat: Duration) -> Duration {
        match self {
            // A queue whose leader moves counts nothing for a moment.
            Trouble::Forgotten | Trouble::Starving => heartbeat / 2,
            Trouble::Unsure => UNSURE,
        }
    }
}

/// A consumer that does not live.
#[derive(Debug)]
pub(super) struct Dead {
    /// In words.
    pub(super) why: String,
    /// The broker answers and reaches no queue: its other connections are of no use either.
    pub(super) blames_broker: bool,
}

impl Dead {
    pub(super) fn of(why: String) -> Dead {
        Dead { why, blames_broker: false }
    }
}

/// Judges one look: what the broker counts, for how long the intake has waited with room to spare, and whether a message
/// has arrived since the look before.
fn trouble(count: Count, waited: Option<Duration>, arrived: bool, heartbeat: Duration) -> Option<Trouble> {
    let in_vain = waited.is_some_and(|waited| waited >= heartbeat);
    match count {
        _ if arrived => None,
        Count { consumers: 0, ready: 0 } => waited.map(|_| Trouble::Unsure),
        Count { consumers: 0, .. } => Some(Trouble::Forgotten),
        Count { ready: 0, .. } => None,
        Count { .. } => in_vain.then_some(Trouble::Starving),
    }
}

/// What the looks so far came to.
#[derive(Default)]
struct Seen {
    trouble: Option<(Trouble, Instant)>,
    arrived: usize,
}

/// Looks until something is wrong, and says what. `other` is the queue of the other intake.
pub(super) async fn watch(connection: &Connection, ward: &Ward, other: &ShortString, heartbeat: Duration) -> Dead {
    let mut tick = tokio::time::interval(LOOK.min(heartbeat / 2));
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut seen = Seen::default();
    let mut counter = Counter::new(connection);
    let arrived = || ward.arrived.load(Ordering::Relaxed);
    loop {
        tick.tick().await;
        let before = arrived();
        let count = match tokio::time::timeout(heartbeat, counter.count(ward.queue.as_str())).await {
            Ok(Ok(Some(count))) => count,
            // Missing or hidden: what that means is not for this place to say.
            Ok(Ok(None)) => continue,
            Ok(Err(error)) => return Dead::of(error.to_string()),
            // The answer stands behind what arrives. The next question goes by a channel that waits for none.
            Err(_) if arrived() > before => {
                counter = Counter::new(connection);
                continue;
            }
            Err(_) => return Dead::of(format!("the broker has not answered for {} s", heartbeat.as_secs_f64())),
        };
        let here = arrived();
        let fresh = std::mem::replace(&mut seen.arrived, here) != here;
        let now = Instant::now();
        let Some(trouble) = trouble(count, ward.waited(now), fresh, heartbeat) else {
            seen.trouble = None;
            continue;
        };
        let since = match seen.trouble {
            Some((same, since)) if same == trouble => since,
            _ => now,
        };
        seen.trouble = Some((trouble, since));
        if now.duration_since(since) >= trouble.lasting(heartbeat) {
            let why = match trouble {
                Trouble::Forgotten | Trouble::Unsure => format!("the broker counts no consumer on {}", ward.queue),
                Trouble::Starving => {
                    format!("{} messages wait on {}, and its consumer gets none", count.ready, ward.queue)
                }
            };
            let blames_broker = trouble == Trouble::Unsure && {
                let other = tokio::time::timeout(heartbeat, counter.count(other.as_str())).await;
                matches!(other, Ok(Ok(Some(Count { consumers: 0, ready: 0 }))))
            };
            return Dead { why, blames_broker };
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    const HEARTBEAT: Duration = Duration::from_secs(10);

    #[test]
    fn a_consumer_is_in_trouble_when_it_is_forgotten_or_starves() {
        let long = Some(HEARTBEAT);
        let just_now = Some(Duration::from_secs(9));
        let look = |ready, consumers, waited| trouble(Count { ready, consumers }, waited, false, HEARTBEAT);
        assert_eq!(look(5, 0, None), Some(Trouble::Forgotten));
        assert_eq!(look(0, 0, long), Some(Trouble::Unsure));
        assert_eq!(look(5, 1, long), Some(Trouble::Starving));
        assert_eq!(look(0, 0, just_now), Some(Trouble::Unsure));
        assert_eq!(look(0, 0, None), None, "busy: the leader only did not say");
        assert_eq!(look(0, 1, long), None, "nothing to do is no trouble");
        assert_eq!(look(5, 1, just_now), None);
        assert_eq!(look(5, 1, None), None, "busy, or its window is full");
        for count in
            [Count { ready: 5, consumers: 0 }, Count { ready: 0, consumers: 0 }, Count { ready: 5, consumers: 1 }]
        {
            assert_eq!(trouble(count, long, true, HEARTBEAT), None, "what arrives is stronger than any count");
        }
    }

    #[test]
    fn an_intake_waits_only_with_room_in_its_window() {
        let ward = Ward::new(&"jobs".into());
        let now = Instant::now;
        ward.set_window(1);
        assert_eq!(ward.waited(now()), None);
        let waits = ward.waits();
        assert!(ward.waited(now()).is_some());
        let held = ward.holds();
        assert_eq!(ward.waited(now()), None, "the window is full");
        ward.set_window(2);
        assert!(ward.waited(now()).is_some());
        drop(held);
        drop(waits);
        assert_eq!(ward.waited(now()), None);
    }

    #[tokio::test]
    async fn an_intake_is_settled_when_nothing_is_held() {
        let ward = Ward::new(&"events".into());
        let (one, other) = (ward.holds(), ward.holds());
        let mut settled = Box::pin(ward.settled());
        assert!((&mut settled).now_or_never().is_none());
        drop(one);
        assert!((&mut settled).now_or_never().is_none(), "the other one is held still");
        drop(other);
        settled.await;
        ward.settled().await;
    }
}
