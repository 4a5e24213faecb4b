//! Reads single values. Each function reads one word, and its error says how to write it.
//!
//! A file has types and must use them (`concurrency = 64`, not `"64"`). The environment has only text, which is read by
//! the type of its key. The value of a setting with credentials never appears in a message.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use aws_lc_rs::digest;
use bytesize::ByteSize;
use config::ValueKind;
use url::Url;

use super::{BrokerUrl, Credential, LogFormat, ProxyUrl, Role, TlsVersion, problem::Place, said::Word};
use crate::{
    duration::{self, spoken},
    egress::Rule,
    logging,
};

/// Shows a size as settings are written, in the largest unit that divides it: `1 MiB`, `10 GiB`.
pub(super) fn spoken_size(bytes: u64) -> String {
    let units = [(1 << 40, "TiB"), (1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB"), (1, "B")];
    let (unit, name) =
        units.into_iter().find(|(unit, _)| bytes >= *unit && bytes.is_multiple_of(*unit)).unwrap_or((1, "B"));
    format!("{} {name}", bytes / unit)
}

pub(super) fn text(word: &Word) -> Result<&str, String> {
    match &word.kind {
        ValueKind::String(text) => Ok(text),
        _ => Err("is not text: write it in quotes".to_owned()),
    }
}

/// Reads a list: an array in a file, text with commas in the environment. It must not be empty.
pub(super) fn list<T>(word: &Word, parse: impl Fn(&str) -> Result<T, String>) -> Result<Vec<T>, String> {
    let entries: Vec<&str> = match &word.kind {
        ValueKind::Array(values) => {
            let texts = values.iter().map(|value| match &value.kind {
                ValueKind::String(text) => Ok(text.as_str()),
                _ => Err("is a list of texts: write each entry in quotes".to_owned()),
            });
            texts.collect::<Result<_, _>>()?
        }
        ValueKind::String(text) if from_environment(word) => text.split(',').map(str::trim).collect(),
        _ => return Err("is a list: write [\"...\"]".to_owned()),
    };
    if entries.is_empty() {
        return Err("needs at least one entry".to_owned());
    }
    let numbered = entries.into_iter().enumerate();
    numbered.map(|(index, entry)| parse(entry).map_err(|text| format!("entry {}: {text}", index + 1))).collect()
}

pub(super) fn boolean(word: &Word) -> Result<bool, String> {
    match &word.kind {
        ValueKind::Boolean(value) => Ok(*value),
        ValueKind::String(text) if from_environment(word) => {
            text.trim().parse().map_err(|_| format!("{text:?} is neither true nor false"))
        }
        _ => Err("is neither true nor false".to_owned()),
    }
}

pub(super) fn integer(word: &Word) -> Result<u64, String> {
    match &word.kind {
        ValueKind::I64(value) => u64::try_from(*value).map_err(|_| format!("{value} is negative")),
        ValueKind::String(text) if from_environment(word) => {
            text.trim().parse().map_err(|_| format!("{text:?} is not a whole number"))
        }
        _ => Err("is not a whole number: write digits without quotes".to_owned()),
    }
}

pub(super) fn number(word: &Word) -> Result<f64, String> {
    match &word.kind {
        ValueKind::I64(value) => Ok(*value as f64),
        ValueKind::Float(value) => Ok(*value),
        ValueKind::String(text) if from_environment(word) => {
            text.trim().parse().map_err(|_| format!("{text:?} is not a number"))
        }
        _ => Err("is not a number: write it without quotes".to_owned()),
    }
}

/// Reads a duration with its unit. For a plain number the error says that the unit is missing.
pub(super) fn duration(word: &Word) -> Result<Duration, String> {
    match &word.kind {
        ValueKind::String(text) => duration::parse(text),
        ValueKind::I64(number) => duration::parse(&number.to_string()),
        ValueKind::Float(number) => duration::parse(&number.to_string()),
        _ => Err("is not a duration: write it in quotes, such as \"15s\"".to_owned()),
    }
}

pub(super) fn whole_seconds(word: &Word) -> Result<Duration, String> {
    let duration = duration(word)?;
    if duration.subsec_nanos() != 0 {
        return Err(format!("{} is not a whole number of seconds", spoken(duration)));
    }
    Ok(duration)
}

pub(super) fn size(word: &Word) -> Result<u64, String> {
    match &word.kind {
        ValueKind::I64(bytes) => u64::try_from(*bytes).map_err(|_| format!("{bytes} is negative")),
        ValueKind::String(text) => {
            let size: Result<ByteSize, _> = text.trim().parse();
            size.map(|size| size.as_u64()).map_err(|_| format!("{text:?} is not a size: write 512 KiB or 1 MiB"))
        }
        _ => Err("is not a size: write 512 KiB or 1 MiB, in quotes".to_owned()),
    }
}

/// Reads the URL of a broker. The AMQP library must be able to parse it too. The error shows no part of the value: even
/// its scheme can be part of a user name.
pub(super) fn broker_url(text: &str) -> Result<BrokerUrl, String> {
    const WRONG: &str = "is not a broker's URL: write amqp://user:password@host:5672/vhost, or amqps:// for TLS (not shown: it may hold credentials)";
    let url: Url = text.parse().map_err(|_| WRONG)?;
    let usable = matches!(url.scheme(), "amqp" | "amqps")
        && url.host_str().is_some_and(|host| !host.is_empty())
        && text.parse::<lapin::uri::AMQPUri>().is_ok();
    if usable { Ok(BrokerUrl::new(url)) } else { Err(WRONG.to_owned()) }
}

pub(super) fn management_url(text: &str) -> Result<BrokerUrl, String> {
    const WRONG: &str = "is not the URL of a management API: write http://user:password@host:15672 (not shown: it may hold credentials)";
    let url: Url = text.parse().map_err(|_| WRONG)?;
    let usable = matches!(url.scheme(), "http" | "https") && url.host_str().is_some_and(|host| !host.is_empty());
    if usable { Ok(BrokerUrl::new(url)) } else { Err(WRONG.to_owned()) }
}

pub(super) fn egress_rule(text: &str) -> Result<Rule, String> {
    text.parse()
}

/// Reads the URL of a proxy. The error does not show the value, which may hold credentials.
pub(super) fn proxy_url(text: &str) -> Result<ProxyUrl, String> {
    const WRONG: &str = "is not the URL of a proxy: write http://user:password@host:3128 or socks5://host:1080 (not shown: it may hold credentials)";
    let url: Url = text.parse().map_err(|_| WRONG)?;
    let port = url.port_or_known_default();
    let usable = matches!(url.scheme(), "http" | "socks5")
        && url.host_str().is_some_and(|host| !host.is_empty())
        && port.is_some_and(|port| port != 0)
        && matches!(url.path(), "" | "/")
        && url.query().is_none()
        && url.fragment().is_none();
    if usable { Ok(ProxyUrl::new(url)) } else { Err(WRONG.to_owned()) }
}

/// Reads an address. The port is 53 if none is given.
pub(super) fn name_server(text: &str) -> Result<SocketAddr, String> {
    let plain = text.trim().parse().map(|address| SocketAddr::new(address, 53));
    plain.or_else(|_| text.trim().parse()).map_err(|_| {
        format!("{text:?} is not the address of a name server: write 10.0.0.2, 10.0.0.2:53 or [fd00::2]:53")
    })
}

pub(super) fn tls_version(text: &str) -> Result<TlsVersion, String> {
    match text {
        "1.2" => Ok(TlsVersion::V1_2),
        "1.3" => Ok(TlsVersion::V1_3),
        _ => Err(format!("{text:?} is not a version of TLS that can be the oldest: write 1.2 or 1.3")),
    }
}

/// Reads the prefix of queue names. The longest name made from it (`<prefix>.delay.<ms>`) stays far below the 255 bytes
/// that AMQP allows.
pub(super) fn prefix(text: &str) -> Result<String, String> {
    let fits = (1..=64).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-'));
    if !fits {
        return Err(format!("{text:?} is not a prefix: write 1 to 64 characters of A-Z a-z 0-9 . _ -"));
    }
    if text == "amq" || text.starts_with("amq.") {
        return Err(format!("{text:?} is not a prefix: the broker keeps names that begin with amq. for itself"));
    }
    Ok(text.to_owned())
}

/// Reads an exchange or a routing key, for which AMQP allows 255 bytes.
pub(super) fn short_name(text: &str) -> Result<String, String> {
    match text.len() {
        0 => Err("is empty".to_owned()),
        1..=255 => Ok(text.to_owned()),
        long => Err(format!("has {long} bytes, AMQP allows 255")),
    }
}

pub(super) fn path(text: &str) -> Result<PathBuf, String> {
    if text.is_empty() { Err("is empty: write a path".to_owned()) } else { Ok(PathBuf::from(text)) }
}

/// Reads the prefix of a store's variables. An empty prefix would open the worker's whole environment to the store.
pub(super) fn variable_prefix(text: &str) -> Result<String, String> {
    let fits = text.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_')
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    // These variables hold the worker's own settings, among them the broker's password.
    let own = super::keys::PREFIX;
    if !fits {
        Err(format!("{text:?} cannot begin the name of a variable: write something like WEBHOOK_"))
    } else if own.starts_with(text) || text.starts_with(own) {
        Err(format!(
            "{text:?} would open the worker's own settings ({own}...) to the store: write something like WEBHOOK_"
        ))
    } else {
        Ok(text.to_owned())
    }
}

pub(super) fn address(text: &str) -> Result<SocketAddr, String> {
    text.trim().parse().map_err(|_| {
        format!("{text:?} is not an address: write an IP address and a port, such as 127.0.0.1:9464, 0.0.0.0:9464 or [::]:9464")
    })
}

pub(super) fn console_address(text: &str) -> Result<SocketAddr, String> {
    text.trim().parse().map_err(|_| {
        format!("{text:?} is not an address: write an IP address and a port, such as 127.0.0.1:9465 or [::1]:9465")
    })
}

/// Shortest secret of the console, in characters. Sign-ins are rate-limited, so guessing such a secret is not feasible.
const SHORTEST_SECRET: usize = 16;

/// Reads `name:role:secret`. The error does not show the value, because any part of it may be the secret.
pub(super) fn credential(text: &str) -> Result<Credential, String> {
    const WRONG: &str =
        "is not name:role:secret: the name of A-Z a-z 0-9 . _ @ -, the role read or act (not shown: it holds a secret)";
    let mut parts = text.splitn(3, ':');
    let (Some(name), Some(role), Some(secret)) = (parts.next(), parts.next(), parts.next()) else {
        return Err(WRONG.to_owned());
    };
    let fits = (1..=64).contains(&name.len())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'@' | b'-'));
    let role = [Role::Read, Role::Act].into_iter().find(|known| known.name() == role);
    let (true, Some(role)) = (fits, role) else { return Err(WRONG.to_owned()) };
    if secret.chars().count() < SHORTEST_SECRET || secret.chars().any(|c| c.is_whitespace() || c.is_control()) {
        return Err(format!("has a secret that is no {SHORTEST_SECRET} characters or more without spaces (not shown)"));
    }
    let mut kept = [0; 32];
    kept.copy_from_slice(digest::digest(&digest::SHA256, secret.as_bytes()).as_ref());
    Ok(Credential { name: name.to_owned(), role, digest: kept })
}

