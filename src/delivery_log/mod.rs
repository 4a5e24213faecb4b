//! The delivery log: what happened to each delivery, kept on a RabbitMQ stream for people who are asked about it.
//!
//! ```text
//!  entry    one record                                pure; ids, numbers and words of ours, no lead data
//!  batch    records of the same moment in a message   pure
//!  writer   gathers and publishes them                never waits, never fails a delivery
//!  reader   reads them back, from any moment          changes nothing, however often
//!  filter   which of them somebody asks for           pure
//!  story    records become deliveries                 pure
//!  known    was a failed job delivered all the same?
//! ```
//!
//! The queues stay authoritative: what rests on the failed queue has failed, whatever the log says. The log may miss records
//! (see [`writer`] for the bound) and holds them for a limited time; it is there to answer questions, and nothing is decided
//! by it alone.

pub mod batch;
pub mod entry;
pub mod filter;
pub mod known;
pub mod reader;
pub mod story;
pub mod writer;

pub use self::{
    entry::{Entry, What},
    filter::Filter,
    known::{Delivered, Known},
    reader::{LogError, LogReader, Start},
    story::{Deliveries, Delivery},
    writer::{DeliveryLog, start},
};
