//! One connection to a receiver: HTTP/1.1 over TCP or TLS, for one exchange at a time.
//!
//! HTTP/2 is not offered. On a shared connection one tenant's open streams block another's, and GOAWAY, REFUSED_STREAM and
//! HTTP_1_1_REQUIRED spend attempts at receivers that are well.
//!
//! Answers are read as leniently as browsers read them: invalid header lines are skipped, blanks before the colon and folded
//! lines are taken, and the number of headers is bounded by their bytes alone. Header names go out in title case, for receivers
//! that compare them by case.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering::Relaxed},
    },
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

/// Most headers of an answer: the shortest has three bytes.
const HEADERS: usize = HEADER_LIMIT / 3;

/// The first bytes of an answer.
const VERSION: &[u8] = b"HTTP/1.";

/// No byte of an answer has come.
const NOTHING: u8 = 0;

/// An answer has begun as HTTP/1 does.
const HTTP: u8 = 1;

/// Something else has begun.
const OTHER: u8 = 2;

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
    pub(super) async fn send(&mut self, request: Request<Full<Bytes>>) -> Result<Response<Incoming>, Broken> {
        self.answer.0.store(NOTHING, Relaxed);
        let answered = self.sender.send_request(request).await;
        answered.map_err(|error| {
            let begun = self.answer.0.load(Relaxed);
            let fault = match fault::of_answer(&error, self.identified) {
                Fault::Http(HttpFault::Malformed) if begun == OTHER => Fault::Http(HttpFault::NotHttp),
                fault => fault,
            };
            Broken { fault, closed_silently: begun == NOTHING && fault::is_closed(&error) }
        })
    }

    /// Closes a connection in good order, which nothing is under way on.
    pub(super) fn close(self) {
        drop(self.sender);
        drop(self.driver.detach());
    }
}

/// How the answer to the latest request began: [`NOTHING`], [`HTTP`] or [`OTHER`].
#[derive(Default)]
struct Beginning(AtomicU8);

impl Beginning {
    fn saw(&self, bytes: &[u8]) {
        if !bytes.is_empty() && self.0.load(Relaxed) == NOTHING {
            let size = bytes.len().min(VERSION.len());
            self.0.store(if bytes[..size] == VERSION[..size] { HTTP } else { OTHER }, Relaxed);
        }
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
