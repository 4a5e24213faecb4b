//! Explains a refusal of the broker.
//!
//! The reply code and the request decide. The broker's text only adds names and values, because its wording differs
//! between versions and it is cut at 255 bytes. A text that cannot be read is quoted unchanged. The one exception is a
//! 404 to a look. It means "missing" only if the text says so, because a queue whose node is down answers with 404 as
//! well.

use std::fmt;

use lapin::{ErrorKind, types::ShortString};

use super::{Problem, Property, Queue, Thing, TopologyError};
use crate::broker::{
    connection,
    reply::{ACCESS_REFUSED, NOT_FOUND, PRECONDITION_FAILED, RESOURCE_LOCKED},
};

/// A request to the broker.
pub(super) enum Task<'a> {
    Look(Thing),
    Declare(&'a Queue),
    Create(&'a ShortString),
    Bind { queue: &'a ShortString, exchange: &'a ShortString, key: &'a ShortString },
}

impl Task<'_> {
    fn thing(&self) -> Thing {
        match self {
            Task::Look(thing) => thing.clone(),
            Task::Declare(queue) => Thing::Queue(queue.name.clone()),
            Task::Create(exchange) => Thing::Exchange((*exchange).clone()),
            Task::Bind { queue, .. } => Thing::Queue((*queue).clone()),
        }
    }

    /// Returns the planned value of a property, by the broker's name for it. Returns `None` if it must not be set.
    fn wanted(&self, property: &str) -> Option<String> {
        match (self, property) {
            (_, "durable") => Some("true".to_owned()),
            (_, "auto_delete" | "exclusive" | "internal") => Some("false".to_owned()),
            (Task::Create(_), "type") => Some("topic".to_owned()),
            (Task::Declare(queue), _) => {
                let arguments = queue.arguments();
                arguments.into_iter().find(|(key, _)| *key == property).map(|(_, value)| value.to_string())
            }
            _ => None,
        }
    }

    /// Returns the permission that the request needs. From 4.x on, the broker names it. On 3.10, it follows from the
    /// request and from whether the text names a queue or an exchange.
    fn permission(&self, said: &str) -> String {
        let spoken =
            ["configure", "write", "read"].into_iter().find(|word| said.contains(&format!("{word} access to ")));
        let of_exchange = said.contains("access to exchange ");
        match self {
            // Required since 4.3, and any permission will do. The text names the one that was checked last.
            Task::Look(thing) => format!("read (or any other permission) on {thing}"),
            Task::Declare(_) if of_exchange => {
                format!("{} on exchange amq.default (for dead letters)", spoken.unwrap_or("write"))
            }
            // Dead-lettering needs the permission to read.
            Task::Declare(queue) if queue.dead_letters_to.is_some() => {
                format!("{} on {}", spoken.unwrap_or("configure and read"), self.thing())
            }
            Task::Declare(_) | Task::Create(_) => format!("{} on {}", spoken.unwrap_or("configure"), self.thing()),
            Task::Bind { exchange, .. } if of_exchange => {
                format!("{} on exchange {exchange} (to bind to it)", spoken.unwrap_or("read"))
            }
            Task::Bind { .. } => format!("{} on {}", spoken.unwrap_or("write"), self.thing()),
        }
    }
}

impl fmt::Display for Task<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Task::Look(thing) => write!(f, "look at {thing}"),
            Task::Declare(_) | Task::Create(_) => write!(f, "declare {}", self.thing()),
            Task::Bind { queue, exchange, key } => {
                write!(f, "bind queue {queue} to exchange {exchange} with key {key}")
            }
        }
    }
}

/// A refusal in the broker's words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Refused {
    pub(super) code: u16,
    pub(super) text: String,
}

impl Refused {
    /// Returns the broker's refusal, or an error if the connection is lost.
    pub(super) fn of(error: &lapin::Error) -> Result<Refused, TopologyError> {
        match error.kind() {
            ErrorKind::ProtocolError(cause) => {
                Ok(Refused { code: cause.get_id(), text: cause.get_message().to_string() })
            }
            _ => Err(TopologyError::Lost(connection::words(error))),
        }
    }

    /// Returns the problem that the refusal means for this request.
    pub(super) fn explain(self, task: &Task<'_>) -> Problem {
        let said = self.text;
        match (self.code, task) {
            (ACCESS_REFUSED, _) if said.contains("access to ") => {
                Problem::Forbidden { permission: task.permission(&said), said }
            }
            (NOT_FOUND, Task::Look(thing)) if said.contains("no queue ") || said.contains("no exchange ") => {
                Problem::Missing { thing: thing.clone() }
            }
            (RESOURCE_LOCKED, _) => Problem::Locked { thing: task.thing(), said },
            (PRECONDITION_FAILED, _) => match Inequivalent::read(&said) {
                Some(inequivalent) => Problem::Differs {
                    thing: task.thing(),
                    property: Property::new(inequivalent.argument),
                    how: inequivalent.how(task),
                    unset: inequivalent.current == Some(None),
                    said,
                },
                None => Problem::Refused { task: task.to_string(), code: self.code, said },
            },
            (code, _) => Problem::Refused { task: task.to_string(), code, said },
        }
    }
}

/// `inequivalent arg 'NAME' for queue 'Q' in vhost 'V': received VALUE but current is VALUE`
struct Inequivalent<'a> {
    argument: &'a str,
    /// The value on the broker: `Some(None)` if it is not set, `None` if the text was cut off before it.
    current: Option<Option<&'a str>>,
}

impl<'a> Inequivalent<'a> {
    fn read(text: &'a str) -> Option<Inequivalent<'a>> {
        let (_, rest) = text.split_once("inequivalent arg '")?;
        let (argument, rest) = rest.split_once('\'')?;
        let current = rest.split_once(" but current is ").map(|(_, value)| value_in(value));
        Some(Inequivalent { argument, current })
    }

    fn how(&self, task: &Task<'_>) -> String {
        let there = match self.current {
            None => "is something else there".to_owned(),
            Some(None) => "is not set there".to_owned(),
            Some(Some(value)) => format!("is {value} there"),
        };
        match task.wanted(self.argument) {
            Some(here) => format!("{there}, must be {here} here"),
            None => format!("{there}, must not be set here"),
        }
    }
}

/// Reads `none`, `'20'`, or `the value '20' of type 'long'`.
fn value_in(text: &str) -> Option<&str> {
    let text = text.trim();
    if text == "none" {
        return None;
    }
    let value = text.strip_prefix("the value ").unwrap_or(text);
    let value = value.split_once("' of type '").map_or(value, |(value, _)| value);
    Some(value.trim_start_matches('\'').trim_end_matches('\''))
}

#[cfg(test)]
mod tests;
