//! Actions: requested on one page, confirmed on the next, and recorded in the delivery log with the user who did it.

use super::{ACT, Console, console};
use crate::{
    dead_letters::{drain, fail, job, litter, quiet_world},
    harness::{World, eventually},
};

/// Waits until the deliveries page of a job contains these words.
async fn told(console: &Console, id: &str, words: &[&str]) {
    eventually("it is in the delivery log", async || {
        let page = console.page(ACT, &format!("/deliveries/{id}")).await;
        words.iter().all(|word| page.contains(word)).then_some(())
    })
    .await;
}

async fn two_filters(world: &World) -> Vec<String> {
    fail(world, (0..300).map(job)).await
}

const LOG: (&str, &str) = ("LEADHOOK__DELIVERY_LOG__ENABLED", "true");

#[tokio::test]
async fn ticked_jobs_are_previewed_then_replayed() {
    let world = quiet_world().await;
    let ids = fail(&world, [1, 2, 2, 3].map(job)).await;
    let console = console(&world, &[LOG]).await;
    let asked = format!("/failed/preview?action=replay&which=chosen&id={}&id={}", ids[0], ids[1]);
    let preview = console.page(ACT, &asked).await;
    assert!(preview.contains("2 jobs") && preview.contains("would be replayed"), "{preview}");
    assert_eq!((world.ready("failed").await, world.ready("jobs").await), (4, 0), "the preview changed something");
    let token = console.token(&ids[0]).await;
    let form = [("token", token.as_str()), ("which", "chosen"), ("id", &ids[0]), ("id", &ids[1]), ("agreed", "2")];
    let page = console.done("/failed/replay", &form).await;
    assert!(page.contains("2 jobs replayed") && page.contains("anna"), "{page}");
    let mut jobs = drain(&world, "jobs").await;
    jobs.sort();
    let mut expected = ids[..2].to_vec();
    expected.sort();
    assert_eq!(jobs, expected);
    assert_eq!(drain(&world, "failed").await, [ids[3].clone()]);
    told(&console, &ids[0], &["replayed", "by anna"]).await;
}

#[tokio::test]
async fn all_that_match_are_replayed_and_no_more_than_was_agreed_to() {
    let world = quiet_world().await;
    let ids = two_filters(&world).await;
    litter(&world, "not-ours").await;
    let console = console(&world, &[LOG]).await;
    let preview = console.page(ACT, "/failed/preview?action=replay&which=matching&campaign=ABC").await;
    assert!(preview.contains("300 jobs"), "{preview}");
    let token = console.token(&ids[0]).await;
    let form = |agreed| [("token", token.as_str()), ("which", "matching"), ("campaign", "ABC"), ("agreed", agreed)];
    let page = console.done("/failed/replay", &form("299")).await;
    assert!(page.contains("Nothing was done") && page.contains("you agreed to 299 jobs"), "{page}");
    assert_eq!(world.ready("jobs").await, 0);
    let page = console.done("/failed/replay", &form("300")).await;
    assert!(page.contains("300 jobs replayed"), "{page}");
    assert_eq!((world.ready("failed").await, world.ready("jobs").await), (1, 300));
    told(&console, &ids[299], &["replayed", "by anna"]).await;
}

#[tokio::test]
async fn what_failed_since_the_preview_is_left() {
    let world = quiet_world().await;
    let ids = fail(&world, [1, 2].map(job)).await;
    let console = console(&world, &[LOG]).await;
    let preview = console.page(ACT, "/failed/preview?action=discard&which=matching&campaign=ABC").await;
    let at =
        preview.split("name=\"previewed\" value=\"").nth(1).expect("a moment").split('"').next().unwrap().to_owned();
    let token = console.token(&ids[0]).await;
    // One job is gone since the preview, and another has arrived: the confirmed number is right, but the jobs are not
    // the same.
    let gone = [("token", token.as_str()), ("which", "chosen"), ("id", &ids[0]), ("agreed", "1")];
    console.done("/failed/replay", &gone).await;
    let later = fail(&world, [job(3)]).await;
    let form = [
        ("token", token.as_str()),
        ("which", "matching"),
        ("campaign", "ABC"),
        ("agreed", "2"),
        ("previewed", at.as_str()),
        ("because", "a test"),
    ];
    let page = console.done("/failed/discard", &form).await;
    assert!(page.contains("1 message discarded"), "{page}");
    assert_eq!(drain(&world, "failed").await, later);
}

