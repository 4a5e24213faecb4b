//! `make soak`: runs rounds of at least a thousand events with random faults, for as long as asked. Each round has its
//! own seed, which draws everything in it: how many workers, which receivers misbehave, which faults, when. A round
//! that does not add up prints its seed, and `make soak SEED=<that> ROUNDS=1` plays it again.
//!
//! The last line, on stdout, is the ledger of all rounds. The exit status is 1 if a delivery was lost or a duplicate
//! cannot be explained.

use std::{
    process::ExitCode,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use clap::Parser;
use indicatif::{ProgressBar, ProgressStyle};

/// The rig: worlds, nodes, workers, the ledger and the faults.
#[path = "../rig/mod.rs"]
mod rig;

mod cuts; // a thousand reconnects, and what they leave behind
mod poison; // messages that once did harm, and the good events behind them
mod storm; // workers that are killed again and again

use rig::{drawn::DRAWN, fault::Fault, ledger::Account, node::Node, trial::Trial};

/// Breaks workers, network and broker at random, and adds up what became of every event.
#[derive(Parser)]
#[command(name = "soak")]
struct Asked {
    /// No round begins after this many minutes
    #[arg(long, default_value_t = 10.0)]
    minutes: f64,
    /// Seed of the first round; the others follow it [default: drawn, and printed]
    #[arg(long)]
    seed: Option<u64>,
    /// Maximum number of rounds
    #[arg(long)]
    rounds: Option<u64>,
    /// Concurrent rounds, each on its own RabbitMQ
    #[arg(long, default_value_t = 2)]
    lanes: usize,
    /// Minimum number of events in a round
    #[arg(long, default_value_t = 1000)]
    events: usize,
    /// Instead: cuts connections of one worker this many times, and measures what it holds in between
    #[arg(long)]
    cuts: Option<usize>,
    /// Instead: kills both of two workers in every round of 1.5 s, for 80 rounds or as many as asked
    #[arg(long, conflicts_with_all = ["cuts", "poison"])]
    storm: bool,
    /// With --storm: in its middle the jobs queue refuses publishes for this many seconds
    #[arg(long, default_value_t = 0, requires = "storm")]
    refuse: u64,
    /// Instead: one message of each kind that once did harm, with 200 good events behind it
    #[arg(long, conflicts_with = "cuts")]
    poison: bool,
    /// With --poison: number of workers
    #[arg(long, default_value_t = 1, requires = "poison")]
    workers: usize,
}

/// Rounds of a storm.
const STORM_ROUNDS: u64 = 80;

/// All rounds together.
#[derive(Default)]
struct Course {
    next: AtomicU64,
    sums: Mutex<(u64, Account, Vec<u64>)>,
}

fn main() -> ExitCode {
    let asked = Asked::parse();
    if let Some(cuts) = asked.cuts {
        return cuts::run(cuts);
    }
    if asked.storm {
        let rounds = u32::try_from(asked.rounds.unwrap_or(STORM_ROUNDS)).unwrap_or(u32::MAX);
        let seed = asked.seed.unwrap_or_else(|| fastrand::u64(..1_000_000));
        return storm::Storm { rounds, refuse: Duration::from_secs(asked.refuse), seed }.run();
    }
    if asked.poison {
        return poison::run(asked.workers);
    }
    // A panic in a round is reported with that round.
    std::panic::set_hook(Box::new(|_| {}));
    let first = asked.seed.unwrap_or_else(|| fastrand::u64(..1_000_000));
    eprintln!("soak: seed {first}, {} lanes, {} events in a round", asked.lanes, asked.events);
    let progress = ProgressBar::new_spinner()
        .with_style(ProgressStyle::with_template("{spinner} {elapsed_precise} {msg}").expect("a template"));
    progress.enable_steady_tick(Duration::from_millis(200));
    let course = Arc::new(Course::default());
    let end = Instant::now() + Duration::from_secs_f64(asked.minutes * 60.0);
    let lanes: Vec<_> = (0..asked.lanes.max(1))
        .map(|_| {
            let (course, progress) = (course.clone(), progress.clone());
            let (rounds, events) = (asked.rounds.unwrap_or(u64::MAX), asked.events);
            std::thread::spawn(move || lane(&course, &progress, end, first, rounds, events))
        })
        .collect();
    for lane in lanes {
        lane.join().expect("a lane");
    }
    progress.finish_and_clear();
    let sums = course.sums.lock().unwrap_or_else(PoisonError::into_inner);
    let (rounds, account, failed) = &*sums;
    eprintln!("{rounds} rounds, {} of them do not add up", failed.len());
    for seed in failed {
        eprintln!("reproduce it: make soak SEED={seed} ROUNDS=1");
    }
    println!("{account}");
    ExitCode::from(u8::from(!failed.is_empty() || account.lost > 0 || *rounds == 0))
}

/// Plays rounds one by one on one node. After a round that panicked it starts another node, because the old one may be
/// blocked, silent or dead.
fn lane(course: &Course, progress: &ProgressBar, end: Instant, first: u64, rounds: u64, events: usize) {
    let mut node = Node::start();
    while Instant::now() < end {
        let number = course.next.fetch_add(1, Ordering::Relaxed);
        if number >= rounds {
            return;
        }
        let seed = first.wrapping_add(number);
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime");
        let played =
            std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| runtime.block_on(round(&node, seed, events))));
        let (account, objections, story) = played.unwrap_or_else(|panic| {
            node = Node::start();
            let what = panic.downcast_ref::<String>().cloned();
            let what = what.or_else(|| panic.downcast_ref::<&str>().map(|it| (*it).to_owned())).unwrap_or_default();
            (Account::default(), vec![format!("broken off: {what}")], String::new())
        });
        let mut sums = course.sums.lock().unwrap_or_else(PoisonError::into_inner);
        sums.0 += 1;
        sums.1.add(&account);
        let said = format!("seed {seed}: {account}; {story}");
        progress.set_message(format!("{} rounds: {}", sums.0, sums.1));
        if !objections.is_empty() {
            sums.2.push(seed);
            progress.suspend(|| eprintln!("{said}\n  {}", objections[..objections.len().min(20)].join("\n  ")));
        } else if std::env::var_os("LEADHOOK_SOAK_TELLS").is_some() {
            progress.suspend(|| eprintln!("{said}"));
        }
    }
}

