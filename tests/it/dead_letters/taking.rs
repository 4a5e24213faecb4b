//! Choosing, counting, exporting and removing: only the chosen messages are affected, and they are in a file before
//! they are removed.

use std::{os::unix::fs::PermissionsExt, process::Stdio};

use leadhook::job::{HistoryEntry, Job};
use serde_json::Value;

use super::{drain, fail, failed, job, litter, quiet_world, set};
use crate::{
    harness::{World, eventually},
    node::Node,
};

/// Returns the job of event `n`, last attempted with this result.
fn attempted(n: u32, reason: &str) -> Job {
    let at = jiff::Timestamp::now();
    let entry = HistoryEntry {
        at,
        attempt: 3,
        outcome: "failed".into(),
        reason: reason.into(),
        status: None,
        ms: 5,
        detail: None,
        snippet: None,
    };
    job(n).attempted(entry)
}

/// Returns the records of the log about discards and replays.
async fn told(world: &World, what: &str) -> Vec<Value> {
    let mut command = world.command();
    command.args(["deliveries", "--json", "--state", what]).env("LEADHOOK__AMQP__URLS", &world.url);
    let output = command.output().unwrap();
    let answer: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
    answer["deliveries"].as_array().cloned().unwrap_or_default()
}

fn lines(path: &std::path::Path) -> Vec<Value> {
    let text = std::fs::read_to_string(path).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[tokio::test]
async fn a_replay_by_filter_takes_what_matches_and_its_copies_and_nothing_else() {
    let world = quiet_world().await;
    let jobs = [attempted(1, "timeout"), attempted(2, "status"), attempted(1, "timeout"), attempted(3, "timeout")];
    let ids = fail(&world, jobs).await;
    let dry = failed(&world, &["replay", "--error", "timeout", "--dry-run", "--json"]).await;
    assert_eq!((dry.code, &dry.json()["would_replay"]), (Some(0), &2.into()), "{}", dry.err);
    assert_eq!(world.ready("jobs").await, 0, "the dry run changed something");
    let unasked = failed(&world, &["replay", "--error", "timeout"]).await;
    assert_eq!(unasked.code, Some(2));
    assert!(unasked.err.contains("Replay 2 jobs?") && unasked.err.contains("--yes"), "{}", unasked.err);

    let replay = failed(&world, &["replay", "--error", "timeout", "--yes", "--json", "--by", "Ada"]).await;
    assert_eq!(replay.code, Some(0), "{}", replay.err);
    assert_eq!((&replay.json()["replayed"], &replay.json()["copies_removed"]), (&2.into(), &1.into()));
    assert_eq!(drain(&world, "jobs").await, [&*ids[0], &*ids[3]]);
    assert_eq!(drain(&world, "failed").await, ids[1..2]);
    let told = told(&world, "replayed").await;
    assert_eq!(told.len(), 2, "{told:?}");
}

#[tokio::test]
async fn each_filter_counts() {
    let world = quiet_world().await;
    fail(&world, [attempted(1, "timeout"), attempted(2, "status")]).await;
    let list = async |arguments: &[&str]| {
        failed(&world, &[&["list", "--json", "--no-log"], arguments].concat()).await.ids().len()
    };
    for (question, found) in [
        (["--lead", "lead_1"], 1),
        (["--lead", "lead_9"], 0),
        (["--submission", "sub_2"], 1),
        (["--organization", "acme"], 2),
        (["--organization", "other"], 0),
        (["--campaign", "ABC"], 2),
        (["--target", "acme"], 2),
        (["--target", "acme/ABC"], 0),
        (["--event", "lead.delivered"], 2),
        (["--event", "lead.failed"], 0),
        (["--reason", "exhausted"], 2),
        (["--reason", "gone"], 0),
        (["--error", "status"], 1),
        (["--since", "1h"], 2),
        (["--older-than", "1h"], 0),
    ] {
        assert_eq!(list(&question).await, found, "{question:?}");
    }
}

#[tokio::test]
async fn a_rate_is_kept() {
    let world = quiet_world().await;
    fail(&world, (0..12).map(job)).await;
    let replay = failed(&world, &["replay", "--all", "--yes", "--rate", "10"]).await;
    assert_eq!(replay.code, Some(0), "{}", replay.err);
    let told = told(&world, "replayed").await;
    let at = told.iter().map(|record| record["at"].as_str().unwrap().parse::<jiff::Timestamp>().unwrap());
    let (first, last) = (at.clone().min().unwrap(), at.max().unwrap());
    // The twelfth job goes 1.1 s after the first. A slow machine delays it, and the first one too, by some
    // milliseconds.
    assert_eq!(told.len(), 12);
    assert!(last.duration_since(first) >= jiff::SignedDuration::from_millis(1_000), "{first} to {last}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replay_that_lost_what_it_held_publishes_nothing_more() {
    let mut world = quiet_world().await;
    let ids = fail(&world, (0..100).map(job)).await;
    let mut replay = spawned(&world, &["replay", "--all", "--yes", "--rate", "10"]);
    eventually("some are back", async || (world.ready("jobs").await >= 5).then_some(())).await;
    Node::shared().close_connections(world.vhost());
    let status = tokio::task::spawn_blocking(move || replay.wait().unwrap()).await.unwrap();
    assert_eq!(status.code(), Some(1));
    world.reconnect().await;
    let (jobs, failed) = (drain(&world, "jobs").await, drain(&world, "failed").await);
    assert!(failed.len() >= 10, "it continued: {} jobs, {} failed", jobs.len(), failed.len());
    assert_eq!(set(&[jobs.clone(), failed.clone()].concat()), set(&ids));
    // Jobs under way at that moment may be on both queues.
    assert!(jobs.len() + failed.len() <= ids.len() + 3, "{} jobs, {} failed", jobs.len(), failed.len());
}

#[tokio::test]
async fn who_is_interrupted_gives_everything_back_in_its_order() {
    let world = quiet_world().await;
    let ids = fail(&world, (0..5_000).map(job)).await;
    assert_eq!(failed(&world, &["list", "--no-log", "--json"]).await.code, Some(0));
    let mut interrupted = 0;
    // The command may be faster than the signal; then the loop repeats it.
    for signal in ["INT", "TERM"].into_iter().cycle().take(20) {
        let mut list = spawned(&world, &["list", "--no-log", "--json"]);
        eventually("it holds some", async || {
            (world.ready("failed").await < 5_000 || list.try_wait().unwrap().is_some()).then_some(())
        })
        .await;
        let _ = std::process::Command::new("kill").args([&format!("-{signal}"), &list.id().to_string()]).status();
        let status = tokio::task::spawn_blocking(move || list.wait().unwrap()).await.unwrap();
        assert!([Some(0), Some(1)].contains(&status.code()), "{status}");
        interrupted += u32::from(status.code() == Some(1));
        eventually("all are back", async || (world.ready("failed").await == 5_000).then_some(())).await;
        if interrupted == 2 {
            break;
        }
    }
    assert_eq!(interrupted, 2);
    assert_eq!(drain(&world, "failed").await, ids);
}

/// Starts a `leadhook failed` command that runs beside the test.
fn spawned(world: &World, arguments: &[&str]) -> std::process::Child {
    let mut command = world.command();
    command.arg("failed").args(arguments).env("LEADHOOK__AMQP__URLS", &world.url);
    command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("leadhook failed")
}

#[tokio::test]
async fn counted_by_target_and_reason() {
    let world = quiet_world().await;
    fail(&world, [attempted(1, "timeout"), attempted(2, "timeout"), attempted(1, "timeout"), attempted(3, "connect")])
        .await;
    litter(&world, "not-ours").await;
    let stats = failed(&world, &["stats", "--json"]).await;
    assert_eq!(stats.code, Some(0), "{}", stats.err);
    let stats = stats.json();
    let rows: Vec<_> = stats["rows"].as_array().unwrap().iter().map(|row| (&row["jobs"], &row["error"])).collect();
    assert_eq!(rows, [(&2.into(), &"timeout".into()), (&1.into(), &"connect".into())]);
    assert_eq!(stats["unreadable"], 1);
    let text = failed(&world, &["stats"]).await.out;
    assert!(text.contains("3 failed jobs (5 messages on the failed queue)"), "{text}");
}

#[tokio::test]
async fn an_export_is_whole_private_and_leaves_everything_where_it_is() {
    let world = quiet_world().await;
    let ids = fail(&world, (0..400).map(job)).await;
    world.publish_to("", "leadhook.failed", b"no job, no id", Default::default()).await;
    let path = world.directory.path().join("out.jsonl");
    let to = path.to_str().unwrap();
    let export = failed(&world, &["export", "--to", to, "--all", "--json"]).await;
    assert_eq!((export.code, &export.json()["written"]), (Some(0), &401.into()), "{}", export.err);
    let written = lines(&path);
    let found: Vec<_> = written.iter().map(|line| line["id"].as_str().unwrap().to_owned()).collect();
    assert_eq!(found[..400], ids);
    assert_eq!((&found[400][..4], &written[400]["body"]), ("raw_", &"no job, no id".into()));
    assert_eq!(written[7]["body"].as_str().unwrap(), crate::harness::event("ABC", 7));
    assert_eq!(written[7]["job"]["lead"], "lead_7");
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    let again = failed(&world, &["export", "--to", to, "--all"]).await;
    assert_eq!(again.code, Some(2), "{}", again.out);
    assert!(again.err.contains("it exists already"), "{}", again.err);
    // By its id it can be removed. A filter leaves it, and says so.
    let other = world.directory.path().join("raw.jsonl").display().to_string();
    let remove = failed(&world, &["export", "--to", &other, &found[400], "--remove", "--yes"]).await;
    assert_eq!(remove.code, Some(0), "{} {}", remove.out, remove.err);
    assert_eq!(drain(&world, "failed").await, ids);
}

#[tokio::test]
async fn an_export_removes_only_by_a_filter_and_only_what_is_in_the_file() {
    let world = quiet_world().await;
    let ids = fail(&world, (0..300).map(|n| attempted(n, if n % 3 == 0 { "connect" } else { "status" }))).await;
    let path = world.directory.path().join("out.jsonl");
    let to = path.to_str().unwrap();
    let all = failed(&world, &["export", "--to", to, "--all", "--remove", "--yes"]).await;
    assert_eq!(all.code, Some(2), "{}", all.out);
    assert!(!path.exists());
    let export = failed(&world, &["export", "--to", to, "--error", "connect", "--remove", "--yes", "--json"]).await;
    assert_eq!((export.code, &export.json()["removed"]), (Some(0), &100.into()), "{} {}", export.out, export.err);
    let gone: Vec<_> = lines(&path).iter().map(|line| line["id"].as_str().unwrap().to_owned()).collect();
    let rest = drain(&world, "failed").await;
    assert_eq!((gone.len(), rest.len()), (100, 200));
    let everywhere: Vec<_> = gone.into_iter().chain(rest).collect();
    assert_eq!(set(&everywhere), set(&ids));
}

#[tokio::test]
async fn a_filter_leaves_what_is_no_job_and_says_so() {
    let world = quiet_world().await;
    fail(&world, (0..3).map(job)).await;
    litter(&world, "not-ours").await;
    let to = world.directory.path().join("gone.jsonl").display().to_string();
    let arguments = ["discard", "--all", "--because", "a test", "--to", &to, "--yes"];
    let discard = failed(&world, &arguments).await;
    assert_eq!(discard.code, Some(1), "{} {}", discard.out, discard.err);
    assert!(discard.out.contains("1 message left: not jobs"), "{}", discard.out);
    assert_eq!(drain(&world, "failed").await, ["not-ours"]);
    // Nothing matches any more, so no file remains that would be in the way of the next try.
    let other = world.directory.path().join("none.jsonl").display().to_string();
    let none = failed(&world, &["discard", "--target", "acme", "--because", "a test", "--to", &other, "--yes"]).await;
    assert_eq!((none.code, none.out.trim()), (Some(0), "nothing matches, and no file was made"), "{}", none.err);
    assert!(!std::path::Path::new(&other).exists());
}

#[tokio::test]
async fn what_is_discarded_is_in_the_file_and_in_the_log() {
    let world = quiet_world().await;
    let ids = fail(&world, (0..3).map(job)).await;
    litter(&world, "not-ours").await;
    let path = world.directory.path().join("gone.jsonl");
    let to = path.to_str().unwrap();
    let unsaid = failed(&world, &["discard", &ids[1], "--to", to]).await;
    assert_eq!(unsaid.code, Some(2), "accepted without a reason: {}", unsaid.out);
    let dry = failed(&world, &["discard", &ids[1], "not-ours", "--dry-run"]).await;
    assert_eq!((dry.code, dry.out.trim()), (Some(0), "2 messages would be removed; nothing was done"), "{}", dry.err);
    assert!(!path.exists());
    assert_eq!(world.ready("failed").await, 4);
    let arguments =
        ["discard", &ids[1], "not-ours", "--because", "a test", "--by", "Grace", "--to", to, "--yes", "--json"];
    let discard = failed(&world, &arguments).await;
    assert_eq!((discard.code, &discard.json()["removed"]), (Some(0), &2.into()), "{} {}", discard.out, discard.err);
    let gone = lines(&path);
    assert_eq!((gone[0]["id"].as_str(), gone[1]["body_base64"].is_string()), (Some(ids[1].as_str()), true));
    assert_eq!((&gone[0]["because"], &gone[1]["taken_by"]), (&"a test".into(), &"Grace".into()));
    assert_eq!(drain(&world, "failed").await, [&*ids[0], &*ids[2]]);
    let records = eventually("both are in the log", async || {
        let told = told(&world, "discarded").await;
        (told.len() == 2).then_some(told)
    })
    .await;
    assert!(records.iter().all(|record| record["reason"] == "a test"), "{records:?}");
    assert!(records.iter().any(|record| record["lead"] == "lead_1"), "{records:?}");
}
