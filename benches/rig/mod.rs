//! The parts of a run: a private broker, processes and their costs, receivers, and an upstream that publishes.

mod broker;
mod process;
pub mod upstream;
mod world;

pub use self::{
    broker::Broker,
    process::{Process, Usage},
    world::{OK, Target, Who, World},
};
