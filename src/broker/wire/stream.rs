//! The stream that lapin reads, behind a [`Filter`], and a runtime that gives it to lapin: tokio with our stream.

use std::{
    io::{self, Read, Write},
    net::SocketAddr,
    pin::Pin,
    sync::{Arc, OnceLock},
    task::{Context, Poll, ready},
    time::{Duration, Instant},
};

use async_rs::{
    Runtime, Tokio, TokioRuntime,
    traits::{Executor, Reactor, RuntimeKit},
    util::Task,
};
use futures::{
    Stream,
    io::{AsyncRead, AsyncWrite, IoSlice, IoSliceMut},
};
use lapin::{
    Connection, ConnectionProperties,
    tcp::{AMQPUriTcpExt, AsyncTcpStream, OwnedTLSConfig},
    uri::AMQPUri,
};

use super::{filter::Filter, marks::Marks};
use crate::broker::preflight::{Greeting, Listener};

/// Connects as lapin itself does, TLS included, with a filter in between.
pub(in crate::broker) async fn connect(
    address: &str,
    properties: ConnectionProperties,
    tls: OwnedTLSConfig,
) -> lapin::Result<(Connection, Arc<Marks>, Option<Greeting>)> {
    let uri: AMQPUri = address.parse().map_err(|error: String| io::Error::new(io::ErrorKind::InvalidInput, error))?;
    let tokio = TokioRuntime::tokio_current();
    let marks = Arc::new(Marks::default());
    let marking = marks.clone();
    let greeting = Arc::new(OnceLock::new());
    let greeted = greeting.clone();
    let filtered = async move |uri: AMQPUri, _: Runtime<Kit>| {
        let stream = uri.connect_with_config_async(tls.as_ref(), &tokio).await?;
        let filter = Filter::new(marking.clone(), uri.query.frame_max);
        let listener = Listener::new(greeted.clone());
        Ok(AsyncTcpStream::Plain(Filtered { stream, filter, listener }))
    };
    let connection = Connection::connector(uri, Runtime::new(Kit(Tokio::current())), filtered, properties).await?;
    let greeting = greeting.get().cloned().flatten();
    Ok((connection, marks, greeting))
}

/// lapin's usual stream, behind a filter.
pub(in crate::broker) struct Filtered {
    stream: AsyncTcpStream<<Tokio as Reactor>::TcpStream>,
    filter: Filter,
    listener: Listener,
}

impl AsyncRead for Filtered {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, out: &mut [u8]) -> Poll<io::Result<usize>> {
        let Filtered { stream, filter, listener } = self.get_mut();
        while filter.is_drained() {
            let count = ready!(Pin::new(&mut *stream).poll_read(cx, filter.space()))?;
            if count == 0 {
                return Poll::Ready(Ok(0));
            }
            filter.filled(count)?;
        }
        let count = filter.take(out);
        listener.hear(&out[..count]);
        Poll::Ready(Ok(count))
    }

    fn poll_read_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        out: &mut [IoSliceMut<'_>],
    ) -> Poll<io::Result<usize>> {
        // Fills only one slice, because lapin reads again for the second. An empty slice would look like the end of the
        // stream.
        let first = out.iter_mut().find(|slice| !slice.is_empty());
        self.poll_read(cx, first.map_or(&mut [][..], |slice| &mut slice[..]))
    }
}

impl AsyncWrite for Filtered {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write_vectored(cx, slices)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(cx)
    }

    fn poll_close(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_close(cx)
    }
}

/// Tokio with our stream: lapin accepts a stream only as part of a runtime.
#[derive(Clone, Debug)]
pub(in crate::broker) struct Kit(Tokio);

impl RuntimeKit for Kit {}

impl Executor for Kit {
    type Task<T: Send + 'static> = <Tokio as Executor>::Task<T>;

    fn block_on<T, F: Future<Output = T>>(&self, f: F) -> T {
        self.0.block_on(f)
    }

    fn spawn<T: Send + 'static, F: Future<Output = T> + Send + 'static>(&self, f: F) -> Task<Self::Task<T>> {
        self.0.spawn(f)
    }

    fn spawn_blocking<T: Send + 'static, F: FnOnce() -> T + Send + 'static>(&self, f: F) -> Task<Self::Task<T>> {
        self.0.spawn_blocking(f)
    }
}

impl Reactor for Kit {
    type TcpStream = Filtered;
    type Sleep = <Tokio as Reactor>::Sleep;

    // lapin calls neither this nor `tcp_connect_addr`: it connects with the function in `connect`.
    fn register<H: Read + Write + Send + 'static>(
        &self,
        _: H,
    ) -> io::Result<impl AsyncRead + AsyncWrite + Send + Unpin + 'static> {
        Err::<Filtered, _>(io::ErrorKind::Unsupported.into())
    }

    fn sleep(&self, duration: Duration) -> Self::Sleep {
        self.0.sleep(duration)
    }

    fn interval(&self, duration: Duration) -> impl Stream<Item = Instant> + Send + 'static {
        self.0.interval(duration)
    }

    fn tcp_connect_addr(
        &self,
        address: SocketAddr,
    ) -> impl Future<Output = io::Result<Self::TcpStream>> + Send + 'static {
        let connecting = self.0.tcp_connect_addr(address);
        async move {
            let stream = AsyncTcpStream::Plain(connecting.await?);
            Ok(Filtered { stream, filter: Filter::new(Arc::default(), None), listener: Listener::new(Arc::default()) })
        }
    }
}
