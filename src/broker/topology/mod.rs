//! The queues of leadhook, and the exchange they hang on (ARCHITECTURE.md).
//!
//! ```text
//!  plan     what there must be            pure; the only place that knows names and arguments
//!  look     what stands, and how full     passive declares only: needs no configure permission, changes nothing
//!  declare  makes it so                   targets before the queues that point at them
//!  refusal  what a refusal means          from its reply code and what was asked
//!  problem  what is wrong, and the advice in words for people
//!  compare  plan against what was seen    pure; `leadhook topology check`
//! ```
//!
//! The plan is authoritative: a queue that stands with other arguments is never deleted, changed or worked with, it is
//! explained. The exchange belongs to upstream: it is looked at first, and created only if it is missing.

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
