//! Limits: how many requests each receiver gets, and when a job without room returns (docs/explanation/limits.md).
//!
//! Limits apply to a *circuit*: the requests of one organization to one origin, in one worker. A receiver that hangs
//! usually hangs for every path of its host. One tenant's failures must not slow down another's webhooks at the same
//! host.
//!
//! ```text
//!  job --> breaker --> concurrency, rate, share --> request --> its sign of health
//!             | open        | no room
//!             |             '-- waits in the process for a moment, if the circuit is healthy
//!             '-- deferred: on a delay queue, no attempt spent
//! ```
//!
//! | module | question |
//! |---|---|
//! | [`breaker`] | Does the receiver answer at all? |
//! | [`concurrency`] | How many requests can it take at once? |
//! | [`rate`] | How many requests does its owner want, over all workers? |
//! | [`share`] | How many of the worker's slots may it have? |
//! | [`deferral`] | When does a job without room return? |
//!
//! `circuit` and `table` combine them and are pure: time and the draw are arguments, and a simulation judges them.
//! `circuits` adds clock, lock and waiting. The worker gives each pass back with a [`Signal`].

pub mod breaker;
mod circuit;
mod circuits;
pub mod concurrency;
pub mod deferral;
pub mod rate;
pub mod share;
mod signal;
#[cfg(test)]
mod simulation;
mod table;

pub use self::{
    breaker::Breaker,
    circuit::{Cause, PACE, State},
    circuits::{Circuits, Entry, Pass, View},
    deferral::{Due, Turn},
    signal::{Signal, signal},
    table::DeferReason,
};
