//! Stage two: checks every key by its type and bounds, then the relations between keys. All problems are collected, and
//! only values without any become [`Settings`].

use std::{cmp::Ordering, ops::RangeInclusive, time::Duration};

use super::{
    Admin, Amqp, Backoff, Console, Delivery, DeliveryLog, Egress, Log, Secrets, Settings, Shutdown, StoreSettings, Tls,
    Topology,
    problem::{Place, Problem, Problems},
    rotating::{self, Parse, Rotating},
    said::{Said, Word},
    words,
};
use crate::duration::spoken;

const MILLISECOND: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);

/// The longest timeout that a store may give a target (docs/reference/webhook-store.md).
const LONGEST_TIMEOUT: Duration = Duration::from_secs(120);
/// Longest time without an ack: a third of RabbitMQ's default `consumer_timeout` of 30 minutes. The rest is for
/// publishing and waiting.
const LONGEST_UNACKED: Duration = Duration::from_secs(10 * 60);

/// Reads every key. Returns `None` only if it added problems.
pub(super) fn check(said: &Said, problems: &mut Problems) -> Option<Settings> {
    let mut sheet = Sheet { said, problems };
    // Every key is read before the first `?`, so that no problem hides another.
    let urls = sheet.rotating(
        ["amqp.urls", "amqp.urls_file"],
        |key| key.list(words::broker_url),
        rotating::lines(words::broker_url),
    );
    let prefix = sheet.key("amqp.prefix").text(words::prefix);
    let exchange = sheet.key("amqp.exchange").text(words::short_name);
    let routing_keys = sheet.key("amqp.routing_keys").list(words::short_name);
    let amqp_ca_file = sheet.key("amqp.ca_file").optional(|key| key.text(words::path));
    let client_certificate = sheet.key("amqp.client_certificate").optional(|key| key.text(words::path));
    let client_key = sheet.key("amqp.client_key").optional(|key| key.text(words::path));
    let management_url = sheet.rotating(
        ["amqp.management_url", "amqp.management_url_file"],
        |key| key.text(words::management_url),
        rotating::line(words::management_url),
    );
    let confirm_timeout = sheet.key("amqp.confirm_timeout").duration(100 * MILLISECOND..=5 * MINUTE);
    let heartbeat = sheet.key("amqp.heartbeat").value(words::whole_seconds).within(2 * SECOND..=5 * MINUTE, spoken);
    let declare = sheet.key("topology.declare").value(words::boolean).any();
    let path = sheet.key("store.path").text(words::path);
    let settle = sheet.key("store.settle").duration(Duration::ZERO..=24 * HOUR);
    let concurrency = sheet.key("delivery.concurrency").integer(1..=10_000).map(|n| n as usize);
    let max_in_flight = sheet.key("delivery.max_in_flight").integer(1..=1_000).map(|n| n as usize);
    let maximum_age = sheet.key("delivery.maximum_age").duration(MINUTE..=30 * 24 * HOUR);
    let event_prefetch = sheet.key("delivery.event_prefetch").integer(1..=2_000).map(|n| n as u16);
    let direct = sheet.key("delivery.direct").value(words::boolean).any();
    let max_event_bytes = sheet.key("delivery.max_event_bytes").size(1 << 10..=16 << 20).map(|n| n as usize);
    let log_enabled = sheet.key("delivery_log.enabled").value(words::boolean).any();
    let log_age = sheet.key("delivery_log.maximum_age").duration(HOUR..=365 * 24 * HOUR);
    let log_bytes = sheet.key("delivery_log.max_bytes").size(10 << 20..=1 << 40);
    let environment_prefix = sheet.key("secrets.environment_prefix").text(words::variable_prefix);
    let directory = sheet.key("secrets.directory").optional(|key| key.text(words::path));
    let allow = sheet.key("egress.allow").list_or_none(words::egress_rule);
    let deny = sheet.key("egress.deny").list_or_none(words::egress_rule);
    let plain_http = sheet.key("egress.plain_http").value(words::boolean).any();
    let proxy = sheet.rotating(
        ["egress.proxy", "egress.proxy_file"],
        |key| key.text(words::proxy_url),
        rotating::line(words::proxy_url),
    );
    let proxy_resolves = sheet.key("egress.proxy_resolves").value(words::boolean).any();
    let name_servers = sheet.key("egress.name_servers").optional(|key| key.list(words::name_server));
    let ca_file = sheet.key("tls.ca_file").optional(|key| key.text(words::path));
    let minimum_version = sheet.key("tls.minimum_version").text(words::tls_version);
    let initial = sheet.key("backoff.initial").duration(100 * MILLISECOND..=24 * HOUR);
    let multiplier = sheet.key("backoff.multiplier").number(1.0..=10.0);
    let maximum = sheet.key("backoff.maximum").duration(100 * MILLISECOND..=168 * HOUR);
    let jitter = sheet.key("backoff.jitter").number(0.0..=0.5);
    let retry_after_maximum = sheet.key("backoff.retry_after_maximum").duration(SECOND..=168 * HOUR);
    let grace = sheet.key("shutdown.grace").duration(100 * MILLISECOND..=HOUR);
    let listen = sheet.key("admin.listen").text(words::address);
    let failed_threshold = sheet.key("admin.failed_threshold").integer(1..=i64::MAX as u64);
    let unreadable_threshold = sheet.key("admin.unreadable_threshold").integer(1..=i64::MAX as u64);
    let rejected_threshold = sheet.key("admin.rejected_threshold").integer(1..=i64::MAX as u64);
    let console_listen = sheet.key("console.listen").text(words::console_address);
    let credentials = sheet.rotating(
        ["console.credentials", "console.credentials_file"],
        |key| key.list(words::credential),
        rotating::checked(rotating::lines(words::credential), |all| words::alike(all)),
    );
    let hosts = sheet.key("console.hosts").list_or_none(words::host);
    let discard_directory = sheet.key("console.discard_directory").optional(|key| key.text(words::path));
    let format = sheet.key("log.format").text(words::log_format);
    let level = sheet.key("log.level").text(words::log_level);

    if let (Some(initial), Some(maximum)) = (initial, maximum) {
        sheet.relate(&["backoff.maximum", "backoff.initial"], maximum_problem(initial, maximum));
    }
    if let (Some(age), Some(maximum), Some(jitter)) = (maximum_age, maximum, jitter) {
        sheet.relate(&["delivery.maximum_age", "backoff.maximum"], age_problem(age, maximum.mul_f64(1.0 + jitter)));
    }
    if let Some(concurrency) = concurrency {
        sheet.relate(&["delivery.concurrency"], held_too_long(job_prefetch(concurrency), concurrency));
    }

    match (&client_certificate, &client_key) {
        (Some(Some(_)), Some(None)) => {
            sheet.relate(&["amqp.client_certificate"], Some("needs amqp.client_key, the file of its key".to_owned()));
        }
        (Some(None), Some(Some(_))) => {
            sheet.relate(&["amqp.client_key"], Some("needs amqp.client_certificate, whose key it is".to_owned()));
        }
        _ => {}
    }
    if let (Some(listen), Some(credentials)) = (console_listen, &credentials) {
        let credentials = credentials.as_ref().map(Rotating::last).unwrap_or_default();
        sheet.relate(&["console.listen"], words::open_to_all(listen, &credentials));
        sheet.relate(&["console.credentials"], words::alike(&credentials));
        if credentials.is_empty() && hosts.as_ref().is_some_and(|hosts| !hosts.is_empty()) {
            let text = "names the console for others than this machine, and there are no console.credentials";
            sheet.relate(&["console.hosts"], Some(text.to_owned()));
        }
    }
    if let (Some(None), Some(true)) = (&proxy, proxy_resolves) {
        let text = "is true, but there is no egress.proxy that could resolve names".to_owned();
        sheet.relate(&["egress.proxy_resolves"], Some(text));
    }

    Some(Settings {
        amqp: Amqp {
            // `amqp.urls` has a default, so there is always a value.
            urls: urls??,
            prefix: prefix?,
            exchange: exchange?,
            routing_keys: routing_keys?,
            ca_file: amqp_ca_file?,
            client_certificate: client_certificate?,
            client_key: client_key?,
            management_url: management_url?,
            confirm_timeout: confirm_timeout?,
            heartbeat: heartbeat?,
        },
        topology: Topology { declare: declare? },
        store: StoreSettings { path: path?, settle: settle? },
        delivery: Delivery {
            concurrency: concurrency?,
            max_in_flight: max_in_flight?,
            maximum_age: maximum_age?,
            event_prefetch: event_prefetch?,
            direct: direct?,
            max_event_bytes: max_event_bytes?,
        },
        delivery_log: DeliveryLog { enabled: log_enabled?, maximum_age: log_age?, max_bytes: log_bytes? },
        secrets: Secrets { environment_prefix: environment_prefix?, directory: directory? },
        egress: Egress {
            allow: allow?,
            deny: deny?,
            plain_http: plain_http?,
            proxy: proxy?,
            proxy_resolves: proxy_resolves?,
            name_servers: name_servers?.unwrap_or_default(),
        },
        tls: Tls { ca_file: ca_file?, minimum_version: minimum_version? },
        backoff: Backoff {
            initial: initial?,
            multiplier: multiplier?,
            maximum: maximum?,
            jitter: jitter?,
            retry_after_maximum: retry_after_maximum?,
        },
        shutdown: Shutdown { grace: grace? },
        admin: Admin {
            listen: listen?,
            failed_threshold: failed_threshold?,
            rejected_threshold: rejected_threshold?,
            unreadable_threshold: unreadable_threshold?,
        },
        console: Console {
            listen: console_listen?,
            credentials: credentials?.unwrap_or_else(|| Rotating::said(Vec::new())),
            hosts: hosts?,
            discard_directory: discard_directory?,
        },
        log: Log { format: format?, level: level? },
    })
}

