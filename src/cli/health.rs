//! `leadhook health`: asks the admin port of a running worker, for container health checks without a shell or curl.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::{cli::output::Exit, settings::Settings};

/// Most bytes of an answer: about 100,000 lanes.
const LONGEST_ANSWER: u64 = 32 << 20;

/// Longest wait for the whole answer.
const PATIENCE: Duration = Duration::from_secs(3);

/// Ask a running worker whether it is ready: exit 0 if it is, 1 if not.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// Ask only whether the process is alive, not whether it is ready
    #[arg(long)]
    live: bool,
}

/// Asks `admin.listen` on this machine and prints what it says.
pub async fn run(args: &Args, settings: &Settings) -> Exit {
    let path = if args.live { "/livez" } else { "/readyz" };
    match ask_worker(settings, path).await {
        Ok((status, body)) => {
            print!("{body}");
            if status == 200 { Exit::Ok } else { Exit::Findings }
        }
        Err(why) => {
            eprintln!("{why}");
            Exit::Findings
        }
    }
}

/// The status and the body that the worker on `admin.listen` answers with.
///
/// # Errors
/// None answers in time; says so in a sentence.
pub(crate) async fn ask_worker(settings: &Settings, path: &str) -> Result<(u16, String), String> {
    let mut address = settings.admin.listen;
    if address.ip().is_unspecified() {
        address.set_ip(std::net::Ipv4Addr::LOCALHOST.into());
    }
    match tokio::time::timeout(PATIENCE, ask(address, path)).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(error)) => Err(format!("no worker answers on {address} (admin.listen): {error}")),
        Err(_) => Err(format!("the worker on {address} (admin.listen) did not answer within {} s", PATIENCE.as_secs())),
    }
}

/// One HTTP/1.0 request by hand: the answer is ours, small and on this machine; a whole client would be loaded each time.
async fn ask(address: std::net::SocketAddr, path: &str) -> std::io::Result<(u16, String)> {
    let mut stream = tokio::net::TcpStream::connect(address).await?;
    stream.write_all(format!("GET {path} HTTP/1.0\r\nhost: leadhook\r\n\r\n").as_bytes()).await?;
    let mut answer = String::new();
    stream.take(LONGEST_ANSWER).read_to_string(&mut answer).await?;
    let status = answer.split(' ').nth(1).and_then(|status| status.parse().ok());
    let body = answer.split_once("\r\n\r\n").map(|(_, body)| body.to_owned()).unwrap_or_default();
    status.map(|status| (status, body)).ok_or_else(|| std::io::Error::other("the answer is no HTTP"))
}
