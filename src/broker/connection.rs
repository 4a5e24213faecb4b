//! Connecting. A connection has one role: the worker consumes on one and publishes on another, because a broker under a
//! memory alarm stops reading from publishers, acks included.

use std::{ops::Deref, path::Path, sync::Arc, time::Duration};

use lapin::{
    Channel, ConnectionProperties, ErrorKind,
    protocol::{AMQPError, AMQPErrorKind},
    tcp::{OwnedIdentity, OwnedTLSConfig},
};

use super::{
    preflight,
    reply::ACCESS_REFUSED,
    wire::{self, Marks},
};
use crate::{
    os_error,
    settings::{Amqp, BrokerUrl},
};

/// Longest wait for TCP, TLS and the AMQP handshake together, per broker.
pub(super) const HANDSHAKE: Duration = Duration::from_secs(10);

/// Why there is no connection. Names hosts, never credentials.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The broker refused or could not be reached.
    #[error("{url}: {}", words(.source))]
    Refused {
        /// Without credentials.
        url: String,
        /// What lapin says.
        source: Box<lapin::Error>,
    },
    /// The broker knows the user or the password no more, or not yet.
    #[error("user {user} is refused by broker {broker}: {text}")]
    Login {
        /// The name alone.
        user: String,
        /// Host and port.
        broker: String,
        /// The broker's words, which begin with `ACCESS_REFUSED`.
        text: String,
    },
    /// It is not a broker that Leadhook can keep its promises on.
    #[error("{0}")]
    Unfit(String),
    /// No answer in time.
    #[error("{url}: no answer within {} s", HANDSHAKE.as_secs())]
    Silent {
        /// Without credentials.
        url: String,
    },
    /// A file of `amqp.*` for TLS cannot be read.
    #[error("{key}: {path}: {}", os_error::words(.source))]
    Unreadable {
        /// The setting.
        key: &'static str,
        /// The file.
        path: String,
        /// Why not.
        source: std::io::Error,
    },
    /// `amqp.urls` is empty.
    #[error("no broker is configured (amqp.urls)")]
    Unconfigured,
}

impl ConnectError {
    /// What to do about it.
    pub fn help(&self) -> &'static str {
        match self {
            ConnectError::Refused { source, .. } => match source.kind() {
                ErrorKind::ProtocolError(_) => {
                    "correct the user, the password or the vhost in amqp.urls (LEADHOOK__AMQP__URLS) or amqp.urls_file"
                }
                _ => "start the broker, or correct amqp.urls (LEADHOOK__AMQP__URLS)",
            },
            ConnectError::Login { .. } => {
                "correct the user or the password in amqp.urls (LEADHOOK__AMQP__URLS) or amqp.urls_file"
            }
            ConnectError::Unfit(_) => {
                "use RabbitMQ 3.10.5 or later, and name it in amqp.urls (LEADHOOK__AMQP__URLS) or amqp.urls_file"
            }
            ConnectError::Silent { .. } => {
                "look at the broker and the network, or correct amqp.urls (LEADHOOK__AMQP__URLS)"
            }
            ConnectError::Unreadable { .. } => "correct that setting, or make the file readable for this user",
            ConnectError::Unconfigured => "write at least one URL into amqp.urls (LEADHOOK__AMQP__URLS)",
        }
    }

    /// An error of `connect`. Its reply code, 403, marks a refused login.
    fn refused(url: &BrokerUrl, error: lapin::Error) -> ConnectError {
        match (error.kind(), url.parts()) {
            (ErrorKind::ProtocolError(cause), Some(parts)) if cause.get_id() == ACCESS_REFUSED => ConnectError::Login {
                user: parts.authority.userinfo.username,
                broker: broker(url),
                text: cause.get_message().to_string(),
            },
            _ => ConnectError::Refused { url: url.to_string(), source: Box::new(error) },
        }
    }

    /// Of two brokers' errors the one that calls for an operator: a broker that is away comes back by itself.
    fn or(self, later: ConnectError) -> ConnectError {
        if matches!(self, ConnectError::Login { .. } | ConnectError::Unfit(_)) { self } else { later }
    }
}

/// An error of the AMQP library in words.
pub fn words(error: &lapin::Error) -> String {
    match error.kind() {
        ErrorKind::IOError(error) | ErrorKind::RuntimeShutdownError(error) => os_error::words(error),
        ErrorKind::ProtocolError(error) => format!("the broker refused: {} ({})", error.get_message(), error.get_id()),
        ErrorKind::MissingHeartbeatError => "the broker was silent for two heartbeats (amqp.heartbeat)".to_owned(),
        _ => error.to_string(),
    }
}

/// Connects to the first broker that answers, in the order configured but beginning with number `first` (counted from 0,
/// and around). Whoever found a broker useless begins with the next one: a node that was cut off from its cluster takes
/// connections and can do nothing. `role` is shown in the management UI (`leadhook/<role>/<host>/<pid>`).
///
/// # Errors
/// If none answers: a refused login or an unfit broker, else the last broker's error.
pub async fn connect(amqp: &Amqp, role: &str, first: usize) -> Result<Connection, ConnectError> {
    Ok(connect_in_turn(amqp, role, first).await?.0)
}

/// As [`connect`]; also returns the number of the broker that answered, counted on from `first`.
///
/// # Errors
/// As [`connect`].
pub async fn connect_in_turn(amqp: &Amqp, role: &str, first: usize) -> Result<(Connection, usize), ConnectError> {
    let mut last = ConnectError::Unconfigured;
    let urls = amqp.urls.now();
    for (url, number) in in_turn(&urls, first).zip(first..) {
        let connecting = open(url, amqp, role, tls(amqp)?);
        last = last.or(match tokio::time::timeout(HANDSHAKE, connecting).await {
            Ok(Ok(connection)) => return Ok((connection, number)),
            Ok(Err(error)) => error,
            Err(_) => ConnectError::Silent { url: url.to_string() },
        });
    }
    Err(last)
}

