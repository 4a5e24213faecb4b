//! Makes one POST: takes a URL, headers and a body, and returns what happened on the wire as an [`Exchange`].
//! [`crate::delivery::outcome`] decides what that means.
//!
//! | rule | prevents |
//! |---|---|
//! | every address, literal or not, is judged right before it is dialled (`dial.rs`) | webhooks into our own network |
//! | one deadline for all: name, proxy, connection, request, answer | a dripping receiver that never frees its slot |
//! | the status decides; the body has 2 s after it, and its faults change nothing | a second POST of an accepted lead |
//! | no redirects | credentials and leads that travel to a host which the store does not name |
//! | nothing below repeats a request; the one replacement is here | duplicates, and attempts that are not counted |
//! | no proxies from the environment | leads that take a route which the settings do not show |
//! | at most 64 KiB of headers and 64 KiB of body are read | an endless answer that uses up memory or bandwidth |
//! | no decompression (not requested, not compiled in) | 64 KiB on the wire that grow in memory |
//!
//! The replacement: receivers close idle connections, and a POST may meet a closing one. A reused connection is
//! replaced once, by a new one, if it closes before the first byte of an answer and within 1 s of the request. After a
//! later close the receiver may have taken the lead, so the attempt fails.
//!
//! The client is hyper's own. reqwest is not used: it resolves and dials by itself, and hands names to proxies.

mod connection;
mod dial;
mod fault;
mod oauth;
mod pool;
mod post;
mod proxy;
mod resolver;
mod tls;
mod tune;

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::{
    HeaderMap, HeaderValue, Method, Request,
    header::{ACCEPT, AUTHORIZATION, HOST, LOCATION, RETRY_AFTER},
};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use tokio::sync::watch;
use url::{Position, Url};

pub use self::{connection::HEADER_LIMIT, post::Post, proxy::ProxyOutage};
use self::{
    connection::{Connection, Head},
    dial::{Dial, Route},
    oauth::{Granted, Tokens},
    pool::{Key, Pool},
    proxy::Proxy,
    resolver::Resolver,
};
use crate::{
    delivery::{
        exchange::{Answer, Exchange},
        fault::{Fault, HttpFault, TokenFault},
    },
    egress::{self, Guard},
    settings::{Egress, Tls},
    store::{CaCertificate, ClientCertificate, Oauth2, target::circuit_name},
};

/// The most bytes of an answer's body that are read.
pub const BODY_LIMIT: usize = 64 * 1024;

/// The most bytes of a snippet, counted after decoding.
pub const SNIPPET_LIMIT: usize = 256;

/// How long a body may take once the status is known.
const BODY_PATIENCE: Duration = Duration::from_secs(2);

/// A reused connection that closes within this time of a request counts as closed while idle.
const CLOSED_WHILE_IDLE: Duration = Duration::from_secs(1);

/// Limit for making a connection, whatever the timeout of the exchange that asked for it.
const CONNECT_DEADLINE: Duration = Duration::from_secs(30);

/// Makes POSTs. Cheap to clone; clones share their connections.
#[derive(Clone)]
pub struct Sender(Arc<Inner>);

struct Inner {
    /// For organizations without rules of their own.
    common: Dial,
    /// For organizations with rules of their own.
    own: HashMap<String, Dial>,
    proxy: Option<Arc<Proxy>>,
    tls: tls::Configs,
    pool: Arc<Pool>,
    tokens: Tokens,
    plain_http: bool,
    connect_deadline: Duration,
}

impl Sender {
    /// Makes a sender for these settings. Needs a Tokio runtime.
    ///
    /// # Errors
    /// Fails if no trusted certificates can be loaded, or if `tls.ca_file`, the system's `resolv.conf` or its hosts
    /// file cannot be read.
    pub fn new(egress: &Egress, tls: &Tls) -> anyhow::Result<Sender> {
        Sender::with_deadline(egress, tls, CONNECT_DEADLINE)
    }

