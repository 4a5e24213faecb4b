//! The worker's part: `intake`, `dispatch`, `deliver`, `attempt`, `memory` and `record`, one step at a time.

use std::time::{Duration, SystemTime};

use super::{
    Broken, Kind, Model,
    checks::Wrong,
    state::{At, Copy, End, Fate, Publish, Stage, State, TARGETS, Task, Ticket, What},
    trace::{How, Next, Step},
};
use crate::{
    broker::publisher::PublishError,
    delivery::{
        outcome::{Answer, Exchange, judge},
        rules::Rules,
        verdict::{Verdict, verdict},
    },
    settings::Backoff,
    worker::record::{Recorded, meaning},
};

/// One retry: a job has an end after two attempts.
pub const RETRY_ATTEMPTS: u32 = 1;

const POLICY: Backoff = Backoff {
    initial: Duration::from_secs(1),
    multiplier: 2.0,
    maximum: Duration::from_secs(60),
    jitter: 0.0,
    retry_after_maximum: Duration::from_secs(60),
};

/// A visitor of next states.
pub type Visit<'a> = &'a mut dyn FnMut(Step, State);

impl Model {
    /// All that workers can do next.
    pub fn task_steps(&self, state: &State, visit: Visit<'_>) {
        for (index, copy) in state.copies.iter().enumerate() {
            self.take(state, index, visit);
            for (at, task) in copy.tasks() {
                let spot = Spot { copy: index, at };
                match &task.stage {
                    Stage::Recalling(ticket) => self.recall(state, spot, task, *ticket, visit),
                    Stage::Posting(ticket) => self.post(state, spot, task, *ticket, visit),
                    Stage::Settling { publish: Publish::Recorded, .. } => {
                        let mut next = state.clone();
                        self.settle(&mut next, spot);
                        visit(Step::Ack { worker: task.worker, what: copy.what }, next);
                    }
                    Stage::Settling { .. } | Stage::Dispatching(_) => {
                        (0..task.publishes().len()).for_each(|which| self.publish(state, spot, task, which, visit));
                    }
                }
            }
        }
    }

    /// The broker gives a message out, the gate lets it through: `deliver` looks into the memory, `dispatch` resolves.
    fn take(&self, state: &State, index: usize, visit: Visit<'_>) {
        let what = state.copies[index].what;
        for (at, message) in state.copies[index].messages.iter().enumerate() {
            let redelivered = message.redelivered;
            for worker in (0..self.setting.workers).filter(|worker| message.holder.is_none() && !state.stale[*worker]) {
                let mut next = state.clone();
                let copy = &mut next.copies[index];
                let known = copy.known[worker].filter(|_| redelivered && self.broken != Some(Broken::NoMemory));
                let worker = worker as u8;
                let stage = match (what, known) {
                    (What::Event(event), _) => self.dispatching(event),
                    (What::Job { .. }, Some(ticket)) => Stage::Recalling(ticket),
                    (What::Job { attempt, .. }, None)
                        if redelivered && self.broken == Some(Broken::CountRedelivery) =>
                    {
                        Stage::Settling { ticket: begin(copy, worker), fate: fate(500, attempt), publish: Publish::Due }
                    }
                    (What::Job { .. }, None) => Stage::Posting(begin(copy, worker)),
                };
                copy.messages[at].holder = Some(Task { worker, good: true, stage });
                if self.unwanted(what) {
                    self.ack(&mut next, Spot { copy: index, at: At::Message(at) });
                }
                visit(Step::Take { worker, what, redelivered }, next);
            }
        }
    }

    fn unwanted(&self, what: What) -> bool {
        matches!(what, What::Event(event) if self.setting.events[usize::from(event)] == Kind::Unwanted)
    }

    fn dispatching(&self, event: u8) -> Stage {
        let successors = match self.setting.events[usize::from(event)] {
            Kind::Wanted => self.setting.answers.len(),
            Kind::Unusable => 1,
            Kind::Unwanted | Kind::Dispatched => 0,
        };
        let mut all = [Publish::Nothing; TARGETS];
        all[..successors].fill(Publish::Due);
        Stage::Dispatching(all)
    }