#[tokio::test]
async fn a_console_that_is_stopped_while_it_replays_ends_in_order() {
    let world = quiet_world().await;
    let ids = fail(&world, (0..5_000).map(job)).await;
    let console = console(&world, &[LOG]).await;
    let token = console.token(&ids[0]).await;
    let form = [("token", token.as_str()), ("which", "matching"), ("campaign", "ABC"), ("agreed", "5000")];
    assert_eq!(console.post(ACT, "/failed/replay", &form).await.status(), 303);
    eventually("some are back", async || (world.ready("jobs").await > 0).then_some(())).await;
    console.process.signal("TERM");
    let mut process = console.process;
    assert!(process.ended().await.success());
    let (jobs, left) = (drain(&world, "jobs").await, drain(&world, "failed").await);
    assert_eq!(jobs.len() + left.len(), ids.len(), "a job was lost or duplicated");
    assert_eq!(left, ids[ids.len() - left.len()..], "the remaining jobs are out of order");
}

#[tokio::test]
async fn discarded_jobs_are_on_the_disk_first_and_in_the_log() {
    let world = quiet_world().await;
    let ids = fail(&world, [1, 2].map(job)).await;
    let console = console(&world, &[LOG]).await;
    let asked = format!("/failed/preview?action=discard&which=chosen&id={}", ids[0]);
    let preview = console.page(ACT, &asked).await;
    assert!(preview.contains("would be removed for good") && preview.contains("because"), "{preview}");
    let token = console.token(&ids[0]).await;
    let mut form = vec![("token", token.as_str()), ("which", "chosen"), ("id", &ids[0]), ("agreed", "1")];
    let unsaid = console.post(ACT, "/failed/discard", &form).await;
    assert_eq!(unsaid.status(), 400, "without a reason");
    form.push(("because", "customer <asked>"));
    let page = console.done("/failed/discard", &form).await;
    assert!(page.contains("1 message discarded"), "{page}");
    let files: Vec<_> = std::fs::read_dir(world.directory.path()).unwrap().map(|file| file.unwrap().path()).collect();
    let file = files.iter().find(|file| file.to_string_lossy().contains("discarded-")).expect("a file");
    assert!(std::fs::read_to_string(file).unwrap().contains("john@example.com"));
    assert_eq!(drain(&world, "failed").await, [ids[1].clone()]);
    told(&console, &ids[0], &["discarded", "by anna: customer &lt;asked&gt;"]).await;
}

#[tokio::test]
async fn without_a_directory_nothing_is_discarded() {
    let world = quiet_world().await;
    let ids = fail(&world, [job(1)]).await;
    let console = console(&world, &[("LEADHOOK__CONSOLE__DISCARD_DIRECTORY", "")]).await;
    let preview = console.page(ACT, &format!("/failed/preview?action=discard&which=chosen&id={}", ids[0])).await;
    assert!(preview.contains("console.discard_directory is not set") && !preview.contains("method=\"post\""));
    let token = console.token(&ids[0]).await;
    let form = [("token", token.as_str()), ("which", "chosen"), ("id", &ids[0]), ("agreed", "1"), ("because", "x")];
    assert_eq!(console.post(ACT, "/failed/discard", &form).await.status(), 400);
    assert_eq!(world.ready("failed").await, 1);
}

#[tokio::test]
async fn a_replay_keeps_to_the_rate_that_was_asked_for() {
    let world = quiet_world().await;
    let ids = fail(&world, (0..7).map(job)).await;
    let console = console(&world, &[]).await;
    let token = console.token(&ids[0]).await;
    let form =
        |rate| [("token", token.as_str()), ("which", "matching"), ("campaign", "ABC"), ("agreed", "7"), ("rate", rate)];
    for wrong in ["0", "x", "100001"] {
        assert_eq!(console.post(ACT, "/failed/replay", &form(wrong)).await.status(), 400, "{wrong}");
    }
    let begun = std::time::Instant::now();
    let page = console.done("/failed/replay", &form("1")).await;
    assert!(page.contains("7 jobs replayed"), "{page}");
    assert!(begun.elapsed().as_secs() >= 5, "{:?}", begun.elapsed());
    // The console needs two visits, because it gives the queue up after five seconds.
    let (mut there, mut all) = (drain(&world, "jobs").await, ids);
    there.sort();
    all.sort();
    assert_eq!(there, all);
    assert_eq!(world.ready("failed").await, 0);
}
