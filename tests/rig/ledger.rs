//! The ledger: compares the events that upstream had confirmed with the POSTs and with the failed and rejected queues.
//!
//! Each confirmed event must be rejected, have no target, or have its deliveries accounted for: each was made at least
//! once, or is on the failed queue. Jobs that are both are counted separately: such a job forked when something broke,
//! and its copies ended differently. Nothing may exist that was not published.
//!
//! *Duplicates* are further POSTs of the same `webhook-id` with the same attempt number. Without a fault there are
//! none, and no attempt follows one that was accepted. Their sum is bounded by the number of messages in flight at each
//! break.
//!
//! For each job they are bounded by twice the number of breaks. An event may be in flight together with one of its jobs
//! that is already POSTed, and then both come again. Each outage of the broker alone adds one more. The worker survives
//! it, and publishes messages again that the broker may have accepted without a confirm. Forks that fork again at each
//! break would exceed these bounds.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    sync::Arc,
    time::Duration,
};

use leadhook::{
    job::webhook_id,
    receiver::{Action, Received},
    store::TargetKey,
};

use super::harness::Message;

/// The timeout of every target in a trial.
pub const TIMEOUT: Duration = Duration::from_secs(1);

/// Most attempts of a job in a trial.
const MOST_ATTEMPTS: u32 = super::trial::RETRIES as u32 + 1;

/// One event that upstream published.
#[derive(Clone, Debug)]
pub struct Event {
    /// Its number, counted from 1 in the order of the first publishes.
    pub number: u32,
    /// Its AMQP `message_id`.
    pub message_id: String,
    /// The body, which is POSTed.
    pub body: String,
    /// Its expected fate.
    pub due: Due,
    /// How often it was published: more than once only if a confirm was missing.
    pub publishes: u32,
}

/// The expected fate of an event.
#[derive(Clone, Debug, PartialEq)]
pub enum Due {
    /// Delivered to each of these targets, or failed.
    Targets(Vec<TargetKey>),
    /// No target selects it.
    NoTarget,
    /// It is not a usable event.
    Rejected,
}

/// The POSTs and messages at the end of a trial.
#[derive(Default)]
pub struct Found {
    /// All POSTs.
    pub posts: Vec<Arc<Received>>,
    /// Messages on the failed queue.
    pub failed: Vec<Message>,
    /// Messages on the rejected queue.
    pub rejected: Vec<Message>,
}

/// The duplicates and copies that breaks explain.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Excuse {
    /// Number of breaks.
    pub breaks: usize,
    /// Number of breaks that the broker caused.
    pub outages: usize,
    /// Bound of duplicate POSTs, for all breaks together.
    pub duplicates: usize,
    /// Jobs that kill the process.
    pub crash_loops: usize,
}

/// The sums.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Account {
    pub confirmed: usize,
    /// Pairs of event and target.
    pub delivered: usize,
    pub failed: usize,
    pub both: usize,
    pub rejected: usize,
    /// Messages on the rejected queue that are usable, or that were never published.
    pub wrongly_rejected: usize,
    pub no_target: usize,
    pub lost: usize,
    pub duplicates: usize,
    /// POSTs after an accepted attempt, with a higher attempt number.
    pub needless: usize,
    /// Maximum number of POSTs with the same `webhook-id` and attempt number.
    pub most_posts: usize,
    /// Maximum number of messages on the failed or rejected queue for one job or event.
    pub most_copies: usize,
    /// Jobs that failed because the process died with them repeatedly.
    pub crash_loops: usize,
    /// All violations, in words.
    pub wrong: Vec<String>,
}

impl fmt::Display for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Account { confirmed, delivered, failed, both, rejected, no_target, lost, duplicates, .. } = self;
        write!(
            f,
            "confirmed {confirmed} delivered {delivered} failed {failed} both {both} rejected {rejected} \
             no_target {no_target} lost {lost} duplicates {duplicates}"
        )
    }
}

/// The traces of one job.
#[derive(Default)]
struct Traces<'a> {
    body: &'a str,
    /// Number of POSTs by attempt number.
    posts: BTreeMap<u32, usize>,
    /// The lowest attempt number that was accepted.
    accepted: Option<u32>,
    failed: usize,
}

impl Account {
    /// Counts everything.
    pub fn of(events: &[Event], found: &Found) -> Account {
        let mut account = Account { confirmed: events.len(), ..Account::default() };
        let mut jobs: BTreeMap<String, Traces<'_>> = BTreeMap::new();
        let mut unusable: BTreeMap<&[u8], usize> = BTreeMap::new();
        for event in events {
            match &event.due {
                Due::Targets(keys) => {
                    for key in keys {
                        let body = event.body.as_bytes();
                        let read = leadhook::event::Event::decode(body, None, body.len()).expect("an event");
                        let id = webhook_id(Some(&event.message_id), &read, body, key);
                        jobs.insert(id, Traces { body: &event.body, ..Traces::default() });
                    }
                }
                Due::NoTarget => account.no_target += 1,
                Due::Rejected => {
                    unusable.insert(event.body.as_bytes(), 0);
                }
            }
        }
        account.posts(&mut jobs, &found.posts);
        account.failures(&mut jobs, &found.failed);
        account.rejections(&mut unusable, &found.rejected);
        account.judge(&jobs);
        account
    }

