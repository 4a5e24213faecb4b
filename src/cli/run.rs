//! `leadhook run`: builds the worker from its parts, logs the resolved configuration, and runs it until it stops.

use std::{
    ffi::OsString,
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::{
    signal::unix::{SignalKind, signal},
    sync::watch,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{error, info, warn};

use super::{
    check,
    output::{Exit, after_help},
};
use crate::{
    admin::Admin,
    broker::{publisher::Publisher, topology::Plan},
    delivery::ladder::Ladder,
    delivery_log,
    egress::Rule,
    failpoint,
    health::{Health, Thresholds},
    limits::Circuits,
    metrics::Metrics,
    sender::Sender,
    settings::{self, Egress, Settings},
    store::{LiveStore, ReloadReport},
    worker::{self, Children, Context, End, Recipe, Slots},
};

/// Longest wait for requests to the admin port, after everything else has ended.
const ADMIN_CLOSING: Duration = Duration::from_millis(500);

/// Run the worker: dispatch events and deliver jobs
///
/// Works until SIGTERM or SIGINT, then settles the attempts in flight for at most shutdown.grace. A second signal ends the
/// process at once.
#[derive(clap::Args)]
#[command(after_help = after_help("leadhook run\nleadhook run --config leadhook.toml --store webhooks/", ""))]
pub struct Args {}

/// Runs the worker until SIGTERM or SIGINT. A second signal ends the process at once. `suspects` are the arguments of
/// the worker's child processes.
pub async fn run(settings: Settings, suspects: Vec<OsString>) -> Exit {
    if let Err(exit) = super::begin(&settings) {
        return exit;
    }
    let store = match open_store(&settings.store.path, &settings) {
        Ok(store) => store,
        Err(exit) => return exit,
    };
    raise_open_files();
    announce(&settings, &store);
    let metrics = Metrics::new();
    let health = Arc::new(Health::new(Thresholds::new(&settings)));
    let ended = CancellationToken::new();
    let admin = match Admin::bind(settings.admin.listen).await {
        Ok(admin) => admin,
        Err(error) => {
            error!(address = %settings.admin.listen, %error, "cannot listen on the admin port (admin.listen)");
            return Exit::CannotStart;
        }
    };
    info!(address = %admin.address(), "admin listening");
    let brokers = settings.amqp.urls.last().iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    info!(brokers, prefix = settings.amqp.prefix, exchange = settings.amqp.exchange, "connecting to the broker");
    let ladder = Ladder::for_backoff(&settings.backoff);
    // A worker uses a target's own limits in full until it knows of other workers.
    let workers = watch::Sender::new(1);
    let circuits = Circuits::new(settings.delivery.concurrency, settings.delivery.max_in_flight, workers.subscribe());
    let admin = tokio::spawn(admin.serve(health.clone(), metrics.clone(), circuits.clone(), ended.clone()));
    let sender = match Sender::new(&settings.egress, &settings.tls) {
        Ok(sender) => sender,
        Err(error) => {
            error!(error = format!("{error:#}"), "cannot set up the HTTP client");
            return Exit::CannotStart;
        }
    };
    let shutdown = CancellationToken::new();
    let reporting = report_store(&store, &health, &metrics);
    let watching = tokio::spawn(store.clone().watch(ended.clone(), reporting));
    let plan = Plan::new(&settings.amqp, &ladder);
    let (first_broker, publishing) = (fastrand::u16(..).into(), CancellationToken::new());
    let publisher = Publisher::start_at(first_broker, &settings.amqp, "publish", Some(metrics.clone()), publishing);
    let context = Arc::new(Context {
        log: delivery_log::start(&settings, &plan, &publisher, Some((metrics.clone(), health.clone()))),
        plan,
        publisher,
        children: Children::new(Recipe { arguments: suspects }, metrics.clone()),
        first_broker,
        slots: Slots::new(settings.delivery.concurrency, settings.delivery.event_prefetch),
        circuits,
        store,
        ladder,
        sender,
        metrics,
        health: health.clone(),
        waiting: Default::default(),
        memory: Default::default(),
        dispatched: Default::default(),
        reports: Default::default(),
        tasks: TaskTracker::new(),
        at_proxy: Default::default(),
        workers,
        settings,
    });
    tokio::spawn(stop_on_signal(shutdown.clone(), health));
    // The worker runs in a task. The main thread would wake for each message and pass it to the threads of the runtime.
    let end = match tokio::spawn(worker::run(context, shutdown)).await {
        Ok(end) => end,
        Err(panicked) => std::panic::resume_unwind(panicked.into_panic()),
    };
    ended.cancel();
    // An unfinished request to the admin port does not delay the stop.
    let _ = tokio::time::timeout(ADMIN_CLOSING, async { tokio::join!(admin, watching) }).await;
    match end {
        End::Clean => {
            info!("stopped, everything in flight is settled");
            Exit::Ok
        }
        End::Abandoned(in_flight) => {
            warn!(in_flight, "stopped; the grace period is over, and the messages in flight will be delivered again");
            Exit::UncleanDrain
        }
        End::CannotStart(problem) => {
            error!(%problem, "cannot start");
            Exit::CannotStart
        }
    }
}

/// Raises the soft limit on open files to the hard limit: each request in flight and each idle connection needs a file.
/// The soft limit exists for programs that use select(2).
pub(super) fn raise_open_files() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    if limit.current != limit.maximum
        && let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit })
    {
        warn!(%error, "cannot raise the limit of open files");
    }
}

