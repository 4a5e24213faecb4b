//! One connection to a receiver: HTTP/1.1 over TCP or TLS, for one exchange at a time.
//!
//! HTTP/2 is not offered. On a shared connection one tenant's open streams block another's, and GOAWAY, REFUSED_STREAM
//! and HTTP_1_1_REQUIRED spend attempts at healthy receivers.
//!
//! Answers are read as leniently as browsers read them: invalid header lines are skipped, and blanks before the colon
//! and folded lines are accepted. Once the status line has come, the status counts, whatever the headers are. With more
//! than 100 headers, only the status counts: hyper fills a list for each answer. A list for all headers that fit into
//! [`HEADER_LIMIT`] would cost half as much as the rest of a delivery. Header names are sent in title case, for
//! receivers that compare them by case.

use std::{
    io,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
    time::{Duration, Instant},
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

use super::fault;
use crate::delivery::fault::{Fault, HttpFault};

/// The most bytes of an answer's status line and headers.
pub const HEADER_LIMIT: usize = 64 * 1024;

/// How long to wait for the end of the previous exchange. hyper needs a moment. A receiver that answers early and stops
/// reading the request would keep the next one waiting.
const READY: Duration = Duration::from_millis(250);

/// The beginning of every answer.
const VERSION: &[u8] = b"HTTP/1.";

/// The beginning of a status line, up to the byte after the status.
const BEGINNING: usize = "HTTP/1.1 200 ".len();

/// The head of an answer.
pub(super) enum Head {
    /// Status line and headers.
    Whole(Response<Incoming>),
    /// The status alone: the rest was cut, too slow, too long, or contradicted itself or HTTP.
    Status(u16),
}

/// An exchange without an answer.
pub(super) struct Broken {
    /// The fault for the history.
    pub(super) fault: Fault,
    /// Whether the connection was closed before any byte of an answer had come.
    pub(super) closed_silently: bool,
}

/// An open connection. Dropping it closes it at once.
pub(super) struct Connection {
    sender: SendRequest<Full<Bytes>>,
    driver: AbortOnDropHandle<()>,
    answer: Arc<Beginning>,
    /// Whether the TLS config has a client certificate.
    identified: bool,
    pub(super) opened: Instant,
}

impl Connection {
    /// Starts HTTP on a stream, after a TLS handshake with `host` if there is a config for it. `identified`: the config
    /// has a client certificate.
    ///
    /// # Errors
    /// Fails with a fault of TLS.
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
                Either::Left(connecting.map_err(|error| fault::classify_handshake(&error, identified))?)
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
            .max_header_size(HEADER_LIMIT)
            .max_buf_size(HEADER_LIMIT);
        let (sender, connection) = builder.handshake(stream).await.map_err(|_| Fault::Connect)?;
        let driver = AbortOnDropHandle::new(tokio::spawn(async move { drop(connection.await) }));
        Ok(Connection { sender, driver, answer, identified, opened: Instant::now() })
    }

    /// Returns whether the connection is open and no exchange is in progress, after [`READY`] at most.
    pub(super) async fn is_ready(&mut self) -> bool {
        self.sender.is_ready() || matches!(tokio::time::timeout(READY, self.sender.ready()).await, Ok(Ok(())))
    }

    /// Sends a request and waits for the head of its answer until `deadline`.
    pub(super) async fn send(&mut self, request: Request<Full<Bytes>>, deadline: Instant) -> Result<Head, Broken> {
        let answering = self.sender.send_request(request);
        let error = match tokio::time::timeout_at(deadline.into(), answering).await {
            Ok(Ok(response)) => return Ok(Head::Whole(response)),
            Ok(Err(error)) => Some(error),
            Err(_) => None,
        };
        let began = self.answer.how_it_began();
        if let Began::Http(Some(status)) = began {
            return Ok(Head::Status(status));
        }
        let Some(error) = error else { return Err(Broken { fault: Fault::Timeout, closed_silently: false }) };
        let fault = match (began, fault::classify_answer(&error, self.identified)) {
            (Began::Otherwise, Fault::Http(_)) => Fault::Http(HttpFault::NotHttp),
            (_, fault) => fault,
        };
        Err(Broken { fault, closed_silently: began == Began::Not && fault::is_closed(&error) })
    }

    /// Prepares for the next request: bytes that come before it belong to no answer.
    pub(super) fn mark_idle(&self) {
        self.answer.forget();
    }

    /// Closes the connection, and returns when its file descriptor is free.
    pub(super) async fn abort(self) {
        self.driver.abort();
        let _ = self.driver.await;
    }

    /// Closes a connection in good order. No exchange may be in progress on it.
    pub(super) fn close(self) {
        drop(self.sender);
        drop(self.driver.detach());
    }
}

