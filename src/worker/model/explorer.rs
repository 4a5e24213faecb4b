//! Explores all reachable states, breadth first, so a broken rule is found on a shortest path.

use std::{
    collections::{HashMap, VecDeque, hash_map::Entry},
    fmt,
    time::{Duration, Instant},
};

use super::{
    Kind, Model,
    checks::Wrong,
    fingerprint,
    state::{Copy, State, What},
    trace::Step,
};

/// The figures of an exploration that broke no rule.
#[derive(Clone, Debug)]
pub struct Explored {
    /// Distinct states.
    pub states: usize,
    /// Steps from one state to another.
    pub steps: usize,
    /// Length of the longest shortest path from the start.
    pub depth: usize,
    /// States that only a fault can leave.
    pub ends: usize,
    /// How long the exploration took.
    pub took: Duration,
}

/// A path to a broken rule.
pub struct CounterExample {
    pub wrong: Wrong,
    pub steps: Vec<Step>,
}

/// How a state was first reached: from which state, and by which of its steps.
#[derive(Clone, Copy)]
struct Reached {
    from: u32,
    by: u16,
    depth: u16,
}

impl Model {
    /// Visits all states, and checks that every path ends.
    ///
    /// # Errors
    /// The path to the first broken rule.
    pub fn explore(&self, mut look: impl FnMut(&Step, &State)) -> Result<Explored, CounterExample> {
        let began = Instant::now();
        let start = self.beginning();
        let mut known = HashMap::from([(fingerprint::of(&start), 0_u32)]);
        let mut reached = vec![Reached { from: 0, by: 0, depth: 0 }];
        let mut ways: Vec<(u32, u32)> = Vec::new();
        let mut ends = 0;
        let mut queue = VecDeque::from([(0_u32, start)]);
        while let Some((index, state)) = queue.pop_front() {
            let depth = reached[index as usize].depth + 1;
            let mut by = 0;
            let mut visit = |step: Step, next: State| {
                look(&step, &next);
                let fresh = reached.len() as u32;
                let target = match known.entry(fingerprint::of(&next)) {
                    Entry::Occupied(known) => *known.get(),
                    Entry::Vacant(unknown) => {
                        unknown.insert(fresh);
                        reached.push(Reached { from: index, by, depth });
                        queue.push_back((fresh, next));
                        fresh
                    }
                };
                ways.push((index, target));
                by += 1;
            };
            let at_rest = self.steps(&state, &mut visit);
            ends += usize::from(at_rest);
            if let Some(wrong) = self.check(&state, at_rest) {
                return Err(CounterExample { wrong, steps: self.replay(&reached, index) });
            }
        }
        assert!(every_way_ends(reached.len(), &ways), "the model can run in circles");
        let depth = reached.iter().map(|one| usize::from(one.depth)).max().unwrap_or_default();
        Ok(Explored { states: reached.len(), steps: ways.len(), depth, ends, took: began.elapsed() })
    }

    fn beginning(&self) -> State {
        let mut state = State { faults: self.setting.faults, ..State::default() };
        for (event, kind) in (0..).zip(self.setting.events) {
            if *kind != Kind::Dispatched {
                state.copies.push(Copy::arrived(What::Event(event)));
                continue;
            }
            for target in 0..self.setting.answers.len() as u8 {
                state.ends[usize::from(event)][usize::from(target)].dispatched = true;
                state.copies.push(Copy::arrived(What::Job { event, target, attempt: 0 }));
            }
        }
        state
    }

    /// Visits all states that can follow. Returns whether only faults can follow.
    fn steps(&self, state: &State, visit: &mut dyn FnMut(Step, State)) -> bool {
        let mut at_rest = true;
        let mut tidy = |step, mut next: State| {
            self.hurry(&mut next);
            next.tidy();
            visit(step, next);
        };
        let mut moving = |step, next| {
            at_rest = false;
            tidy(step, next);
        };
        self.task_steps(state, &mut moving);
        self.notice_steps(state, &mut moving);
        self.fault_steps(state, &mut tidy);
        at_rest
    }

    /// Repeats the steps on the path to a state, and returns them.
    fn replay(&self, reached: &[Reached], to: u32) -> Vec<Step> {
        let mut path = Vec::new();
        let mut index = to;
        while index != 0 {
            let one = reached[index as usize];
            path.push(one.by);
            index = one.from;
        }
        let mut state = self.beginning();
        let mut steps = Vec::new();
        for by in path.into_iter().rev() {
            let mut all = Vec::new();
            self.steps(&state, &mut |step, next| all.push((step, next)));
            let (step, next) = all.swap_remove(usize::from(by));
            steps.push(step);
            state = next;
        }
        steps
    }
}

/// Returns whether no path leads from a state back to itself. Removes states that no step leads to, until none is left.
fn every_way_ends(states: usize, ways: &[(u32, u32)]) -> bool {
    let mut incoming = vec![0_u32; states];
    let mut first = vec![0_u32; states + 1];
    for (from, to) in ways {
        incoming[*to as usize] += 1;
        first[*from as usize + 1] += 1;
    }
    // Steps are in the order of the states that they come from.
    for index in 0..states {
        first[index + 1] += first[index];
    }
    let mut free: Vec<usize> = (0..states).filter(|state| incoming[*state] == 0).collect();
    let mut taken = 0;
    while let Some(state) = free.pop() {
        taken += 1;
        for (_, to) in &ways[first[state] as usize..first[state + 1] as usize] {
            let to = *to as usize;
            incoming[to] -= 1;
            if incoming[to] == 0 {
                free.push(to);
            }
        }
    }
    taken == states
}

impl fmt::Display for CounterExample {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}, after {} steps:", self.wrong, self.steps.len())?;
        self.steps.iter().enumerate().try_for_each(|(number, step)| writeln!(f, "{:4}. {step}", number + 1))
    }
}

impl fmt::Display for Explored {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Explored { states, steps, depth, ends, took } = self;
        write!(f, "{states} states, {steps} steps, depth {depth}, {ends} ends, {took:.1?}")
    }
}

#[test]
fn a_circle_is_noticed() {
    assert!(every_way_ends(4, &[(0, 1), (0, 2), (1, 3), (2, 3)]));
    assert!(!every_way_ends(4, &[(0, 1), (1, 2), (2, 1), (2, 3)]));
}
