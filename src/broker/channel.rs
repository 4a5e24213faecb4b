//! Opens channels, and describes errors of lapin.

use lapin::{
    Channel, ErrorKind,
    protocol::{AMQPError, AMQPErrorKind},
};

use crate::os_error;

/// Opens a channel.
///
/// lapin (4.12) keeps the error of a channel that the broker closed, and returns it again for the next channel with
/// that number. Numbers repeat after `channel_max` channels (2047 by default). This function skips such a number.
///
/// # Errors
/// If the connection is lost or no number is left.
pub async fn channel(connection: &lapin::Connection) -> lapin::Result<Channel> {
    let mut numbers = connection.configuration().channel_max();
    loop {
        match connection.create_channel().await {
            Err(error) if numbers > 0 && is_kept(&error) => numbers -= 1,
            opened => return opened,
        }
    }
}

/// Returns whether this is the error of an earlier channel. A new channel cannot have caused it.
fn is_kept(error: &lapin::Error) -> bool {
    matches!(error.kind(), ErrorKind::ProtocolError(cause) if is_soft(cause))
}

/// Returns whether an error closes only its channel. Hard errors close the connection (AMQP 0-9-1, section 1.1).
pub(super) fn is_soft(error: &AMQPError) -> bool {
    matches!(error.kind(), AMQPErrorKind::Soft(_))
}

/// Describes an error of lapin in words.
pub fn words(error: &lapin::Error) -> String {
    match error.kind() {
        ErrorKind::IOError(error) | ErrorKind::RuntimeShutdownError(error) => os_error::words(error),
        ErrorKind::ProtocolError(error) => format!("the broker refused: {} ({})", error.get_message(), error.get_id()),
        ErrorKind::MissingHeartbeatError => "the broker was silent for two heartbeats (amqp.heartbeat)".to_owned(),
        _ => error.to_string(),
    }
}
