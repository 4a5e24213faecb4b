//! What the model remembers: the broker's queues, the workers' tasks and memories, the receivers, and what has been
//! proven so far. Everything is small, comparable and hashable.

use crate::worker::settle::machine::{Decision, Machine, Next, Settlement};

/// At most so many workers, events and targets; a [`super::Setting`] may use fewer.
pub const WORKERS: usize = 2;
pub const EVENTS: usize = 2;
pub const TARGETS: usize = 2;

/// One reachable state.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct State {
    /// All copies that are on the broker, are worked on, or may still be published.
    pub copies: Vec<Copy>,
    /// Whose consuming channel is gone at the broker without the worker knowing.
    pub stale: [bool; WORKERS],
    /// What has become of each event at each target.
    pub ends: [[End; TARGETS]; EVENTS],
    /// Which events rest on the rejected queue.
    pub rejected: [bool; EVENTS],
    /// Faults that may still happen.
    pub faults: u8,
    /// A rule was broken on the way here.
    pub wrong: Option<super::checks::Wrong>,
}

/// What has become of one event at one target.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct End {
    /// A job for it, or its failed record, was on the broker.
    pub dispatched: bool,
    /// Its receiver answered 2xx.
    pub delivered: bool,
    /// Its receiver answered something else so often (counted up to what fails a job).
    pub refused: u8,
    /// So many copies rest on the failed queue (counted up to 2).
    pub failed: u8,
}

/// What a copy is a copy of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum What {
    Event(u8),
    Job { event: u8, target: u8, attempt: u8 },
}

/// One published copy: everything that knows it by its id, which is the key of the worker's memory. Of an event each
/// target has a key of its own.
///
/// There can be several messages of it, because the broker may dead-letter a waiting message twice. A second publish is another
/// copy: `record` makes a message for each try, and [`crate::job::fresh_copy`] gives each message its own id.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Copy {
    pub what: What,
    pub messages: Vec<Message>,
    /// Tasks whose message the broker has taken back.
    pub strays: Vec<Task>,
    /// What begun deliveries have come to; `known` and tasks name them by index.
    pub tickets: Vec<Ticket>,
    /// Each worker's memory of this copy, for each part of a task.
    pub known: [[Option<u8>; TARGETS]; WORKERS],
    /// How many messages of this copy were ever on the broker.
    pub arrivals: u8,
    /// POSTs made for it by each process that runs now.
    pub posts: [u8; WORKERS],
    /// A POST for this copy was answered 2xx.
    pub delivered: bool,
    /// A successor of it was on the broker.
    pub forwarded: bool,
    /// A fault has hit it that explains a second successor.
    pub excused: bool,
}

/// One message on the events queue, a delay queue or the jobs queue.
///
/// A wait on a delay queue is no state of its own: a message that waits is one that nobody takes yet.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Message {
    pub redelivered: bool,
    /// Unacked, and this task works on it.
    pub holder: Option<Task>,
}

/// What a worker does about a message.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Task {
    pub worker: u8,
    /// `Receipt::is_good`: as far as the worker knows, its channel is there.
    pub good: bool,
    /// Its deliveries: one of a job, one for each target of an event, and of one that is rejected the rejected message.
    pub parts: Vec<Part>,
}

/// One delivery in `Delivery::settle`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Part {
    /// The code itself.
    pub machine: Machine<Fate>,
    /// What it waits for while it recalls, and what it has begun then.
    pub ticket: Option<u8>,
    /// Its successor is on its queue, and the confirm is on its way.
    pub there: bool,
}

/// `Transition`, as far as it matters here.
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
    /// Whether nothing more is to be done.
    pub fn is_over(&self) -> bool {
        matches!(self.machine.next(), Next::Settled | Next::Left)
    }

    /// Whether its successor is to be published, or to be published again.
    pub fn is_due(&self) -> bool {
        self.machine.next() == Next::Publish && !self.there
    }

    /// Whether its successor is on the broker.
    pub fn has_published(&self) -> bool {
        self.there
            || self.machine.settlement().is_some_and(|known| known.recorded && known.decision.successor().is_some())
    }
}

/// Where a task is found in a copy.
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

    /// A copy that has just been published.
    pub fn arrived(what: What) -> Copy {
        Copy { arrivals: 1, messages: vec![Message::READY], ..Copy::new(what) }
    }

    /// All tasks that work on it.
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

    /// The task is over without an ack; a message that it still held goes back.
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
    /// Drops what can matter no more and puts the rest in order, so that states that differ in numbering only are one.
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
