//! The egress proxy: where it is, and how it is asked for a connection.

use std::net::{IpAddr, SocketAddr};

use bytes::Bytes;
use http::{
    HeaderValue, Request,
    header::{HOST, PROXY_AUTHORIZATION},
};
use http_body_util::Empty;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio_util::task::AbortOnDropHandle;

use super::{dial, fault};
use crate::{
    delivery::outcome::Fault,
    settings::{ProxyUrl, Rotating},
};

/// The egress proxy.
pub(super) struct Proxy(Rotating<ProxyUrl>);

/// Where the proxy is, and what it wants to see.
struct Place {
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

impl Place {
    fn new(url: &ProxyUrl) -> anyhow::Result<Place> {
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
        Ok(Place { host, port, kind })
    }
}

impl Proxy {
    /// From a checked setting.
    pub(super) fn new(url: &Rotating<ProxyUrl>) -> Proxy {
        Proxy(url.clone())
    }

    /// A stream to `host` through the proxy; `address` is what it is given, or `None` for the name.
    ///
    /// # Errors
    /// [`Fault::Connect`] is the proxy's word about the receiver, [`Fault::Proxy`] is about the proxy itself.
    pub(super) async fn connect(&self, host: &str, address: Option<IpAddr>, port: u16) -> Result<TcpStream, Fault> {
        let place = Place::new(&self.0.now()).map_err(|_| Fault::Proxy)?;
        // The proxy is the operator's: it may stand inside, and its name is resolved by the system.
        let stream = TcpStream::connect((place.host.as_str(), place.port)).await;
        let stream = stream.map_err(|error| if fault::is_ours(&error) { Fault::Local } else { Fault::Proxy })?;
        dial::tune(&stream);
        match &place.kind {
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
                Ok(connected.map_err(|error| of_socks(&error))?.into_inner())
            }
        }
    }
}

/// The tunnel that a proxy opens for `CONNECT authority` (RFC 9110, section 9.3.6).
///
/// 403, 502, 503 and 504 are the proxy's word about the receiver. All else that keeps the tunnel away is the proxy's
/// own fault, or is about ourselves (407), and none of the receiver's.
async fn tunnel(stream: TcpStream, authority: &str, authorization: Option<HeaderValue>) -> Result<TcpStream, Fault> {
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(|_| Fault::Proxy)?;
    let connection = AbortOnDropHandle::new(tokio::spawn(connection.with_upgrades()));
    let request = Request::connect(authority).header(HOST, authority).body(Empty::<Bytes>::new());
    let mut request = request.map_err(|_| Fault::UnusableTarget)?;
    if let Some(authorization) = authorization {
        request.headers_mut().insert(PROXY_AUTHORIZATION, authorization);
    }
    let answer = sender.send_request(request).await.map_err(|_| Fault::Proxy)?;
    match answer.status().as_u16() {
        200..=299 => {}
        403 | 502 | 503 | 504 => return Err(Fault::Connect),
        _ => return Err(Fault::Proxy),
    }
    let upgraded = hyper::upgrade::on(answer).await.map_err(|_| Fault::Proxy)?;
    let parts = upgraded.downcast::<TokioIo<TcpStream>>().map_err(|_| Fault::Proxy)?;
    drop(connection);
    // A receiver does not speak before its client, neither in TLS nor in HTTP.
    if parts.read_buf.is_empty() { Ok(parts.io.into_inner()) } else { Err(Fault::Proxy) }
}

fn of_socks(error: &tokio_socks::Error) -> Fault {
    use tokio_socks::Error;
    match error {
        // What the proxy's rules forbid, or its network cannot reach, is a word about the receiver as well (RFC 1928,
        // section 6).
        Error::NetworkUnreachable
        | Error::HostUnreachable
        | Error::ConnectionRefused
        | Error::TtlExpired
        | Error::ConnectionNotAllowedByRuleset
        | Error::AddressTypeNotSupported => Fault::Connect,
        _ => Fault::Proxy,
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
