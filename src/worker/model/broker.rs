//! The steps of the broker, and the faults of the broker, the network and the processes.

use super::{
    Fault, Model,
    state::{Copy, Message, Part, State, Task, Ticket, What},
    task::{Spot, Visit},
    trace::{How, Step},
};
use crate::worker::settle::machine::Next;

impl Model {
    /// Lets workers notice that a channel is gone and open another.
    pub fn notice_steps(&self, state: &State, visit: Visit<'_>) {
        for worker in (0..self.setting.workers).filter(|worker| state.stale[*worker]) {
            let mut next = state.clone();
            notice(&mut next, worker);
            visit(Step::Notice { worker: worker as u8 }, next);
        }
    }

    /// Visits all faults that would make a difference now.
    pub fn fault_steps(&self, state: &State, visit: Visit<'_>) {
        let Some(faults) = state.faults.checked_sub(1) else { return };
        let after = State { faults, ..state.clone() };
        let workers = 0..self.setting.workers as u8;
        for fault in self.setting.kinds {
            match fault {
                Fault::Kill => workers.clone().for_each(|worker| self.kill(&after, worker, visit)),
                Fault::Cut => workers.clone().for_each(|worker| self.cut(&after, worker, visit)),
                Fault::Lost => workers.clone().for_each(|worker| self.lost(&after, worker, visit)),
                Fault::NotDone => self.not_done(&after, visit),
                Fault::Restart => self.restart(&after, visit),
                Fault::Twice => self.twice(&after, visit),
            }
        }
    }

    fn kill(&self, state: &State, worker: u8, visit: Visit<'_>) {
        if !state.copies.iter().any(|copy| concerns(copy, worker)) {
            return;
        }
        let mut next = state.clone();
        next.stale[usize::from(worker)] = false;
        for copy in next.copies.iter_mut().filter(|copy| concerns(copy, worker)) {
            copy.excused |=
                copy.forwarded || copy.tasks().any(|(_, task)| task.worker == worker && has_published(task));
            // No worker remembers the outcome of an event any longer.
            if let What::Event(event) = copy.what {
                let dispatched = state.ends[usize::from(event)].iter().any(|end| end.dispatched);
                copy.excused |= dispatched || copy.posts[usize::from(worker)] > 0;
            }
            for message in copy.messages.iter_mut().filter(|message| message.is_with(worker)) {
                *message = Message { redelivered: true, holder: None };
            }
            copy.strays.retain(|task| task.worker != worker);
            copy.known[usize::from(worker)] = Default::default();
            copy.posts[usize::from(worker)] = 0;
        }
        visit(Step::Kill { worker }, next);
    }

    /// Cuts the channel of a worker. Messages that were sent ahead on it and never started come again as redelivered.
    fn cut(&self, state: &State, worker: u8, visit: Visit<'_>) {
        let mut idle = Vec::new();
        for (copy, one) in state.copies.iter().enumerate() {
            let fresh = |message: &Message| *message == Message::READY;
            idle.extend(one.messages.iter().enumerate().filter(|(_, one)| fresh(one)).map(|(at, _)| (copy, at)));
        }
        let holds = |copy: &Copy| copy.messages.iter().any(|message| message.is_with(worker));
        if state.stale[usize::from(worker)] || !state.copies.iter().any(holds) {
            return;
        }
        for ahead in 0..1_u32 << idle.len() {
            let mut next = state.clone();
            let sent_ahead = idle.iter().enumerate().filter(|(bit, _)| ahead & 1 << bit != 0);
            sent_ahead.for_each(|(_, (copy, at))| next.copies[*copy].messages[*at].redelivered = true);
            self.drop_channel(&mut next, worker);
            visit(Step::Cut { worker, ahead }, next);
        }
    }

    /// Lets the broker take back the messages that the worker's channel held. The tasks go on.
    fn drop_channel(&self, state: &mut State, worker: u8) {
        for copy in &mut state.copies {
            let explains = self.cut_explains(copy.what);
            let event = matches!(copy.what, What::Event(_));
            let attempted = event && copy.posts[usize::from(worker)] > 0;
            for message in copy.messages.iter_mut().filter(|message| message.is_with(worker)) {
                state.stale[usize::from(worker)] = true;
                message.redelivered = true;
                let task = message.holder.take().expect("a message that is with a worker");
                let attempts = event && task.parts.iter().any(|part| part.machine.next() == Next::Decide);
                copy.excused |= explains && (attempted || attempts || has_published(&task));
                copy.strays.push(task);
            }
        }
    }

