//! A trial: a load of numbered events through workers to healthy, slow and failing receivers while something breaks, and
//! the ledger that must add up in the end.

use std::{
    collections::BTreeMap,
    process::ExitStatus,
    sync::Arc,
    time::{Duration, Instant},
};

use leadhook::{
    receiver::{Options, Received, Receiver},
    store::TargetKey,
};
use tokio::task::JoinHandle;

use super::{
    harness::{PATIENCE, Worker, World, asked_every, eventually, receiver_with},
    ledger::{Account, Due, Event, Excuse, Found},
    node::Node,
    proxy::Proxy,
    upstream::Upstream,
};

/// Retries of each target.
pub const RETRIES: usize = 2;
/// Most targets of an event.
const MOST_TARGETS: usize = 2;
/// Dead letters that the broker has under way for each delay queue (`dead_letter_worker_consumer_prefetch`).
const DEAD_LETTERS: usize = 32;
/// Delay queues in use: with these waits, jitter included.
const RUNGS_IN_USE: usize = 4;

/// The settings of a worker in a trial: short waits, and a heartbeat as short as can be.
pub const SETTINGS: [(&str, &str); 5] = [
    ("LEADHOOK__BACKOFF__INITIAL", "100ms"),
    ("LEADHOOK__BACKOFF__MAXIMUM", "400ms"),
    ("LEADHOOK__AMQP__CONFIRM_TIMEOUT", "2s"),
    ("LEADHOOK__AMQP__HEARTBEAT", "2s"),
    ("LEADHOOK__SHUTDOWN__GRACE", "20s"),
];

/// Receivers and how they answer; the campaign is the name in capitals.
const RECEIVERS: [(&str, &str, bool); 5] = [
    ("healthy", "200", false),
    ("slow", "200@120ms", false),
    ("flaky", "500,500,200", true),
    ("broken", "500", false),
    ("gone", "410", false),
];

