//! Options of the sockets that lead to receivers.

use std::time::Duration;

use tokio::net::TcpStream;

/// How long sent data may stay unacknowledged or find no room at the receiver: the longest timeout that a store allows.
const UNTAKEN: Duration = Duration::from_secs(120);

/// Sets a stream to send small requests at once, and to give up a receiver that takes nothing.
pub(super) fn tune(stream: &TcpStream) {
    let _ = stream.set_nodelay(true);
    #[cfg(target_os = "linux")]
    let _ = socket2::SockRef::from(stream).set_tcp_user_timeout(Some(UNTAKEN));
}
