//! `make storm`: kills both of two workers (SIGKILL) in every round of 1.5 s, each at a random moment, and starts them
//! again at once. Meanwhile the jobs queue may refuse publishes. Afterwards the ledger must account for every confirmed
//! event, and the workers must be as fast as before.

use std::{
    collections::BTreeMap,
    process::ExitCode,
    time::{Duration, Instant, SystemTime},
};

use crate::rig::{
    ledger::{Account, Due, Event},
    node::Node,
    trial::{Trial, UNLIMITED},
};

/// Duration of a round.
const ROUND: Duration = Duration::from_millis(1500);

/// Events published each second.
const RATE: u32 = 90;

/// Duration of the load before the first measurement.
const WARM_UP: Duration = Duration::from_secs(3);

/// Time for which deliveries are counted, before the storm and after it.
const WINDOW: Duration = Duration::from_secs(10);

/// Limit of the time from the end of the load until everything is settled. By default, RabbitMQ retries a refused dead
/// letter after 180 s, and each of the two retries may be refused once.
const DRAIN: Duration = Duration::from_secs(420);

/// Minimum rate of deliveries right after the storm, as a share of the rate before it.
const RECOVERED: f64 = 0.8;

/// The parameters of a storm.
pub struct Storm {
    pub rounds: u32,
    /// Time for which the jobs queue refuses publishes, in the middle of the storm.
    pub refuse: Duration,
    pub seed: u64,
}

/// Deliveries per second.
struct Rates {
    before: f64,
    during: f64,
    after: f64,
}

impl Storm {
    /// Runs the storm, and prints the table. Succeeds if all rules hold.
    pub fn run(&self) -> ExitCode {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime");
        runtime.block_on(self.play())
    }

    async fn play(&self) -> ExitCode {
        let node = Node::start();
        let mut trial = Trial::new(&node, self.seed).await;
        (trial.silent, trial.patience) = (true, DRAIN);
        trial.start().await;
        trial.start().await;
        let storm = ROUND * self.rounds;
        trial.load((storm + WARM_UP + 4 * WINDOW).as_secs() as usize * RATE as usize, RATE);
        tokio::time::sleep(WARM_UP + WINDOW).await;
        let begun = SystemTime::now();
        self.kill(&mut trial).await;
        let ended = SystemTime::now();
        tokio::time::sleep(WINDOW).await;
        let rates = rates(&trial, begun, ended);
        trial.end_load().await;
        let draining = Instant::now();
        println!("RabbitMQ {}, seed {}", node.eval("rabbit_misc:version().").trim().trim_matches('"'), self.seed);
        if tokio::time::timeout(DRAIN, trial.idle()).await.is_err() {
            println!("not settled {DRAIN:?} after the load: {}", trial.left().join(", "));
            return ExitCode::FAILURE;
        }
        let drained = draining.elapsed();
        let (refusals, due) = (refusals(&trial), due(&trial.upstream.confirmed()));
        let (account, mut objections) = trial.judged().await;
        let wrongly_failed = (account.failed + account.both).saturating_sub(due.failed);
        self.print(&account, &due, wrongly_failed, &rates, drained, refusals);
        let mut must = |holds: bool, what: &str| objections.extend((!holds).then(|| what.to_owned()));
        must(wrongly_failed == 0, "deliveries failed at receivers that accept");
        must(rates.after >= rates.before * RECOVERED, "deliveries are slower after the storm than before it");
        must(self.refuse.is_zero() || refusals > 0, "the jobs queue refused nothing");
        objections.iter().take(20).for_each(|objection| println!("WRONG: {objection}"));
        println!("{}", if objections.is_empty() { "holds" } else { "does not hold" });
        ExitCode::from(u8::from(!objections.is_empty()))
    }

