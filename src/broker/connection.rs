//! Connects to the broker. Each connection has one role: the worker consumes on one and publishes on another. Under a
//! memory alarm, a broker stops reading from connections that publish, acks included.

use std::{ops::Deref, path::Path, sync::Arc, time::Duration};

use lapin::{
    ConnectionProperties, ErrorKind,
    tcp::{OwnedIdentity, OwnedTLSConfig},
};

pub use super::channel::{channel, words};
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

/// Why connecting failed. Names hosts, never credentials.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The broker refused the connection or could not be reached.
    #[error("{url}: {}", words(.source))]
    Refused {
        /// The broker's URL without credentials.
        url: String,
        /// The error of lapin.
        source: Box<lapin::Error>,
    },
    /// The broker refuses the user or the password: it may not know them yet, or no longer.
    #[error("user {user} is refused by broker {broker}: {text}")]
    Login {
        /// The user's name.
        user: String,
        /// Host and port.
        broker: String,
        /// The broker's words, which begin with `ACCESS_REFUSED`.
        text: String,
    },
    /// Leadhook cannot keep its guarantees on this broker.
    #[error("{0}")]
    Unfit(String),
    /// The broker did not answer in time.
    #[error("{url}: no answer within {} s", HANDSHAKE.as_secs())]
    Silent {
        /// The broker's URL without credentials.
        url: String,
    },
    /// A TLS file that a setting in `amqp.*` names cannot be read.
    #[error("{key}: {path}: {}", os_error::words(.source))]
    Unreadable {
        /// The setting.
        key: &'static str,
        /// The file.
        path: String,
        /// The reason.
        source: std::io::Error,
    },
    /// `amqp.urls` is empty.
    #[error("no broker is configured (amqp.urls)")]
    Unconfigured,
}

impl ConnectError {
    /// Returns what to do about it.
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

    /// Converts an error of lapin. The reply code 403 marks a refused login.
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

    /// Returns the one of two brokers' errors that needs an operator. A broker that is away comes back by itself.
    fn or(self, later: ConnectError) -> ConnectError {
        if matches!(self, ConnectError::Login { .. } | ConnectError::Unfit(_)) { self } else { later }
    }
}

/// Connects to the first broker that answers. Tries them in the configured order, from number `first` on, counted from
/// 0 and wrapping around. A caller that found a broker useless begins with the next one: a node cut off from its
/// cluster accepts connections but does not serve. The management UI shows `role` as `leadhook/<role>/<host>/<pid>`.
///
/// # Errors
/// If no broker answers: the error of a refused login or an unfit broker, else that of the last broker.
pub async fn connect(amqp: &Amqp, role: &str, first: usize) -> Result<Connection, ConnectError> {
    Ok(connect_in_turn(amqp, role, first).await?.0)
}

/// Connects as [`connect`] does, and also returns the number of the broker that answered, counted on from `first`.
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

/// A connection that no message can end, whatever upstream wrote into it (see [`wire`]).
pub struct Connection {
    lapin: lapin::Connection,
    url: String,
    marks: Arc<Marks>,
    warning: Option<String>,
}

impl Connection {
    /// Returns the broker's URL without credentials.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Returns the marks of its repaired messages.
    pub fn marks(&self) -> &Arc<Marks> {
        &self.marks
    }

    /// Returns the warning about its broker, if there is one (see [`preflight`]).
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

/// Opens a connection to one broker. Every connection is made here.
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

/// Returns host and port.
fn broker(url: &BrokerUrl) -> String {
    url.parts().map_or_else(|| url.to_string(), |parts| format!("{}:{}", parts.authority.host, parts.authority.port))
}

/// Reads the trusted authorities and our client certificate for `amqps://`. Reads the files for each connection, so the
/// next one uses renewed certificates.
///
/// # Errors
/// [`ConnectError::Unreadable`]. The content of the files is checked only when connecting.
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

/// Returns all items, from number `first` on and wrapping around.
fn in_turn<T>(all: &[T], first: usize) -> impl Iterator<Item = &T> {
    let first = first.checked_rem(all.len()).unwrap_or(0);
    all[first..].iter().chain(&all[..first])
}

/// Returns the URL with our heartbeat, unless the URL already has one. Either way, the worker watches its consumers by
/// the setting.
///
/// Leadhook asks for 3/4 of `amqp.heartbeat`, in whole seconds. lapin (4.12) gives up a silent connection after two
/// heartbeats, but checks only every half heartbeat. So it notices a silence within two periods of the *setting*.
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
