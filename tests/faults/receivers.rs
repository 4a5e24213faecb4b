//! Receivers that misbehave. Their jobs end on the failed queue after exactly the scheduled number of attempts, and no
//! other receiver's jobs suffer.

use crate::rig::{
    ledger::Due,
    node::Node,
    trial::{RETRIES, Trial},
};

/// Runs a load with some events for a bad receiver and no other fault, so no duplicate is explained.
async fn bad_receiver(script: &str) {
    let mut trial = Trial::new(Node::shared(), fastrand::u64(..)).await;
    trial.bad_receiver(script).await;
    let posts = |trial: &Trial<'_>| trial.receiver("bad").received().len();
    all_of_the_bad_fail(trial, Some(posts)).await;
}

async fn bad_target(url: &str) {
    let mut trial = Trial::new(Node::shared(), fastrand::u64(..)).await;
    trial.bad_target(url);
    all_of_the_bad_fail(trial, None).await;
}

async fn all_of_the_bad_fail(mut trial: Trial<'_>, posts: Option<fn(&Trial<'_>) -> usize>) {
    // Few, because deliveries that fail in transport wait for probes.
    const BAD: usize = 2;
    let mut events = trial.draw(100);
    events.retain(|event| !event.body.contains("\"BAD\""));
    events.extend(trial.events_of(&[("BAD", BAD)]));
    trial.rng.shuffle(&mut events);
    let failing = |event: &&crate::rig::ledger::Event| match &event.due {
        Due::Targets(keys) => keys.iter().any(|key| ["acme/BAD", "acme/BROKEN", "acme/GONE"].contains(&key.as_str())),
        Due::NoTarget | Due::Rejected => false,
    };
    let failed = events.iter().filter(failing).count();
    trial.start().await;
    trial.load_of(events, 0);
    trial.quiet().await;
    if let Some(posts) = posts {
        assert_eq!(posts(&trial), BAD * (RETRIES + 1), "not exactly the scheduled attempts");
    }
    let account = trial.adds_up().await;
    assert_eq!((account.failed, account.both, account.duplicates), (failed, 0, 0));
}

macro_rules! receivers {
    ($run:path: $($name:ident => $what:expr;)*) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                $run($what).await;
            }
        )*
    };
}

receivers! { bad_receiver:
    a_receiver_hangs => "hang";
    a_receiver_answers_after_the_timeout => "200@1500ms";
    a_receiver_answers_garbage => "garbage";
    a_receiver_answers_without_end => "endless";
    a_receiver_closes_without_an_answer => "close";
}

receivers! { bad_target:
    // No process listens on port 1.
    a_receiver_refuses => "http://127.0.0.1:1/";
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_receiver_speaks_no_tls() {
    let plain = crate::rig::harness::receiver("200").await;
    bad_target(&plain.url().replace("http://", "https://")).await;
    assert!(plain.received().is_empty(), "a request went out in plain text");
}
