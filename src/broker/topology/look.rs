//! Looks at the broker with passive declares, which need no configure permission and change nothing. They show whether
//! a thing exists and how many messages are ready on a queue, but no arguments or bindings.

use std::collections::BTreeMap;

use lapin::{Connection, types::ShortString};

use super::{
    Plan, Problem, Queue, Thing, TopologyError,
    ask::{Asker, Mode},
    refusal::{Refused, Task},
};

/// The messages and consumers of a queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Count {
    /// Waiting messages, without those that a consumer holds.
    pub ready: u64,
    /// Its consumers.
    pub consumers: u32,
}

/// The result of a look at one thing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Existence {
    /// It exists; with its counts, which are 0 for an exchange.
    Stands(Count),
    /// It does not exist.
    Missing,
    /// The broker did not say.
    Hidden(Problem),
}

impl Existence {
    /// Returns its counts, if it exists.
    pub fn count(&self) -> Option<Count> {
        match self {
            Existence::Stands(count) => Some(*count),
            Existence::Missing | Existence::Hidden(_) => None,
        }
    }
}

/// The result of a look at everything in the plan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sight {
    /// Upstream's exchange; its count is 0.
    pub exchange: Existence,
    /// Each queue of the plan, by name.
    pub queues: BTreeMap<String, Existence>,
}

/// Looks at everything in the plan. A missing thing costs one channel, and does not end the look at the others.
///
/// # Errors
/// If the connection is lost.
pub async fn look(connection: &Connection, plan: &Plan) -> Result<Sight, TopologyError> {
    let mut asker = Asker::new(connection);
    let exchange = exchange(&mut asker, plan.exchange()).await?;
    let queues = each(&mut asker, plan.queues()).await?;
    Ok(Sight { exchange, queues })
}

/// Checks that everything in the plan exists, for workers that do not declare the topology.
///
/// # Errors
/// All missing and hidden things together, or a lost connection.
pub async fn verify(connection: &Connection, plan: &Plan) -> Result<(), TopologyError> {
    let Sight { exchange, mut queues } = look(connection, plan).await?;
    let queues = plan.queues().iter().filter_map(|queue| {
        queues.remove(queue.name.as_str()).map(|existence| (Thing::Queue(queue.name.clone()), existence))
    });
    let all = queues.chain([(Thing::Exchange(plan.exchange().clone()), exchange)]);
    let problems = all.filter_map(|(thing, existence)| match existence {
        Existence::Stands(_) => None,
        Existence::Missing => Some(Problem::Missing { thing }),
        Existence::Hidden(problem) => Some(problem),
    });
    TopologyError::unless_none(problems.collect(), plan)
}

/// Looks at the queues alone, and returns them by name.
///
/// # Errors
/// If the connection is lost.
pub async fn queues(connection: &Connection, plan: &Plan) -> Result<BTreeMap<String, Existence>, TopologyError> {
    each(&mut Asker::new(connection), plan.queues()).await
}

/// Counts the messages and consumers of the queues. Leaves out queues that are missing or hidden.
///
/// # Errors
/// If the connection is lost.
pub async fn counts(connection: &Connection, plan: &Plan) -> Result<BTreeMap<String, Count>, TopologyError> {
    let seen = queues(connection, plan).await?.into_iter();
    Ok(seen.filter_map(|(name, existence)| Some((name, existence.count()?))).collect())
}

/// Counts one queue after the other, on one channel as long as none is missing.
pub struct Counter<'a>(Asker<'a>);

impl<'a> Counter<'a> {
    /// Prepares a counter, but sends no request yet.
    pub fn new(connection: &'a Connection) -> Counter<'a> {
        Counter(Asker::new(connection))
    }

    /// Counts a queue, whether it is in the plan or not. Returns `None` if it is missing or hidden.
    ///
    /// # Errors
    /// If the connection is lost.
    pub async fn count(&mut self, queue: &str) -> Result<Option<Count>, TopologyError> {
        Ok(self.0.look(&queue.into()).await?.ok())
    }
}

/// Looks at one exchange.
pub(super) async fn exchange(asker: &mut Asker<'_>, name: &ShortString) -> Result<Existence, TopologyError> {
    let answer = asker.exchange(name, Mode::Passive).await?;
    Ok(existence(answer.map(|()| Count { ready: 0, consumers: 0 }), Thing::Exchange(name.clone())))
}

/// Looks at one queue.
pub(super) async fn queue(asker: &mut Asker<'_>, name: &ShortString) -> Result<Existence, TopologyError> {
    let answer = asker.look(name).await?;
    Ok(existence(answer, Thing::Queue(name.clone())))
}

async fn each(asker: &mut Asker<'_>, queues: &[Queue]) -> Result<BTreeMap<String, Existence>, TopologyError> {
    let mut seen = BTreeMap::new();
    for queue in queues {
        seen.insert(queue.name.to_string(), self::queue(asker, &queue.name).await?);
    }
    Ok(seen)
}

fn existence(answer: Result<Count, Refused>, thing: Thing) -> Existence {
    match answer {
        Ok(count) => Existence::Stands(count),
        Err(refused) => match refused.explain(&Task::Look(thing)) {
            Problem::Missing { .. } => Existence::Missing,
            problem => Existence::Hidden(problem),
        },
    }
}
