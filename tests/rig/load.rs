//! What a trial publishes, and to whom it goes: receivers that fare well and badly, the store that names them, and events
//! drawn by weight.

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

/// Most targets of an event.
pub const MOST_TARGETS: usize = 2;

/// Receivers and how they answer; the campaign is the name in capitals. Those that fail answer 404: that is retried, and says
/// nothing against the health of a receiver, so nothing is deferred.
const RECEIVERS: [(&str, &str, bool); 5] = [
    ("healthy", "200", false),
    ("slow", "200@120ms", false),
    ("flaky", "404,404,200", true),
    ("broken", "404", false),
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

/// Starts them.
pub async fn receivers() -> BTreeMap<&'static str, Receiver> {
    let mut receivers = BTreeMap::new();
    for (name, script, per_webhook) in RECEIVERS {
        let options = Options { script: script.parse().expect("a script"), per_webhook, ..Options::default() };
        receivers.insert(name, receiver_with(options).await);
    }
    receivers
}

impl Trial<'_> {
    /// A further target for a part of the events: an URL that fares badly. Its deliveries must all fail.
    ///
    /// Before the workers: one that runs reads the store a moment later, and until then its events go to the organization's target.
    pub fn bad_target(&mut self, url: &str) {
        assert!(self.workers.is_empty(), "a target for workers that run");
        self.bad = Some(url.to_owned());
        self.write_store("");
    }

    /// A further target for a part of the events, that answers by a script for each webhook.
    pub async fn bad_receiver(&mut self, script: &str) {
        let options = Options { script: script.parse().expect("a script"), per_webhook: true, ..Options::default() };
        let receiver = receiver_with(options).await;
        let url = receiver.url();
        if script.starts_with("404") {
            // Its circuit stays healthy. Of others each attempt may wait for a probe.
            self.bad_weight = 10;
        }
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
}
