//! A trial: a load of numbered events through workers to healthy, slow and failing receivers while something breaks, and
//! the ledger that must add up in the end.

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
/// Events that last longer than any fault.
const PLENTY: usize = 60_000;
/// Dead letters that the broker has under way for each delay queue (`dead_letter_worker_consumer_prefetch`).
const DEAD_LETTERS: usize = 32;
/// More messages than a queue ever holds here.
pub const UNLIMITED: u32 = 1_000_000;
/// Delay queues in use: with these waits, jitter included.
const RUNGS_IN_USE: usize = 4;

/// The longest time between two probes of a target that fails (`limits::breaker`).
const PROBE: Duration = Duration::from_secs(5);

/// The settings of a worker in a trial: short waits, and a heartbeat as short as can be.
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
    /// Before the world, which takes their logs along when it goes.
    pub workers: Vec<Worker>,
    pub world: World,
    pub proxy: Proxy,
    pub upstream: Upstream,
    pub rng: fastrand::Rng,
    pub scale: Scale,
    /// The brokers that workers know, the one to try first at the front.
    pub urls: Vec<String>,
    pub excuse: Excuse,
    /// What was broken, for people.
    pub story: Vec<String>,
    /// Says nothing at its end.
    pub silent: bool,
    /// Longest time until all is settled, besides the time that targets which hang take.
    pub patience: Duration,
    pub(super) receivers: BTreeMap<&'static str, Receiver>,
    pub(super) bad: Option<String>,
    /// How many events are for it, against about 95 for all others.
    pub(super) bad_weight: u32,
    pub(super) numbered: u32,
    pub(super) publishing: Option<JoinHandle<()>>,
    /// Taken from the failed and rejected queues before the end.
    found: Found,
}

