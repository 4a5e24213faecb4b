//! The web console: what `leadhook failed`, `leadhook deliveries` and `leadhook explain` know, for people with a browser.
//!
//! ```text
//!  door       who may come in, and from where        pure: Host, credentials, role, token
//!  throttle   how often a wrong secret may be tried, and how many connections one address may have
//!  query      what a form or an address says         pure
//!  mask       a payload without the data of a lead   pure
//!  pages      everything that is shown               pure: values in, markup out
//!  watch      counts and rates, looked at all the time, by passive declares and the worker's admin port
//!  queue      the failed queue, one visit at a time, never longer than a page may take
//!  log        the delivery log, for as long as a page may take
//!  work       replays and discards, which go on when the page has been sent
//!  routes, failed   the handlers: thin
//! ```
//!
//! **It keeps nothing.** A look at the failed queue is remembered for a minute so that people can turn pages; it holds no
//! bodies. Between two requests it holds no message and no lock.
//!
//! **A page never hangs.** Whatever waits for the broker has a limit, and says what could not be found out by then. Only one
//! visit at a time is made to the failed queue; who comes meanwhile is told so.
//!
//! **Markup is escaped by construction**: pages are `maud` templates, in which text can only become text. Nothing in this
//! room may use `PreEscaped` (the test `pages::tests::nothing_is_pre_escaped` looks).

mod door;
mod failed;
mod log;
mod mask;
mod pages;
mod query;
mod queue;
mod routes;
mod throttle;
mod watch;
mod work;

