//! The lanes of one worker in a simulated world: receivers, a jobs queue, the delay ladder, and a clock that jumps from
//! event to event. No sleeps, no dice: a draw is a fixed sequence, so each run is the same.

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, VecDeque},
    sync::Arc,
    time::{Duration, Instant},
};

use super::*;
use crate::{
    delivery::ladder::{Ladder, Step},
    settings::Backoff,
    store::TargetKey,
};

/// How long a worker takes for a job that it parks or begins.
const HANDLING: f64 = 0.000_1;
/// From a timeout or an answer of 500 to the next attempt.
const RETRY: f64 = 15.0;
const TIMEOUT: f64 = 30.0;

/// What a receiver does at a time.
type Receiver = fn(f64) -> Does;

#[derive(Clone, Copy)]
enum Does {
    Answers(f64),
    Hangs,
    Refuses,
}

enum Event {
    /// A job of that lane comes to the jobs queue: fresh, or back from the ladder.
    Queued(Queued),
    /// The worker has time for the next one.
    Handle,
    Ended {
        lane: usize,
        begun: f64,
        signal: Signal,
    },
    /// A job that waits in the process asks again, untold.
    AskAgain {
        lane: usize,
        id: u64,
    },
}

#[derive(Clone, Copy)]
struct Queued {
    lane: usize,
    parked: u32,
    came: f64,
    /// What is left of its wait.
    remaining: Duration,
}

/// A job that waits in the process.
struct Waiting {
    id: u64,
    since: f64,
    job: Queued,
}

#[derive(Default, Clone)]
struct Counts {
    delivered: Vec<f64>,
    failed: usize,
    parks: usize,
    /// Second halves of waits.
    hops: usize,
    most_in_flight: usize,
    /// Seconds from being queued to the attempt that delivered.
    waits: Vec<f64>,
}

struct World {
    start: Instant,
    now: f64,
    slots: usize,
    /// Slots taken: attempts in flight and jobs that wait in the process.
    held: usize,
    /// Whether the worker is about to take the next job.
    handling: bool,
    lanes: Lanes,
    names: Vec<Arc<str>>,
    receivers: Vec<Receiver>,
    in_flight: Vec<usize>,
    waiting: Vec<VecDeque<Waiting>>,
    ladder: Ladder,
    events: BinaryHeap<Reverse<(Nanos, u64)>>,
    pending: std::collections::HashMap<u64, Event>,
    next: u64,
    counts: Vec<Counts>,
    jobs: VecDeque<Queued>,
}

type Nanos = u64;

fn nanos(seconds: f64) -> Nanos {
    (seconds * 1e9) as Nanos
}

impl World {
    fn new(slots: usize, receivers: Vec<Receiver>) -> World {
        World::with_backoff(slots, receivers, Duration::from_secs(3600))
    }

    /// `maximum` is the longest wait between attempts.
    fn with_backoff(slots: usize, receivers: Vec<Receiver>, maximum: Duration) -> World {
        let backoff = Backoff {
            initial: Duration::from_secs(15),
            multiplier: 2.0,
            maximum,
            jitter: 0.2,
            retry_after_maximum: Duration::from_secs(86_400),
        };
        let ladder = Ladder::for_backoff(&backoff);
        let count = receivers.len();
        let start = Instant::now();
        World {
            start,
            now: 0.0,
            slots,
            held: 0,
            handling: false,
            lanes: Lanes::new(slots, 64, start),
            names: (0..count).map(|n| format!("org{n} https://r{n}.example").into()).collect(),
            receivers,
            in_flight: vec![0; count],
            waiting: (0..count).map(|_| VecDeque::new()).collect(),
            ladder,
            events: BinaryHeap::new(),
            pending: Default::default(),
            next: 0,
            counts: vec![Counts::default(); count],
            jobs: VecDeque::new(),
        }
    }

    fn at(&mut self, seconds: f64, event: Event) {
        self.events.push(Reverse((nanos(seconds), self.next)));
        self.pending.insert(self.next, event);
        self.next += 1;
    }

    /// `count` jobs, evenly at `rate` a second, from `from` on.
    fn publish(&mut self, lane: usize, from: f64, rate: f64, count: usize) {
        for n in 0..count {
            let came = from + n as f64 / rate;
            self.at(came, Event::Queued(Queued { lane, parked: 0, came, remaining: Duration::ZERO }));
        }
    }

    fn run_until(&mut self, end: f64) {
        while let Some(Reverse((at, id))) = self.events.peek().copied() {
            if at > nanos(end) {
                break;
            }
            self.events.pop();
            self.now = at as f64 / 1e9;
            match self.pending.remove(&id).expect("each once") {
                Event::Queued(job) => self.jobs.push_back(job),
                Event::Handle => self.handle(),
                Event::Ended { lane, begun, signal } => self.end(lane, begun, signal),
                Event::AskAgain { lane, id } => {
                    if let Some(at) = self.waiting[lane].iter().position(|waiting| waiting.id == id) {
                        self.ask_again(lane, at);
                        self.remind(lane, id);
                    }
                }
            }
            assert_eq!(self.held, self.in_flight.iter().sum::<usize>() + self.waiting_in_process(), "a slot for each");
            assert!(self.held <= self.slots, "{} of {} slots", self.held, self.slots);
            // As in the worker: no job is taken from the queue before there is a slot for it.
            if !self.handling && !self.jobs.is_empty() && self.held < self.slots {
                self.handling = true;
                self.at(self.now + HANDLING, Event::Handle);
            }
        }
        self.now = end;
    }

