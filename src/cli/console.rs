//! `leadhook console`: serves the web console, a separate process.

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use super::output::{Exit, after_help};
use crate::{console::Console, failpoint, settings::Settings};

/// Serve the web console: overview, search and failed jobs
///
/// Listens on console.listen until SIGTERM or SIGINT. Without console.credentials every user of this machine can look, and
/// no user can act.
#[derive(clap::Args)]
#[command(after_help = after_help("leadhook console\nLEADHOOK__CONSOLE__LISTEN=127.0.0.1:8000 leadhook console", ""))]
pub struct Args {}

/// Serves the console until SIGTERM or SIGINT.
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
    if settings.console.credentials.last().is_empty() {
        warn!("console.credentials is not set: every user of this machine can read, and no user can act");
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
