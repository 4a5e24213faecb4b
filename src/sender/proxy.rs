//! The egress proxy: its address, how to connect through it, and when to leave it alone.
//!
//! Without a breaker, each job that comes due would try a proxy that is down, and return to the broker. While the
//! breaker is open, the proxy gets only a probe from time to time, and jobs are deferred.
//!
//! Only faults that cannot be about a receiver count against the proxy: no connection to it, or a connection that
//! breaks before the proxy answers. A slow answer does not count, because the proxy may be dialling a receiver that
//! hangs. A refusal such as 407 does not count either: some proxies give it for receivers that they forbid, so one
//! tenant's URL would close the proxy for all. It counts against the circuit of its target ([`Fault::ProxyRefused`]).

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::{
    HeaderValue, Request,
    header::{HOST, PROXY_AUTHORIZATION},
};
use http_body_util::Empty;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::{net::TcpStream, sync::watch};
use tokio_util::task::AbortOnDropHandle;

use super::{fault, tune::tune};
use crate::{
    delivery::fault::{Fault, HttpFault},
    limits::{Breaker, Signal, breaker},
    os_error,
    settings::{ProxyUrl, Rotating},
};

/// Consecutive faults that open the breaker.
const WINDOW: usize = 4;

/// The longest wait for a TCP connection to the proxy. After a longer one the breaker would open anyway.
const CONNECT_LIMIT: Duration = breaker::SILENCE;

/// The egress proxy.
pub(super) struct Proxy {
    url: Rotating<ProxyUrl>,
    breaker: Mutex<Breaker>,
    outage: watch::Sender<Option<ProxyOutage>>,
}

/// An outage of the proxy, while its breaker is open.
#[derive(Clone, Debug)]
pub struct ProxyOutage {
    /// The proxy's URL, without credentials.
    pub proxy: String,
    /// The latest fault, in words.
    pub why: String,
    /// The time of that fault. The proxy is tried only while jobs wait for it.
    pub seen: Instant,
}

impl fmt::Display for ProxyOutage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ProxyOutage { proxy, why, .. } = self;
        write!(f, "the egress proxy {proxy} does not work, and deliveries wait for it: {why}")
    }
}

/// Why the proxy gives no connection.
enum Trouble {
    /// The proxy fails, for this reason in words.
    Proxy(String),
    /// Another fault, which does not count against the proxy.
    Other(Fault),
}

impl Trouble {
    fn proxy(words: impl Into<String>) -> Trouble {
        Trouble::Proxy(words.into())
    }
}

/// The proxy's address, protocol and credentials.
struct Place {
    host: String,
    port: u16,
    kind: Kind,
}

enum Kind {
    /// HTTP CONNECT (RFC 9110, section 9.3.6), with credentials if there are any.
    Connect(Option<HeaderValue>),
    /// SOCKS 5 (RFC 1928), with user and password (RFC 1929) if there are any.
    Socks(Option<(String, String)>),
}

impl Proxy {
    /// Makes a proxy from a checked setting.
    pub(super) fn new(url: &Rotating<ProxyUrl>) -> Proxy {
        Proxy { url: url.clone(), breaker: Mutex::default(), outage: watch::Sender::new(None) }
    }

    /// Returns whether the proxy must be left alone now: it fails, and no probe is due.
    pub(super) fn is_held(&self) -> bool {
        !self.breaker().may_start(Instant::now())
    }

    /// Returns a watch on its outage, which is `None` while the proxy works.
    pub(super) fn outage(&self) -> watch::Receiver<Option<ProxyOutage>> {
        self.outage.subscribe()
    }

    /// Opens a stream to `host` through the proxy. The proxy gets `address`, or the name if that is `None`.
    ///
    /// # Errors
    /// [`Fault::Connect`] is the proxy's statement about the receiver, [`Fault::Proxy`] is about the proxy itself, and
    /// [`Fault::ProxyRefused`] may be about either.
    pub(super) async fn connect(&self, host: &str, address: Option<IpAddr>, port: u16) -> Result<TcpStream, Fault> {
        let begun = Instant::now();
        {
            let mut breaker = self.breaker();
            if !breaker.may_start(begun) {
                return Err(Fault::Proxy);
            }
            breaker.begin(begun);
        }
        // The deadline of an attempt may drop this request at any time.
        let unanswered = Unanswered { proxy: self, begun };
        let answer = self.ask(begun, host, address, port).await;
        drop(unanswered);
        match answer {
            Ok(stream) => {
                self.end(begun, Signal::Answered, "");
                Ok(stream)
            }
            Err(Trouble::Proxy(why)) => {
                self.end(begun, Signal::Failing, &why);
                Err(Fault::Proxy)
            }
            Err(Trouble::Other(fault)) => {
                let answered = matches!(fault, Fault::Connect | Fault::ProxyRefused | Fault::Http(_));
                let signal = if answered { Signal::Answered } else { Signal::Nothing };
                self.end(begun, signal, "");
                Err(fault)
            }
        }
    }

