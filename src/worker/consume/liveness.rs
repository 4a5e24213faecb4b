//! Detects consumers that receive nothing although the process and its sockets are alive.
//!
//! A connection can be half-open: bytes vanish without an error. A consumer can also starve on a healthy connection,
//! because the broker has forgotten it or its deliveries go nowhere. Either way the worker would stay connected and
//! idle while work waits. So every 2 s each consuming connection asks the broker about its queue, and compares the
//! answer with the state of the intake:
//!
//! | observation | meaning |
//! |---|---|
//! | no answer within a heartbeat, and no delivery meanwhile | half-open connection, or a broker that hangs |
//! | messages ready and no consumer, for half a heartbeat | the broker has forgotten our consumer |
//! | nothing ready and no consumer, for 6 s, while the intake waits with room in its window | the same; or a queue without a leader, or a member that is cut off from its cluster |
//! | messages ready, for half a heartbeat, while the intake has waited for a whole heartbeat with room in its window | deliveries do not arrive |
//!
//! Each of them ends the session: readiness says why, and another connection follows. Ending a healthy session would be
//! worse than the trouble: every message it holds is charged a delivery, and its events are dispatched twice. So an
//! arriving delivery outweighs any count. The broker is blamed only if it also counts nothing on the other intake's
//! queue, because blame costs both intakes their connections.
//!
//! RabbitMQ also answers "nothing ready, no consumer" when a queue's leader takes longer than a quarter of a second
//! (`rabbit_quorum_queue:stat`). An answer may also wait behind a window of large messages. lapin notices a silent
//! broker by itself (`broker::connection::address`).

use std::time::{Duration, Instant};

use lapin::{Connection, types::ShortString};

use crate::{
    broker::topology::{Count, Counter},
    worker::message::consumer_state::ConsumerState,
};

/// Longest time between two looks.
const LOOK: Duration = Duration::from_secs(2);

/// How long a count must stay the same if it may only mean that the leader did not answer. A member that is cut off
/// from its cluster gives the same answer (4.3).
const UNSURE: Duration = Duration::from_secs(6);

/// The fault of one consumer, as far as one look shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Trouble {
    /// Messages wait, and there is no consumer.
    Forgotten,
    /// No message and no consumer is counted, which may only mean that the leader did not answer.
    Unsure,
    /// Messages wait, and the intake waits for them.
    Starving,
}

impl Trouble {
    /// Returns how long looks must agree.
    fn lasting(self, heartbeat: Duration) -> Duration {
        match self {
            // A queue whose leader moves counts nothing for a moment.
            Trouble::Forgotten | Trouble::Starving => heartbeat / 2,
            Trouble::Unsure => UNSURE,
        }
    }
}

/// A consumer that receives nothing.
#[derive(Debug)]
pub(crate) struct Dead {
    /// The reason, in words.
    pub(crate) why: String,
    /// The broker answers but reaches no queue, so its other connections are useless too.
    pub(crate) blames_broker: bool,
}

impl Dead {
    pub(crate) fn of(why: String) -> Dead {
        Dead { why, blames_broker: false }
    }
}

/// Judges one look: the broker's count, how long the intake has waited with room in its window, and whether a message
/// has arrived since the last look.
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

/// The result of the looks so far.
#[derive(Default)]
struct Seen {
    trouble: Option<(Trouble, Instant)>,
    arrived: usize,
}

/// Looks until something is wrong, and returns what it is. `other` is the queue of the other intake.
pub(crate) async fn watch(
    connection: &Connection,
    state: &ConsumerState,
    other: &ShortString,
    heartbeat: Duration,
) -> Dead {
    let mut tick = tokio::time::interval(LOOK.min(heartbeat / 2));
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut seen = Seen::default();
    let mut counter = Counter::new(connection);
    let arrived = || state.arrived();
    loop {
        tick.tick().await;
        let before = arrived();
        let count = match tokio::time::timeout(heartbeat, counter.count(state.queue().as_str())).await {
            Ok(Ok(Some(count))) => count,
            // Missing or hidden: the topology watch judges that.
            Ok(Ok(None)) => continue,
            Ok(Err(error)) => return Dead::of(error.to_string()),
            // The answer waits behind arriving messages. A new channel asks the next question without waiting for it.
            Err(_) if arrived() > before => {
                counter = Counter::new(connection);
                continue;
            }
            Err(_) => return Dead::of(format!("the broker has not answered for {} s", heartbeat.as_secs_f64())),
        };
        let here = arrived();
        let fresh = std::mem::replace(&mut seen.arrived, here) != here;
        let now = Instant::now();
        let Some(trouble) = trouble(count, state.waited(now), fresh, heartbeat) else {
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
                Trouble::Forgotten | Trouble::Unsure => format!("the broker counts no consumer on {}", state.queue()),
                Trouble::Starving => {
                    format!("{} messages wait on {}, and its consumer gets none", count.ready, state.queue())
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
        assert_eq!(look(0, 0, None), None, "busy: the leader only did not answer");
        assert_eq!(look(0, 1, long), None, "an idle consumer is not in trouble");
        assert_eq!(look(5, 1, just_now), None);
        assert_eq!(look(5, 1, None), None, "busy, or its window is full");
        for count in
            [Count { ready: 5, consumers: 0 }, Count { ready: 0, consumers: 0 }, Count { ready: 5, consumers: 1 }]
        {
            assert_eq!(trouble(count, long, true, HEARTBEAT), None, "an arrival outweighs any count");
        }
    }
}
