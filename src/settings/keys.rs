//! The closed list of settings: what the loader accepts, the README's reference lists, and suggestions are drawn from.

/// One setting, as it is described to a reader.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Key {
    /// `section.key`
    pub name: &'static str,
    /// The default as it is written in a file; `none` where there is none.
    pub default: &'static str,
    /// What it does, with unit and bounds.
    pub what: &'static str,
}

impl Key {
    /// The environment variable that sets it: `LEADHOOK__AMQP__URLS` for `amqp.urls`.
    pub fn variable(&self) -> String {
        variable(self.name)
    }
}

/// The environment variable of a key.
pub(super) fn variable(key: &str) -> String {
    format!("{PREFIX}{}", key.to_uppercase().replace('.', "__"))
}

/// What environment variables of ours begin with. Two underscores, because Kubernetes puts variables with one
/// (`LEADHOOK_SERVICE_HOST`, `LEADHOOK_PORT`) into every pod beside a service named leadhook.
pub(super) const PREFIX: &str = "LEADHOOK__";

/// Every setting, section by section.
pub fn reference() -> &'static [Key] {
    KEYS
}

/// The sections of the file.
pub(super) fn sections() -> impl Iterator<Item = &'static str> {
    let mut last = "";
    KEYS.iter().filter_map(move |key| {
        let section = section_of(key.name);
        (std::mem::replace(&mut last, section) != section).then_some(section)
    })
}

/// The keys of one section, without the section's name.
pub(super) fn keys_of(section: &str) -> impl Iterator<Item = &'static str> {
    KEYS.iter().filter_map(move |key| key.name.strip_prefix(section)?.strip_prefix('.'))
}

/// The key of that name, if it is one.
pub(super) fn find(name: &str) -> Option<&'static str> {
    KEYS.iter().map(|key| key.name).find(|key| *key == name)
}

/// The key that was probably meant: near in spelling as a whole, or the same word in another section.
pub(super) fn suggest(name: &str) -> Option<&'static str> {
    let last = |key: &str| key.rsplit('.').next().unwrap_or_default().to_owned();
    let score = |key: &str| {
        let whole = strsim::normalized_damerau_levenshtein(name, key);
        let word = strsim::normalized_damerau_levenshtein(&last(name), &last(key)) - 0.1;
        whole.max(word)
    };
    let best = KEYS.iter().map(|key| (score(key.name), key.name)).max_by(|a, b| a.0.total_cmp(&b.0))?;
    (best.0 >= 0.7).then_some(best.1)
}

/// The section that was probably meant.
pub(super) fn suggest_section(name: &str) -> Option<&'static str> {
    sections()
        .map(|section| (strsim::normalized_damerau_levenshtein(name, section), section))
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .filter(|(score, _)| *score >= 0.6)
        .map(|(_, section)| section)
}