    async fn ask(&self, begun: Instant, host: &str, address: Option<IpAddr>, port: u16) -> Result<TcpStream, Trouble> {
        let place = Place::new(&self.url.now()).map_err(|_| Trouble::proxy("its URL cannot be used"))?;
        // The proxy is the operator's: it may be in the internal network, and the system resolves its name.
        let connecting = TcpStream::connect((place.host.as_str(), place.port));
        let connected = tokio::time::timeout(CONNECT_LIMIT, connecting).await;
        let stream = connected
            .map_err(|_| Trouble::proxy(format!("no connection within {} s", CONNECT_LIMIT.as_secs())))?
            .map_err(|error| match fault::is_ours(&error) {
                true => Trouble::Other(Fault::Local),
                false => Trouble::Proxy(os_error::words(&error)),
            })?;
        // The proxy accepts connections. A receiver may cause any delay from here on, so it does not count as silence.
        self.end(begun, Signal::Nothing, "");
        tune(&stream);
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

    fn end(&self, begun: Instant, signal: Signal, why: &str) {
        let mut breaker = self.breaker();
        breaker.end(begun, signal, WINDOW, Instant::now());
        // Still under the lock, so that the last update agrees with the breaker.
        self.outage.send_if_modified(|outage| match signal {
            _ if breaker.is_closed() => outage.take().is_some(),
            Signal::Failing => {
                let proxy = self.url.last().to_string();
                *outage = Some(ProxyOutage { proxy, why: why.to_owned(), seen: Instant::now() });
                true
            }
            Signal::Answered | Signal::Error | Signal::Paused(_) | Signal::Nothing => false,
        });
    }

    fn breaker(&self) -> MutexGuard<'_, Breaker> {
        self.breaker.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A request to the proxy. If it is dropped without an answer, it counts neither as a failure nor as silence.
struct Unanswered<'a> {
    proxy: &'a Proxy,
    begun: Instant,
}

impl Drop for Unanswered<'_> {
    fn drop(&mut self) {
        self.proxy.end(self.begun, Signal::Nothing, "");
    }
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

/// Opens a tunnel with `CONNECT authority` (RFC 9110, section 9.3.6).
///
/// 403, 502, 503 and 504 are the proxy's statement about the receiver. Other refusals may be about ourselves (407) or
/// the receiver. Everything else that prevents the tunnel is the proxy's own fault.
async fn tunnel(stream: TcpStream, authority: &str, authorization: Option<HeaderValue>) -> Result<TcpStream, Trouble> {
    let broken = |_| Trouble::proxy("it closed the connection, or does not speak HTTP");
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(broken)?;
    let connection = AbortOnDropHandle::new(tokio::spawn(connection.with_upgrades()));
    let request = Request::connect(authority).header(HOST, authority).body(Empty::<Bytes>::new());
    let mut request = request.map_err(|_| Trouble::Other(Fault::UnusableTarget))?;
    if let Some(authorization) = authorization {
        request.headers_mut().insert(PROXY_AUTHORIZATION, authorization);
    }
    let answer = sender.send_request(request).await.map_err(broken)?;
    match answer.status().as_u16() {
        200..=299 => {}
        403 | 502 | 503 | 504 => return Err(Trouble::Other(Fault::Connect)),
        _ => return Err(Trouble::Other(Fault::ProxyRefused)),
    }
    let upgraded = hyper::upgrade::on(answer).await.map_err(broken)?;
    let parts = upgraded.downcast::<TokioIo<TcpStream>>().map_err(|_| Trouble::proxy("it opened no tunnel"))?;
    drop(connection);
    // A server that sends before its client does not speak TLS or HTTP; a mail server is an example.
    match parts.read_buf.is_empty() {
        true => Ok(parts.io.into_inner()),
        false => Err(Trouble::Other(Fault::Http(HttpFault::NotHttp))),
    }
}

fn of_socks(error: &tokio_socks::Error) -> Trouble {
    use tokio_socks::Error;
    match error {
        // The receiver is also the cause if the proxy's rules forbid it, or its network cannot reach it (RFC 1928,
        // section 6).
        Error::NetworkUnreachable
        | Error::HostUnreachable
        | Error::ConnectionRefused
        | Error::TtlExpired
        | Error::ConnectionNotAllowedByRuleset
        | Error::AddressTypeNotSupported => Trouble::Other(Fault::Connect),
        Error::PasswordAuthFailure(_) | Error::NoAcceptableAuthMethods | Error::GeneralSocksServerFailure => {
            Trouble::Other(Fault::ProxyRefused)
        }
        _ => Trouble::proxy("it closed the connection, or does not speak SOCKS 5"),
    }
}

fn basic(user: &str, password: &str) -> anyhow::Result<HeaderValue> {
    use base64::{Engine, prelude::BASE64_STANDARD};
    let mut value = HeaderValue::try_from(format!("Basic {}", BASE64_STANDARD.encode(format!("{user}:{password}"))))?;
    value.set_sensitive(true);
    Ok(value)
}

fn percent_decoded(text: &str) -> String {
    // Decodes as in a query, except that a plus stays a plus.
    let pair = format!("v={}", text.replace('+', "%2B").replace('&', "%26").replace('=', "%3D"));
    url::form_urlencoded::parse(pair.as_bytes()).next().map_or_else(String::new, |(_, value)| value.into_owned())
}
