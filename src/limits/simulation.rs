//! The limits in a simulated world: receivers, a jobs queue, the delay ladder, some workers, and a clock that jumps
//! from event to event. Nothing sleeps and nothing is random: draws are a fixed sequence, so each run is the same.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
    time::{Duration, Instant},
};

use super::{
    deferral::{Due, PATIENCE, Turn},
    signal::Signal,
    table::{Answer, Ask, DeferReason, Stage, Table},
};
use crate::{
    delivery::ladder::{Hop, Ladder},
    settings::Backoff,
    store::TargetKey,
};

mod scenarios;

/// Seconds that a worker needs to defer or begin a job.
const HANDLING: f64 = 0.000_1;
/// Seconds from a failure to the next attempt.
const RETRY: f64 = 15.0;
const TIMEOUT: f64 = 30.0;
/// Most requests in flight of a circuit, by default.
const MOST: usize = 64;

/// The behaviour of a receiver at a time.
type Receiver = fn(f64) -> Does;

#[derive(Clone, Copy)]
enum Does {
    Answers(f64),
    Hangs,
    Fails,
    /// Answers 5xx after so many seconds.
    Errs(f64),
}

enum Event {
    /// An event that tries a direct attempt, or a job that reaches the jobs queue.
    Comes {
        job: Job,
        direct: bool,
    },
    /// A worker has time for the next job.
    Handle(usize),
    Ended {
        worker: usize,
        job: Job,
        begun: f64,
        signal: Signal,
    },
    /// A job has waited in the process for long enough.
    Leave {
        worker: usize,
        id: u64,
    },
}

#[derive(Clone, Copy)]
struct Job {
    target: usize,
    /// When the event came, and when the job became due.
    came: f64,
    due: f64,
    turn: Turn,
    /// The rest of its wait on the ladder.
    remaining: Duration,
}

#[derive(Default, Clone)]
struct Counts {
    /// Time of each delivery, and how long after the event its request began.
    delivered: Vec<(f64, f64)>,
    /// When its requests began.
    began: Vec<f64>,
    /// The longest time that a delivered job had been due.
    longest_due: f64,
    deferrals: usize,
    /// Direct attempts.
    direct: usize,
    most_in_flight: usize,
}

struct Target {
    circuit: Arc<str>,
    key: TargetKey,
    most: Option<usize>,
    rate: Option<f64>,
    receiver: Receiver,
    in_flight: usize,
    counts: Counts,
}

struct Worker {
    table: Table,
    /// Slots taken: requests in flight and jobs that wait in the process.
    held: usize,
    /// Whether it is about to take the next job.
    is_handling: bool,
    /// Jobs that wait in the process, by number.
    waiting: VecDeque<(u64, Job)>,
}

struct World {
    start: Instant,
    now: f64,
    slots: usize,
    workers: Vec<Worker>,
    targets: Vec<Target>,
    ladder: Ladder,
    events: BTreeMap<(u64, u64), Event>,
    next: u64,
    jobs: VecDeque<Job>,
}

impl World {
    fn new(slots: usize, receivers: impl IntoIterator<Item = Receiver>) -> World {
        World::with_workers(1, slots, receivers)
    }

    fn with_workers(workers: usize, slots: usize, receivers: impl IntoIterator<Item = Receiver>) -> World {
        let backoff = Backoff {
            initial: Duration::from_secs(15),
            multiplier: 2.0,
            maximum: Duration::from_secs(3600),
            jitter: 0.2,
            retry_after_maximum: Duration::from_secs(86_400),
        };
        let start = Instant::now();
        let worker =
            |_| Worker { table: Table::new(slots, MOST, start), held: 0, is_handling: false, waiting: VecDeque::new() };
        let target = |(n, receiver)| Target {
            circuit: format!("org{n} https://r{n}.example").into(),
            key: TargetKey::new(&format!("org{n}"), None, None),
            most: None,
            rate: None,
            receiver,
            in_flight: 0,
            counts: Counts::default(),
        };
        World {
            start,
            now: 0.0,
            slots,
            workers: (0..workers).map(worker).collect(),
            targets: receivers.into_iter().enumerate().map(target).collect(),
            ladder: Ladder::for_backoff(&backoff),
            events: BTreeMap::new(),
            next: 0,
            jobs: VecDeque::new(),
        }
    }

    fn at(&mut self, seconds: f64, event: Event) {
        self.events.insert(((seconds * 1e9) as u64, self.next), event);
        self.next += 1;
    }

