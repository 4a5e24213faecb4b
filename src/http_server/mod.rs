//! The HTTP/1.1 server of the admin port and of the console. Everything that a client can hold is bounded.
//!
//! At most [`Limits::connections`] clients are connected at a time. When one more comes, the server closes the
//! connection that has had no request in progress for the longest time. So clients that are idle, send slowly or read
//! slowly never keep a health check out, however many they are.
//!
//! | a client that | is stopped by |
//! |---|---|
//! | opens connections and sends nothing | the limit of connections, and 10 s for a head |
//! | sends the head of a request slowly, or without end | 10 s, and 64 KiB |
//! | sends a body slowly, or asks for something slow | 30 s, and the handler's own limits |
//! | reads its answer slowly, or not at all | 30 s |

use std::{
    collections::BTreeMap,
    convert::Infallible,
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use axum::{
    body::Body,
    extract::Request,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// The bounds of a server.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// The most connections at a time.
    pub connections: usize,
    /// Longest wait for the head of a request, also on a connection that is kept.
    head: Duration,
    /// Longest time for a request, its body included.
    request: Duration,
    /// Longest time of a connection without a request in progress. It covers the wait for the next head, and for the
    /// client to read the last answer.
    unused: Duration,
}

impl Limits {
    /// Returns the usual limits, with this many connections at a time.
    pub const fn of(connections: usize) -> Limits {
        let (head, request, unused) = (Duration::from_secs(10), Duration::from_secs(30), Duration::from_secs(30));
        Limits { connections, head, request, unused }
    }
}

/// Longest head, in bytes.
const HEAD_BYTES: usize = 64 << 10;

/// Longest time of a connection without a request in progress, after shutdown.
const LINGER: Duration = Duration::from_secs(1);

/// The wait before the next accept after one has failed.
const AGAIN: Duration = Duration::from_millis(50);

/// Answers requests on `listener` until `shutdown`, then finishes those in progress.
pub async fn serve<Answer>(
    listener: TcpListener,
    limits: Limits,
    shutdown: CancellationToken,
    answer: impl Fn(IpAddr, Request) -> Answer + Clone + Send + Sync + 'static,
) where
    Answer: Future<Output = Response> + Send + 'static,
{
    let (seats, tasks) = (Arc::new(Seats::default()), TaskTracker::new());
    while let Some(accepted) = shutdown.run_until_cancelled(listener.accept()).await {
        let Ok((stream, peer)) = accepted else {
            // For example, no file descriptors are left, so an unused connection has to end first.
            seats.make_room();
            tokio::time::sleep(AGAIN).await;
            continue;
        };
        // A queue would hang a page, so a connection without room is closed at once.
        let Some(seat) = seats.take(limits.connections) else { continue };
        let (answer, shutdown) = (answer.clone(), shutdown.clone());
        tasks.spawn(async move { one(stream, peer.ip(), limits, &seat, &shutdown, answer).await });
    }
    tasks.close();
    tasks.wait().await;
}

/// Serves one connection to its end.
async fn one<Answer>(
    stream: TcpStream,
    peer: IpAddr,
    limits: Limits,
    seat: &Seat,
    shutdown: &CancellationToken,
    answer: impl Fn(IpAddr, Request) -> Answer,
) where
    Answer: Future<Output = Response>,
{
    let service = service_fn(|request: hyper::Request<Incoming>| {
        let in_progress = seat.begin();
        let answering = tokio::time::timeout(limits.request, answer(peer, request.map(Body::new)));
        async move {
            let _in_progress = in_progress;
            Ok::<_, Infallible>(answering.await.unwrap_or_else(|_| TOO_LONG.into_response()))
        }
    });
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(limits.head).max_buf_size(HEAD_BYTES);
    let mut serving = std::pin::pin!(http.serve_connection(TokioIo::new(stream), service));
    tokio::select! {
        _ = serving.as_mut() => return,
        () = seat.gave_way.cancelled() => return,
        () = seat.unused_for(limits.unused) => return,
        () = shutdown.cancelled() => {}
    }
    serving.as_mut().graceful_shutdown();
    tokio::select! {
        _ = serving => {}
        () = seat.unused_for(LINGER) => {}
    }
}

const TOO_LONG: (StatusCode, &str) = (StatusCode::SERVICE_UNAVAILABLE, "this took too long; try again\n");

/// The open connections.
#[derive(Default)]
struct Seats(Mutex<Open>);

#[derive(Default)]
struct Open {
    next: u64,
    seats: BTreeMap<u64, Taken>,
}

struct Taken {
    /// The time since when no request is in progress; `None` while one is.
    unused_since: Option<Instant>,
    gave_way: CancellationToken,
}

/// A place for one connection. Dropping it frees the place.
struct Seat {
    seats: Arc<Seats>,
    number: u64,
    /// Cancelled when another connection needs the place.
    gave_way: CancellationToken,
}

impl Seats {
    /// Takes a place among `most`, if necessary from the connection that has been unused for the longest time. Returns
    /// `None` while all others have a request in progress.
    fn take(self: &Arc<Seats>, most: usize) -> Option<Seat> {
        if self.open().seats.len() >= most && !self.make_room() {
            return None;
        }
        let mut open = self.open();
        let (number, gave_way) = (open.next, CancellationToken::new());
        open.next += 1;
        open.seats.insert(number, Taken { unused_since: Some(Instant::now()), gave_way: gave_way.clone() });
        Some(Seat { seats: self.clone(), number, gave_way })
    }

    /// Closes the connection that has been unused for the longest time. Returns whether there was one.
    fn make_room(&self) -> bool {
        let mut open = self.open();
        let unused = open.seats.iter().filter_map(|(number, taken)| Some((taken.unused_since?, *number)));
        let Some((_, number)) = unused.min() else { return false };
        open.seats.remove(&number).inspect(|taken| taken.gave_way.cancel()).is_some()
    }

    fn set(&self, number: u64, unused_since: Option<Instant>) {
        if let Some(taken) = self.open().seats.get_mut(&number) {
            taken.unused_since = unused_since;
        }
    }

    fn open(&self) -> MutexGuard<'_, Open> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Seat {
    /// Marks a request as in progress until the result is dropped.
    fn begin(&self) -> InProgress {
        self.seats.set(self.number, None);
        InProgress { seats: self.seats.clone(), number: self.number }
    }

    /// Waits until no request has been in progress for the time `long`.
    async fn unused_for(&self, long: Duration) {
        let begun = Instant::now();
        loop {
            let taken = self.seats.open().seats.get(&self.number).map(|taken| taken.unused_since);
            let wait = match taken {
                // The place is gone, because another connection needed it.
                None => return,
                Some(None) => long,
                Some(Some(since)) => long.saturating_sub(since.max(begun).elapsed()),
            };
            if wait.is_zero() {
                return;
            }
            tokio::time::sleep(wait).await;
        }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.seats.open().seats.remove(&self.number);
    }
}

/// A request that is being answered.
struct InProgress {
    seats: Arc<Seats>,
    number: u64,
}

impl Drop for InProgress {
    fn drop(&mut self) {
        self.seats.set(self.number, Some(Instant::now()));
    }
}

#[cfg(test)]
mod tests;
