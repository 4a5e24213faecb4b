//! The state of the model: the broker's queues, the workers' tasks and memories, the receivers, and the results so far.
//! Everything is small, comparable and hashable.

use crate::worker::settle::machine::{Decision, Machine, Next, Settlement};

/// Most workers, events and targets; a [`super::Setting`] may use fewer.
pub const WORKERS: usize = 2;
pub const EVENTS: usize = 2;
pub const TARGETS: usize = 2;

/// One reachable state.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct State {
    /// All copies that are on the broker, are worked on, or may still be published.
    pub copies: Vec<Copy>,
    /// Workers whose consuming channel is gone at the broker without their knowledge.
    pub stale: [bool; WORKERS],
    /// The result of each event at each target.
    pub ends: [[End; TARGETS]; EVENTS],
    /// Events that are on the rejected queue.
    pub rejected: [bool; EVENTS],
    /// Faults that may still happen.
    pub faults: u8,
    /// The rule that was broken on the way here.
    pub wrong: Option<super::checks::Wrong>,
}

/// The result of one event at one target.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct End {
    /// Whether a job for it, or its failed record, was on the broker.
    pub dispatched: bool,
    /// Whether its receiver answered 2xx.
    pub delivered: bool,
    /// Other answers of its receiver (counted up to the number that fails a job).
    pub refused: u8,
    /// Copies on the failed queue (counted up to 2).
    pub failed: u8,
}

/// The content of a copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum What {
    Event(u8),
    Job { event: u8, target: u8, attempt: u8 },
}

/// One published copy, with everything that knows it by its id. The id is the key of the worker's memory. For an event,
/// each target has a key of its own.
///
/// A copy can have several messages, because the broker may dead-letter a waiting message twice. A second publish makes
/// another copy: `record` makes a message for each try, and [`crate::job::fresh_copy`] gives each message its own id.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Copy {
    pub what: What,
    pub messages: Vec<Message>,
    /// Tasks whose message the broker has taken back.
    pub strays: Vec<Task>,
    /// Results of begun deliveries; `known` and tasks refer to them by index.
    pub tickets: Vec<Ticket>,
    /// Each worker's memory of this copy, for each part of a task.
    pub known: [[Option<u8>; TARGETS]; WORKERS],
    /// Number of messages of this copy that were ever on the broker.
    pub arrivals: u8,
    /// POSTs made for it by each process that runs now.
    pub posts: [u8; WORKERS],
    /// Whether a POST for this copy was answered 2xx.
    pub delivered: bool,
    /// Whether a successor of it was on the broker.
    pub forwarded: bool,
    /// Whether a fault has hit it that explains a second successor.
    pub excused: bool,
}

/// One message on the events queue, a delay queue or the jobs queue.
///
/// A wait on a delay queue is not a separate state: a waiting message is one that no worker takes yet.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Message {
    pub redelivered: bool,
    /// The task that works on it, while it is unacked.
    pub holder: Option<Task>,
}

/// The work of a worker on a message.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Task {
    pub worker: u8,
    /// `Receipt::is_good`: whether its channel exists, as far as the worker knows.
    pub good: bool,
    /// Its deliveries: one for a job, and one for each target of an event. A rejected event has one, the rejected
    /// message.
    pub parts: Vec<Part>,
}

/// One delivery in `Delivery::settle`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Part {
    /// The real machine.
    pub machine: Machine<Fate>,
    /// The ticket that it waits for while it recalls, or that it has begun after that.
    pub ticket: Option<u8>,
    /// Whether its successor is on its queue and the confirm is on its way.
    pub there: bool,
}

/// `Transition`, reduced to what the model needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Fate {
    Delivered,
    /// The job of an event.
    Forward,
    Retry,
    Fail,
    /// The rejected message of an event.
    Reject,
}

impl Decision for Fate {
    type Successor = Fate;

    fn successor(&self) -> Option<&Fate> {
        (*self != Fate::Delivered).then_some(self)
    }
}

/// One delivery in a worker's memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Ticket {
    Running,
    Settled { fate: Fate, recorded: bool },
    Dropped,
}

impl Ticket {
    pub fn of(settlement: Option<&Settlement<Fate>>) -> Ticket {
        match settlement {
            Some(Settlement { decision, recorded }) => Ticket::Settled { fate: *decision, recorded: *recorded },
            None => Ticket::Dropped,
        }
    }
}

