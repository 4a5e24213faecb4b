//! What all tests on a real RabbitMQ stand on. Each test binary uses its part of it.
#![allow(dead_code, reason = "each test binary uses its part")]

pub mod fault; // what can break, each by itself or drawn by a seed
pub mod frames; // frames that no broker should send, at a worker
pub mod harness; // a world per test: vhost, store, workers, receivers
pub mod ledger; // every event accounted for
pub mod load; // what is published, and to whom it goes
pub mod node; // private RabbitMQ nodes
pub mod poison; // properties and headers that lapin cannot read
pub mod proxy; // a network that breaks on demand
pub mod raw_publisher; // a publisher that writes its own frames
pub mod scripted_broker; // a broker end that sends any bytes
pub mod trial; // a load of numbered events while things break
pub mod upstream; // publishes until it is confirmed, whatever breaks
pub mod worker; // workers as real processes
