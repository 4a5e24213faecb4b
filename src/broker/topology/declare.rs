//! Making it so. Everything here can be repeated: what stands as planned is left as it is.

use lapin::{Channel, Connection, types::ShortString};

use super::{
    Plan, Problem, Property, Queue, Role, Thing, TopologyError,
    ask::{Asker, Mode},
    look::{self, Existence},
    refusal::Task,
};

/// Declares the queues, each after the one that it dead-letters to; then the exchange of upstream, if it is missing; and
/// binds the events queue to it.
///
/// A queue that stands with other arguments does not keep the others from being looked at, so that all such are told at
/// once; but nothing is bound then. After any other refusal the rest is not tried: what points at a queue must not come
/// before it.
///
/// # Errors
/// What the broker refused, explained; or the connection is lost.
pub async fn declare(connection: &Connection, plan: &Plan) -> Result<(), TopologyError> {
    make(connection, plan, Look::First).await
}

/// The same for what was declared before on this connection, and is consumed from now.
///
/// A missing queue of events or jobs is left to the next session. Declared at once, it comes before the news of its end
/// reaches the consumers of the old one: RabbitMQ (3.10) then moves them over without a word, and messages that it
/// hands to them vanish until the connection ends.
///
/// An exchange that stands is taken for what it was: where upstream lets no other client declare it, each comparison costs a
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
            // A stream keeps what was said when it was made; policies may say otherwise since. It serves all the same.
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

/// Declares the queue of events and binds it, for a session that does not consume it yet. The rest is there.
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

/// Declares one queue of the plan anew; a name that is not in the plan is nothing to do.
///
/// # Errors
/// As [`declare`].
pub async fn declare_one(connection: &Connection, plan: &Plan, name: &ShortString) -> Result<(), TopologyError> {
    let Some(planned) = plan.queue(name.as_str()) else { return Ok(()) };
    let problem = queue(&mut Asker::new(connection), planned).await?;
    TopologyError::unless_none(problem.into_iter().collect(), plan)
}

/// How the stream of the delivery log stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// As planned, as far as is known.
    AsPlanned,
    /// With another retention. It serves all the same.
    Otherwise,
}

/// Makes sure that a stream stands, and declares it where that is allowed. `channel` is used up: nothing else waits
/// behind it on a connection that others need.
///
/// # Errors
/// It is missing and may not be declared, or the broker refuses; or the connection is lost.
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
        // Without any it may be no stream at all, which would fill up, and be worn out by being read.
        Some(Problem::Differs { property, unset: false, .. }) if property.is_retention() => Ok(Standing::Otherwise),
        Some(problem) => TopologyError::unless_none(vec![problem], plan).map(|()| Standing::AsPlanned),
    }
}

async fn queue(asker: &mut Asker<'_>, queue: &Queue) -> Result<Option<Problem>, TopologyError> {
    let answer = asker.declare(queue).await?;
    Ok(answer.err().map(|refused| refused.explain(&Task::Declare(queue))))
}

/// The exchange belongs to upstream, who may not let us declare it. Where it stands, a declaration serves only to see its
/// type, which a passive one does not show: being refused that is fine, and so are properties that do not matter to us.
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
