//! From a URL to a connection: the only place that connects to receivers.
//!
//! Names are resolved and every address is judged right before one of them is dialled, for each new connection; nothing else
//! dials, so neither a literal address nor another answer of the same name server passes by. A connection that is used again was
//! dialled under the same rules, since clients of other rules share no connections.

use std::{
    error::Error,
    net::{IpAddr, SocketAddr},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{
    HeaderValue, Request, Uri,
    header::{HOST, PROXY_AUTHORIZATION},
};
use http_body_util::Empty;
use hyper::client::conn::http1;
use hyper_util::{
    client::legacy::connect::{HttpConnector, dns::Name},
    rt::TokioIo,
};
use tokio::net::TcpStream;
use tower_service::Service;
use url::Url;

use super::resolver::{Resolver, literal};
use crate::{egress::Guard, settings::ProxyUrl};

type Problem = Box<dyn Error + Send + Sync>;

/// Connects to the hosts of URLs. Cheap to clone.
#[derive(Clone)]
pub(super) struct Dial {
    guard: Arc<Guard>,
    resolver: Resolver,
    route: Route,
}

/// How a receiver is reached.
#[derive(Clone)]
pub(super) enum Route {
    /// Straight to the receiver.
    Direct(HttpConnector<Judged>),
    /// Through a proxy.
    Proxy {
        proxy: Arc<Proxy>,
        /// It is given the name as it stands.
        resolves: bool,
    },
}

/// Where the proxy is, and what it wants to see.
pub(super) struct Proxy {
    host: String,
    port: u16,
    kind: Kind,
}

enum Kind {
    /// HTTP CONNECT, RFC 9110 section 9.3.6.
    Connect(Option<HeaderValue>),
    /// SOCKS 5, RFC 1928, with user and password (RFC 1929) if there are any.
    Socks(Option<(String, String)>),
}

/// The proxy could not be used, or would not connect for a reason of its own.
#[derive(Debug, thiserror::Error)]
#[error("the egress proxy cannot be used")]
pub(super) struct ProxyFailed {
    #[source]
    source: Option<Problem>,
}

/// The proxy worked, and could not reach the receiver.
#[derive(Debug, thiserror::Error)]
#[error("the proxy cannot reach the receiver")]
pub(super) struct Unreachable;

impl Proxy {
    /// From a checked setting.
    pub(super) fn new(url: &ProxyUrl) -> anyhow::Result<Proxy> {
        let url = url.expose();
        let decoded = |text: &str| percent_decoded(text);
        let user =
            (!url.username().is_empty()).then(|| (decoded(url.username()), decoded(url.password().unwrap_or(""))));
        let kind = match url.scheme() {
            "socks5" => Kind::Socks(user),
            _ => Kind::Connect(user.map(|(user, password)| basic(&user, &password)).transpose()?),
        };
        let port = url.port().unwrap_or(if url.scheme() == "socks5" { 1080 } else { 80 });
        let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']).to_owned();
        Ok(Proxy { host, port, kind })
    }

    /// A stream to `host` through the proxy; `address` is what it is given, or `None` for the name.
    async fn connect(&self, host: &str, address: Option<IpAddr>, port: u16) -> Result<TokioIo<TcpStream>, Problem> {
        let failed = |source: Problem| ProxyFailed { source: Some(source) };
        // The proxy is the operator's: it may stand inside, and its name is resolved by the system.
        let stream = TcpStream::connect((self.host.as_str(), self.port)).await.map_err(|error| failed(error.into()))?;
        let _ = stream.set_nodelay(true);
        #[cfg(target_os = "linux")]
        let _ = socket2::SockRef::from(&stream).set_tcp_user_timeout(Some(super::UNTAKEN));
        match &self.kind {
            Kind::Connect(authorization) => {
                let host = match address {
                    Some(address) => SocketAddr::new(address, port).to_string(),
                    None => format!("{host}:{port}"),
                };
                tunnel(stream, &host, authorization.clone()).await
            }
            Kind::Socks(user) => {
                let target = match address {
                    Some(address) => tokio_socks::TargetAddr::Ip(SocketAddr::new(address, port)),
                    None => tokio_socks::TargetAddr::Domain(host.into(), port),
                };
                let connected = match user {
                    None => tokio_socks::tcp::Socks5Stream::connect_with_socket(stream, target).await,
                    Some((user, password)) => {
                        let connecting = tokio_socks::tcp::Socks5Stream::connect_with_password_and_socket(
                            stream, target, user, password,
                        );
                        connecting.await
                    }
                };
                Ok(TokioIo::new(connected.map_err(socks_problem)?.into_inner()))
            }
        }
    }
}

/// The tunnel that a proxy opens for `CONNECT authority` (RFC 9110, section 9.3.6).
///
/// 403, 502, 503 and 504 are the proxy's word about the receiver; whatever else keeps the tunnel away is the proxy's own fault, or
/// is about ourselves (407), and none of the receiver's.
async fn tunnel(
    stream: TcpStream,
    authority: &str,
    authorization: Option<HeaderValue>,
) -> Result<TokioIo<TcpStream>, Problem> {
    let failed = |source: Problem| ProxyFailed { source: Some(source) };
    let (mut sender, connection) =
        http1::handshake(TokioIo::new(stream)).await.map_err(|error| failed(error.into()))?;
    let connection = tokio::spawn(connection.with_upgrades());
    let mut request = Request::connect(authority).header(HOST, authority).body(Empty::<Bytes>::new())?;
    if let Some(authorization) = authorization {
        request.headers_mut().insert(PROXY_AUTHORIZATION, authorization);
    }
    let answer = sender.send_request(request).await.map_err(|error| failed(error.into()));
    let upgraded = match answer {
        Ok(answer) if answer.status().is_success() => {
            hyper::upgrade::on(answer).await.map_err(|error| failed(error.into()))
        }
        Ok(answer) => {
            connection.abort();
            return match answer.status().as_u16() {
                403 | 502 | 503 | 504 => Err(Unreachable.into()),
                _ => Err(ProxyFailed { source: None }.into()),
            };
        }
        Err(error) => Err(error),
    };
    let upgraded = upgraded.inspect_err(|_| connection.abort())?;
    let parts = upgraded.downcast::<TokioIo<TcpStream>>().map_err(|_| ProxyFailed { source: None })?;
    // Nobody speaks before the client, neither in TLS nor in HTTP.
    if parts.read_buf.is_empty() { Ok(parts.io) } else { Err(ProxyFailed { source: None }.into()) }
}

fn socks_problem(error: tokio_socks::Error) -> Problem {
    use tokio_socks::Error;
    match error {
        // What the proxy's rules forbid, or its network cannot reach, is a word about the receiver as well (RFC 1928, section 6).
        Error::NetworkUnreachable
        | Error::HostUnreachable
        | Error::ConnectionRefused
        | Error::TtlExpired
        | Error::ConnectionNotAllowedByRuleset
        | Error::AddressTypeNotSupported => Unreachable.into(),
        other => ProxyFailed { source: Some(other.into()) }.into(),
    }
}

fn basic(user: &str, password: &str) -> anyhow::Result<HeaderValue> {
    use base64::{Engine, prelude::BASE64_STANDARD};
    let mut value = HeaderValue::try_from(format!("Basic {}", BASE64_STANDARD.encode(format!("{user}:{password}"))))?;
    value.set_sensitive(true);
    Ok(value)
}

fn percent_decoded(text: &str) -> String {
    // What a query would be decoded to, but that a plus stands for itself.
    let pair = format!("v={}", text.replace('+', "%2B").replace('&', "%26").replace('=', "%3D"));
    url::form_urlencoded::parse(pair.as_bytes()).next().map_or_else(String::new, |(_, value)| value.into_owned())
}

impl Dial {
    /// Dials under the rules of `guard`.
    pub(super) fn new(guard: Guard, resolver: Resolver, proxy: Option<(Arc<Proxy>, bool)>) -> Dial {
        let guard = Arc::new(guard);
        let route = match proxy {
            Some((proxy, resolves)) => Route::Proxy { proxy, resolves },
            None => {
                let judged = Judged { guard: guard.clone(), resolver: resolver.clone() };
                let mut connector = HttpConnector::new_with_resolver(judged);
                connector.enforce_http(false);
                connector.set_nodelay(true);
                // The target's own timeout covers connecting, and [`super::bounded`].
                connector.set_connect_timeout(None);
                #[cfg(target_os = "linux")]
                connector.set_tcp_user_timeout(Some(super::UNTAKEN));
                Route::Direct(connector)
            }
        };
        Dial { guard, resolver, route }
    }
}

impl Service<Uri> for Dial {
    type Response = TokioIo<TcpStream>;
    type Error = Problem;
    type Future = Pin<Box<dyn Future<Output = Result<TokioIo<TcpStream>, Problem>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Problem>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let Dial { guard, resolver, route } = self.clone();
        Box::pin(async move {
            let host = uri.host().unwrap_or_default().to_owned();
            match route {
                Route::Direct(mut connector) => {
                    // The connector asks its resolver about names only.
                    if let Some(address) = literal(&host) {
                        guard.judge(&host, address).map_err(super::resolver::Forbidden)?;
                    }
                    std::future::poll_fn(|cx| connector.poll_ready(cx)).await?;
                    Ok(connector.call(uri).await?)
                }
                Route::Proxy { proxy, resolves } => {
                    let port = uri.port_u16().unwrap_or(if uri.scheme_str() == Some("http") { 80 } else { 443 });
                    if resolves && literal(&host).is_none() {
                        guard.judge_name(&host).map_err(super::resolver::Forbidden)?;
                        return proxy.connect(&host, None, port).await;
                    }
                    let addresses = resolver.addresses(&host, &guard).await?;
                    let mut problem: Option<Problem> = None;
                    for address in addresses {
                        match proxy.connect(&host, Some(address), port).await {
                            Err(error) if error.is::<Unreachable>() => problem = Some(error),
                            ended => return ended,
                        }
                    }
                    Err(problem.unwrap_or_else(|| Unreachable.into()))
                }
            }
        })
    }
}

/// The resolver of the direct way: names to addresses that may be dialled.
#[derive(Clone)]
pub(super) struct Judged {
    guard: Arc<Guard>,
    resolver: Resolver,
}

impl Service<Name> for Judged {
    type Response = std::vec::IntoIter<SocketAddr>;
    type Error = Problem;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Problem>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Problem>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, name: Name) -> Self::Future {
        let Judged { guard, resolver } = self.clone();
        Box::pin(async move {
            let addresses = resolver.addresses(name.as_str(), &guard).await?;
            // The connector puts the URL's port in.
            let sockets: Vec<_> = addresses.into_iter().map(|address| SocketAddr::new(address, 0)).collect();
            Ok(sockets.into_iter())
        })
    }
}

/// Scheme, host, port, path and query of a URL, as the HTTP client takes them.
pub(super) fn uri(url: &Url) -> Option<Uri> {
    // Credentials do not belong into a URL (the store refuses them), and a client would put them into places of its own.
    let bare = url.username().is_empty() && url.password().is_none();
    let http = matches!(url.scheme(), "http" | "https") && url.has_host();
    (bare && http).then(|| url[..url::Position::AfterQuery].parse().ok()).flatten()
}
