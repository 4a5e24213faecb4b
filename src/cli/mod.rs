//! The command line and the composition root: the only place that reads the environment, builds the parts and joins them.

mod arguments;
pub mod check;
pub mod console;
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
pub mod targets;
pub mod topology;
pub mod verify;

use std::{
    path::PathBuf,
    process::{ExitCode, Termination},
};

use clap::{
    Parser, Subcommand,
    builder::{OsStringValueParser, TypedValueParser},
};

use crate::{
    broker::connection,
    cli::output::{Exit, Refusal},
    failpoint, logging, settings,
};

/// Delivers lead events from RabbitMQ to webhooks: at least once, signed, retried, nothing lost.
#[derive(Parser)]
#[command(
    version = failpoint::VERSION,
    about,
    max_term_width = 110,
    after_help = "\
Exit codes: 0 fine, 1 findings or something failed, 2 usage or bad configuration, 3 could not start (broker or topology), \
4 stopped before everything in flight was settled.\n\
Every setting can also come from the environment: LEADHOOK__AMQP__URLS=amqp://..., LEADHOOK__BACKOFF__INITIAL=500ms."
)]
struct Cli {
    /// Settings of the service [default: config/leadhook.toml if it is there, else the built-in defaults]
    #[arg(long, global = true, value_name = "FILE", env = "LEADHOOK_CONFIG", value_parser = OsStringValueParser::new().map(PathBuf::from))]
    config: Option<PathBuf>,
    /// Webhook store, a file or directory [default: store.path of the settings]
    #[arg(long, global = true, value_name = "PATH")]
    store: Option<PathBuf>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run the worker: dispatch events, deliver jobs, until SIGTERM
    Run,
    /// Validate settings and webhook store, all problems at once
    Check(check::Args),
    /// Say where an event of a campaign would go, and why
    Explain(explain::Args),
    /// Publish events from files, from standard input, or made up
    Publish(publish::Args),
    /// Say what happened to each delivery, from the delivery log
    Deliveries(deliveries::Args),
    /// Look at failed jobs, and put them back to be delivered anew
    Failed(failed::Args),
    /// Look at rejected messages, and put them back when the cause is mended
    Rejected(rejected::Args),
    /// Serve the web console: overview, search, failed jobs, until SIGTERM
    Console,
    /// Receive webhooks: print, verify, answer by script
    Listen(listen::ListenArgs),
    /// Check the signature of a webhook that was received
    Verify(verify::Args),
    /// Print, declare or check the exchange and the queues
    Topology(topology::Args),
    /// Show how a running worker gets on with each target: limits, attempts in flight, parked jobs
    Targets(targets::Args),
    /// Ask a running worker whether it is ready (for health checks)
    Health(health::Args),
    #[command(hide = true)]
    DemoQueues(demo_queues::Args),
}

/// The tree of commands and options, with the names that their users type.
pub fn command() -> clap::Command {
    let mut command = <Cli as clap::CommandFactory>::command();
    command.build();
    command
}

/// Parses the command line, runs the command and says how it went.
pub fn main() -> ExitCode {
    let mut cli = Cli::parse();
    // As with every setting, an empty variable counts as not set.
    cli.config = cli.config.filter(|path| !path.as_os_str().is_empty());
    let runtime = match runtime(&cli.command) {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("error: cannot start the async runtime: {error}");
            return Exit::CannotStart.report();
        }
    };
    let exit = runtime.block_on(dispatch(cli));
    // What runs on a thread of its own still is waited for by nobody.
    runtime.shutdown_timeout(std::time::Duration::from_secs(1));
    exit.report()
}

/// What each command that serves does first: the log, and what can be seen of the settings only by using them.
///
/// # Errors
/// The settings are wrong; it was said.
fn begin(settings: &settings::Settings) -> Result<(), Exit> {
    if let Err(error) = logging::init(&settings.log) {
        eprintln!("error: {error}");
        return Err(Exit::Usage);
    }
    logging::tell_panics();
    if let Err(error) = connection::tls(&settings.amqp) {
        tracing::error!(%error, "cannot use the settings");
        return Err(Exit::Usage);
    }
    Ok(())
}

/// Turns of a worker's thread before it looks at sockets and timers again, as long as there are tasks to run; tokio takes 61. In each turn it
/// runs one task, and up to three that this one has woken. What is done between two looks goes to the broker together, and it has
/// less to do for it (docs/contributing/benchmark-log.md).
const BETWEEN_LOOKS: u32 = 256;

fn runtime(command: &Command) -> std::io::Result<tokio::runtime::Runtime> {
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    if let Command::Run = command {
        runtime.event_interval(BETWEEN_LOOKS);
    }
    runtime.worker_threads(threads()).enable_all().build()
}

/// Half of the cores, as far as this process may use them: each of the two connections to the broker has a thread of its own
/// beside these, and work that is handed from one thread to another costs more than it gains (docs/contributing/benchmark-log.md).
fn threads() -> usize {
    std::thread::available_parallelism().map_or(1, |cores| cores.get().div_ceil(2))
}

async fn dispatch(cli: Cli) -> Exit {
    // `check` reports the problems of both configurations, so it loads them itself.
    if let Command::Check(args) = &cli.command {
        logging::init_for_commands();
        return check::run(args, cli.config.as_deref(), cli.store.as_deref());
    }
    if let Command::Listen(args) = cli.command {
        logging::init_for_commands();
        return match listen::run(args).await {
            Ok(()) => Exit::Ok,
            Err(error) => Refusal::cannot_start(format!("{error:#}")).tell(),
        };
    }
    if let Command::Verify(args) = &cli.command {
        return verify::run(args).unwrap_or_else(|refusal| refusal.tell());
    }
    let settings = match settings::load(cli.config.as_deref(), cli.store.as_deref(), settings::environment()) {
        Ok(settings) => settings,
        Err(problems) => {
            eprintln!("{problems}");
            return Exit::Usage;
        }
    };
    if !matches!(cli.command, Command::Run | Command::Console) {
        logging::init_for_commands();
    }
    match cli.command {
        Command::Run => run::run(settings).await,
        Command::Explain(args) => explain::run(&args, &settings).unwrap_or_else(|refusal| refusal.tell()),
        Command::Publish(args) => publish::run(&args, &settings).await.unwrap_or_else(|refusal| refusal.tell()),
        Command::Topology(args) => topology::run(&args, &settings).await.unwrap_or_else(|refusal| refusal.tell()),
        Command::DemoQueues(args) => demo_queues::run(&args, &settings).await.unwrap_or_else(|refusal| refusal.tell()),
        Command::Deliveries(args) => deliveries::run(&args, &settings).await.unwrap_or_else(|refusal| refusal.tell()),
        Command::Failed(args) => failed::run(&args, &settings).await.unwrap_or_else(|refusal| refusal.tell()),
        Command::Rejected(args) => rejected::run(&args, &settings).await.unwrap_or_else(|refusal| refusal.tell()),
        Command::Targets(args) => targets::run(&args, &settings).await.unwrap_or_else(|refusal| refusal.tell()),
        Command::Console => console::run(settings).await,
        Command::Health(args) => health::run(&args, &settings).await,
        Command::Check(_) | Command::Listen(_) | Command::Verify(_) => Exit::Ok, // done above
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_well_formed() {
        super::Cli::command().debug_assert();
    }
}