/// Reads only the keys that are needed to load the store.
pub(super) fn store_alone(said: &Said) -> Option<(std::path::PathBuf, Secrets)> {
    let mut problems = Problems::default();
    let mut sheet = Sheet { said, problems: &mut problems };
    let path = sheet.key("store.path").text(words::path)?;
    let environment_prefix = sheet.key("secrets.environment_prefix").text(words::variable_prefix)?;
    let directory = sheet.key("secrets.directory").optional(|key| key.text(words::path))?;
    Some((path, Secrets { environment_prefix, directory }))
}

/// Returns how many jobs to hold at once: a fifth more than there are slots. So no slot waits while the broker sends
/// another job. More would only be redelivered, and charged a delivery, when this worker dies.
pub(super) fn job_prefetch(concurrency: usize) -> u16 {
    u16::try_from(concurrency.saturating_add(concurrency.div_ceil(5))).unwrap_or(u16::MAX)
}

fn maximum_problem(initial: Duration, maximum: Duration) -> Option<String> {
    (maximum < initial).then(|| format!("{} is shorter than backoff.initial ({})", spoken(maximum), spoken(initial)))
}

fn age_problem(age: Duration, longest: Duration) -> Option<String> {
    (age < longest).then(|| {
        format!("{} is shorter than the longest wait (backoff.maximum with jitter, {})", spoken(age), spoken(longest))
    })
}

