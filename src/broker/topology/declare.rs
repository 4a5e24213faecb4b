//! Creates the topology. Everything here can be repeated: things that exist as planned stay as they are.

use lapin::{Channel, Connection, types::ShortString};

use super::{
    Plan, Problem, Property, Queue, Role, Thing, TopologyError,
    ask::{Asker, Mode},
    look::{self, Existence},
    refusal::Task,
};

/// Declares the queues, each after the queue that it dead-letters to. Then declares upstream's exchange if it is
/// missing, and binds the events queue to it.
///
/// A queue that exists with other arguments does not stop the others, so one error names all such queues. But then
/// nothing is bound. Any other refusal stops the rest, because a queue must not exist before its dead-letter target.
///
/// # Errors
/// The broker's refusals, explained; or a lost connection.
pub async fn declare(connection: &Connection, plan: &Plan) -> Result<(), TopologyError> {
    make(connection, plan, Look::First).await
}

/// Declares again on a connection that has already declared the topology, and now consumes.
///
/// A missing events or jobs queue is left to the next session. If it were declared at once, it would exist before the
/// consumers of the old queue learn of its end. RabbitMQ (3.10) then moves them over silently, and messages that it
/// hands to them vanish until the connection ends.
///
/// An existing exchange is not compared again. If upstream lets no other client declare it, each comparison costs a
/// channel.
///
/// # Errors
/// As [`declare`].
pub async fn declare_again(connection: &Connection, plan: &Plan) -> Result<(), TopologyError> {
    make(connection, plan, Look::Later).await
}

/// Whether a session begins or goes on.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Look {
    First,
    Later,
}

async fn make(connection: &Connection, plan: &Plan, look: Look) -> Result<(), TopologyError> {
    let mut asker = Asker::new(connection);
    let mut problems = Vec::new();
    for planned in plan.queues() {
        let consumed = matches!(planned.role, Role::Events | Role::Jobs);
        if look == Look::Later && consumed && look::queue(&mut asker, &planned.name).await? == Existence::Missing {
            continue;
        }
        match queue(&mut asker, planned).await? {
            None => {}
            // A stream keeps the retention that it was created with, and policies may have changed it since. It still
            // works.
            Some(Problem::Differs { property, unset: false, .. })
                if planned.role == Role::Log && property.is_retention() => {}
            Some(problem @ Problem::Differs { .. }) => problems.push(problem),
            Some(problem) => {
                problems.push(problem);
                return TopologyError::unless_none(problems, plan);
            }
        }
    }
    problems.extend(exchange(&mut asker, plan.exchange(), look).await?);
    if problems.is_empty() {
        problems.extend(bind(&mut asker, plan).await?);
    }
    TopologyError::unless_none(problems, plan)
}

/// Declares the events queue and binds it, for a session that does not consume it yet. The other queues and the
/// exchange exist already.
///
/// # Errors
/// As [`declare`].
pub async fn declare_events(connection: &Connection, plan: &Plan) -> Result<(), TopologyError> {
    let mut asker = Asker::new(connection);
    let Some(events) = plan.queue(plan.names().events.as_str()) else { return Ok(()) };
    let mut problem = queue(&mut asker, events).await?;
    if problem.is_none() {
        problem = bind(&mut asker, plan).await?;
    }
    TopologyError::unless_none(problem.into_iter().collect(), plan)
}

/// Declares one queue of the plan again. Does nothing for a name outside the plan.
///
/// # Errors
/// As [`declare`].
pub async fn declare_one(connection: &Connection, plan: &Plan, name: &ShortString) -> Result<(), TopologyError> {
    let Some(planned) = plan.queue(name.as_str()) else { return Ok(()) };
    let problem = queue(&mut Asker::new(connection), planned).await?;
    TopologyError::unless_none(problem.into_iter().collect(), plan)
}

/// The state of the delivery log's stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It is as planned, as far as is known.
    AsPlanned,
    /// It has another retention, but works.
    Otherwise,
}

/// Checks that a stream exists, and creates it if `declare` allows that. Uses up `channel`, so that no other request on
/// a shared connection waits behind these.
///
/// # Errors
/// If it is missing and may not be declared, if the broker refuses, or if the connection is lost.
pub async fn stream(channel: Channel, plan: &Plan, planned: &Queue, declare: bool) -> Result<Standing, TopologyError> {
    let mut asker = Asker::once(channel);
    let problem = match declare {
        true => queue(&mut asker, planned).await?,
        false => match look::queue(&mut asker, &planned.name).await? {
            Existence::Stands(_) => None,
            Existence::Missing => Some(Problem::Missing { thing: Thing::Queue(planned.name.clone()) }),
            Existence::Hidden(problem) => Some(problem),
        },
    };
    match problem {
        None => Ok(Standing::AsPlanned),
        // If the retention is not set, it may be a queue, which would fill up and lose messages that are read too
        // often.
        Some(Problem::Differs { property, unset: false, .. }) if property.is_retention() => Ok(Standing::Otherwise),
        Some(problem) => TopologyError::unless_none(vec![problem], plan).map(|()| Standing::AsPlanned),
    }
}

async fn queue(asker: &mut Asker<'_>, queue: &Queue) -> Result<Option<Problem>, TopologyError> {
    let answer = asker.declare(queue).await?;
    Ok(answer.err().map(|refused| refused.explain(&Task::Declare(queue))))
}

/// Declares the exchange if it is missing. It belongs to upstream, which may forbid that. An existing exchange is
/// declared only to see its type, which a passive declare does not show. Then a refused permission is fine, and so is a
/// difference in properties that Leadhook does not need.
async fn exchange(asker: &mut Asker<'_>, name: &ShortString, look: Look) -> Result<Option<Problem>, TopologyError> {
    let stands = match look::exchange(asker, name).await? {
        Existence::Stands(_) if look == Look::Later => return Ok(None),
        Existence::Stands(_) => true,
        Existence::Missing => false,
        Existence::Hidden(problem) => return Ok(Some(problem)),
    };
    let answer = asker.exchange(name, Mode::Active).await?;
    let problem = answer.err().map(|refused| refused.explain(&Task::Create(name)));
    Ok(problem.filter(|problem| {
        !stands || matches!(problem, Problem::Differs { property: Property::Type | Property::Durable, .. })
    }))
}

async fn bind(asker: &mut Asker<'_>, plan: &Plan) -> Result<Option<Problem>, TopologyError> {
    let (queue, exchange) = (&plan.names().events, plan.exchange());
    for key in plan.routing_keys() {
        if let Err(refused) = asker.bind(queue, exchange, key).await? {
            return Ok(Some(refused.explain(&Task::Bind { queue, exchange, key })));
        }
    }
    Ok(None)
}
