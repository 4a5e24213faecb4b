//! The receivers of a run: one process with many targets, one for each path, and a port that reports what they have
//! received.
//!
//! The path `/<behaviour>/<target>` selects the answer; see [`Behaviour`]. The `sentAt` of a body (nanoseconds of this
//! machine's monotonic clock) identifies the event. Its latency counts from there until the whole request has arrived.

mod behaviour;
mod seen;

use std::{
    convert::Infallible,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{Request, Response, body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};

pub use self::seen::{Group, Report};
use self::{behaviour::Behaviour, seen::Seen};
use crate::clock;

/// Runs until it is killed. Prints two addresses: that of the targets, and that for questions.
pub async fn run() -> anyhow::Result<()> {
    let targets = TcpListener::bind("127.0.0.1:0").await?;
    let questions = TcpListener::bind("127.0.0.1:0").await?;
    println!("{} {}", targets.local_addr()?, questions.local_addr()?);
    let seen = Arc::new(Mutex::new(Seen::default()));
    tokio::spawn(answer_questions(questions, seen.clone()));
    loop {
        let (stream, _) = targets.accept().await?;
        stream.set_nodelay(true)?;
        tokio::spawn(serve(stream, seen.clone()));
    }
}

async fn serve(stream: TcpStream, seen: Arc<Mutex<Seen>>) {
    let service = service_fn(|request| receive(request, seen.clone()));
    // A client that closes its connection early is not an error here.
    let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
}

async fn receive(request: Request<Incoming>, seen: Arc<Mutex<Seen>>) -> Result<Response<Full<Bytes>>, Infallible> {
    let path = request.uri().path().to_owned();
    let body = request.into_body().collect().await.map(|body| body.to_bytes()).unwrap_or_default();
    let arrived = clock::now();
    let behaviour = {
        let mut state = seen.lock().unwrap_or_else(PoisonError::into_inner);
        let behaviour = state.behaviour(&path);
        state.arrived(&path, behaviour, clock::sent_at(&body).unwrap_or_default(), arrived);
        behaviour
    };
    let in_flight = InFlight { seen, path, arrived };
    let status = behaviour.act().await;
    drop(in_flight);
    let answer = Response::builder().status(status).body(Full::default());
    Ok(answer.unwrap_or_default())
}

/// A request that is being answered. It is also dropped when the client gives up.
struct InFlight {
    seen: Arc<Mutex<Seen>>,
    path: String,
    arrived: u64,
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).left(&self.path, clock::now() - self.arrived);
    }
}

/// Answers `/report`, `/delivered`, `/reset` and `/switch/<behaviour>`.
async fn answer_questions(listener: TcpListener, seen: Arc<Mutex<Seen>>) {
    while let Ok((stream, _)) = listener.accept().await {
        let seen = seen.clone();
        tokio::spawn(async move {
            let service = service_fn(|request: Request<Incoming>| {
                let answer = answer(request.uri().path(), &seen);
                async move { Ok::<_, Infallible>(Response::new(Full::new(Bytes::from(answer)))) }
            });
            let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

fn answer(path: &str, seen: &Mutex<Seen>) -> String {
    let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
    match path {
        "/reset" => seen.reset(clock::now()),
        "/delivered" => return serde_json::to_string(seen.delivered()).unwrap_or_default(),
        "/report" => return serde_json::to_string(&seen.report()).unwrap_or_default(),
        path => match path.strip_prefix("/switch/").and_then(Behaviour::parse) {
            Some(behaviour) => seen.switch(behaviour),
            None => return "no such question".to_owned(),
        },
    }
    "ok".to_owned()
}

/// Asks a receiver; used by the program that runs the cases.
pub async fn ask(questions: SocketAddr, path: &str) -> anyhow::Result<String> {
    let client = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(30)).build()?;
    Ok(client.get(format!("http://{questions}{path}")).send().await?.text().await?)
}
