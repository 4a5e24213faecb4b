//! The command line and the composition root: the only place that reads the environment, builds the parts and connects
//! them.

mod arguments;
pub mod check;
pub mod console;
pub(crate) mod dead_letters;
pub mod deliveries;
pub mod demo_queues;
pub mod explain;
pub mod failed;
pub mod health;
pub mod listen;
pub mod output;
pub mod publish;
pub(crate) mod readable;
pub mod rejected;
pub mod run;
pub mod sample;
pub mod schedule;
pub mod suspects;
pub mod table;
pub mod targets;
pub mod topology;
pub mod unreadable;
mod usage;
pub mod verify;

use std::{
    ffi::OsString,
    io,
    process::{ExitCode, Termination},
};

use clap::{CommandFactory, Parser, Subcommand, error::ErrorKind};

use self::{
    arguments::{SettingsArgs, StoreArgs, With},
    output::{Exit, Refusal, after_help},
};
use crate::{broker::connection, failpoint, logging, os_error, settings};

/// Delivers lead events from RabbitMQ to webhooks: at least once, signed, retried, nothing lost
///
/// Every setting can also come from the environment: LEADHOOK__AMQP__URLS sets amqp.urls, LEADHOOK__BACKOFF__INITIAL sets
/// backoff.initial.
#[derive(Parser)]
#[command(
    version = failpoint::VERSION,
    max_term_width = 110,
    after_help = after_help("leadhook check\nleadhook run\nleadhook publish --sample 6\nleadhook failed list", "")
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

// Each command's help is the doc comment of its arguments. A doc comment here would hide it.
#[derive(Subcommand)]
enum Command {
    Run(With<run::Args, StoreArgs>),
    Check(With<check::Args, StoreArgs>),
    Explain(With<explain::Args, StoreArgs>),
    Publish(With<publish::Args, StoreArgs>),
    Deliveries(With<deliveries::Args, StoreArgs>),
    Failed(With<failed::Args, StoreArgs>),
    Rejected(With<rejected::Args, SettingsArgs>),
    Unreadable(With<unreadable::Args, SettingsArgs>),
    Console(With<console::Args, StoreArgs>),
    Listen(listen::Args),
    Verify(verify::Args),
    Topology(With<topology::Args, SettingsArgs>),
    Targets(With<targets::Args, SettingsArgs>),
    Health(With<health::Args, SettingsArgs>),
    #[command(hide = true)]
    Suspects(With<suspects::Args, StoreArgs>),
    #[command(hide = true)]
    DemoQueues(With<demo_queues::Args, SettingsArgs>),
}

/// Returns the tree of commands and options, under the names that users type.
pub fn command() -> clap::Command {
    let mut command = <Cli as clap::CommandFactory>::command();
    command.build();
    command
}

/// Parses the command line, runs the command and reports its result.
pub fn main() -> ExitCode {
    let arguments: Vec<OsString> = std::env::args_os().collect();
    let cli = match Cli::try_parse_from(&arguments) {
        Ok(cli) => cli,
        Err(error) => return rejected_arguments(&error, &arguments).report(),
    };
    let runtime = match runtime(&cli.command) {
        Ok(runtime) => runtime,
        Err(error) => {
            let text = format!("cannot start the async runtime: {}", os_error::words(&error));
            return Refusal::cannot_start(text, "raise the limits of this process on threads and files")
                .tell()
                .report();
        }
    };
    let exit = runtime.block_on(dispatch(cli.command)).unwrap_or_else(|refusal| refusal.tell());
    // Waits at most 1 s for threads of libraries that still run.
    runtime.shutdown_timeout(std::time::Duration::from_secs(1));
    exit.report()
}

/// Prints the help or the version if the user asked for it. Otherwise prints the problem with the arguments.
fn rejected_arguments(error: &clap::Error, arguments: &[OsString]) -> Exit {
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => match error.print() {
            Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Refusal::unwritable(&error).tell(),
            _ => Exit::Ok,
        },
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            let _ = error.print();
            Exit::Usage
        }
        _ => {
            let mut command = Cli::command();
            command.build();
            usage::refusal(error, &command, arguments).tell()
        }
    }
}

/// Does the first steps of a command that serves: starts logging, and checks that the files for TLS to the broker can
/// be read.
///
/// # Errors
/// The settings are wrong. The reason is already reported.
fn begin(settings: &settings::Settings) -> Result<(), Exit> {
    if let Err(error) = logging::init(&settings.log) {
        return Err(Refusal::usage(format!("cannot log: log.level: {error}"), "correct log.level").tell());
    }
    logging::tell_panics();
    if let Err(error) = connection::tls(&settings.amqp) {
        tracing::error!(%error, "cannot use the settings");
        return Err(Exit::Usage);
    }
    Ok(())
}

/// Number of tasks that a runtime thread runs before it polls sockets and timers again; tokio's default is 61. Frames
/// that are written between two polls reach the broker together, which costs it less
/// (docs/contributing/benchmark-log.md).
const EVENT_INTERVAL: u32 = 256;

fn runtime(command: &Command) -> io::Result<tokio::runtime::Runtime> {
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    if let Command::Run(_) = command {
        runtime.event_interval(EVENT_INTERVAL);
    }
    // With two threads, a message that keeps one of them busy does not block the others in a child process.
    let threads = if let Command::Suspects(_) = command { threads().max(2) } else { threads() };
    runtime.worker_threads(threads).enable_all().build()
}

/// Returns the number of runtime threads: half of the cores that this process may use. Each connection to the broker
/// has its own thread besides these, and handing work between threads costs more than it gains
/// (docs/contributing/benchmark-log.md).
fn threads() -> usize {
    std::thread::available_parallelism().map_or(1, |cores| cores.get().div_ceil(2))
}

async fn dispatch(command: Command) -> Result<Exit, Refusal> {
    if !matches!(command, Command::Run(_) | Command::Console(_) | Command::Suspects(_)) {
        logging::init_for_commands();
    }
    match command {
        Command::Run(With { from, .. }) => Ok(run::run(from.load()?, suspects::arguments(&from)).await),
        Command::Suspects(With { from, .. }) => suspects::run(&from).await,
        // `check` reports the problems of both configurations, so it loads them itself.
        Command::Check(With { args, from }) => check::run(&args, from.file().as_deref(), from.store().as_deref()),
        Command::Explain(With { args, from }) => explain::run(&args, &from.load()?),
        Command::Publish(With { args, from }) => publish::run(&args, &from.load()?).await,
        Command::Deliveries(With { args, from }) => deliveries::run(&args, &from.load()?).await,
        Command::Failed(With { args, from }) => failed::run(&args, &from.load()?).await,
        Command::Rejected(With { args, from }) => rejected::run(&args, &from.load()?).await,
        Command::Unreadable(With { args, from }) => unreadable::run(&args, &from.load()?).await,
        Command::Console(With { from, .. }) => Ok(console::run(from.load()?).await),
        Command::Listen(args) => listen::run(args).await,
        Command::Verify(args) => verify::run(&args),
        Command::Topology(With { args, from }) => topology::run(&args, &from.load()?).await,
        Command::Targets(With { args, from }) => targets::run(&args, &from.load()?).await,
        Command::Health(With { args, from }) => health::run(&args, &from.load()?).await,
        Command::DemoQueues(With { args, from }) => demo_queues::run(&args, &from.load()?).await,
    }
}

#[cfg(test)]
mod tests;
