//! The benchmark: throughput, latency, isolation of bad targets, and recovery, against bars. `make bench` runs it, and
//! docs/explanation/performance.md describes the cases.
//!
//! ```text
//!  this program --starts--> private RabbitMQ, receivers, workers (or the ceiling), all of them processes of their own
//!       |--publishes as upstream does
//!       '--asks the receivers what they have seen, and /proc what each process has cost
//! ```
//!
//! The variants of a case run in turn, round after round, so that noise of the machine affects all of them.

mod case;
mod cases;
mod ceiling;
mod clock;
mod figures;
mod receiver;
mod rig;
mod run;

use clap::{Parser, Subcommand};

/// The worker's allocator, so that the ceiling is not measured with a slower one.
#[cfg(target_os = "linux")]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

#[derive(Parser)]
#[command(about = "Measures Leadhook against its bars and against the barest programs that do the same")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run cases, print a table of figures and bars, write target/bench/latest.json
    Run(run::Args),
    /// The receivers of a run
    #[command(hide = true)]
    Receiver,
    /// The barest program that does the same, with one broker hop or two
    #[command(hide = true)]
    Ceiling(ceiling::Args),
}

fn main() -> anyhow::Result<()> {
    let command = Cli::parse().command;
    let threads = match &command {
        Command::Ceiling(args) => args.threads,
        // One core is enough for the receivers, and leaves the other to the programs that are measured.
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
            Command::Run(args) => run::run(args).await,
            Command::Receiver => receiver::run().await,
            Command::Ceiling(args) => ceiling::run(args).await,
        }
    })
}
