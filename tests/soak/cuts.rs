//! `make reconnects CUTS=1000`: cuts the connections of one worker repeatedly (all of them, then only the publishing
//! one three times, and so on), and measures what the worker holds in between. No day has more reconnects, so a leak in
//! each of them would show a thousand times.

use std::{
    process::ExitCode,
    time::{Duration, Instant},
};

use indicatif::{ProgressBar, ProgressStyle};

use crate::rig::{
    harness::{asked_every, eventually},
    node::Node,
    proxy::Which,
    trial::Trial,
};

/// Number of measurements, at equal intervals.
const LOOKS: usize = 20;

/// A session lasts longer than three heartbeats. After a shorter one, the worker pauses longer and longer.
const SESSION: Duration = Duration::from_millis(6_100);

/// One cut in this many hits all connections.
const SPAN: usize = 4;

/// Events published around each cut.
const EVENTS: usize = 20;

/// Growth from the third quarter to the last, by medians, that counts as noise: tasks, threads, files, connections and
/// channels. The first half fills bounded stores: a worker remembers ten thousand outcomes (`worker::settle::memory`).
const NOISE: u64 = 2;

/// Noise of memory, in KiB: an arena of the allocator comes and goes with 8 MiB (measured with glibc's).
const MEMORY_NOISE: u64 = 10 * 1024;

/// Resources that an idle worker holds, here and on the broker.
#[derive(Clone, Copy, Debug)]
struct Held {
    rss_kib: u64,
    tasks: u64,
    threads: u64,
    files: u64,
    connections: u64,
    channels: u64,
}

/// Runs all cuts, prints a line for each measurement, and judges growth and ledger.
pub fn run(cuts: usize) -> ExitCode {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime");
    runtime.block_on(play(cuts))
}

async fn play(cuts: usize) -> ExitCode {
    let node = Node::start();
    let mut trial = Trial::new(&node, 1).await;
    trial.silent = true;
    trial.start().await;
    let progress = ProgressBar::new(cuts as u64)
        .with_style(ProgressStyle::with_template("{bar:40} {pos}/{len} cuts, {eta} to go").expect("a template"));
    println!("  cuts  rss MiB  tasks  threads  files  connections  channels");
    let every = (cuts / LOOKS).max(1);
    let mut looks = Vec::new();
    let mut begun = Instant::now();
    for cut in 1..=cuts {
        let (which, connections) = if cut % SPAN == 0 { (Which::All, 3) } else { (Which::Publish, 1) };
        eventually("all published", async || trial.all_published().then_some(())).await;
        trial.load(EVENTS, 0);
        trial.under_load(EVENTS / 2).await;
        let before = trial.proxy.accepted();
        trial.worker_broke("cut");
        trial.proxy.cut(which);
        eventually("new connections", async || (trial.proxy.accepted() >= before + connections).then_some(())).await;
        trial.workers[0].ready().await;
        if cut % every == 0 {
            trial.quiet().await;
            let held = look(&node, &trial).await;
            let Held { rss_kib, tasks, threads, files, connections, channels } = held;
            let mib = rss_kib as f64 / 1024.0;
            let said =
                format!("{cut:>6}  {mib:>7.1}  {tasks:>5}  {threads:>7}  {files:>5}  {connections:>11}  {channels:>8}");
            progress.suspend(|| println!("{said}"));
            looks.push(held);
        }
        if which == Which::All {
            begun = Instant::now();
        } else if cut % SPAN == SPAN - 1 {
            tokio::time::sleep(SESSION.saturating_sub(begun.elapsed())).await;
        }
        progress.inc(1);
    }
    progress.finish_and_clear();
    trial.story.clear();
    let (account, mut objections) = trial.judged().await;
    objections.extend(grown(&looks));
    for objection in &objections {
        eprintln!("{objection}");
    }
    println!("{account}");
    ExitCode::from(u8::from(!objections.is_empty()))
}

/// Describes each resource that grew beyond noise.
fn grown(looks: &[Held]) -> Vec<String> {
    let (third, last) = looks[looks.len() / 2..].split_at(looks.len() / 4);
    let all: [(&str, fn(&Held) -> u64, u64); 6] = [
        ("KiB of memory", |held| held.rss_kib, MEMORY_NOISE),
        ("tasks", |held| held.tasks, NOISE),
        ("threads", |held| held.threads, NOISE),
        ("files", |held| held.files, NOISE),
        ("connections", |held| held.connections, NOISE),
        ("channels", |held| held.channels, NOISE),
    ];
    let all = all.map(|(what, of, noise)| (what, median(third, of), median(last, of), noise));
    let grown = all.into_iter().filter(|(_, was, is, noise)| *is > was + noise);
    grown
        .map(|(what, was, is, _)| format!("{what}: {was} in the third quarter of the looks, {is} in the last"))
        .collect()
}

fn median(looks: &[Held], of: fn(&Held) -> u64) -> u64 {
    let mut all: Vec<u64> = looks.iter().map(of).collect();
    all.sort_unstable();
    all.get(all.len() / 2).copied().unwrap_or_default()
}

/// Measures while nothing is in flight. The tasks of an admin request end a moment after it, so the lowest of several
/// counts is taken.
async fn look(node: &Node, trial: &Trial<'_>) -> Held {
    let worker = &trial.workers[0];
    let mut tasks = f64::MAX;
    for _ in 0..5 {
        let now = asked_every(Duration::from_millis(100), "metrics", async || {
            worker.metric_if_there("leadhook_tasks", "").await
        });
        tasks = tasks.min(now.await);
    }
    let status = std::fs::read_to_string(format!("/proc/{}/status", worker.id())).expect("a process");
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name)?.split_whitespace().next()?.parse().ok());
        line.unwrap_or_default()
    };
    let files = std::fs::read_dir(format!("/proc/{}/fd", worker.id())).expect("its files").count() as u64;
    let lines = |what: &[&str]| node.ctl_said(what).lines().filter(|line| !line.trim().is_empty()).count() as u64;
    let connections = lines(&["list_connections", "--no-table-headers", "pid"]);
    let channels = lines(&["list_channels", "--no-table-headers", "pid"]);
    Held { rss_kib: field("VmRSS:"), tasks: tasks as u64, threads: field("Threads:"), files, connections, channels }
}
