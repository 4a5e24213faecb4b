//! What the receivers have seen: of events sent since the last reset, and apart from them of older ones.

use std::collections::{BTreeMap, HashMap, HashSet};

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

use super::behaviour::Behaviour;

/// The state of all targets. An event is identified by the time at which it was sent, in nanoseconds of the monotonic clock.
pub struct Seen {
    groups: BTreeMap<String, Counts>,
    /// Requests in flight to each path, and the most so far.
    in_flight: HashMap<String, (usize, usize)>,
    together: (usize, usize),
    switched: Behaviour,
    reset_at: u64,
    known_at_reset: u64,
    /// Events of which a request has ever arrived; a reset keeps them.
    known: HashSet<u64>,
    /// Those whose request was answered with 2xx, or will be.
    delivered: HashSet<u64>,
}

struct Counts {
    report: Group,
    latency: Histogram<u64>,
    held: Histogram<u64>,
}

/// What one group of targets (the first part of their paths) has received.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Group {
    /// Requests for events that were sent since the reset.
    pub requests: u64,
    /// Different events among them.
    pub distinct: u64,
    /// Arrival of the first and of the last of these requests, in nanoseconds of the monotonic clock.
    pub first: u64,
    /// See `first`.
    pub last: u64,
    /// From being sent to having arrived, in microseconds: p50, p99.
    pub latency: [u64; 2],
    /// Mean time from arrival to answer, in microseconds.
    pub held: f64,
    /// These requests in each tenth of a second of the monotonic clock.
    pub tenths: BTreeMap<u64, u64>,
    /// Events, of all groups, of which a request had arrived before the reset.
    pub known_at_reset: u64,
    /// Events that were sent before the reset and of which the first request arrived after it.
    pub older: u64,
    /// Arrival of the last one of them.
    pub older_last: u64,
    /// The most requests that any one target had in flight.
    pub most_in_flight: usize,
    /// The most requests that all targets of all groups had in flight together.
    pub most_together: usize,
}

impl Group {
    /// Requests in the second that begins `after` seconds after `time` (nanoseconds), exact to a tenth of a second.
    pub fn in_second(&self, time: u64, after: f64) -> u64 {
        let first = time / 100_000_000 + (after * 10.0) as u64;
        self.tenths.range(first..first + 10).map(|(_, count)| count).sum()
    }

    /// The most requests in any ten tenths of a second in a row.
    pub fn busiest_second(&self) -> u64 {
        self.tenths
            .keys()
            .map(|first| self.tenths.range(*first..first + 10).map(|(_, count)| count).sum())
            .max()
            .unwrap_or(0)
    }

    /// Different events each second, from the first request to the last.
    pub fn rate(&self) -> f64 {
        self.distinct.saturating_sub(1) as f64 / (self.last.saturating_sub(self.first) as f64 / 1e9)
    }

    /// p50 and p99 of the latency, in milliseconds.
    pub fn latency_ms(&self) -> [f64; 2] {
        self.latency.map(|micros| micros as f64 / 1000.0)
    }
}

/// By group.
pub type Report = BTreeMap<String, Group>;

impl Default for Seen {
    fn default() -> Seen {
        Seen {
            groups: BTreeMap::new(),
            in_flight: HashMap::new(),
            together: (0, 0),
            switched: Behaviour::Ok,
            reset_at: 0,
            known_at_reset: 0,
            known: HashSet::new(),
            delivered: HashSet::new(),
        }
    }
}

impl Default for Counts {
    fn default() -> Counts {
        let histogram = || Histogram::new(3).expect("three digits are allowed");
        Counts { report: Group::default(), latency: histogram(), held: histogram() }
    }
}

impl Seen {
    /// What the target of this path does now.
    pub fn behaviour(&self, path: &str) -> Behaviour {
        match Behaviour::parse(group(path)) {
            Some(Behaviour::Switch) => self.switched,
            Some(behaviour) => behaviour,
            None => Behaviour::Ok,
        }
    }

    /// From now on targets that can be switched do this.
    pub fn switch(&mut self, to: Behaviour) {
        self.switched = to;
    }

    /// Counts begin again, for events that are sent from now on.
    pub fn reset(&mut self, now: u64) {
        self.groups.clear();
        self.in_flight.values_mut().for_each(|(in_flight, most)| *most = *in_flight);
        self.together.1 = self.together.0;
        (self.reset_at, self.known_at_reset) = (now, self.known.len() as u64);
    }

    /// Events that were delivered, ever.
    pub fn delivered(&self) -> &HashSet<u64> {
        &self.delivered
    }

    /// A whole request has arrived, for an event that was sent at `sent`.
    pub fn arrived(&mut self, path: &str, behaviour: Behaviour, sent: u64, now: u64) {
        let counts = match self.groups.get_mut(group(path)) {
            Some(counts) => counts,
            None => self.groups.entry(group(path).to_owned()).or_default(),
        };
        let is_first = self.known.insert(sent);
        if behaviour.delivers() {
            self.delivered.insert(sent);
        }
        let report = &mut counts.report;
        if sent < self.reset_at {
            if is_first {
                report.older += 1;
                report.older_last = now;
            }
        } else {
            report.requests += 1;
            report.distinct += u64::from(is_first);
            if report.first == 0 {
                report.first = now;
            }
            report.last = now;
            *report.tenths.entry(now / 100_000_000).or_default() += 1;
            record(&mut counts.latency, now.saturating_sub(sent));
        }
        let (in_flight, most) = self.in_flight.entry(path.to_owned()).or_default();
        *in_flight += 1;
        *most = (*most).max(*in_flight);
        self.together.0 += 1;
        self.together.1 = self.together.1.max(self.together.0);
    }

    /// It is answered after `held` nanoseconds, or the client no longer waits for the answer.
    pub fn left(&mut self, path: &str, held: u64) {
        if let Some((in_flight, _)) = self.in_flight.get_mut(path) {
            *in_flight = in_flight.saturating_sub(1);
            self.together.0 = self.together.0.saturating_sub(1);
        }
        if let Some(counts) = self.groups.get_mut(group(path)) {
            record(&mut counts.held, held);
        }
    }

    /// All of it.
    pub fn report(&self) -> Report {
        let most = |name: &str| {
            let of = self.in_flight.iter().filter(|(path, _)| group(path) == name);
            of.map(|(_, (_, most))| *most).max().unwrap_or(0)
        };
        let report = |(name, counts): (&String, &Counts)| {
            let latency = [0.5, 0.99].map(|quantile| counts.latency.value_at_quantile(quantile));
            let group = Group {
                latency,
                held: counts.held.mean(),
                most_in_flight: most(name),
                most_together: self.together.1,
                known_at_reset: self.known_at_reset,
                ..counts.report.clone()
            };
            (name.clone(), group)
        };
        self.groups.iter().map(report).collect()
    }
}

/// In microseconds. Grows as it must, which `saturating_record` does not.
fn record(histogram: &mut Histogram<u64>, nanos: u64) {
    // It refuses nothing that fits into memory, and a wait of hours does.
    let _ = histogram.record(nanos / 1000);
}

fn group(path: &str) -> &str {
    path.trim_start_matches('/').split('/').next().unwrap_or_default()
}
