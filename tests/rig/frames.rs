//! Sends frames that no broker should send to a worker, checks the rules that must hold meanwhile, and returns figures.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    time::{Duration, Instant},
};

use fastrand::Rng;
use leadhook::receiver::{Options, Receiver};

use super::{
    harness::{eventually, leadhook},
    scripted_broker::{BODY, Content, FRAME_MAX, HEADER, METHOD, ScriptedBroker, frame, long, short},
    worker::Worker,
};

/// Longest wait for a good event behind bad ones.
const HANG: Duration = Duration::from_secs(5);

/// Limit of memory above that of an idle worker, in bytes.
const MEMORY: u64 = 64 << 20;

/// Bad messages in front of each good event.
const BAD: usize = 20;

/// Time between two frames that break the protocol. If they come faster, the worker reconnects more and more slowly.
const PEACE: Duration = Duration::from_secs(15);

/// The figures of a run.
#[derive(Debug, Default)]
pub struct Figures {
    pub bad: u64,
    pub good: u64,
    pub rejected: u64,
    pub violations: u64,
    pub connections: u64,
    pub longest: Duration,
    pub longest_after_violation: Duration,
    pub idle_memory: u64,
    pub most_memory: u64,
    /// Messages by kind.
    pub kinds: BTreeMap<&'static str, u64>,
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
        writeln!(
            f,
            "bad messages {}, good events {}, rejected {}, broken frames {}, connections {}",
            self.bad, self.good, self.rejected, self.violations, self.connections
        )?;
        writeln!(
            f,
            "longest wait for a good event: {:.2} s, after a broken frame {:.2} s",
            self.longest.as_secs_f64(),
            self.longest_after_violation.as_secs_f64()
        )?;
        write!(f, "memory: idle {:.0} MiB, at most {:.0} MiB", mib(self.idle_memory), mib(self.most_memory))?;
        self.kinds.iter().try_for_each(|(kind, count)| write!(f, "\n  {count:8} {kind}"))
    }
}

/// Sends bad frames to its own worker for this time, with a pause after each good event. Prints the seed first, and
/// panics when a rule is broken.
pub async fn run(lasting: Duration, pause: Duration, seed: u64) -> Figures {
    println!("seed {seed}");
    let mut rng = Rng::with_seed(seed);
    let broker = ScriptedBroker::start().await;
    let receiver = Receiver::start(Options::default()).await.expect("a receiver");
    let directory = tempfile::tempdir().expect("a directory");
    let store = directory.path().join("store.yaml");
    let text = "default_organization: acme\norganizations:\n  acme:\n    webhook:\n      events: \"*\"\n      url: ";
    std::fs::write(&store, format!("{text}{}\n", receiver.url())).expect("the store");
    let mut command = leadhook(&broker.url);
    command.arg("run").arg("--store").arg(&store);
    command.env("LEADHOOK__AMQP__HEARTBEAT", "4s").env("LEADHOOK__LOG__LEVEL", "info");
    let worker = Worker::spawn(command, directory.path().join("worker.log"));
    worker.ready().await;
    let mut course = Course { broker, receiver, worker, figures: Figures::default(), seen: BTreeSet::new() };
    for _ in 0..20 {
        course.good().await;
    }
    course.figures.longest = Duration::ZERO;
    course.figures.idle_memory = memory(&course.worker);
    let (begun, mut violated) = (Instant::now(), None::<Instant>);
    while begun.elapsed() < lasting {
        for _ in 0..BAD {
            let (kind, content) = bad(&mut rng);
            *course.figures.kinds.entry(kind).or_default() += 1;
            course.figures.bad += 1;
            let queue = if rng.u8(..8) == 0 { "jobs" } else { "events" };
            course.broker.deliver(queue, content);
        }
        let waited = course.good().await;
        course.figures.longest = course.figures.longest.max(waited);
        if violated.is_none_or(|at| at.elapsed() > PEACE) {
            course.violate(&mut rng).await;
            violated = Some(Instant::now());
        }
        course.look();
        tokio::time::sleep(pause).await;
    }
    course.figures.rejected = course.broker.published("rejected");
    course.figures.connections = course.broker.connections();
    assert!(course.figures.rejected > 0, "nothing was rejected");
    let Course { worker, figures, .. } = course;
    worker.stop().await;
    figures
}

