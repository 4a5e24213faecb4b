//! One connection to a receiver: HTTP/1.1 over TCP or TLS, for one exchange at a time.
//!
//! HTTP/2 is not offered. On a shared connection one tenant's open streams block another's, and GOAWAY, REFUSED_STREAM and
//! HTTP_1_1_REQUIRED spend attempts at receivers that are well.
//!
//! Answers are read as leniently as browsers read them: invalid header lines are skipped, blanks before the colon and folded
//! lines are taken, and the number of headers is bounded by their bytes alone. Where hyper cannot make sense of a head, its status
//! counts all the same. Header names go out in title case, for receivers that compare them by case.

use std::{
    io,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
    time::Instant,
};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use hyper::{
    body::Incoming,
    client::conn::http1::{Builder, SendRequest},
};
use hyper_util::rt::TokioIo;
use rustls::{ClientConfig, pki_types::ServerName};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};
use tokio_rustls::TlsConnector;
use tokio_util::{either::Either, task::AbortOnDropHandle};

use super::{HEADER_LIMIT, fault};
use crate::delivery::outcome::{Fault, HttpFault};

/// Headers of an answer that are looked at. Of an answer with more, the status counts. hyper fills a list of as many for each answer.
const HEADERS: usize = 256;

/// The beginning of an answer, up to what stands behind the status.
const BEGINNING: usize = "HTTP/1.1 200 ".len();

/// What every answer begins with.
const VERSION: &[u8] = b"HTTP/1.";

/// What came in answer to a request.
pub(super) enum Head {
    /// Status line and headers.
    Whole(Response<Incoming>),
    /// The status, before lines that contradict each other or HTTP.
    Status(u16),
}

/// An exchange without an answer.
pub(super) struct Broken {
    /// What it is for the history.
    pub(super) fault: Fault,
    /// The connection was closed, and no byte of an answer had come.
    pub(super) closed_silently: bool,
}

/// Dropping it closes the connection at once.
pub(super) struct Connection {
    sender: SendRequest<Full<Bytes>>,
    driver: AbortOnDropHandle<()>,
    answer: Arc<Beginning>,
    /// Whether the receiver was asked for who it is, and by whom.
    identified: bool,
    pub(super) made: Instant,
}

impl Connection {
    /// Takes up HTTP on a stream, after TLS with `host` if there is a config for it. `identified`: the config has a certificate
    /// of ours.
    ///
    /// # Errors
    /// Those of TLS.
    pub(super) async fn open(
        stream: TcpStream,
        tls: Option<Arc<ClientConfig>>,
        host: &str,
        identified: bool,
    ) -> Result<Connection, Fault> {
        let stream = match tls {
            None => Either::Right(stream),
            Some(config) => {
                let name = ServerName::try_from(host.trim_matches(['[', ']']).to_owned());
                let name = name.map_err(|_| Fault::UnusableTarget)?;
                let connecting = TlsConnector::from(config).connect(name, stream).await;
                Either::Left(connecting.map_err(|error| fault::of_handshake(&error, identified))?)
            }
        };
        let answer = Arc::new(Beginning::default());
        let stream = TokioIo::new(Watched { stream, answer: answer.clone() });
        let mut builder = Builder::new();
        builder
            .title_case_headers(true)
            .allow_spaces_after_header_name_in_responses(true)
            .allow_obsolete_multiline_headers_in_responses(true)
            .ignore_invalid_headers_in_responses(true)
            .max_headers(HEADERS)
            .max_header_size(HEADER_LIMIT)
            .max_buf_size(HEADER_LIMIT);
        let (sender, connection) = builder.handshake(stream).await.map_err(|_| Fault::Connect)?;
        let driver = AbortOnDropHandle::new(tokio::spawn(async move { drop(connection.await) }));
        Ok(Connection { sender, driver, answer, identified, made: Instant::now() })
    }

    /// Waits until the exchange before is over. `false`: the connection is closed, and nothing can be sent over it.
    pub(super) async fn is_ready(&mut self) -> bool {
        self.sender.ready().await.is_ok()
    }

    /// Sends a request and waits for the head of its answer.
    pub(super) async fn send(&mut self, request: Request<Full<Bytes>>) -> Result<Head, Broken> {
        let error = match self.sender.send_request(request).await {
            Ok(response) => return Ok(Head::Whole(response)),
            Err(error) => error,
        };
        let fault = match fault::of_answer(&error, self.identified) {
            // hyper says the same of too many lines.
            Fault::Http(HttpFault::HeaderTooLarge) if self.answer.size() < HEADER_LIMIT => {
                Fault::Http(HttpFault::Malformed)
            }
            fault => fault,
        };
        match (self.answer.how_it_began(), fault) {
            (Began::Http(Some(status)), Fault::Http(HttpFault::Malformed)) => Ok(Head::Status(status)),
            (Began::Otherwise, Fault::Http(_)) => {
                Err(Broken { fault: Fault::Http(HttpFault::NotHttp), closed_silently: false })
            }
            (began, fault) => Err(Broken { fault, closed_silently: began == Began::Not && fault::is_closed(&error) }),
        }
    }

    /// Makes ready for the next request. What comes before it is no answer.
    pub(super) fn rest(&self) {
        self.answer.forget();
    }

    /// Closes a connection in good order, which nothing is under way on.
    pub(super) fn close(self) {
        drop(self.sender);
        drop(self.driver.detach());
    }
}

/// How an answer began.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Began {
    Not,
    /// As HTTP/1 does; the status, unless it is missing or announces another one (RFC 9110, section 15.2).
    Http(Option<u16>),
    Otherwise,
}

/// The first bytes since the connection was made or came to rest, and how many there were in all.
#[derive(Default)]
struct Beginning(Mutex<(Vec<u8>, usize)>);

impl Beginning {
    fn saw(&self, bytes: &[u8]) {
        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (beginning, size) = &mut *seen;
        let wanted = (BEGINNING - beginning.len()).min(bytes.len());
        beginning.extend_from_slice(&bytes[..wanted]);
        *size += bytes.len();
    }

    fn forget(&self) {
        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (beginning, size) = &mut *seen;
        beginning.clear();
        *size = 0;
    }

    fn size(&self) -> usize {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).1
    }

    fn how_it_began(&self) -> Began {
        let (beginning, _) = &*self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let size = beginning.len().min(VERSION.len());
        if beginning.is_empty() {
            Began::Not
        } else if beginning[..size] != VERSION[..size] {
            Began::Otherwise
        } else {
            Began::Http(status_in(beginning).filter(|status| (200..600).contains(status)))
        }
    }
}

/// Three digits between a blank and what is no digit.
fn status_in(beginning: &[u8]) -> Option<u16> {
    match *beginning.get(VERSION.len() + 1..)? {
        [b' ', a, b, c, end] if !end.is_ascii_digit() => str::from_utf8(&[a, b, c]).ok()?.parse().ok(),
        _ => None,
    }
}

/// A stream that notes how answers begin.
struct Watched<S> {
    stream: S,
    answer: Arc<Beginning>,
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = into.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(cx, into);
        self.answer.saw(&into.filled()[before..]);
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bytes)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
