//! Connecting: one try over all configured brokers.

use lapin::{Connection, ConnectionProperties};

use crate::settings::{Amqp, BrokerUrl};

/// Connects to the first broker that answers, in the order configured. `role` is shown in the management UI
/// (`leadhook/<role>/<host>/<pid>`).
///
/// # Errors
/// The last broker's error, if none answers.
pub async fn connect(amqp: &Amqp, role: &str) -> Result<Connection, lapin::Error> {
    let mut last = None;
    for url in &amqp.urls {
        match Connection::connect(&address(url, amqp), properties(role)).await {
            Ok(connection) => return Ok(connection),
            Err(error) => last = Some(error),
        }
    }
    Err(last.unwrap_or_else(|| lapin::ErrorKind::NoDefaultRuntime.into()))
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