/// A connection whose messages cannot end it, whatever upstream wrote into them (see [`wire`]).
pub struct Connection {
    lapin: lapin::Connection,
    url: String,
    marks: Arc<Marks>,
    warning: Option<String>,
}

impl Connection {
    /// Of its broker, without credentials.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Which of its messages were repaired.
    pub fn marks(&self) -> &Arc<Marks> {
        &self.marks
    }

    /// The warning that its broker deserves, if any (see [`preflight`]).
    pub fn warning(&self) -> Option<&str> {
        self.warning.as_deref()
    }
}

impl Deref for Connection {
    type Target = lapin::Connection;

    fn deref(&self) -> &lapin::Connection {
        &self.lapin
    }
}

/// All connections are made here.
async fn open(url: &BrokerUrl, amqp: &Amqp, role: &str, tls: OwnedTLSConfig) -> Result<Connection, ConnectError> {
    let opened = wire::connect(&address(url, amqp), properties(role), tls).await;
    let (lapin, marks, greeting) = opened.map_err(|error| ConnectError::refused(url, error))?;
    match preflight::check(&lapin, greeting.as_ref(), &broker(url), &amqp.prefix).await {
        Ok(warning) => Ok(Connection { lapin, url: url.to_string(), marks, warning }),
        Err(reason) => {
            let _ = lapin.close(200, "not a broker for this".into()).await;
            Err(ConnectError::Unfit(reason))
        }
    }
}

/// Host and port.
fn broker(url: &BrokerUrl) -> String {
    url.parts().map_or_else(|| url.to_string(), |parts| format!("{}:{}", parts.authority.host, parts.authority.port))
}

/// Whom to trust and who we are, for `amqps://`. Read for each connection, so that renewed certificates are used by the
/// next.
///
/// # Errors
/// [`ConnectError::Unreadable`]; what is in the files is looked at when connecting only.
pub fn tls(amqp: &Amqp) -> Result<OwnedTLSConfig, ConnectError> {
    let read = |key: &'static str, path: &Path| {
        let text = std::fs::read_to_string(path);
        text.map_err(|source| ConnectError::Unreadable { key, path: path.display().to_string(), source })
    };
    let identity = match (&amqp.client_certificate, &amqp.client_key) {
        (Some(certificate), Some(key)) => Some(OwnedIdentity::PKCS8 {
            pem: read("amqp.client_certificate", certificate)?.into_bytes(),
            key: read("amqp.client_key", key)?.into_bytes(),
        }),
        _ => None,
    };
    let cert_chain = amqp.ca_file.as_deref().map(|path| read("amqp.ca_file", path)).transpose()?;
    Ok(OwnedTLSConfig { identity, cert_chain })
}

/// Opens a channel.
///
/// lapin (4.12) keeps the error of a channel that the broker closed, and answers with it whoever gets the number of
/// that channel again; after `channel_max` channels (2047 by default) numbers come around. Such a number is passed over
/// here.
///
/// # Errors
/// The connection is lost, or no number is left.
pub async fn channel(connection: &lapin::Connection) -> lapin::Result<Channel> {
    let mut numbers = connection.configuration().channel_max();
    loop {
        match connection.create_channel().await {
            Err(error) if numbers > 0 && is_kept(&error) => numbers -= 1,
            opened => return opened,
        }
    }
}

/// Whether it is the error of one channel, which none that is new can have made.
fn is_kept(error: &lapin::Error) -> bool {
    matches!(error.kind(), ErrorKind::ProtocolError(cause) if is_soft(cause))
}

/// Soft errors close the channel, hard ones the connection (AMQP 0-9-1, section 1.1).
pub(super) fn is_soft(error: &AMQPError) -> bool {
    matches!(error.kind(), AMQPErrorKind::Soft(_))
}

/// All of them, beginning with number `first`.
fn in_turn<T>(all: &[T], first: usize) -> impl Iterator<Item = &T> {
    let first = first.checked_rem(all.len()).unwrap_or(0);
    all[first..].iter().chain(&all[..first])
}

/// The URL with our heartbeat, unless the URL asks for one itself (the consumers are watched by the setting all the same).
///
/// Asked for are three quarters of `amqp.heartbeat`, in whole seconds: lapin (4.12) gives a silent connection up when two
/// heartbeats have passed, but looks only every half heartbeat, and a silence is to be noticed within two of *ours*.
pub fn address(url: &BrokerUrl, amqp: &Amqp) -> String {
    let mut url = url.expose().clone();
    if !url.query_pairs().any(|(key, _)| key == "heartbeat") {
        let asked = (amqp.heartbeat.as_secs() * 3 / 4).max(1);
        url.query_pairs_mut().append_pair("heartbeat", &asked.to_string());
    }
    url.into()
}

fn properties(role: &str) -> ConnectionProperties {
    let host = std::env::var("HOSTNAME").unwrap_or_else(|_| "localhost".into());
    let name = format!("leadhook/{role}/{host}/{}", std::process::id());
    ConnectionProperties::default().with_connection_name(name.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn brokers_are_tried_in_turn_from_any_of_them() {
        let turn = |first| in_turn(&["a", "b", "c"], first).copied().collect::<String>();
        assert_eq!([turn(0), turn(1), turn(2), turn(3)], ["abc", "bca", "cab", "abc"]);
        assert_eq!(in_turn::<u8>(&[], 5).count(), 0);
    }
}
