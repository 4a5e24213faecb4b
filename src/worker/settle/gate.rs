//! Decides when new work may start. A POST whose outcome cannot be recorded is certain to be repeated.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use tokio::sync::watch;

use crate::broker::publisher::Link;

/// Counts the outcomes that wait to be recorded, by their queue.
#[derive(Clone)]
pub struct Waiting(Arc<watch::Sender<Queues>>);

type Queues = BTreeMap<String, usize>;

impl Default for Waiting {
    fn default() -> Waiting {
        Waiting(Arc::new(watch::Sender::new(Queues::new())))
    }
}

/// Counts one waiting outcome until it is dropped.
pub struct Waits {
    waiting: Waiting,
    queue: String,
}

impl Waiting {
    /// Counts one more outcome for this queue, until the guard is dropped.
    pub fn enter(&self, queue: &str) -> Waits {
        self.0.send_modify(|queues| *queues.entry(queue.to_owned()).or_default() += 1);
        Waits { waiting: self.clone(), queue: queue.to_owned() }
    }

    /// Returns a watch on how many outcomes wait for each queue.
    pub fn watch(&self) -> watch::Receiver<Queues> {
        self.0.subscribe()
    }
}

impl Drop for Waits {
    fn drop(&mut self) {
        self.waiting.0.send_modify(|queues| {
            if let Some(count) = queues.get_mut(&self.queue) {
                *count -= 1;
            }
            queues.retain(|_, count| *count > 0);
        });
    }
}

/// Is open while the publishing connection works and few outcomes wait.
#[derive(Clone)]
pub struct Gate {
    link: watch::Receiver<Link>,
    waiting: watch::Receiver<Queues>,
    most: usize,
}

impl Gate {
    /// Returns the gate of a worker with this many `slots` for attempts. It closes when half as many outcomes wait to
    /// be recorded.
    pub fn new(link: watch::Receiver<Link>, waiting: &Waiting, slots: usize) -> Gate {
        Gate { link, waiting: waiting.watch(), most: slots.div_ceil(2) }
    }

    /// Returns whether new work may start now.
    pub fn is_open(&mut self) -> bool {
        let ready = *self.link.borrow_and_update() == Link::Ready;
        ready && self.waiting.borrow_and_update().values().sum::<usize>() < self.most
    }

    /// Returns the reason if the gate is closed, else `None`. Contains no credentials.
    pub fn closed(&mut self) -> Option<String> {
        if self.is_open() {
            return None;
        }
        Some(match &*self.link.borrow() {
            Link::Blocked(_) => "the broker blocks publishing".to_owned(),
            Link::Lost(_) => "there is no publishing connection to the broker".to_owned(),
            Link::Ready => "outcomes cannot be recorded".to_owned(),
        })
    }

    /// Waits until the gate has been closed for this time without a break.
    pub async fn closed_for(&mut self, time: Duration) {
        loop {
            while self.is_open() {
                self.changed().await;
            }
            if tokio::time::timeout(time, self.opened()).await.is_err() {
                return;
            }
        }
    }

    /// Waits until new work may start.
    pub async fn opened(&mut self) {
        loop {
            if self.is_open() {
                return;
            }
            self.changed().await;
        }
    }

    async fn changed(&mut self) {
        let changed = tokio::select! {
            changed = self.link.changed() => changed,
            changed = self.waiting.changed() => changed,
        };
        if changed.is_err() {
            // The publisher has ended: the process is stopping, and nothing may start.
            std::future::pending::<()>().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    #[tokio::test]
    async fn only_a_gate_that_stays_closed_is_closed_for_long() {
        const LONG: Duration = Duration::from_millis(500);
        let (link, receiver) = watch::channel(Link::Ready);
        let waiting = Waiting::default();
        let mut gate = Gate::new(receiver, &waiting, 4);
        let begun = std::time::Instant::now();
        let flapping = async {
            for _ in 0..10 {
                link.send_replace(Link::Blocked("memory".into()));
                tokio::time::sleep(LONG / 10).await;
                link.send_replace(Link::Ready);
                tokio::time::sleep(LONG / 20).await;
            }
            link.send_replace(Link::Lost("cut".into()));
        };
        tokio::join!(gate.closed_for(LONG), flapping);
        assert!(begun.elapsed() >= 2 * LONG, "{:?}", begun.elapsed());
        assert_eq!(gate.closed().as_deref(), Some("there is no publishing connection to the broker"));
    }

    #[tokio::test]
    async fn opens_only_when_outcomes_can_be_recorded() {
        let (link, receiver) = watch::channel(Link::Lost("not yet".into()));
        let waiting = Waiting::default();
        let mut gate = Gate::new(receiver, &waiting, 4);
        assert!(gate.opened().now_or_never().is_none());
        link.send_replace(Link::Ready);
        assert!(gate.opened().now_or_never().is_some());
        link.send_replace(Link::Blocked("memory".into()));
        assert!(gate.opened().now_or_never().is_none());
        link.send_replace(Link::Ready);
        let one = waiting.enter("jobs");
        assert!(gate.opened().now_or_never().is_some());
        let two = waiting.enter("jobs");
        assert!(gate.opened().now_or_never().is_none());
        drop(one);
        assert!(gate.opened().now_or_never().is_some());
        drop(two);
        assert!(waiting.watch().borrow().is_empty());
    }
}
