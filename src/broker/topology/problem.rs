//! What is wrong with the topology, in words that say what is there, what must be, and what to do.

use std::{collections::BTreeSet, fmt};

use lapin::types::ShortString;

use super::Plan;
use crate::broker::reply::{ACCESS_REFUSED, PRECONDITION_FAILED};

/// Why the topology is not as it must be.
#[derive(Debug, thiserror::Error)]
pub enum TopologyError {
    /// The connection, or the broker behind it, is gone: to be tried again.
    #[error("no connection to the broker: {0}")]
    Lost(String),
    /// What is wrong, and what can be done about it.
    #[error("{}", told(.problems, .advice))]
    Problems {
        /// Never empty.
        problems: Vec<Problem>,
        /// Whole sentences.
        advice: Vec<String>,
    },
}

impl TopologyError {
    /// Whether waiting will not mend it: something is missing, forbidden, or stands with other arguments.
    pub fn is_final(&self) -> bool {
        match self {
            TopologyError::Lost(_) => false,
            TopologyError::Problems { problems, .. } => problems.iter().any(Problem::is_final),
        }
    }

    /// Whether something stands under a name of the plan that is not what was planned.
    pub fn is_foreign(&self) -> bool {
        match self {
            TopologyError::Lost(_) => false,
            TopologyError::Problems { problems, .. } => {
                problems.iter().any(|problem| matches!(problem, Problem::Differs { .. }))
            }
        }
    }

    /// All problems with advice, if there are any.
    pub(super) fn unless_none(problems: Vec<Problem>, plan: &Plan) -> Result<(), TopologyError> {
        if problems.is_empty() {
            return Ok(());
        }
        let advice: BTreeSet<_> = problems.iter().map(Problem::advice).collect();
        let advice = advice.into_iter().filter_map(|advice| advice.sentence(plan)).collect();
        Err(TopologyError::Problems { problems, advice })
    }
}

/// Problems beyond so many are only counted; what is missing is named all the same.
const TOLD: usize = 5;

/// One line for logs and readiness: what is missing, then the other problems, then what to do.
fn told(problems: &[Problem], advice: &[String]) -> String {
    let missing = problems.iter().filter_map(|problem| match problem {
        Problem::Missing { thing } => Some(thing.to_string()),
        _ => None,
    });
    let missing: Vec<_> = missing.collect();
    let others = problems.iter().filter(|problem| !matches!(problem, Problem::Missing { .. }));
    let mut parts: Vec<_> = others.take(TOLD).map(ToString::to_string).collect();
    let untold = problems.len() - missing.len() - parts.len();
    if untold > 0 {
        parts.push(format!("and {untold} more of this kind"));
    }
    if !missing.is_empty() {
        parts.insert(0, format!("missing: {}", missing.join(", ")));
    }
    format!("{}. {}", parts.join("; "), advice.join(" ")).trim_end().to_owned()
}

/// Something on the broker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Thing {
    /// A queue of ours.
    Queue(ShortString),
    /// The exchange of upstream.
    Exchange(ShortString),
}

impl fmt::Display for Thing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Thing::Queue(name) => write!(f, "queue {name}"),
            Thing::Exchange(name) => write!(f, "exchange {name}"),
        }
    }
}

/// In what a thing differs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Property {
    /// The type of an exchange.
    Type,
    /// Whether it outlives the broker.
    Durable,
    /// Anything else, by the broker's name for it, such as `x-delivery-limit`.
    Other(String),
}

impl Property {
    pub(super) fn new(name: &str) -> Property {
        match name {
            "type" => Property::Type,
            "durable" => Property::Durable,
            other => Property::Other(other.to_owned()),
        }
    }

    /// Whether it only says for how long a stream keeps what is on it.
    pub(super) fn is_retention(&self) -> bool {
        ["x-max-age", "x-max-length-bytes", "x-stream-max-segment-size-bytes"].contains(&self.name())
    }

    fn name(&self) -> &str {
        match self {
            Property::Type => "type",
            Property::Durable => "durable",
            Property::Other(name) => name,
        }
    }
}

