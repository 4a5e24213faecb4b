//! A filter between the broker's bytes and lapin: no message from upstream can end a connection or the process.
//!
//! RabbitMQ passes on properties that lapin (4.12) cannot read. A short string that is not UTF-8 ends the connection. A
//! header nested thousands of levels deep overflows the stack of lapin's I/O thread, which aborts the process. Both
//! happen again at each redelivery. So `connect` gives lapin our own stream, behind TLS:
//!
//! ```text
//!  socket --> TLS --> Filter: frames --> content header: checked, repaired in place --> lapin
//!                                    '-> method: its short strings, in the same way
//!                                    '-> body, heartbeat: passed on
//! ```
//!
//! | it finds | it writes |
//! |---|---|
//! | bytes that are not UTF-8 in a short string, which includes each header's name | `?` for each such byte |
//! | a table or an array that is malformed, too deep, or has too many values | the same bytes as a byte array |
//! | an unreadable entry of the headers | one entry named `?` that holds the rest of the headers as a byte array |
//! | properties that end too early or too late | the properties before that place |
//! | a content header that is larger than a frame may be | the same without its headers |
//!
//! A repaired message is not what upstream wrote: a damaged header name may have been `organization-id`, and two ids
//! may now look the same. So the filter records its repairs ([`Marks`]) by channel and delivery tag. They are outside
//! the message, so no publisher can forge them. The worker rejects such a message, and the commands show it.
//!
//! The filter never trusts a length, holds at most one frame, and descends at most [`DEPTH`] levels. It ends the
//! connection with an error for a frame that no publisher can cause, because then the broker is at fault. Such a frame
//! has an unknown type or no end mark, or is a method or a body that is too large.

mod filter;
mod header;
mod marks;
mod method;
mod repairs;
mod stream;
mod table;
mod text;

pub use filter::{Filter, Violation};
pub use marks::Marks;
pub use repairs::Repairs;
pub(super) use stream::connect;
pub use table::DEPTH;