struct Course {
    broker: ScriptedBroker,
    receiver: Receiver,
    worker: Worker,
    figures: Figures,
    /// Leads of good events that have been POSTed.
    seen: BTreeSet<String>,
}

impl Course {
    /// Publishes a good event, waits until it is POSTed, and returns how long that took.
    async fn good(&mut self) -> Duration {
        self.figures.good += 1;
        let lead = format!("good-{}", self.figures.good);
        let properties = [&0x9080u16.to_be_bytes()[..], &short(b"application/json"), &[2], &short(lead.as_bytes())];
        let content = Content { properties: properties.concat(), ..event(&lead) };
        self.broker.deliver("events", content);
        let begun = Instant::now();
        while !self.seen.remove(&lead) {
            let waiting = tokio::time::timeout(HANG.saturating_sub(begun.elapsed()), self.receiver.take());
            let Ok(received) = waiting.await else {
                self.look();
                panic!("no good event within {HANG:?}");
            };
            for request in received {
                let body: serde_json::Value = serde_json::from_slice(&request.body).unwrap_or_default();
                let lead = body["leadId"].as_str().unwrap_or_default().to_owned();
                // Bad messages whose properties happen to be readable are events too.
                if lead.starts_with("good-") {
                    assert!(self.seen.insert(lead), "two POSTs for a good event");
                }
            }
        }
        begun.elapsed()
    }

    /// Sends bytes that only a broken broker would send. The connection ends, and the next one works.
    async fn violate(&mut self, rng: &mut Rng) {
        let kind = rng.usize(..VIOLATIONS.len());
        let (name, bytes) = VIOLATIONS[kind];
        let before = self.broker.connections();
        let begun = Instant::now();
        if !self.broker.send("events", bytes) {
            return;
        }
        let broker = &self.broker;
        eventually(name, async || (broker.connections() > before && broker.consumers("events") > 0).then_some(()))
            .await;
        self.good().await;
        assert!(begun.elapsed() < HANG, "{name}: {:?} until the next good event", begun.elapsed());
        self.figures.longest_after_violation = self.figures.longest_after_violation.max(begun.elapsed());
        self.figures.violations += 1;
        *self.figures.kinds.entry(name).or_default() += 1;
    }

    fn look(&mut self) {
        let ended = self.worker.has_ended();
        assert!(ended.is_none(), "the worker has ended: {ended:?}");
        let memory = memory(&self.worker);
        self.figures.most_memory = self.figures.most_memory.max(memory);
        let (idle, most) = (self.figures.idle_memory, self.figures.idle_memory + MEMORY);
        assert!(idle == 0 || memory < most, "{memory} bytes of memory, {idle} when idle");
    }
}

/// Returns the resident memory of a worker, in bytes.
fn memory(worker: &Worker) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", worker.id())).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or_default();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap_or_default() << 10
}

fn event(lead: &str) -> Content {
    let body = serde_json::json!({
        "event": "lead.delivered", "leadId": lead, "submissionId": "sub-1", "campaignId": "ABC", "status": "delivered",
        "timestamp": "2024-06-15T10:30:00Z", "data": { "firstName": "John" },
    });
    Content {
        exchange: b"lead.events".to_vec(),
        routing_key: b"lead.delivered".to_vec(),
        properties: vec![0, 0],
        body: body.to_string().into_bytes(),
    }
}

const HEADERS: u16 = 1 << 13;

/// Flags of the short-string properties.
const TEXTS: [u16; 10] = [1 << 15, 1 << 14, 1 << 10, 1 << 9, 1 << 8, 1 << 7, 1 << 5, 1 << 4, 1 << 3, 1 << 2];

