//! Confirmed publishing. Everything but the delivery log publishes here (ARCHITECTURE.md, Invariants).
//!
//! One task owns the channel, the confirms in flight and the order in which they are judged. A [`Publisher`] is a
//! handle to that task. A publish is *done* when the broker has confirmed it and has not returned it. Anything else (a
//! nack, a return, silence, a lost channel) is an error, and the caller decides what to do. The publisher never
//! publishes anything twice by itself. `session` explains how a return finds its message.

mod returned;
mod session;

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use lapin::{BasicProperties, types::ShortString};
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    distrust::{Distrust, Doubts},
    pause::Pause,
    shared::Shared,
};
use crate::{metrics::Metrics, settings};

/// Requests that may wait for the task. Beyond that, callers wait.
const QUEUE: usize = 256;

/// One message to publish: always mandatory, always confirmed.
#[derive(Clone, Debug)]
pub struct Outgoing {
    /// Exchange, `""` for our own queues.
    pub exchange: ShortString,
    /// Routing key; the queue's name for our own queues.
    pub routing_key: ShortString,
    /// Properties, `delivery_mode` 2 included.
    pub properties: BasicProperties,
    /// Body, byte for byte.
    pub body: Bytes,
}

/// Why a publish is *not done*. The message may have arrived anyway, but the caller must not rely on it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PublishError {
    /// No queue is bound to this exchange and key.
    #[error("returned by the broker as unroutable ({code} {text})")]
    Returned {
        /// AMQP reply code, 312 for no route.
        code: u16,
        /// The broker's words.
        text: String,
    },
    /// The broker refused it: the queue is at its limit, or its leader is away.
    #[error("refused by the broker (nack)")]
    Nacked,
    /// The broker did not confirm it in time.
    #[error("not confirmed in time")]
    TimedOut,
    /// The broker returned another message at that moment, and it is unclear whether this one was returned too.
    #[error("not certain: the broker returned a message while this one was under way")]
    Unclear,
    /// The broker closed the channel: no such exchange (404), no permission (403).
    #[error("the broker closed the channel ({code} {text})")]
    ChannelClosed {
        /// AMQP reply code.
        code: u16,
        /// The broker's words.
        text: String,
    },
    /// Nothing was sent, because the caller no longer wanted it.
    #[error("not wanted any more")]
    Unwanted,
    /// The channel or the connection is lost, or does not exist yet.
    #[error("no connection to the broker: {0}")]
    Lost(String),
}

impl PublishError {
    /// Returns the metric label.
    pub fn label(&self) -> &'static str {
        match self {
            PublishError::Returned { .. } => "returned",
            PublishError::Nacked => "nacked",
            PublishError::TimedOut => "timed_out",
            PublishError::Unclear => "unclear",
            PublishError::ChannelClosed { .. } => "channel_closed",
            PublishError::Unwanted => "unwanted",
            PublishError::Lost(_) => "lost",
        }
    }
}

/// Whether publishing is possible right now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Link {
    /// Not connected yet, or no longer; with the last error.
    Lost(String),
    /// The broker has blocked the connection (memory or disk alarm); with its reason.
    Blocked(String),
    /// Publishing works.
    Ready,
}

/// A handle to the confirmed publisher; cheap to clone.
#[derive(Clone)]
pub struct Publisher {
    requests: mpsc::Sender<Request>,
    link: watch::Receiver<Link>,
    shared: Arc<Shared>,
    distrust: Distrust,
    shutdown: CancellationToken,
    tasks: TaskTracker,
}

/// One publish on its way to the task.
struct Request {
    message: Box<Outgoing>,
    /// Called right before sending, because the request may have waited for a long time.
    wanted: Box<dyn Fn() -> bool + Send>,
    reply: oneshot::Sender<Result<(), PublishError>>,
}

impl Publisher {
    /// Starts the task, which connects at once and keeps trying. `role` names the connection in the management UI.
    /// Needs a tokio runtime.
    pub fn start(
        amqp: &settings::Amqp,
        role: &'static str,
        metrics: Option<Arc<Metrics>>,
        shutdown: CancellationToken,
    ) -> Publisher {
        Publisher::start_at(0, amqp, role, metrics, shutdown)
    }

