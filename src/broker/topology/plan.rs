//! The planned queues and their arguments, as values. ARCHITECTURE.md explains their purpose.

use std::time::Duration;

use lapin::types::ShortString;

use crate::{
    delivery::ladder::Ladder,
    settings::{self, Amqp},
};

/// Redeliveries after which the broker gives up on a message. This stops a message that kills each worker before the
/// worker can look at it. Workers publish all others again in time (`worker::poison`).
const DELIVERY_LIMIT: i64 = 100;

/// The limit of queues that people browse, where each look counts. It must not be -1, which means 0 on 3.x: the second
/// look would drop a message. It must not be missing, which means 20 on 4.x.
const DELIVERY_LIMIT_AT_REST: i64 = 100_000;

/// Bounds of a stream's segments, in bytes.
const SMALLEST_SEGMENT: u64 = 1 << 20;
const LARGEST_SEGMENT: u64 = 16 << 20;

/// The names of our queues.
#[derive(Clone, Debug)]
pub struct Names {
    prefix: String,
    /// Events; bound to upstream's exchange.
    pub events: ShortString,
    /// Jobs that are due.
    pub jobs: ShortString,
    /// Failed jobs.
    pub failed: ShortString,
    /// Messages that are not a usable event or job.
    pub rejected: ShortString,
    /// Events that the broker gave up on.
    pub unreadable: ShortString,
    /// The delivery log, a stream.
    pub log: ShortString,
    /// Consumed by every worker, so its number of consumers is the number of workers. Holds no messages.
    pub workers: ShortString,
}

impl Names {
    fn new(prefix: &str) -> Names {
        let name = |last: &str| format!("{prefix}.{last}").into();
        Names {
            prefix: prefix.to_owned(),
            events: name("events"),
            jobs: name("jobs"),
            failed: name("failed"),
            rejected: name("rejected"),
            unreadable: name("unreadable"),
            log: name("log"),
            workers: name("workers"),
        }
    }

    /// Returns the name of the delay queue for a wait.
    pub fn delay(&self, delay: Duration) -> ShortString {
        format!("{}.delay.{}", self.prefix, delay.as_millis()).into()
    }

    /// Returns the wait of the delay queue with this name, or `None` if the name is not one of our delay queues.
    pub fn delay_of(&self, queue: &str) -> Option<Duration> {
        let millis = queue.strip_prefix(&self.prefix)?.strip_prefix(".delay.")?;
        let delay = millis.parse().map(Duration::from_millis).ok()?;
        (self.delay(delay).as_str() == queue).then_some(delay)
    }

    /// Returns the first part of every name, `amqp.prefix`.
    pub fn prefix(&self) -> &str {
        &self.prefix
    }
}

/// The purpose of a queue, in the order in which a message meets them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// Events from upstream.
    Events,
    /// Jobs that are due.
    Jobs,
    /// Jobs that wait for this long.
    Delay(Duration),
    /// Failed jobs, for support.
    Failed,
    /// Rejected messages, for engineers.
    Rejected,
    /// Events that the broker gave up on, for engineers.
    Unreadable,
    /// The delivery log for support, a stream.
    Log,
    /// No messages: its number of consumers is the number of workers.
    Workers,
}

/// The value of a queue argument.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Argument<'a> {
    /// A long string.
    Text(&'a str),
    /// A time in the form that RabbitMQ uses where it takes no milliseconds.
    Seconds(u64),
    /// Always declared as a signed 64-bit integer: the broker may refuse a declare with another type.
    Number(i64),
}

impl std::fmt::Display for Argument<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Argument::Text("") => f.write_str("\"\""),
            Argument::Text(text) => f.write_str(text),
            Argument::Seconds(seconds) => write!(f, "{seconds}s"),
            Argument::Number(number) => number.fmt(f),
        }
    }
}

/// How long a stream keeps its records. RabbitMQ deletes whole segments, and never the last one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retention {
    /// Records stay for at least this long, within `bytes`.
    pub age: Duration,
    /// Approximate limit in bytes.
    pub bytes: u64,
}

impl Retention {
    /// Returns the retention in the settings.
    pub fn of(log: &settings::DeliveryLog) -> Retention {
        Retention { age: log.maximum_age, bytes: log.max_bytes }
    }
}

/// One durable quorum queue, or a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Queue {
    /// Its name.
    pub name: ShortString,
    /// Its purpose.
    pub role: Role,
    /// Number of returns after which the broker dead-letters a message, or drops it without a dead-letter target.
    pub delivery_limit: Option<i64>,
    /// How long each message stays.
    pub ttl: Option<Duration>,
    /// The queue that dead letters go to, at least once, through the default exchange.
    pub dead_letters_to: Option<ShortString>,
    /// The retention of a stream; `None` for a quorum queue.
    pub retention: Option<Retention>,
}

