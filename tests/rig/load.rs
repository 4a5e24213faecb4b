//! The load of a trial: healthy and failing receivers, the store that names them, and events drawn by weight.

use std::collections::BTreeMap;

use leadhook::{
    receiver::{Options, Receiver},
    store::TargetKey,
};

use super::{
    harness::receiver_with,
    ledger::{Due, Event},
    trial::{RETRIES, Trial},
};

/// Maximum number of targets of an event.
pub const MOST_TARGETS: usize = 2;

/// Receivers and their answers; the campaign is the name in capitals. Failing ones answer 404, which is retried but
/// does not count against the receiver's health, so nothing is deferred.
const RECEIVERS: [(&str, &str, bool); 5] = [
    ("healthy", "200", false),
    ("slow", "200@120ms", false),
    ("flaky", "404,404,200", true),
    ("broken", "404", false),
    ("gone", "410", false),
];

/// How much a trial has in flight, and the mix of its events.
#[derive(Clone, Copy, Debug)]
pub struct Scale {
    /// Concurrent attempts in a worker.
    pub slots: usize,
    /// Events that such a worker holds at once.
    pub events_ahead: usize,
    /// Weights for drawing an event. `bad` is added if the trial has a bad target.
    mix: [(&'static str, u32); 8],
}

/// Little in flight, and many failures.
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

/// For a thousand events a second: much in flight, and few events that take more than one POST.
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

/// Starts the receivers.
pub async fn receivers() -> BTreeMap<&'static str, Receiver> {
    let mut receivers = BTreeMap::new();
    for (name, script, per_webhook) in RECEIVERS {
        let options = Options { script: script.parse().expect("a script"), per_webhook, ..Options::default() };
        receivers.insert(name, receiver_with(options).await);
    }
    receivers
}

impl Trial<'_> {
    /// Adds a bad target, by its URL, for a part of the events. All its deliveries must fail.
    ///
    /// Call it before workers start: a running worker reads the store a moment later, and until then these events go to
    /// the organization's target.
    pub fn bad_target(&mut self, url: &str) {
        assert!(self.workers.is_empty(), "a target must be added before workers start");
        self.bad = Some(url.to_owned());
        self.write_store("");
    }

    /// Adds a target for a part of the events. It follows the script separately for each webhook.
    pub async fn bad_receiver(&mut self, script: &str) {
        let options = Options { script: script.parse().expect("a script"), per_webhook: true, ..Options::default() };
        let receiver = receiver_with(options).await;
        let url = receiver.url();
        if script.starts_with("404") {
            // Its circuit stays healthy. Each attempt at another bad target may have to wait for a probe.
            self.bad_weight = 10;
        }
        self.receivers.insert("bad", receiver);
        self.bad_target(&url);
    }

    /// Returns a receiver of the trial.
    pub fn receiver(&self, name: &str) -> &Receiver {
        &self.receivers[name]
    }

    /// Writes the store. A different `note` makes a new revision with the same contents.
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
        // A named target inherits only from one of the same name.
        let rest = format!("events: \"*\", retry_attempts: {RETRIES}, timeout: 1");
        text += &format!(
            "      PAIR: {{ override: true, webhooks: [{{ name: one, url: \"{one}\", {rest} }}, {{ name: two, url: \"{two}\", {rest} }}] }}\n"
        );
        text += "      OFF: { override: true, webhook: { enabled: false } }\n";
        // Replaced as a whole, as an editor does, so that a worker never reads half of it.
        let path = self.world.store_path();
        let new = path.with_extension("new");
        std::fs::write(&new, text).expect("the store");
        std::fs::rename(new, path).expect("the store");
    }

    /// Draws this number of events.
    pub fn draw(&mut self, count: usize) -> Vec<Event> {
        (0..count).map(|_| self.draw_one()).collect()
    }

    /// Returns this many events of each of these campaigns, in this order.
    pub fn events_of(&mut self, campaigns: &[(&str, usize)]) -> Vec<Event> {
        let all = campaigns.iter().flat_map(|(campaign, count)| std::iter::repeat_n(*campaign, *count));
        all.collect::<Vec<_>>().into_iter().map(|campaign| self.event_of(campaign)).collect()
    }

    fn draw_one(&mut self) -> Event {
        let mut mix: Vec<(&str, u32)> = self.scale.mix.to_vec();
        if self.bad.is_some() {
            mix.push(("BAD", self.bad_weight));
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

    /// Begins to publish `count` drawn events, `rate` a second.
    pub fn load(&mut self, count: usize, rate: u32) {
        let events = self.draw(count);
        self.load_of(events, rate);
    }

    /// Begins to publish these events, `rate` a second.
    pub fn load_of(&mut self, events: Vec<Event>, rate: u32) {
        assert!(self.all_published(), "one load at a time");
        let upstream = self.upstream.clone();
        self.publishing = Some(tokio::spawn(async move { upstream.publish(events, rate).await }));
    }
}
