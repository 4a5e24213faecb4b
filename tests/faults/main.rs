//! Nothing is lost, proven by breaking everything: each fault alone, under load, with a ledger that must add up.

mod broker; // the broker restarts, dies, blocks, refuses
mod cluster; // members of a cluster die, are cut off, restart
mod liveness; // silence is noticed, nobody sits idle, a stop ends in an outage too
mod network; // the network between worker and broker breaks
mod people; // replays, reloads and stops are killed half-way
mod poison; // panics, and a job that kills the process each time
mod queues; // queues of ours vanish, or come back as something else
mod receivers; // receivers misbehave in every way
mod worker; // the worker dies between every two steps

/// Worlds, nodes, workers, ledger, faults: what the tests stand on.
#[path = "../rig/mod.rs"]
mod rig;

use rig::{fault::Fault, node::Node, trial::Trial};

/// Events of a trial, at the least. A fault may need longer than they last: then there are more.
const EVENTS: usize = 150;

/// How many are published in a second.
const RATE: u32 = 80;

/// One fault in the middle of a load, on this node.
async fn trial_on(node: &Node, fault: Fault) {
    let mut trial = Trial::new(node, fastrand::u64(..)).await;
    if matches!(fault, Fault::DiskAlarm) {
        // Outcomes that the alarm holds: most events are delivered and acked in a moment. Well below the timeout of consumers.
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

/// The same on the node that tests share: for faults that leave the broker alone.
async fn trial(fault: Fault) {
    trial_on(Node::shared(), fault).await;
}

/// The same on a node of its own.
async fn trial_of_a_broker(fault: Fault) {
    trial_on(&Node::private(), fault).await;
}

/// One test for each fault.
macro_rules! faults {
    ($run:path: $($name:ident => $fault:expr;)*) => {
        $(
            // The scripts that break brokers block a thread; receivers must answer all the same.
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                $run($fault).await;
            }
        )*
    };
}
use faults;
