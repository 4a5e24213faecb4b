//! The closed list of settings. The loader accepts these keys and suggests them for misspelled ones, and
//! `docs/reference/settings.md` is generated from them.

/// One setting, as the reference describes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Key {
    /// `section.key`
    pub name: &'static str,
    /// The default as it is written in a file, or `none`.
    pub default: &'static str,
    /// The least and the greatest value, in the words of the loader: `100ms to 5m`. Empty if there are no bounds.
    pub bounds: &'static str,
    /// The effect, as sentences in Markdown without the last full stop.
    pub what: &'static str,
}

impl Key {
    /// Returns the environment variable that sets it: `LEADHOOK__AMQP__URLS` for `amqp.urls`.
    pub fn variable(&self) -> String {
        variable(self.name)
    }
}

/// Returns the environment variable of a key.
pub(super) fn variable(key: &str) -> String {
    format!("{PREFIX}{}", key.to_uppercase().replace('.', "__"))
}

/// Prefix of our environment variables. It has two underscores, because Kubernetes sets variables with one
/// (`LEADHOOK_SERVICE_HOST`, `LEADHOOK_PORT`) in every pod beside a service named leadhook.
pub(super) const PREFIX: &str = "LEADHOOK__";

/// Finds the setting whose variable was written with single underscores: `LEADHOOK_AMQP_URLS` instead of
/// `LEADHOOK__AMQP__URLS`. Kubernetes sets no such names: its own end in `_HOST`, `_PORT`, `_PROTO` or `_ADDR`.
pub(super) fn with_single_underscores(name: &str) -> Option<&'static str> {
    let plain = |name: &str| name.replace("__", "_");
    KEYS.iter().map(|key| key.name).find(|key| plain(&variable(key)) == plain(name))
}

/// Returns all settings, section by section.
pub fn reference() -> &'static [Key] {
    KEYS
}

/// Returns the sections of the file.
pub(super) fn sections() -> impl Iterator<Item = &'static str> {
    let mut last = "";
    KEYS.iter().filter_map(move |key| {
        let section = section_of(key.name);
        (std::mem::replace(&mut last, section) != section).then_some(section)
    })
}

/// Returns the keys of one section, without the section's name.
pub(super) fn keys_of(section: &str) -> impl Iterator<Item = &'static str> {
    KEYS.iter().filter_map(move |key| key.name.strip_prefix(section)?.strip_prefix('.'))
}

/// Returns the key with this name, if there is one.
pub(super) fn find(name: &str) -> Option<&'static str> {
    KEYS.iter().map(|key| key.name).find(|key| *key == name)
}

/// Returns the key that was probably meant: one with a similar spelling, or with a similar word in another section.
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

/// Returns the section that was probably meant.
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

const fn key(name: &'static str, default: &'static str, bounds: &'static str, what: &'static str) -> Key {
    Key { name, default, bounds, what }
}