use std::{
    convert::Infallible,
    io,
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::{Router, body::Body};
use hyper::{Request, body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{net::TcpListener, sync::Semaphore};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tower_service::Service;

use self::{
    door::Door,
    log::Stories,
    queue::Desk,
    throttle::{Callers, Throttle},
    watch::Watch,
    work::Works,
};
use crate::{
    broker::{publisher::Publisher, topology::Plan},
    delivery::ladder::Ladder,
    delivery_log::{self, Entry},
    desk::interrupt::Interrupt,
    settings::{Console as ConsoleSettings, Settings},
    store::{LiveStore, Problems},
};

/// Connections at a time. A browser opens six.
const CONNECTIONS: usize = 200;

/// Connections of one address at a time: nobody takes them all before saying who they are. Behind a proxy all visitors share one.
const OF_ONE: usize = 100;

/// Longest wait for the head of a request.
const HEAD: Duration = Duration::from_secs(10);

/// Longest that a request may take, its body included. Whatever a page waits for has a shorter limit of its own.
const REQUEST: Duration = Duration::from_secs(30);

/// How long answers that are being written, and visits to the failed queue, may take after shutdown: a visit reads on to the
/// end of the queue, so that it is given back in its order.
const LINGER: Duration = Duration::from_secs(90);

/// Longest wait for a record to be on the stream.
const RECORD: Duration = Duration::from_secs(5);

/// A bound port that does not answer yet.
pub struct Console {
    listener: TcpListener,
    address: SocketAddr,
}

/// Where a request came from.
#[derive(Clone, Copy)]
struct Peer(IpAddr);

/// What all handlers share.
struct Shared {
    settings: Settings,
    plan: Plan,
    door: Door,
    throttle: Mutex<Throttle>,
    watch: Watch,
    desk: Desk,
    works: Works,
    /// Readings of the delivery log at a time.
    readings: Semaphore,
    stories: Stories,
    store: Mutex<Option<Arc<LiveStore>>>,
    /// Ends visits in order.
    interrupt: Interrupt,
    shutdown: CancellationToken,
}

impl Console {
    /// Binds the port; port 0 picks a free one.
    ///
    /// # Errors
    /// The address is in use or not ours; or it is beyond loopback and nobody would have to say who they are. The settings
    /// refuse that too, and this door is not left to them alone.
    pub async fn bind(settings: &ConsoleSettings) -> io::Result<Console> {
        if !settings.listen.ip().is_loopback() && settings.credentials.is_empty() {
            return Err(io::Error::other("beyond loopback it needs console.credentials"));
        }
        let listener = TcpListener::bind(settings.listen).await?;
        let address = listener.local_addr()?;
        Ok(Console { listener, address })
    }

    /// Where it listens, the picked port included.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Answers until `shutdown`.
    pub async fn serve(self, settings: Settings, shutdown: CancellationToken) {
        let plan = Plan::new(&settings.amqp, &Ladder::for_backoff(&settings.backoff));
        let shared = Arc::new(Shared {
            door: Door::new(&settings.console),
            throttle: Mutex::default(),
            watch: Watch::start(settings.clone(), plan.clone(), shutdown.clone()),
            desk: Desk::default(),
            works: Works::default(),
            readings: Semaphore::new(2),
            stories: Stories::default(),
            store: Mutex::default(),
            interrupt: Interrupt::at(shutdown.clone()),
            shutdown: shutdown.clone(),
            plan,
            settings,
        });
        let router = routes::router(shared.clone());
        let callers = Arc::new(Callers::default());
        let (connections, tasks) = (Arc::new(Semaphore::new(CONNECTIONS)), TaskTracker::new());
        loop {
            let accepted = tokio::select! {
                accepted = self.listener.accept() => accepted,
                () = shutdown.cancelled() => break,
            };
            let Ok((stream, peer)) = accepted else {
                // Out of descriptors, say: others have to end first.
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            };
            // Above the limits a connection is closed at once: waiting in line would hang the page.
            let Some(caller) = callers.admit(peer.ip(), OF_ONE) else { continue };
            let Ok(permit) = connections.clone().try_acquire_owned() else { continue };
            let (router, shutdown) = (router.clone(), shutdown.clone());
            tasks.spawn(async move {
                let _held = (permit, caller);
                let service = service_fn(move |request| answer(router.clone(), peer.ip(), request));
                let mut http = http1::Builder::new();
                http.timer(TokioTimer::new()).header_read_timeout(HEAD).max_buf_size(64 * 1024);
                let mut serving = std::pin::pin!(http.serve_connection(TokioIo::new(stream), service));
                tokio::select! {
                    _ = serving.as_mut() => {}
                    () = shutdown.cancelled() => {
                        serving.as_mut().graceful_shutdown();
                        let _ = serving.await;
                    }
                }
            });
        }
        tasks.close();
        let ending = async {
            tasks.wait().await;
            shared.works.end().await;
            shared.interrupt.released().await;
        };
        let _ = tokio::time::timeout(LINGER, ending).await;
    }
}

async fn answer(
    mut router: Router,
    peer: IpAddr,
    request: Request<Incoming>,
) -> Result<axum::response::Response, Infallible> {
    let mut request = request.map(Body::new);
    request.extensions_mut().insert(Peer(peer));
    match tokio::time::timeout(REQUEST, router.call(request)).await {
        Ok(answer) => answer,
        Err(_) => Ok(door::plain(axum::http::StatusCode::SERVICE_UNAVAILABLE, "this took too long; try again\n")),
    }
}

/// Something could not be written to the delivery log.
struct Unrecorded;

impl Shared {
    /// Writes a record, and waits until it is on the stream. Where the log is switched off there is nothing to wait for.
    async fn on_record(&self, entry: &Entry<'_>) -> Result<(), Unrecorded> {
        let publisher = Publisher::start(&self.settings.amqp, "record", None, CancellationToken::new());
        let log = delivery_log::start(&self.settings, &self.plan, &publisher, None);
        log.write(entry);
        let unwritten = log.close(RECORD).await;
        publisher.close().await;
        if unwritten == 0 { Ok(()) } else { Err(Unrecorded) }
    }

    /// The webhook store: opened when it is first asked for, and from then on kept true by watching its files.
    async fn store(self: &Arc<Shared>) -> Result<Arc<LiveStore>, Problems> {
        let shared = self.clone();
        let opening = tokio::task::spawn_blocking(move || {
            let mut kept = shared.store.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            if let Some(store) = kept.as_ref() {
                return Ok((store.clone(), false));
            }
            let store = Arc::new(LiveStore::open(&shared.settings.store.path, &shared.settings.secrets)?);
            *kept = Some(store.clone());
            Ok((store, true))
        });
        let (store, fresh) = match opening.await {
            Ok(opened) => opened?,
            Err(panic) => std::panic::resume_unwind(panic.into_panic()),
        };
        if fresh {
            tokio::spawn(store.clone().watch(self.shutdown.clone(), |_| {}));
        }
        Ok(store)
    }
}