fn section_of(name: &'static str) -> &'static str {
    name.split('.').next().unwrap_or(name)
}

const fn key(name: &'static str, default: &'static str, what: &'static str) -> Key {
    Key { name, default, what }
}

const KEYS: &[Key] = &[
    key(
        "amqp.urls",
        "[\"amqp://guest:guest@127.0.0.1:5672/%2f\"]",
        "one or more brokers, tried in turn; separated by commas in the environment",
    ),
    key("amqp.prefix", "\"leadhook\"", "first part of every queue name, 1 to 64 of A-Z a-z 0-9 . _ -"),
    key("amqp.exchange", "\"lead.events\"", "the topic exchange where upstream publishes"),
    key(
        "amqp.routing_keys",
        "[\"lead.*\"]",
        "routing keys bound to the events queue; separated by commas in the environment",
    ),
    key("amqp.ca_file", "none", "PEM file of authorities to trust besides the system's, for amqps://"),
    key(
        "amqp.client_certificate",
        "none",
        "PEM file of our certificate, for a broker that asks for one; needs amqp.client_key",
    ),
    key("amqp.client_key", "none", "PEM file of its key"),
    key("amqp.management_url", "none", "management API, lets `topology check` compare arguments and policies"),
    key("amqp.confirm_timeout", "\"10s\"", "longest wait for a publisher confirm, 100ms to 5m"),
    key(
        "amqp.heartbeat",
        "\"10s\"",
        "a broker that is silent for two of these counts as lost, whole seconds, 2s to 5m",
    ),
    key("topology.declare", "true", "create missing queues; false: only verify that they exist"),
    key("store.path", "\"config/webhooks\"", "the webhook store, file or directory"),
    key(
        "store.settle",
        "\"2m\"",
        "how long a job with an unknown or disabled target is parked before it fails, 0s to 24h",
    ),
    key("delivery.concurrency", "512", "attempts in flight per worker, 1 to 10000"),
    key(
        "delivery.max_in_flight",
        "64",
        "most attempts in flight per worker for one organization and URL origin, 1 to 1000; a target may lower its own",
    ),
    key("delivery.maximum_age", "\"72h\"", "jobs older than this fail as expired, 1m to 720h"),
    key("delivery.event_prefetch", "500", "events taken from the broker at once, 1 to 2000"),
    key("delivery.max_event_bytes", "\"1 MiB\"", "larger events are rejected, 1 KiB to 16 MiB"),
    key("delivery_log.enabled", "true", "whether what happens to each delivery is kept on a stream, for support"),
    key("delivery_log.maximum_age", "\"336h\"", "how long the delivery log keeps records, 1h to 8760h"),
    key(
        "delivery_log.maximum_bytes",
        "\"10 GiB\"",
        "how large it may grow before its oldest records go, 10 MiB to 1 TiB",
    ),
    key("secrets.environment_prefix", "\"WEBHOOK_\"", "variables in the store must begin with this"),
    key("secrets.directory", "none", "files that the store refers to must lie under this"),
    key(
        "egress.allow",
        "[]",
        "networks and hosts that webhooks may reach although they are not public; \"X for ORGANIZATION\" for one only",
    ),
    key("egress.deny", "[]", "networks and hosts that webhooks may not reach; goes before egress.allow"),
    key("egress.plain_http", "false", "whether webhooks may go to http:// URLs"),
    key("egress.proxy", "none", "a proxy for all webhooks: http://host:port (CONNECT) or socks5://host:port"),
    key("egress.proxy_resolves", "false", "give the proxy names instead of addresses; it has to guard itself then"),
    key("egress.name_servers", "none", "DNS servers to ask instead of the system's, as address:port"),
    key("tls.ca_file", "none", "PEM file of authorities to trust besides the system's, for webhooks"),
    key("tls.minimum_version", "\"1.2\"", "oldest TLS version for webhooks: 1.2 or 1.3"),
    key("backoff.initial", "\"15s\"", "wait before the first retry, 100ms to 24h"),
    key("backoff.multiplier", "2.0", "growth from one retry to the next, 1 to 10"),
    key("backoff.maximum", "\"1h\"", "longest wait before jitter, from backoff.initial to 168h"),
    key("backoff.jitter", "0.2", "relative spread to either side, 0 to 0.5"),
    key("backoff.retry_after_maximum", "\"24h\"", "cap on what a receiver's Retry-After may ask for, 1s to 168h"),
    key(
        "shutdown.grace",
        "\"150s\"",
        "time for attempts in flight after SIGTERM, 100ms to 1h; above the store's largest timeout",
    ),
    key(
        "admin.listen",
        "\"127.0.0.1:9464\"",
        "address of /livez, /readyz, /metrics and /targets; port 0 picks one and logs it",
    ),
    key("admin.failed_threshold", "10000", "failed messages from which /readyz warns, 1 or more"),
    key("admin.rejected_threshold", "1000", "rejected messages from which /readyz warns, 1 or more"),
    key(
        "console.listen",
        "\"127.0.0.1:9465\"",
        "address of the web console; beyond loopback only with console.credentials; port 0 picks one and logs it",
    ),
    key(
        "console.credentials",
        "none",
        "who may come in, as name:role:secret; role read or act; separated by commas in the environment",
    ),
    key("console.hosts", "[]", "names under which browsers may ask for the console, besides those of the loopback"),
    key("console.discard_directory", "none", "where the console writes jobs that are discarded; without it none are"),
    key("log.format", "\"auto\"", "auto (text on a terminal, else json), text or json"),
    key("log.level", "\"info\"", "a level, or filter directives such as info,leadhook::worker=debug"),
];
