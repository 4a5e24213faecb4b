//! The real protocol breaks no rule, and each protocol that is broken on purpose breaks one.
//!
//! The figures are part of the tests, because an exploration that shrinks unnoticed proves less. They change with the
//! model.

use std::{collections::HashSet, mem::discriminant};

use jiff::Timestamp;

use super::{
    Broken, EVERY_FAULT,
    Fault::{self, Cut, Kill},
    Kind, Model, Setting,
    checks::{EVERYTHING, Wrong},
    state::{State, What},
    trace::Step,
};
use crate::{
    event::Event,
    job::{Envelope, Job},
    store::TargetKey,
};

/// Answers 2xx.
const HEALTHY: &[u16] = &[200];
/// Never answers 2xx.
const DEAD: &[u16] = &[500];
/// Answers 410, which is final.
const GONE: &[u16] = &[410];
/// Answers 2xx or an error, each time.
const MOODY: &[u16] = &[200, 500];

/// From an event to its end.
const EVENT: Setting =
    Setting { events: &[Kind::Wanted], answers: &[MOODY], workers: 1, faults: 1, kinds: EVERY_FAULT };

/// From a job to its end.
const JOB: Setting = Setting { events: &[Kind::Dispatched], faults: 2, ..EVENT };

/// Explores all states of a setting, and compares their number and the depth.
fn holds(setting: Setting, states: usize, depth: usize, look: impl FnMut(&Step, &State)) {
    let model = Model { setting, broken: None, sought: EVERYTHING };
    match model.explore(look) {
        Ok(explored) => {
            println!("{setting:?}: {explored}");
            assert_eq!((explored.states, explored.depth), (states, depth), "{setting:?}");
        }
        Err(counter_example) => panic!("{setting:?}: {counter_example}"),
    }
}

/// Finds the shortest path to a broken rule, and compares its length.
fn breaks(broken: Broken, setting: Setting, wrong: &'static [Wrong], length: usize) {
    let model = Model { setting, broken: Some(broken), sought: wrong };
    match model.explore(|_, _| {}) {
        Ok(explored) => panic!("{broken:?} breaks none of {wrong:?}: {explored}"),
        Err(counter_example) => {
            println!("{broken:?}: {counter_example}");
            assert_eq!(counter_example.steps.len(), length, "{counter_example}");
        }
    }
}

/// The model relies on this in [`super::state::Copy`].
#[test]
fn a_message_that_is_made_again_is_another_copy() {
    let body = br#"{"event":"lead.delivered","leadId":"l","submissionId":"s","campaignId":"ABC","status":"delivered","timestamp":"2024-06-15T10:30:00Z","data":{}}"#;
    let event = Event::decode(body, Some("acme"), body.len()).unwrap();
    let target = TargetKey::new("acme", None, None);
    let job = Job::new(&event, "acme", &target, &Envelope::default(), body[..].into(), Timestamp::UNIX_EPOCH);
    let queue = "leadhook.jobs".into();
    let copies = [(); 2].map(|()| {
        let message = job.to_message(&queue);
        Job::decode(&message.properties, message.body).unwrap().copy
    });
    assert_ne!(copies[0], copies[1]);
}

#[test]
fn a_job_survives_any_two_faults() {
    holds(JOB, 47639, 29, |_, _| {});
}

#[test]
fn an_event_survives_any_fault_and_every_kind_of_step_is_taken() {
    let (mut kinds, mut forked, mut both) = (HashSet::new(), false, false);
    holds(EVENT, 27003, 30, |step, state| {
        kinds.insert(discriminant(step));
        let end = &state.ends[0][0];
        both |= end.delivered && end.failed > 0;
        forked |= end.failed > 1;
    });
    assert_eq!(kinds.len(), 13);
    // Forks and double ends, which the contract allows after a fault, do happen here. So the rule that a fault must
    // explain them is really tested.
    assert!(forked && both);
}

/// Directly from the event and by a job, with a receiver that answers 2xx or an error.
#[test]
fn four_cuts_alone_neither_fork_an_event_nor_repeat_its_direct_attempt() {
    let mut both = [false; 2];
    holds(Setting { faults: 4, kinds: &[Cut], ..EVENT }, 6764, 26, |step, state| {
        if let Step::Post { what: What::Event(_), .. } = step {
            both[0] |= state.ends[0][0].delivered;
            both[1] |= state.ends[0][0].refused > 0;
        }
        let end = &state.ends[0][0];
        assert!(end.failed <= 1 && !(end.delivered && end.failed > 0), "{state:?}");
    });
    assert_eq!(both, [true; 2], "direct attempts that deliver, and others");
}

#[test]
fn an_event_for_two_targets_survives_any_fault() {
    holds(Setting { answers: &[HEALTHY, HEALTHY], ..EVENT }, 18642, 24, |_, _| {});
    holds(Setting { answers: &[HEALTHY, DEAD], faults: 0, ..EVENT }, 244, 16, |_, _| {});
    holds(Setting { answers: &[HEALTHY, DEAD], faults: 1, ..JOB }, 5510, 21, |_, _| {});
}

#[test]
fn two_events_survive_any_fault() {
    let two = Setting { events: &[Kind::Wanted, Kind::Wanted], answers: &[HEALTHY], ..EVENT };
    holds(two, 35051, 25, |_, _| {});
}

