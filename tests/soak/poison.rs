//! `make poison`: publishes one message of each kind that once did harm, with good events right behind it. None may
//! delay, repeat or fail a good event, and the tools must find each on the right queue.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Range,
    process::ExitCode,
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use leadhook::receiver::{Options, Received, Receiver};

use crate::rig::{
    harness::{Worker, World, event, receiver, receiver_with},
    node::Node,
    poison::{NOT_UTF8, entry, headers, kinds, texts, value},
    raw_publisher::RawPublisher,
};

/// Good events behind each poison message, for a receiver that accepts at once.
const GOOD: u32 = 200;

/// Events before each poison message, whose jobs wait for a retry meanwhile.
const RETRIED: u32 = 5;

/// Event numbers reserved for each kind.
const SPAN: u32 = 1_000;

/// Within this range: the poison message itself, and the first of the retried events.
const POISON: u32 = 900;
const FIRST_RETRIED: u32 = 500;

/// Longest delay of a good event.
const DELAY: Duration = Duration::from_secs(5);

/// Limit of the wait for anything, after which it counts as never.
const NEVER: Duration = Duration::from_secs(60);

/// Pause between two checks whether a worker has ended, or where a poison message is.
const LOOK: Duration = Duration::from_secs(1);

/// The queues on which a poison message may end.
const ENDS: [&str; 3] = ["rejected", "unreadable", "failed"];

/// The first two kinds are ordinary events. They show the delay of the good events behind them without poison: at the
/// start, while the worker learns how much their receiver takes, and afterwards.
const NO_POISON: [&str; 2] = ["none, at the start", "none"];

/// The end of a kind that is an ordinary event.
const POSTED: &str = "POSTed";

/// The commands that must cope with these messages.
const TOOLS: [&str; 3] = ["rejected list", "unreadable list", "failed list"];

/// One kind of poison message.
struct Poison {
    name: &'static str,
    exchange: &'static str,
    routing_key: &'static [u8],
    properties: Vec<u8>,
    /// Makes its body from that of a good event.
    body: fn(String) -> Vec<u8>,
    /// The reason for its rejection. `None` if it is an ordinary event.
    reason: Option<&'static str>,
}

/// The results of one kind.
struct Row {
    name: &'static str,
    /// Longest delay of its good events. `None` if one never came.
    longest: Option<Duration>,
    ended: String,
    /// The expected reason for its rejection.
    reason: Option<&'static str>,
    /// Exit codes of the tools.
    tools: Vec<Option<i32>>,
}

struct Course {
    node: Node,
    world: World,
    accepting: Receiver,
    retrying: Receiver,
    workers: Vec<Worker>,
    /// Workers that ended by themselves.
    deaths: usize,
    /// Arrival times of the POSTs for each event.
    posts: BTreeMap<u32, Vec<SystemTime>>,
}

/// Runs all kinds with this many workers, and prints the table. Succeeds if all rules hold.
pub fn run(workers: usize) -> ExitCode {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime");
    runtime.block_on(play(workers))
}

async fn play(workers: usize) -> ExitCode {
    let node = Node::start();
    let world = World::on(&node).await;
    let accepting = receiver("200").await;
    let script = "404,404,200".parse().expect("a script");
    let retrying = receiver_with(Options { script, per_webhook: true, ..Options::default() }).await;
    let campaigns = format!("campaigns:\n  RETRY: {{ override: true, webhook: {{ url: \"{}\" }} }}", retrying.url());
    world.simple_store(&accepting.url(), "");
    let store = std::fs::read_to_string(world.store_path()).expect("the store");
    let campaigns: String = campaigns.lines().map(|line| format!("    {line}\n")).collect();
    world.store(&(store + &campaigns));
    let mut course =
        Course { node, world, accepting, retrying, workers: Vec::new(), deaths: 0, posts: BTreeMap::new() };
    for _ in 0..workers.max(1) {
        course.workers.push(course.world.worker(&[]).await);
    }
    let version = course.node.eval("rabbit_misc:version().");
    println!("RabbitMQ {}, {} workers", version.trim().trim_matches('"'), course.workers.len());
    let mut rows = Vec::new();
    for (index, poison) in poisons().into_iter().enumerate() {
        rows.push(course.play(index as u32 * SPAN, poison).await);
    }
    course.judge(rows).await
}

