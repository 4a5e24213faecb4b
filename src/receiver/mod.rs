//! A scripted webhook receiver, for tests and for `leadhook listen`: it answers what its [`Script`] says, remembers what
//! it was sent, and checks signatures.
//!
//! It speaks HTTP/1.1 by hand instead of through a server library, because its job is to misbehave on the wire: to close
//! before answering, to trickle, to never end.
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use std::time::Duration;
//! use leadhook::receiver::{Options, Receiver};
//!
//! let receiver = Receiver::start(Options { script: "500,hang,429:7,200".parse()?, ..Options::default() }).await?;
//! // ... point a target at receiver.url() ...
//! let first_two = receiver.wait_for(2, Duration::from_secs(10)).await?;
//! assert_eq!(first_two[0].status, Some(500));
//! # Ok(())
//! # }
//! ```

pub mod script;

mod wire;

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use reqwest::header::HeaderMap;
use tokio::{
    io::BufReader,
    net::{TcpListener, TcpStream},
    sync::watch,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

pub use self::script::{Action, Reply, Script, ScriptError};
use self::{script::Turns, wire::Request};
use crate::delivery::{
    request::{ATTEMPT, WEBHOOK_ID, WEBHOOK_SIGNATURE, WEBHOOK_TIMESTAMP},
    signature::{self, SigningSecret},
};

/// How a receiver is set up.
#[derive(Clone, Debug)]
pub struct Options {
    /// Address to listen on, 127.0.0.1 by default.
    pub bind: IpAddr,
    /// Port to listen on; 0, the default, picks a free one.
    pub port: u16,
    /// What is answered, `200` by default.
    pub script: Script,
    /// Whether the script runs for each `webhook-id` anew, so that with `500,200` every delivery fails once. By default
    /// all requests share one run. Requests without the header always share one.
    pub per_webhook: bool,
    /// Secrets to check signatures with; without any, signatures are not looked at.
    pub secrets: Vec<SigningSecret>,
}

impl Default for Options {
    fn default() -> Options {
        let (script, secrets) = (Script::default(), Vec::new());
        Options { bind: Ipv4Addr::LOCALHOST.into(), port: 0, script, per_webhook: false, secrets }
    }
}

/// One request as it arrived, and what was decided to answer. Holds lead data: do not print whole.
#[derive(Clone, Debug)]
pub struct Received {
    /// When it had been read to its end.
    pub at: SystemTime,
    /// `POST`, usually.
    pub method: String,
    /// The path, without the query.
    pub path: String,
    /// The query, if any.
    pub query: Option<String>,
    /// All headers.
    pub headers: HeaderMap,
    /// The body, byte for byte.
    pub body: Bytes,
    /// What the script says to this request.
    pub reply: Reply,
    /// The status that is answered; `None` for `hang`, `close`, `reset` and `garbage`.
    pub status: Option<u16>,
    /// Whether the signature fits; `None` when the receiver has no secrets.
    pub verified: Option<bool>,
}

/// What became of a request's signature.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signature {
    /// The receiver has no secrets.
    Unchecked,
    /// It fits.
    Verified,
    /// There is no signature.
    Missing,
    /// It was made with another secret, over other bytes, or at another time.
    Bad,
}

impl Received {
    /// A header as text, if it is there and is text.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// The `webhook-id`.
    pub fn webhook_id(&self) -> Option<&str> {
        self.header(WEBHOOK_ID.as_str())
    }

    /// The `leadhook-attempt`, 1-based.
    pub fn attempt(&self) -> Option<u32> {
        self.header(ATTEMPT.as_str())?.parse().ok()
    }

    /// What became of the signature.
    pub fn signature(&self) -> Signature {
        match self.verified {
            None => Signature::Unchecked,
            Some(true) => Signature::Verified,
            Some(false) if self.headers.contains_key(WEBHOOK_SIGNATURE) => Signature::Bad,
            Some(false) => Signature::Missing,
        }
    }
}

/// What was waited for has not come in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("waited {waited:?} in vain; {received} requests have come")]
pub struct WaitError {
    /// How long the wait was.
    pub waited: Duration,
    /// How many requests there are instead.
    pub received: usize,
}

/// A running receiver. It stops when it is dropped.
#[derive(Debug)]
pub struct Receiver {
    address: SocketAddr,
    shared: Arc<Shared>,
    stop: CancellationToken,
    tasks: TaskTracker,
}

#[derive(Debug)]
struct Shared {
    course: Mutex<(Script, Turns)>,
    received: watch::Sender<Vec<Arc<Received>>>,
    per_webhook: bool,
    secrets: Vec<SigningSecret>,
}

impl Receiver {
    /// Starts listening. Connections are accepted when this returns.
    ///
    /// # Errors
    /// When the address cannot be bound.
    pub async fn start(options: Options) -> io::Result<Receiver> {
        let Options { bind, port, script, per_webhook, secrets } = options;
        let listener = TcpListener::bind((bind, port)).await?;
        let address = listener.local_addr()?;
        let course = Mutex::new((script, Turns::default()));
        let shared = Arc::new(Shared { course, received: watch::Sender::default(), per_webhook, secrets });
        let (stop, tasks) = (CancellationToken::new(), TaskTracker::new());
        let accepting = accept(listener, Arc::clone(&shared), stop.clone(), tasks.clone());
        tasks.spawn(stop.clone().run_until_cancelled_owned(accepting));
        Ok(Receiver { address, shared, stop, tasks })
    }

