//! The admin port: `/livez`, `/readyz`, `/metrics` and `/targets`, read only and without authentication, hence on the
//! loopback address by default. It holds no lead data, no secret, and nothing of a URL but scheme, host and port.
//!
//! Liveness stays true while the process runs: a broker that is away is no reason to restart a worker that would only
//! lose what it remembers. Readiness tells everything else ([`Health`]).

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

/// Connections at a time. Those that are unused give way to others.
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
    /// The address is in use or not ours.
    pub async fn bind(listen: SocketAddr) -> io::Result<Admin> {
        let listener = TcpListener::bind(listen).await?;
        let address = listener.local_addr()?;
        Ok(Admin { listener, address })
    }

    /// Where it listens, the picked port included.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Answers until `shutdown`, which is to be cancelled last of all: a worker that drains is asked for its readiness,
    /// and scraped, to the end.
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

/// The state of each circuit, for `leadhook targets`.
async fn targets(State((.., circuits)): Shared) -> Response {
    axum::Json(circuits.view()).into_response()
}
