//! What the cases stand on: a private broker, processes that are accounted for, and an upstream that publishes.

mod broker;
pub mod process;
pub mod upstream;
mod world;

pub use self::{
    broker::Broker,
    process::{Process, Usage},
    world::{Target, World},
};
