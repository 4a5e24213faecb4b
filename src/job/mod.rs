//! One event on its way to one target: the content of a job, and its form as a message.
//!
//! A job is built from an allow-list. Only the fields here travel on, whatever upstream or the broker put into the
//! original message. A job holds no secrets: it names the target by key, and each attempt looks the target up again.

mod codec;
mod history;
mod id;
mod state;
#[cfg(test)]
mod tests;
pub mod upstream;

pub use self::{
    codec::{Malformed, header},
    history::{History, HistoryEntry},
    id::{fresh_copy, is_beginning, webhook_id},
    state::{Envelope, Job, VERSION},
};
