//! `leadhook health`: asks the admin port of a running worker, for container health checks without a shell or curl.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::{cli::output::Exit, settings::Settings};

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
    let mut address = settings.admin.listen;
    if address.ip().is_unspecified() {
        address.set_ip(std::net::Ipv4Addr::LOCALHOST.into());
    }
    match tokio::time::timeout(PATIENCE, ask(address, path)).await {
        Ok(Ok((status, body))) => {
            print!("{body}");
            if status == 200 { Exit::Ok } else { Exit::Findings }
        }
        Ok(Err(error)) => {
            eprintln!("no worker answers on {address} (admin.listen): {error}");
            Exit::Findings
        }
        Err(_) => {
            eprintln!("the worker on {address} (admin.listen) did not answer within {} s", PATIENCE.as_secs());
            Exit::Findings
        }
    }
}

/// One HTTP/1.0 request by hand: the answer is ours, small and on this machine; a whole client would be loaded each time.
async fn ask(address: std::net::SocketAddr, path: &str) -> std::io::Result<(u16, String)> {
    let mut stream = tokio::net::TcpStream::connect(address).await?;
    stream.write_all(format!("GET {path} HTTP/1.0\r\nhost: leadhook\r\n\r\n").as_bytes()).await?;
    let mut answer = String::new();
    stream.take(1 << 20).read_to_string(&mut answer).await?;
    let status = answer.split(' ').nth(1).and_then(|status| status.parse().ok());
    let body = answer.split_once("\r\n\r\n").map(|(_, body)| body.to_owned()).unwrap_or_default();
    status.map(|status| (status, body)).ok_or_else(|| std::io::Error::other("the answer is no HTTP"))
}
