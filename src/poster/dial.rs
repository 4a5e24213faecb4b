//! From a URL to a TCP connection: the only place that connects to receivers.
//!
//! Names are resolved and every address is judged right before it is dialled, for each new connection. Nothing else dials, so
//! neither a literal address nor another answer of the same name server passes by. Connections are not shared between
//! organizations, so a connection that is used again was dialled under the same rules.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use futures::{StreamExt, future::FusedFuture, stream::FuturesUnordered};
use tokio::net::TcpStream;
use url::Url;

use super::{
    fault,
    proxy::Proxy,
    resolver::{Addresses, Resolver, literal},
};
use crate::{delivery::outcome::Fault, egress::Guard};

/// After so long without a connection the next address is dialled as well (RFC 8305, section 5).
const NEXT_ADDRESS: Duration = Duration::from_millis(250);

/// Connects under the rules of one organization.
pub(super) struct Dial {
    guard: Arc<Guard>,
    resolver: Resolver,
    route: Route,
}

/// How a receiver is reached.
#[derive(Clone)]
pub(super) enum Route {
    /// Straight to the receiver.
    Direct,
    /// Through a proxy.
    Proxy {
        proxy: Arc<Proxy>,
        /// It is given the name as it stands.
        resolves: bool,
    },
}

impl Dial {
    /// Dials under the rules of `guard`.
    pub(super) fn new(guard: Guard, resolver: Resolver, route: Route) -> Dial {
        Dial { guard: Arc::new(guard), resolver, route }
    }

    /// A connection to the host of `url`, which has one.
    ///
    /// # Errors
    /// Those of names, addresses, the proxy and TCP.
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

/// Dials one address after the other: the next one when the one before has failed, or says nothing for [`NEXT_ADDRESS`]. The first
/// connection is used, and the others are given up.
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
        // A machine without IPv6 may say so of each such address, in the words that stand for a lack of ports.
        Err(error) if address.is_ipv6() && error.kind() == io::ErrorKind::AddrNotAvailable => Err(Fault::Connect),
        Err(error) if fault::is_ours(&error) => Err(Fault::Local),
        Err(_) => Err(Fault::Connect),
    }
}

/// Sends small requests at once, and gives up a receiver that takes nothing.
pub(super) fn tune(stream: &TcpStream) {
    let _ = stream.set_nodelay(true);
    #[cfg(target_os = "linux")]
    let _ = socket2::SockRef::from(stream).set_tcp_user_timeout(Some(super::UNTAKEN));
}