impl Part {
    /// Returns whether nothing more must be done.
    pub fn is_over(&self) -> bool {
        matches!(self.machine.next(), Next::Settled | Next::Left)
    }

    /// Returns whether its successor must be published, perhaps again.
    pub fn is_due(&self) -> bool {
        self.machine.next() == Next::Publish && !self.there
    }

    /// Returns whether its successor is on the broker.
    pub fn has_published(&self) -> bool {
        self.there
            || self.machine.settlement().is_some_and(|known| known.recorded && known.decision.successor().is_some())
    }
}

/// The place of a task in a copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum At {
    Message(usize),
    Stray(usize),
}

impl Copy {
    pub fn new(what: What) -> Copy {
        Copy {
            what,
            messages: Vec::new(),
            strays: Vec::new(),
            tickets: Vec::new(),
            known: Default::default(),
            arrivals: 0,
            posts: [0; WORKERS],
            delivered: false,
            forwarded: false,
            excused: false,
        }
    }

    /// Returns a copy that has just been published.
    pub fn arrived(what: What) -> Copy {
        Copy { arrivals: 1, messages: vec![Message::READY], ..Copy::new(what) }
    }

    /// Returns all tasks that work on it.
    pub fn tasks(&self) -> impl Iterator<Item = (At, &Task)> {
        let held = self.messages.iter().enumerate();
        let held = held.filter_map(|(index, message)| Some((At::Message(index), message.holder.as_ref()?)));
        held.chain(self.strays.iter().enumerate().map(|(index, task)| (At::Stray(index), task)))
    }

    pub fn tasks_mut(&mut self) -> impl Iterator<Item = &mut Task> {
        self.messages.iter_mut().filter_map(|message| message.holder.as_mut()).chain(self.strays.iter_mut())
    }

    pub fn task(&self, at: At) -> &Task {
        match at {
            At::Stray(index) => &self.strays[index],
            At::Message(index) => self.messages[index].holder.as_ref().expect("a task at this message"),
        }
    }

    pub fn task_mut(&mut self, at: At) -> &mut Task {
        match at {
            At::Stray(index) => &mut self.strays[index],
            At::Message(index) => self.messages[index].holder.as_mut().expect("a task at this message"),
        }
    }

    /// Ends a task without an ack. A message that it still held goes back.
    pub fn leave(&mut self, at: At) {
        match at {
            At::Stray(index) => drop(self.strays.remove(index)),
            At::Message(index) => self.messages[index] = Message { redelivered: true, holder: None },
        }
    }
}

impl Message {
    pub const READY: Message = Message { redelivered: false, holder: None };

    pub fn is_with(&self, worker: u8) -> bool {
        self.holder.as_ref().is_some_and(|task| task.worker == worker)
    }
}

impl State {
    /// Drops what no longer matters and orders the rest, so that states that differ only in numbering are the same.
    pub fn tidy(&mut self) {
        self.copies.iter_mut().for_each(Copy::tidy_tickets);
        self.copies.retain(|copy| !copy.messages.is_empty() || !copy.strays.is_empty());
        self.copies.sort();
    }
}

impl Copy {
    fn tidy_tickets(&mut self) {
        self.messages.sort();
        self.strays.sort();
        let old = std::mem::take(&mut self.tickets);
        let mut renumbered = vec![None; old.len()];
        let mut tickets = Vec::new();
        let mut keep = |index: &mut u8| {
            let new = renumbered[usize::from(*index)].get_or_insert_with(|| {
                tickets.push(old[usize::from(*index)]);
                tickets.len() as u8 - 1
            });
            *index = *new;
        };
        self.known.iter_mut().flatten().filter_map(Option::as_mut).for_each(&mut keep);
        let parts = self.tasks_mut().flat_map(|task| &mut task.parts);
        parts.filter_map(|part| part.ticket.as_mut()).for_each(&mut keep);
        self.tickets = tickets;
    }
}

/// Lets the rest of a task go on when a broken protocol acks before all is confirmed.
pub fn keep_publishing(copy: &mut Copy, at: At) {
    let task = copy.task(at);
    if !task.parts.iter().all(Part::is_over) {
        copy.strays.push(task.clone());
    }
}