impl<'a> Trial<'a> {
    /// A world on this node, with receivers and a store; no worker yet.
    pub async fn new(node: &'a Node, seed: u64) -> Trial<'a> {
        let world = World::on(node).await;
        let proxy = Proxy::before(&world.url).await;
        let urls = vec![proxy.url(&world.url)];
        let upstream = Upstream::new(vec![world.url.clone()]);
        Trial::with(node, world, proxy, urls, upstream, seed).await
    }

    /// The same, with workers that know these URLs, and an upstream of its own.
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

    /// Waits until so many events are confirmed.
    pub async fn confirmed(&self, events: usize) {
        eventually("enough events", async || (self.upstream.count() >= events).then_some(())).await;
    }

    /// No new events from now on; waits until all that has been published is confirmed.
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

    /// Starts a worker that is ready when this returns.
    pub async fn start(&mut self) {
        self.spawn(&[]);
        self.workers.last().expect("just started").ready().await;
    }

    /// Starts a worker with a fail point armed.
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

    /// Waits for the first worker to end, by itself; it is one less then.
    pub async fn ended(&mut self) -> (ExitStatus, String) {
        let mut worker = self.workers.remove(0);
        let status = worker.ended().await;
        (status, worker.log())
    }

    /// Waits until `more` POSTs than now have come.
    pub async fn under_load(&self, more: usize) {
        let begun = self.post_count();
        eventually("the load flows", async || {
            (self.post_count() >= begun + more || self.all_published()).then_some(())
        })
        .await;
    }

    /// Whether upstream has nothing left to publish.
    pub fn all_published(&self) -> bool {
        self.publishing.as_ref().is_none_or(JoinHandle::is_finished)
    }

    /// POSTs so far.
    pub fn post_count(&self) -> usize {
        self.receivers.values().map(Receiver::count).sum()
    }

    /// All POSTs so far.
    pub fn posts(&self) -> Vec<Arc<Received>> {
        self.receivers.values().flat_map(Receiver::received).collect()
    }

    /// Lets the queues of this pattern refuse publishes while they hold more than `most` messages.
    pub async fn limit_length(&self, queue: &str, most: u32) {
        let policy = format!("policies/{}/full", self.world.vhost());
        let limit = format!(
            r#"{{"pattern":"{queue}","apply-to":"queues","definition":{{"max-length":{most},"overflow":"reject-publish"}}}}"#
        );
        self.node.manage(Method::PUT, &policy, &limit).await;
    }

    /// Something broke that a worker or its connections had in flight: each attempt and each event in flight may come again,
    /// and go its whole way once more.
    pub fn worker_broke(&mut self, what: &str) {
        let Scale { slots, events_ahead, .. } = self.scale;
        self.broke(what, (slots + events_ahead * MOST_TARGETS) * (RETRIES + 1) * self.workers.len().max(1));
    }

    /// The broker, or the way to it, broke: besides, dead letters that were under way may come twice, and so may publishes.
    pub fn broker_broke(&mut self, what: &str) {
        self.worker_broke(what);
        self.excuse.outages += 1;
        self.excuse.duplicates += DEAD_LETTERS * RUNGS_IN_USE * RETRIES;
    }

    /// A member of a cluster broke. The worker may lose what it has in flight twice for that: when its connection to that member
    /// breaks, or goes to a queue that has no leader for a moment, and once more when the session that follows meets the
    /// election.
    pub fn member_broke(&mut self, what: &str) {
        self.broker_broke(what);
        self.broker_broke("and its election");
    }

    /// Publishes arrived for a while and their confirms did not. What was published goes its way meanwhile, and each of its
    /// publishes (as a job, as retries, as failed) is made once more when the silence is noticed.
    pub fn confirms_were_lost(&mut self) {
        self.excuse.breaks += 1 + RETRIES / 2;
    }

    /// Something broke that explains so many duplicates.
    pub fn broke(&mut self, what: &str, duplicates: usize) {
        self.story.push(what.to_owned());
        self.excuse.breaks += 1;
        self.excuse.duplicates += duplicates;
    }

    /// Takes what lies on the failed or rejected queue, for the ledger.
    pub async fn gather(&mut self) {
        self.found.failed.extend(self.world.take_all("failed").await);
        self.found.rejected.extend(self.world.take_all("rejected").await);
    }

    /// Waits until all is published and settled, stops the workers in good order, and adds up.
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
            // What was under way between two queues while they were looked at is there now.
            let left = self.left();
            if left.is_empty() {
                break;
            }
            assert!(begun.elapsed() < PATIENCE + self.patience(), "never empty: {left:?}\n{}", self.story.join("\n"));
        }
        self.gather().await;
        let events = self.upstream.confirmed();
        // An event that upstream published again, for want of a confirm, may go its whole way again.
        let again = events.iter().map(|event| event.publishes.saturating_sub(1) as usize).sum::<usize>();
        self.excuse.duplicates += again * MOST_TARGETS * (RETRIES + 1);
        self.excuse.breaks += usize::from(again > 0);
        self.found.posts = self.posts();
        (Account::of(&events, &self.found), self.excuse)
    }

    /// The end of a trial that must add up; prints the line.
    pub async fn adds_up(self) -> Account {
        let (account, objections) = self.judged().await;
        assert!(objections.is_empty(), "{}", objections[..objections.len().min(20)].join("\n"));
        account
    }

    /// The end of a trial: the account, and what is wrong with it.
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

    /// Waits until all is published, and nothing waits on a queue, and no attempt is in flight.
    pub async fn quiet(&self) {
        asked_every(Duration::from_millis(50), "all published", async || self.all_published().then_some(())).await;
        self.idle().await;
    }

    /// Waits until nothing waits on a queue and no attempt is in flight, twice in a row: one look at queue after queue can
    /// miss what moves from one to another.
    pub async fn idle(&self) {
        let mut looks = 0;
        // Each look asks for the length of some thirty queues.
        asked_within(self.patience(), Duration::from_millis(250), "all is settled", async || {
            looks = if self.is_idle().await? { looks + 1 } else { 0 };
            (looks == 2).then_some(())
        })
        .await;
    }

    /// Longest time until all is settled. A target that fails is asked by one probe every 5 s. So its deliveries may take that
    /// long for each attempt, one after the other. A deferred delivery comes back at the latest
    /// when it has been due for 1.8 times as long as the target took.
    fn patience(&self) -> Duration {
        let hanging = self.upstream.confirmed().iter().filter(|event| event.body.contains("\"BAD\"")).count();
        let attempts = u32::try_from(hanging * (RETRIES + 1)).expect("some thousands at most");
        self.patience + (PROBE * attempts).mul_f64(1.8)
    }

    /// `None` if somebody does not say.
    pub(super) async fn is_idle(&self) -> Option<bool> {
        for worker in &self.workers {
            if worker.metric_if_there("leadhook_attempts_in_flight", "").await? > 0.0 {
                return Some(false);
            }
        }
        Some(self.world.waiting().await? == 0)
    }

    /// Queues that still hold something, other than those that keep what they are given, with how much: what is ready, what somebody holds, and
    /// what is expired and not yet where it goes.
    pub fn left(&self) -> Vec<String> {
        let held = self.node.held(self.world.vhost()).into_iter();
        let keeps = |name: &str| [".failed", ".rejected", ".log"].iter().any(|last| name.ends_with(last));
        let working = held.filter(|(name, _)| !keeps(name));
        working.filter(|(_, messages)| messages != "0").map(|(name, n)| format!("{name} {n}")).collect()
    }

    /// How often the workers that run have lost a session.
    pub fn sessions_lost(&self) -> usize {
        self.workers.iter().map(|worker| worker.log().matches("lost the broker connection, reconnecting").count()).sum()
    }
}

/// A pause of chance, so that breaks do not march in step with the load.
pub async fn a_moment(rng: &mut fastrand::Rng, most: Duration) {
    tokio::time::sleep(most.mul_f64(rng.f64())).await;
}