/// How much a trial has in flight, and of what.
#[derive(Clone, Copy, Debug)]
pub struct Scale {
    /// Attempts at the same time in a worker.
    pub slots: usize,
    /// Events that such a worker takes at once.
    pub events_ahead: usize,
    /// What is drawn for each event, by weight; `bad` is added where a trial has one.
    mix: [(&'static str, u32); 8],
}

/// Little in flight, and much that fails.
pub const SMALL: Scale = Scale {
    slots: 8,
    events_ahead: 16,
    mix: [
        ("HEALTHY", 40),
        ("SLOW", 8),
        ("FLAKY", 18),
        ("BROKEN", 8),
        ("GONE", 5),
        ("PAIR", 8),
        ("OFF", 4),
        ("unusable", 4),
    ],
};

/// For a thousand events in a second: much in flight, and little of what takes more than one POST.
pub const LARGE: Scale = Scale {
    slots: 64,
    events_ahead: 200,
    mix: [
        ("HEALTHY", 92),
        ("SLOW", 1),
        ("FLAKY", 1),
        ("BROKEN", 1),
        ("GONE", 1),
        ("PAIR", 1),
        ("OFF", 2),
        ("unusable", 1),
    ],
};

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
    receivers: BTreeMap<&'static str, Receiver>,
    bad: Option<String>,
    numbered: u32,
    publishing: Option<JoinHandle<()>>,
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
        let mut receivers = BTreeMap::new();
        for (name, script, per_webhook) in RECEIVERS {
            let options = Options { script: script.parse().expect("a script"), per_webhook, ..Options::default() };
            receivers.insert(name, receiver_with(options).await);
        }
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
            receivers,
            bad: None,
            numbered: 0,
            publishing: None,
            found: Found::default(),
        };
        trial.write_store("");
        trial
    }

    /// A further target for a part of the events: an URL that fares badly. Its deliveries must all fail.
    pub fn bad_target(&mut self, url: &str) {
        self.bad = Some(url.to_owned());
        self.write_store("");
    }

    /// A further target for a part of the events, that answers by a script for each webhook.
    pub async fn bad_receiver(&mut self, script: &str) {
        let options = Options { script: script.parse().expect("a script"), per_webhook: true, ..Options::default() };
        let receiver = receiver_with(options).await;
        let url = receiver.url();
        self.receivers.insert("bad", receiver);
        self.bad_target(&url);
    }

    /// A receiver of the trial.
    pub fn receiver(&self, name: &str) -> &Receiver {
        &self.receivers[name]
    }

    /// Writes the store; another `note` makes another revision of the same contents.
    pub fn write_store(&self, note: &str) {
        let mut text = format!("# {note}\ndefault_organization: acme\norganizations:\n  acme:\n    webhook:\n");
        text += &format!(
            "      url: {}\n      events: \"*\"\n      retry_attempts: {RETRIES}\n",
            self.receivers["healthy"].url()
        );
        text += "      timeout: 1\n    campaigns:\n";
        let bad = self.bad.as_ref().map(|url| ("bad", url.clone()));
        let all = self.receivers.iter().filter(|(name, _)| **name != "bad").map(|(name, it)| (*name, it.url()));
        for (name, url) in all.chain(bad) {
            text += &format!("      {}: {{ override: true, webhook: {{ url: \"{url}\" }} }}\n", name.to_uppercase());
        }
        let (one, two) = (self.receivers["healthy"].url(), self.receivers["flaky"].url());
        // A named target inherits from one of the same name only.
        let rest = format!("events: \"*\", retry_attempts: {RETRIES}, timeout: 1");
        text += &format!(
            "      PAIR: {{ override: true, webhooks: [{{ name: one, url: \"{one}\", {rest} }}, {{ name: two, url: \"{two}\", {rest} }}] }}\n"
        );
        text += "      OFF: { override: true, webhook: { enabled: false } }\n";
        // As a whole, as an editor does it: a worker must never read half of it.
        let path = self.world.store_path();
        let new = path.with_extension("new");
        std::fs::write(&new, text).expect("the store");
        std::fs::rename(new, path).expect("the store");
    }

    /// Draws events.
    pub fn draw(&mut self, count: usize) -> Vec<Event> {
        (0..count).map(|_| self.draw_one()).collect()
    }

    /// Events of these campaigns, so many of each, in this order.
    pub fn events_of(&mut self, campaigns: &[(&str, usize)]) -> Vec<Event> {
        let all = campaigns.iter().flat_map(|(campaign, count)| std::iter::repeat_n(*campaign, *count));
        all.collect::<Vec<_>>().into_iter().map(|campaign| self.event_of(campaign)).collect()
    }

    fn draw_one(&mut self) -> Event {
        let mut mix: Vec<(&str, u32)> = self.scale.mix.to_vec();
        if self.bad.is_some() {
            mix.push(("BAD", 3));
        }
        let mut draw = self.rng.u32(0..mix.iter().map(|(_, weight)| weight).sum());
        let (campaign, _) = mix
            .into_iter()
            .find(|(_, weight)| {
                let here = draw < *weight;
                draw = draw.saturating_sub(*weight);
                here
            })
            .expect("the draw is below the sum");
        self.event_of(campaign)
    }

    fn event_of(&mut self, campaign: &str) -> Event {
        self.numbered += 1;
        let n = self.numbered;
        let body = super::harness::event(campaign, n);
        let key = |name: Option<&str>| TargetKey::new("acme", Some(campaign), name);
        let (body, due) = match campaign {
            "unusable" => (body.replace("\"timestamp\"", "\"timestamp\":1,\"timestamp\""), Due::Rejected),
            "OFF" => (body, Due::NoTarget),
            "PAIR" => (body, Due::Targets(vec![key(Some("one")), key(Some("two"))])),
            _ => (body, Due::Targets(vec![key(None)])),
        };
        Event { number: n, message_id: format!("event-{n}"), body, due, publishes: 0 }
    }

    /// Begins to publish so many events, `rate` in a second.
    pub fn load(&mut self, count: usize, rate: u32) {
        let events = self.draw(count);
        self.load_of(events, rate);
    }

    /// Begins to publish these.
    pub fn load_of(&mut self, events: Vec<Event>, rate: u32) {
        assert!(self.all_published(), "one load at a time");
        let upstream = self.upstream.clone();
        self.publishing = Some(tokio::spawn(async move { upstream.publish(events, rate).await }));
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
        self.receivers.values().map(|receiver| receiver.received().len()).sum()
    }

    /// All POSTs so far.
    pub fn posts(&self) -> Vec<Arc<Received>> {
        self.receivers.values().flat_map(Receiver::received).collect()
    }

    /// Something broke that a worker or its connections had in flight: each attempt and each event in flight may come again,
    /// and go its whole way once more.
    pub fn worker_broke(&mut self, what: &str) {
        let Scale { slots, events_ahead, .. } = self.scale;
        self.broke(what, (slots + events_ahead * MOST_TARGETS) * (RETRIES + 1) * self.workers.len().max(1));
    }

    /// The broker broke: besides, dead letters that were under way may come twice.
    pub fn broker_broke(&mut self, what: &str) {
        self.worker_broke(what);
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
            let left = self.left();
            if left.is_empty() {
                break;
            }
            assert!(begun.elapsed() < 2 * PATIENCE, "never empty: {left:?}\n{}", self.story.join("\n"));
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

    /// Waits until nothing waits on a queue and no attempt is in flight.
    pub async fn idle(&self) {
        asked_every(Duration::from_millis(100), "all is settled", async || {
            if self.world.waiting().await? > 0 {
                return None;
            }
            for worker in &self.workers {
                if worker.metric_if_there("leadhook_attempts_in_flight").await? > 0.0 {
                    return None;
                }
            }
            Some(())
        })
        .await;
    }

    /// Queues that still hold something, other than failed and rejected; all that they hold counts.
    fn left(&self) -> Vec<String> {
        let said =
            self.node.ctl_said(&["list_queues", "-p", self.world.vhost(), "--no-table-headers", "name", "messages"]);
        let lines = said.lines().filter_map(|line| line.split_once('\t'));
        let working = lines.filter(|(name, _)| !name.ends_with(".failed") && !name.ends_with(".rejected"));
        working.filter(|(_, messages)| messages.trim() != "0").map(|(name, n)| format!("{name} {n}")).collect()
    }
}

/// A pause of chance, so that breaks do not march in step with the load.
pub async fn a_moment(rng: &mut fastrand::Rng, most: Duration) {
    tokio::time::sleep(most.mul_f64(rng.f64())).await;
}