impl Course {
    /// Publishes one poison message among good events, whose numbers begin after `base`.
    async fn play(&mut self, base: u32, poison: Poison) -> Row {
        let Poison { name, exchange, routing_key, properties, body, reason } = poison;
        eprintln!("{name}");
        let retried = base + FIRST_RETRIED..base + FIRST_RETRIED + RETRIED;
        self.world.publish_many(retried.clone().map(|n| event("RETRY", n))).await;
        let before = self.rest();
        let body = body(event("ABC", base + POISON));
        RawPublisher::connect(&self.world.url).await.publish(exchange, routing_key, &properties, &body).await;
        let begun = SystemTime::now();
        let good = base + 1..base + 1 + GOOD;
        self.world.publish_many(good.clone().map(|n| event("ABC", n))).await;
        self.posted(good.clone(), 1, NEVER).await;
        let delays = good.map(|n| self.posts.get(&n)?.first()?.duration_since(begun).ok());
        let longest = delays.collect::<Option<Vec<_>>>().and_then(|delays| delays.into_iter().max());
        let ended = self.end_of(base + POISON, &before).await;
        // The last of three POSTs is accepted.
        self.posted(retried, 3, NEVER).await;
        let mut tools = Vec::new();
        for words in TOOLS {
            let mut command = self.world.command();
            command.args(words.split(' '));
            let output = tokio::task::spawn_blocking(move || command.output().expect("the command")).await;
            tools.push(output.expect("the command").status.code());
        }
        self.replace_the_dead();
        Row { name, longest, ended, reason, tools }
    }

    /// Waits for at most `most` until each of these events has `count` POSTs, and returns whether they have. Meanwhile
    /// it replaces workers that have ended.
    async fn posted(&mut self, events: Range<u32>, count: usize, most: Duration) -> bool {
        let begun = Instant::now();
        while !events.clone().all(|n| self.posts.get(&n).is_some_and(|posts| posts.len() >= count)) {
            if begun.elapsed() >= most {
                return false;
            }
            self.replace_the_dead();
            let taking = async {
                tokio::select! {
                    taken = self.accepting.take() => taken,
                    taken = self.retrying.take() => taken,
                }
            };
            let taken = tokio::time::timeout(LOOK, taking).await.unwrap_or_default();
            record(&mut self.posts, &taken);
        }
        true
    }

    /// Counts the messages on each queue where poison may end.
    fn rest(&self) -> BTreeMap<&'static str, u32> {
        let held = self.node.held(self.world.vhost());
        let count = |queue: &str| {
            let name = format!("leadhook.{queue}");
            held.iter().find(|(held, _)| *held == name).and_then(|(_, count)| count.parse().ok()).unwrap_or_default()
        };
        ENDS.into_iter().map(|queue| (queue, count(queue))).collect()
    }

    /// Returns where a poison message ended: a queue that holds more than `before`, or the receiver.
    async fn end_of(&mut self, poison: u32, before: &BTreeMap<&'static str, u32>) -> String {
        let begun = Instant::now();
        while begun.elapsed() < NEVER {
            let rest = self.rest();
            if let Some(queue) = ENDS.into_iter().find(|queue| rest[queue] > before[queue]) {
                return queue.to_owned();
            }
            if self.posted(poison..poison + 1, 1, LOOK).await {
                return POSTED.to_owned();
            }
        }
        "nowhere".to_owned()
    }

    /// Starts a new worker for each that has ended.
    fn replace_the_dead(&mut self) {
        for worker in &mut self.workers {
            if worker.has_ended().is_some() {
                self.deaths += 1;
                *worker = self.world.start_worker(&[]);
            }
        }
    }

    /// Stops the workers, takes the messages from the queues, prints the table, and judges it.
    async fn judge(mut self, rows: Vec<Row>) -> ExitCode {
        let lost_connections: usize =
            self.workers.iter().map(|worker| worker.log().matches("lost the broker connection").count()).sum();
        for worker in std::mem::take(&mut self.workers) {
            worker.ready().await;
            worker.stop().await;
        }
        // Includes POSTs that arrived late.
        record(&mut self.posts, &self.accepting.received());
        let failed: BTreeSet<u32> =
            self.world.take_all("failed").await.iter().filter_map(|message| number(&message.body)).collect();
        let rejected = self.world.take_all("rejected").await;
        let reasons: BTreeMap<u32, String> = rejected
            .iter()
            .filter_map(|message| Some((number(&message.body)?, message.text("leadhook-reason")?)))
            .collect();
        let mut wrong = Vec::new();
        println!("{:<34} {:>9} {:>6} {:>8}  {:<34} tools", "poison", "longest", "POSTs", "innocent", "ended");
        for (row, base) in rows.iter().zip((0..).step_by(SPAN as usize)) {
            let good: usize = (base + 1..=base + GOOD).map(|n| self.posts.get(&n).map_or(0, Vec::len)).sum();
            let innocent = (base..base + POISON).filter(|n| failed.contains(n)).count();
            let reason = reasons.get(&(base + POISON)).map(String::as_str);
            let longest = row.longest.map_or("never".to_owned(), |longest| format!("{:.2} s", longest.as_secs_f64()));
            let posts = good as f64 / f64::from(GOOD);
            let ended = [row.ended.as_str(), reason.unwrap_or_default()].join(" ");
            let tools: Vec<_> =
                row.tools.iter().map(|code| code.map_or("-".to_owned(), |code| code.to_string())).collect();
            let tools = tools.join(" ");
            println!("{:<34} {longest:>9} {posts:>6.2} {innocent:>8}  {ended:<34} {tools}", row.name);
            let in_time = row.longest.is_some_and(|longest| longest <= DELAY || NO_POISON.contains(&row.name));
            let holds = in_time
                && good == GOOD as usize
                && innocent == 0
                && reason == row.reason
                && row.ended == row.reason.map_or(POSTED, |_| "rejected")
                && row.tools.iter().all(|code| *code == Some(0));
            wrong.extend((!holds).then_some(row.name));
        }
        let poisoned = rows.iter().filter(|row| !NO_POISON.contains(&row.name));
        let longest = poisoned.filter_map(|row| row.longest).max().unwrap_or_default();
        println!(
            "{} kinds, longest delay {:.2} s, workers that ended {}, connections lost {lost_connections}",
            rows.len() - NO_POISON.len(),
            longest.as_secs_f64(),
            self.deaths
        );
        wrong.iter().for_each(|name| println!("WRONG: {name}"));
        let holds = wrong.is_empty() && self.deaths == 0 && lost_connections == 0;
        println!("{}", if holds { "holds" } else { "does not hold" });
        ExitCode::from(u8::from(!holds))
    }
}