    fn with_deadline(egress: &Egress, tls: &Tls, connect_deadline: Duration) -> anyhow::Result<Sender> {
        let resolver = Resolver::new(&egress.name_servers)?;
        let proxy = egress.proxy.as_ref().map(|url| Arc::new(Proxy::new(url)));
        let route = match &proxy {
            None => Route::Direct,
            Some(proxy) => Route::Proxy { proxy: proxy.clone(), resolves: egress.proxy_resolves },
        };
        let dial = |organization| {
            let guard = Guard::new(&egress.allow, &egress.deny, organization);
            Dial::new(guard, resolver.clone(), route.clone())
        };
        let organizations = egress::organizations(egress.allow.iter().chain(&egress.deny));
        Ok(Sender(Arc::new(Inner {
            common: dial(None),
            own: organizations.into_iter().map(|id| (id.to_owned(), dial(Some(id)))).collect(),
            proxy,
            tls: tls::Configs::new(tls)?,
            pool: Pool::start(),
            tokens: Tokens::default(),
            plain_http: egress.plain_http,
            connect_deadline,
        })))
    }

    /// Returns whether no POST can be made now: the egress proxy fails, and its next probe is not due. A POST that is
    /// made anyway ends at once with [`Fault::Proxy`].
    pub fn is_held(&self) -> bool {
        self.0.proxy.as_ref().is_some_and(|proxy| proxy.is_held())
    }

    /// Returns a watch on the outage of the egress proxy, which is `None` while it works. Returns `None` without a
    /// proxy.
    pub fn proxy_outage(&self) -> Option<watch::Receiver<Option<ProxyOutage>>> {
        self.0.proxy.as_ref().map(|proxy| proxy.outage())
    }

    /// Makes one POST and returns its exchange, after `timeout` at the latest. Dropping the future abandons the
    /// exchange and closes its connection.
    pub async fn post(&self, post: Post<'_>, mut headers: HeaderMap, body: Bytes) -> Exchange {
        let started = Instant::now();
        let deadline = started + post.timeout;
        let mut token = None;
        if let Some(credentials) = post.oauth2 {
            // Boxed to keep the futures of attempts without a token small.
            match Box::pin(self.token(post.organization, credentials, deadline)).await {
                Ok(header) => token = Some(header),
                Err(fault) => return Exchange::new(Err(fault), started.elapsed()),
            }
        }
        headers.extend(token.clone().map(|header| (AUTHORIZATION, header)));
        let mut replaced = false;
        let result = match self.0.answer(post, headers, body, deadline, &mut replaced).await {
            Ok((connection, head)) => Ok(self.0.read(post, connection, head, deadline).await),
            Err(fault) => Err(fault),
        };
        if let (Some(credentials), Some(token), Ok(Answer { status: 401, .. })) = (post.oauth2, &token, &result) {
            self.0.tokens.refused(post.organization, credentials, token);
        }
        Exchange { result, elapsed: started.elapsed(), replaced }
    }

    /// Returns the `Authorization` header for an attempt.
    ///
    /// # Errors
    /// [`Fault::Oauth`] if no token arrives by `deadline`. A fault of this machine or of the proxy is returned as it
    /// is.
    async fn token(
        &self,
        organization: &str,
        credentials: &Arc<Oauth2>,
        deadline: Instant,
    ) -> Result<HeaderValue, Fault> {
        let ask = || {
            let (sender, organization, credentials) = (self.clone(), organization.to_owned(), credentials.clone());
            async move { sender.ask_for_token(&organization, &credentials).await }
        };
        self.0.tokens.header(organization, credentials, deadline, ask).await
    }

