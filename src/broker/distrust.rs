//! Brokers that take connections and do not serve: a member that is cut off from its cluster, for instance (RabbitMQ 4.3).
//! What one connection of the worker finds out moves its other connections too.

use std::sync::Arc;

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

    /// For a connection to the broker of this URL. What was told before does not concern it.
    pub fn watch(&self, url: &str) -> Distrusted {
        Distrusted { url: url.to_owned(), told: self.0.subscribe() }
    }
}

/// See [`Distrust::watch`].
pub struct Distrusted {
    url: String,
    told: watch::Receiver<String>,
}

impl Distrusted {
    /// Waits until another connection says that this broker does not serve. May be dropped and called again.
    pub async fn told(&mut self) {
        while self.told.changed().await.is_ok() {
            if *self.told.borrow_and_update() == self.url {
                return;
            }
        }
        std::future::pending().await
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
        let (mut a, mut b) = (distrust.watch("a"), distrust.watch("b"));
        assert!(a.told().now_or_never().is_none(), "it was told before");
        distrust.tell("a");
        assert!(b.told().now_or_never().is_none());
        assert!(a.told().now_or_never().is_some());
        assert!(a.told().now_or_never().is_none());
        distrust.tell("a");
        assert!(a.told().now_or_never().is_some(), "told again");
    }
}