    /// Starts the task in the same way, but begins with broker number `first`.
    pub fn start_at(
        first: usize,
        amqp: &settings::Amqp,
        role: &'static str,
        metrics: Option<Arc<Metrics>>,
        shutdown: CancellationToken,
    ) -> Publisher {
        let (requests, inbox) = mpsc::channel(QUEUE);
        let (link_sender, link) = watch::channel(Link::Lost("not connected yet".into()));
        let shared = Arc::new(Shared::new(amqp, role, first));
        let tasks = TaskTracker::new();
        let distrust = Distrust::default();
        let actor = Actor {
            shared: shared.clone(),
            distrust: distrust.clone(),
            doubts: Doubts::default(),
            inbox,
            link: link_sender,
            confirm_timeout: amqp.confirm_timeout,
            metrics,
        };
        tasks.spawn(actor.run(shutdown.clone()));
        tasks.close();
        Publisher { requests, link, shared, distrust, shutdown, tasks }
    }

    /// Publishes once and waits for the confirm.
    ///
    /// # Errors
    /// Any [`PublishError`] means *not done*.
    pub async fn publish(&self, message: Outgoing) -> Result<(), PublishError> {
        self.publish_if(Box::new(message), || true).await
    }

    /// Publishes once, but only if `wanted` returns true right before sending. A request can wait for as long as the
    /// broker blocks the connection.
    ///
    /// # Errors
    /// Any [`PublishError`] means *not done*. [`PublishError::Unwanted`] means that nothing was sent.
    pub async fn publish_if(
        &self,
        message: Box<Outgoing>,
        wanted: impl Fn() -> bool + Send + 'static,
    ) -> Result<(), PublishError> {
        let wanted = Box::new(wanted);
        let (reply, answer) = oneshot::channel();
        let stopped = || PublishError::Lost("the publisher has stopped".into());
        self.requests.send(Request { message, wanted, reply }).await.map_err(|_| stopped())?;
        answer.await.map_err(|_| stopped())?
    }

    /// Returns a receiver that shows whether publishing is possible.
    pub fn link(&self) -> watch::Receiver<Link> {
        self.link.clone()
    }

    /// Returns the connection that publishing uses, for declaring a queue or counting messages.
    pub fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// Returns the handle by which the connections of this process report brokers that do not serve.
    pub fn distrust(&self) -> &Distrust {
        &self.distrust
    }

    /// Stops the task: requests under way get `Lost`, and then the connection is closed. Takes about a second at most.
    pub async fn close(&self) {
        self.shutdown.cancel();
        self.tasks.wait().await;
        self.shared.close().await;
    }
}

/// The task behind the handles.
struct Actor {
    shared: Arc<Shared>,
    distrust: Distrust,
    doubts: Doubts,
    inbox: mpsc::Receiver<Request>,
    link: watch::Sender<Link>,
    confirm_timeout: Duration,
    metrics: Option<Arc<Metrics>>,
}

impl Actor {
    async fn run(mut self, shutdown: CancellationToken) {
        // Dropping a request drops its reply, so callers that still wait get an error when the task ends.
        let _ = shutdown.run_until_cancelled(self.sessions()).await;
    }

    async fn sessions(&mut self) {
        let mut pause = Pause::for_connecting();
        let mut lost = false;
        loop {
            match session::open(&self.shared).await {
                Ok(channel) => {
                    pause.reset();
                    if std::mem::take(&mut lost)
                        && let Some(metrics) = &self.metrics
                    {
                        metrics.reconnected("publish");
                    }
                    self.link.send_replace(Link::Ready);
                    match session::run(self, channel).await {
                        session::End::Closed => return,
                        session::End::FreshChannel => {
                            // Nothing may start until the channel is open.
                            self.link.send_replace(Link::Lost("opening a fresh channel".to_owned()));
                            continue;
                        }
                        session::End::Lost(why) => {
                            lost = true;
                            self.lose(why);
                        }
                    }
                }
                Err(error) => self.lose(error.to_string()),
            }
            tokio::time::sleep(pause.next(fastrand::f64())).await;
            if self.inbox.is_closed() && self.inbox.is_empty() {
                return;
            }
        }
    }

    /// Reports the loss, also to callers that wait: an error is better than waiting for a broker that may never return.
    fn lose(&mut self, why: String) {
        while let Ok(request) = self.inbox.try_recv() {
            let _ = request.reply.send(Err(PublishError::Lost(why.clone())));
        }
        self.link.send_replace(Link::Lost(why));
        self.shared.move_on();
    }
}