fn open_store(path: &Path, settings: &Settings) -> Result<Arc<LiveStore>, Exit> {
    let store = LiveStore::open(path, &settings.secrets).map_err(|problems| {
        for problem in problems.iter() {
            error!(%problem, "cannot use the webhook store");
        }
        Exit::Usage
    })?;
    let longest = store.current().longest_timeout();
    if let Some(problem) = longest.and_then(|longest| settings::check_against_store(settings, longest)) {
        error!(%problem, "cannot use the settings");
        return Err(Exit::Usage);
    }
    Ok(Arc::new(store.with_timeouts_below(settings.shutdown.grace)))
}

/// Logs the resolved configuration in a few lines, without secrets. `leadhook check` prints every setting.
fn announce(settings: &Settings, store: &LiveStore) {
    info!(version = failpoint::VERSION, "leadhook starting");
    match settings.changed() {
        changed if changed.is_empty() => info!("all settings have their defaults"),
        changed => info!("settings that differ from their defaults: {}", changed.join("; ")),
    }
    let status = store.status();
    let targets = store.current().webhooks().count();
    let (revision, organizations, campaigns) = (status.revision, status.organizations, status.campaigns);
    info!(revision, organizations, campaigns, targets, "webhook store loaded");
    info!("webhooks may go to {}", reach(&settings.egress));
    let store = store.current();
    let mut objections = check::objections(settings, &store);
    if let Some((target, first)) = objections.next() {
        let targets = 1 + objections.count();
        warn!(targets, %target, first, "URLs that webhooks may not go to; `leadhook check` lists all");
    }
}

/// Describes where webhooks may go, for a log line.
fn reach(egress: &Egress) -> String {
    let listed = |rules: &[Rule]| rules.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    let mut text = "public addresses".to_owned();
    if !egress.allow.is_empty() {
        text += &format!(" and to {}", listed(&egress.allow));
    }
    text += if egress.plain_http { ", over https and http" } else { ", over https" };
    if !egress.deny.is_empty() {
        text += &format!(", but not to {}", listed(&egress.deny));
    }
    if let Some(proxy) = &egress.proxy {
        text += &format!(", through the proxy {proxy}");
    }
    text
}

/// Returns a callback that keeps readiness and metrics up to date with the store.
fn report_store(store: &LiveStore, health: &Arc<Health>, metrics: &Arc<Metrics>) -> impl Fn(&ReloadReport) + use<> {
    let revision = store.status().revision;
    health.set_store(&revision, None);
    metrics.store_revision(&revision);
    let (health, metrics, current) = (health.clone(), metrics.clone(), Mutex::new(revision));
    move |report| {
        let mut current = current.lock().unwrap_or_else(PoisonError::into_inner);
        match report {
            ReloadReport::Loaded(store) => {
                health.set_store(store.revision(), None);
                if store.revision() == *current {
                    return metrics.store_unchanged();
                }
                *current = store.revision().to_owned();
                metrics.store_revision(&current);
                metrics.store_loaded();
            }
            ReloadReport::Refused(problems) => {
                health.set_store(&current, Some(problems.summary()));
                metrics.store_refused();
            }
        }
    }
}

/// Stops the worker at the first signal, and ends the process at the second. The broker then delivers again what was in
/// flight.
async fn stop_on_signal(shutdown: CancellationToken, health: Arc<Health>) {
    let (Ok(mut terminate), Ok(mut interrupt)) = (signal(SignalKind::terminate()), signal(SignalKind::interrupt()))
    else {
        error!("cannot listen for signals");
        return;
    };
    let mut any = async || {
        tokio::select! {
            _ = terminate.recv() => {},
            _ = interrupt.recv() => {},
        }
    };
    any().await;
    failpoint::hit("stop.asked", "");
    info!("stopping; a second signal ends at once");
    health.set_stopping();
    shutdown.cancel();
    any().await;
    warn!("second signal: ending at once");
    // Gives the log line above time to be written.
    tokio::time::sleep(Duration::from_millis(10)).await;
    std::process::exit(Exit::UncleanDrain.code().into());
}
