//! The service's own settings: what was said (file, then `LEADHOOK__...` environment) becomes checked values.
//!
//! Two stages: `said` hears the layers and remembers where each value stood, `checked` reads every key by its type,
//! bounds and relations. All problems come together, each with its place and what would be right. `keys` is the closed
//! list of settings; tests hold it, `config/leadhook.toml` and these structs to one another.

mod checked;
mod describe;
mod keys;
mod problem;
mod rotating;
mod said;
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

/// The file that is read when none is named, if it is there: relative to the working directory.
pub const DEFAULT_FILE: &str = "config/leadhook.toml";

/// Loads and checks the settings: compiled-in defaults, then `file` (which must be there) or [`DEFAULT_FILE`] (which may
/// be missing), then `env`, of which only names with `LEADHOOK_` are looked at, then `store` as `store.path`.
///
/// # Errors
/// All problems at once.
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

/// The settings where nothing is said.
fn defaults() -> Option<Settings> {
    let mut problems = Problems::default();
    checked::check(&said::hear(said::Source::Nothing, std::iter::empty(), &mut problems), &mut problems)
}

/// Where the webhook store lies and which secrets it may use, read by themselves: for looking at a store although other
/// settings are wrong. `None` where one of these keys is wrong itself. Takes what [`load`] takes.
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

/// The variables of this process that can be settings, for [`load`]. One that is not Unicode is taken lossily, so that
/// it is reported as a wrong value instead of being overlooked.
pub fn environment() -> impl Iterator<Item = (String, String)> {
    std::env::vars_os().filter_map(|(name, value)| {
        let name = name.into_string().ok()?;
        name.starts_with("LEADHOOK_").then(|| (name, value.to_string_lossy().into_owned()))
    })
}

/// Whether `shutdown.grace` leaves attempts in flight the time they may take; `largest_timeout` is the store's.
pub fn check_against_store(settings: &Settings, largest_timeout: Duration) -> Option<Problem> {
    checked::grace_problem(settings, largest_timeout)
}

/// Everything `leadhook` needs to know about itself, checked. Keys and defaults: docs/reference/settings.md.
#[derive(Clone, Debug)]
pub struct Settings {
    /// How to reach the broker and what our names are.
    pub amqp: Amqp,
    /// Who owns the topology.
    pub topology: Topology,
    /// Where the webhook store lies.
    pub store: StoreSettings,
    /// How events and jobs are worked on.
    pub delivery: Delivery,
    /// What is kept for support.
    pub delivery_log: DeliveryLog,
    /// Which secrets a store may refer to.
    pub secrets: Secrets,
    /// Where webhooks may go, and which way.
    pub egress: Egress,
    /// Whom to trust over TLS.
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
    /// Brokers, tried in turn, of `amqp.urls` or `amqp.urls_file`: ask again at each connect. They hold credentials: print
    /// with [`BrokerUrl`]'s `Display` only.
    pub urls: Rotating<Vec<BrokerUrl>>,
    /// First part of every name of ours.
    pub prefix: String,
    /// Where upstream publishes.
    pub exchange: String,
    /// Which routing keys are bound to the events queue, default `["lead.*"]`.
    pub routing_keys: Vec<String>,
    /// A PEM file of authorities to trust besides the system's, for `amqps://`.
    pub ca_file: Option<PathBuf>,
    /// Who we are to a broker that asks, a PEM file; with `client_key` or not at all.
    pub client_certificate: Option<PathBuf>,
    /// Its key, a PEM file.
    pub client_key: Option<PathBuf>,
    /// The management API, for `topology check` and for policies; holds credentials.
    pub management_url: Option<Rotating<BrokerUrl>>,
    /// Longest wait for a publisher confirm before the publish counts as not done, default 10 s.
    pub confirm_timeout: Duration,
    /// A broker that is silent for two of these counts as lost, 2 s to 5 min, default 10 s.
    pub heartbeat: Duration,
}

impl Amqp {
    /// The vhost of the first broker: all of `amqp.urls` are meant to be the same one. Without a path it is the default one.
    pub fn vhost(&self) -> String {
        let parts = self.urls.last().first().and_then(BrokerUrl::parts);
        parts.map_or_else(|| "/".to_owned(), |parts| parts.vhost)
    }
}

/// A URL with credentials in it. `Debug` and `Display` show neither user information nor query.
#[derive(Clone, PartialEq, Eq)]
pub struct BrokerUrl(url::Url);

impl BrokerUrl {
    /// Wraps a parsed URL.
    pub fn new(url: url::Url) -> BrokerUrl {
        BrokerUrl(url)
    }

    /// The whole URL, credentials included: for connecting only, never for printing.
    pub fn expose(&self) -> &url::Url {
        &self.0
    }

    /// The parts of a broker's URL as the AMQP library reads them; none for the URL of a management API.
    pub fn parts(&self) -> Option<lapin::uri::AMQPUri> {
        self.0.as_str().parse().ok()
    }
}

impl fmt::Display for BrokerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", self.0.scheme(), self.0.host_str().unwrap_or("?"))?;
        if let Some(port) = self.0.port() {
            write!(f, ":{port}")?;
        }
        f.write_str(self.0.path())
    }
}

impl fmt::Debug for BrokerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "BrokerUrl({self})")
    }
}

