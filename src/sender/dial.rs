//! Makes a TCP connection for a URL. Nothing else connects to receivers.
//!
//! For each new connection, the name is resolved and every address is judged right before it is dialled. So neither a
//! literal address nor a changed answer of the name server gets past the guard. Organizations do not share connections,
//! so a reused connection was dialled under the same rules.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use futures::{StreamExt, future::FusedFuture, stream::FuturesUnordered};
use tokio::net::TcpStream;
use url::Url;

use super::{
    fault,
    proxy::Proxy,
    resolver::{Addresses, Resolver, literal},
    tune::tune,
};
use crate::{delivery::fault::Fault, egress::Guard};

/// Time without a connection after which the next address is dialled as well (RFC 8305, section 5).
const NEXT_ADDRESS: Duration = Duration::from_millis(250);

/// Connects under the rules of one organization.
pub(super) struct Dial {
    guard: Arc<Guard>,
    resolver: Resolver,
    route: Route,
}

/// The route to a receiver.
#[derive(Clone)]
pub(super) enum Route {
    /// Straight to the receiver.
    Direct,
    /// Through a proxy.
    Proxy {
        proxy: Arc<Proxy>,
        /// Whether the proxy gets the name and resolves it.
        resolves: bool,
    },
}

impl Dial {
    /// Makes a dialler for the rules of `guard`.
    pub(super) fn new(guard: Guard, resolver: Resolver, route: Route) -> Dial {
        Dial { guard: Arc::new(guard), resolver, route }
    }

    /// Connects to the host of `url`.
    ///
    /// # Errors
    /// Fails with a fault of the URL, the name, the address, the proxy or TCP.
    pub(super) async fn connect(&self, url: &Url) -> Result<TcpStream, Fault> {
        let host = url.host_str().ok_or(Fault::UnusableTarget)?;
        let port = url.port_or_known_default().ok_or(Fault::UnusableTarget)?;
        match &self.route {
            Route::Direct => first_of(self.resolver.addresses(host, &self.guard).await?, port).await,
            Route::Proxy { proxy, resolves: true } if literal(host).is_none() => {
                self.guard.judge_name(host).map_err(Fault::ForbiddenName)?;
                proxy.connect(host, None, port).await
            }
            Route::Proxy { proxy, .. } => {
                let mut problem = Fault::Connect;
                for address in self.resolver.addresses(host, &self.guard).await?.all().await {
                    match proxy.connect(host, Some(address), port).await {
                        Err(Fault::Connect) => problem = Fault::Connect,
                        ended => return ended,
                    }
                }
                Err(problem)
            }
        }
    }
}

/// Dials one address after the other: the next one when the previous one has failed, or is silent for [`NEXT_ADDRESS`].
/// Returns the first connection and drops the others.
async fn first_of(addresses: Addresses, port: u16) -> Result<TcpStream, Fault> {
    let Addresses { mut ready, mut late } = addresses;
    let mut dialling = FuturesUnordered::new();
    let mut problem = Fault::Connect;
    loop {
        dialling.extend(ready.pop_front().map(|address| dial(SocketAddr::new(address, port))));
        tokio::select! {
            Some(dialled) = dialling.next() => match dialled {
                Ok(stream) => return Ok(stream),
                Err(Fault::Local) => problem = Fault::Local,
                Err(_) => {}
            },
            more = &mut late, if !late.is_terminated() => ready.extend(more),
            () = tokio::time::sleep(NEXT_ADDRESS), if !ready.is_empty() => {}
            else => return Err(problem),
        }
    }
}

async fn dial(address: SocketAddr) -> Result<TcpStream, Fault> {
    match TcpStream::connect(address).await {
        Ok(stream) => {
            tune(&stream);
            Ok(stream)
        }
        // A machine without IPv6 may report this for each IPv6 address, with the same error as a lack of ports.
        Err(error) if address.is_ipv6() && error.kind() == io::ErrorKind::AddrNotAvailable => Err(Fault::Connect),
        Err(error) if fault::is_ours(&error) => Err(Fault::Local),
        Err(_) => Err(Fault::Connect),
    }
}