/// Returns a problem if every client in the network could use the console.
pub(super) fn open_to_all(listen: SocketAddr, credentials: &[Credential]) -> Option<String> {
    (!listen.ip().is_loopback() && credentials.is_empty()).then(|| {
        format!("{listen} is beyond loopback, and there are no console.credentials: every client could see leads")
    })
}

/// Returns a problem if two users have the same name or secret, because the log could not tell them apart.
pub(super) fn alike(credentials: &[Credential]) -> Option<String> {
    let before = |at: usize| credentials.iter().take(at);
    let mut all = credentials.iter().enumerate();
    let twice = all.find(|(at, one)| before(*at).any(|other| other.name == one.name || other.digest == one.digest));
    twice.map(|(_, one)| format!("has the name or the secret of {} twice", one.name))
}

/// Reads a host name or address, with or without a port.
pub(super) fn host(text: &str) -> Result<String, String> {
    let text = text.trim().to_ascii_lowercase();
    let fits = !text.is_empty() && text.parse::<http::uri::Authority>().is_ok_and(|host| !host.as_str().contains('@'));
    if fits { Ok(text) } else { Err(format!("{text:?} is not a host: write console.example or console.example:8443")) }
}

pub(super) fn log_format(text: &str) -> Result<LogFormat, String> {
    match text {
        "auto" => Ok(LogFormat::Auto),
        "text" => Ok(LogFormat::Text),
        "json" => Ok(LogFormat::Json),
        _ => Err(format!("{text:?} is not a format: write auto, text or json")),
    }
}

pub(super) fn log_level(text: &str) -> Result<String, String> {
    logging::check_level(text).map(|()| text.to_owned())
}

fn from_environment(word: &Word) -> bool {
    matches!(word.place, Place::Variable(_))
}
