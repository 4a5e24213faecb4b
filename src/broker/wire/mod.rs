//! The filter between the broker's bytes and lapin: no message that upstream publishes can end a connection or the process.
//!
//! RabbitMQ passes properties on that lapin (4.12) cannot take. A short string that is not UTF-8 ends the connection. A
//! header nested some thousand levels deep overflows the stack of lapin's I/O thread, which aborts the process. Both
//! happen again at each redelivery. `connect` therefore gives lapin our own stream, behind TLS:
//!
//! ```text
//!  socket --> TLS --> Filter: frames --> content header: checked, repaired in place --> lapin
//!                                    '-> method: its short strings likewise
//!                                    '-> body, heartbeat: passed on
//! ```
//!
//! | it finds | it writes |
//! |---|---|
//! | bytes that are not UTF-8 in a short string, which includes each header's name | `?` for each such byte |
//! | a table or an array that is malformed, too deep, or holds too many values | the same bytes as a byte array, which has the same layout |
//! | an entry of the headers that cannot be read | one entry named `?` that holds the rest of the headers as a byte array |
//! | properties that end too early or too late | the properties before that place |
//! | a content header that is larger than a frame may be | the same without its headers |
//!
//! A repaired message must not be taken for what upstream wrote: a header's name may have been `organization-id`, and
//! two ids may look the same now. So the filter remembers what it repaired ([`Marks`]), by channel and delivery tag and
//! outside the message, where no publisher can forge it. The worker rejects such a message, and the commands show it.
//!
//! The filter never trusts a length, holds at most one frame, and descends at most [`DEPTH`] levels. A frame that no
//! publisher can cause (an unknown type, no end mark, a method or a body that is too large) is the broker's fault and ends
//! the connection with an error.

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
