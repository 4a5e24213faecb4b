//! `make fuzz`: sends frames that no broker should send to a real worker, for as long as asked. A run that breaks a
//! rule prints its seed.

use std::time::Duration;

use clap::Parser;

/// Workers and the scripted broker.
#[path = "../rig/mod.rs"]
mod rig;

/// Sends bad frames to a worker through a scripted broker end
#[derive(Parser)]
#[command(name = "frames")]
struct Asked {
    /// How long
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// Pause in milliseconds after each good event, on a machine that has other work
    #[arg(long, default_value_t = 0)]
    pause: u64,
    /// Seed [default: drawn, and printed]
    #[arg(long)]
    seed: Option<u64>,
}

fn main() {
    let asked = Asked::parse();
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime");
    let seed = asked.seed.unwrap_or_else(|| fastrand::u64(..));
    let (lasting, pause) = (Duration::from_secs(asked.seconds), Duration::from_millis(asked.pause));
    println!("{}", runtime.block_on(rig::frames::run(lasting, pause, seed)));
}
