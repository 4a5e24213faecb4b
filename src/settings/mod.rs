//! The worker's own settings: turns the file and the `LEADHOOK__...` environment into checked values.
//!
//! There are two stages. `said` merges the layers and keeps the place of each value. `checked` checks each key by its
//! type, bounds and relations. All problems are reported together, each with its place and how to fix it.
//!
//! `keys` is the closed list of settings. Tests check that it agrees with `config/leadhook.toml` and these structs.

mod checked;
mod describe;
mod keys;
mod problem;
mod rotating;
mod said;
mod urls;
mod words;

#[cfg(test)]
mod tests;

use std::{
    fmt,
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use crate::egress::Rule;
pub use keys::{Key, reference};
pub use problem::{Place, Problem, Problems};
pub use rotating::Rotating;
pub use urls::{BrokerUrl, ProxyUrl};

/// The file to read when none is named, if it exists; relative to the working directory.
pub const DEFAULT_FILE: &str = "config/leadhook.toml";

/// Loads and checks the settings. Later layers take precedence:
///
/// 1. compiled-in defaults
/// 2. `file`, which must exist, or else [`DEFAULT_FILE`], which may be missing
/// 3. those variables of `env` that begin with `LEADHOOK__`
/// 4. `store`, as `store.path`
///
/// # Errors
/// Returns all problems together.
pub fn load(
    file: Option<&Path>,
    store: Option<&Path>,
    env: impl Iterator<Item = (String, String)>,
) -> Result<Settings, Problems> {
    let source = file.map_or(said::Source::IfThere(Path::new(DEFAULT_FILE)), said::Source::Given);
    let mut problems = Problems::default();
    let said = said::hear(source, env, &mut problems);
    let settings = checked::check(&said, &mut problems);
    if store.is_some_and(|path| path.as_os_str().is_empty()) {
        problems.add(Place::Option("--store"), None, "is empty: write a path");
    }
    match settings {
        Some(mut settings) if problems.0.is_empty() => {
            if let Some(path) = store {
                settings.store.path = path.to_owned();
            }
            Ok(settings)
        }
        _ => Err(problems),
    }
}

/// Returns the settings when nothing is set.
fn defaults() -> Option<Settings> {
    let mut problems = Problems::default();
    checked::check(&said::hear(said::Source::Nothing, std::iter::empty(), &mut problems), &mut problems)
}

/// Reads only the path of the webhook store and the secrets that it may use. So a store can be checked although other
/// settings are wrong. Returns `None` if one of these keys is wrong itself. Takes the same arguments as [`load`].
pub fn store_alone(
    file: Option<&Path>,
    store: Option<&Path>,
    env: impl Iterator<Item = (String, String)>,
) -> Option<(PathBuf, Secrets)> {
    let source = file.map_or(said::Source::IfThere(Path::new(DEFAULT_FILE)), said::Source::Given);
    let said = said::hear(source, env, &mut Problems::default());
    let (path, secrets) = checked::store_alone(&said)?;
    Some((store.map_or(path, Path::to_owned), secrets))
}

/// Returns the variables of this process that can be settings, for [`load`]. A value that is not Unicode is converted
/// lossily, so that it is reported as wrong and not overlooked.
pub fn environment() -> impl Iterator<Item = (String, String)> {
    std::env::vars_os().filter_map(|(name, value)| {
        let name = name.into_string().ok()?;
        name.starts_with("LEADHOOK_").then(|| (name, value.to_string_lossy().into_owned()))
    })
}

/// Returns a problem if `shutdown.grace` is too short for attempts in flight. `largest_timeout` is the store's.
pub fn check_against_store(settings: &Settings, largest_timeout: Duration) -> Option<Problem> {
    checked::grace_problem(settings, largest_timeout)
}

/// All settings of `leadhook`, checked. Keys and defaults are in docs/reference/settings.md.
#[derive(Clone, Debug)]
pub struct Settings {
    /// How to reach the broker, and the names of queues and exchange.
    pub amqp: Amqp,
    /// Whether Leadhook declares the topology.
    pub topology: Topology,
    /// The path of the webhook store.
    pub store: StoreSettings,
    /// How events and jobs are processed.
    pub delivery: Delivery,
    /// The delivery log.
    pub delivery_log: DeliveryLog,
    /// The secrets to which a store may refer.
    pub secrets: Secrets,
    /// Which addresses webhooks may reach, and through which proxy.
    pub egress: Egress,
    /// TLS for connections to receivers.
    pub tls: Tls,
    /// The retry schedule.
    pub backoff: Backoff,
    /// Stopping.
    pub shutdown: Shutdown,
    /// The admin port.
    pub admin: Admin,
    /// The web console.
    pub console: Console,
    /// Logging.
    pub log: Log,
}

/// `amqp.*`
#[derive(Clone, Debug)]
pub struct Amqp {
    /// Brokers from `amqp.urls` or `amqp.urls_file`, tried in turn. Read them again for each connect. They hold
    /// credentials: print them only with the `Display` of [`BrokerUrl`].
    pub urls: Rotating<Vec<BrokerUrl>>,
    /// First part of the name of every queue of Leadhook.
    pub prefix: String,
    /// The exchange to which upstream publishes.
    pub exchange: String,
    /// The routing keys to bind to the events queue, default `["lead.*"]`.
    pub routing_keys: Vec<String>,
    /// A PEM file of authorities to trust besides the system's, for `amqps://`.
    pub ca_file: Option<PathBuf>,
    /// A PEM file of the worker's certificate, for a broker that asks for one. Needs `client_key`.
    pub client_certificate: Option<PathBuf>,
    /// A PEM file of that certificate's key.
    pub client_key: Option<PathBuf>,
    /// The management API, for `topology check` and for policies. It holds credentials.
    pub management_url: Option<Rotating<BrokerUrl>>,
    /// Longest wait for a publisher confirm before the publish counts as not done, default 10 s.
    pub confirm_timeout: Duration,
    /// Heartbeat, 2 s to 5 min, default 10 s. A broker that is silent for two of these counts as lost.
    pub heartbeat: Duration,
}

impl Amqp {
    /// Returns the vhost of the first broker. All of `amqp.urls` are meant to have the same one. It is `/` if the URL
    /// has no path.
    pub fn vhost(&self) -> String {
        let parts = self.urls.last().first().and_then(BrokerUrl::parts);
        parts.map_or_else(|| "/".to_owned(), |parts| parts.vhost)
    }
}

/// `topology.*`
#[derive(Clone, Debug)]
pub struct Topology {
    /// Whether the worker declares the topology. If `false`, operators own it, and the worker only verifies it.
    pub declare: bool,
}

/// `store.*`
#[derive(Clone, Debug)]
pub struct StoreSettings {
    /// File or directory.
    pub path: PathBuf,
    /// How long a job with an unknown or disabled target is deferred before it fails.
    pub settle: Duration,
}

/// `delivery.*`
#[derive(Clone, Debug)]
pub struct Delivery {
    /// Most attempts in flight in this worker, 1 to 10000.
    pub concurrency: usize,
    /// Most attempts in flight in this worker for one organization and URL origin, 1 to 1000, default 64. A target may
    /// have a lower limit.
    pub max_in_flight: usize,
    /// Jobs older than this fail as `expired`, 1 min to 30 days, default 3 days.
    pub maximum_age: Duration,
    /// Events that the worker takes from the broker at once, 1 to 2000, default 500.
    pub event_prefetch: u16,
    /// Whether the worker makes direct attempts if possible.
    pub direct: bool,
    /// Largest event body in bytes.
    pub max_event_bytes: usize,
}

impl Delivery {
    /// Returns how many jobs the worker takes from the broker at once: a fifth more than `concurrency`. A check at
    /// start keeps them far below the broker's `consumer_timeout`.
    pub fn job_prefetch(&self) -> u16 {
        checked::job_prefetch(self.concurrency)
    }
}

/// `delivery_log.*`
#[derive(Clone, Copy, Debug)]
pub struct DeliveryLog {
    /// Whether the delivery log is written.
    pub enabled: bool,
    /// How long it keeps records, 1 h to a year, default 14 days.
    pub maximum_age: Duration,
    /// Size in bytes at which it drops its oldest records, 10 MiB to 1 TiB, default 10 GiB.
    pub max_bytes: u64,
}

/// `secrets.*`
#[derive(Clone, Debug)]
pub struct Secrets {
    /// Variables in a store must begin with this.
    pub environment_prefix: String,
    /// Secret files of a store must be under this directory.
    pub directory: Option<PathBuf>,
}

/// `egress.*`
#[derive(Clone, Debug, Default)]
pub struct Egress {
    /// Addresses and hosts that may be called although they are not public.
    pub allow: Vec<Rule>,
    /// Addresses and hosts that may not be called. Takes precedence over `allow`.
    pub deny: Vec<Rule>,
    /// Whether `http://` may be called.
    pub plain_http: bool,
    /// The proxy for all webhooks.
    pub proxy: Option<Rotating<ProxyUrl>>,
    /// Whether the proxy gets names instead of checked addresses. The proxy then has to protect the network itself.
    pub proxy_resolves: bool,
    /// Name servers to ask instead of the system's.
    pub name_servers: Vec<SocketAddr>,
}

/// `tls.*`: connections to receivers.
#[derive(Clone, Debug, Default)]
pub struct Tls {
    /// A PEM file of authorities to trust besides the system's.
    pub ca_file: Option<PathBuf>,
    /// The oldest version to speak.
    pub minimum_version: TlsVersion,
}

/// `tls.minimum_version`
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TlsVersion {
    /// TLS 1.2, RFC 5246.
    #[default]
    V1_2,
    /// TLS 1.3, RFC 8446.
    V1_3,
}

/// `backoff.*`
#[derive(Clone, Debug, PartialEq)]
pub struct Backoff {
    /// Wait before the first retry, 100 ms to 24 h.
    pub initial: Duration,
    /// Growth per retry, 1.0 to 10.0.
    pub multiplier: f64,
    /// Longest wait before jitter, at least `initial`, at most 7 days.
    pub maximum: Duration,
    /// Relative spread to either side, 0.0 to 0.5.
    pub jitter: f64,
    /// Cap on what a receiver's `Retry-After` may ask for.
    pub retry_after_maximum: Duration,
}

/// `shutdown.*`
#[derive(Clone, Debug)]
pub struct Shutdown {
    /// Time for attempts in flight to finish after SIGTERM.
    pub grace: Duration,
}

/// `admin.*`
#[derive(Clone, Debug)]
pub struct Admin {
    /// Address of `/livez`, `/readyz`, `/metrics`, `/targets`; port 0 picks one.
    pub listen: SocketAddr,
    /// Number of failed messages from which `/readyz` warns, default 10000.
    pub failed_threshold: u64,
    /// Number of rejected messages from which `/readyz` warns, default 1000.
    pub rejected_threshold: u64,
    /// Number of unreadable messages from which `/readyz` warns, default 1.
    pub unreadable_threshold: u64,
}

/// `console.*`
#[derive(Clone, Debug)]
pub struct Console {
    /// Address of the web console; port 0 picks a free one. Beyond loopback only with credentials.
    pub listen: SocketAddr,
    /// The users. If there are none, every user of this machine may read. Read them again for each request.
    pub credentials: Rotating<Vec<Credential>>,
    /// Names that browsers may use for the console, besides those of the loopback.
    pub hosts: Vec<String>,
    /// Directory for discarded jobs and messages. With `None` the console discards nothing.
    pub discard_directory: Option<PathBuf>,
}

/// One user of the console. Only a digest of the secret is kept, and `Debug` shows neither.
#[derive(Clone, PartialEq, Eq)]
pub struct Credential {
    /// The user's name, as in the log and the delivery log.
    pub name: String,
    /// What the user may do.
    pub role: Role,
    /// SHA-256 of the secret.
    pub digest: [u8; 32],
}

/// What a user may do in the console.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// Look at everything but the data of leads.
    Read,
    /// Replay, discard, and see the data of leads.
    Act,
}

impl Role {
    /// Returns the word that settings use.
    pub fn name(self) -> &'static str {
        match self {
            Role::Read => "read",
            Role::Act => "act",
        }
    }
}

impl fmt::Display for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.name, self.role.name())
    }
}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Credential({self})")
    }
}

/// `log.*`
#[derive(Clone, Debug)]
pub struct Log {
    /// The format of log lines.
    pub format: LogFormat,
    /// A level or a `tracing` filter directive.
    pub level: String,
}

/// `log.format`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// Readable on a terminal, JSON otherwise.
    Auto,
    /// Readable.
    Text,
    /// One JSON object a line.
    Json,
}
