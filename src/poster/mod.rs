//! Exactly one POST: out go a URL, headers and a body, back comes what the wire said, as an
//! [`Exchange`]. What that means is decided in [`crate::delivery::outcome`].
//!
//! | rule | prevents |
//! |---|---|
//! | every address is judged right before it is dialled (`dial.rs`), and the literal ones as well | webhooks into the worker's own network |
//! | one deadline over everything: name, proxy, connection, request, answer, body | a receiver that drips a byte now and then holds a slot for ever |
//! | a deadline for each connection that is made, and for data that nobody takes (`bounded.rs`, `TCP_USER_TIMEOUT`) | a receiver that piles up connections which no exchange waits for |
//! | no redirects | credentials and leads that travel to a host which nobody configured |
//! | no retries of the HTTP client's own | duplicates and attempts that nobody counted |
//! | no proxies from the environment | leads that take a way which the settings do not show |
//! | at most 64 KiB of an answer's headers and 64 KiB of its body | an answer without end that eats memory or bandwidth |
//! | no decompression (none is asked for, none compiled in) | 64 KiB on the wire that grow in memory |
//!
//! A body longer than 64 KiB is cut, and the answer is judged by its status: the receiver has said what it wanted to
//! say. A body that merely stays away or trickles runs into the deadline, which is a timeout whatever the status was.
//!
//! The one thing that the client below repeats is taking a pooled connection that turns out to be closed *before any
//! byte of the request was written*; nothing was sent then, so nothing is sent twice.
//!
//! The client is hyper's own and not reqwest: reqwest resolves and dials by itself, and hands names to proxies.

mod bounded;
mod dial;
mod fault;
mod resolver;
mod tls;

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::{
    HeaderMap, HeaderValue, Method, Request, Response,
    header::{ACCEPT, LOCATION, RETRY_AFTER},
};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_rustls::HttpsConnector;
use hyper_util::{
    client::legacy,
    rt::{TokioExecutor, TokioTimer},
};
use url::Url;

use self::{
    bounded::Bounded,
    dial::{Dial, Proxy},
    resolver::Resolver,
};
use crate::{
    delivery::outcome::{Answer, Exchange, Fault},
    egress::{self, Guard},
    settings::{Egress, Tls},
    store::Identity,
};

/// Most bytes of an answer's body that are read.
pub const BODY_LIMIT: usize = 64 * 1024;

/// Most bytes of an answer's status line and headers.
pub const HEADER_LIMIT: usize = 64 * 1024;

/// Most headers of an answer.
const HEADERS: usize = 100;

/// Most bytes of a snippet, counted after decoding.
pub const SNIPPET_LIMIT: usize = 256;

/// How long a connection is kept for the next attempt. Below the five seconds after which common receivers hang up by
/// themselves: a POST that meets a closing connection costs an attempt, a new handshake only milliseconds.
const IDLE_TIMEOUT: Duration = Duration::from_secs(4);

/// Idle connections kept for one host. More than the usual concurrency, so that a busy target is not connected to anew
/// for each POST; they live for [`IDLE_TIMEOUT`] only.
const IDLE_PER_HOST: usize = 1024;

/// Certificates of ours whose clients are kept.
const IDENTITIES: usize = 1000;

/// For how long a connection is made, whatever the timeout of the exchange that asked for it.
const CONNECT_DEADLINE: Duration = Duration::from_secs(30);

/// For how long what was sent may stay unacknowledged, or find no room at the receiver: the longest timeout that a store allows.
const UNTAKEN: Duration = Duration::from_secs(120);

/// How often a shared HTTP/2 connection is asked whether it lives; one dead connection would time out every attempt of
/// its host otherwise.
const HTTP2_PING: Duration = Duration::from_secs(10);

type Client = legacy::Client<Bounded<HttpsConnector<Dial>>, Full<Bytes>>;

/// Where one POST goes, and as whom.
#[derive(Clone, Copy)]
pub struct Post<'a> {
    /// Under whose rules.
    pub organization: &'a str,
    /// Where to.
    pub url: &'a Url,
    /// Who we are, if the receiver asks.
    pub identity: Option<&'a Identity>,
    /// For the whole exchange.
    pub timeout: Duration,
    /// Whether the answer's body is handed over, up to [`BODY_LIMIT`].
    pub whole_body: bool,
}