/// `topology.*`
#[derive(Clone, Debug)]
pub struct Topology {
    /// `false`: operators own the topology, only verify it.
    pub declare: bool,
}

/// `store.*`
#[derive(Clone, Debug)]
pub struct StoreSettings {
    /// File or directory.
    pub path: PathBuf,
    /// How long a job whose target is unknown or disabled here is deferred before it fails for good.
    pub settle: Duration,
}

/// `delivery.*`
#[derive(Clone, Debug)]
pub struct Delivery {
    /// Attempts in flight in this worker, 1 to 10000.
    pub concurrency: usize,
    /// Attempts in flight for one organization and URL origin, 1 to 1000, default 64; a target may lower its own.
    pub max_in_flight: usize,
    /// Jobs older than this fail as `expired`, 1 min to 30 days, default 3 days.
    pub maximum_age: Duration,
    /// Events taken from the broker at once, 1 to 2000, default 500.
    pub event_prefetch: u16,
    /// Whether first attempts are made straight from the event where that is possible.
    pub direct: bool,
    /// Largest event body in bytes.
    pub max_event_bytes: usize,
}

impl Delivery {
    /// Jobs to take from the broker at once, per worker: a fifth more than `concurrency`. Checked at start to stay far
    /// below the broker's `consumer_timeout`.
    pub fn job_prefetch(&self) -> u16 {
        checked::job_prefetch(self.concurrency)
    }
}

/// `delivery_log.*`
#[derive(Clone, Copy, Debug)]
pub struct DeliveryLog {
    /// Whether there is one.
    pub enabled: bool,
    /// How long it keeps records, 1 h to a year, default 14 days.
    pub maximum_age: Duration,
    /// Bytes from which its oldest records are thrown away, 10 MiB to 1 TiB, default 10 GiB.
    pub max_bytes: u64,
}

/// `secrets.*`
#[derive(Clone, Debug)]
pub struct Secrets {
    /// Variables in a store must begin with this.
    pub environment_prefix: String,
    /// Files in a store must lie under this.
    pub directory: Option<PathBuf>,
}

/// `egress.*`
#[derive(Clone, Debug, Default)]
pub struct Egress {
    /// What may be called although it is not public.
    pub allow: Vec<Rule>,
    /// What may not be called, whatever else is said.
    pub deny: Vec<Rule>,
    /// Whether `http://` may be called.
    pub plain_http: bool,
    /// The proxy that all webhooks go through.
    pub proxy: Option<Rotating<ProxyUrl>>,
    /// Whether the proxy is given names instead of addresses: it looks after itself then.
    pub proxy_resolves: bool,
    /// Name servers to ask instead of the system's.
    pub name_servers: Vec<SocketAddr>,
}

/// The URL of a proxy, `http://` (with CONNECT) or `socks5://`, perhaps with credentials. `Debug` and `Display` show none.
#[derive(Clone, PartialEq, Eq)]
pub struct ProxyUrl(url::Url);

impl ProxyUrl {
    /// Wraps a parsed URL.
    pub fn new(url: url::Url) -> ProxyUrl {
        ProxyUrl(url)
    }

    /// The whole URL, credentials included: for connecting only, never for printing.
    pub fn expose(&self) -> &url::Url {
        &self.0
    }
}

impl fmt::Display for ProxyUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", self.0.scheme(), self.0.host_str().unwrap_or("?"))?;
        self.0.port().map_or(Ok(()), |port| write!(f, ":{port}"))
    }
}

impl fmt::Debug for ProxyUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ProxyUrl({self})")
    }
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
    /// How long attempts in flight may take to finish after SIGTERM.
    pub grace: Duration,
}

/// `admin.*`
#[derive(Clone, Debug)]
pub struct Admin {
    /// Address of `/livez`, `/readyz`, `/metrics`, `/targets`; port 0 picks one.
    pub listen: SocketAddr,
    /// Failed messages from which readiness detail warns, default 10000.
    pub failed_threshold: u64,
    /// Rejected messages from which readiness detail warns, default 1000.
    pub rejected_threshold: u64,
    /// Unreadable messages from which readiness detail warns, default 1.
    pub unreadable_threshold: u64,
}

/// `console.*`
#[derive(Clone, Debug)]
pub struct Console {
    /// Address of the web console; port 0 picks one. Beyond loopback only with credentials.
    pub listen: SocketAddr,
    /// The users. With none, every user of this machine may read. Ask again for each request.
    pub credentials: Rotating<Vec<Credential>>,
    /// Names under which browsers may ask for it, besides those of the loopback.
    pub hosts: Vec<String>,
    /// Where jobs that are discarded are written to; none: the console discards nothing.
    pub discard_directory: Option<PathBuf>,
}

/// Who may come in. The secret is not kept, only its digest, and `Debug` shows neither.
#[derive(Clone, PartialEq, Eq)]
pub struct Credential {
    /// What the log and the delivery log call them.
    pub name: String,
    /// What they may do.
    pub role: Role,
    /// SHA-256 of the secret.
    pub digest: [u8; 32],
}

/// What somebody may do in the console.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// Look at everything but the data of leads.
    Read,
    /// Replay, discard, and see the data of leads.
    Act,
}

impl Role {
    /// The word for it.
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
    /// How lines look.
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