    fn recall(&self, state: &State, spot: Spot, task: &Task, ticket: u8, visit: Visit<'_>) {
        let mut next = state.clone();
        let copy = &mut next.copies[spot.copy];
        let ticket = copy.tickets[usize::from(ticket)];
        let stage = match ticket {
            Ticket::Running => return,
            Ticket::Dropped => Stage::Posting(begin(copy, task.worker)),
            Ticket::Settled { fate, recorded } => {
                let publish = if recorded { Publish::Recorded } else { Publish::Due };
                Stage::Settling { ticket: begin(copy, task.worker), fate, publish }
            }
        };
        copy.task_mut(spot.at).stage = stage;
        visit(Step::Recall { worker: task.worker, what: copy.what }, next);
    }

    fn post(&self, state: &State, spot: Spot, task: &Task, ticket: u8, visit: Visit<'_>) {
        let what = state.copies[spot.copy].what;
        let What::Job { event, target, attempt } = what else { unreachable!("events are not POSTed") };
        for &status in self.setting.answers[usize::from(target)] {
            let mut next = state.clone();
            let fate = fate(status, attempt);
            let end = &mut next.ends[usize::from(event)][usize::from(target)];
            match fate {
                Fate::Delivered => end.delivered = true,
                Fate::Retry | Fate::Fail => end.refused = (end.refused + 1).min(RETRY_ATTEMPTS as u8 + 1),
            }
            let copy = &mut next.copies[spot.copy];
            copy.delivered |= fate == Fate::Delivered;
            copy.posts[usize::from(task.worker)] += 1;
            let publish = if fate == Fate::Delivered { Publish::Recorded } else { Publish::Due };
            copy.task_mut(spot.at).stage = Stage::Settling { ticket, fate, publish };
            let once = copy.posts[usize::from(task.worker)] <= copy.arrivals;
            self.demand(&mut next, Wrong::PostedAgain, once);
            visit(Step::Post { worker: task.worker, what, status }, next);
        }
    }

    /// One turn of the loop in `record`: published if the input's channel is good, else given up; and later confirmed.
    fn publish(&self, state: &State, spot: Spot, task: &Task, which: usize, visit: Visit<'_>) {
        let mut next = state.clone();
        let (worker, what) = (task.worker, state.copies[spot.copy].what);
        let successor = self.successor(what, task, which);
        let step = match task.publishes()[which] {
            Publish::Nothing | Publish::Recorded | Publish::InputGone => return,
            Publish::Due => {
                self.send(&mut next, spot, which);
                if self.broken == Some(Broken::AckBeforeConfirm) && matches!(spot.at, At::Message(_)) {
                    // On another connection: it may overtake the publish.
                    let mut early = state.clone();
                    self.finish(&mut early.copies[spot.copy], spot.at, true);
                    keep_publishing(&mut early.copies[spot.copy], spot.at);
                    self.ack(&mut early, spot);
                    visit(Step::Ack { worker, what }, early);
                }
                Step::Send { worker, what, next: successor }
            }
            Publish::There => {
                self.answer(&mut next, spot, which, Ok(()));
                Step::Confirm { worker, what, next: successor }
            }
        };
        visit(step, next);
    }