    async fn ask_for_token(&self, organization: &str, credentials: &Oauth2) -> Result<Granted, Fault> {
        let circuit = circuit_name(organization, &credentials.token_url);
        let post = Post {
            organization,
            url: &credentials.token_url,
            circuit: &circuit,
            client_certificate: None,
            ca_certificate: None,
            oauth2: None,
            timeout: oauth::PATIENCE,
            whole_body: true,
        };
        let headers = oauth::headers(credentials).ok_or(Fault::UnusableTarget)?;
        let deadline = Instant::now() + post.timeout;
        let answered = self.0.answer(post, headers, oauth::form(credentials), deadline, &mut false).await;
        let (connection, head) = answered.map_err(|fault| match fault {
            Fault::Local | Fault::Proxy | Fault::ProxyRefused => fault,
            fault => Fault::Oauth(TokenFault::Failed(fault.label())),
        })?;
        let answer = self.0.read(post, connection, head, deadline).await;
        oauth::granted(&answer).ok_or(Fault::Oauth(TokenFault::Answered(answer.status)))
    }
}

impl Inner {
    /// Sends the request over a waiting connection or a new one, and returns the head of the answer by `deadline`.
    async fn answer(
        &self,
        post: Post<'_>,
        headers: HeaderMap,
        body: Bytes,
        deadline: Instant,
        replaced: &mut bool,
    ) -> Result<(Connection, Head), Fault> {
        let request = request(post.url, headers, body).ok_or(Fault::UnusableTarget)?;
        if post.url.scheme() == "http" && !self.plain_http {
            return Err(Fault::PlainHttp);
        }
        while let Some(mut connection) = self.pool.take(&key(post)) {
            if !connection.is_ready().await {
                continue;
            }
            let sent = Instant::now();
            match connection.send(request.clone(), deadline).await {
                Ok(head) => return Ok((connection, head)),
                Err(broken) if broken.closed_silently && sent.elapsed() < CLOSED_WHILE_IDLE => *replaced = true,
                Err(broken) => return Err(broken.fault),
            }
            break;
        }
        let connecting = async {
            match self.connect(post).await {
                // Closing the connections that wait may free the missing files or ports.
                Err(Fault::Local) if self.pool.clear().await => self.connect(post).await,
                connected => connected,
            }
        };
        let connected = tokio::time::timeout_at(deadline.into(), connecting).await.unwrap_or(Err(Fault::Timeout));
        let mut connection = connected.map_err(|fault| match fault {
            // The first request went out, and the receiver may have read it, so the attempt counts.
            Fault::Local | Fault::Proxy | Fault::ProxyRefused if *replaced => Fault::Http(HttpFault::Closed),
            fault => fault,
        })?;
        let head = connection.send(request, deadline).await.map_err(|broken| broken.fault)?;
        Ok((connection, head))
    }

    async fn connect(&self, post: Post<'_>) -> Result<Connection, Fault> {
        let dial = self.own.get(post.organization).unwrap_or(&self.common);
        let connecting = async {
            let stream = dial.connect(post.url).await?;
            let tls = (post.url.scheme() == "https")
                .then(|| self.tls.of(post.client_certificate, post.ca_certificate))
                .transpose()?;
            Connection::open(stream, tls, post.url.host_str().unwrap_or_default(), post.client_certificate.is_some())
                .await
        };
        tokio::time::timeout(self.connect_deadline, connecting).await.unwrap_or(Err(Fault::Timeout))
    }

    /// Reads the part of the body that is needed, and keeps the connection if the whole body came.
    async fn read(&self, post: Post<'_>, connection: Connection, head: Head, deadline: Instant) -> Answer {
        let (head, body) = match head {
            Head::Whole(response) => response.into_parts(),
            Head::Status(status) => return Answer { status, incomplete: true, ..Answer::default() },
        };
        let mut start = Vec::new();
        let (kept, until) = match post.whole_body && head.status.is_success() {
            true => (BODY_LIMIT, deadline),
            false => (SNIPPET_LIMIT, deadline.min(Instant::now() + BODY_PATIENCE)),
        };
        let end = tokio::time::timeout_at(until.into(), read_start(body, kept, &mut start)).await;
        if let Ok(End::Whole) = end {
            self.pool.keep(key(post), connection, &head.headers);
        }
        Answer {
            status: head.status.as_u16(),
            retry_after: head.headers.get(RETRY_AFTER).and_then(|value| value.to_str().ok()).map(str::to_owned),
            challenge: is_challenge(&head.headers),
            location: location(&head.headers, post.url),
            snippet: snippet(&start[..start.len().min(SNIPPET_LIMIT)]),
            body: post.whole_body.then(|| start.into()),
            incomplete: !matches!(end, Ok(End::Whole)),
        }
    }
}