impl Queue {
    /// Returns the arguments to declare it with.
    pub fn arguments(&self) -> Vec<(&'static str, Argument<'_>)> {
        if let Some(retention) = &self.retention {
            return stream_arguments(retention);
        }
        let mut arguments = vec![("x-queue-type", Argument::Text("quorum"))];
        if let Some(limit) = self.delivery_limit {
            arguments.push(("x-delivery-limit", Argument::Number(limit)));
        }
        if let Some(ttl) = self.ttl {
            // The ladder ends at 2^22 s.
            arguments.push(("x-message-ttl", Argument::Number(i64::try_from(ttl.as_millis()).unwrap_or(i64::MAX))));
        }
        if let Some(target) = &self.dead_letters_to {
            // Dead-lettering at least once needs both of the last two. Otherwise, the broker silently falls back to at
            // most once.
            arguments.extend([
                ("x-dead-letter-exchange", Argument::Text("")),
                ("x-dead-letter-routing-key", Argument::Text(target.as_str())),
                ("x-dead-letter-strategy", Argument::Text("at-least-once")),
                ("x-overflow", Argument::Text("reject-publish")),
            ]);
        }
        arguments
    }
}

/// Returns the arguments of a stream. RabbitMQ deletes whole segments, but not the current one. So records also stay
/// for as long as a segment takes to fill.
fn stream_arguments(retention: &Retention) -> Vec<(&'static str, Argument<'static>)> {
    let segment = (retention.bytes / 20).clamp(SMALLEST_SEGMENT, LARGEST_SEGMENT);
    let number = |bytes: u64| Argument::Number(i64::try_from(bytes).unwrap_or(i64::MAX));
    vec![
        ("x-queue-type", Argument::Text("stream")),
        ("x-max-age", Argument::Seconds(retention.age.as_secs())),
        ("x-max-length-bytes", number(retention.bytes)),
        ("x-stream-max-segment-size-bytes", number(segment)),
    ]
}

/// The planned topology.
#[derive(Clone, Debug)]
pub struct Plan {
    names: Names,
    exchange: ShortString,
    routing_keys: Vec<ShortString>,
    queues: Vec<Queue>,
}

impl Plan {
    /// Creates the plan for these settings and the delay queues that they use.
    pub fn new(amqp: &Amqp, ladder: &Ladder) -> Plan {
        let names = Names::new(&amqp.prefix);
        let at_rest = |name: &ShortString, role| Queue {
            name: name.clone(),
            role,
            delivery_limit: Some(DELIVERY_LIMIT_AT_REST),
            ttl: None,
            dead_letters_to: None,
            retention: None,
        };
        let input = |name: &ShortString, role, target: &ShortString| Queue {
            name: name.clone(),
            role,
            delivery_limit: Some(DELIVERY_LIMIT),
            ttl: None,
            dead_letters_to: Some(target.clone()),
            retention: None,
        };
        let delay_queue = |delay: &Duration| Queue {
            name: names.delay(*delay),
            role: Role::Delay(*delay),
            delivery_limit: None,
            ttl: Some(*delay),
            dead_letters_to: Some(names.jobs.clone()),
            retention: None,
        };
        let mut queues = vec![
            at_rest(&names.failed, Role::Failed),
            at_rest(&names.rejected, Role::Rejected),
            at_rest(&names.unreadable, Role::Unreadable),
            input(&names.jobs, Role::Jobs, &names.failed),
        ];
        queues.extend(ladder.delays().iter().map(delay_queue));
        queues.push(input(&names.events, Role::Events, &names.unreadable));
        queues.push(Queue {
            name: names.workers.clone(),
            role: Role::Workers,
            delivery_limit: None,
            ttl: None,
            dead_letters_to: None,
            retention: None,
        });
        Plan {
            exchange: amqp.exchange.as_str().into(),
            routing_keys: amqp.routing_keys.iter().map(|key| key.as_str().into()).collect(),
            names,
            queues,
        }
    }

    /// Returns the names of the queues.
    pub fn names(&self) -> &Names {
        &self.names
    }

    /// Returns upstream's exchange, `amqp.exchange`: topic and durable.
    pub fn exchange(&self) -> &ShortString {
        &self.exchange
    }

    /// Returns the keys that bind the events queue to the exchange, `amqp.routing_keys`.
    pub fn routing_keys(&self) -> &[ShortString] {
        &self.routing_keys
    }