/// Builds a message that a publisher could send if it wrote its own frames and the broker checked nothing.
fn bad(rng: &mut Rng) -> (&'static str, Content) {
    let plain = event("bad");
    let with = |properties: Vec<u8>| Content { properties, ..plain.clone() };
    let headers = |entries: Vec<u8>| with([&HEADERS.to_be_bytes()[..], &long(&entries)].concat());
    match rng.u8(..12) {
        0 => ("nested", headers(named(b"n", &nested(rng)))),
        1 => ("a property that is not UTF-8", with(texts(rng))),
        2 => (
            "names of headers that are not UTF-8",
            headers({
                let count = rng.usize(1..30);
                (0..count).flat_map(|_| named(&bytes(rng, 20), &value(rng, 2))).collect()
            }),
        ),
        3 => ("headers of any shape", headers(entries(rng, 6))),
        4 => (
            "many values",
            headers({
                let count = rng.usize(..FRAME_MAX as usize - 100);
                let content = if rng.bool() { vec![b'V'; count] } else { b"t\x01".repeat(count / 2) };
                named(b"n", &[&b"A"[..], &long(&content)].concat())
            }),
        ),
        5 => (
            "many names",
            headers({
                let count = rng.u32(..25_000);
                (0..count).flat_map(|n| named(&n.to_be_bytes()[2..], b"V")).collect()
            }),
        ),
        6 => ("lengths that lie", {
            let lie = [rng.u32(..), u32::MAX, 0x8000_0000, rng.u32(..300)][rng.usize(..4)].to_be_bytes();
            match rng.u8(..3) {
                0 => with([&HEADERS.to_be_bytes()[..], &lie, &entries(rng, 3)].concat()),
                1 => {
                    headers(named(b"n", &[&[*rng.choice(b"FASx").expect("one")][..], &lie, &entries(rng, 3)].concat()))
                }
                _ => with([&[0, 128, rng.u8(..)][..], &bytes(rng, 40)].concat()),
            }
        }),
        7 => ("any flags", with([&rng.u16(..).to_be_bytes()[..], &bytes(rng, 300)].concat())),
        8 => ("cut or followed by more", {
            let mut properties = [&HEADERS.to_be_bytes()[..], &long(&entries(rng, 4))].concat();
            match rng.bool() {
                true => properties.truncate(rng.usize(2..=properties.len())),
                false => properties.extend(bytes(rng, 50)),
            }
            with(properties)
        }),
        9 => ("a routing key that is not UTF-8", {
            let (exchange, routing_key) = (bytes(rng, 255), bytes(rng, 255));
            Content { exchange, routing_key, ..plain }
        }),
        10 => (
            "larger than a frame",
            headers({
                let length = rng.usize(FRAME_MAX as usize - 200..FRAME_MAX as usize + 500_000);
                let content: Vec<u8> = std::iter::repeat_n(rng.u8(..), length).collect();
                named(b"n", &[&b"S"[..], &long(&content)].concat())
            }),
        ),
        _ => ("bits that flipped", {
            let mut properties =
                [&(HEADERS | 1 << 15 | 1 << 7).to_be_bytes()[..], &short(b"application/json")].concat();
            properties.extend(long(&entries(rng, 4)));
            properties.extend(short(b"id-1"));
            for _ in 0..rng.usize(1..8) {
                let at = rng.usize(..properties.len());
                properties[at] ^= 1 << rng.u8(..8);
            }
            with(properties)
        }),
    }
}

/// Builds some short-string properties with arbitrary bytes.
fn texts(rng: &mut Rng) -> Vec<u8> {
    let flags = TEXTS.into_iter().filter(|_| rng.u8(..3) == 0).fold(1 << 7, |all: u16, flag| all | flag);
    let mut properties = flags.to_be_bytes().to_vec();
    for _ in 0..flags.count_ones() {
        properties.extend(short(&bytes(rng, 255)));
    }
    properties
}

