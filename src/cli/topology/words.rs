//! Words for the parts of the topology.

use crate::{
    broker::topology::{Argument, Plan, Queue, Role},
    cli::schedule::human,
};

/// Returns the purpose of a queue.
pub(super) fn purpose(role: Role) -> String {
    match role {
        Role::Events => "events to dispatch".to_owned(),
        Role::Jobs => "jobs that are due".to_owned(),
        Role::Delay(delay) => format!("jobs that wait {}", human(delay)),
        Role::Failed => "jobs that have failed".to_owned(),
        Role::Rejected => "messages that are not usable events".to_owned(),
        Role::Unreadable => "events that the broker gave up on".to_owned(),
        Role::Log => "the delivery log".to_owned(),
        Role::Workers => "nothing: counts the workers".to_owned(),
    }
}

/// Returns the arguments in which queues differ, in short form.
pub(super) fn arguments(queue: &Queue) -> String {
    let limit = queue.delivery_limit.map(|limit| format!("delivery limit {limit}"));
    let ttl = queue.ttl.map(|ttl| format!("ttl {}", human(ttl)));
    let target = queue.dead_letters_to.as_ref().map(|target| format!("dead-letters to {target}"));
    let retention = queue.retention.map(|kept| {
        format!("a stream, kept {} or {}", human(kept.age), bytesize::ByteSize(kept.bytes).display().iec())
    });
    [limit, ttl, target, retention].into_iter().flatten().collect::<Vec<_>>().join(", ")
}

/// Returns the queues in the order in which a message passes them.
pub(super) fn in_order(plan: &Plan) -> Vec<&Queue> {
    let mut queues: Vec<_> = plan.queues().iter().collect();
    queues.sort_by_key(|queue| queue.role);
    queues
}

/// Returns the arguments as they are declared.
pub(super) fn declared(queue: &Queue) -> serde_json::Map<String, serde_json::Value> {
    let value = |argument| match argument {
        Argument::Text(text) => text.into(),
        Argument::Seconds(_) => argument.to_string().into(),
        Argument::Number(number) => number.into(),
    };
    queue.arguments().into_iter().map(|(key, argument)| (key.to_owned(), value(argument))).collect()
}

/// Formats a count: `1 queue`, `2 queues`.
pub(super) fn counted(count: u64, one: &str) -> String {
    format!("{count} {one}{}", if count == 1 { "" } else { "s" })
}