    fn posts(&mut self, jobs: &mut BTreeMap<String, Traces<'_>>, posts: &[Arc<Received>]) {
        for post in posts {
            let id = post.webhook_id().unwrap_or_default();
            let Some(job) = jobs.get_mut(id) else {
                self.wrong.push(format!("a POST of an unknown webhook-id: {id} at {}", post.path));
                continue;
            };
            if post.body != job.body.as_bytes() {
                self.wrong.push(format!("{id}: POSTed with another body"));
            }
            let attempt = post.attempt().unwrap_or_default();
            if !(1..=MOST_ATTEMPTS).contains(&attempt) {
                self.wrong.push(format!("{id}: attempt {attempt} is none that is due"));
            }
            *job.posts.entry(attempt).or_default() += 1;
            if accepts(post) {
                job.accepted = Some(job.accepted.map_or(attempt, |before| before.min(attempt)));
            }
        }
    }

    fn failures(&mut self, jobs: &mut BTreeMap<String, Traces<'_>>, failed: &[Message]) {
        for message in failed {
            let id = message.properties.message_id().as_ref().map(|id| id.as_str()).unwrap_or_default();
            match jobs.get_mut(id) {
                Some(job) if job.body.as_bytes() == message.body => {
                    job.failed += 1;
                    // These breaks must not end a job by themselves: neither by a crash loop nor by the broker's
                    // delivery limit.
                    match message.text("leadhook-reason").as_deref() {
                        Some("exhausted" | "gone") => {}
                        Some("crash_loop") => self.crash_loops += 1,
                        reason => self.wrong.push(format!("{id}: failed for {reason:?}")),
                    }
                }
                Some(_) => self.wrong.push(format!("{id}: failed with another body")),
                None => self.wrong.push(format!("a failed job that was never published: {id}")),
            }
        }
    }

    fn rejections(&mut self, unusable: &mut BTreeMap<&[u8], usize>, rejected: &[Message]) {
        for message in rejected {
            match unusable.get_mut(message.body.as_slice()) {
                Some(count) => *count += 1,
                None => {
                    self.wrongly_rejected += 1;
                    let reason = message.text("leadhook-reason").unwrap_or_default();
                    self.wrong.push(format!("rejected, but usable or never published: {reason}"));
                }
            }
        }
        for count in unusable.values() {
            self.most_copies = self.most_copies.max(*count);
            match count {
                0 => self.lose("an unusable event is nowhere".to_owned()),
                _ => self.rejected += 1,
            }
        }
    }

    fn judge(&mut self, jobs: &BTreeMap<String, Traces<'_>>) {
        for (id, job) in jobs {
            match (job.accepted.is_some(), job.failed > 0) {
                (true, false) => self.delivered += 1,
                (false, true) => self.failed += 1,
                (true, true) => self.both += 1,
                (false, false) => {
                    self.lose(format!("{id}: lost after attempts {:?}; its event: {}", job.posts, job.body))
                }
            }
            self.duplicates += job.posts.values().map(|count| count - 1).sum::<usize>();
            let after = |accepted: u32| job.posts.range(accepted + 1..).map(|(_, count)| count).sum::<usize>();
            self.needless += job.accepted.map(after).unwrap_or_default();
            self.most_posts = self.most_posts.max(job.posts.values().copied().max().unwrap_or_default());
            self.most_copies = self.most_copies.max(job.failed);
        }
    }

    fn lose(&mut self, what: String) {
        self.lost += 1;
        self.wrong.push(what);
    }

    /// Returns all objections, given these breaks; empty if the ledger adds up.
    pub fn objections(&self, excuse: Excuse) -> Vec<String> {
        let mut all = self.wrong.clone();
        let mut bound = |what: &str, is: usize, most: usize| {
            if is > most {
                all.push(format!("{what}: {is}, and {excuse:?} explains at most {most}"));
            }
        };
        bound("duplicates", self.duplicates, excuse.duplicates);
        bound("POSTs of one attempt", self.most_posts, 1 + 2 * excuse.breaks + excuse.outages);
        bound("copies of one failed job or rejected event", self.most_copies, 1 + 2 * excuse.breaks);
        bound("crash loops", self.crash_loops, excuse.crash_loops);
        bound("POSTs after one that was accepted", self.needless, excuse.duplicates);
        // Two copies of a job that end differently have made at least one attempt twice.
        if self.both > self.duplicates {
            all.push(format!(
                "{} jobs are both delivered and failed, and there are {} duplicates",
                self.both, self.duplicates
            ));
        }
        all
    }

    /// Adds another account to this one.
    pub fn add(&mut self, other: &Account) {
        self.confirmed += other.confirmed;
        self.delivered += other.delivered;
        self.failed += other.failed;
        self.both += other.both;
        self.rejected += other.rejected;
        self.wrongly_rejected += other.wrongly_rejected;
        self.no_target += other.no_target;
        self.lost += other.lost;
        self.duplicates += other.duplicates;
        self.needless += other.needless;
        self.crash_loops += other.crash_loops;
        self.most_posts = self.most_posts.max(other.most_posts);
        self.most_copies = self.most_copies.max(other.most_copies);
        self.wrong.extend(other.wrong.iter().cloned());
    }
}

/// Returns whether the receiver answered in a way that a worker must count as delivered: a 2xx before the timeout.
fn accepts(post: &Received) -> bool {
    let whole = matches!(post.reply.action, Action::Answer { .. } | Action::Endless { .. });
    whole && post.reply.delay < TIMEOUT && post.status.is_some_and(|status| (200..300).contains(&status))
}

/// Returns the attempt numbers that were seen for a `webhook-id`.
pub fn attempts(posts: &[Arc<Received>], id: &str) -> BTreeSet<u32> {
    posts.iter().filter(|post| post.webhook_id() == Some(id)).filter_map(|post| post.attempt()).collect()
}