fn bytes(rng: &mut Rng, most: usize) -> Vec<u8> {
    let length = rng.usize(..=most);
    (0..length).map(|_| rng.u8(..)).collect()
}

fn named(name: &[u8], value: &[u8]) -> Vec<u8> {
    [&short(name)[..], value].concat()
}

/// Builds tables and arrays inside each other, as deep as a frame allows.
fn nested(rng: &mut Rng) -> Vec<u8> {
    let most = [40, 1_000, 20_000][rng.usize(..3)];
    let depth = rng.usize(..most);
    let kinds = [&b"A"[..], b"F", b"AF"][rng.usize(..3)];
    let (mut heads, mut size) = (Vec::new(), 1);
    for level in 0..depth {
        let kind = kinds[level % kinds.len()];
        size += usize::from(kind == b'F');
        heads.push((kind, size as u32));
        size += 5;
        if size > FRAME_MAX as usize - 200 {
            break;
        }
    }
    let mut value = Vec::with_capacity(size);
    for (kind, size) in heads.into_iter().rev() {
        value.push(kind);
        value.extend(size.to_be_bytes());
        value.extend((kind == b'F').then_some(0));
    }
    value.push(b'V');
    value
}

fn entries(rng: &mut Rng, depth: u32) -> Vec<u8> {
    let count = rng.usize(..6);
    (0..count).flat_map(|_| named(&bytes(rng, 6), &value(rng, depth))).collect()
}

/// Builds a value of any type, occasionally of a type that does not exist.
fn value(rng: &mut Rng, depth: u32) -> Vec<u8> {
    let kind = *rng.choice(b"tbBsUuIilLfdDTVSxFFFAAAZ\x00").expect("one");
    let content = match kind {
        b't' | b'b' | b'B' => vec![rng.u8(..)],
        b's' | b'U' | b'u' => rng.u16(..).to_be_bytes().to_vec(),
        b'I' | b'i' | b'f' => rng.u32(..).to_be_bytes().to_vec(),
        b'l' | b'L' | b'd' | b'T' => rng.u64(..).to_be_bytes().to_vec(),
        b'D' => (0..5).map(|_| rng.u8(..)).collect(),
        b'S' | b'x' => long(&bytes(rng, 30)),
        b'F' if depth > 0 => long(&entries(rng, depth - 1)),
        b'A' if depth > 0 => {
            let count = rng.usize(..5);
            long(&(0..count).flat_map(|_| value(rng, depth - 1)).collect::<Vec<_>>())
        }
        b'F' | b'A' => long(&[]),
        _ => Vec::new(),
    };
    [&[kind][..], &content].concat()
}

type Violation = (&'static str, fn(u16, &str) -> Vec<u8>);

/// Bytes that no publisher can cause: the connection ends.
const VIOLATIONS: [Violation; 8] = [
    ("no end mark", |channel, _| {
        let mut bytes = frame(METHOD, channel, &[0, 60, 0, 11]);
        *bytes.last_mut().expect("a byte") = 0;
        bytes
    }),
    ("an unknown type", |channel, _| frame(7, channel, b"x")),
    ("a size of 4 GiB", |channel, _| [&[BODY][..], &channel.to_be_bytes(), &[0xff; 4]].concat()),
    ("a content header of four bytes", |channel, _| frame(HEADER, channel, &[0, 60, 0, 0])),
    ("a content header out of turn", |channel, _| frame(HEADER, channel, &[0, 60, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0])),
    ("a body out of turn", |channel, _| frame(BODY, channel, b"x")),
    ("an unknown method", |channel, _| frame(METHOD, channel, &[0, 61, 0, 1])),
    ("a delivery that is cut", |channel, tag| {
        frame(METHOD, channel, &[&[0, 60, 0, 60][..], &short(tag.as_bytes()), &[0, 0]].concat())
    }),
];
