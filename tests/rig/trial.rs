//! A trial: workers deliver a load of numbered events to healthy, slow and failing receivers while something breaks,
//! and the ledger must add up at the end.

use std::{
    collections::BTreeMap,
    process::ExitStatus,
    sync::Arc,
    time::{Duration, Instant},
};

use leadhook::receiver::{Received, Receiver};
use reqwest::Method;
use tokio::task::JoinHandle;

use super::{
    harness::{PATIENCE, Worker, World, asked_every, asked_within, eventually},
    ledger::{Account, Excuse, Found},
    load::{self, MOST_TARGETS, SMALL, Scale},
    node::Node,
    proxy::Proxy,
    upstream::Upstream,
};

/// Retries of each target.
pub const RETRIES: usize = 2;
/// More events than any fault lasts for.
const PLENTY: usize = 60_000;
/// Dead letters in flight for each delay queue (`dead_letter_worker_consumer_prefetch`).
const DEAD_LETTERS: usize = 32;
/// More messages than a queue ever holds in a trial.
pub const UNLIMITED: u32 = 1_000_000;
/// Delay queues in use with these waits, including jitter.
const RUNGS_IN_USE: usize = 4;

/// Longest time between two probes of a failing target (`limits::breaker`).
const PROBE: Duration = Duration::from_secs(5);

/// The settings of a worker in a trial: short waits, and the shortest possible heartbeat.
pub const SETTINGS: [(&str, &str); 5] = [
    ("LEADHOOK__BACKOFF__INITIAL", "100ms"),
    ("LEADHOOK__BACKOFF__MAXIMUM", "400ms"),
    ("LEADHOOK__AMQP__CONFIRM_TIMEOUT", "2s"),
    ("LEADHOOK__AMQP__HEARTBEAT", "2s"),
    ("LEADHOOK__SHUTDOWN__GRACE", "20s"),
];

/// A trial.
pub struct Trial<'a> {
    pub node: &'a Node,
    /// Declared before the world, so that they are dropped before it removes their logs.
    pub workers: Vec<Worker>,
    pub world: World,
    pub proxy: Proxy,
    pub upstream: Upstream,
    pub rng: fastrand::Rng,
    pub scale: Scale,
    /// The brokers that workers know, beginning with the one to try first.
    pub urls: Vec<String>,
    pub excuse: Excuse,
    /// The faults so far, in words.
    pub story: Vec<String>,
    /// Prints nothing at its end.
    pub silent: bool,
    /// Limit of the time until everything is settled, besides the time that hanging targets take.
    pub patience: Duration,
    pub(super) receivers: BTreeMap<&'static str, Receiver>,
    pub(super) bad: Option<String>,
    /// Weight of the bad target, against about 95 for all others.
    pub(super) bad_weight: u32,
    pub(super) numbered: u32,
    pub(super) publishing: Option<JoinHandle<()>>,
    /// Messages that were taken from the failed and rejected queues before the end.
    found: Found,
}

impl<'a> Trial<'a> {
    /// Creates a world on this node, with receivers and a store, but without workers.
    pub async fn new(node: &'a Node, seed: u64) -> Trial<'a> {
        let world = World::on(node).await;
        let proxy = Proxy::before(&world.url).await;
        let urls = vec![proxy.url(&world.url)];
        let upstream = Upstream::new(vec![world.url.clone()]);
        Trial::with(node, world, proxy, urls, upstream, seed).await
    }

    /// The same, with workers that know these URLs, and this upstream.
    pub async fn with(
        node: &'a Node,
        world: World,
        proxy: Proxy,
        urls: Vec<String>,
        upstream: Upstream,
        seed: u64,
    ) -> Trial<'a> {
        let trial = Trial {
            node,
            world,
            proxy,
            upstream,
            rng: fastrand::Rng::with_seed(seed),
            workers: Vec::new(),
            scale: SMALL,
            urls,
            excuse: Excuse::default(),
            story: Vec::new(),
            silent: false,
            patience: PATIENCE,
            receivers: load::receivers().await,
            bad: None,
            bad_weight: 1,
            numbered: 0,
            publishing: None,
            found: Found::default(),
        };
        trial.write_store("");
        trial
    }

    /// Begins a load that lasts until [`Trial::end_load`].
    pub fn load_on(&mut self, rate: u32) {
        self.load(PLENTY, rate);
    }

    /// Waits until this many events are confirmed.
    pub async fn confirmed(&self, events: usize) {
        eventually("enough events", async || (self.upstream.count() >= events).then_some(())).await;
    }

