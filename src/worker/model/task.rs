//! The steps of the workers. Their order is the worker's own ([`machine`]). This module does the work of each step: it
//! looks into the memory, POSTs, publishes and acks.

use super::{
    Broken, Kind, Model,
    answers::{RETRY_ATTEMPTS, fate},
    checks::Wrong,
    state::{At, Copy, End, Fate, Part, State, Task, Ticket, What, keep_publishing},
    trace::{Next, Step},
};
use crate::{
    broker::publisher::PublishError,
    worker::settle::{
        machine::{self, Machine, Recorded, Settlement},
        record::meaning,
    },
};

/// A visitor of next states.
pub type Visit<'a> = &'a mut dyn FnMut(Step, State);

impl Model {
    /// Visits all steps that workers can take next.
    pub fn task_steps(&self, state: &State, visit: Visit<'_>) {
        for (index, copy) in state.copies.iter().enumerate() {
            self.take(state, index, visit);
            for (at, task) in copy.tasks() {
                let spot = Spot { copy: index, at };
                for (which, part) in task.parts.iter().enumerate() {
                    match part.machine.next() {
                        machine::Next::Recall => self.recall(state, spot, which, visit),
                        machine::Next::Decide => self.post(state, spot, which, visit),
                        machine::Next::Publish => self.publish(state, spot, which, visit),
                        machine::Next::Settled | machine::Next::Left => {}
                    }
                }
                if task.parts.iter().all(Part::is_over) {
                    let mut next = state.clone();
                    self.settle(&mut next, spot);
                    visit(Step::Ack { worker: task.worker, what: copy.what }, next);
                }
            }
        }
    }

    /// Lets a worker take a message and begin on it: `deliver` looks into the memory, `dispatch` resolves.
    fn take(&self, state: &State, index: usize, visit: Visit<'_>) {
        let what = state.copies[index].what;
        for (at, message) in state.copies[index].messages.iter().enumerate() {
            let redelivered = message.redelivered;
            for worker in (0..self.setting.workers).filter(|worker| message.holder.is_none() && !state.stale[*worker]) {
                for direct in self.ways(what, redelivered) {
                    let mut next = state.clone();
                    let copy = &mut next.copies[index];
                    let worker = worker as u8;
                    let parts =
                        (0..self.parts(what)).map(|which| self.begin(copy, worker, which, redelivered, *direct));
                    let parts: Vec<Part> = parts.collect();
                    let empty = parts.is_empty();
                    copy.messages[at].holder = Some(Task { worker, good: true, parts });
                    if empty {
                        self.ack(&mut next, Spot { copy: index, at: At::Message(at) });
                    }
                    visit(Step::Take { worker, what, redelivered }, next);
                }
            }
        }
    }