fn key(post: Post<'_>) -> Key {
    Key {
        circuit: post.circuit.clone(),
        client_certificate: post.client_certificate.map(ClientCertificate::fingerprint),
        ca_certificate: post.ca_certificate.map(CaCertificate::fingerprint),
    }
}

fn request(url: &Url, mut headers: HeaderMap, body: Bytes) -> Option<Request<Full<Bytes>>> {
    // The store refuses credentials in a URL, and an HTTP client would place them where it likes.
    let usable = url.username().is_empty() && url.password().is_none() && matches!(url.scheme(), "http" | "https");
    if !usable {
        return None;
    }
    headers.entry(ACCEPT).or_insert(HeaderValue::from_static("*/*"));
    headers.insert(HOST, HeaderValue::try_from(&url[Position::BeforeHost..Position::AfterPort]).ok()?);
    let mut request = Request::new(Full::new(body));
    *request.method_mut() = Method::POST;
    *request.uri_mut() = url[Position::BeforePath..Position::AfterQuery].parse().ok()?;
    *request.headers_mut() = headers;
    Some(request)
}

/// How a body ended.
enum End {
    /// The whole body came.
    Whole,
    /// The body is longer than [`BODY_LIMIT`], or broke.
    Cut,
}

/// Returns whether a bot protection answered in place of the receiver.
fn is_challenge(answer: &HeaderMap) -> bool {
    let said = answer.get("cf-mitigated").and_then(|value| value.to_str().ok());
    said.is_some_and(|value| value.trim().eq_ignore_ascii_case("challenge"))
}

/// The longest origin that is returned, in bytes: `https://`, a host name, a port.
const ORIGIN_LIMIT: usize = 8 + 253 + 6;

/// Returns scheme, host and port of the `Location`, if it leads to an HTTP server.
fn location(answer: &HeaderMap, from: &Url) -> Option<String> {
    let to = from.join(answer.get(LOCATION)?.to_str().ok()?).ok()?;
    let origin = to.origin().ascii_serialization();
    (matches!(to.scheme(), "http" | "https") && origin.len() <= ORIGIN_LIMIT).then_some(origin)
}

/// Reads to the end or beyond the limit, whichever comes first, and collects the first `kept` bytes in `start`.
async fn read_start(mut body: Incoming, kept: usize, start: &mut Vec<u8>) -> End {
    let mut read = 0;
    while read <= BODY_LIMIT {
        let Some(frame) = body.frame().await else { return End::Whole };
        let Ok(frame) = frame else { return End::Cut };
        let Ok(chunk) = frame.into_data() else { continue };
        read += chunk.len();
        let wanted = kept.saturating_sub(start.len()).min(chunk.len());
        start.extend_from_slice(&chunk[..wanted]);
    }
    End::Cut
}

/// Returns the first bytes as text that a terminal can show: at most [`SNIPPET_LIMIT`] bytes, cut between characters.
/// Blanks replace control characters and characters that turn the direction of text, break lines, or are invisible.
fn snippet(start: &[u8]) -> Option<String> {
    let turns =
        |c| matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    let breaks_or_hides = |c| matches!(c, '\u{2028}' | '\u{2029}' | '\u{e0000}'..='\u{e007f}');
    let unsafe_to_show = |c: char| c.is_control() || turns(c) || breaks_or_hides(c);
    let mut text = String::new();
    for c in String::from_utf8_lossy(start).chars() {
        let c = if unsafe_to_show(c) { ' ' } else { c };
        if text.len() + c.len_utf8() > SNIPPET_LIMIT {
            break;
        }
        text.push(c);
    }
    let text = text.trim();
    (!text.is_empty()).then(|| text.to_owned())
}

#[cfg(test)]
mod tests;
