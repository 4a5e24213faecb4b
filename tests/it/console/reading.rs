//! Pages that read.

use lapin::{options::QueueDeclareOptions, types::FieldTable};
use reqwest::{Method, StatusCode};

use super::{ACT, READ, console};
use crate::{
    dead_letters::{drain, fail, job, litter, quiet_world, raw},
    harness::{World, event, eventually, receiver},
};

#[tokio::test]
async fn the_story_of_a_lead_is_found_and_told() {
    let world = World::new().await;
    let receiver = receiver("500").await;
    world.simple_store(&receiver.url(), "retry_attempts: 1");
    let worker = world.worker(&[("LEADHOOK__DELIVERY_LOG__ENABLED", "true")]).await;
    world.publish(event("ABC", 1).as_bytes()).await;
    eventually("it has failed", async || (world.ready("failed").await == 1).then_some(())).await;
    let id = receiver.received()[0].webhook_id().unwrap().to_owned();
    let console = console(&world, &[("LEADHOOK__ADMIN__LISTEN", &worker.admin().await)]).await;
    for query in ["by=lead&q=lead_1", "by=submission&q=sub_1", "by=campaign&q=ABC&since=1h&event=lead.delivered"] {
        eventually("the records are on the stream", async || {
            let page = console.page(READ, &format!("/search?{query}")).await;
            (page.contains(&format!("/deliveries/{id}")) && page.contains(">failed<")).then_some(())
        })
        .await;
    }
    assert!(console.page(READ, "/search?q=nobody").await.contains("Nothing found"));
    let wrong = console.get(READ, "/search?q=x&since=%3Cscript%3E").await;
    assert_eq!(wrong.status(), StatusCode::BAD_REQUEST);
    assert!(!wrong.text().await.unwrap().contains("<script>"));

    let story = console.page(READ, &format!("/deliveries/{id}")).await;
    let (retry, failed) = (story.find("retrying").unwrap(), story.rfind(">failed<").unwrap());
    assert!(retry < failed && story.contains("1/2") && story.contains("2/2") && story.contains("lead_1"), "{story}");

    // Shows records from the given time on, and refuses an invalid time.
    let later = console.page(READ, &format!("/deliveries/{id}?since=2099-01-01")).await;
    assert!(later.contains("no record of this delivery") && later.contains("?since=all"), "{later}");
    assert!(console.page(READ, &format!("/deliveries/{id}?since=all")).await.contains("1/2"));
    assert_eq!(console.get(READ, &format!("/deliveries/{id}?since=x")).await.status(), StatusCode::BAD_REQUEST);
    let job = console.page(READ, &format!("/failed/{id}")).await;
    assert!(job.contains(&format!("/deliveries/{id}?since=20")), "{job}");

    let overview = eventually("the first look", async || {
        let page = console.page(READ, "/").await;
        (!page.contains("first look is under way") && page.contains("/s</span>")).then_some(page)
    })
    .await;
    let failed = overview.split("Failed jobs</a>").nth(2).unwrap_or_default();
    assert!(failed.contains("class=\"number\">1<"), "{overview}");
    worker.stop().await;
}

#[tokio::test]
async fn a_page_that_nobody_waits_for_leaves_the_order_as_it_was() {
    let world = quiet_world().await;
    let ids = fail(&world, (0..5_000).map(job)).await;
    let console = console(&world, &[]).await;
    console.page(READ, "/failed").await;
    // Several times, because the client leaves at a random moment.
    for _ in 0..3 {
        let asked = console.ask(READ, Method::GET, "/failed?fresh=1&campaign=ABC").send();
        let held = eventually("it holds some", async || (world.ready("failed").await < 5_000).then_some(()));
        tokio::select! {
            _ = asked => {}
            () = held => {}
        }
        eventually("all are back", async || {
            let queue = raw(&world).await.1;
            let passive = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
            let counted = queue.queue_declare("leadhook.failed".into(), passive, FieldTable::default()).await.unwrap();
            (counted.message_count() == 5_000 && counted.consumer_count() == 0).then_some(())
        })
        .await;
    }
    drop(console);
    assert_eq!(drain(&world, "failed").await, ids);
}

#[tokio::test]
async fn failed_jobs_are_listed_filtered_and_paged_and_looking_changes_nothing() {
    let world = quiet_world().await;
    let ids = fail(&world, (0..250).map(job)).await;
    litter(&world, "not<ours>").await;
    let console = console(&world, &[]).await;
    let page = console.page(READ, "/failed").await;
    assert!(page.contains("250 failed jobs") && page.contains("page 1 of 3"), "{page}");
    assert!(page.contains("not&lt;ours&gt;") && page.contains(&ids[99]) && !page.contains(&ids[100]));
    let last = console.page(READ, "/failed?page=3").await;
    assert!(last.contains(&ids[249]) && !last.contains(&ids[199]));
    let one = console.page(READ, "/failed?lead=lead_7&reason=exhausted&campaign=ABC").await;
    assert!(one.contains("1 failed job") && one.contains(&ids[7]) && !one.contains(&ids[8]));
    assert!(console.page(READ, "/failed?organization=nobody").await.contains("No failed job matches"));
    let wrong = console.get(READ, "/failed?reason=x&event=y&since=z").await;
    assert_eq!(wrong.status(), StatusCode::BAD_REQUEST);
    let wrong = wrong.text().await.unwrap();
    assert!(wrong.contains("reason: ") && wrong.contains("event: ") && wrong.contains("since: "), "{wrong}");
    assert_eq!(console.get(READ, "/failed/wh_nothing").await.status(), StatusCode::NOT_FOUND);
    assert_eq!(crate::dead_letters::drain(&world, "failed").await[..250], ids);
}

