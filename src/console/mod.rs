//! The web console: `leadhook failed`, `leadhook deliveries` and `leadhook explain` for people with a browser.
//!
//! ```text
//!  door       checks host, credentials, role, token  pure
//!  throttle   limits wrong secrets
//!  query      reads forms and addresses              pure
//!  mask       a payload without the data of a lead   pure
//!  pages      values in, markup out                  pure
//!  watch      counts queues by passive declares and asks the worker's admin port, in the background
//!  queue      reads the failed and the rejected queue, one visit at a time, in bounded time
//!  log        reads the delivery log, in bounded time
//!  work       replays, requeues and discards; the work goes on after the page was sent
//!  routes, failed, rejected   thin handlers
//! ```
//!
//! **It stores nothing.** It keeps the result of a look at the failed queue for a minute, without bodies, so that
//! people can turn pages. Between two requests the console holds no message and no lock.
//!
//! **A page never hangs.** Every wait for the broker has a limit. After it, the page says what is missing. Only one
//! visit at a time reads the failed queue, and a request that comes in the meantime gets a page that says so.
//!
//! **Markup is escaped by construction**: pages are `maud` templates, which escape all text. Code of the console must
//! not use `PreEscaped`; the test `pages::tests::nothing_is_pre_escaped` checks that.

mod door;
mod failed;
mod log;
mod mask;
mod pages;
mod query;
mod queue;
mod rejected;
mod routes;
mod throttle;
mod watch;
mod work;

use std::{
    io,
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::{Router, extract::Request, response::Response};
use tokio::{net::TcpListener, sync::Semaphore};
use tokio_util::sync::CancellationToken;
use tower_service::Service;

use self::{door::Door, log::Stories, queue::Desk, throttle::Throttle, watch::Watch, work::Works};
use crate::{
    broker::{publisher::Publisher, topology::Plan},
    delivery::ladder::Ladder,
    delivery_log::{self, Entry},
    desk::interrupt::Interrupt,
    http_server::{self, Limits},
    settings::{Console as ConsoleSettings, Settings},
    store::{LiveStore, Problems},
};

/// Most connections at a time. A browser opens six. Unused connections give way to others.
const CONNECTIONS: usize = 200;

/// Longest time after shutdown for answers in progress and for visits to the failed queue. A visit reads on to the end
/// of the queue, so that the broker gets all messages back in their order.
const LINGER: Duration = Duration::from_secs(90);

/// Longest wait until a record is on the stream.
const RECORD: Duration = Duration::from_secs(5);

/// A bound port that does not answer yet.
pub struct Console {
    listener: TcpListener,
    address: SocketAddr,
}

/// The address of the client.
#[derive(Clone, Copy)]
struct Peer(IpAddr);

/// The parts that all handlers share.
struct Shared {
    settings: Settings,
    plan: Plan,
    door: Door,
    throttle: Mutex<Throttle>,
    watch: Watch,
    desk: Desk,
    works: Works,
    /// Limits how many requests read the delivery log at a time.
    readings: Semaphore,
    stories: Stories,
    store: Mutex<Option<Arc<LiveStore>>>,
    /// Asks visits to end, so that they give their messages back in order.
    interrupt: Interrupt,
    shutdown: CancellationToken,
}

impl Console {
    /// Binds the port. Port 0 picks a free one.
    ///
    /// # Errors
    /// The address cannot be used, or it is beyond loopback without credentials. The settings refuse that too, so this
    /// is the second check.
    pub async fn bind(settings: &ConsoleSettings) -> io::Result<Console> {
        if !settings.listen.ip().is_loopback() && settings.credentials.last().is_empty() {
            return Err(io::Error::other("an address beyond loopback needs console.credentials"));
        }
        let listener = TcpListener::bind(settings.listen).await?;
        let address = listener.local_addr()?;
        Ok(Console { listener, address })
    }

    /// Returns the bound address, with the picked port.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Answers requests until `shutdown`.
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
        let answer = move |peer, request| answer(router.clone(), peer, request);
        let serving = async {
            http_server::serve(self.listener, Limits::of(CONNECTIONS), shutdown.clone(), answer).await;
            shared.works.end().await;
            shared.interrupt.released().await;
        };
        tokio::select! {
            () = serving => {}
            () = async { shutdown.cancelled().await; tokio::time::sleep(LINGER).await } => {}
        }
    }
}

async fn answer(mut router: Router, peer: IpAddr, mut request: Request) -> Response {
    request.extensions_mut().insert(Peer(peer));
    router.call(request).await.unwrap_or_else(|never| match never {})
}

/// A record could not be written to the delivery log.
struct Unrecorded;

impl Shared {
    /// Writes a record, and waits until it is on the stream. Without a delivery log it does not wait.
    async fn on_record(&self, entry: &Entry<'_>) -> Result<(), Unrecorded> {
        let publisher = Publisher::start(&self.settings.amqp, "record", None, CancellationToken::new());
        let log = delivery_log::start(&self.settings, &self.plan, &publisher, None);
        log.write(entry);
        let unwritten = log.close(RECORD).await;
        publisher.close().await;
        if unwritten == 0 { Ok(()) } else { Err(Unrecorded) }
    }

    /// Returns the webhook store. Opens it at the first use, and then watches its files for changes.
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
