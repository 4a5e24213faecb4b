//! What the receivers have seen since the last reset.

use std::collections::{BTreeMap, HashMap, HashSet};

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

use super::behaviour::Behaviour;

/// See the module's words.
pub struct Seen {
    groups: BTreeMap<String, Counts>,
    in_flight: HashMap<String, (usize, usize)>,
    together: (usize, usize),
    switched: Behaviour,
    /// The id that the request under way has, by path, and how often each was seen: for what fails twice.
    turns: HashMap<Vec<u8>, (u32, u64)>,
    latest: HashMap<String, Vec<u8>>,
}

struct Counts {
    requests: u64,
    distinct: HashSet<u64>,
    first: u64,
    last: u64,
    latency: Histogram<u64>,
    /// Waits between two requests of one id, in microseconds: for retries.
    gaps: [Histogram<u64>; 2],
    /// Requests in each second of the monotonic clock.
    seconds: BTreeMap<u64, u64>,
}

/// What one group of targets (the first part of their paths) has received.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Group {
    /// Requests.
    pub requests: u64,
    /// Different webhook-ids.
    pub distinct: u64,
    /// When the first and the last one arrived, nanoseconds of the monotonic clock.
    pub first: u64,
    pub last: u64,
    /// From being sent to having arrived, in microseconds: p50, p99, p99.9, most.
    pub latency: [u64; 4],
    /// From the first to the second and from the second to the third request of an id, in microseconds: least, p50, p99, most.
    pub gaps: [[u64; 4]; 2],
    /// Requests in each second of the monotonic clock.
    pub seconds: BTreeMap<u64, u64>,
    /// The most that any one target had in flight.
    pub most_in_flight: usize,
    /// The most that all targets of all groups had in flight together.
    pub most_together: usize,
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
            turns: HashMap::new(),
            latest: HashMap::new(),
        }
    }
}

impl Default for Counts {
    fn default() -> Counts {
        let histogram = || Histogram::new(3).expect("three digits are allowed");
        Counts {
            requests: 0,
            distinct: HashSet::new(),
            first: 0,
            last: 0,
            latency: histogram(),
            gaps: [histogram(), histogram()],
            seconds: BTreeMap::new(),
        }
    }
}

impl Seen {
    /// What the target of this path does.
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

    /// A request is there.
    pub fn arrived(&mut self, path: &str, id: Option<Vec<u8>>, sent: Option<u64>, now: u64) {
        let counts = match self.groups.get_mut(group(path)) {
            Some(counts) => counts,
            None => self.groups.entry(group(path).to_owned()).or_default(),
        };
        counts.requests += 1;
        if counts.first == 0 {
            counts.first = now;
        }
        counts.last = now;
        *counts.seconds.entry(now / 1_000_000_000).or_default() += 1;
        if let Some(sent) = sent {
            record(&mut counts.latency, now.saturating_sub(sent));
        }
        if let Some(id) = id {
            // The last 16 hexadecimal digits of a digest are as good as all of it.
            let tail = id.iter().rev().take(16).fold(0u64, |tail, digit| tail.rotate_left(4) ^ u64::from(*digit));
            counts.distinct.insert(tail);
            if group(path) == "flaky" {
                let (turn, before) = self.turns.entry(id.clone()).or_insert((0, now));
                if let 1 | 2 = *turn {
                    record(&mut counts.gaps[*turn as usize - 1], now - *before);
                }
                (*turn, *before) = (*turn + 1, now);
                self.latest.insert(path.to_owned(), id);
            }
        }
        let (in_flight, most) = self.in_flight.entry(path.to_owned()).or_default();
        *in_flight += 1;
        *most = (*most).max(*in_flight);
        self.together.0 += 1;
        self.together.1 = self.together.1.max(self.together.0);
    }

    /// It is answered, or nobody waits for the answer any more.
    pub fn left(&mut self, path: &str) {
        if let Some((in_flight, _)) = self.in_flight.get_mut(path) {
            *in_flight = in_flight.saturating_sub(1);
            self.together.0 = self.together.0.saturating_sub(1);
        }
    }

    /// The status for what fails twice.
    pub fn turn(&mut self, path: &str) -> u16 {
        let seen = self.latest.get(path).and_then(|id| self.turns.get(id)).map_or(0, |(turn, _)| *turn);
        if seen <= 2 { 500 } else { 200 }
    }

    /// All of it.
    pub fn report(&self) -> Report {
        let quantiles = |h: &Histogram<u64>| {
            [h.value_at_quantile(0.5), h.value_at_quantile(0.99), h.value_at_quantile(0.999), h.max()]
        };
        let spread = |h: &Histogram<u64>| [h.min(), h.value_at_quantile(0.5), h.value_at_quantile(0.99), h.max()];
        let most = |name: &str| {
            let of = self.in_flight.iter().filter(|(path, _)| group(path) == name);
            of.map(|(_, (_, most))| *most).max().unwrap_or(0)
        };
        let report = |(name, counts): (&String, &Counts)| {
            let group = Group {
                requests: counts.requests,
                distinct: counts.distinct.len() as u64,
                first: counts.first,
                last: counts.last,
                latency: quantiles(&counts.latency),
                gaps: [spread(&counts.gaps[0]), spread(&counts.gaps[1])],
                seconds: counts.seconds.clone(),
                most_in_flight: most(name),
                most_together: self.together.1,
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
