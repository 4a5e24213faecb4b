//! Jobs that wait for room, with real tasks.

use futures::FutureExt;
use tokio::sync::watch;

use super::*;
use crate::store::TargetKey;

fn target() -> Target {
    let url = "https://crm.acme.example/hooks".parse().unwrap();
    Target::plain(TargetKey::new("acme", None, None), "acme", url)
}

fn circuits(slots: usize) -> Circuits {
    Circuits::new(slots, 64, watch::channel(1).1)
}

fn passes(circuits: &Circuits, target: &Target) -> Vec<Pass> {
    std::iter::from_fn(|| circuits.try_enter(target)).collect()
}

fn waits(circuits: &Circuits, target: &Target) -> Bell {
    circuits.ask(target, Due::default(), Stage::Comes).err().expect("it waits")
}

#[test]
fn all_that_there_is_room_for_are_woken_although_they_do_not_listen_yet() {
    let (circuits, target) = (circuits(100), target());
    let passes = passes(&circuits, &target);
    assert_eq!(passes.len(), 4);
    let bells = [(); 2].map(|()| waits(&circuits, &target));
    passes.into_iter().take(2).for_each(|pass| pass.give_back(Signal::Answered, None));
    for bell in bells {
        assert!(bell.now_or_never().is_some(), "woken");
    }
}

#[test]
fn what_one_that_leaves_was_told_is_told_to_the_next() {
    let (circuits, target) = (circuits(100), target());
    let mut passes = passes(&circuits, &target);
    let (first, second) = (waits(&circuits, &target), waits(&circuits, &target));
    drop(passes.pop());
    drop(first);
    assert!(second.now_or_never().is_some());
}

#[tokio::test]
async fn a_job_waits_for_room_and_then_goes() {
    let (circuits, target) = (circuits(100), target());
    let mut passes = passes(&circuits, &target);
    let mut enter = Box::pin(circuits.enter(&target, Due::default()));
    assert!((&mut enter).now_or_never().is_none());
    passes.pop().expect("four passes").give_back(Signal::Answered, None);
    assert!(matches!(enter.await, Entry::Go(pass) if pass.was_waited_for()));
}

#[tokio::test]
async fn a_job_that_waits_in_vain_is_deferred() {
    let (circuits, target) = (circuits(100), target());
    let passes = passes(&circuits, &target);
    let entry = circuits.enter(&target, Due::default()).await;
    assert!(matches!(entry, Entry::Defer { reason: DeferReason::Saturated, .. }));
    assert_eq!(circuits.view()[0].deferred, 1);
    drop(passes);
    let view = circuits.view();
    assert_eq!((view[0].in_flight, view[0].state), (0, State::Healthy));
}

#[tokio::test]
async fn a_target_s_own_limits_are_shared_by_all_workers() {
    let (workers, watched) = watch::channel(1);
    let circuits = Circuits::new(100, 64, watched);
    let target = Target { max_in_flight: Some(4), ..target() };
    assert_eq!(passes(&circuits, &target).len(), 4);
    for (count, share) in [(2, 2), (3, 1), (9, 1)] {
        workers.send(count).expect("watched");
        assert_eq!(passes(&circuits, &target).len(), share, "{count} workers");
    }
}

#[tokio::test]
async fn a_token_is_waited_for() {
    let circuits = circuits(100);
    let target = Target { max_per_second: Some(20.0), ..target() };
    let start = Instant::now();
    for _ in 0..8 {
        assert!(matches!(circuits.enter(&target, Due::default()).await, Entry::Go(_)));
    }
    assert!(start.elapsed() >= Duration::from_millis(90), "five tokens were saved up: {:?}", start.elapsed());
}

#[test]
fn direct_attempts_get_every_other_turn_while_jobs_are_deferred() {
    let (circuits, target) = (circuits(100), target());
    let ask = |stage| circuits.ask(&target, Due::default(), stage);
    let mut held = passes(&circuits, &target);
    assert!(ask(Stage::Comes).is_err(), "it waits");
    assert!(matches!(ask(Stage::Leaves), Ok(Entry::Defer { .. })));
    held.clear();
    assert!(circuits.try_enter(&target).is_none(), "the last one was direct");
    assert!(matches!(ask(Stage::Comes), Ok(Entry::Go(_))));
    assert!(circuits.try_enter(&target).is_some());
    assert!(circuits.try_enter(&target).is_none());
}
