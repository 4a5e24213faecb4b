//! The network between worker and broker breaks in every way.

use crate::{
    RATE, faults,
    rig::{
        fault::Fault,
        harness::eventually,
        node::Node,
        proxy::{Direction::*, Which, Which::*},
        trial::Trial,
    },
    trial,
};

faults! { trial:
    both_connections_are_cut => Fault::Cut(All);
    the_consuming_connection_is_cut => Fault::Cut(Consume);
    the_publishing_connection_is_cut => Fault::Cut(Publish);
    a_delivery_is_cut_in_the_middle_of_a_frame => Fault::CutInFrame(Consume, ToWorker);
    an_ack_is_cut_in_the_middle_of_a_frame => Fault::CutInFrame(Consume, ToBroker);
    a_publish_is_cut_in_the_middle_of_a_frame => Fault::CutInFrame(Publish, ToBroker);
    a_confirm_is_cut_in_the_middle_of_a_frame => Fault::CutInFrame(Publish, ToWorker);
    the_consuming_connection_is_half_open => Fault::HalfOpen(Consume);
    the_publishing_connection_is_half_open => Fault::HalfOpen(Publish);
    both_connections_are_half_open => Fault::HalfOpen(All);
    the_broker_hears_no_heartbeat_of_the_consumer => Fault::OneWay(Consume, ToBroker);
    the_consumer_hears_no_heartbeat_of_the_broker => Fault::OneWay(Consume, ToWorker);
    the_broker_hears_nothing_of_the_publisher => Fault::OneWay(Publish, ToBroker);
    the_publisher_hears_nothing_of_the_broker => Fault::OneWay(Publish, ToWorker);
    everything_is_delayed => Fault::Delayed;
    everything_is_throttled => Fault::Throttled;
    the_broker_cannot_be_reached_for_a_while => Fault::Unreachable;
    the_broker_closes_the_connections => Fault::ConnectionsClosed;
    the_broker_closes_the_publishing_channel => Fault::PublishingForbidden;
}

/// One intake loses its connection again and again. The other keeps its connection, and its messages are not charged.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_end_of_one_consuming_connection_leaves_the_other_alone() {
    async fn alone(away: Which, role: &str, other: &str) {
        let mut trial = Trial::new(Node::shared(), fastrand::u64(..)).await;
        trial.start().await;
        trial.load_on(RATE);
        for _ in 0..3 {
            trial.under_load(20).await;
            trial.worker_broke(&format!("{role} cut"));
            trial.proxy.down(true);
            trial.proxy.cut(away);
            let named = format!("consuming {role}: no connection to the broker since 2");
            let reasons = eventually("readiness names it", async || {
                trial.workers[0].get("/readyz").await.map(|(_, body)| body).filter(|body| body.contains(&named))
            })
            .await;
            assert!(!reasons.contains(&format!("consuming {other}")), "{reasons}");
            trial.proxy.down(false);
            trial.workers[0].ready().await;
        }
        trial.end_load().await;
        trial.workers[0].metric_reaches("leadhook_reconnects_total", role, 3.0).await;
        trial.workers[0].metric_is("leadhook_reconnects_total", other, 0.0).await;
        trial.adds_up().await;
    }
    alone(Events, "events", "jobs").await;
    alone(Jobs, "jobs", "events").await;
}

/// The jobs of these events are published but not yet confirmed when the broker redelivers the events.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_event_whose_connection_is_lost_is_not_dispatched_again() {
    given_out_again("HEALTHY", "false").await;
}

/// These events were attempted directly, and their retries are not yet confirmed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_direct_attempt_whose_connection_is_lost_is_not_made_again() {
    given_out_again("FLAKY", "true").await;
}

async fn given_out_again(campaign: &str, direct: &str) {
    // Few enough for a new target: none of their jobs is deferred for lack of room.
    const TARGETED: usize = 3;
    let mut trial = Trial::new(Node::shared(), fastrand::u64(..)).await;
    // Neither side gives up while confirms are held back.
    let patient = [("LEADHOOK__AMQP__CONFIRM_TIMEOUT", "2m"), ("LEADHOOK__AMQP__HEARTBEAT", "2m")];
    trial.spawn(&[patient[0], patient[1], ("LEADHOOK__DELIVERY__DIRECT", direct)]);
    trial.workers[0].ready().await;
    trial.proxy.wait(Publish, ToWorker);
    let events = trial.events_of(&[(campaign, TARGETED)]);
    trial.load_of(events, 0);
    eventually("they are POSTed", async || (trial.post_count() == TARGETED).then_some(())).await;
    trial.proxy.cut(Events);
    eventually("a new connection", async || {
        (trial.workers[0].metric("leadhook_reconnects_total", "events").await == 1.0).then_some(())
    })
    .await;
    trial.proxy.go_on(Publish);
    trial.broke("the connection of events was cut", 0);
    trial.quiet().await;
    let suppressed = trial.workers[0].metric("leadhook_duplicates_suppressed_total", "").await;
    assert_eq!(suppressed, TARGETED as f64);
    let account = trial.adds_up().await;
    assert_eq!((account.duplicates, account.both), (0, 0));
}

/// lapin never reuses the number of a channel that the broker closed, so a long outage uses all numbers up.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_broker_closes_more_channels_than_a_connection_has_numbers() {
    const NUMBERS: u32 = 8;
    let mut trial = Trial::new(Node::shared(), fastrand::u64(..)).await;
    trial.urls = vec![format!("{}?channel_max={NUMBERS}", trial.urls[0])];
    trial.start().await;
    trial.load_on(RATE);
    trial.under_load(40).await;
    trial.forbid_publishing("publishing is forbidden for long", f64::from(3 * NUMBERS)).await;
    trial.under_load(20).await;
    trial.end_load().await;
    trial.adds_up().await;
}
