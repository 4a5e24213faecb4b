//! RabbitMQ: connections, topology, confirmed publishing. Each function does one thing once, and none repeats a request
//! by itself.

pub mod acks;
mod channel;
pub mod connection;
pub mod distrust;

mod intake;

pub mod management;

pub mod pause;

pub mod preflight;

pub mod publisher;

pub mod reply;

pub mod shared;

pub mod topology;

pub mod wire;

pub use intake::Intake;
