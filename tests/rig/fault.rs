//! The faults that tests and seeds can name.
//!
//! A fault is inflicted under load, held for a moment, and then repaired, unless the worker has to recover by itself.
//! The trial notes the duplicates and copies that the fault explains.

use std::time::Duration;

use reqwest::Method;

use super::{
    harness::{asked_every, eventually},
    proxy::{Direction, Weather, Which},
    trial::{Trial, UNLIMITED, a_moment},
};

/// Time for which a lasting fault is held.
const HOLD: Duration = Duration::from_secs(2);

/// A `consumer_timeout` of a tenth of the time that an alarm lasts.
const SHORT_TIMEOUT: Duration = Duration::from_secs(1);

/// The broker's default `consumer_timeout`.
const USUAL_TIMEOUT: Duration = Duration::from_secs(1800);

/// Pause between two checks whether a fault shows.
const LOOK: Duration = Duration::from_millis(50);

/// One kind of fault.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Fault {
    /// SIGKILL at a random moment.
    Killed,
    /// SIGKILL at a fail point, at a random hit.
    KilledAt(&'static str),
    /// SIGTERM; another worker starts.
    Stopped,
    /// The store's file changes.
    Reloaded,
    /// Connections are reset once.
    Cut(Which),
    /// Half of a frame arrives, then the connection is reset.
    CutInFrame(Which, Direction),
    /// Bytes vanish both ways, and neither side notices.
    HalfOpen(Which),
    /// Bytes vanish one way, including heartbeats.
    OneWay(Which, Direction),
    /// Deliveries vanish on a connection that is otherwise healthy.
    Starved,
    /// Everything takes longer.
    Delayed,
    /// A few kilobytes a second.
    Throttled,
    /// Reset, and no new connections for a while.
    Unreachable,
    /// The broker closes all connections.
    ConnectionsClosed,
    /// The broker closes the publishing channel: the permission to publish is revoked and granted again.
    PublishingForbidden,
    /// The broker closes the consuming channel (from 4.3 on: cancels the consumer) because `consumer_timeout` has
    /// passed.
    ConsumerTimeout,
    /// A clean stop and start.
    Restarted,
    /// SIGKILL to the broker.
    BrokerKilled,
    /// SIGSTOP: the broker keeps its connections and does not answer.
    BrokerSilent,
    /// Publishers are blocked.
    MemoryAlarm,
    /// The same because of a full disk. This alarm outlasts `consumer_timeout`.
    DiskAlarm,
    /// Confirms come late.
    SlowConfirms,
    /// One of our queues is at its length limit and refuses publishes.
    Full(&'static str),
}

impl Trial<'_> {
    /// Inflicts a fault under a flowing load, checks that it shows, and repairs everything that the worker cannot
    /// recover from.
    pub async fn inflict(&mut self, fault: Fault) {
        assert!(!self.all_published(), "{fault:?} comes too late: there is no load");
        let what = format!("{fault:?}");
        match fault {
            Fault::Killed => {
                self.worker_broke(&what);
                self.workers.remove(0).kill().await;
                self.start().await;
            }
            Fault::KilledAt(point) => {
                self.worker_broke(&what);
                // A clean stop, so that the next death is the intended one.
                self.workers.remove(0).stop().await;
                self.die_at(point).await;
                self.start().await;
            }
            Fault::Stopped => {
                self.story.push(what);
                self.workers.remove(0).stop().await;
                self.start().await;
            }
            Fault::Reloaded => {
                let note = format!("revision {}", self.rng.u32(..));
                self.story.push(what);
                let before = self.metrics("leadhook_store_reloads_total", "loaded").await;
                self.write_store(&note);
                self.seen("the store is reloaded", async |trial| {
                    trial.metrics("leadhook_store_reloads_total", "loaded").await > before
                })
                .await;
            }
            Fault::Cut(which) => {
                self.worker_broke(&what);
                self.until_it_connects_anew(|proxy| proxy.cut(which)).await;
            }
            Fault::CutInFrame(which, direction) => {
                self.worker_broke(&what);
                self.all_connected().await;
                let before = self.proxy.frames_cut();
                self.proxy.cut_in_frame(which, direction);
                eventually("a frame is cut", async || (self.proxy.frames_cut() > before).then_some(())).await;
            }
            Fault::HalfOpen(which) => {
                self.confirms_were_lost();
                self.worker_broke(&what);
                self.until_it_connects_anew(|proxy| proxy.vanish(which, None)).await;
            }
            Fault::OneWay(which, direction) => {
                self.confirms_were_lost();
                self.worker_broke(&what);
                self.until_it_connects_anew(|proxy| proxy.vanish(which, Some(direction))).await;
            }
            Fault::Starved => {
                self.worker_broke(&what);
                self.all_connected().await;
                let before = self.proxy.accepted();
                self.proxy.starve(Which::Consume);
                self.seen("a new connection", async |trial| trial.proxy.accepted() > before).await;
            }
            Fault::Delayed => {
                self.story.push(what);
                self.proxy.weather(Which::All, Weather { delay: Duration::from_millis(60), rate: 0 });
                tokio::time::sleep(HOLD).await;
                self.proxy.weather(Which::All, Weather::default());
            }
            Fault::Throttled => {
                self.confirms_were_lost();
                // Confirms may arrive later than the worker waits for them.
                self.worker_broke(&what);
                self.proxy.weather(Which::All, Weather { delay: Duration::ZERO, rate: 8 * 1024 });
                tokio::time::sleep(HOLD).await;
                self.proxy.weather(Which::All, Weather::default());
            }
            Fault::Unreachable => {
                self.worker_broke(&what);
                self.all_connected().await;
                let before = self.proxy.accepted();
                self.proxy.down(true);
                self.proxy.cut(Which::All);
                a_moment(&mut self.rng, HOLD).await;
                self.proxy.down(false);
                eventually("a new connection", async || (self.proxy.accepted() > before).then_some(())).await;
            }
            Fault::ConnectionsClosed => {
                self.worker_broke(&what);
                self.until_it_connects_anew_after(async |trial| {
                    trial.node.close_connections(trial.world.vhost());
                })
                .await;
            }
            Fault::PublishingForbidden => self.forbid_publishing(&what, 1.0).await,
            Fault::ConsumerTimeout => self.let_consumers_time_out(&what).await,
            Fault::Restarted => {
                self.broker_broke(&what);
                self.node.stop();
                self.node.start_again();
            }
            Fault::BrokerKilled => {
                self.broker_broke(&what);
                self.node.settle();
                self.node.kill();
                self.node.start_again();
            }
            Fault::BrokerSilent => {
                self.confirms_were_lost();
                self.broker_broke(&what);
                self.node.pause();
                tokio::time::sleep(HOLD + HOLD.mul_f64(2.0 * self.rng.f64())).await;
                self.node.resume();
            }
            Fault::MemoryAlarm => {
                self.broker_broke(&what);
                self.node.low_on_memory(true);
                self.until_blocked().await;
                self.node.low_on_memory(false);
            }
            Fault::DiskAlarm => {
                self.broker_broke(&what);
                let before = self.sessions_lost();
                self.consumers_time_out_after(SHORT_TIMEOUT);
                self.seen("the cut is noticed", async |trial| trial.sessions_lost() > before).await;
                self.workers[0].ready().await;
                let blocked = self.sessions_lost();
                self.node.low_on_disk(true);
                self.until_blocked().await;
                // The worker's messages wait for the end of the alarm. The broker takes them back before that, and the
                // worker takes no new ones.
                self.seen("a consumer times out", async |trial| trial.sessions_lost() > blocked).await;
                tokio::time::sleep(10 * SHORT_TIMEOUT).await;
                let timed_out = self.sessions_lost() - blocked;
                assert!(timed_out <= 2, "each consumer may time out once, but there were {timed_out} timeouts");
                self.node.low_on_disk(false);
                self.consumers_time_out_after(USUAL_TIMEOUT);
                for _ in 0..=self.sessions_lost() - before {
                    self.worker_broke(&what);
                }
            }
            Fault::SlowConfirms => {
                self.confirms_were_lost();
                self.worker_broke(&what);
                self.proxy.weather(Which::Publish, Weather { delay: Duration::from_millis(900), rate: 0 });
                tokio::time::sleep(HOLD).await;
                self.proxy.weather(Which::Publish, Weather::default());
            }
            Fault::Full(queue) => self.fill(queue, &what).await,
        }
    }

    /// Waits until a fault shows an effect. A fault without an effect would prove nothing.
    async fn seen(&self, what: &str, ask: impl AsyncFn(&Self) -> bool) {
        asked_every(LOOK, what, async || ask(self).await.then_some(())).await;
    }

    /// Returns the sum of a metric over the workers that answer.
    async fn metrics(&self, name: &str, with: &str) -> f64 {
        let mut sum = 0.0;
        for worker in &self.workers {
            sum += worker.metric_if_there(name, with).await.unwrap_or_default();
        }
        sum
    }

    /// Starts a worker that dies at a fail point, and waits for its death.
    async fn die_at(&mut self, point: &str) {
        let hit = self.rng.u32(1..=25);
        self.story.push(format!("{point} at hit {hit}"));
        self.start_armed(&format!("{point}=kill@{hit}"));
        let mut worker = self.workers.pop().expect("just started");
        let status = worker.ended().await;
        let killed = std::os::unix::process::ExitStatusExt::signal(&status) == Some(9);
        assert!(killed, "{point}: {status}\n{}", worker.log());
    }

    /// Waits until each worker has connections that the proxy can tell apart: the previous fault may have ended them.
    async fn all_connected(&self) {
        for worker in &self.workers {
            worker.ready().await;
        }
    }

    /// Breaks connections silently, and waits until the worker has noticed and replaced them.
    async fn until_it_connects_anew(&mut self, break_it: impl Fn(&super::proxy::Proxy)) {
        self.until_it_connects_anew_after(async |trial| break_it(&trial.proxy)).await;
    }

    async fn until_it_connects_anew_after(&mut self, break_it: impl AsyncFn(&Self)) {
        self.all_connected().await;
        let before = self.proxy.accepted();
        break_it(self).await;
        eventually("a new connection", async || (self.proxy.accepted() > before).then_some(())).await;
    }

    /// Waits until a worker reports that the broker has blocked it, which it learns when it publishes, and a moment
    /// longer.
    async fn until_blocked(&mut self) {
        self.seen("publishing is blocked", async |trial| {
            for worker in &trial.workers {
                if worker.get("/readyz").await.is_some_and(|(_, body)| body.contains("blocked")) {
                    return true;
                }
            }
            false
        })
        .await;
        a_moment(&mut self.rng, HOLD).await;
    }

    /// Waits until more publishes have failed for a reason than `before`.
    async fn until_a_publish_fails(&mut self, reason: &str, before: f64) {
        self.seen(&format!("a publish fails: {reason}"), async |trial| {
            trial.metrics("leadhook_publish_failures_total", reason).await > before
        })
        .await;
    }

    /// Revokes the permission to publish until `refusals` publishes have been refused, and grants it again.
    pub async fn forbid_publishing(&mut self, what: &str, refusals: f64) {
        self.worker_broke(what);
        let before = self.metrics("leadhook_publish_failures_total", "channel_closed").await;
        let permissions = format!("permissions/{}/guest", self.world.vhost());
        // Upstream keeps its permission.
        let reduced = r#"{"configure":".*","write":"^lead\\.events$","read":".*"}"#;
        self.node.manage(Method::PUT, &permissions, reduced).await;
        // A channel that has published before is not checked again, because the broker caches its permissions.
        self.proxy.cut(Which::Publish);
        self.seen(&format!("{refusals} publishes are refused"), async |trial| {
            trial.metrics("leadhook_publish_failures_total", "channel_closed").await >= before + refusals
        })
        .await;
        a_moment(&mut self.rng, HOLD).await;
        let all = r#"{"configure":".*","write":".*","read":".*"}"#;
        self.node.manage(Method::PUT, &permissions, all).await;
    }

    async fn let_consumers_time_out(&mut self, what: &str) {
        let before = self.sessions_lost();
        self.consumers_time_out_after(Duration::from_millis(400));
        self.receiver("slow").set_script("200@900ms".parse().expect("a script"));
        tokio::time::sleep(2 * HOLD).await;
        self.receiver("slow").set_script("200@120ms".parse().expect("a script"));
        self.consumers_time_out_after(USUAL_TIMEOUT);
        // Counts the two cuts above, and each time that the broker gave up waiting.
        let lost = self.sessions_lost() - before;
        assert!(lost > 1, "no consumer timed out");
        for _ in 0..=lost {
            self.worker_broke(what);
        }
    }

    /// Sets `consumer_timeout`. A channel reads it when it opens, so this cuts the consuming connections.
    fn consumers_time_out_after(&self, timeout: Duration) {
        let millis = timeout.as_millis();
        self.node.eval(&format!(
            "application:set_env(rabbit, channel_tick_interval, 300), application:set_env(rabbit, consumer_timeout, {millis})."
        ));
        self.proxy.cut(Which::Consume);
    }

    async fn fill(&mut self, queue: &str, what: &str) {
        self.worker_broke(what);
        let before = self.metrics("leadhook_publish_failures_total", "nacked").await;
        self.limit_length(queue, 1).await;
        match queue {
            // Only upstream publishes to the events queue.
            "events$" => tokio::time::sleep(HOLD).await,
            _ => self.until_a_publish_fails("nacked", before).await,
        }
        a_moment(&mut self.rng, HOLD).await;
        // The limit is raised and not removed. A full queue unblocks its publishers when it falls below the limit. If
        // the limit is removed while it is full, it never does, and dead letters wait indefinitely (measured on 3.10).
        self.limit_length(queue, UNLIMITED).await;
    }
}