    /// Returns for each way to begin whether it makes an attempt. An event with one target may be attempted directly
    /// unless it was redelivered; the jobs queue is always possible.
    fn ways(&self, what: What, redelivered: bool) -> &'static [bool] {
        let may_be_direct = match what {
            What::Event(event) => {
                self.setting.events[usize::from(event)] == Kind::Wanted
                    && self.setting.answers.len() == 1
                    && !redelivered
            }
            What::Job { .. } => return &[true],
        };
        if may_be_direct { &[true, false] } else { &[false] }
    }

    fn parts(&self, what: What) -> usize {
        match what {
            What::Job { .. } => 1,
            What::Event(event) => match self.setting.events[usize::from(event)] {
                Kind::Wanted => self.setting.answers.len(),
                Kind::Unusable => 1,
                Kind::Unwanted | Kind::Dispatched => 0,
            },
        }
    }

    /// Does the start of `Delivery::settle`, up to the first wait.
    fn begin(&self, copy: &mut Copy, worker: u8, which: usize, redelivered: bool, attempt: bool) -> Part {
        let decided = match copy.what {
            What::Event(event) if self.setting.events[usize::from(event)] == Kind::Unusable => {
                let mut machine = Machine::begin(false);
                machine.decided(Some(Fate::Reject));
                return Part { machine, ticket: None, there: false };
            }
            What::Job { attempt, .. } if redelivered && self.broken == Some(Broken::CountRedelivery) => {
                Some(fate(500, attempt))
            }
            What::Job { .. } | What::Event(_) if attempt => None,
            What::Job { .. } | What::Event(_) => Some(Fate::Forward),
        };
        let mut machine = Machine::begin(redelivered);
        if machine.next() == machine::Next::Recall {
            let known = copy.known[usize::from(worker)][which].filter(|_| self.broken != Some(Broken::NoMemory));
            if known.is_some() {
                return Part { machine, ticket: known, there: false };
            }
            machine.recalled(None, true);
        }
        let ticket = Some(begin(copy, worker, which));
        if decided.is_some() {
            machine.decided(decided);
        }
        Part { machine, ticket, there: false }
    }

    fn recall(&self, state: &State, spot: Spot, which: usize, visit: Visit<'_>) {
        let mut next = state.clone();
        let copy = &mut next.copies[spot.copy];
        let (what, task) = (copy.what, copy.task(spot.at));
        let (worker, mut part) = (task.worker, task.parts[which].clone());
        let known = match part.ticket.map(|ticket| copy.tickets[usize::from(ticket)]) {
            Some(Ticket::Running) => return,
            Some(Ticket::Dropped) | None => None,
            Some(Ticket::Settled { fate, recorded }) => Some(Settlement { decision: fate, recorded }),
        };
        // A task without its channel gives up ([`Model::hurry`]).
        part.machine.recalled(known, true);
        part.ticket = match part.machine.next() {
            machine::Next::Settled => None,
            _ => Some(begin(copy, worker, which)),
        };
        if let (machine::Next::Decide, What::Event(_)) = (part.machine.next(), what) {
            part.machine.decided(Some(Fate::Forward));
        }
        copy.task_mut(spot.at).parts[which] = part;
        visit(Step::Recall { worker, what }, next);
    }

    fn post(&self, state: &State, spot: Spot, which: usize, visit: Visit<'_>) {
        let what = state.copies[spot.copy].what;
        let What::Job { event, target, attempt } = delivery(what, which) else { unreachable!("a delivery") };
        for &status in self.setting.answers[usize::from(target)] {
            let mut next = state.clone();
            let fate = fate(status, attempt);
            let end = &mut next.ends[usize::from(event)][usize::from(target)];
            match fate {
                Fate::Delivered => end.delivered = true,
                _ => end.refused = (end.refused + 1).min(RETRY_ATTEMPTS as u8 + 1),
            }
            let copy = &mut next.copies[spot.copy];
            copy.delivered |= fate == Fate::Delivered;
            let task = copy.task_mut(spot.at);
            task.parts[which].machine.decided(Some(fate));
            let worker = task.worker;
            copy.posts[usize::from(worker)] += 1;
            let once = copy.posts[usize::from(worker)] <= copy.arrivals;
            self.remember(copy, spot.at, which);
            self.demand(&mut next, Wrong::PostedAgain, once);
            visit(Step::Post { worker, what, status }, next);
        }
    }

    /// Takes one step of the loop in `record`: publishes the successor, or confirms a published one.
    fn publish(&self, state: &State, spot: Spot, which: usize, visit: Visit<'_>) {
        let mut next = state.clone();
        let (what, task) = (state.copies[spot.copy].what, state.copies[spot.copy].task(spot.at));
        let (worker, successor) = (task.worker, self.successor(what, task, which));
        let step = match task.parts[which].there {
            false => {
                self.send(&mut next, spot, which);
                if self.broken == Some(Broken::AckBeforeConfirm) && matches!(spot.at, At::Message(_)) {
                    // The ack goes over another connection, so it may overtake the publish.
                    let mut early = state.clone();
                    keep_publishing(&mut early.copies[spot.copy], spot.at);
                    self.ack(&mut early, spot);
                    visit(Step::Ack { worker, what }, early);
                }
                Step::Send { worker, what, next: successor }
            }
            true => {
                self.answer(&mut next, spot, which, Ok(()));
                Step::Confirm { worker, what, next: successor }
            }
        };
        visit(step, next);
    }

    /// Publishes a successor, and lets the broker put it on its queue.
    fn send(&self, state: &mut State, spot: Spot, which: usize) {
        let here = &mut state.copies[spot.copy];
        let (from, task) = (here.what, here.task(spot.at).clone());
        if !task.parts[which].is_due() {
            return;
        }
        let successor = self.successor(from, &task, which);
        here.task_mut(spot.at).parts[which].there = true;
        // The channel is already gone, and the worker cannot know.
        here.excused |= task.good && state.stale[usize::from(task.worker)] && self.cut_explains(from);
        let explained = here.excused || here.arrivals > 1;
        let again = match (from, successor) {
            (What::Event(event), Next::Job(What::Job { attempt, .. }) | Next::Failed(What::Job { attempt, .. })) => {
                let end = &mut state.ends[usize::from(event)][which];
                // A direct attempt that was made counts like a job.
                let attempted =
                    attempt == 0 && matches!(successor, Next::Job(_)) && here.posts.iter().any(|posts| *posts > 0);
                std::mem::replace(&mut end.dispatched, true) || attempted
            }
            _ => std::mem::replace(&mut here.forwarded, true),
        };
        self.demand(state, Wrong::Forked, !again || explained);
        let made = |attempt: u8, end: &End| end.refused >= attempt && u32::from(attempt) <= RETRY_ATTEMPTS + 1;
        let honest = match successor {
            Next::Job(What::Job { event, target, attempt }) => {
                made(attempt, &state.ends[usize::from(event)][usize::from(target)])
                    && u32::from(attempt) <= RETRY_ATTEMPTS
            }
            Next::Failed(What::Job { event, target, attempt }) => {
                let end = &mut state.ends[usize::from(event)][usize::from(target)];
                end.failed = (end.failed + 1).min(2);
                made(attempt + 1, end)
            }
            Next::Rejected(What::Event(event)) => {
                state.rejected[usize::from(event)] = true;
                self.setting.events[usize::from(event)] == Kind::Unusable
            }
            Next::Job(_) | Next::Failed(_) | Next::Rejected(_) => false,
        };
        self.demand(state, Wrong::Invented, honest);
        if let Next::Job(what) = successor {
            state.copies.push(Copy::arrived(what));
        }
    }

    /// Applies the publisher's answer to a successor, and ends the task if this was its last.
    pub fn answer(&self, state: &mut State, spot: Spot, which: usize, answer: Result<(), PublishError>) {
        let copy = &mut state.copies[spot.copy];
        let part = &mut copy.task_mut(spot.at).parts[which];
        if part.machine.next() != machine::Next::Publish {
            return;
        }
        let done = match (&answer, self.broken) {
            (Err(PublishError::Returned { .. }), broken) => broken == Some(Broken::ReturnedIsDone),
            (Err(PublishError::TimedOut), broken) => broken == Some(Broken::TimedOutIsDone),
            _ => false,
        };
        let recorded = match meaning(answer) {
            Ok(recorded) => recorded,
            Err(_) if done => Recorded::Yes,
            Err(_) if self.broken == Some(Broken::GiveBackAfterPost) => Recorded::InputGone,
            Err(_) => {
                // `record` publishes it again.
                part.there = false;
                return;
            }
        };
        part.there = false;
        part.machine.published(recorded);
        self.remember(copy, spot.at, which);
        self.settle(state, spot);
    }

    /// Ends a task if all its deliveries are over, and acks if all are settled.
    pub fn settle(&self, state: &mut State, spot: Spot) {
        let copy = &mut state.copies[spot.copy];
        let parts = &copy.task(spot.at).parts;
        let settled = |part: &Part| part.machine.next() == machine::Next::Settled;
        let hasty = self.broken == Some(Broken::AckWhenSomeAreDone) && parts.iter().any(settled);
        let all = parts.iter().all(settled);
        if !hasty && !parts.iter().all(Part::is_over) {
            return;
        }
        let delivered = |part: &Part| part.machine.settlement().is_some_and(|it| it.decision == Fate::Delivered);
        if self.broken == Some(Broken::GiveBackDelivered) && parts.iter().all(delivered) {
            copy.known = Default::default();
            copy.leave(spot.at);
        } else if hasty || all {
            keep_publishing(copy, spot.at);
            self.ack(state, spot);
        } else {
            copy.leave(spot.at);
        }
    }

    /// Ends the task with an ack, which has no effect if the broker has taken the message back.
    fn ack(&self, state: &mut State, spot: Spot) {
        match spot.at {
            At::Stray(index) => drop(state.copies[spot.copy].strays.remove(index)),
            At::Message(index) => {
                state.copies[spot.copy].messages.remove(index);
                let may = self.may_be_acked(state, spot.copy);
                self.demand(state, Wrong::AckedTooSoon, may);
            }
        }
    }

    /// Does at once what a task without its channel can do anyway and no other step can affect. That leaves fewer
    /// states and omits no outcome. A successor that is not published is given up, and a decision is remembered. A task
    /// that can do neither is over.
    pub fn hurry(&self, state: &mut State) {
        for index in 0..state.copies.len() {
            for stray in (0..state.copies[index].strays.len()).rev() {
                let spot = Spot { copy: index, at: At::Stray(stray) };
                let task = state.copies[index].task(spot.at);
                let (good, parts) = (task.good, task.parts.len());
                for which in 0..parts {
                    let copy = &mut state.copies[index];
                    let part = &mut copy.task_mut(spot.at).parts[which];
                    match part.machine.next() {
                        machine::Next::Publish
                            if !good && !part.there && self.broken != Some(Broken::PublishWithoutInput) =>
                        {
                            part.machine.published(Recorded::InputGone);
                            self.remember(copy, spot.at, which);
                        }
                        machine::Next::Recall if !good && self.broken != Some(Broken::WaiterGoesOn) => {
                            part.machine.recalled(None, false);
                            part.ticket = None;
                        }
                        _ => {}
                    }
                }
                self.settle(state, spot);
            }
        }
    }

    /// Does what `Ticket::finish` does when a delivery is over.
    fn remember(&self, copy: &mut Copy, at: At, which: usize) {
        let task = copy.task(at);
        let (worker, part) = (usize::from(task.worker), &task.parts[which]);
        let (Some(ticket), true) = (part.ticket, part.is_over()) else { return };
        let settled = match Ticket::of(part.machine.settlement()) {
            Ticket::Settled { recorded: false, .. } if self.broken == Some(Broken::GiveBackAfterPost) => {
                copy.known[worker][which] = None;
                Ticket::Dropped
            }
            Ticket::Settled { fate, .. } if self.broken == Some(Broken::RememberTooMuch) => {
                Ticket::Settled { fate, recorded: true }
            }
            other => other,
        };
        copy.tickets[usize::from(ticket)] = settled;
    }

    /// Returns whether a cut alone explains a second successor of a copy. Another worker does not know what this one
    /// did, and no worker remembers a rejected event.
    pub fn cut_explains(&self, what: What) -> bool {
        let rejected = |event: u8| self.setting.events[usize::from(event)] == Kind::Unusable;
        self.setting.workers > 1 || matches!(what, What::Event(event) if rejected(event))
    }

    /// Returns the successor that a delivery publishes.
    pub fn successor(&self, from: What, task: &Task, which: usize) -> Next {
        let settlement = task.parts[which].machine.settlement();
        match (delivery(from, which), settlement.map(|settlement| settlement.decision)) {
            (What::Job { event, target, attempt }, Some(Fate::Retry)) => {
                Next::Job(What::Job { event, target, attempt: attempt + 1 })
            }
            (job, Some(Fate::Forward)) => Next::Job(job),
            (_, Some(Fate::Reject)) => Next::Rejected(from),
            (job, _) => Next::Failed(job),
        }
    }
}

/// Returns the delivery of an event for one of its targets, as its job would carry it.
fn delivery(what: What, which: usize) -> What {
    match what {
        What::Event(event) => What::Job { event, target: which as u8, attempt: 0 },
        job @ What::Job { .. } => job,
    }
}

/// The place of a task: its copy, and where it is in the copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Spot {
    pub copy: usize,
    pub at: At,
}

/// Does what `Memory::begin` does.
pub fn begin(copy: &mut Copy, worker: u8, which: usize) -> u8 {
    copy.tickets.push(Ticket::Running);
    let ticket = copy.tickets.len() as u8 - 1;
    copy.known[usize::from(worker)][which] = Some(ticket);
    ticket
}
