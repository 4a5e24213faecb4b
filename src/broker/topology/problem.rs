//! Problems of the topology, in words: the state on the broker, the plan, and what to do.

use std::{collections::BTreeSet, fmt};

use lapin::types::ShortString;

use super::Plan;
use crate::broker::reply::{ACCESS_REFUSED, PRECONDITION_FAILED};

/// Why the topology is not as planned, or could not be checked.
#[derive(Debug, thiserror::Error)]
pub enum TopologyError {
    /// The connection or its broker is gone. The caller tries again later.
    #[error("no connection to the broker: {0}")]
    Lost(String),
    /// The problems, with advice.
    #[error("{}", told(.problems, .advice))]
    Problems {
        /// Never empty.
        problems: Vec<Problem>,
        /// Whole sentences.
        advice: Vec<String>,
    },
}

impl TopologyError {
    /// Returns whether waiting does not help: something is missing, forbidden, or exists with other arguments.
    pub fn is_final(&self) -> bool {
        match self {
            TopologyError::Lost(_) => false,
            TopologyError::Problems { problems, .. } => problems.iter().any(Problem::is_final),
        }
    }

    /// Returns whether something has a name of the plan but is not as planned.
    pub fn is_foreign(&self) -> bool {
        match self {
            TopologyError::Lost(_) => false,
            TopologyError::Problems { problems, .. } => {
                problems.iter().any(|problem| matches!(problem, Problem::Differs { .. }))
            }
        }
    }

    /// Returns an error with all problems and advice, unless there are no problems.
    pub(super) fn unless_none(problems: Vec<Problem>, plan: &Plan) -> Result<(), TopologyError> {
        if problems.is_empty() {
            return Ok(());
        }
        let advice: BTreeSet<_> = problems.iter().map(Problem::advice).collect();
        let advice = advice.into_iter().filter_map(|advice| advice.sentence(plan)).collect();
        Err(TopologyError::Problems { problems, advice })
    }
}

/// Most problems to describe; others are only counted. Missing things are always named.
const TOLD: usize = 5;

/// Returns one line for logs and readiness: missing things, then the other problems, then advice.
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

/// A queue or an exchange on the broker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Thing {
    /// One of our queues.
    Queue(ShortString),
    /// Upstream's exchange.
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

/// A property in which a thing differs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Property {
    /// The type of an exchange.
    Type,
    /// Whether it survives a restart of the broker.
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

    /// Returns whether it only sets how long a stream keeps its records.
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

/// One problem of the topology.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Problem {
    /// It does not exist, and Leadhook may not create it.
    Missing {
        /// The thing.
        thing: Thing,
    },
    /// It exists, but not as planned.
    Differs {
        /// The thing.
        thing: Thing,
        /// The property that differs.
        property: Property,
        /// The values there and here in words, such as `is 20 there, must be 100 here`.
        how: String,
        /// Whether it is not set on the broker.
        unset: bool,
        /// The broker's words.
        said: String,
    },
    /// A permission is missing.
    Forbidden {
        /// The permission in words, such as `configure on queue leadhook.jobs`.
        permission: String,
        /// The broker's words.
        said: String,
    },
    /// Another connection holds it exclusively.
    Locked {
        /// The thing.
        thing: Thing,
        /// The broker's words.
        said: String,
    },
    /// Any other refusal.
    Refused {
        /// The request in words.
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
            // An exclusive queue ends with the connection that holds it.
            Problem::Locked { .. } => false,
            // A limit of the broker, or an argument that it does not accept. Waiting does not help.
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

/// What to do. Shown once, even if several problems need it.
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

/// Escapes a name for a regular expression.
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