    /// A successor is published, and the broker has put it on its queue.
    fn send(&self, state: &mut State, spot: Spot, which: usize) {
        let here = &mut state.copies[spot.copy];
        let (from, task) = (here.what, here.task(spot.at).clone());
        if task.publishes()[which] != Publish::Due {
            return;
        }
        let successor = self.successor(from, &task, which);
        here.task_mut(spot.at).publishes_mut()[which] = Publish::There;
        // The channel is gone already, and the worker cannot know.
        here.excused |= task.good && state.stale[usize::from(task.worker)] && self.cut_explains(from);
        let explained = here.excused || here.arrivals > 1;
        let again = match successor {
            Next::Job(What::Job { event, target, attempt: 0 }) => {
                let end = &mut state.ends[usize::from(event)][usize::from(target)];
                std::mem::replace(&mut end.dispatched, true)
            }
            Next::Job(_) | Next::Failed(_) | Next::Rejected(_) => std::mem::replace(&mut here.forwarded, true),
        };
        self.demand(state, Wrong::Forked, !again || explained);
        let made = |attempt: u8, end: &End| end.refused >= attempt && u32::from(attempt) <= RETRY_ATTEMPTS + 1;
        let honest = match (successor, from) {
            (Next::Job(What::Job { event, target, attempt }), _) => {
                made(attempt, &state.ends[usize::from(event)][usize::from(target)])
                    && u32::from(attempt) <= RETRY_ATTEMPTS
            }
            (Next::Failed(_), What::Job { event, target, attempt }) => {
                let end = &mut state.ends[usize::from(event)][usize::from(target)];
                end.failed = (end.failed + 1).min(2);
                made(attempt + 1, end)
            }
            (Next::Rejected(_), What::Event(event)) => {
                state.rejected[usize::from(event)] = true;
                self.setting.events[usize::from(event)] == Kind::Unusable
            }
            (Next::Failed(_), What::Event(_)) | (Next::Rejected(_), What::Job { .. }) | (Next::Job(_), _) => false,
        };
        self.demand(state, Wrong::Invented, honest);
        if let Next::Job(what) = successor {
            state.copies.push(Copy::arrived(what));
        }
    }

    /// What the publisher's answer makes of a successor, and of the task if it was the last.
    pub fn answer(&self, state: &mut State, spot: Spot, which: usize, answer: Result<(), PublishError>) {
        let publish = &mut state.copies[spot.copy].task_mut(spot.at).publishes_mut()[which];
        if !matches!(publish, Publish::Due | Publish::There) {
            return;
        }
        let done = match (&answer, self.broken) {
            (Err(PublishError::Returned { .. }), broken) => broken == Some(Broken::ReturnedIsDone),
            (Err(PublishError::TimedOut), broken) => broken == Some(Broken::TimedOutIsDone),
            _ => false,
        };
        *publish = match meaning(answer) {
            Ok(Recorded::Yes) => Publish::Recorded,
            Ok(Recorded::InputGone) => Publish::InputGone,
            Err(_) if done => Publish::Recorded,
            Err(_) if self.broken == Some(Broken::GiveBackAfterPost) => Publish::InputGone,
            Err(_) => Publish::Due,
        };
        self.settle(state, spot);
    }

    /// Ends a task whose successors are all decided: remembers, and acks if they are recorded.
    pub fn settle(&self, state: &mut State, spot: Spot) {
        let copy = &mut state.copies[spot.copy];
        let publishes = copy.task(spot.at).publishes();
        let open = publishes.iter().any(|publish| matches!(publish, Publish::Due | Publish::There));
        let hasty = self.broken == Some(Broken::AckWhenSomeAreDone) && publishes.contains(&Publish::Recorded);
        let gone = publishes.contains(&Publish::InputGone);
        if open && !hasty {
            return;
        }
        let forgets = self.broken == Some(Broken::GiveBackDelivered)
            && matches!(copy.task(spot.at).stage, Stage::Settling { fate: Fate::Delivered, .. });
        if forgets {
            copy.known = Default::default();
            copy.leave(spot.at);
        } else if hasty || !gone {
            self.finish(copy, spot.at, true);
            keep_publishing(copy, spot.at);
            self.ack(state, spot);
        } else {
            self.finish(copy, spot.at, self.broken == Some(Broken::RememberTooMuch));
            copy.leave(spot.at);
        }
    }

    /// The task is over and acks, which comes to nothing if the broker has taken the message back.
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

    /// Whatever a task without its channel can do at once, and that nothing else could come before: taken out of the
    /// order of steps, which leaves fewer states and no outcome out. What is not published is given up (rule 6), what is
    /// decided is remembered; a task that can do neither is over.
    pub fn hurry(&self, state: &mut State) {
        for index in 0..state.copies.len() {
            for stray in (0..state.copies[index].strays.len()).rev() {
                let spot = Spot { copy: index, at: At::Stray(stray) };
                let copy = &mut state.copies[index];
                let task = copy.task(spot.at);
                let gives_up = !task.good && self.broken != Some(Broken::PublishWithoutInput);
                match task.stage {
                    Stage::Dispatching(_) if gives_up => copy.leave(spot.at),
                    Stage::Settling { publish: Publish::Due, .. } if gives_up => {
                        self.answer(state, spot, 0, Err(PublishError::Unwanted));
                    }
                    Stage::Settling { publish: Publish::Recorded, .. } => self.settle(state, spot),
                    Stage::Recalling(_) if !task.good && self.broken != Some(Broken::WaiterGoesOn) => {
                        copy.leave(spot.at);
                    }
                    Stage::Dispatching(_) | Stage::Settling { .. } | Stage::Recalling(_) | Stage::Posting(_) => {}
                }
            }
        }
    }

