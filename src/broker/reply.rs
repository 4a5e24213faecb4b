//! The AMQP reply codes by which the broker refuses (AMQP 0-9-1, section 1.2).

use lapin::ErrorKind;

/// The user lacks a permission.
pub const ACCESS_REFUSED: u16 = 403;
/// There is no such queue or exchange.
pub const NOT_FOUND: u16 = 404;
/// Another connection holds the queue exclusively.
pub const RESOURCE_LOCKED: u16 = 405;
/// It exists with other arguments, or the broker's limits forbid it.
pub const PRECONDITION_FAILED: u16 = 406;

/// The reply code of an error; none where the broker did not refuse, but the connection failed.
pub fn code(error: &lapin::Error) -> Option<u16> {
    match error.kind() {
        ErrorKind::ProtocolError(cause) => Some(cause.get_id()),
        _ => None,
    }
}