/// Records when POSTs were received.
fn record(posts: &mut BTreeMap<u32, Vec<SystemTime>>, received: &[Arc<Received>]) {
    for post in received {
        posts.entry(number(&post.body).unwrap_or_default()).or_default().push(post.at);
    }
}

/// Reads the number of an event from the bytes of its body.
fn number(body: &[u8]) -> Option<u32> {
    let text = String::from_utf8_lossy(body);
    let digits = text.split_once("\"lead_")?.1.split_once('"')?.0;
    digits.parse().ok()
}

/// Returns all kinds: odd properties, odd places, odd bodies.
fn poisons() -> Vec<Poison> {
    let plain = texts(&[]);
    let organization = |name: &[u8]| headers(&entry(b"organization-id", &value(b'S', name)));
    let big = headers(&entry(b"n", &value(b'S', &[b'x'; 120_000])));
    let of = |name, properties, reason, body| Poison {
        name,
        exchange: "lead.events",
        routing_key: b"lead.delivered",
        properties,
        body,
        reason,
    };
    let mut all: Vec<_> = NO_POISON.map(|name| of(name, plain.clone(), None, String::into_bytes)).into();
    all.extend(kinds().into_iter().map(|(name, bytes, reason)| of(name, bytes, reason, String::into_bytes)));
    all.push(Poison {
        routing_key: b"lead.\xff\xfe",
        ..of("a routing key not UTF-8", plain.clone(), Some("unreadable_properties"), String::into_bytes)
    });
    all.push(Poison {
        exchange: "",
        routing_key: b"leadhook.jobs",
        ..of("straight onto the jobs queue", texts(&[(7, NOT_UTF8)]), Some("malformed_job"), String::into_bytes)
    });
    all.push(of("an unknown organization", organization(b"nobody"), Some("unknown_organization"), String::into_bytes));
    all.push(of("120 KB of headers, no status", big, Some("missing_field"), |body| {
        body.replace("\"status\"", "\"state\"").into_bytes()
    }));
    let bodies: [(&str, Option<&str>, fn(String) -> Vec<u8>); 12] = [
        ("a byte order mark", Some("not_json"), |body| format!("\u{feff}{body}").into_bytes()),
        ("JSON that is cut", Some("not_json"), |body| body[..body.len() - 2].into()),
        ("a body not UTF-8", Some("not_json"), |body| {
            let (front, back) = body.split_once("John").expect("a name");
            [front.as_bytes(), NOT_UTF8, back.as_bytes()].concat()
        }),
        ("a field twice", Some("duplicate_key"), |body| body.replacen('{', "{\"status\":\"x\",", 1).into_bytes()),
        ("a campaign that is an array", Some("invalid_field"), |body| body.replace("\"ABC\"", "[1]").into_bytes()),
        ("an unknown event", Some("unknown_event"), |body| body.replace("lead.delivered", "lead.lost").into_bytes()),
        ("larger than 1 MiB", Some("too_large"), |body| (body + &" ".repeat(1 << 20)).into_bytes()),
        ("arrays 200,000 deep in data", None, |body| {
            body.replace("\"John\"", &("[".repeat(200_000) + &"]".repeat(200_000))).into_bytes()
        }),
        ("a lone surrogate", None, |body| body.replace("John", "\\ud83d").into_bytes()),
        ("1e400", None, |body| body.replace("\"John\"", "1e400").into_bytes()),
        ("a timestamp in words", None, |body| body.replace("2024-06-15T10:30:00Z", "half past ten").into_bytes()),
        ("50,000 keys of one name in data", None, |body| {
            body.replace("\"firstName\"", &("\"firstName\":1,".repeat(50_000) + "\"firstName\"")).into_bytes()
        }),
    ];
    all.extend(bodies.into_iter().map(|(name, reason, body)| of(name, plain.clone(), reason, body)));
    all
}