    fn waiting_in_process(&self) -> usize {
        self.waiting.iter().map(VecDeque::len).sum()
    }

    fn handle(&mut self) {
        self.handling = false;
        let Some(job) = self.jobs.pop_front() else { return };
        match job.remaining.is_zero() {
            true => self.take(job),
            false => {
                self.counts[job.lane].hops += 1;
                self.hop(job, self.ladder.step(job.remaining));
            }
        }
    }

    fn hop(&mut self, job: Queued, step: Step) {
        self.at(self.now + step.rung.as_secs_f64(), Event::Queued(Queued { remaining: step.remaining, ..job }));
    }

    fn instant(&self, seconds: f64) -> Instant {
        self.start + Duration::from_secs_f64(seconds)
    }

    /// A fixed sequence that fills 0 to 1 evenly (multiples of the golden ratio).
    fn draw(&self) -> f64 {
        (self.next as f64 * 0.618_033_988_749_895).fract()
    }

    fn ask(&mut self, job: Queued, turn: Turn) -> Admission {
        let (now, draw) = (self.instant(self.now), self.draw());
        let asked = Asked { lane: &self.names[job.lane], own: None, parked: job.parked, turn };
        self.lanes.admit(asked, now, draw)
    }

    fn take(&mut self, job: Queued) {
        match self.ask(job, Turn::Fresh) {
            Admission::Wait(_) => {
                let id = self.next;
                self.waiting[job.lane].push_back(Waiting { id, since: self.now, job });
                self.held += 1;
                self.remind(job.lane, id);
            }
            Admission::Go => self.begin(job),
            Admission::Park { wait, .. } => self.park(job, wait),
        }
    }

    fn remind(&mut self, lane: usize, id: u64) {
        if self.waiting[lane].iter().any(|waiting| waiting.id == id) {
            self.at(self.now + lanes::ASK_AGAIN.as_secs_f64(), Event::AskAgain { lane, id });
        }
    }

    /// One of those that wait asks again, and leaves if it is told to.
    fn ask_again(&mut self, lane: usize, at: usize) {
        let Waiting { since, job, .. } = self.waiting[lane][at];
        let long = self.now - since >= lanes::PATIENCE.as_secs_f64() - 1e-6;
        let admission = self.ask(job, if long { Turn::Last } else { Turn::Waiting });
        if matches!(admission, Admission::Wait(_)) {
            return;
        }
        self.waiting[lane].remove(at);
        self.held -= 1;
        let name = self.names[lane].clone();
        self.lanes.waits_no_longer(&name, &target(), Queue::Lane);
        match admission {
            Admission::Go => self.begin(job),
            Admission::Park { wait, .. } => self.park(job, wait),
            Admission::Wait(_) => {}
        }
    }

    fn park(&mut self, job: Queued, wait: Duration) {
        self.counts[job.lane].parks += 1;
        self.hop(Queued { parked: job.parked + 1, ..job }, self.ladder.step_evenly(wait));
    }

    fn begin(&mut self, job: Queued) {
        self.held += 1;
        self.in_flight[job.lane] += 1;
        let counts = &mut self.counts[job.lane];
        counts.most_in_flight = counts.most_in_flight.max(self.in_flight[job.lane]);
        let (took, signal) = match self.receivers[job.lane](self.now) {
            Does::Answers(seconds) => (seconds, Signal::Answered),
            Does::Hangs => (TIMEOUT, Signal::Failing),
            Does::Refuses => (0.000_5, Signal::Failing),
        };
        if signal == Signal::Answered {
            counts.waits.push(self.now - job.came);
        } else {
            self.at(self.now + took + RETRY, Event::Queued(Queued { parked: 0, ..job }));
        }
        self.at(self.now + took, Event::Ended { lane: job.lane, begun: self.now, signal });
    }

    fn end(&mut self, lane: usize, begun: f64, signal: Signal) {
        self.held -= 1;
        self.in_flight[lane] -= 1;
        match signal {
            Signal::Answered => self.counts[lane].delivered.push(self.now),
            _ => self.counts[lane].failed += 1,
        }
        let name = self.names[lane].clone();
        let room = self.lanes.ended(&name, None, self.instant(begun), signal, self.instant(self.now)).lane;
        // The first so many are told; whoever finds no room after all stays where it is.
        let told: Vec<_> = self.waiting[lane].iter().take(room).map(|waiting| waiting.id).collect();
        for id in told {
            let at = self.waiting[lane].iter().position(|waiting| waiting.id == id);
            self.ask_again(lane, at.expect("it waits still"));
        }
    }

    fn delivered_between(&self, lane: usize, from: f64, to: f64) -> usize {
        self.counts[lane].delivered.iter().filter(|at| (from..to).contains(*at)).count()
    }
}

fn target() -> TargetKey {
    TargetKey::new("org", None, None)
}

mod scenarios;
