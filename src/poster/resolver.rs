//! From a name to addresses, each of which has passed the guard.
//!
//! Asked without a thread for each question: `getaddrinfo` cannot be given up, and a tenant's slow name server would hold as
//! many threads as it has webhooks. The hosts file and `resolv.conf` (search list included) hold as elsewhere; other sources of
//! the C library (NSS) are not asked.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use hickory_resolver::{
    Resolver as Hickory, TokioResolver,
    config::{ConnectionConfig, LookupIpStrategy, NameServerConfig, ResolverConfig},
    net::{NetError, runtime::TokioRuntimeProvider},
};

use crate::egress::{Guard, Refusal};

/// For each question to one server. The attempt's own deadline comes first where it is shorter.
const PATIENCE: Duration = Duration::from_secs(5);

/// Answers remembered, for as long as they say.
const REMEMBERED: u64 = 4096;

/// Most addresses of one name that are looked at. Real services have a dozen.
const MOST: usize = 64;

/// A name did not lead to any address.
#[derive(Debug, thiserror::Error)]
#[error("the name cannot be resolved")]
pub(super) struct LookupFailed {
    #[source]
    source: Option<NetError>,
}

/// The address, or one of those that the name has, may not be called.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("{}", .0.name())]
pub(super) struct Forbidden(pub Refusal);

/// Asks name servers. Cheap to clone; clones share what they remember.
#[derive(Clone)]
pub(super) struct Resolver(Arc<TokioResolver>);

impl Resolver {
    /// Asks `servers`, or those of the system where there are none.
    pub(super) fn new(servers: &[SocketAddr]) -> anyhow::Result<Resolver> {
        let mut builder = if servers.is_empty() {
            TokioResolver::builder_tokio()?
        } else {
            let config = ResolverConfig::from_parts(None, Vec::new(), servers.iter().map(server).collect());
            Hickory::builder_with_config(config, TokioRuntimeProvider::default())
        };
        let options = builder.options_mut();
        options.timeout = options.timeout.min(PATIENCE);
        options.attempts = options.attempts.min(2);
        options.ip_strategy = LookupIpStrategy::Ipv4AndIpv6;
        options.cache_size = REMEMBERED;
        Ok(Resolver(Arc::new(builder.build()?)))
    }

    /// All addresses of `host`, a name or an address as it stands in a URL.
    ///
    /// # Errors
    /// [`Forbidden`] if any of them may not be called: a name that leads inside as well as outside is no webhook.
    /// [`LookupFailed`] if there are none.
    pub(super) async fn addresses(
        &self,
        host: &str,
        guard: &Guard,
    ) -> Result<Vec<IpAddr>, Box<dyn std::error::Error + Send + Sync>> {
        let found = match literal(host) {
            Some(address) => vec![address],
            None => {
                let found = self.0.lookup_ip(host).await.map_err(|source| LookupFailed { source: Some(source) })?;
                found.iter().take(MOST).collect()
            }
        };
        if found.is_empty() {
            return Err(LookupFailed { source: None }.into());
        }
        for address in &found {
            guard.judge(host, *address).map_err(Forbidden)?;
        }
        Ok(found)
    }
}

/// The address that the host of a URL is, if it is one. The parser of URLs has brought every notation (decimal, octal,
/// hexadecimal, short) to this one.
pub(super) fn literal(host: &str) -> Option<IpAddr> {
    host.trim_start_matches('[').trim_end_matches(']').parse().ok()
}

fn server(address: &SocketAddr) -> NameServerConfig {
    let on_port = |mut connection: ConnectionConfig| {
        connection.port = address.port();
        connection
    };
    let connections = vec![on_port(ConnectionConfig::udp()), on_port(ConnectionConfig::tcp())];
    NameServerConfig::new(address.ip(), true, connections)
}