/// Makes POSTs. Cheap to clone; clones share their connections.
#[derive(Clone)]
pub struct Poster {
    /// For organizations without rules of their own.
    common: Clients,
    /// For those with: they share no connections, since each was dialled under the rules of one.
    own: Arc<HashMap<String, Clients>>,
    plain_http: bool,
}

/// The clients of one set of rules. Connections that were opened with a certificate of ours serve those who have it.
#[derive(Clone)]
struct Clients {
    dial: Dial,
    tls: rustls::ClientConfig,
    nobody: Arc<Client>,
    /// For one connection.
    deadline: Duration,
    identified: Arc<Mutex<HashMap<[u8; 32], Arc<Client>>>>,
}

impl Clients {
    fn new(dial: Dial, tls: rustls::ClientConfig, deadline: Duration) -> Clients {
        let nobody = Arc::new(client(HttpsConnector::from((dial.clone(), tls.clone())), deadline));
        Clients { dial, tls, nobody, deadline, identified: Arc::default() }
    }

    fn client(&self, identity: Option<&Identity>) -> Arc<Client> {
        let Some(identity) = identity else { return self.nobody.clone() };
        let mut identified = self.identified.lock().unwrap_or_else(PoisonError::into_inner);
        // Certificates are renewed, and the clients of old ones are in no use any more.
        if identified.len() >= IDENTITIES && !identified.contains_key(&identity.print()) {
            identified.clear();
        }
        let connector = || HttpsConnector::from((self.dial.clone(), tls::identified(&self.tls, identity)));
        let made = || Arc::new(client(connector(), self.deadline));
        identified.entry(identity.print()).or_insert_with(made).clone()
    }
}

impl Poster {
    /// A poster that keeps to these settings. The system's trusted certificates are read (`SSL_CERT_FILE` and `SSL_CERT_DIR` are
    /// honoured).
    ///
    /// # Errors
    /// When no trusted certificates can be loaded, or `tls.ca_file` or the system's `resolv.conf` cannot be read.
    pub fn new(egress: &Egress, tls: &Tls) -> anyhow::Result<Poster> {
        Poster::with_deadline(egress, tls, CONNECT_DEADLINE)
    }

    fn with_deadline(egress: &Egress, tls: &Tls, deadline: Duration) -> anyhow::Result<Poster> {
        let tls = tls::config(tls)?;
        let resolver = Resolver::new(&egress.name_servers)?;
        let proxy = egress.proxy.as_ref().map(Proxy::new).transpose()?.map(Arc::new);
        let clients = |organization: Option<&str>| {
            let guard = Guard::new(&egress.allow, &egress.deny, organization);
            let proxy = proxy.clone().map(|proxy| (proxy, egress.proxy_resolves));
            Clients::new(Dial::new(guard, resolver.clone(), proxy), tls.clone(), deadline)
        };
        let organizations = egress::organizations(egress.allow.iter().chain(&egress.deny));
        let own = organizations.into_iter().map(|id| (id.to_owned(), clients(Some(id)))).collect();
        Ok(Poster { common: clients(None), own: Arc::new(own), plain_http: egress.plain_http })
    }

    /// Makes one POST as [`Post`] says and returns what came of it, at the latest after `timeout`. Dropping the future
    /// abandons the exchange and closes its connection (of HTTP/2: its stream).
    pub async fn post(&self, post: Post<'_>, headers: HeaderMap, body: Bytes) -> Exchange {
        let started = Instant::now();
        let result = tokio::time::timeout(post.timeout, self.exchange(post, headers, body)).await;
        Exchange { result: result.unwrap_or(Err(Fault::Timeout)), elapsed: started.elapsed() }
    }

