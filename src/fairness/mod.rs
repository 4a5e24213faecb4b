//! Fairness: how many attempts a target may have in flight, and what becomes of a job that finds no room. Pure: time and
//! dice are arguments, and `worker::lanes` is the only place that holds it.
//!
//! What is limited together is a *lane*: the attempts of one organization to one URL origin. A receiver that hangs answers for
//! all paths of its host alike; and what one tenant's webhook has earned must not slow down another's, even where both use
//! the same host. There is one bound for a host altogether (`origin`): where it answers nobody, its lanes begin nothing more from a
//! quarter of the slots on, but for a few that have not failed.
//!
//! ```text
//!  job --> room in the lane?  --yes--> attempt --> answered: the limit grows; failing: it shrinks
//!              | no
//!              |-- its turn comes within a moment --> it waits in the process, holding its slot
//!              '-- else --> parked: back onto the delay ladder, no attempt spent
//! ```
//!
//! **The limit** ([`Limit`]) adapts as TCP's window does, because the problem is the same: a shared resource of unknown
//! capacity behind signals of success and failure. It grows by one for each answer up to where trouble last began (slow start)
//! and by one for each round from there (additive increase; Chiu and Jain 1989, RFC 5681). It shrinks once for each round in
//! which attempts failed, in proportion to how many of them do (DCTCP, Alizadeh et al. 2010, RFC 8257): a receiver that
//! answers 500 to one lead in twenty is not a dead one. When a whole window fails without an answer between, one attempt at a
//! time is left. Limits that go by latency (Vegas, gradients) were looked at and left: how long a receiver takes depends on
//! the lead, a slow one is not a sick one, and the shares below keep it from harming its neighbours.
//!
//! **Silence** is a signal before any timeout: a lane with attempts in flight and no answer for [`lane::SILENCE`] (or four times
//! its usual time, if that is longer) starts only one attempt every [`lane::PROBE_EVERY`]. So a target with a timeout of 30 s
//! that hangs holds half a dozen slots and not all of them; and one that answers again is noticed within seconds although an
//! older attempt still hangs.
//!
//! **Waiting** in the process takes a slot as an attempt does. A fast lane may let many wait, since they have their turn soon; when
//! it begins to hang they would have it never. So once half of the slots are taken, nobody waits for a lane that has not answered
//! for a [`lane::MOMENT`] (or four times its usual time), and those that wait ask again every [`lanes::ASK_AGAIN`].
//!
//! **Shares.** A lane may have at most [`lanes::SHARE`] times as many attempts in flight as there are slots free (dynamic thresholds,
//! Choudhury and Hahne 1998), and the last eighth of them is for lanes that have nothing in flight: however many lanes are slow,
//! something is left for the next one. Lanes that have not answered since their trouble, since the start, or for
//! [`lane::DOUBT`], get no more once they have half of the slots together ([`lanes::UNCERTAIN`]), but for the first attempt of
//! one that nothing is known of ([`lanes::UNHEARD_OF`]). Where slots lie idle they may have more: all but a quarter
//! ([`lanes::KEPT`]), and but for twice what all others needed most of late. And a limit that is not used does not grow (as RFC
//! 7661 has it for TCP), so that many which begin to hang at once take little more than what they used.
//!
//! **Origins** (`origin`). One that many organizations use hangs for all of them at once, and each lane without an attempt in
//! flight would learn it by one of its own. So what is in flight is counted for each origin, too: while it answers nobody for
//! [`lane::DOUBT`], its lanes count as uncertain from an eighth of the slots on, and begin nothing from a quarter on, but one attempt
//! every [`lane::PROBE_EVERY`]. A sixteenth beside is for lanes that have not failed: it may hang for some and answer others. One
//! answer, whosever, ends that; one organization alone seldom comes so far.
//!
//! **A target's own limit** (`max_in_flight` in the store) is counted for that target within its lane ([`Own`]).
//!
//! **Parking** ([`pace`]) is paced by what the lane can take, so that its backlog does not circle through the broker for nothing.

pub mod lane;
pub mod lanes;
mod limit;
mod origin;
pub mod pace;
mod parked;
mod peak;
mod quota;
mod signal;
mod standing;

#[cfg(test)]
mod simulation;

pub use self::{
    lanes::{Admission, Asked, Freed, Lanes, Queue, Turn, View},
    limit::Limit,
    parked::Parked,
    quota::Own,
    signal::{Signal, signal},
    standing::{ParkReason, Standing},
};
