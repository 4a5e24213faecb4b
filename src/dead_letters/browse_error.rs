//! Why a browse fails.

use lapin::types::ShortString;

use crate::broker::connection::ConnectError;

/// Why a browse failed or was broken off. All messages stay on the queue. The text names no credentials.
#[derive(Debug, thiserror::Error)]
pub enum BrowseError {
    /// The broker cannot be reached.
    #[error("cannot connect to {0}")]
    Connect(#[from] ConnectError),
    /// The queue does not exist.
    #[error("queue {0} does not exist")]
    NoQueue(ShortString),
    /// The user may not read the queue.
    #[error("the user of amqp.urls may not read queue {0}")]
    Forbidden(ShortString),
    /// Another browse does not end.
    #[error("another leadhook command or console is reading the queue, and only one can read it at a time")]
    Busy,
    /// The process was asked to stop.
    #[error("interrupted: the messages that were held are on the queue again, in their order")]
    Interrupted,
    /// The connection to the broker was lost.
    #[error("lost the connection to the broker, and all messages that were held are on the queue again: {0}")]
    Lost(String),
}

impl BrowseError {
    /// Returns what to do about it.
    pub fn help(&self) -> &'static str {
        match self {
            BrowseError::Connect(error) => error.help(),
            BrowseError::NoQueue(_) => {
                "run `leadhook topology apply`, or correct amqp.prefix: every queue name begins with it"
            }
            BrowseError::Forbidden(_) => "give the user of amqp.urls read permission on the queue",
            BrowseError::Busy => "try again when it has ended",
            BrowseError::Interrupted => "run the command again to do the rest",
            BrowseError::Lost(_) => "run the command again",
        }
    }
}
