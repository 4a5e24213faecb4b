//! Breaks everything and proves that no event is lost: each fault by itself, under load, with a ledger that must add
//! up.

mod broker; // the broker restarts, dies, blocks, refuses
mod cluster; // members of a cluster die, are cut off, restart
mod liveness; // silence is noticed, no consumer stays idle, a stop ends in an outage too
mod network; // the network between worker and broker breaks
mod people; // replays, reloads and stops are killed halfway
mod poison; // panics, and a job that kills the process each time
mod queues; // our queues vanish, or come back as something else
mod receivers; // receivers misbehave in every way
mod worker; // the worker dies between every two steps

/// The rig: worlds, nodes, workers, the ledger and the faults.
#[path = "../rig/mod.rs"]
mod rig;

use rig::{fault::Fault, node::Node, trial::Trial};

/// Minimum number of events in a trial. A fault that takes longer gets more.
const EVENTS: usize = 150;

/// Events published each second.
const RATE: u32 = 80;

/// Inflicts one fault in the middle of a load, on this node.
async fn trial_on(node: &Node, fault: Fault) {
    let mut trial = Trial::new(node, fastrand::u64(..)).await;
    if matches!(fault, Fault::DiskAlarm) {
        // The alarm holds these outcomes back; most events are acked at once. 400 ms are well below the consumer
        // timeout.
        trial.bad_receiver("404@400ms").await;
    }
    trial.start().await;
    trial.load_on(RATE);
    trial.under_load(40).await;
    trial.inflict(fault).await;
    trial.under_load(20).await;
    trial.confirmed(EVENTS).await;
    trial.end_load().await;
    trial.adds_up().await;
}

/// The same on the shared node: for faults that do not touch the broker.
async fn trial(fault: Fault) {
    trial_on(Node::shared(), fault).await;
}

/// The same on a private node.
async fn trial_of_a_broker(fault: Fault) {
    trial_on(&Node::private(), fault).await;
}

/// Defines one test for each fault.
macro_rules! faults {
    ($run:path: $($name:ident => $fault:expr;)*) => {
        $(
            // The scripts that break brokers block a thread. Receivers must still answer.
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                $run($fault).await;
            }
        )*
    };
}
use faults;
