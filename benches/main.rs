//! The benchmark: how fast, how late, how fair, and against what limit. `make bench`; docs/contributing/benchmark-log.md explains it.
//!
//! ```text
//!  this program --starts--> private RabbitMQ, receivers, workers (or the ceiling), all of them processes of their own
//!       |--publishes as upstream does
//!       '--asks the receivers what they have seen, and /proc what everybody has cost
//! ```
//!
//! Variants of a case are run in turn, again and again, so that a machine that is noisy is as noisy for one as for the other.

mod cases;
mod ceiling;
mod clock;
mod receiver;
mod rig;
mod summary;

use clap::{Parser, Subcommand};

/// The worker's, so that the ceiling has no worse one.
#[cfg(target_os = "linux")]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

#[derive(Parser)]
#[command(about = "Measures Leadhook against the barest program that does the same")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run cases, print a table, write target/bench/latest.json
    Run(cases::Args),
    /// The receivers of a run
    #[command(hide = true)]
    Receiver,
    /// The barest program that does the same
    #[command(hide = true)]
    Ceiling(ceiling::Args),
}

fn main() -> anyhow::Result<()> {
    let command = Cli::parse().command;
    let threads = match &command {
        Command::Ceiling(args) => args.threads,
        // One core is enough for the receivers, and leaves the other to those who are measured.
        Command::Receiver => 0,
        Command::Run(_) => 1,
    };
    let mut runtime = match threads {
        0 => tokio::runtime::Builder::new_current_thread(),
        _ => tokio::runtime::Builder::new_multi_thread(),
    };
    if let Command::Ceiling(args) = &command {
        runtime.event_interval(args.event_interval);
    }
    let runtime = runtime.worker_threads(threads.max(1)).enable_all().build()?;
    runtime.block_on(async {
        match command {
            Command::Run(args) => cases::run(args).await,
            Command::Receiver => receiver::run().await,
            Command::Ceiling(args) => ceiling::run(args).await,
        }
    })
}
