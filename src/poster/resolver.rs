//! From a name to addresses, with an error type of our own, so that a failed lookup is known by type.

use std::{io, net::SocketAddr};

use reqwest::dns::{Addrs, Name, Resolve, Resolving};

/// The system's resolver (`/etc/hosts`, `resolv.conf`).
pub(super) struct Resolver;

/// A name did not lead to any address.
#[derive(Debug, thiserror::Error)]
#[error("the name cannot be resolved")]
pub(super) struct LookupFailed {
    #[source]
    source: Option<io::Error>,
}

impl Resolve for Resolver {
    fn resolve(&self, name: Name) -> Resolving {
        Box::pin(async move {
            let addresses = lookup(name.as_str()).await?;
            Ok(Box::new(addresses.into_iter()) as Addrs)
        })
    }
}

/// Every address of a name; port 0, which the client replaces by the URL's.
///
/// A guard over addresses belongs here, after the lookup and before anything connects (an earlier check of the name
/// could be answered differently from the one that counts), with an error type of its own beside [`LookupFailed`] that
/// becomes [`Fault::ForbiddenAddress`](crate::delivery::outcome::Fault). A URL with a literal address never comes this way:
/// the same guard has to look at these in [`Poster::post`](super::Poster::post).
async fn lookup(name: &str) -> Result<Vec<SocketAddr>, LookupFailed> {
    let found = tokio::net::lookup_host((name, 0)).await.map_err(|source| LookupFailed { source: Some(source) })?;
    let addresses: Vec<_> = found.collect();
    if addresses.is_empty() { Err(LookupFailed { source: None }) } else { Ok(addresses) }
}