    /// Publishes no more new events, and waits until all published ones are confirmed.
    pub async fn end_load(&mut self) {
        self.upstream.hold();
        self.published().await;
    }

    /// Waits until upstream has nothing left to publish.
    async fn published(&mut self) {
        if let Some(publishing) = self.publishing.take() {
            let publishing = tokio::time::timeout(PATIENCE, publishing).await;
            publishing.expect("upstream has published all").expect("upstream");
        }
    }

    /// Starts a worker, and waits until it is ready.
    pub async fn start(&mut self) {
        self.spawn(&[]);
        self.workers.last().expect("just started").ready().await;
    }

    /// Starts a worker with armed fail points.
    pub fn start_armed(&mut self, points: &str) {
        self.spawn(&[("LEADHOOK_FAILPOINTS", points)]);
    }

    /// Starts a worker.
    pub fn spawn(&mut self, environment: &[(&str, &str)]) {
        let (slots, ahead) = (self.scale.slots.to_string(), self.scale.events_ahead.to_string());
        let urls = self.urls.join(",");
        let mut all = SETTINGS.to_vec();
        all.push(("LEADHOOK__DELIVERY__CONCURRENCY", &slots));
        all.push(("LEADHOOK__DELIVERY__EVENT_PREFETCH", &ahead));
        all.push(("LEADHOOK__AMQP__URLS", &urls));
        all.extend_from_slice(environment);
        self.workers.push(self.world.start_worker(&all));
    }

    /// Waits until the first worker ends by itself, and removes it. Returns its status and log.
    pub async fn ended(&mut self) -> (ExitStatus, String) {
        let mut worker = self.workers.remove(0);
        let status = worker.ended().await;
        (status, worker.log())
    }

    /// Waits for `more` further POSTs.
    pub async fn under_load(&self, more: usize) {
        let begun = self.post_count();
        eventually("the load flows", async || {
            (self.post_count() >= begun + more || self.all_published()).then_some(())
        })
        .await;
    }

    /// Returns whether upstream has nothing left to publish.
    pub fn all_published(&self) -> bool {
        self.publishing.as_ref().is_none_or(JoinHandle::is_finished)
    }

    /// Counts the POSTs so far.
    pub fn post_count(&self) -> usize {
        self.receivers.values().map(Receiver::count).sum()
    }

    /// Returns all POSTs so far.
    pub fn posts(&self) -> Vec<Arc<Received>> {
        self.receivers.values().flat_map(Receiver::received).collect()
    }

    /// Makes the queues of this pattern refuse publishes while they hold more than `most` messages.
    pub async fn limit_length(&self, queue: &str, most: u32) {
        let policy = format!("policies/{}/full", self.world.vhost());
        let limit = format!(
            r#"{{"pattern":"{queue}","apply-to":"queues","definition":{{"max-length":{most},"overflow":"reject-publish"}}}}"#
        );
        self.node.manage(Method::PUT, &policy, &limit).await;
    }

    /// Notes a fault that hit a worker or its connections. Each attempt and each event in flight may come again, and
    /// then go through all its attempts once more.
    pub fn worker_broke(&mut self, what: &str) {
        let Scale { slots, events_ahead, .. } = self.scale;
        self.broke(what, (slots + events_ahead * MOST_TARGETS) * (RETRIES + 1) * self.workers.len().max(1));
    }

    /// Notes a fault of the broker, or of the path to it. In addition, dead letters under way and publishes may be
    /// duplicated.
    pub fn broker_broke(&mut self, what: &str) {
        self.worker_broke(what);
        self.excuse.outages += 1;
        self.excuse.duplicates += DEAD_LETTERS * RUNGS_IN_USE * RETRIES;
    }

    /// Notes a fault of a cluster member. The worker may lose its messages in flight twice: first when its connection
    /// to that member breaks, or reaches a queue without a leader. The second time comes when the next session meets
    /// the election.
    pub fn member_broke(&mut self, what: &str) {
        self.broker_broke(what);
        self.broker_broke("and its election");
    }

    /// Notes that publishes arrived for a while without their confirms. Their messages move on meanwhile. When the
    /// silence is noticed, each of their publishes (as a job, as retries, as failed) is repeated.
    pub fn confirms_were_lost(&mut self) {
        self.excuse.breaks += 1 + RETRIES / 2;
    }

    /// Notes a fault that explains this many duplicates.
    pub fn broke(&mut self, what: &str, duplicates: usize) {
        self.story.push(what.to_owned());
        self.excuse.breaks += 1;
        self.excuse.duplicates += duplicates;
    }

