//! The base of all tests on a real RabbitMQ.
#![allow(dead_code, reason = "each test binary uses its part")]

pub mod drawn; // the faults that are drawn by a seed
pub mod fault; // what can break, each by itself or drawn by a seed
pub mod frames; // sends a worker frames that no broker should send
pub mod harness; // a world for each test: vhost, store, workers, receivers
pub mod ledger; // every event accounted for
pub mod load; // what is published, and to whom it goes
pub mod message; // a message that was taken from a queue
pub mod node; // private RabbitMQ nodes
pub mod poison; // properties and headers that lapin cannot read
pub mod proxy; // a network that breaks on demand
mod proxy_frames; // the frames in what it passes on
pub mod raw_publisher; // a publisher that writes its own frames
pub mod scripted_broker; // a fake broker that sends any bytes
pub mod trial; // a load of numbered events while things break
pub mod upstream; // publishes until it is confirmed, whatever breaks
pub mod worker; // workers as real processes
