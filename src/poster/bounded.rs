//! A connection that is there in time, or not at all.
//!
//! The deadline of an exchange does not reach all connections: where another one becomes free while a new one is being made,
//! hyper's client goes on making the new one by itself, for a later request. A receiver that accepts connections and then says
//! nothing could pile those up without end, so making one has a deadline of its own.

use std::{
    error::Error,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use http::Uri;
use tower_service::Service;

type Problem = Box<dyn Error + Send + Sync>;

/// It took too long to make a connection.
#[derive(Debug, thiserror::Error)]
#[error("the connection was not there in time")]
pub(super) struct TooSlow;

/// Makes connections, and gives up after a time.
#[derive(Clone)]
pub(super) struct Bounded<S> {
    connector: S,
    deadline: Duration,
}

impl<S> Bounded<S> {
    /// `deadline` is for one connection: name, proxy, TCP and TLS.
    pub(super) fn new(connector: S, deadline: Duration) -> Bounded<S> {
        Bounded { connector, deadline }
    }
}

impl<S> Service<Uri> for Bounded<S>
where
    S: Service<Uri, Error = Problem>,
    S::Future: Send + 'static,
{
    type Response = S::Response;
    type Error = Problem;
    type Future = Pin<Box<dyn Future<Output = Result<S::Response, Problem>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Problem>> {
        self.connector.poll_ready(cx)
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let connecting = tokio::time::timeout(self.deadline, self.connector.call(uri));
        Box::pin(async move { connecting.await.unwrap_or_else(|_| Err(TooSlow.into())) })
    }
}
