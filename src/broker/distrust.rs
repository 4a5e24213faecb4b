//! Brokers that accept connections but do not serve, such as a node that is cut off from its cluster (RabbitMQ 4.3).
//! When one connection of a worker finds out, its other connections leave that broker too.

use std::{collections::BTreeMap, sync::Arc};

use lapin::types::ShortString;
use tokio::sync::watch;

/// Reports such brokers to all connections of a process. Cheap to clone.
#[derive(Clone)]
pub struct Distrust(Arc<watch::Sender<String>>);

impl Default for Distrust {
    fn default() -> Distrust {
        Distrust(Arc::new(watch::Sender::default()))
    }
}

impl Distrust {
    /// Reports that the broker with this URL does not serve.
    pub fn tell(&self, url: &str) {
        self.0.send_replace(url.to_owned());
    }

    /// Subscribes a connection to reports about the broker with this URL. Ignores earlier reports, and all reports
    /// unless the configuration `has_others` to move to.
    pub fn watch(&self, url: &str, has_others: bool) -> Distrusted {
        Distrusted { url: url.to_owned(), has_others, told: self.0.subscribe() }
    }
}

/// The subscription of one connection; see [`Distrust::watch`].
pub struct Distrusted {
    url: String,
    has_others: bool,
    told: watch::Receiver<String>,
}

impl Distrusted {
    /// Waits until another connection reports that this broker does not serve. May be cancelled and called again.
    pub async fn told(&mut self) {
        while self.told.changed().await.is_ok() {
            if *self.told.borrow_and_update() == self.url && self.has_others {
                return;
            }
        }
        std::future::pending().await
    }
}

/// Queues for which a broker did not confirm in time, each with the URL of that broker. Only another broker's confirm
/// for the same queue shows that the first one does not serve. If two brokers were late for a queue, it may have no
/// quorum, so neither is blamed.
#[derive(Default)]
pub struct Doubts(BTreeMap<ShortString, Option<String>>);

impl Doubts {
    /// Notes that the broker with this URL did not confirm for this queue in time.
    pub fn late(&mut self, queue: ShortString, url: &str) {
        let blamed = self.0.entry(queue).or_insert_with(|| Some(url.to_owned()));
        blamed.take_if(|blamed| blamed != url);
    }

    /// Notes that the broker with this URL has confirmed for this queue. Returns the broker that does not serve, if
    /// this shows one.
    pub fn confirmed(&mut self, queue: &ShortString, url: &str) -> Option<String> {
        self.0.remove(queue)?.filter(|blamed| blamed != url)
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    #[test]
    fn only_connections_to_that_broker_are_told() {
        let distrust = Distrust::default();
        distrust.tell("a");
        let (mut a, mut b) = (distrust.watch("a", true), distrust.watch("b", true));
        let mut alone = distrust.watch("a", false);
        assert!(a.told().now_or_never().is_none(), "an earlier report does not count");
        distrust.tell("a");
        assert!(b.told().now_or_never().is_none());
        assert!(alone.told().now_or_never().is_none(), "only one broker is configured");
        assert!(a.told().now_or_never().is_some());
        assert!(a.told().now_or_never().is_none());
        distrust.tell("a");
        assert!(a.told().now_or_never().is_some(), "reported again");
    }

    #[test]
    fn only_a_confirm_for_the_same_queue_elsewhere_blames_a_broker() {
        let mut doubts = Doubts::default();
        doubts.late("delay".into(), "a");
        assert_eq!(doubts.confirmed(&"jobs".into(), "b"), None, "the delay queue may have no quorum");
        assert_eq!(doubts.confirmed(&"delay".into(), "b").as_deref(), Some("a"));
        assert_eq!(doubts.confirmed(&"delay".into(), "b"), None, "it was already blamed");
        doubts.late("delay".into(), "a");
        assert_eq!(doubts.confirmed(&"delay".into(), "a"), None, "it serves after all");
        for late in ["a", "b", "a"] {
            doubts.late("delay".into(), late);
        }
        assert_eq!(doubts.confirmed(&"delay".into(), "b"), None, "the queue has its quorum again");
    }
}