#[tokio::test]
async fn the_data_of_a_lead_is_masked_and_who_asks_for_it_is_logged() {
    let world = quiet_world().await;
    let ids = fail(&world, [job(1)]).await;
    let console = console(&world, &[]).await;
    for who in [READ, ACT] {
        let page = console.page(who, &format!("/failed/{}", ids[0])).await;
        assert!(page.contains("firstName") && page.contains("lead_1") && !page.contains("john@example.com"));
    }
    let token = console.token(&ids[0]).await;
    let shown = console.post(ACT, &format!("/failed/{}/reveal", ids[0]), &[("token", &token)]).await;
    assert!(shown.text().await.unwrap().contains("john@example.com"));
    let log = console.process.log();
    let line = log.lines().find(|line| line.contains("the data of a lead was shown")).expect("a line");
    assert!(line.contains("\"by\":\"anna\"") && line.contains(&ids[0]), "{line}");
    assert!(!log.contains("john@example.com"));
    // The delivery log has it as well, whatever the log level of the process is.
    eventually("it is on the page of the delivery", async || {
        let story = console.page(READ, &format!("/deliveries/{}", ids[0])).await;
        (story.contains("data shown") && story.contains("by anna")).then_some(())
    })
    .await;
}

#[tokio::test]
async fn what_cannot_be_put_on_record_is_not_shown() {
    let world = quiet_world().await;
    let ids = fail(&world, [job(1)]).await;
    let console = console(&world, &[]).await;
    let token = console.token(&ids[0]).await;
    world.channel().await.queue_delete("leadhook.log".into(), Default::default()).await.unwrap();
    let refused = console.post(ACT, &format!("/failed/{}/reveal", ids[0]), &[("token", &token)]).await;
    assert_eq!(refused.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert!(!refused.text().await.unwrap().contains("john@example.com"));
}

#[tokio::test]
async fn a_console_that_is_stopped_while_it_looks_gives_everything_back_in_its_order() {
    let world = quiet_world().await;
    let ids = fail(&world, (0..5_000).map(job)).await;
    let console = console(&world, &[]).await;
    console.page(READ, "/failed").await;
    let asked = tokio::spawn(console.ask(READ, Method::GET, "/failed?fresh=1&campaign=ABC").send());
    eventually("it holds some", async || (world.ready("failed").await < 5_000).then_some(())).await;
    console.process.signal("TERM");
    let mut process = console.process;
    assert!(process.ended().await.success());
    drop(asked);
    assert_eq!(drain(&world, "failed").await, ids);
}

#[tokio::test]
async fn a_campaign_is_explained_and_no_secret_is_shown() {
    let world = quiet_world().await;
    world.simple_store("https://crm.example/hook?token=hunter2", "headers: { Authorization: \"Bearer hunter2\" }");
    let console = console(&world, &[]).await;
    let page = console.page(READ, "/settings?campaign=ABC").await;
    assert!(page.contains("lead.delivered") && page.contains("https://crm.example/hook") && page.contains("(hidden)"));
    assert!(!page.contains("hunter2"), "{page}");
    // The store is reloaded when it changes.
    world.simple_store("https://other.example/hook", "");
    eventually("the change is seen", async || {
        console.page(READ, "/settings?campaign=ABC").await.contains("https://other.example").then_some(())
    })
    .await;
}

/// While `leadhook failed` reads the queue, pages report that in time. They work again afterwards.
#[tokio::test]
async fn a_busy_queue_is_told_and_never_hangs_a_page() {
    let world = quiet_world().await;
    fail(&world, [job(1)]).await;
    let console = console(&world, &[]).await;
    let (connection, channel) = raw(&world).await;
    let options = lapin::options::QueueDeclareOptions { exclusive: true, auto_delete: true, ..Default::default() };
    channel.queue_declare("leadhook.browse".into(), options, Default::default()).await.unwrap();
    let begun = std::time::Instant::now();
    let answer = console.get(READ, "/failed").await;
    assert_eq!(answer.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert!(answer.text().await.unwrap().contains("is reading the queue"));
    assert!(begun.elapsed().as_secs() < 28, "{:?}", begun.elapsed());
    assert_eq!(console.get(READ, "/").await.status(), StatusCode::OK);
    connection.close(200, "done".into()).await.unwrap();
    assert!(console.page(READ, "/failed").await.contains("1 failed job"));
    assert_eq!(world.ready("failed").await, 1);
}

#[tokio::test]
async fn what_was_delivered_all_the_same_is_told_in_the_list() {
    let world = World::new().await;
    let receiver = receiver("200").await;
    world.simple_store(&receiver.url(), "");
    let worker = world.worker(&[("LEADHOOK__DELIVERY_LOG__ENABLED", "true")]).await;
    world.publish(event("ABC", 1).as_bytes()).await;
    let first = eventually("it is delivered", async || receiver.received().into_iter().next()).await;
    worker.stop().await;
    let forked = crate::dead_letters::job(1);
    let forked = leadhook::job::Job { webhook_id: first.webhook_id().unwrap().to_owned(), ..forked };
    fail(&world, [forked, job(2)]).await;
    let console = console(&world, &[]).await;
    let page = eventually("the log has been searched", async || {
        let page = console.page(READ, "/failed").await;
        (!page.contains("cannot tell whether these were delivered too")).then_some(page)
    })
    .await;
    assert_eq!(page.matches("also delivered at").count(), 1, "{page}");
}
