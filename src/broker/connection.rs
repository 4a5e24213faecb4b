//! Connecting. A connection has one role: the worker consumes on one and publishes on another, because a broker under a
//! memory alarm stops reading from publishers, acks included.

use std::time::Duration;

use deadpool_lapin::{Config, Pool, PoolConfig, Runtime};
use lapin::{Connection, ConnectionProperties};

use crate::settings::{Amqp, BrokerUrl};

/// Longest wait for TCP, TLS and the AMQP handshake together, per broker.
const HANDSHAKE: Duration = Duration::from_secs(10);

/// Why there is no connection. Names hosts, never credentials.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The broker refused or could not be reached.
    #[error("{url}: {source}")]
    Refused {
        /// Without credentials.
        url: String,
        /// What lapin says.
        source: Box<lapin::Error>,
    },
    /// No answer in time.
    #[error("{url}: no answer within {} s", HANDSHAKE.as_secs())]
    Silent {
        /// Without credentials.
        url: String,
    },
    /// `amqp.urls` is empty.
    #[error("no broker is configured (amqp.urls)")]
    Unconfigured,
}

/// Connects to the first broker that answers, in the order configured. `role` is shown in the management UI
/// (`leadhook/<role>/<host>/<pid>`).
///
/// # Errors
/// The last broker's error, if none answers.
pub async fn connect(amqp: &Amqp, role: &str) -> Result<Connection, ConnectError> {
    let mut last = ConnectError::Unconfigured;
    for url in &amqp.urls {
        let address = address(url, amqp);
        let connecting = Connection::connect(&address, properties(role));
        match tokio::time::timeout(HANDSHAKE, connecting).await {
            Ok(Ok(connection)) => return Ok(connection),
            Ok(Err(error)) => last = ConnectError::Refused { url: url.to_string(), source: Box::new(error) },
            Err(_) => last = ConnectError::Silent { url: url.to_string() },
        }
    }
    Err(last)
}

/// One connection that several users share, made when it is first asked for and again when it is lost.
pub struct Shared {
    pools: Vec<(String, Pool)>,
}

impl Shared {
    /// Prepares the pools, one connection each. Needs a tokio runtime; connects nothing yet.
    pub fn new(amqp: &Amqp, role: &'static str) -> Shared {
        let pool = |url: &BrokerUrl| {
            let mut limits = PoolConfig::new(1);
            limits.timeouts.create = Some(HANDSHAKE);
            limits.timeouts.wait = Some(HANDSHAKE);
            let config = Config { url: Some(address(url, amqp)), pool: Some(limits) };
            // Fails only without the tokio runtime feature, which Cargo.toml sets.
            config.create_pool(move || properties(role), Runtime::Tokio1).ok().map(|pool| (url.to_string(), pool))
        };
        Shared { pools: amqp.urls.iter().filter_map(pool).collect() }
    }

    /// The connection, for as long as the guard is held. Open what is needed on it and let it go.
    ///
    /// # Errors
    /// The last broker's error, if none answers.
    pub async fn get(&self) -> Result<deadpool_lapin::Connection, ConnectError> {
        let mut last = ConnectError::Unconfigured;
        for (url, pool) in &self.pools {
            match pool.get().await {
                Ok(connection) => return Ok(connection),
                Err(deadpool_lapin::PoolError::Backend(error)) => {
                    last = ConnectError::Refused { url: url.clone(), source: Box::new(error) };
                }
                Err(_) => last = ConnectError::Silent { url: url.clone() },
            }
        }
        Err(last)
    }

    /// Says goodbye to the broker, if there is a connection. Bounded; failing is harmless, the socket goes anyway.
    pub async fn close(&self) {
        for (_, pool) in &self.pools {
            if pool.status().size > 0
                && let Ok(connection) = pool.get().await
            {
                let goodbye = connection.close(200, "goodbye".into());
                let _ = tokio::time::timeout(Duration::from_secs(1), goodbye).await;
            }
            pool.close();
        }
    }
}

/// The URL with our heartbeat, unless the URL asks for one itself.
pub fn address(url: &BrokerUrl, amqp: &Amqp) -> String {
    let mut url = url.expose().clone();
    if !url.query_pairs().any(|(key, _)| key == "heartbeat") {
        url.query_pairs_mut().append_pair("heartbeat", &amqp.heartbeat.as_secs().max(1).to_string());
    }
    url.into()
}

fn properties(role: &str) -> ConnectionProperties {
    let host = std::env::var("HOSTNAME").unwrap_or_else(|_| "localhost".into());
    let name = format!("leadhook/{role}/{host}/{}", std::process::id());
    ConnectionProperties::default().with_connection_name(name.into())
}