#[rustfmt::skip]
const KEYS: &[Key] = &[
    key("amqp.urls", "[\"amqp://guest:guest@127.0.0.1:5672/%2f\"]", "",
        "One or more brokers, tried in turn from a random one: `amqp://` or `amqps://`. The vhost `/` is written `%2f`. The URLs hold \
         credentials, so set them by environment. Do not ask for a `frame_max=` below the broker's: a message with \
         longer headers would be rejected"),
    key("amqp.urls_file", "none", "",
        "A file with these URLs, one on each line, instead of `amqp.urls`. Read again at each connect, so a new password \
         needs no restart. A file that cannot be used later keeps its last good content, and readiness warns"),
    key("amqp.prefix", "\"leadhook\"", "",
        "First part of every queue name: 1 to 64 of `A-Z a-z 0-9 . _ -`"),
    key("amqp.exchange", "\"lead.events\"", "",
        "The topic exchange to which upstream publishes. Leadhook creates it, durable, only if it is missing"),
    key("amqp.routing_keys", "[\"lead.*\"]", "",
        "Routing keys bound from that exchange to the events queue. `*` stands for one word, `#` for any number"),
    key("amqp.ca_file", "none", "",
        "PEM file of authorities to trust besides the system's, for `amqps://`. Read for each connection"),
    key("amqp.client_certificate", "none", "",
        "PEM file of the worker's certificate and its chain, for a broker that asks for one. Needs `amqp.client_key`"),
    key("amqp.client_key", "none", "",
        "PEM file of that certificate's key, not encrypted"),
    key("amqp.management_url", "none", "",
        "The broker's management API, `http://` or `https://` with user and password. With it `leadhook topology \
         check` compares arguments and policies as well, and the worker warns of policies"),
    key("amqp.management_url_file", "none", "",
        "A file with that URL instead, one line. Read again at each use"),
    key("amqp.confirm_timeout", "\"10s\"", "100ms to 5m",
        "Longest wait for the broker's confirm before a publish counts as not done"),
    key("amqp.heartbeat", "\"10s\"", "2s to 5m",
        "A broker that is silent for two of these counts as lost. Whole seconds. The worker asks the broker for \
         heartbeats at three quarters of it; `heartbeat=` in a URL changes only that"),
    key("topology.declare", "true", "",
        "Whether the worker creates missing queues. With `false` it only verifies that they exist"),
    key("store.path", "\"config/webhooks\"", "",
        "The webhook store, a file or a directory. A relative path begins at the working directory. `--store` takes \
         precedence"),
    key("store.settle", "\"2m\"", "0s to 24h",
        "How long a job with an unknown or disabled target is deferred before it fails. Longer than a new store takes \
         to reach all replicas"),
    key("delivery.concurrency", "512", "1 to 10000",
        "Attempts in flight in each worker"),
    key("delivery.max_in_flight", "64", "1 to 1000",
        "Most attempts in flight in each worker for one organization and URL origin. The limit shrinks while attempts \
         fail. A target's own `max_in_flight` applies as well, over all workers"),
    key("delivery.maximum_age", "\"72h\"", "1m to 720h",
        "A job older than this fails as `expired`. Counted from when a worker first saw the event, or from the last \
         replay. At least `backoff.maximum` with jitter"),
    key("delivery.event_prefetch", "500", "1 to 2000",
        "Events that each worker takes from the broker at once"),
    key("delivery.direct", "true", "",
        "Whether an event with one target is attempted straight from the event, without a job on the broker. With `false` \
         each event becomes jobs first"),
    key("delivery.max_event_bytes", "\"1 MiB\"", "1 KiB to 16 MiB",
        "Largest event. Larger ones are rejected"),
    key("delivery_log.enabled", "true", "",
        "Whether each delivery is recorded on the stream `<prefix>.log`, for `leadhook deliveries`. Deliveries never \
         wait for it"),
    key("delivery_log.maximum_age", "\"336h\"", "1h to 8760h",
        "How long the delivery log keeps records. An existing stream keeps the retention with which it was made, \
         until a policy changes it"),
    key("delivery_log.max_bytes", "\"10 GiB\"", "10 MiB to 1 TiB",
        "Size at which the delivery log drops its oldest records, also before `delivery_log.maximum_age`. A record \
         takes about 280 bytes"),
    key("secrets.environment_prefix", "\"WEBHOOK_\"", "",
        "Variables in the webhook store must begin with this. A prefix that would open Leadhook's own variables is \
         refused"),
    key("secrets.directory", "none", "",
        "Files that the webhook store names must lie under this directory. Without it they are refused"),
    key("egress.allow", "[]", "",
        "Networks, addresses and hosts that webhooks may reach although they are not public. ` for ORGANIZATION` \
         behind an entry restricts it to that organization"),
    key("egress.deny", "[]", "",
        "Networks and addresses that webhooks may not reach, and hosts that no URL may name. Written like \
         `egress.allow`, and takes precedence over it"),
    key("egress.plain_http", "false", "",
        "Whether webhooks may go to `http://` URLs, which carry leads in plain text"),
    key("egress.proxy", "none", "",
        "A proxy for all webhooks: `http://host:3128` (CONNECT) or `socks5://host:1080`, with user and password if it \
         needs them; then set it by environment"),
    key("egress.proxy_file", "none", "",
        "A file with that URL instead, one line. Read again for each connection"),
    key("egress.proxy_resolves", "false", "",
        "Whether the proxy gets names instead of checked addresses. Then the proxy has to keep webhooks out of your \
         network; only names in `egress.deny` are refused here"),
    key("egress.name_servers", "none", "",
        "DNS servers to ask instead of the system's, `address:port`. The port is 53 if none is given"),
    key("tls.ca_file", "none", "",
        "PEM file of authorities to trust besides the system's, for webhooks only"),
    key("tls.minimum_version", "\"1.2\"", "",
        "Oldest TLS version for webhooks: `1.2` or `1.3`"),
    key("backoff.initial", "\"15s\"", "100ms to 24h",
        "Wait before the first retry"),
    key("backoff.multiplier", "2.0", "1 to 10",
        "Growth from one wait to the next"),
    key("backoff.maximum", "\"1h\"", "100ms to 168h",
        "Longest wait before jitter, not below `backoff.initial`. Deferred jobs may wait longer"),
    key("backoff.jitter", "0.2", "0 to 0.5",
        "Each wait is drawn evenly from this share below to this share above"),
    key("backoff.retry_after_maximum", "\"24h\"", "1s to 168h",
        "Longest wait that a receiver can ask for with `Retry-After`"),
    key("shutdown.grace", "\"150s\"", "100ms to 1h",
        "Time for attempts in flight after SIGTERM. Must exceed the largest timeout in the webhook store"),
    key("admin.listen", "\"127.0.0.1:9464\"", "",
        "Address of `/livez`, `/readyz`, `/metrics` and `/targets`, without authentication. Port 0 picks a free one \
         and logs it"),
    key("admin.failed_threshold", "10000", "1 or more",
        "Failed messages from which `/readyz` warns"),
    key("admin.rejected_threshold", "1000", "1 or more",
        "Rejected messages from which `/readyz` warns"),
    key("admin.unreadable_threshold", "1", "1 or more",
        "Unreadable messages from which `/readyz` warns"),
    key("console.listen", "\"127.0.0.1:9465\"", "",
        "Address of the web console, plain HTTP. Beyond loopback only with `console.credentials`. Port 0 picks a free \
         one and logs it"),
    key("console.credentials", "none", "",
        "Who may sign in, each as `name:role:secret`. The role is `read` or `act`, the secret has 16 characters or \
         more. Without any, the console only reads"),
    key("console.credentials_file", "none", "",
        "A file with these entries instead, one on each line. Read again for each request, so a removed person is out at \
         once"),
    key("console.hosts", "[]", "",
        "Names under which browsers may ask for the console, besides those of the loopback. Needs \
         `console.credentials`"),
    key("console.discard_directory", "none", "",
        "Where the console writes the jobs and messages that are discarded. Without it the console discards nothing"),
    key("log.format", "\"auto\"", "",
        "`auto` (text on a terminal, else JSON), `text` or `json`"),
    key("log.level", "\"info\"", "",
        "`error`, `warn`, `info`, `debug`, `trace`, `off`, or filter directives such as `info,leadhook::worker=debug`"),
];
