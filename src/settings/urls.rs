//! URLs with credentials, which are never shown.

use std::fmt;

/// A URL with credentials. `Debug` and `Display` show neither user information nor query.
#[derive(Clone, PartialEq, Eq)]
pub struct BrokerUrl(url::Url);

impl BrokerUrl {
    /// Wraps a parsed URL.
    pub fn new(url: url::Url) -> BrokerUrl {
        BrokerUrl(url)
    }

    /// Returns the whole URL with its credentials. For connecting only, never for printing.
    pub fn expose(&self) -> &url::Url {
        &self.0
    }

    /// Returns the parts of a broker's URL as the AMQP library reads them; `None` for the URL of a management API.
    pub fn parts(&self) -> Option<lapin::uri::AMQPUri> {
        self.0.as_str().parse().ok()
    }
}

impl fmt::Display for BrokerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", self.0.scheme(), self.0.host_str().unwrap_or("?"))?;
        if let Some(port) = self.0.port() {
            write!(f, ":{port}")?;
        }
        f.write_str(self.0.path())
    }
}

impl fmt::Debug for BrokerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "BrokerUrl({self})")
    }
}

/// The URL of a proxy, `http://` (with CONNECT) or `socks5://`, perhaps with credentials. `Debug` and `Display` do not
/// show these.
#[derive(Clone, PartialEq, Eq)]
pub struct ProxyUrl(url::Url);

impl ProxyUrl {
    /// Wraps a parsed URL.
    pub fn new(url: url::Url) -> ProxyUrl {
        ProxyUrl(url)
    }

    /// Returns the whole URL with its credentials. For connecting only, never for printing.
    pub fn expose(&self) -> &url::Url {
        &self.0
    }
}

impl fmt::Display for ProxyUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", self.0.scheme(), self.0.host_str().unwrap_or("?"))?;
        self.0.port().map_or(Ok(()), |port| write!(f, ":{port}"))
    }
}

impl fmt::Debug for ProxyUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ProxyUrl({self})")
    }
}