    /// The address it listens on, with the real port.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// `http://<address>` without a path; the loopback address if it listens on all.
    pub fn url(&self) -> String {
        let mut address = self.address;
        if address.ip().is_unspecified() {
            let loopback = if address.is_ipv4() { Ipv4Addr::LOCALHOST.into() } else { Ipv6Addr::LOCALHOST.into() };
            address.set_ip(loopback);
        }
        format!("http://{address}")
    }

    /// Everything received so far and not taken, in the order of arrival.
    pub fn received(&self) -> Vec<Arc<Received>> {
        self.shared.received.borrow().clone()
    }

    /// How many there are of these.
    pub fn count(&self) -> usize {
        self.shared.received.borrow().len()
    }

    /// Waits for something to arrive and takes all there is: for a reader that keeps up for long. What was taken is no
    /// longer counted by the other methods.
    pub async fn take(&self) -> Vec<Arc<Received>> {
        let mut watch = self.shared.received.subscribe();
        // The sender lives in `self`, so the wait cannot fail.
        let _ = watch.wait_for(|received| !received.is_empty()).await;
        let mut taken = Vec::new();
        self.shared.received.send_modify(|received| taken = std::mem::take(received));
        taken
    }

    /// Waits until at least `count` requests have arrived, and returns all there are.
    ///
    /// # Errors
    /// [`WaitError`] when they have not after `timeout`.
    pub async fn wait_for(&self, count: usize, timeout: Duration) -> Result<Vec<Arc<Received>>, WaitError> {
        self.wait_until(timeout, |received| received.len() >= count).await
    }

    /// Waits until what has arrived fulfils a condition, and returns all there is.
    ///
    /// # Errors
    /// [`WaitError`] when it does not after `timeout`.
    pub async fn wait_until(
        &self,
        timeout: Duration,
        condition: impl Fn(&[Arc<Received>]) -> bool,
    ) -> Result<Vec<Arc<Received>>, WaitError> {
        let mut watch = self.shared.received.subscribe();
        let waiting = watch.wait_for(|received| condition(received));
        match tokio::time::timeout(timeout, waiting).await {
            Ok(Ok(received)) => Ok(received.clone()),
            Ok(Err(_)) | Err(_) => Err(WaitError { waited: timeout, received: self.shared.received.borrow().len() }),
        }
    }

    /// Gives it another script, which starts at its beginning.
    pub fn set_script(&self, script: Script) {
        *self.shared.course() = (script, Turns::default());
    }

    /// Stops listening, breaks all connections and returns when that is done: whoever connects now is refused.
    pub async fn shutdown(self) {
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>, stop: CancellationToken, tasks: TaskTracker) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                let serving = serve(stream, Arc::clone(&shared));
                tasks.spawn(stop.clone().run_until_cancelled_owned(serving));
            }
            // Out of file handles, most likely: others have to close first.
            Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
        }
    }
}

/// One connection. A broken one is the other side's affair; there is nobody to tell.
async fn serve(stream: TcpStream, shared: Arc<Shared>) {
    let _ = stream.set_nodelay(true);
    let mut stream = BufReader::new(stream);
    while let Ok(Some(request)) = wire::read_request(&mut stream).await {
        let keep_alive = request.keep_alive;
        let reply = shared.receive(request);
        tokio::time::sleep(reply.delay).await;
        let answered = wire::act(&mut stream, reply.action, keep_alive).await;
        if !matches!(answered, Ok(true)) {
            break;
        }
    }
}

impl Shared {
    /// Notes a request and says what it is answered.
    fn receive(&self, request: Request) -> Reply {
        let at = SystemTime::now();
        let verified = (!self.secrets.is_empty()).then(|| self.verify(&request, at));
        let owner = if self.per_webhook { text(&request, WEBHOOK_ID.as_str()) } else { None };
        let reply = {
            let (script, turns) = &mut *self.course();
            script.reply(turns.next(owner))
        };
        let Request { method, path, query, headers, body, keep_alive: _ } = request;
        let status = reply.action.status();
        let received = Received { at, method, path, query, headers, body, reply, status, verified };
        self.received.send_modify(|all| all.push(Arc::new(received)));
        reply
    }

    fn verify(&self, request: &Request, now: SystemTime) -> bool {
        let header = |name: &str| text(request, name).unwrap_or_default();
        signature::verify(
            &self.secrets,
            header(WEBHOOK_ID.as_str()),
            header(WEBHOOK_TIMESTAMP.as_str()),
            header(WEBHOOK_SIGNATURE.as_str()),
            &request.body,
            now,
            signature::USUAL_TOLERANCE,
        )
        .is_ok()
    }

    fn course(&self) -> std::sync::MutexGuard<'_, (Script, Turns)> {
        self.course.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn text<'a>(request: &'a Request, name: &str) -> Option<&'a str> {
    request.headers.get(name)?.to_str().ok()
}

#[cfg(test)]
mod tests;