    /// `Ticket::finish`; with a broken protocol the ticket may be settled already.
    fn finish(&self, copy: &mut Copy, at: At, recorded: bool) {
        let task = copy.task_mut(at);
        let worker = usize::from(task.worker);
        let Stage::Settling { ticket, fate, .. } = task.stage else { return };
        let ticket = &mut copy.tickets[usize::from(ticket)];
        match ticket {
            Ticket::Running if !recorded && self.broken == Some(Broken::GiveBackAfterPost) => {
                *ticket = Ticket::Dropped;
                copy.known[worker] = None;
            }
            Ticket::Running => *ticket = Ticket::Settled { fate, recorded },
            Ticket::Settled { .. } | Ticket::Dropped => {}
        }
    }

    /// What a task publishes.
    pub fn successor(&self, from: What, task: &Task, which: usize) -> Next {
        match (from, &task.stage) {
            (What::Job { event, target, attempt }, Stage::Settling { fate: Fate::Retry, .. }) => {
                Next::Job(What::Job { event, target, attempt: attempt + 1 })
            }
            (What::Job { .. }, _) => Next::Failed(from),
            (What::Event(event), _) => match self.setting.events[usize::from(event)] {
                Kind::Wanted => Next::Job(What::Job { event, target: which as u8, attempt: 0 }),
                Kind::Unusable | Kind::Unwanted | Kind::Dispatched => Next::Rejected(from),
            },
        }
    }

    /// Whether a cut alone explains that a copy gets a second successor: dispatch has no memory, and another process
    /// knows nothing of this one's.
    pub fn cut_explains(&self, what: What) -> bool {
        self.setting.workers > 1 || matches!(what, What::Event(_))
    }
}

/// Which task of which copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Spot {
    pub copy: usize,
    pub at: At,
}

/// `Memory::begin`
pub fn begin(copy: &mut Copy, worker: u8) -> u8 {
    copy.tickets.push(Ticket::Running);
    let ticket = copy.tickets.len() as u8 - 1;
    copy.known[usize::from(worker)] = Some(ticket);
    ticket
}

/// When a broken protocol acks before all is confirmed, the rest goes on.
fn keep_publishing(copy: &mut Copy, at: At) {
    let task = copy.task(at);
    if task.publishes().iter().any(|publish| matches!(publish, Publish::Due | Publish::There)) {
        copy.strays.push(task.clone());
    }
}

/// The real decisions about an answer.
fn fate(status: u16, attempt: u8) -> Fate {
    let answer = Answer { status, ..Answer::default() };
    let exchange = Exchange::new(Ok(answer), Duration::ZERO);
    let outcome = judge(&exchange, &Rules::default(), SystemTime::UNIX_EPOCH, POLICY.retry_after_maximum);
    match verdict(&outcome, u32::from(attempt) + 1, RETRY_ATTEMPTS, &POLICY, 0.5) {
        Verdict::Delivered => Fate::Delivered,
        Verdict::Retry { .. } => Fate::Retry,
        Verdict::Failed { .. } => Fate::Fail,
        Verdict::Again | Verdict::Refused => unreachable!("an answer is an attempt, and no rule refuses it"),
    }
}

impl How {
    pub fn error(self) -> PublishError {
        match self {
            How::Lost => PublishError::Lost(String::new()),
            How::TimedOut => PublishError::TimedOut,
            How::Nacked => PublishError::Nacked,
            How::Returned => PublishError::Returned { code: 312, text: String::new() },
            How::Unclear => PublishError::Unclear,
        }
    }
}
