//! The worker notices silent connections, no consumer stays idle while work waits, and a stop ends while the broker is
//! away.

use std::{
    process::ExitStatus,
    time::{Duration, Instant},
};

use crate::rig::{
    harness::{asked_every, eventually},
    node::Node,
    proxy::{Weather, Which},
    trial::Trial,
};

/// `amqp.heartbeat` of a trial.
const HEARTBEAT: Duration = Duration::from_secs(2);

/// `shutdown.grace` of the workers that are stopped.
const GRACE: Duration = Duration::from_secs(2);

/// Limit for closing the connections after the grace period (docs/contributing/guarantees-and-tests.md).
const GOODBYE: Duration = Duration::from_secs(3);

/// Allowance for a busy machine.
const SLACK: Duration = Duration::from_secs(3);

/// An idle worker can notice it only by the heartbeat.
async fn half_open(which: Which) {
    let mut trial = Trial::new(Node::shared(), 1).await;
    trial.start().await;
    trial.proxy.vanish(which, None);
    let begun = Instant::now();
    let reasons = trial.workers[0].not_ready().await;
    let noticed = begun.elapsed();
    println!("{which:?}: noticed after {noticed:?}: {reasons}");
    assert!(noticed <= 2 * HEARTBEAT, "noticed after {noticed:?}");
    trial.workers[0].ready().await;
    trial.load(50, 0);
    trial.adds_up().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_half_open_consuming_connection_is_noticed_within_two_heartbeats() {
    half_open(Which::Consume).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_half_open_publishing_connection_is_noticed_within_two_heartbeats() {
    half_open(Which::Publish).await;
}

/// The connection is healthy and heartbeats flow, but deliveries do not arrive.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_consumer_that_gets_nothing_while_work_waits_is_replaced() {
    let mut trial = Trial::new(Node::shared(), 1).await;
    trial.start().await;
    trial.proxy.starve(Which::Consume);
    trial.worker_broke("starved");
    trial.load(200, 0);
    let reasons = trial.workers[0].not_ready().await;
    assert!(reasons.contains("its consumer gets none"), "{reasons}");
    trial.workers[0].ready().await;
    trial.adds_up().await;
}

/// Sends SIGTERM under load while the broker is away; another worker takes over. `heartbeat` is `amqp.heartbeat`.
async fn stopped_in_an_outage(
    signals: usize,
    within: Duration,
    heartbeat: &str,
    break_it: impl AsyncFn(&Trial<'_>),
) -> ExitStatus {
    let node = Node::private();
    let mut trial = Trial::new(&node, fastrand::u64(..)).await;
    // The store is written before the worker starts, which may otherwise read it after the first events.
    trial.bad_receiver("404@900ms").await;
    let grace = format!("{}s", GRACE.as_secs());
    trial.spawn(&[("LEADHOOK__SHUTDOWN__GRACE", &grace), ("LEADHOOK__AMQP__HEARTBEAT", heartbeat)]);
    trial.workers[0].ready().await;
    node.settle();
    trial.load_on(150);
    trial.under_load(60).await;
    // Waits for an attempt whose outcome must be recorded on the broker. A worker that keeps up with the load holds
    // nothing else.
    let begun = trial.receiver("bad").count();
    eventually("a slow attempt", async || (trial.receiver("bad").count() > begun).then_some(())).await;
    break_it(&trial).await;
    trial.upstream.hold();
    trial.broker_broke("an outage");
    let begun = Instant::now();
    for signal in 0..signals {
        trial.workers[0].signal("TERM");
        if signal + 1 < signals {
            eventually("the first is heard", async || trial.workers[0].log().contains("stopping").then_some(())).await;
        }
    }
    let (status, log) = trial.ended().await;
    let took = begun.elapsed();
    // The broker would otherwise wait until the heartbeats of the lost connections time out.
    trial.proxy.cut(Which::All);
    println!("{signals} signals: ended after {took:?} with {status}");
    assert!(took <= within, "ended after {took:?}\n{log}");
    assert!([Some(0), Some(4)].contains(&status.code()), "{status}");
    if node.try_ctl(&["status"]).is_err() {
        node.start_again();
    }
    trial.start().await;
    trial.end_load().await;
    trial.adds_up().await;
    status
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_while_the_broker_is_away_ends_within_the_grace_period() {
    stopped_in_an_outage(1, GRACE + GOODBYE + SLACK, "2s", async |trial| trial.node.kill()).await;
}

/// The worker cannot know that its outcomes will never be confirmed, so the drain lasts for the whole grace period.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_in_front_of_a_silent_broker_ends_with_the_grace_period() {
    let vanish = async |trial: &Trial<'_>| trial.proxy.vanish(Which::All, None);
    let status = stopped_in_an_outage(1, GRACE + GOODBYE + SLACK, "60s", vanish).await;
    assert_eq!(status.code(), Some(4), "the exit code says that not everything was settled");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_signal_while_the_broker_is_away_ends_at_once() {
    stopped_in_an_outage(2, Duration::from_secs(2), "2s", async |trial| trial.node.kill()).await;
}

/// Idleness is not a fault: a worker without work keeps its connections.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_idle_worker_keeps_its_connections() {
    let mut trial = Trial::new(Node::shared(), 1).await;
    trial.start().await;
    let before = trial.proxy.accepted();
    let begun = Instant::now();
    asked_every(Duration::from_millis(200), "three heartbeats", async || {
        (begun.elapsed() > 3 * HEARTBEAT).then_some(())
    })
    .await;
    assert_eq!(trial.proxy.accepted(), before);
    trial.load(50, 0);
    trial.adds_up().await;
}

/// Slowness is not a fault either. Answers wait behind a window of messages for longer than a heartbeat, and the
/// messages still arrive.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_busy_worker_on_a_slow_line_keeps_its_connections() {
    let mut trial = Trial::new(Node::shared(), 1).await;
    trial.start().await;
    let before = trial.proxy.accepted();
    trial.proxy.weather(Which::Consume, Weather { delay: Duration::ZERO, rate: 1024 });
    trial.load(120, 0);
    let begun = Instant::now();
    asked_every(Duration::from_millis(200), "five heartbeats of slowness", async || {
        (begun.elapsed() > 5 * HEARTBEAT).then_some(())
    })
    .await;
    assert!(trial.world.waiting().await > Some(0), "the worker ran out of work");
    assert_eq!(trial.proxy.accepted(), before, "{}", trial.workers[0].log());
    trial.proxy.weather(Which::Consume, Weather::default());
    let account = trial.adds_up().await;
    assert_eq!((account.duplicates, account.both), (0, 0));
}
