//! Collects the figures of the overview in the background, so that the page is ready at once. Passive declares, which
//! take no messages, count the queues. The worker on `admin.listen`, if one answers, gives the other figures.

use std::{collections::VecDeque, time::Duration};

use jiff::Timestamp;
use tokio::{sync::watch, time::Instant};
use tokio_util::sync::CancellationToken;

use crate::{
    broker::{
        connection::{self, Connection},
        topology::{self, Count, Plan},
    },
    cli::health::ask_worker,
    limits::View,
    settings::Settings,
};

/// Time between two looks.
pub const EVERY: Duration = Duration::from_secs(5);

/// Longest time for one look at the queues.
const LOOK: Duration = Duration::from_secs(10);

/// The number of looks from which rates are computed: one minute.
const SPAN: usize = 13;

/// Gives the result of the looks in the background.
pub struct Watch(watch::Receiver<Sight>);

/// The result of a look.
#[derive(Clone, Debug, Default)]
pub struct Sight {
    /// The time of the look; `None` before the first.
    pub at: Option<Timestamp>,
    /// The queues.
    pub queues: Queues,
    /// Why the queues could not be counted.
    pub broker_problem: Option<String>,
    /// The worker that was asked.
    pub worker: Option<Worker>,
    /// Why no worker answered.
    pub worker_problem: Option<String>,
}

/// Waiting messages; `None` if the queue does not exist.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Queues {
    /// Events that are not dispatched yet.
    pub events: Option<u64>,
    /// Jobs that are due.
    pub jobs: Option<u64>,
    /// Jobs that have failed.
    pub failed: Option<u64>,
    /// Messages that are not usable events.
    pub rejected: Option<u64>,
    /// Messages that the broker gave up on.
    pub unreadable: Option<u64>,
    /// Jobs that wait, by the length of the wait. Delay queues without jobs are left out.
    pub delays: Vec<(Duration, u64)>,
}

/// The figures of a worker.
#[derive(Clone, Debug, Default)]
pub struct Worker {
    /// The circuits that recently had a job.
    pub circuits: Vec<View>,
    /// Attempts in flight.
    pub in_flight: f64,
    /// How long the worker has seen messages on the failed queue.
    pub failed_for: Duration,
    /// How long the worker has seen messages on the rejected queue.
    pub rejected_for: Duration,
    /// Rates over about a minute; `None` before the second look.
    pub rates: Option<Rates>,
}

/// Rates per second.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Rates {
    /// Events that became jobs or were rejected.
    pub events: f64,
    /// Attempts.
    pub attempts: f64,
    /// Deliveries.
    pub delivered: f64,
    /// Jobs that failed for good.
    pub failed: f64,
}

/// Counters of a worker at one point in time.
#[derive(Clone, Copy, Debug)]
struct Sample {
    at: Instant,
    counts: Rates,
}

impl Watch {
    /// Starts to look in the background.
    pub fn start(settings: Settings, plan: Plan, shutdown: CancellationToken) -> Watch {
        let (sender, receiver) = watch::channel(Sight::default());
        tokio::spawn(async move {
            shutdown.run_until_cancelled(keep_looking(&settings, &plan, &sender)).await;
        });
        Watch(receiver)
    }

    /// Returns the result of the last look.
    pub fn sight(&self) -> Sight {
        self.0.borrow().clone()
    }
}

async fn keep_looking(settings: &Settings, plan: &Plan, tell: &watch::Sender<Sight>) {
    let mut kept = None;
    let mut before = Queues::default();
    let mut samples = VecDeque::new();
    let mut tick = tokio::time::interval(EVERY);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        let looking = tokio::time::timeout(LOOK, queues(settings, plan, &before, &mut kept));
        let (queues, worker) = tokio::join!(looking, worker(settings, &mut samples));
        let queues = queues.unwrap_or_else(|_| Err("the broker does not answer".to_owned()));
        if queues.is_err() {
            kept = None;
        }
        let (queues, broker_problem) = queues.map_or_else(|why| (Queues::default(), Some(why)), |seen| (seen, None));
        before.clone_from(&queues);
        let (worker, worker_problem) = worker.map_or_else(|why| (None, Some(why)), |seen| (Some(seen), None));
        let at = Some(Timestamp::now());
        tell.send_replace(Sight { at, queues, broker_problem, worker, worker_problem });
    }
}

async fn queues(
    settings: &Settings,
    plan: &Plan,
    before: &Queues,
    kept: &mut Option<Connection>,
) -> Result<Queues, String> {
    if kept.as_ref().is_none_or(|connection| !connection.status().connected()) {
        let connected = connection::connect(&settings.amqp, "console", 0).await;
        *kept = Some(connected.map_err(|error| error.to_string())?);
    }
    let Some(connection) = kept else { return Err("no connection".to_owned()) };
    let counts = topology::counts(connection, plan).await.map_err(|error| error.to_string())?;
    let names = plan.names();
    let of = |name: &str| counts.get(name).map(|count| count.ready);
    let delays = counts.iter().filter(|(_, count)| count.ready > 0);
    let mut delays: Vec<_> = delays.filter_map(|(name, count)| Some((names.delay_of(name)?, count.ready))).collect();
    delays.sort_unstable();
    let (events, jobs) = (of(names.events.as_str()), of(names.jobs.as_str()));
    let failed = at_rest(counts.get(names.failed.as_str()), before.failed);
    let rejected = at_rest(counts.get(names.rejected.as_str()), before.rejected);
    let unreadable = at_rest(counts.get(names.unreadable.as_str()), before.unreadable);
    Ok(Queues { events, jobs, failed, rejected, unreadable, delays })
}