/// How an answer began.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Began {
    Not,
    /// As in HTTP/1. Holds the status once the whole status line has come. An interim status (1xx, RFC 9110, section
    /// 15.2) is not an answer.
    Http(Option<u16>),
    Otherwise,
}

/// Follows the bytes since the connection was opened or marked idle, up to the first status line.
#[derive(Default)]
struct Beginning(Mutex<Line>);

#[derive(Default)]
struct Line {
    any: bool,
    /// The first bytes of a status line, at most [`BEGINNING`].
    first: Vec<u8>,
    reading: Reading,
}

/// The part of the answer that the next byte belongs to.
#[derive(Clone, Copy, Default, PartialEq)]
enum Reading {
    #[default]
    Beginning,
    /// The rest of a status line.
    Rest(Option<u16>),
    /// The headers of an interim answer. True if a line has just ended.
    Interim(bool),
    /// Nothing more is read: the status line has come.
    Status(Option<u16>),
    /// Nothing more is read: the bytes are not HTTP.
    Otherwise,
}

impl Beginning {
    fn saw(&self, bytes: &[u8]) {
        let mut line = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        line.any |= !bytes.is_empty();
        for byte in bytes {
            if matches!(line.reading, Reading::Status(_) | Reading::Otherwise) {
                return;
            }
            line.take(*byte);
        }
    }

    fn forget(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Line::default();
    }

    fn how_it_began(&self) -> Began {
        let line = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match line.reading {
            _ if !line.any => Began::Not,
            Reading::Status(status) => Began::Http(status),
            Reading::Otherwise => Began::Otherwise,
            Reading::Beginning | Reading::Rest(_) | Reading::Interim(_) => Began::Http(None),
        }
    }
}

impl Line {
    fn take(&mut self, byte: u8) {
        self.reading = match (self.reading, byte) {
            (Reading::Beginning, b'\r' | b'\n') if self.first.is_empty() => Reading::Beginning,
            (Reading::Beginning, _) => {
                self.first.push(byte);
                let begun = self.first.len().min(VERSION.len());
                match () {
                    () if self.first[..begun] != VERSION[..begun] => Reading::Otherwise,
                    () if byte == b'\n' => Reading::Status(status_in(&self.first)),
                    () if self.first.len() == BEGINNING => Reading::Rest(status_in(&self.first)),
                    () => Reading::Beginning,
                }
            }
            (Reading::Rest(Some(100 | 102..200)), b'\n') => Reading::Interim(true),
            (Reading::Rest(status), b'\n') => Reading::Status(status),
            (Reading::Interim(true), b'\n') => {
                self.first.clear();
                Reading::Beginning
            }
            (Reading::Interim(_), b'\n') => Reading::Interim(true),
            (Reading::Interim(ended), b'\r') => Reading::Interim(ended),
            (Reading::Interim(_), _) => Reading::Interim(false),
            (reading, _) => reading,
        };
    }
}

/// Returns the status in a status line: three digits between a blank and a byte that is not a digit.
fn status_in(first: &[u8]) -> Option<u16> {
    match *first.get(VERSION.len() + 1..)? {
        [b' ', a, b, c, end] if !end.is_ascii_digit() => str::from_utf8(&[a, b, c]).ok()?.parse().ok(),
        _ => None,
    }
    .filter(|status| (100..600).contains(status))
}

/// A stream that records how answers begin.
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