    /// Kills and restarts the workers for all rounds.
    async fn kill(&self, trial: &mut Trial<'_>) {
        let (begun, storm) = (Instant::now(), ROUND * self.rounds);
        let refusing = storm.saturating_sub(self.refuse) / 2;
        let (mut to_refuse, mut to_accept) = (!self.refuse.is_zero(), false);
        for round in 0..self.rounds {
            if to_refuse && begun.elapsed() >= refusing {
                trial.broker_broke("the jobs queue refuses");
                trial.limit_length("jobs$", 1).await;
                (to_refuse, to_accept) = (false, true);
            }
            if to_accept && begun.elapsed() >= refusing + self.refuse {
                trial.limit_length("jobs$", UNLIMITED).await;
                to_accept = false;
            }
            let start = ROUND * round;
            let mut moments = [ROUND.mul_f64(trial.rng.f64()), ROUND.mul_f64(trial.rng.f64())];
            moments.sort_unstable();
            // A restarted worker is pushed to the end, so the other one is now the first.
            for (victim, moment) in [trial.rng.usize(..2), 0].into_iter().zip(moments) {
                tokio::time::sleep((start + moment).saturating_sub(begun.elapsed())).await;
                trial.worker_broke("killed");
                trial.workers.remove(victim).kill().await;
                trial.spawn(&[]);
            }
        }
        tokio::time::sleep(storm.saturating_sub(begun.elapsed())).await;
        if to_accept {
            trial.limit_length("jobs$", UNLIMITED).await;
        }
    }

    fn print(
        &self,
        account: &Account,
        due: &Dues,
        wrongly_failed: usize,
        rates: &Rates,
        drained: Duration,
        refusals: usize,
    ) {
        let share = |rate: f64| format!("{rate:.1} ({:.2} of before)", rate / rates.before);
        let rows = [
            ("rounds, kills", format!("{}, {}", self.rounds, 2 * self.rounds)),
            ("jobs queue refused publishes", format!("{} s ({refusals} outcomes logged)", self.refuse.as_secs())),
            ("events confirmed", account.confirmed.to_string()),
            ("deliveries due, delivered", format!("{}, {}", due.delivered, account.delivered)),
            ("deliveries due to fail, failed", format!("{}, {}", due.failed, account.failed)),
            ("lost", account.lost.to_string()),
            ("failed, and due to be delivered", wrongly_failed.to_string()),
            ("failed and delivered", account.both.to_string()),
            ("failed as crash loop", account.crash_loops.to_string()),
            ("rejected as due", account.rejected.to_string()),
            ("rejected, and due to be delivered", account.wrongly_rejected.to_string()),
            ("POSTs of an attempt beyond the first", account.duplicates.to_string()),
            ("deliveries/s before", format!("{:.1}", rates.before)),
            ("deliveries/s during the storm", share(rates.during)),
            ("deliveries/s in the first 10 s after", share(rates.after)),
            ("settled after the end of the load", format!("{:.1} s", drained.as_secs_f64())),
        ];
        rows.iter().for_each(|(what, figure)| println!("  {what:<40} {figure}"));
    }
}

/// Deliveries by their expected fate.
#[derive(Default)]
struct Dues {
    delivered: usize,
    failed: usize,
}

/// Counts the expected fates. Two receivers never accept: `broken` and `gone`.
fn due(events: &[Event]) -> Dues {
    let mut due = Dues::default();
    let keys = events.iter().filter_map(|event| match &event.due {
        Due::Targets(keys) => Some(keys),
        Due::NoTarget | Due::Rejected => None,
    });
    for key in keys.flatten() {
        match ["/BROKEN", "/GONE"].iter().any(|campaign| key.as_str().ends_with(campaign)) {
            true => due.failed += 1,
            false => due.delivered += 1,
        }
    }
    due
}

/// Computes the rates. A delivery counts once, when it is first accepted.
fn rates(trial: &Trial<'_>, begun: SystemTime, ended: SystemTime) -> Rates {
    let mut first = BTreeMap::new();
    for post in trial.posts() {
        if post.status.is_some_and(|status| (200..300).contains(&status)) {
            let id = post.webhook_id().unwrap_or_default().to_owned();
            first.entry(id).and_modify(|at: &mut SystemTime| *at = post.at.min(*at)).or_insert(post.at);
        }
    }
    let rate = |from: SystemTime, to: SystemTime| {
        let count = first.values().filter(|at| (from..to).contains(*at)).count();
        count as f64 / to.duration_since(from).unwrap_or_default().as_secs_f64()
    };
    Rates { before: rate(begun - WINDOW, begun), during: rate(begun, ended), after: rate(ended, ended + WINDOW) }
}

/// Counts the outcomes that could not be recorded at first, as reported in the workers' logs.
fn refusals(trial: &Trial<'_>) -> usize {
    let logs = std::fs::read_dir(trial.world.directory.path()).expect("the logs").flatten();
    let told = |log: std::fs::DirEntry| {
        let log = std::fs::read_to_string(log.path()).unwrap_or_default();
        log.lines()
            .filter(|line| line.contains("cannot record an outcome yet") && line.contains("leadhook.jobs"))
            .count()
    };
    logs.map(told).sum()
}