/// Returns the messages on a queue that people look at. A reader holds messages, which the broker does not count as
/// ready. While the queue has a reader, the count from before is used if it is larger.
fn at_rest(count: Option<&Count>, before: Option<u64>) -> Option<u64> {
    let count = count?;
    let held = before.filter(|_| count.consumers > 0);
    Some(held.map_or(count.ready, |before| before.max(count.ready)))
}

async fn worker(settings: &Settings, samples: &mut VecDeque<Sample>) -> Result<Worker, String> {
    let (_, circuits) = ask_worker(settings, "/targets").await?;
    let (_, page) = ask_worker(settings, "/metrics").await?;
    let counts = Rates {
        events: sum(&page, "leadhook_events_total", ""),
        attempts: sum(&page, "leadhook_attempts_total", ""),
        delivered: sum(&page, "leadhook_jobs_total", "outcome=\"delivered\""),
        failed: sum(&page, "leadhook_jobs_total", "outcome=\"failed\""),
    };
    samples.push_back(Sample { at: Instant::now(), counts });
    // A restarted worker counts from zero, so older samples are dropped.
    if samples.iter().any(|before| before.counts.events > counts.events || before.counts.attempts > counts.attempts) {
        samples.drain(..samples.len() - 1);
    }
    while samples.len() > SPAN {
        samples.pop_front();
    }
    let seconds = |queue: &str| {
        let label = format!("queue=\"{queue}\"");
        Duration::try_from_secs_f64(sum(&page, "leadhook_queue_not_empty_seconds", &label)).unwrap_or_default()
    };
    Ok(Worker {
        circuits: serde_json::from_str(&circuits).unwrap_or_default(),
        in_flight: sum(&page, "leadhook_attempts_in_flight", ""),
        failed_for: seconds("failed"),
        rejected_for: seconds("rejected"),
        rates: rates(samples),
    })
}

fn rates(samples: &VecDeque<Sample>) -> Option<Rates> {
    let (first, last) = (samples.front()?, samples.back()?);
    let seconds = last.at.duration_since(first.at).as_secs_f64();
    let a_second = |of: fn(&Rates) -> f64| (of(&last.counts) - of(&first.counts)).max(0.0) / seconds;
    (seconds >= 1.0).then(|| Rates {
        events: a_second(|counts| counts.events),
        attempts: a_second(|counts| counts.attempts),
        delivered: a_second(|counts| counts.delivered),
        failed: a_second(|counts| counts.failed),
    })
}

/// Returns the sum of a metric's values whose labels contain a text.
fn sum(page: &str, name: &str, label: &str) -> f64 {
    let lines = page.lines().filter_map(|line| line.strip_prefix(name));
    let values = lines.filter(|rest| rest.starts_with(['{', ' ']) && rest.contains(label));
    values.filter_map(|rest| rest.rsplit(' ').next()?.parse::<f64>().ok()).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metrics_are_summed_by_label() {
        let page = "leadhook_jobs_total{outcome=\"delivered\",reason=\"\"} 7\nleadhook_jobs_total{outcome=\"failed\",reason=\"gone\"} 2\n\
                    leadhook_jobs_total{outcome=\"failed\",reason=\"exhausted\"} 3\nleadhook_jobs_total_other 9\nleadhook_attempts_in_flight 4\n";
        assert_eq!(sum(page, "leadhook_jobs_total", "outcome=\"failed\""), 5.0);
        assert_eq!(sum(page, "leadhook_jobs_total", ""), 12.0);
        assert_eq!(sum(page, "leadhook_attempts_in_flight", ""), 4.0);
    }

    #[test]
    fn messages_that_a_reader_holds_are_counted() {
        let count = |ready, consumers| Some(Count { ready, consumers });
        assert_eq!(at_rest(count(7, 0).as_ref(), Some(9)), Some(7), "without a reader the count is right");
        assert_eq!(at_rest(count(2, 1).as_ref(), Some(9)), Some(9));
        assert_eq!(at_rest(count(12, 1).as_ref(), Some(9)), Some(12));
        assert_eq!(at_rest(count(2, 1).as_ref(), None), Some(2));
        assert_eq!(at_rest(None, Some(9)), None, "the queue does not exist");
    }

    #[test]
    fn rates_come_from_two_samples() {
        let now = Instant::now();
        let sample = |seconds, attempts| Sample {
            at: now + Duration::from_secs(seconds),
            counts: Rates { attempts, ..Rates::default() },
        };
        assert_eq!(rates(&VecDeque::from([sample(0, 5.0)])), None);
        let rates = rates(&VecDeque::from([sample(0, 5.0), sample(5, 10.0), sample(10, 105.0)])).unwrap();
        assert_eq!((rates.attempts, rates.delivered), (10.0, 0.0));
    }
}
