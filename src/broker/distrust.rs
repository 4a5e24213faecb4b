//! Brokers that take connections and do not serve: a member that is cut off from its cluster, for instance (RabbitMQ 4.3).
//! What one connection of the worker finds out moves its other connections too.

use std::{collections::BTreeMap, sync::Arc};

use lapin::types::ShortString;
use tokio::sync::watch;

/// Tells all connections of a process. Cheap to clone.
#[derive(Clone)]
pub struct Distrust(Arc<watch::Sender<String>>);

impl Default for Distrust {
    fn default() -> Distrust {
        Distrust(Arc::new(watch::Sender::default()))
    }
}

impl Distrust {
    /// The broker of this URL does not serve.
    pub fn tell(&self, url: &str) {
        self.0.send_replace(url.to_owned());
    }

    /// For a connection to the broker of this URL. What was told before does not concern it, and nothing does unless the
    /// configuration `has_others` to move on to.
    pub fn watch(&self, url: &str, has_others: bool) -> Distrusted {
        Distrusted { url: url.to_owned(), has_others, told: self.0.subscribe() }
    }
}

/// See [`Distrust::watch`].
pub struct Distrusted {
    url: String,
    has_others: bool,
    told: watch::Receiver<String>,
}

impl Distrusted {
    /// Waits until another connection says that this broker does not serve. May be dropped and called again.
    pub async fn told(&mut self) {
        while self.told.changed().await.is_ok() {
            if *self.told.borrow_and_update() == self.url && self.has_others {
                return;
            }
        }
        std::future::pending().await
    }
}

/// Queues for which a broker did not confirm in time, each with that broker. Only a confirm for the same queue by another
/// broker says that the first one does not serve. A queue without a quorum has no broker here once a second one was late.
#[derive(Default)]
pub struct Doubts(BTreeMap<ShortString, Option<String>>);

impl Doubts {
    /// The broker of this URL did not confirm for this queue in time.
    pub fn late(&mut self, queue: ShortString, url: &str) {
        let blamed = self.0.entry(queue).or_insert_with(|| Some(url.to_owned()));
        blamed.take_if(|blamed| blamed != url);
    }

    /// The broker of this URL has confirmed for this queue. Returns the broker that does not serve, if that shows one.
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
        assert!(a.told().now_or_never().is_none(), "it was told before");
        distrust.tell("a");
        assert!(b.told().now_or_never().is_none());
        assert!(alone.told().now_or_never().is_none(), "only one broker is configured");
        assert!(a.told().now_or_never().is_some());
        assert!(a.told().now_or_never().is_none());
        distrust.tell("a");
        assert!(a.told().now_or_never().is_some(), "told again");
    }

    #[test]
    fn only_a_confirm_for_the_same_queue_elsewhere_blames_a_broker() {
        let mut doubts = Doubts::default();
        doubts.late("delay".into(), "a");
        assert_eq!(doubts.confirmed(&"jobs".into(), "b"), None, "the delay queue may have no quorum");
        assert_eq!(doubts.confirmed(&"delay".into(), "b").as_deref(), Some("a"));
        assert_eq!(doubts.confirmed(&"delay".into(), "b"), None, "it was told");
        doubts.late("delay".into(), "a");
        assert_eq!(doubts.confirmed(&"delay".into(), "a"), None, "it serves after all");
        for late in ["a", "b", "a"] {
            doubts.late("delay".into(), late);
        }
        assert_eq!(doubts.confirmed(&"delay".into(), "b"), None, "the queue has its quorum again");
    }
}