/// One thing that is not as it must be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Problem {
    /// It does not exist, and creating it is not up to us.
    Missing {
        /// What.
        thing: Thing,
    },
    /// It stands, but not as planned.
    Differs {
        /// What.
        thing: Thing,
        /// In what.
        property: Property,
        /// There and here in words, such as `is 20 there, must be 100 here`.
        how: String,
        /// Whether it is not set there at all.
        unset: bool,
        /// The broker's words.
        said: String,
    },
    /// A permission is missing.
    Forbidden {
        /// Which, in words: `configure on queue leadhook.jobs`.
        permission: String,
        /// The broker's words.
        said: String,
    },
    /// A connection holds it for itself.
    Locked {
        /// What.
        thing: Thing,
        /// The broker's words.
        said: String,
    },
    /// Anything else.
    Refused {
        /// What was tried, in words.
        task: String,
        /// AMQP reply code.
        code: u16,
        /// The broker's words.
        said: String,
    },
}

impl Problem {
    fn is_final(&self) -> bool {
        match self {
            Problem::Missing { .. } | Problem::Differs { .. } | Problem::Forbidden { .. } => true,
            // An exclusive queue goes with the connection that holds it.
            Problem::Locked { .. } => false,
            // A limit or an argument that this broker does not take: waiting does not mend it.
            Problem::Refused { code, .. } => matches!(*code, ACCESS_REFUSED | PRECONDITION_FAILED),
        }
    }

    fn advice(&self) -> Advice {
        match self {
            Problem::Missing { .. } => Advice::Apply,
            Problem::Differs { thing: Thing::Queue(_), .. } => Advice::ReplaceQueue,
            Problem::Differs { thing: Thing::Exchange(_), .. } => Advice::AskUpstream,
            Problem::Forbidden { .. } => Advice::Permit,
            Problem::Locked { .. } => Advice::Unlock,
            Problem::Refused { .. } => Advice::None,
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Problem::Missing { thing } => write!(f, "{thing} is missing"),
            Problem::Differs { thing, property, how, said, .. } => {
                let what = match thing {
                    Thing::Queue(_) => "arguments",
                    Thing::Exchange(_) => "properties",
                };
                write!(f, "{thing} stands with other {what}: {} {how} (the broker said: {said})", property.name())
            }
            Problem::Forbidden { permission, said } => {
                write!(f, "the user may not do this, it needs {permission} (the broker said: {said})")
            }
            Problem::Locked { thing, said } => {
                write!(f, "{thing} belongs to another connection alone (the broker said: {said})")
            }
            Problem::Refused { task, code, said } => write!(f, "cannot {task}: the broker said {code} {said}"),
        }
    }
}

/// What to do; told once, however many problems call for it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Advice {
    ReplaceQueue,
    AskUpstream,
    Permit,
    Apply,
    Unlock,
    None,
}

impl Advice {
    fn sentence(self, plan: &Plan) -> Option<String> {
        Some(match self {
            Advice::ReplaceQueue => {
                "Arguments of a queue cannot be changed: delete the queue once it is empty (management \
                UI, or rabbitmqctl delete_queue) and start again, or choose another amqp.prefix. The broker names only \
                the first difference; with amqp.management_url `leadhook topology check` shows all."
                    .to_owned()
            }
            Advice::AskUpstream => {
                "The exchange belongs to upstream and must be a durable topic exchange: have it made \
                anew, or bind a durable topic exchange to it and name that in amqp.exchange."
                    .to_owned()
            }
            Advice::Permit => {
                let ours = format!("^{}\\.", escaped(plan.names().prefix()));
                let exchange = escaped(plan.exchange().as_str());
                let ours_or = |other: &str| format!("^({}\\.|{other}$)", escaped(plan.names().prefix()));
                format!(
                    "A worker needs the permissions configure '{ours}' (with the exchange, if it is to create it), write \
                     '{}' and read '{}' (rabbitmqctl set_permissions); it needs no configure with topology.declare = \
                     false, when somebody else has run `leadhook topology apply`.",
                    ours_or("amq\\.default"),
                    ours_or(&exchange),
                )
            }
            Advice::Apply => {
                "Run `leadhook topology apply` as a user who may configure, or set topology.declare = true.".to_owned()
            }
            Advice::Unlock => {
                "Find out who declared it as exclusive, and stop that, or choose another amqp.prefix.".to_owned()
            }
            Advice::None => return None,
        })
    }
}

/// A name as a part of a regular expression.
fn escaped(name: &str) -> String {
    let mut text = String::new();
    for c in name.chars() {
        if !(c.is_alphanumeric() || matches!(c, '_' | '-' | ':' | '/' | ' ')) {
            text.push('\\');
        }
        text.push(c);
    }
    text
}