    /// Returns the stream of the delivery log. It is not among the queues, because deliveries go on without it.
    pub fn log(&self, retention: Retention) -> Queue {
        Queue {
            name: self.names.log.clone(),
            role: Role::Log,
            delivery_limit: None,
            ttl: None,
            dead_letters_to: None,
            retention: Some(retention),
        }
    }

    /// Adds the delivery log to the queues, for callers that look at everything or create it.
    pub fn with_log(mut self, retention: Retention) -> Plan {
        let log = self.log(retention);
        self.queues.push(log);
        self
    }

    /// Returns the queues, each after the queue that it dead-letters to.
    pub fn queues(&self) -> &[Queue] {
        &self.queues
    }

    /// Returns the queue with this name.
    pub fn queue(&self, name: &str) -> Option<&Queue> {
        self.queues.iter().find(|queue| queue.name.as_str() == name)
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in crate::broker::topology) fn default_plan() -> Plan {
        let settings = settings::load(None, None, std::iter::empty()).unwrap();
        Plan::new(&settings.amqp, &Ladder::for_backoff(&settings.backoff))
    }

    fn shown(queue: &Queue) -> String {
        let arguments: Vec<_> = queue.arguments().iter().map(|(key, value)| format!("{key}={value}")).collect();
        format!("{}: {}", queue.name, arguments.join(" "))
    }

    const AT_LEAST_ONCE: &str = "x-dead-letter-strategy=at-least-once x-overflow=reject-publish";

    #[test]
    fn the_default_plan_is_the_table_of_the_design() {
        let plan = default_plan();
        assert_eq!((plan.exchange().as_str(), plan.routing_keys()), ("lead.events", &["lead.*".into()][..]));
        let (delays, others): (Vec<_>, Vec<_>) =
            plan.queues().iter().partition(|queue| matches!(queue.role, Role::Delay(_)));
        let dead = |limit: i64, target: &str| {
            format!(
                "x-queue-type=quorum x-delivery-limit={limit} x-dead-letter-exchange=\"\" \
                 x-dead-letter-routing-key={target} {AT_LEAST_ONCE}"
            )
        };
        let expected = [
            "leadhook.failed: x-queue-type=quorum x-delivery-limit=100000".to_owned(),
            "leadhook.rejected: x-queue-type=quorum x-delivery-limit=100000".to_owned(),
            "leadhook.unreadable: x-queue-type=quorum x-delivery-limit=100000".to_owned(),
            format!("leadhook.jobs: {}", dead(100, "leadhook.failed")),
            format!("leadhook.events: {}", dead(100, "leadhook.unreadable")),
            "leadhook.workers: x-queue-type=quorum".to_owned(),
        ];
        assert_eq!(others.iter().map(|queue| shown(queue)).collect::<Vec<_>>(), expected);
        // From 250 ms up to the longest default backoff, 1 h plus 1/5 of it.
        let millis: Vec<_> = delays
            .iter()
            .map(|queue| queue.name.as_str().strip_prefix("leadhook.delay.").unwrap().to_owned())
            .collect();
        assert_eq!(millis[..6], ["250", "313", "375", "438", "500", "625"]);
        assert_eq!(millis.last().unwrap(), "5120000");
        for (queue, millis) in delays.iter().zip(&millis) {
            let expected = format!(
                "leadhook.delay.{millis}: x-queue-type=quorum x-message-ttl={millis} x-dead-letter-exchange=\"\" \
                 x-dead-letter-routing-key=leadhook.jobs {AT_LEAST_ONCE}"
            );
            assert_eq!(shown(queue), expected);
        }
    }

    #[test]
    fn targets_come_before_what_points_at_them() {
        let plan = default_plan();
        for (position, queue) in plan.queues().iter().enumerate() {
            let Some(target) = &queue.dead_letters_to else { continue };
            let before = &plan.queues()[..position];
            assert!(before.iter().any(|earlier| earlier.name == *target), "{} before {target}", queue.name);
        }
    }

    #[test]
    fn the_log_is_a_stream_with_its_retention() {
        let retention = Retention { age: Duration::from_secs(14 * 86_400), bytes: 10 << 30 };
        assert_eq!(
            shown(&default_plan().log(retention)),
            "leadhook.log: x-queue-type=stream x-max-age=1209600s x-max-length-bytes=10737418240 \
             x-stream-max-segment-size-bytes=16777216"
        );
    }

    #[test]
    fn a_delay_queue_is_recognized_by_its_name_only() {
        let names = default_plan().names().clone();
        assert_eq!(names.delay_of("leadhook.delay.1250"), Some(Duration::from_millis(1250)));
        for other in ["leadhook.delay.", "leadhook.delay.01", "leadhook.delay.+1", "leadhook.delay.x", "other.delay.1"]
        {
            assert_eq!(names.delay_of(other), None, "{other}");
        }
    }
}