    /// Loses all confirms on their way to a worker.
    fn lost(&self, state: &State, worker: u8, visit: Visit<'_>) {
        let under_way = under_way(state, |task| task.worker == worker);
        for how in [How::Lost, How::TimedOut].into_iter().filter(|_| !under_way.is_empty()) {
            let mut next = state.clone();
            // Later ones first, because a task that ends is removed from its list.
            under_way.iter().rev().for_each(|(spot, which)| self.fail(&mut next, *spot, *which, how));
            visit(Step::Lost { worker, how }, next);
        }
    }

    /// Makes one publish not done. If it did not even arrive, nothing has changed unless the protocol is a broken one.
    fn not_done(&self, state: &State, visit: Visit<'_>) {
        let never = [How::Lost, How::TimedOut, How::Nacked, How::Returned, How::Unclear];
        let arrived = [How::Nacked, How::Unclear];
        for (copy, one) in state.copies.iter().enumerate() {
            for (at, task) in one.tasks() {
                for (which, part) in task.parts.iter().enumerate() {
                    let (hows, arrived) = match part {
                        Part { there: true, .. } => (&arrived[..], true),
                        part if part.is_due() && task.good => (&never[..], false),
                        _ => continue,
                    };
                    for how in hows.iter().copied() {
                        let mut next = state.clone();
                        self.fail(&mut next, Spot { copy, at }, which, how);
                        if next.copies == state.copies {
                            continue;
                        }
                        let successor = self.successor(one.what, task, which);
                        visit(Step::NotDone { worker: task.worker, next: successor, how, arrived }, next);
                    }
                }
            }
        }
    }

    /// Restarts the broker. Everything unacked goes back, and all workers notice at once. Each confirm on its way may
    /// still have come, but its ack is lost.
    fn restart(&self, state: &State, visit: Visit<'_>) {
        let held = |copy: &Copy| copy.messages.iter().any(|message| message.holder.is_some());
        let mut dropped = state.clone();
        for worker in 0..self.setting.workers {
            self.drop_channel(&mut dropped, worker as u8);
            notice(&mut dropped, worker);
        }
        let under_way = under_way(&dropped, |_| true);
        if under_way.is_empty() && !state.copies.iter().any(held) {
            return;
        }
        for confirmed in 0..1_u32 << under_way.len() {
            let mut next = dropped.clone();
            for (bit, (spot, which)) in under_way.iter().enumerate().rev() {
                match confirmed & 1 << bit {
                    0 => self.fail(&mut next, *spot, *which, How::Lost),
                    _ => self.answer(&mut next, *spot, *which, Ok(())),
                }
            }
            visit(Step::Restart { confirmed }, next);
        }
    }

    fn twice(&self, state: &State, visit: Visit<'_>) {
        for (index, copy) in state.copies.iter().enumerate() {
            let from_delay = matches!(copy.what, What::Job { attempt: 1.., .. });
            if from_delay && copy.messages.contains(&Message::READY) {
                let mut next = state.clone();
                next.copies[index].arrivals += 1;
                next.copies[index].messages.push(Message::READY);
                visit(Step::Twice { what: copy.what }, next);
            }
        }
    }

    fn fail(&self, state: &mut State, spot: Spot, which: usize, how: How) {
        let copy = &mut state.copies[spot.copy];
        copy.excused |= copy.task(spot.at).parts[which].there;
        self.answer(state, spot, which, Err(how.error()));
    }
}

/// Lets the worker's tasks know that their channel is gone. A new one replaces it.
fn notice(state: &mut State, worker: usize) {
    state.stale[worker] = false;
    let strays = state.copies.iter_mut().flat_map(|copy| &mut copy.strays);
    strays.filter(|task| usize::from(task.worker) == worker).for_each(|task| task.good = false);
}

/// Returns whether a successor of this task is on the broker.
fn has_published(task: &Task) -> bool {
    task.parts.iter().any(Part::has_published)
}

/// Returns whether a worker holds a copy, works on it or remembers it.
fn concerns(copy: &Copy, worker: u8) -> bool {
    let mut known = copy.known[usize::from(worker)].iter().flatten();
    known.any(|ticket| copy.tickets[usize::from(*ticket)] != Ticket::Dropped)
        || copy.tasks().any(|(_, task)| task.worker == worker)
}

/// Returns all deliveries that wait for a confirm: the place of the task, and the index of the delivery in it.
fn under_way(state: &State, of: impl Fn(&Task) -> bool) -> Vec<(Spot, usize)> {
    let mut found = Vec::new();
    for (copy, one) in state.copies.iter().enumerate() {
        for (at, task) in one.tasks().filter(|(_, task)| of(task)) {
            let these = task.parts.iter().enumerate().filter(|(_, part)| part.there);
            found.extend(these.map(|(which, _)| (Spot { copy, at }, which)));
        }
    }
    found
}