    /// Publishes `count` jobs, evenly at `rate` a second, from `from` on.
    fn publish(&mut self, target: usize, from: f64, rate: f64, count: usize) {
        self.publish_as(false, target, from, rate, count);
    }

    /// Publishes the same, as events that may be attempted directly if `direct`.
    fn publish_as(&mut self, direct: bool, target: usize, from: f64, rate: f64, count: usize) {
        for n in 0..count {
            let came = from + n as f64 / rate;
            let job = Job { target, came, due: came, turn: Turn::None, remaining: Duration::ZERO };
            self.at(came, Event::Comes { job, direct });
        }
    }

    fn run_until(&mut self, end: f64) {
        while let Some(first) = self.events.first_entry().filter(|first| first.key().0 <= (end * 1e9) as u64) {
            self.now = first.key().0 as f64 / 1e9;
            match first.remove() {
                Event::Comes { job, direct } => self.come(job, direct),
                Event::Handle(worker) => self.handle(worker),
                Event::Ended { worker, job, begun, signal } => self.end(worker, job, begun, signal),
                Event::Leave { worker, id } => self.leave(worker, id),
            }
            self.wake();
        }
        self.now = end;
    }

    /// Lets workers take jobs. As in the worker, no job is taken from the queue before there is a slot for it.
    fn wake(&mut self) {
        for worker in 0..self.workers.len() {
            let worker = (worker + self.next as usize) % self.workers.len();
            let Worker { held, is_handling, waiting, .. } = &mut self.workers[worker];
            assert!(*held <= self.slots && waiting.len() <= *held, "{held} of {} slots", self.slots);
            if !*is_handling && !self.jobs.is_empty() && *held < self.slots {
                *is_handling = true;
                self.at(self.now + HANDLING, Event::Handle(worker));
            }
        }
    }

    fn instant(&self, seconds: f64) -> Instant {
        self.start + Duration::from_secs_f64(seconds)
    }

    /// Returns the next value of a fixed sequence that fills 0 to 1 evenly (multiples of the golden ratio).
    fn draw(&self) -> f64 {
        (self.next as f64 * 0.618_033_988_749_895).fract()
    }

    fn ask(&self, job: Job) -> Ask {
        let (target, workers) = (&self.targets[job.target], self.workers.len());
        Ask {
            circuit: target.circuit.clone(),
            target: target.key.clone(),
            most: target.most.map(|most| (most / workers).max(1)),
            rate: target.rate.map(|rate| rate / workers as f64),
            due: Due { late: Duration::from_secs_f64((self.now - job.due).max(0.0)), turn: job.turn },
        }
    }

    fn come(&mut self, job: Job, direct: bool) {
        let worker = self.next as usize % self.workers.len();
        let (ask, now) = (self.ask(job), self.instant(self.now));
        if direct && self.workers[worker].held < self.slots && self.workers[worker].table.try_enter(&ask, now) {
            self.targets[job.target].counts.direct += 1;
            self.begin(worker, job, self.now);
        } else {
            self.jobs.push_back(job);
        }
    }

    fn handle(&mut self, worker: usize) {
        self.workers[worker].is_handling = false;
        // A direct attempt may have taken the slot meanwhile.
        if self.workers[worker].held == self.slots {
            return;
        }
        let Some(job) = self.jobs.pop_front() else { return };
        if !job.remaining.is_zero() {
            return self.hop(job, self.ladder.hop(job.remaining));
        }
        let answer = self.enter(worker, job, Stage::Comes);
        if answer == Answer::Wait {
            let id = self.next;
            self.workers[worker].waiting.push_back((id, job));
            self.workers[worker].held += 1;
            self.at(self.now + PATIENCE.as_secs_f64(), Event::Leave { worker, id });
        } else {
            self.follow(worker, job, answer);
        }
    }

    fn enter(&mut self, worker: usize, job: Job, stage: Stage) -> Answer {
        let (ask, now, draw) = (self.ask(job), self.instant(self.now), self.draw());
        self.workers[worker].table.enter(&ask, stage, now, draw)
    }

    fn leave(&mut self, worker: usize, id: u64) {
        let waiting = &mut self.workers[worker].waiting;
        if let Some(at) = waiting.iter().position(|(waiting, _)| *waiting == id) {
            let (_, job) = waiting.remove(at).expect("it waits");
            self.workers[worker].held -= 1;
            let answer = self.enter(worker, job, Stage::Leaves);
            self.follow(worker, job, answer);
        }
    }