/// Prints the plan of a round that panics.
struct Told(String);

impl Drop for Told {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("planned: {}", self.0);
        }
    }
}

/// Plays one round. Everything in it is drawn from the seed.
async fn round(node: &Node, seed: u64, events: usize) -> (Account, Vec<String>, String) {
    const BAD: [&str; 10] =
        ["hang", "close", "drip", "500", "reset", "garbage", "endless", "301", "200@1500ms", "429:1"];
    let mut draw = fastrand::Rng::with_seed(seed);
    let mut trial = Trial::new(node, seed).await;
    trial.silent = true;
    trial.bad_receiver(BAD[draw.usize(..BAD.len())]).await;
    for _ in 0..draw.usize(1..=2) {
        trial.start().await;
    }
    let plan: Vec<Fault> = (0..draw.usize(2..=4)).map(|_| DRAWN[draw.usize(..DRAWN.len())]).collect();
    trial.load_on(draw.u32(50..=120));
    let _told = Told(format!("{} workers, {plan:?}", trial.workers.len()));
    for fault in plan {
        trial.under_load(draw.usize(10..=150)).await;
        trial.inflict(fault).await;
    }
    trial.confirmed(events).await;
    trial.end_load().await;
    let (story, vhost) = (trial.story.join("; "), trial.world.vhost().to_owned());
    let workers = trial.workers.len();
    let (account, objections) = trial.judged().await;
    node.manage(reqwest::Method::DELETE, &format!("vhosts/{vhost}"), "").await;
    (account, objections, format!("{workers} workers; {story}"))
}
