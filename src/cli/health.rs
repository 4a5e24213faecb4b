//! `leadhook health`: asks the admin port of a running worker, so that container health checks need no shell or curl.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::output::{self, Exit, Refusal, after_help};
use crate::{os_error, settings::Settings};

/// Largest answer in bytes, enough for about 100,000 targets.
const LONGEST_ANSWER: u64 = 32 << 20;

/// Longest wait for the whole answer.
const PATIENCE: Duration = Duration::from_secs(3);

/// Ask a running worker whether it is ready
///
/// Asks the worker at admin.listen on this machine. Meant for health checks of containers, which need no shell for it.
#[derive(clap::Args, Debug)]
#[command(after_help = after_help("leadhook health\nleadhook health --live", "not ready, or no worker answers"))]
pub struct Args {
    /// Ask only whether the process is alive
    #[arg(long)]
    live: bool,
}

/// Asks `admin.listen` on this machine and prints the answer.
///
/// # Errors
/// No worker answers.
pub async fn run(args: &Args, settings: &Settings) -> Result<Exit, Refusal> {
    let path = if args.live { "/livez" } else { "/readyz" };
    let (status, body) = ask_worker(settings, path).await.map_err(|why| Refusal::findings(why, START_ONE))?;
    output::print(body.trim_end()).map_err(|error| Refusal::unwritable(&error))?;
    Ok(if status == 200 { Exit::Ok } else { Exit::Findings })
}

/// The advice if no worker answers.
pub(super) const START_ONE: &str = "start one with `leadhook run`, or correct admin.listen (LEADHOOK__ADMIN__LISTEN)";

/// Asks the worker on `admin.listen`, and returns the status and body of its answer.
///
/// # Errors
/// No worker answers in time. The error is a sentence that says so.
pub(crate) async fn ask_worker(settings: &Settings, path: &str) -> Result<(u16, String), String> {
    let mut address = settings.admin.listen;
    if address.ip().is_unspecified() {
        address.set_ip(std::net::Ipv4Addr::LOCALHOST.into());
    }
    match tokio::time::timeout(PATIENCE, ask(address, path)).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(error)) => Err(format!("no worker answers: {address} (admin.listen): {}", os_error::words(&error))),
        Err(_) => Err(format!("no worker answers: {address} (admin.listen): nothing in {} s", PATIENCE.as_secs())),
    }
}

/// Sends one HTTP/1.0 request by hand. The answer comes from a worker on this machine, and a full client would take
/// longer to load.
async fn ask(address: std::net::SocketAddr, path: &str) -> std::io::Result<(u16, String)> {
    let mut stream = tokio::net::TcpStream::connect(address).await?;
    stream.write_all(format!("GET {path} HTTP/1.0\r\nhost: leadhook\r\n\r\n").as_bytes()).await?;
    let mut answer = String::new();
    stream.take(LONGEST_ANSWER).read_to_string(&mut answer).await?;
    let status = answer.split(' ').nth(1).and_then(|status| status.parse().ok());
    let body = answer.split_once("\r\n\r\n").map(|(_, body)| body.to_owned()).unwrap_or_default();
    status.map(|status| (status, body)).ok_or_else(|| std::io::Error::other("the answer is not HTTP"))
}
