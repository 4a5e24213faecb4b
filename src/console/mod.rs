//! The web console: `leadhook failed`, `leadhook deliveries` and `leadhook explain` for people with a browser.
//!
//! ```text
//!  door       checks host, credentials, role, token  pure
//!  throttle   limits wrong secrets
//!  query      reads forms and addresses              pure
//!  mask       a payload without the data of a lead   pure
//!  pages      values in, markup out                  pure
//!  watch      counts queues by passive declares and asks the worker's admin port, in the background
//!  queue      reads the failed and the rejected queue, one browse at a time, in bounded time
//!  log        reads the delivery log, in bounded time
//!  work       replays, requeues and discards; the work goes on after the page was sent
//!  routes, failed, rejected   thin handlers
//! ```
//!
//! **It stores nothing.** It keeps the result of a look at the failed queue for a minute, without bodies, so that
//! people can turn pages. Between two requests the console holds no message and no lock.
//!
//! **A page never hangs.** Every wait for the broker has a limit. After it, the page says what is missing. Only one
//! browse at a time reads the failed queue, and a request that comes in the meantime gets a page that says so.
//!
//! **Markup is escaped by construction**: pages are `maud` templates, which escape all text. Code of the console must
//! not use `PreEscaped`; the test `pages::tests::nothing_is_pre_escaped` checks that.

mod access;
mod answers;
mod door;
mod failed;
mod log;
mod mask;
mod pages;
mod query;
mod queue;
mod rejected;
mod routes;
mod shared;
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

use self::{
    access::Access,
    door::Door,
    log::Stories,
    shared::{Peer, Shared},
    watch::Watch,
    work::Works,
};
use crate::{
    broker::topology::Plan,
    dead_letters::interrupt::Interrupt,
    delivery::ladder::Ladder,
    http_server::{self, Limits},
    settings::{Console as ConsoleSettings, Settings},
};

/// Most connections at a time. A browser opens six. Unused connections give way to others.
const CONNECTIONS: usize = 200;

/// Longest time after shutdown for answers in progress and for browses to the failed queue. A browse reads on to the end
/// of the queue, so that the broker gets all messages back in their order.
const LINGER: Duration = Duration::from_secs(90);

/// A bound port that does not answer yet.
pub struct Console {
    listener: TcpListener,
    address: SocketAddr,
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
        let access = Arc::new(Access {
            readings: Semaphore::new(2),
            interrupt: Interrupt::at(shutdown.clone()),
            shutdown: shutdown.clone(),
            plan: plan.clone(),
            settings: settings.clone(),
        });
        let shared = Arc::new(Shared {
            access,
            door: Door::new(&settings.console),
            throttle: Mutex::default(),
            watch: Watch::start(settings, plan, shutdown.clone()),
            letters: Arc::default(),
            works: Works::default(),
            stories: Stories::default(),
            store: Mutex::default(),
        });
        let router = routes::router(shared.clone());
        let answer = move |peer, request| answer(router.clone(), peer, request);
        let serving = async {
            http_server::serve(self.listener, Limits::of(CONNECTIONS), shutdown.clone(), answer).await;
            shared.works.end().await;
            shared.access.interrupt.released().await;
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
