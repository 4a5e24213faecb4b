//! The rules that must hold: in each step, in each state, and when nothing more can happen.

use std::fmt;

use super::{
    Kind, Model,
    state::{End, State, What},
};

/// A broken rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Wrong {
    /// An event and its job are nowhere: not on a queue, not delivered, not failed, not rejected.
    Lost,
    /// Nothing more can happen, but something is not delivered, failed or rejected, or is still on a queue.
    Stuck,
    /// The broker takes an ack, but no successor is on the broker, and nothing was delivered.
    AckedTooSoon,
    /// A process makes a second POST for a copy and attempt that it was given once.
    PostedAgain,
    /// A copy has a second successor, and no fault explains it.
    Forked,
    /// A job or a failed record claims attempts that were never made, or more than its target allows.
    Invented,
    /// A job has more than one end without any fault.
    TwoEnds,
}

impl fmt::Display for Wrong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Wrong::Lost => "an event or a job is lost",
            Wrong::Stuck => "nothing more can happen, and not everything is settled",
            Wrong::AckedTooSoon => "acked before its successor is on the broker",
            Wrong::PostedAgain => "the same process makes the same attempt twice",
            Wrong::Forked => "a second successor, and no fault explains it",
            Wrong::Invented => "attempts that were never made, or too many",
            Wrong::TwoEnds => "two ends without any fault",
        })
    }
}

/// All rules.
pub const EVERYTHING: &[Wrong] = &[
    Wrong::Lost,
    Wrong::Stuck,
    Wrong::AckedTooSoon,
    Wrong::PostedAgain,
    Wrong::Forked,
    Wrong::Invented,
    Wrong::TwoEnds,
];

impl Model {
    /// Returns the first broken rule among those sought. `at_rest`: only faults can follow.
    pub fn check(&self, state: &State, at_rest: bool) -> Option<Wrong> {
        let found = |wrong: Wrong, holds: bool| (!holds && self.sought.contains(&wrong)).then_some(wrong);
        let faultless = state.faults == self.setting.faults;
        state
            .wrong
            .or_else(|| found(Wrong::Lost, self.all_are_somewhere(state)))
            .or_else(|| found(Wrong::Stuck, !at_rest || self.all_are_settled(state)))
            .or_else(|| found(Wrong::TwoEnds, !faultless || state.ends.iter().flatten().all(End::is_single)))
    }

    /// Notes a broken rule if it is sought.
    pub fn demand(&self, state: &mut State, wrong: Wrong, holds: bool) {
        if !holds && state.wrong.is_none() && self.sought.contains(&wrong) {
            state.wrong = Some(wrong);
        }
    }

    /// Returns whether, for every event and target, it is settled or something that leads there is on the broker.
    fn all_are_somewhere(&self, state: &State) -> bool {
        self.all(state, |what| state.copies.iter().any(|copy| !copy.messages.is_empty() && leads_to(copy.what, what)))
    }

    fn all_are_settled(&self, state: &State) -> bool {
        state.copies.is_empty() && self.all(state, |_| false)
    }

    /// Returns whether each unusable event, and each target of a wanted event, is settled or `excused`.
    fn all(&self, state: &State, excused: impl Fn(What) -> bool) -> bool {
        self.setting.events.iter().enumerate().all(|(event, kind)| {
            let target = |target| What::Job { event: event as u8, target, attempt: 0 };
            match kind {
                Kind::Unwanted => true,
                Kind::Unusable => state.rejected[event] || excused(What::Event(event as u8)),
                Kind::Wanted | Kind::Dispatched => (0..self.setting.answers.len()).all(|index| {
                    let end = &state.ends[event][index];
                    end.delivered || end.failed > 0 || excused(target(index as u8))
                }),
            }
        })
    }

    /// Returns whether the broker may drop a copy after an ack.
    pub fn may_be_acked(&self, state: &State, copy: usize) -> bool {
        let copy = &state.copies[copy];
        let What::Event(event) = copy.what else {
            return copy.delivered || copy.forwarded;
        };
        let event = usize::from(event);
        match self.setting.events[event] {
            Kind::Unwanted => true,
            Kind::Unusable => state.rejected[event],
            Kind::Wanted | Kind::Dispatched => {
                // An event with a single target may have been attempted directly.
                copy.delivered || state.ends[event][..self.setting.answers.len()].iter().all(|end| end.dispatched)
            }
        }
    }
}

impl End {
    fn is_single(&self) -> bool {
        u8::from(self.delivered) + self.failed <= 1
    }
}

/// Returns whether a message of `copy` can still become an end of `wanted`.
fn leads_to(copy: What, wanted: What) -> bool {
    match (copy, wanted) {
        (What::Event(one), What::Event(other) | What::Job { event: other, .. }) => one == other,
        (What::Job { event, target, .. }, What::Job { event: e, target: t, .. }) => (event, target) == (e, t),
        (What::Job { .. }, What::Event(_)) => false,
    }
}
