//! The queues of Leadhook, and the exchange that feeds them (ARCHITECTURE.md).
//!
//! ```text
//!  plan     the planned queues            pure; the only place that knows names and arguments
//!  look     what exists, and how full     passive declares only: needs no configure permission, changes nothing
//!  declare  creates what is missing       dead-letter targets before the queues that point at them
//!  refusal  explains a refusal            from its reply code and the request
//!  problem  problems and advice           in words for people
//!  compare  plan against the broker       pure; `leadhook topology check`
//! ```
//!
//! The plan is authoritative. Leadhook never deletes, changes or uses a queue that exists with other arguments, but
//! explains the difference. The exchange belongs to upstream: Leadhook looks at it first, and creates it only if it is
//! missing.

mod ask;
pub mod compare;
mod declare;
mod look;
mod plan;
mod problem;
mod refusal;

pub use declare::{Standing, declare, declare_again, declare_events, declare_one, stream};
pub use look::{Count, Counter, Existence, Sight, counts, look, queues, verify};
pub use plan::{Argument, Names, Plan, Queue, Retention, Role};
pub use problem::{Problem, Property, Thing, TopologyError};
