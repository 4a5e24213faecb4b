//! Refusals: their messages and exit codes.

use super::{Said, drain, fail, failed, failed_as, job, litter, quiet_world};
use crate::harness::World;

fn check(said: &Said, code: i32, words: &[&str]) {
    assert_eq!(said.code, Some(code), "{} {}", said.out, said.err);
    let all = format!("{}{}", said.out, said.err);
    for words in words {
        assert!(all.contains(words), "{words}: {all}");
    }
}

#[tokio::test]
async fn nothing_has_failed() {
    let world = quiet_world().await;
    check(&failed(&world, &["list"]).await, 0, &["nothing has failed"]);
    let list = failed(&world, &["list", "--json"]).await;
    assert!(list.ids().is_empty());
    check(&failed(&world, &["replay", "--all", "--yes"]).await, 0, &["nothing to replay"]);
    check(&failed(&world, &["show", "wh_nothing"]).await, 1, &["no id on the failed queue begins with \"wh_nothing\""]);
}

#[tokio::test]
async fn unknown_ambiguous_and_short_ids() {
    let world = quiet_world().await;
    let named = |id: &str| {
        let mut job = job(1);
        job.webhook_id = id.into();
        job
    };
    let ids = fail(&world, ["wh_aaaaaa1", "wh_aaaaaa2", "wh_bbbbbb1"].map(named)).await;
    check(&failed(&world, &["show", "wh_aaaaaa"]).await, 2, &["several", "wh_aaaaaa1, wh_aaaaaa2"]);
    check(&failed(&world, &["show", "wh_aa"]).await, 2, &["fewer than 6 characters"]);
    check(&failed(&world, &["replay", "wh_bbbbbb", "wh_aaaaaa"]).await, 2, &["wh_aaaaaa1, wh_aaaaaa2"]);
    assert_eq!(world.ready("jobs").await, 0, "a job was replayed despite an ambiguous id");
    check(&failed(&world, &["replay", "wh_bbbbbb", "wh_cccccc"]).await, 1, &["1 job replayed", "\"wh_cccccc\""]);
    check(&failed(&world, &["replay"]).await, 2, &["--all"]);
    check(&failed(&world, &["replay", "--all", "wh_aaaaaa1"]).await, 2, &["cannot be used together with"]);
    check(&failed(&world, &["list", "--reason", "exausted"]).await, 2, &["did you mean exhausted?"]);
    assert_eq!(drain(&world, "failed").await, ids[..2]);
}

#[tokio::test]
async fn what_is_no_job_cannot_be_replayed() {
    let world = quiet_world().await;
    litter(&world, "not-ours").await;
    check(&failed(&world, &["replay", "not-ours"]).await, 1, &["0 jobs replayed", "1 message left: not jobs"]);
    assert_eq!(drain(&world, "failed").await, ["not-ours"]);
}

#[tokio::test]
async fn no_queue_and_no_broker() {
    let world = World::new().await;
    world.simple_store("http://127.0.0.1:9", "");
    for arguments in [&["list"][..], &["show", "wh_1234"], &["replay", "wh_1234"], &["replay", "--all", "--yes"]] {
        check(
            &failed(&world, arguments).await,
            3,
            &["queue leadhook.failed does not exist", "leadhook topology apply"],
        );
        let nowhere = failed_as(&world, "amqp://user:hunter2@127.0.0.1:9/%2f", arguments).await;
        check(&nowhere, 3, &["cannot connect to amqp://127.0.0.1:9"]);
        assert!(!format!("{}{}", nowhere.out, nowhere.err).contains("hunter2"));
    }
}