/// Returns a problem if the last job of a full prefetch window could wait almost as long as the broker's
/// `consumer_timeout`. It assumes that every attempt takes the longest timeout that a store allows.
pub(super) fn held_too_long(prefetch: u16, concurrency: usize) -> Option<String> {
    let rounds = u32::from(prefetch).div_ceil(u32::try_from(concurrency).unwrap_or(u32::MAX).max(1));
    let longest = LONGEST_TIMEOUT * rounds;
    (longest > LONGEST_UNACKED).then(|| {
        format!(
            "a prefetch of {prefetch} for a concurrency of {concurrency} could hold a job for {}, too near to the \
             broker's consumer_timeout of 30m",
            spoken(longest)
        )
    })
}

/// Returns a problem if attempts in flight may not end within `shutdown.grace`. `largest_timeout` is the store's.
pub(super) fn grace_problem(settings: &Settings, largest_timeout: Duration) -> Option<Problem> {
    let grace = settings.shutdown.grace;
    (grace <= largest_timeout).then(|| Problem {
        place: Place::Default,
        key: Some("shutdown.grace".to_owned()),
        text: format!(
            "{} must exceed the largest timeout in the webhook store ({}), or every stop cuts attempts off",
            spoken(grace),
            spoken(largest_timeout)
        ),
    })
}

/// The values to check, and the list of problems found so far.
struct Sheet<'a> {
    said: &'a Said,
    problems: &'a mut Problems,
}

