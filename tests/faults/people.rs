//! Actions of people are killed halfway: a replay, a reload, a stop.

use std::{os::unix::process::ExitStatusExt, process::Stdio};

use crate::rig::{node::Node, trial::Trial};

const KILLED: Option<i32> = Some(9);

async fn replay_killed_at(point: &str) {
    let mut trial = Trial::new(Node::shared(), fastrand::u64(..)).await;
    trial.start().await;
    let events = trial.events_of(&[("BROKEN", 40), ("GONE", 20), ("HEALTHY", 20)]);
    trial.load_of(events, 0);
    trial.quiet().await;
    let jobs = trial.world.ready("failed").await as usize;
    assert_eq!(jobs, 60);
    for name in ["broken", "gone"] {
        trial.receiver(name).set_script("200".parse().expect("a script"));
    }
    let failed = |arguments: &[&str], points: &str| {
        let mut command = trial.world.command();
        command.arg("failed").args(arguments).env("LEADHOOK_FAILPOINTS", points);
        command.stdout(Stdio::null()).stderr(Stdio::null()).status().expect("leadhook failed")
    };
    let replay = |points: &str| failed(&["replay", "--all", "--yes"], points);
    assert_eq!(replay(&format!("{point}=kill@7")).signal(), KILLED);
    // Jobs that the killed process held return once the broker has noticed its death.
    crate::rig::harness::eventually("the rest can be replayed", async || replay("").success().then_some(())).await;
    trial.quiet().await;
    // Jobs that had been published and not removed are delivered by now. The second replay skipped those that the log
    // knows as delivered.
    let file = trial.world.directory.path().join("delivered.jsonl").display().to_string();
    let discard = ["discard", "--delivered", "--yes", "--because", "delivered after all", "--to", &file];
    assert!(failed(&discard, "").success());
    // Each replay starts again at the first attempt. Jobs that were published but not removed at its death are replayed
    // twice.
    trial.broke("a replay", jobs);
    trial.broke("a replay that was killed", jobs);
    let account = trial.adds_up().await;
    assert_eq!((account.delivered, account.failed, account.both), (80, 0, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replay_is_killed_before_it_publishes() {
    replay_killed_at("replay.taken").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replay_is_killed_between_confirm_and_removal() {
    replay_killed_at("replay.recorded").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_is_killed_in_the_middle_of_a_reload() {
    let mut trial = Trial::new(Node::shared(), fastrand::u64(..)).await;
    trial.start_armed("store.loaded=kill@1");
    trial.workers[0].ready().await;
    trial.load(300, 150);
    trial.under_load(40).await;
    trial.worker_broke("killed while reloading");
    trial.write_store("another revision");
    let (status, log) = trial.ended().await;
    assert_eq!(status.signal(), KILLED, "{log}");
    trial.start().await;
    trial.adds_up().await;
}

async fn stop_killed_at(point: &str) {
    let mut trial = Trial::new(Node::shared(), fastrand::u64(..)).await;
    trial.start_armed(&format!("{point}=kill@1"));
    trial.workers[0].ready().await;
    trial.load(300, 150);
    trial.under_load(40).await;
    trial.worker_broke("killed while stopping");
    trial.workers[0].signal("TERM");
    let (status, log) = trial.ended().await;
    assert_eq!(status.signal(), KILLED, "{log}");
    trial.start().await;
    trial.adds_up().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_is_killed_before_the_consumers_end() {
    stop_killed_at("stop.asked").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_is_killed_while_attempts_are_in_flight() {
    stop_killed_at("stop.consumers_ended").await;
}
