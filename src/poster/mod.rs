//! Exactly one POST: out go a URL, headers and a body, back comes what the wire said, as an
//! [`Exchange`]. What that means is decided in [`crate::delivery::outcome`].
//!
//! | rule | prevents |
//! |---|---|
//! | one deadline over everything: name, connection, request, answer, body | a receiver that drips a byte now and then holds a slot for ever |
//! | no redirects | credentials and leads that travel to a host which nobody configured |
//! | no retries of the HTTP client's own | duplicates and attempts that nobody counted |
//! | no proxies from the environment | leads that take a way which the settings do not show |
//! | at most 64 KiB of an answer | a body without end that eats memory or bandwidth |
//! | no decompression (none is asked for, none compiled in) | 64 KiB on the wire that grow in memory |
//!
//! A body longer than 64 KiB is cut, and the answer is judged by its status: the receiver has said what it wanted to
//! say. A body that merely stays away or trickles runs into the deadline, which is a timeout whatever the status was.
//!
//! The one thing that the client below repeats is taking a pooled connection that turns out to be closed *before any
//! byte of the request was written*; nothing was sent then, so nothing is sent twice.

mod fault;

mod resolver;

use std::time::{Duration, Instant};

use anyhow::Context;
use bytes::Bytes;
use reqwest::{
    Client, Response,
    header::{HeaderMap, RETRY_AFTER},
};
use url::Url;

use self::resolver::Resolver;
use crate::delivery::outcome::{Answer, Exchange, Fault};

/// Most bytes of an answer's body that are read.
pub const BODY_LIMIT: usize = 64 * 1024;

/// Most bytes of a snippet, counted after decoding.
pub const SNIPPET_LIMIT: usize = 256;

/// How long a connection is kept for the next attempt. Below the five seconds after which common receivers hang up by
/// themselves: a POST that meets a closing connection costs an attempt, a new handshake only milliseconds.
const IDLE_TIMEOUT: Duration = Duration::from_secs(4);

/// Idle connections kept for one host. More than the usual concurrency, so that a busy target is not connected to anew
/// for each POST; they live for [`IDLE_TIMEOUT`] only.
const IDLE_PER_HOST: usize = 1024;

/// How often a shared HTTP/2 connection is asked whether it lives; one dead connection would time out every attempt of
/// its host otherwise.
const HTTP2_PING: Duration = Duration::from_secs(10);

/// Makes POSTs. Cheap to clone; clones share their connections.
#[derive(Clone, Debug)]
pub struct Poster {
    client: Client,
}

impl Poster {
    /// A poster with the system's trusted certificates (`SSL_CERT_FILE` and `SSL_CERT_DIR` are honoured).
    ///
    /// # Errors
    /// When no trusted certificates can be loaded.
    pub fn new() -> anyhow::Result<Poster> {
        let builder = Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .retry(reqwest::retry::never())
            .no_proxy()
            .referer(false)
            .dns_resolver(Resolver)
            .pool_idle_timeout(IDLE_TIMEOUT)
            .pool_max_idle_per_host(IDLE_PER_HOST)
            .http2_initial_stream_window_size(BODY_LIMIT as u32)
            .http2_max_header_list_size(BODY_LIMIT as u32)
            .http2_keep_alive_interval(HTTP2_PING)
            .http2_keep_alive_timeout(HTTP2_PING);
        // The client would give up on a silent host after 30 s, whatever the target's own timeout says.
        #[cfg(target_os = "linux")]
        let builder = builder.tcp_user_timeout(None);
        let client = builder.build().context("cannot set up HTTPS: are the system's CA certificates installed?")?;
        Ok(Poster { client })
    }

    /// Makes one POST and returns what came of it, at the latest after `timeout`. Dropping the future abandons the
    /// exchange and closes its connection (of HTTP/2: its stream).
    ///
    /// User information in the URL becomes basic authorization, unless `headers` hold an authorization.
    pub async fn post(&self, url: &Url, headers: HeaderMap, body: Bytes, timeout: Duration) -> Exchange {
        let started = Instant::now();
        let result = tokio::time::timeout(timeout, self.exchange(url, headers, body)).await;
        Exchange { result: result.unwrap_or(Err(Fault::Timeout)), elapsed: started.elapsed() }
    }

    async fn exchange(&self, url: &Url, headers: HeaderMap, body: Bytes) -> Result<Answer, Fault> {
        let over_tls = url.scheme() == "https";
        let fault = |error| fault::classify(&error, over_tls);
        let response = self.client.post(url.clone()).headers(headers).body(body).send().await.map_err(fault)?;
        let (status, retry_after) = (response.status().as_u16(), retry_after(&response));
        let snippet = snippet(&read_start(response).await.map_err(fault)?);
        Ok(Answer { status, retry_after, snippet })
    }
}

fn retry_after(response: &Response) -> Option<String> {
    response.headers().get(RETRY_AFTER)?.to_str().ok().map(str::to_owned)
}

/// Reads to the end or to the limit, whichever comes first, and keeps what a snippet needs. Beyond the limit the
/// response is dropped, which closes the connection.
async fn read_start(mut response: Response) -> Result<Vec<u8>, reqwest::Error> {
    let (mut start, mut read) = (Vec::new(), 0);
    while read < BODY_LIMIT {
        let Some(chunk) = response.chunk().await? else { break };
        read += chunk.len();
        let wanted = SNIPPET_LIMIT.saturating_sub(start.len()).min(chunk.len());
        start.extend_from_slice(&chunk[..wanted]);
    }
    Ok(start)
}

/// The first bytes as text that a terminal can show: at most [`SNIPPET_LIMIT`] bytes, cut between characters, with
/// blanks for control characters and for those that turn the direction of text.
fn snippet(start: &[u8]) -> Option<String> {
    let unsafe_to_show = |c: char| c.is_control() || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
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
