//! The admin port: `/livez`, `/readyz`, `/metrics` and `/targets`. It is read-only and has no authentication, so it
//! listens on the loopback address by default. It shows no lead data, no secret, and of a URL only scheme, host and
//! port.
//!
//! Liveness stays true while the process runs. An unreachable broker is not a reason to restart a worker, which would
//! only lose its memory of settled messages. Readiness reports everything else ([`Health`]).

#[cfg(test)]
mod tests;

use std::{io, net::SocketAddr, sync::Arc};

use axum::{
    Router,
    extract::{Request, State},
    http::{StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tower_service::Service;

use crate::{
    health::Health,
    http_server::{self, Limits},
    limits::Circuits,
    metrics::{self, Metrics},
};

/// Most connections at a time. Unused connections give way to new ones.
const CONNECTIONS: usize = 64;

/// A bound admin port that does not answer yet.
pub struct Admin {
    listener: TcpListener,
    address: SocketAddr,
}

impl Admin {
    /// Binds the port; port 0 picks a free one.
    ///
    /// # Errors
    /// The address is in use or does not belong to this machine.
    pub async fn bind(listen: SocketAddr) -> io::Result<Admin> {
        let listener = TcpListener::bind(listen).await?;
        let address = listener.local_addr()?;
        Ok(Admin { listener, address })
    }

    /// Returns the address on which it listens, with the picked port.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Answers until `shutdown`. Cancel it last of all, because a draining worker still has to answer for readiness and
    /// metrics.
    pub async fn serve(
        self,
        health: Arc<Health>,
        metrics: Arc<Metrics>,
        circuits: Circuits,
        shutdown: CancellationToken,
    ) {
        let router = Router::new()
            .route("/livez", get(livez))
            .route("/readyz", get(readyz))
            .route("/metrics", get(scrape))
            .route("/targets", get(targets))
            .with_state((health, metrics, circuits));
        let answer = move |_, request: Request| {
            let mut router: Router = router.clone();
            async move { router.call(request).await.unwrap_or_else(|never| match never {}) }
        };
        http_server::serve(self.listener, Limits::of(CONNECTIONS), shutdown, answer).await;
    }
}

type Shared = State<(Arc<Health>, Arc<Metrics>, Circuits)>;

async fn livez() -> &'static str {
    "ok\n"
}

async fn readyz(State((health, ..)): Shared) -> Response {
    let report = health.report();
    let status = if report.ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    match serde_json::to_string_pretty(&report) {
        Ok(json) => (status, [(header::CONTENT_TYPE, "application/json")], json + "\n").into_response(),
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

async fn scrape(State((_, metrics, circuits)): Shared) -> Response {
    metrics.set_circuits(circuits.states());
    ([(header::CONTENT_TYPE, metrics::CONTENT_TYPE)], metrics.encode()).into_response()
}

/// Answers with the state of each circuit, for `leadhook targets`.
async fn targets(State((.., circuits)): Shared) -> Response {
    axum::Json(circuits.view()).into_response()
}