    /// Lets jobs that wait ask again, as many as the bell wakes.
    fn ring(&mut self, worker: usize, circuit: &Arc<str>) {
        let known = &self.workers[worker].table.circuits[circuit];
        for _ in 0..known.waiting.min(known.room(MOST, self.instant(self.now))) {
            let of_circuit = |(_, job): &(u64, Job)| self.targets[job.target].circuit == *circuit;
            let at = self.workers[worker].waiting.iter().position(of_circuit).expect("they wait");
            let (id, job) = self.workers[worker].waiting.remove(at).expect("it waits");
            match self.enter(worker, job, Stage::Waits) {
                Answer::Wait => self.workers[worker].waiting.push_back((id, job)),
                answer => {
                    self.workers[worker].held -= 1;
                    self.follow(worker, job, answer);
                }
            }
        }
    }

    fn follow(&mut self, worker: usize, job: Job, answer: Answer) {
        match answer {
            Answer::Go(start) => {
                let start = start.saturating_duration_since(self.instant(self.now)).as_secs_f64();
                self.begin(worker, job, self.now + start);
            }
            Answer::Defer(reason, wait, turn) => {
                self.targets[job.target].counts.deferrals += 1;
                let step = if reason == DeferReason::Rate {
                    self.ladder.hop_finely(wait)
                } else {
                    self.ladder.hop_evenly(wait)
                };
                self.hop(Job { turn, ..job }, step);
            }
            Answer::Wait => unreachable!("it waits at once or not at all"),
        }
    }

    fn hop(&mut self, job: Job, step: Hop) {
        let job = Job { remaining: step.remaining, ..job };
        self.at(self.now + step.delay.as_secs_f64(), Event::Comes { job, direct: false });
    }

    fn begin(&mut self, worker: usize, job: Job, start: f64) {
        self.workers[worker].held += 1;
        let target = &mut self.targets[job.target];
        target.in_flight += 1;
        target.counts.began.push(start);
        target.counts.most_in_flight = target.counts.most_in_flight.max(target.in_flight);
        let (took, signal) = match (target.receiver)(start) {
            Does::Answers(seconds) => (seconds, Signal::Answered),
            Does::Hangs => (TIMEOUT, Signal::Failing),
            Does::Fails => (0.000_5, Signal::Failing),
            Does::Errs(seconds) => (seconds, Signal::Error),
        };
        if signal == Signal::Answered {
            target.counts.delivered.push((start + took, start - job.came));
            target.counts.longest_due = target.counts.longest_due.max(start - job.due);
        } else {
            let due = start + took + RETRY;
            self.at(due, Event::Comes { job: Job { due, turn: Turn::None, ..job }, direct: false });
        }
        self.at(start + took, Event::Ended { worker, job, begun: start, signal });
    }

    fn end(&mut self, worker: usize, job: Job, begun: f64, signal: Signal) {
        self.workers[worker].held -= 1;
        self.targets[job.target].in_flight -= 1;
        let (ask, begun, now) = (self.ask(job), self.instant(begun), self.instant(self.now));
        self.workers[worker].table.end(&ask, begun, signal, now);
        self.ring(worker, &ask.circuit);
    }

    fn counts(&self, target: usize) -> &Counts {
        &self.targets[target].counts
    }

    fn delivered(&self, target: usize, from: f64, to: f64) -> usize {
        self.counts(target).delivered.iter().filter(|(at, _)| (from..to).contains(at)).count()
    }

    /// Returns how many requests began in the `seconds` after `from`.
    fn began(&self, target: usize, from: f64, seconds: f64) -> usize {
        self.counts(target).began.iter().filter(|at| (from..from + seconds).contains(*at)).count()
    }

    /// Returns the wait that 99 % of these targets' deliveries did not exceed.
    fn p99(&self, targets: impl IntoIterator<Item = usize>) -> f64 {
        let delivered = targets.into_iter().flat_map(|target| self.counts(target).delivered.iter());
        let mut waits: Vec<_> = delivered.map(|(_, wait)| *wait).collect();
        waits.sort_by(f64::total_cmp);
        waits[waits.len() * 99 / 100]
    }

    /// Returns the longest wait of a target's deliveries.
    fn longest(&self, target: usize) -> f64 {
        self.counts(target).delivered.iter().map(|(_, wait)| *wait).fold(0.0, f64::max)
    }
}