    async fn exchange(&self, post: Post<'_>, headers: HeaderMap, body: Bytes) -> Result<Answer, Fault> {
        let over_tls = post.url.scheme() == "https";
        let request = request(post.url, headers, body).ok_or(Fault::UnusableTarget)?;
        if !over_tls && !self.plain_http {
            return Err(Fault::PlainHttp);
        }
        let client = self.own.get(post.organization).unwrap_or(&self.common).client(post.identity);
        let response = client.request(request).await;
        let response = response.map_err(|error| fault::of_request(&error, over_tls))?;
        let (status, retry_after) = (response.status().as_u16(), retry_after(&response));
        let (challenge, location) = (is_challenge(&response), location(&response, post.url));
        let kept = if post.whole_body { BODY_LIMIT } else { SNIPPET_LIMIT };
        let read = read_start(response.into_body(), kept).await;
        let (start, incomplete) = read.map_err(|error| fault::of_body(&error))?;
        let snippet = snippet(&start[..start.len().min(SNIPPET_LIMIT)]);
        let body = post.whole_body.then(|| start.into());
        Ok(Answer { status, retry_after, snippet, challenge, location, body, incomplete })
    }
}

fn client(connector: HttpsConnector<Dial>, deadline: Duration) -> Client {
    legacy::Client::builder(TokioExecutor::new())
        .timer(TokioTimer::new())
        .pool_timer(TokioTimer::new())
        .pool_idle_timeout(IDLE_TIMEOUT)
        .pool_max_idle_per_host(IDLE_PER_HOST)
        .http1_max_buf_size(HEADER_LIMIT)
        .http1_max_headers(HEADERS)
        .http2_initial_stream_window_size(BODY_LIMIT as u32)
        .http2_max_header_list_size(HEADER_LIMIT as u32)
        .http2_keep_alive_interval(HTTP2_PING)
        .http2_keep_alive_timeout(HTTP2_PING)
        .build(Bounded::new(connector, deadline))
}

fn request(url: &Url, mut headers: HeaderMap, body: Bytes) -> Option<Request<Full<Bytes>>> {
    headers.entry(ACCEPT).or_insert(HeaderValue::from_static("*/*"));
    let mut request = Request::new(Full::new(body));
    *request.method_mut() = Method::POST;
    *request.uri_mut() = dial::uri(url)?;
    *request.headers_mut() = headers;
    Some(request)
}

fn retry_after(response: &Response<Incoming>) -> Option<String> {
    response.headers().get(RETRY_AFTER)?.to_str().ok().map(str::to_owned)
}

/// Whether a bot protection has answered instead of the receiver.
fn is_challenge(response: &Response<Incoming>) -> bool {
    let said = response.headers().get("cf-mitigated").and_then(|value| value.to_str().ok());
    said.is_some_and(|value| value.trim().eq_ignore_ascii_case("challenge"))
}

/// Longest origin that is handed over: `https://`, a host name, a port.
const ORIGIN_LIMIT: usize = 8 + 253 + 6;

/// Scheme, host and port of the `Location`, if it leads to an HTTP server.
fn location(response: &Response<Incoming>, from: &Url) -> Option<String> {
    let to = from.join(response.headers().get(LOCATION)?.to_str().ok()?).ok()?;
    let origin = to.origin().ascii_serialization();
    (matches!(to.scheme(), "http" | "https") && origin.len() <= ORIGIN_LIMIT).then_some(origin)
}

/// Reads to the end or beyond the limit, whichever comes first, and keeps the first bytes. Also says whether the body is longer than
/// the limit. The rest of such a body is dropped, which closes the connection.
async fn read_start(mut body: Incoming, kept: usize) -> Result<(Vec<u8>, bool), hyper::Error> {
    let (mut start, mut read) = (Vec::new(), 0);
    while read <= BODY_LIMIT {
        let Some(frame) = body.frame().await else { return Ok((start, false)) };
        let Ok(chunk) = frame?.into_data() else { continue };
        read += chunk.len();
        let wanted = kept.saturating_sub(start.len()).min(chunk.len());
        start.extend_from_slice(&chunk[..wanted]);
    }
    Ok((start, true))
}

/// The first bytes as text that a terminal can show: at most [`SNIPPET_LIMIT`] bytes, cut between characters, with
/// blanks for control characters and for those that turn the direction of text, break lines, or cannot be seen.
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
