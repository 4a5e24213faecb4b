//! Judges a broker by the product and version in its greeting, before Leadhook declares anything on it.
//!
//! Leadhook's guarantees need quorum queues that dead-letter at least once. A broker that ignores `x-queue-type`
//! accepts the declare, but makes another kind of queue. LavinMQ does so (`queue_factory.cr` in its source). It logs
//! that it does not support the type, makes its own kind of queue, and has neither quorum replication nor
//! `x-dead-letter-strategy`. So Leadhook asks a product other than RabbitMQ for a queue type that no broker has, and
//! refuses a broker that accepts it. RabbitMQ is judged by its version, because it logs an error for each such request.

use std::sync::{Arc, OnceLock};

use lapin::{
    options::QueueDeclareOptions,
    protocol::{AMQPClass, connection::AMQPMethod, parse_class},
    types::{AMQPValue, FieldTable},
};

use super::{channel, reply};

/// Product and version, as the broker states them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Greeting {
    product: String,
    version: String,
}

/// The judgement of a broker.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Verdict {
    Fit,
    /// Usable, with this fault.
    Faulty(&'static str),
    /// Not usable, for this reason.
    Unfit(&'static str),
    /// Not RabbitMQ.
    Foreign,
}

type Version = (u32, u32, u32);

/// Ranges of RabbitMQ versions with faults that can lose messages or hold them back, from its release notes. The first
/// version is inclusive, the second exclusive.
const FAULTS: [(Version, Version, &str); 5] = [
    ((3, 8, 0), (3, 10, 0), "it cannot dead-letter at least once, so messages can be lost; use 3.10.5 or later"),
    ((3, 10, 0), (3, 10, 5), "its dead-lettering can fail and stop a queue (#4947); use 3.10.5 or later"),
    ((4, 0, 4), (4, 0, 5), "its dead-lettering can fail and stop a queue (#12933); use 4.0.5 or later"),
    ((4, 2, 0), (4, 2, 7), "its at-least-once dead-lettering can ask the wrong replica (#16203); use 4.2.7 or later"),
    ((4, 3, 0), (4, 3, 5), "a partition or a restart can lose confirmed messages (ra #637); use 4.3.5 or later"),
];

const NO_QUORUM: &str = "it has no quorum queues and ignores x-queue-type, so confirmed messages would be lost; \
                         Leadhook needs RabbitMQ 3.10.5 or later";

const IGNORES: &str = "it ignores x-queue-type and makes another kind of queue than the quorum queue that was asked for, \
                       so confirmed messages would be lost; Leadhook needs RabbitMQ 3.10.5 or later";

const FOREIGN: &str = "Leadhook is tested with RabbitMQ only";

/// A queue type that no broker has. It is also part of the name of the queue.
const NO_TYPE: &str = "preflight";

impl Greeting {
    /// Reads the greeting from the payload of the first frame of a broker.
    fn read(payload: &[u8]) -> Option<Greeting> {
        let Ok((_, AMQPClass::Connection(AMQPMethod::Start(start)))) = parse_class(payload) else { return None };
        let text = |name: &str| match start.server_properties.inner().get(name) {
            Some(AMQPValue::LongString(text)) => shown(&text.to_string()),
            _ => "?".to_owned(),
        };
        Some(Greeting { product: text("product"), version: text("version") })
    }

    fn judge(&self) -> Verdict {
        if self.product != "RabbitMQ" {
            return Verdict::Foreign;
        }
        let Some(version) = version(&self.version) else { return Verdict::Faulty("its version cannot be read") };
        if version < (3, 8, 0) {
            return Verdict::Unfit(NO_QUORUM);
        }
        let fault = FAULTS.iter().find(|(from, to, _)| (*from..*to).contains(&version));
        fault.map_or(Verdict::Fit, |(_, _, fault)| Verdict::Faulty(fault))
    }

    fn told(&self, broker: &str, text: &str) -> String {
        format!("broker {broker} is {} {}: {text}", self.product, self.version)
    }
}

/// Reads a version, also from `4.1.0-rc.1` and `3.10.8+debian`.
fn version(text: &str) -> Option<Version> {
    let mut parts = text.split('.').map(|part| {
        let digits = part.find(|c: char| !c.is_ascii_digit()).unwrap_or(part.len());
        part[..digits].parse().ok()
    });
    Some((parts.next()??, parts.next()??, parts.next().flatten().unwrap_or(0)))
}

/// Returns a short text without control characters, for logs.
fn shown(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(40).collect()
}

/// Judges the broker at the other end, called `broker`, and returns a warning if it needs one. The name of the queue
/// that it may be asked for begins with `prefix`, so the permissions of a worker are enough.
///
/// # Errors
/// If Leadhook cannot use the broker; the error is the reason, in a sentence.
pub(super) async fn check(
    connection: &lapin::Connection,
    greeting: Option<&Greeting>,
    broker: &str,
    prefix: &str,
) -> Result<Option<String>, String> {
    let nameless = Greeting { product: "?".to_owned(), version: "?".to_owned() };
    let greeting = greeting.unwrap_or(&nameless);
    let told = |text: &str| greeting.told(broker, text);
    match greeting.judge() {
        Verdict::Fit => Ok(None),
        Verdict::Faulty(fault) => Ok(Some(told(fault))),
        Verdict::Unfit(reason) => Err(told(reason)),
        Verdict::Foreign => match ignores_queue_type(connection, prefix).await {
            Ok(true) => Err(told(IGNORES)),
            Ok(false) => Ok(Some(told(FOREIGN))),
            Err(error) => {
                let why = channel::words(&error);
                Ok(Some(told(&format!("{FOREIGN}; Leadhook cannot check whether it ignores x-queue-type: {why}"))))
            }
        },
    }
}

/// Returns whether the broker makes a queue of a type that it cannot know.
///
/// # Errors
/// As [`judged`].
async fn ignores_queue_type(connection: &lapin::Connection, prefix: &str) -> lapin::Result<bool> {
    let channel = channel::channel(connection).await?;
    let name = format!("{prefix}.{NO_TYPE}-{}", std::process::id());
    let options = QueueDeclareOptions { exclusive: true, auto_delete: true, ..QueueDeclareOptions::default() };
    let mut arguments = FieldTable::default();
    arguments.insert("x-queue-type".into(), AMQPValue::LongString(NO_TYPE.into()));
    let declared = channel.queue_declare(name.as_str().into(), options, arguments).await;
    if declared.is_ok() {
        let _ = channel.queue_delete(name.as_str().into(), Default::default()).await;
    }
    judged(declared.map(drop))
}

/// Returns whether the answer shows that the broker ignored the type.
///
/// # Errors
/// If the answer is about something else, such as a permission.
fn judged(declared: lapin::Result<()>) -> lapin::Result<bool> {
    let Err(error) = declared else { return Ok(true) };
    match reply::code(&error) {
        // Another process with the same process id has made that queue.
        Some(reply::RESOURCE_LOCKED) => Ok(true),
        Some(reply::PRECONDITION_FAILED) => Ok(false),
        _ => Err(error),
    }
}

/// Reads a broker's greeting from the bytes that pass by.
#[derive(Debug)]
pub(super) struct Listener {
    heard: Vec<u8>,
    greeting: Arc<OnceLock<Option<Greeting>>>,
}

impl Listener {
    /// Creates a listener that stores the greeting in `greeting`.
    pub(super) fn new(greeting: Arc<OnceLock<Option<Greeting>>>) -> Listener {
        Listener { heard: Vec::new(), greeting }
    }

    /// Takes the next bytes from the broker.
    pub(super) fn hear(&mut self, bytes: &[u8]) {
        if self.greeting.get().is_some() {
            return;
        }
        self.heard.extend_from_slice(bytes);
        let Some((head, rest)) = self.heard.split_first_chunk::<7>() else { return };
        let size = usize::try_from(u32::from_be_bytes([head[3], head[4], head[5], head[6]])).unwrap_or(usize::MAX);
        let greeting = match rest.get(..size.min(LONGEST)) {
            Some(payload) => Greeting::read(payload),
            None => return,
        };
        let _ = self.greeting.set(greeting);
        self.heard = Vec::new();
    }
}

/// Longest greeting in bytes: a frame of the usual size.
const LONGEST: usize = 131_072;

#[cfg(test)]
mod tests {
    use lapin::{
        ErrorKind,
        protocol::{AMQPError, AMQPSoftError},
    };

    use super::*;

    fn greeting(product: &str, version: &str) -> Greeting {
        Greeting { product: product.to_owned(), version: version.to_owned() }
    }

    #[test]
    fn rabbitmq_is_judged_by_its_version() {
        let check = |version: &str, expected: &str| {
            let verdict = match greeting("RabbitMQ", version).judge() {
                Verdict::Fit => "fit",
                Verdict::Faulty(text) => text,
                Verdict::Unfit(_) => "unfit",
                Verdict::Foreign => "foreign",
            };
            assert!(verdict.contains(expected), "{version}: {verdict}");
        };
        for version in
            ["3.10.5", "3.10.8", "3.13.7", "4.0.5", "4.1.0-rc.1", "4.2.7", "4.3.5", "4.3.6", "5.0", "3.12.1+x"]
        {
            check(version, "fit");
        }
        for (version, expected) in [
            ("3.8.0", "3.10.5 or later"),
            ("3.9.29", "cannot dead-letter at least once"),
            ("3.10.0", "#4947"),
            ("3.10.4", "#4947"),
            ("4.0.4", "4.0.5 or later"),
            ("4.2.6", "4.2.7 or later"),
            ("4.3.0", "4.3.5 or later"),
            ("4.3.4-rc.2", "4.3.5 or later"),
            ("", "cannot be read"),
            ("four", "cannot be read"),
        ] {
            check(version, expected);
        }
        check("3.7.28", "unfit");
        check("3.6", "unfit");
        assert_eq!(greeting("LavinMQ", "2.4.0").judge(), Verdict::Foreign);
    }

    #[test]
    fn only_a_refusal_of_the_type_shows_that_it_was_looked_at() {
        let refused = |error: AMQPSoftError| {
            judged(Err(ErrorKind::ProtocolError(AMQPError::new(error.into(), "no".into())).into()))
        };
        assert_eq!(judged(Ok(())), Ok(true));
        assert_eq!(refused(AMQPSoftError::RESOURCELOCKED), Ok(true), "another process has made it");
        assert_eq!(refused(AMQPSoftError::PRECONDITIONFAILED), Ok(false));
        assert!(refused(AMQPSoftError::ACCESSREFUSED).is_err(), "the broker checks the permission first");
        assert!(judged(Err(ErrorKind::MissingHeartbeatError.into())).is_err());
    }

    /// Returns the first frame of a broker.
    fn start(entries: &[(&str, &str)]) -> Vec<u8> {
        let mut table = Vec::new();
        for (name, value) in entries {
            table.extend([&[name.len() as u8][..], name.as_bytes(), b"S"].concat());
            table.extend([&(value.len() as u32).to_be_bytes()[..], value.as_bytes()].concat());
        }
        let table = [&(table.len() as u32).to_be_bytes()[..], &table].concat();
        let payload = [&[0, 10, 0, 10, 0, 9][..], &table, b"\0\0\0\x05PLAIN\0\0\0\x05en_US"].concat();
        [&[1, 0, 0][..], &(payload.len() as u32).to_be_bytes(), &payload, &[0xCE]].concat()
    }

    fn heard(bytes: &[u8], piece: usize) -> Option<Option<Greeting>> {
        let greeting = Arc::new(OnceLock::new());
        let mut listener = Listener::new(greeting.clone());
        bytes.chunks(piece).for_each(|piece| listener.hear(piece));
        greeting.get().cloned()
    }

    #[test]
    fn a_greeting_is_heard_in_pieces_of_any_size() {
        let frame = start(&[("cluster_name", "rabbit@a"), ("product", "RabbitMQ"), ("version", "4.1.2")]);
        let bytes = [&frame[..], b"\x01\0\0\0\0\0\x04what follows"].concat();
        for piece in 1..bytes.len() {
            assert_eq!(heard(&bytes, piece), Some(Some(greeting("RabbitMQ", "4.1.2"))), "{piece}");
        }
        assert_eq!(heard(&frame[..frame.len() - 20], 7), None, "incomplete");
        assert_eq!(heard(&start(&[("product", "x\ny")]), 9), Some(Some(greeting("xy", "?"))));
        for other in
            [&b"AMQP\0\0\x09\x01"[..], b"\x01\0\0\0\0\0\x04\0\x0a\0\x1e\xce", b"HTTP/1.1 400 Bad Request\r\n\r\n"]
        {
            assert!(heard(other, 3).is_none_or(|greeting| greeting.is_none()), "{other:?}");
        }
    }
}
