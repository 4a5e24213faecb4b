//! The AMQP reply codes of refusals (AMQP 0-9-1, section 1.2).

use lapin::ErrorKind;

/// The user lacks a permission.
pub const ACCESS_REFUSED: u16 = 403;
/// The queue or exchange does not exist.
pub const NOT_FOUND: u16 = 404;
/// Another connection holds the queue exclusively.
pub const RESOURCE_LOCKED: u16 = 405;
/// The queue or exchange exists with other arguments, or the broker's limits forbid it.
pub const PRECONDITION_FAILED: u16 = 406;

/// Returns the reply code of a refusal, or `None` if the connection failed instead.
pub fn code(error: &lapin::Error) -> Option<u16> {
    match error.kind() {
        ErrorKind::ProtocolError(cause) => Some(cause.get_id()),
        _ => None,
    }
}