    /// Takes the messages on the failed and rejected queues, for the ledger.
    pub async fn gather(&mut self) {
        self.found.failed.extend(self.world.take_all("failed").await);
        self.found.rejected.extend(self.world.take_all("rejected").await);
    }

    /// Waits until everything is published and settled, stops the workers cleanly, and adds up.
    pub async fn finish(mut self) -> (Account, Excuse) {
        self.published().await;
        self.world.reconnect().await;
        let begun = Instant::now();
        loop {
            if self.workers.is_empty() {
                self.start().await;
            }
            self.idle().await;
            for worker in std::mem::take(&mut self.workers) {
                worker.stop().await;
            }
            // Messages that moved between two queues during the check have arrived now.
            let left = self.left();
            if left.is_empty() {
                break;
            }
            assert!(begun.elapsed() < PATIENCE + self.patience(), "never empty: {left:?}\n{}", self.story.join("\n"));
        }
        self.gather().await;
        let events = self.upstream.confirmed();
        // An event that upstream published again, because its confirm was missing, may go through all its attempts
        // again.
        let again = events.iter().map(|event| event.publishes.saturating_sub(1) as usize).sum::<usize>();
        self.excuse.duplicates += again * MOST_TARGETS * (RETRIES + 1);
        self.excuse.breaks += usize::from(again > 0);
        self.found.posts = self.posts();
        (Account::of(&events, &self.found), self.excuse)
    }

    /// Ends a trial that must add up, and prints its line.
    pub async fn adds_up(self) -> Account {
        let (account, objections) = self.judged().await;
        assert!(objections.is_empty(), "{}", objections[..objections.len().min(20)].join("\n"));
        account
    }

    /// Ends a trial. Returns the account and its violations.
    pub async fn judged(self) -> (Account, Vec<String>) {
        let story = self.story.join("; ");
        let silent = self.silent;
        let (account, excuse) = self.finish().await;
        if !silent {
            println!("{account} (excused: {} breaks, {} duplicates) {story}", excuse.breaks, excuse.duplicates);
        }
        let objections = account.objections(excuse);
        (account, objections)
    }

    /// Waits until everything is published, no queue holds messages, and no attempt is in flight.
    pub async fn quiet(&self) {
        asked_every(Duration::from_millis(50), "all published", async || self.all_published().then_some(())).await;
        self.idle().await;
    }

    /// Waits until no queue holds messages and no attempt is in flight, twice in a row. A single check of queue after
    /// queue can miss a message that moves between them.
    pub async fn idle(&self) {
        let mut looks = 0;
        // Each check asks for the length of some thirty queues.
        asked_within(self.patience(), Duration::from_millis(250), "all is settled", async || {
            looks = if self.is_idle().await? { looks + 1 } else { 0 };
            (looks == 2).then_some(())
        })
        .await;
    }

    /// Limit of the time until everything is settled. A failing target gets one probe every 5 s, so each of its
    /// attempts may take that long, one after the other. A deferred delivery returns at the latest after 1.8 times the
    /// time that the target took.
    fn patience(&self) -> Duration {
        let hanging = self.upstream.confirmed().iter().filter(|event| event.body.contains("\"BAD\"")).count();
        let attempts = u32::try_from(hanging * (RETRIES + 1)).expect("some thousands at most");
        self.patience + (PROBE * attempts).mul_f64(1.8)
    }

    /// `None` if a worker or a queue does not answer.
    pub(super) async fn is_idle(&self) -> Option<bool> {
        for worker in &self.workers {
            if worker.metric_if_there("leadhook_attempts_in_flight", "").await? > 0.0 {
                return Some(false);
            }
        }
        Some(self.world.waiting().await? == 0)
    }

    /// Lists the queues that still hold messages, besides those that keep them. The counts include ready messages,
    /// unacked messages, and expired ones that have not yet reached their destination.
    pub fn left(&self) -> Vec<String> {
        let held = self.node.held(self.world.vhost()).into_iter();
        let keeps = |name: &str| [".failed", ".rejected", ".log"].iter().any(|last| name.ends_with(last));
        let working = held.filter(|(name, _)| !keeps(name));
        working.filter(|(_, messages)| messages != "0").map(|(name, n)| format!("{name} {n}")).collect()
    }

    /// Counts the sessions that the running workers have lost.
    pub fn sessions_lost(&self) -> usize {
        self.workers.iter().map(|worker| worker.log().matches("lost the broker connection, reconnecting").count()).sum()
    }
}

/// Pauses for a random time, so that faults do not fall into step with the load.
pub async fn a_moment(rng: &mut fastrand::Rng, most: Duration) {
    tokio::time::sleep(most.mul_f64(rng.f64())).await;
}
