//! `leadhook console`: the web console, a process of its own.

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use super::output::Exit;
use crate::{console::Console, failpoint, settings::Settings};

/// Serves until SIGTERM or SIGINT.
pub async fn run(settings: Settings) -> Exit {
    if let Err(exit) = super::begin(&settings) {
        return exit;
    }
    let console = match Console::bind(&settings.console).await {
        Ok(console) => console,
        Err(error) => {
            error!(address = %settings.console.listen, %error, "cannot listen (console.listen)");
            return Exit::CannotStart;
        }
    };
    info!(version = failpoint::VERSION, address = %console.address(), "console listening");
    if settings.console.credentials.is_empty() {
        warn!("there are no console.credentials: whoever is on this machine may read, and nobody may act");
    }
    let shutdown = CancellationToken::new();
    let (Ok(mut terminate), Ok(mut interrupt)) = (signal(SignalKind::terminate()), signal(SignalKind::interrupt()))
    else {
        error!("cannot listen for signals");
        return Exit::CannotStart;
    };
    let stop = shutdown.clone();
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {},
            _ = interrupt.recv() => {},
        }
        stop.cancel();
    });
    console.serve(settings, shutdown).await;
    info!("console stopped");
    Exit::Ok
}
