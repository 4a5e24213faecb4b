//! Counts of the requests that the receivers have seen. Events that were sent before the last reset are counted
//! separately.

use std::collections::{BTreeMap, HashMap, HashSet};

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

use super::behaviour::Behaviour;

/// The state of all targets. Its key for an event is the time at which it was sent, in nanoseconds of the monotonic
/// clock.
pub struct Seen {
    groups: BTreeMap<String, Counts>,
    /// Current requests in flight to each path, and their maximum.
    in_flight: HashMap<String, (usize, usize)>,
    together: (usize, usize),
    switched: Behaviour,
    reset_at: u64,
    known_at_reset: u64,
    /// All events that ever arrived; a reset keeps them.
    known: HashSet<u64>,
    /// Events that were answered with 2xx, or will be.
    delivered: HashSet<u64>,
}

struct Counts {
    report: Group,
    latency: Histogram<u64>,
    held: Histogram<u64>,
}

/// The requests that one group of targets has received. A group is the first part of a path.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Group {
    /// Requests for events that were sent since the reset.
    pub requests: u64,
    /// Distinct events among them.
    pub distinct: u64,
    /// Arrival of the first and of the last of these requests, in nanoseconds of the monotonic clock.
    pub first: u64,
    /// See `first`.
    pub last: u64,
    /// Latency from sending to arrival, in microseconds: p50 and p99.
    pub latency: [u64; 2],
    /// Mean time from arrival to answer, in microseconds.
    pub held: f64,
    /// These requests in each tenth of a second of the monotonic clock.
    pub tenths: BTreeMap<u64, u64>,
    /// Events, of all groups, that had arrived before the reset.
    pub known_at_reset: u64,
    /// Events that were sent before the reset and first arrived after it.
    pub older: u64,
    /// Arrival of the last of them, in nanoseconds of the monotonic clock.
    pub older_last: u64,
    /// The most requests that any one target had in flight.
    pub most_in_flight: usize,
    /// The most requests that all targets of all groups had in flight together.
    pub most_together: usize,
}

impl Group {
    /// Counts requests in the second that begins `after` seconds after `time` (nanoseconds), exact to a tenth of a
    /// second.
    pub fn in_second(&self, time: u64, after: f64) -> u64 {
        let first = time / 100_000_000 + (after * 10.0) as u64;
        self.tenths.range(first..first + 10).map(|(_, count)| count).sum()
    }

    /// Returns the most requests in any ten consecutive tenths of a second.
    pub fn busiest_second(&self) -> u64 {
        self.tenths
            .keys()
            .map(|first| self.tenths.range(*first..first + 10).map(|(_, count)| count).sum())
            .max()
            .unwrap_or(0)
    }

    /// Returns distinct events per second, from the first request to the last.
    pub fn rate(&self) -> f64 {
        self.distinct.saturating_sub(1) as f64 / (self.last.saturating_sub(self.first) as f64 / 1e9)
    }

    /// Returns p50 and p99 of the latency, in milliseconds.
    pub fn latency_ms(&self) -> [f64; 2] {
        self.latency.map(|micros| micros as f64 / 1000.0)
    }
}

/// The groups by name.
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
    /// Returns how the target of this path answers now.
    pub fn behaviour(&self, path: &str) -> Behaviour {
        match Behaviour::parse(group(path)) {
            Some(Behaviour::Switch) => self.switched,
            Some(behaviour) => behaviour,
            None => Behaviour::Ok,
        }
    }

    /// Switches the behaviour of all `switch` targets.
    pub fn switch(&mut self, to: Behaviour) {
        self.switched = to;
    }

    /// Resets the counts, which then cover only events that are sent from now on.
    pub fn reset(&mut self, now: u64) {
        self.groups.clear();
        self.in_flight.values_mut().for_each(|(in_flight, most)| *most = *in_flight);
        self.together.1 = self.together.0;
        (self.reset_at, self.known_at_reset) = (now, self.known.len() as u64);
    }

    /// Returns all events that were ever delivered.
    pub fn delivered(&self) -> &HashSet<u64> {
        &self.delivered
    }

    /// Records that a whole request has arrived, for an event that was sent at `sent`.
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

    /// Records that a request was answered after `held` nanoseconds, or that its client gave up.
    pub fn left(&mut self, path: &str, held: u64) {
        if let Some((in_flight, _)) = self.in_flight.get_mut(path) {
            *in_flight = in_flight.saturating_sub(1);
            self.together.0 = self.together.0.saturating_sub(1);
        }
        if let Some(counts) = self.groups.get_mut(group(path)) {
            record(&mut counts.held, held);
        }
    }

    /// Reports all groups.
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

/// Records a duration in microseconds. The histogram grows as needed, which `saturating_record` would prevent.
fn record(histogram: &mut Histogram<u64>, nanos: u64) {
    // Recording fails only for values that do not fit into memory, and hours do.
    let _ = histogram.record(nanos / 1000);
}

fn group(path: &str) -> &str {
    path.trim_start_matches('/').split('/').next().unwrap_or_default()
}
