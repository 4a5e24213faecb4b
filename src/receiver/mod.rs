//! A scripted webhook receiver, for tests and for `leadhook listen`. It answers as its [`Script`] says, remembers its
//! requests, and checks signatures.
//!
//! It implements HTTP/1.1 itself and uses no server library, because its job is to misbehave on the wire: to close
//! before it answers, to trickle, to never end.
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

/// The setup of a receiver.
#[derive(Clone, Debug)]
pub struct Options {
    /// Address to listen on, 127.0.0.1 by default.
    pub bind: IpAddr,
    /// Port to listen on; 0, the default, picks a free one.
    pub port: u16,
    /// The script of answers, `200` by default.
    pub script: Script,
    /// Whether each `webhook-id` has its own run of the script, so that with `500,200` every delivery fails once. By
    /// default all requests share one run. Requests without the header always share one.
    pub per_webhook: bool,
    /// Secrets to check signatures with. Without any, signatures are not checked.
    pub secrets: Vec<SigningSecret>,
}

impl Default for Options {
    fn default() -> Options {
        let (script, secrets) = (Script::default(), Vec::new());
        Options { bind: Ipv4Addr::LOCALHOST.into(), port: 0, script, per_webhook: false, secrets }
    }
}

/// One request as it arrived, and the reply to it. Holds lead data, so do not print it whole.
#[derive(Clone, Debug)]
pub struct Received {
    /// The time when it had been read to its end.
    pub at: SystemTime,
    /// The method, usually `POST`.
    pub method: String,
    /// The path, without the query.
    pub path: String,
    /// The query, if any.
    pub query: Option<String>,
    /// All headers.
    pub headers: HeaderMap,
    /// The body, byte for byte.
    pub body: Bytes,
    /// The script's reply to this request.
    pub reply: Reply,
    /// The status of the answer; `None` for `hang`, `close`, `reset` and `garbage`.
    pub status: Option<u16>,
    /// Whether the signature is valid; `None` if the receiver has no secrets.
    pub verified: Option<bool>,
}

/// The result of checking a request's signature.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signature {
    /// The receiver has no secrets.
    Unchecked,
    /// The signature is valid.
    Verified,
    /// The request has no signature.
    Missing,
    /// The signature was made with another secret, over other bytes, or at another time.
    Bad,
}

impl Received {
    /// Returns a header as text, if it exists and is text.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// Returns the `webhook-id`.
    pub fn webhook_id(&self) -> Option<&str> {
        self.header(WEBHOOK_ID.as_str())
    }

    /// Returns the `leadhook-attempt`, 1-based.
    pub fn attempt(&self) -> Option<u32> {
        self.header(ATTEMPT.as_str())?.parse().ok()
    }

    /// Returns the result of checking the signature.
    pub fn signature(&self) -> Signature {
        match self.verified {
            None => Signature::Unchecked,
            Some(true) => Signature::Verified,
            Some(false) if self.headers.contains_key(WEBHOOK_SIGNATURE) => Signature::Bad,
            Some(false) => Signature::Missing,
        }
    }
}

/// The awaited requests have not come in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("waited {waited:?} in vain; {received} requests have come")]
pub struct WaitError {
    /// How long the wait was.
    pub waited: Duration,
    /// How many requests have come instead.
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
    /// Starts listening. The receiver accepts connections when this returns.
    ///
    /// # Errors
    /// Fails if the address cannot be bound.
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

    /// Returns the address that it listens on, with the real port.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Returns `http://<address>` without a path, with the loopback address if it listens on all addresses.
    pub fn url(&self) -> String {
        let mut address = self.address;
        if address.ip().is_unspecified() {
            let loopback = if address.is_ipv4() { Ipv4Addr::LOCALHOST.into() } else { Ipv6Addr::LOCALHOST.into() };
            address.set_ip(loopback);
        }
        format!("http://{address}")
    }

    /// Returns all requests that were received and not taken, in the order of arrival.
    pub fn received(&self) -> Vec<Arc<Received>> {
        self.shared.received.borrow().clone()
    }

    /// Returns the number of these requests.
    pub fn count(&self) -> usize {
        self.shared.received.borrow().len()
    }

    /// Waits until there are requests, and takes all of them. The other methods no longer count them. Use this in a
    /// reader that runs for a long time.
    pub async fn take(&self) -> Vec<Arc<Received>> {
        let mut watch = self.shared.received.subscribe();
        // The sender lives in `self`, so the wait cannot fail.
        let _ = watch.wait_for(|received| !received.is_empty()).await;
        let mut taken = Vec::new();
        self.shared.received.send_modify(|received| taken = std::mem::take(received));
        taken
    }

    /// Waits until at least `count` requests have arrived, and returns all that there are.
    ///
    /// # Errors
    /// [`WaitError`] if they have not arrived after `timeout`.
    pub async fn wait_for(&self, count: usize, timeout: Duration) -> Result<Vec<Arc<Received>>, WaitError> {
        self.wait_until(timeout, |received| received.len() >= count).await
    }

    /// Waits until the received requests meet a condition, and returns all of them.
    ///
    /// # Errors
    /// [`WaitError`] if they do not meet it after `timeout`.
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

    /// Sets another script, which starts at its beginning.
    pub fn set_script(&self, script: Script) {
        *self.shared.course() = (script, Turns::default());
    }

    /// Stops listening, breaks all connections and returns when that is done. New connections are refused from then on.
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
            // Most likely no file descriptors are left, so other connections have to close first.
            Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
        }
    }
}

/// Serves one connection. Ignores its errors, because only the other side can act on them.
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
    /// Records a request and returns the reply to it.
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