impl Sheet<'_> {
    fn key(&mut self, key: &'static str) -> Reader<'_> {
        Reader { word: self.said.get(key), key, problems: self.problems }
    }

    /// Reads a value with credentials from a key, or from the file that a second key names. The environment takes
    /// precedence over the settings file, as for one key. Both keys in one layer are a problem. Returns `Some(None)` if
    /// neither is set.
    fn rotating<T: PartialEq>(
        &mut self,
        [key, file_key]: [&'static str; 2],
        said: impl FnOnce(Reader<'_>) -> Option<T>,
        in_file: Parse<T>,
    ) -> Option<Option<Rotating<T>>> {
        let layer = |key| match self.said.get(key).map(|word| &word.place) {
            None | Some(Place::Default) => 0,
            Some(Place::File { .. } | Place::WholeFile(_)) => 1,
            Some(Place::Variable(_) | Place::Option(_)) => 2,
        };
        match layer(file_key).cmp(&layer(key)) {
            Ordering::Equal if layer(key) > 0 => {
                self.relate(&[file_key], Some(format!("is set, and so is {key}: set one of them")));
                return None;
            }
            Ordering::Equal | Ordering::Less => {
                return self.key(key).optional(said).map(|value| value.map(Rotating::said));
            }
            Ordering::Greater => {}
        }
        let path = self.key(file_key).text(words::path)?;
        match Rotating::open(file_key, path, in_file) {
            Ok(rotating) => Some(Some(rotating)),
            Err((place, text)) => {
                self.problems.add(place, Some(file_key), text);
                None
            }
        }
    }

    /// Adds a problem between keys, under the first key and at the place of the first one that is set.
    fn relate(&mut self, keys: &[&'static str], problem: Option<String>) {
        let Some(text) = problem else { return };
        let mut places = keys.iter().filter_map(|key| self.said.get(key)).map(|word| word.place.clone());
        let place = places.find(|place| *place != Place::Default).unwrap_or(Place::Default);
        self.problems.add(place, keys.first().copied(), text);
    }
}

/// Reads one key, and adds problems with it.
struct Reader<'a> {
    /// `None` if the key is neither set nor has a default, or if its section is invalid, which is already noted.
    word: Option<&'a Word>,
    key: &'static str,
    problems: &'a mut Problems,
}

/// A value whose bounds are not checked yet.
struct Unbounded<'a, T> {
    reader: Reader<'a>,
    value: Option<T>,
}

impl<'a> Reader<'a> {
    /// Reads the key if it is set, and returns `Some(None)` otherwise.
    fn optional<T>(self, read: impl FnOnce(Reader<'a>) -> Option<T>) -> Option<Option<T>> {
        if self.word.is_some() { read(self).map(Some) } else { Some(None) }
    }

    fn value<T>(mut self, parse: impl FnOnce(&Word) -> Result<T, String>) -> Unbounded<'a, T> {
        let value = self.word.and_then(|word| parse(word).map_err(|text| self.note(text)).ok());
        Unbounded { reader: self, value }
    }

    fn text<T>(self, parse: impl FnOnce(&str) -> Result<T, String>) -> Option<T> {
        self.value(|word| parse(words::text(word)?)).any()
    }

    fn list<T>(self, parse: impl Fn(&str) -> Result<T, String>) -> Option<Vec<T>> {
        self.value(|word| words::list(word, parse)).any()
    }

    /// Reads a list that may be empty.
    fn list_or_none<T>(self, parse: impl Fn(&str) -> Result<T, String>) -> Option<Vec<T>> {
        match self.word.map(|word| &word.kind) {
            Some(config::ValueKind::Array(values)) if values.is_empty() => Some(Vec::new()),
            _ => self.list(parse),
        }
    }

    fn duration(self, bounds: RangeInclusive<Duration>) -> Option<Duration> {
        self.value(words::duration).within(bounds, spoken)
    }

    fn size(self, bounds: RangeInclusive<u64>) -> Option<u64> {
        self.value(words::size).within(bounds, words::spoken_size)
    }

    fn integer(self, bounds: RangeInclusive<u64>) -> Option<u64> {
        self.value(words::integer).within(bounds, |n| n.to_string())
    }

    fn number(self, bounds: RangeInclusive<f64>) -> Option<f64> {
        self.value(words::number).within(bounds, |n| n.to_string())
    }

    fn note(&mut self, text: String) {
        let place = self.word.map_or(Place::Default, |word| word.place.clone());
        self.problems.add(place, Some(self.key), text);
    }
}

impl<T> Unbounded<'_, T> {
    fn any(self) -> Option<T> {
        self.value
    }

    fn within(mut self, bounds: RangeInclusive<T>, show: impl Fn(T) -> String) -> Option<T>
    where
        T: PartialOrd + Copy,
    {
        let value = self.value?;
        if bounds.contains(&value) {
            return Some(value);
        }
        let (from, to) = (show(*bounds.start()), show(*bounds.end()));
        self.reader.note(format!("{} is out of bounds, it can be {from} to {to}", show(value)));
        None
    }
}
