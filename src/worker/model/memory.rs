//! The model's memory (`known` and `tickets` of a copy) gives the same results as the real one. Three tasks with one
//! copy begin, wait and finish, in every order.

use std::{
    pin::Pin,
    task::{Context, Poll, Waker},
    time::Duration,
};

use super::{
    state::{Copy, Fate, Ticket, What},
    task::begin,
};
use crate::worker::settle::{
    memory::{self, Key, Memory, Settlement},
    transition::{Deferral, Successor, Transition},
};

/// Turns of each task: one to look, two to look again if it has to wait, and one to finish.
const TURNS: usize = 4;

/// The result of each task.
const OUTCOMES: [(Fate, bool); 3] = [(Fate::Delivered, true), (Fate::Retry, false), (Fate::Fail, true)];

#[test]
fn the_models_memory_is_the_workers() {
    let mut orders = vec![Vec::new()];
    for _ in 0..TURNS * OUTCOMES.len() {
        orders = orders.iter().flat_map(|order| one_turn_longer(order)).collect();
    }
    assert_eq!(orders.len(), 34650);
    let mut recalled = 0;
    for order in &orders {
        let mut play = Play::default();
        order.iter().for_each(|who| play.turn(*who));
        recalled += play.recalled;
    }
    assert!(recalled > orders.len());
}

fn one_turn_longer(order: &[usize]) -> Vec<Vec<usize>> {
    let turns = |who| order.iter().filter(|turn| **turn == who).count();
    let next = (0..OUTCOMES.len()).filter(|who| turns(*who) < TURNS);
    next.map(|who| order.iter().copied().chain([who]).collect()).collect()
}

/// Both memories, and the tasks that use them.
struct Play {
    memory: Memory,
    copy: Copy,
    tasks: [Doing; 3],
    /// How often a result was recalled.
    recalled: usize,
}

/// The state of a task in the real memory, with its ticket in the model's.
enum Doing {
    Nothing,
    Recalling(Recall, Option<u8>),
    Attempting(memory::Ticket, u8),
    Over,
}

type Recall = Pin<Box<dyn Future<Output = Option<Settlement>>>>;

impl Default for Play {
    fn default() -> Play {
        let copy = Copy::new(What::Job { event: 0, target: 0, attempt: 0 });
        Play { memory: Memory::default(), copy, tasks: [const { Doing::Nothing }; 3], recalled: 0 }
    }
}

impl Play {
    fn turn(&mut self, who: usize) {
        self.tasks[who] = match std::mem::replace(&mut self.tasks[who], Doing::Over) {
            Doing::Nothing => {
                let memory = self.memory.clone();
                let recall = Box::pin(async move { memory.recall(&key()).await });
                self.recall(recall, self.copy.known[0][0])
            }
            Doing::Recalling(recall, ticket) => self.recall(recall, ticket),
            Doing::Attempting(real, ticket) => {
                let (fate, recorded) = OUTCOMES[who];
                real.finish(settlement(fate, recorded));
                self.copy.tickets[usize::from(ticket)] = Ticket::Settled { fate, recorded };
                Doing::Over
            }
            Doing::Over => Doing::Over,
        };
    }

    fn recall(&mut self, mut recall: Recall, ticket: Option<u8>) -> Doing {
        let real = recall.as_mut().poll(&mut Context::from_waker(Waker::noop()));
        match (real, ticket.map(|ticket| self.copy.tickets[usize::from(ticket)])) {
            (Poll::Pending, Some(Ticket::Running)) => return Doing::Recalling(recall, ticket),
            (Poll::Ready(None), None) => {}
            (Poll::Ready(Some(real)), Some(Ticket::Settled { fate, recorded })) => {
                assert_eq!(real, settlement(fate, recorded));
                self.recalled += 1;
            }
            (real, model) => panic!("the worker's memory says {real:?}, the model's {model:?}"),
        }
        Doing::Attempting(self.memory.begin(key()), begin(&mut self.copy, 0, 0))
    }
}

fn key() -> Key {
    Key { id: "one".into(), part: 0 }
}

/// Returns some transition for each fate; the memory does not look into it.
fn settlement(fate: Fate, recorded: bool) -> Settlement {
    let decision = match fate {
        Fate::Delivered => Transition::Delivered,
        Fate::Retry => Successor::Defer { reason: Deferral::TargetRemoved, wait: Duration::ZERO }.into(),
        Fate::Fail => Successor::Wait { remaining: Duration::ZERO }.into(),
        Fate::Forward | Fate::Reject => unreachable!("not an outcome of this test"),
    };
    Settlement { decision, recorded }
}
