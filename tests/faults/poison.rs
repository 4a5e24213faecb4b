//! Panics, and a job that kills the process each time it is consumed (settling rules 3 and 4).

use crate::rig::{harness::asked_every, node::Node, trial::Trial};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn panics_in_attempts_cost_one_attempt_each() {
    let mut trial = Trial::new(Node::shared(), fastrand::u64(..)).await;
    trial.start_armed(
        "event.posting:acme/HEALTHY=panic@5;event.posted:acme/FLAKY=panic@3;job.posting:acme/BROKEN=panic@2",
    );
    trial.load(200, 0);
    trial.quiet().await;
    let panicked = trial.workers[0].log().matches("an attempt panicked").count();
    assert_eq!(panicked, 3);
    let account = trial.adds_up().await;
    assert_eq!((account.duplicates, account.both), (0, 0), "each attempt number was used once");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn panics_outside_attempts_give_the_message_back() {
    let mut trial = Trial::new(Node::shared(), fastrand::u64(..)).await;
    trial.start_armed("event.taken=panic@3;event.recorded=panic@7;job.taken=panic@4;job.recorded=panic@9");
    trial.load(200, 0);
    trial.quiet().await;
    assert_eq!(trial.workers[0].log().matches("settling a message panicked").count(), 4);
    // Outcomes that had been recorded are settled from memory.
    trial.broke("four panics", 2 * 3);
    trial.adds_up().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_that_kills_the_process_each_time_is_failed_and_its_neighbours_are_delivered() {
    // The first death is that of a direct attempt. After 8 redeliveries of the job, only child processes die of it.
    const MOST_DEATHS: usize = 1 + 8;
    const MOST_DUPLICATES: usize = MOST_DEATHS + 1;
    let mut trial = Trial::new(Node::shared(), fastrand::u64(..)).await;
    trial.bad_receiver("200").await;
    trial.start().await;
    trial.workers.remove(0).stop().await;
    let events = trial.events_of(&[("HEALTHY", 10), ("BAD", 1), ("SLOW", 20), ("FLAKY", 10)]);
    trial.load_of(events, 0);
    let mut deaths = 0;
    loop {
        trial.start_armed("event.posting:acme/BAD=abort;job.posting:acme/BAD=abort");
        let mut worker = trial.workers.pop().expect("just started");
        let died = asked_every(std::time::Duration::from_millis(50), "death, or all settled", async || {
            if worker.has_ended().is_some() {
                return Some(true);
            }
            let settled = trial.world.waiting().await? == 0
                && worker.metric_if_there("leadhook_attempts_in_flight", "").await? == 0.0
                && worker.log().contains("crash_loop");
            settled.then_some(false)
        })
        .await;
        if !died {
            trial.workers.push(worker);
            break;
        }
        deaths += 1;
        trial.worker_broke("a death");
        assert!(deaths <= MOST_DEATHS, "it still kills workers");
    }
    println!("deaths {deaths}");
    let failed = trial.world.take("failed", 1).await;
    assert_eq!(failed[0].text("leadhook-reason").as_deref(), Some("crash_loop"));
    trial.world.publish_to("", "leadhook.failed", &failed[0].body, failed[0].properties.clone()).await;
    trial.excuse.crash_loops = 1;
    assert!(trial.receiver("bad").received().is_empty());
    let account = trial.adds_up().await;
    assert_eq!((account.failed, account.both, account.delivered), (1, 0, 40));
    assert!(account.most_posts <= 1 + MOST_DUPLICATES, "a neighbour was POSTed {} times", account.most_posts);
}