#[test]
fn two_workers_survive_any_fault() {
    holds(Setting { workers: 2, faults: 1, ..JOB }, 17611, 20, |_, _| {});
    holds(Setting { workers: 2, answers: &[HEALTHY], ..EVENT }, 3060, 14, |_, _| {});
    holds(Setting { workers: 2, answers: &[DEAD], kinds: &[Kill], ..JOB }, 8113, 27, |_, _| {});
}

#[test]
fn what_is_final_or_without_target_or_unusable_survives_any_two_faults() {
    holds(Setting { answers: &[GONE], faults: 2, ..EVENT }, 11654, 24, |_, _| {});
    holds(Setting { answers: &[HEALTHY], faults: 2, ..EVENT }, 2599, 20, |_, _| {});
    holds(Setting { events: &[Kind::Unusable], faults: 2, ..EVENT }, 44, 11, |_, _| {});
    holds(Setting { events: &[Kind::Unwanted], faults: 2, ..EVENT }, 2, 1, |_, _| {});
}

#[test]
fn six_cuts_alone_neither_fork_a_job_nor_repeat_an_attempt() {
    holds(Setting { faults: 6, kinds: &[Cut], ..JOB }, 1430, 28, |_, state| {
        let end = &state.ends[0][0];
        assert!(end.failed <= 1 && !(end.delivered && end.failed > 0), "{state:?}");
    });
}

#[test]
fn an_ack_before_the_confirm_loses() {
    breaks(Broken::AckBeforeConfirm, JOB, &[Wrong::AckedTooSoon], 3);
    breaks(Broken::AckBeforeConfirm, JOB, &[Wrong::Stuck], 4);
    breaks(Broken::AckBeforeConfirm, EVENT, &[Wrong::Stuck], 3);
}

#[test]
fn a_return_taken_for_a_confirm_loses() {
    breaks(Broken::ReturnedIsDone, JOB, &[Wrong::Stuck], 3);
    breaks(Broken::ReturnedIsDone, EVENT, &[Wrong::Lost], 2);
}

#[test]
fn a_time_out_taken_for_a_confirm_loses() {
    breaks(Broken::TimedOutIsDone, JOB, &[Wrong::Stuck], 3);
    breaks(Broken::TimedOutIsDone, EVENT, &[Wrong::Lost], 2);
}

#[test]
fn an_event_acked_for_some_of_its_jobs_loses() {
    let setting = Setting { answers: &[HEALTHY, HEALTHY], ..EVENT };
    breaks(Broken::AckWhenSomeAreDone, setting, &[Wrong::AckedTooSoon], 3);
    breaks(Broken::AckWhenSomeAreDone, setting, &[Wrong::Stuck], 7);
}

#[test]
fn an_outcome_remembered_as_recorded_when_it_was_not_loses() {
    breaks(Broken::RememberTooMuch, Setting { kinds: &[Cut], ..JOB }, &[Wrong::Lost], 7);
}

#[test]
fn publishing_without_the_inputs_channel_forks_for_a_cut_alone() {
    let cut = Setting { workers: 2, faults: 1, kinds: &[Cut], ..EVENT };
    breaks(Broken::PublishWithoutInput, cut, &[Wrong::Forked], 6);
    breaks(Broken::PublishWithoutInput, Setting { events: JOB.events, ..cut }, &[Wrong::Forked], 8);
}

#[test]
fn without_memory_a_cut_alone_repeats_an_attempt_and_forks() {
    let cuts = Setting { kinds: &[Cut], faults: 1, ..JOB };
    breaks(Broken::NoMemory, cuts, &[Wrong::PostedAgain], 6);
    breaks(Broken::NoMemory, cuts, &[Wrong::Forked], 8);
    // An event that was attempted directly becomes a job, as if it had not been attempted.
    breaks(Broken::NoMemory, Setting { events: EVENT.events, ..cuts }, &[Wrong::Forked], 6);
}

#[test]
fn giving_a_job_back_after_its_attempt_repeats_it() {
    let nacks = Setting { kinds: &[Fault::NotDone], faults: 1, ..JOB };
    breaks(Broken::GiveBackAfterPost, nacks, &[Wrong::PostedAgain], 5);
    breaks(Broken::GiveBackDelivered, Setting { faults: 0, ..JOB }, &[Wrong::PostedAgain], 5);
    breaks(Broken::GiveBackDelivered, Setting { faults: 0, ..JOB }, &[Wrong::TwoEnds], 9);
}

#[test]
fn a_redelivery_counted_as_an_attempt_claims_what_was_never_made() {
    breaks(Broken::CountRedelivery, Setting { kinds: &[Kill], faults: 1, ..JOB }, &[Wrong::Invented], 4);
}

/// The code did this before this model existed. Two tasks that had waited for the same attempt both went on, and the
/// one without a channel overwrote what the other had recorded.
#[test]
fn a_waiter_that_goes_on_without_its_channel_forks_for_three_cuts() {
    breaks(Broken::WaiterGoesOn, Setting { kinds: &[Cut], faults: 3, ..JOB }, &[Wrong::Forked], 16);
}
