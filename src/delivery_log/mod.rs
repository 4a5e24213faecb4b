//! The delivery log records what happened to each delivery. It is a RabbitMQ stream, for support to search.
//!
//! ```text
//!  entry    one record                                  pure; ids, numbers and our own words, no lead data
//!  batch    records of the same moment in one message   pure
//!  writer   collects and publishes records              never waits, never fails a delivery
//!  reader   reads records back, from any time           changes nothing
//!  filter   selects records                             pure
//!  deliveries  turns records into deliveries               pure
//!  known    tells whether a failed job was also delivered
//! ```
//!
//! The queues stay authoritative: a job on the failed queue has failed, whatever the log says. The log may miss records
//! (see [`writer`] for the bound) and keeps them for a limited time. It answers questions, and nothing is decided by it
//! alone.

pub mod batch;
pub mod deliveries;
pub mod entry;
pub mod filter;
pub mod known;
pub mod reader;
pub mod writer;

pub use self::{
    deliveries::{Deliveries, Delivery},
    entry::{Entry, What},
    filter::Filter,
    known::{Delivered, Known},
    reader::{LogError, LogReader, Start},
    writer::{DeliveryLog, start},
};
