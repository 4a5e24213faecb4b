//! Replays and discards: begun by a page, done whether or not anybody waits for them. Each is the same code that the command
//! line runs, and as safe to interrupt. One at a time: it holds the turn at the failed queue.

use std::{
    collections::VecDeque,
    path::PathBuf,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use jiff::Timestamp;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::info;

use super::{Shared, queue};
use crate::{
    broker::publisher::{Link, Publisher},
    cli::{
        failed::overlooked,
        readable::{jobs, messages},
    },
    delivery_log::{self, DeliveryLog},
    desk::{
        export::Export,
        remove::{Doing, Removal},
        replay::{Ended, Replay, To},
        reroute::Routes,
        survey::{Choice, Left, Survey},
        visit::Visit,
        wear::Renewer,
    },
};

/// Works that are remembered.
const KEPT: usize = 50;

/// Longest wait for the broker to take messages.
const CONNECT: Duration = Duration::from_secs(10);

/// Longest wait until what was done is on record.
const CLOSING: Duration = Duration::from_secs(10);

/// Pause between two visits of a paced replay, for others who wait for their turn.
const TURN: Duration = Duration::from_millis(500);

const STOPPING: &str = "the console is stopping";

/// What is done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Put back.
    Replay {
        /// Most jobs a second; none: as fast as the broker takes them.
        rate: Option<u32>,
    },
    /// Taken away, for this reason, into a file in this directory.
    Discard {
        /// Why.
        because: String,
        /// Where the file is made.
        directory: PathBuf,
    },
}

impl Kind {
    /// The word for it.
    pub fn name(&self) -> &'static str {
        match self {
            Kind::Replay { .. } => "replay",
            Kind::Discard { .. } => "discard",
        }
    }
}

/// How it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// Under way.
    Running,
    /// Over, with everything done.
    Done(Vec<String>),
    /// Over, and something was left.
    Partly(Vec<String>),
    /// Not begun, and why.
    Refused(String),
}

/// Something that is done with failed jobs.
pub struct Work {
    /// Its number in this process.
    pub number: u64,
    /// What.
    pub kind: Kind,
    /// Who began it.
    pub by: String,
    /// When.
    pub begun: Timestamp,
    /// Jobs that were agreed to.
    pub agreed: u64,
    seen: AtomicU64,
    state: Mutex<State>,
}

impl Work {
    /// How it stands.
    pub fn state(&self) -> State {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Messages looked at so far.
    pub fn seen(&self) -> u64 {
        self.seen.load(Ordering::Relaxed)
    }

    #[cfg(test)]
    pub(super) fn for_tests(kind: Kind, state: State) -> Work {
        let (by, begun) = ("<anna>".to_owned(), Timestamp::UNIX_EPOCH);
        Work { number: 1, kind, by, begun, agreed: 2, seen: AtomicU64::new(7), state: Mutex::new(state) }
    }
}

/// All that was begun lately.
#[derive(Default)]
pub struct Works {
    all: Mutex<(u64, VecDeque<Arc<Work>>)>,
    tasks: TaskTracker,
}

impl Works {
    /// The one with that number.
    pub fn get(&self, number: u64) -> Option<Arc<Work>> {
        let all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        all.1.iter().find(|work| work.number == number).cloned()
    }

    /// Waits for what is under way.
    pub async fn end(&self) {
        self.tasks.close();
        self.tasks.wait().await;
    }

    /// Begins, and says its number.
    pub fn begin(&self, shared: &Arc<Shared>, kind: Kind, by: &str, choice: Choice, agreed: u64) -> u64 {
        let work = {
            let mut all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
            all.0 += 1;
            let (number, by, begun) = (all.0, by.to_owned(), Timestamp::now());
            let (seen, state) = (AtomicU64::new(0), Mutex::new(State::Running));
            let work = Arc::new(Work { number, kind, by, begun, agreed, seen, state });
            all.1.push_back(work.clone());
            while all.1.len() > KEPT {
                all.1.pop_front();
            }
            work
        };
        let number = work.number;
        info!(by = work.by, what = work.kind.name(), jobs = agreed, "console: begun");
        let shared = shared.clone();
        let handle = tokio::runtime::Handle::current();
        // On a thread of its own: what the desk does is not made to move between threads.
        self.tasks.spawn_blocking(move || {
            let state = handle.block_on(run(&shared, &work, choice)).unwrap_or_else(State::Refused);
            shared.desk.forget();
            let outcome = match &state {
                State::Done(lines) | State::Partly(lines) => lines.join("; "),
                State::Refused(why) => why.clone(),
                State::Running => String::new(),
            };
            info!(by = work.by, what = work.kind.name(), outcome, "console: ended");
            *work.state.lock().unwrap_or_else(PoisonError::into_inner) = state;
        });
        number
    }
}

async fn run(shared: &Shared, work: &Work, choice: Choice) -> Result<State, String> {
    let by_filter = matches!(choice, Choice::Matching(_));
    let (mut survey, mut notes) = shared.desk.survey(shared, choice).await.map_err(|trouble| trouble.words())?;
    let mut left = Left::default();
    if by_filter && matches!(work.kind, Kind::Replay { .. }) {
        let (taken_out, problem) = leave_delivered(shared, &mut survey).await;
        left = taken_out;
        if left.unknown > 0 {
            let why = problem.unwrap_or_else(|| "they are older than the delivery log".to_owned());
            notes.push(format!("whether {} had been delivered already was unknown: {why}", jobs(left.unknown)));
        }
    }
    let count = survey.chosen.len() as u64;
    // People agree to a number; what failed since is another matter.
    if count > work.agreed {
        return Err(format!("{} were agreed to, and {} are meant now: look again", jobs(work.agreed), jobs(count)));
    }
    let publisher = Publisher::start(&shared.settings.amqp, work.kind.name(), None, CancellationToken::new());
    let log = delivery_log::start(&shared.settings, &shared.plan, &publisher, None);
    let done = async {
        let mut link = publisher.link();
        let ready = tokio::time::timeout(CONNECT, link.wait_for(|link| *link == Link::Ready)).await;
        ready.map_err(|_| "the broker takes no messages now".to_owned())?.map_err(|error| error.to_string())?;
        match &work.kind {
            Kind::Replay { rate } => replay(shared, work, &survey, &publisher, &log, *rate).await,
            Kind::Discard { because, directory } => {
                let Some(_turn) = shared.desk.turn().await else { return Err(STOPPING.to_owned()) };
                discard(shared, work, &survey, &log, because, directory).await
            }
        }
    }
    .await;
    let unwritten = log.close(CLOSING).await;
    publisher.close().await;
    let (lines, problems) = done?;
    notes.extend(problems);
    if unwritten > 0 {
        notes.push(format!("{unwritten} of this could not be written to the delivery log"));
    }
    if left.delivered > 0 {
        notes.push(format!("{} left: delivered already, says the delivery log", jobs(left.delivered)));
    }
    if survey.unreadable > 0 {
        notes.push(format!("{} left: no jobs of ours", messages(survey.unreadable)));
    }
    let state = if notes.is_empty() { State::Done } else { State::Partly };
    Ok(state([lines, notes].concat()))
}

/// Longest time for which a paced replay publishes before the pages of the failed queue have their turn.
const HOLDING: Duration = Duration::from_secs(5);

async fn replay(
    shared: &Shared,
    work: &Work,
    survey: &Survey,
    publisher: &Publisher,
    log: &DeliveryLog,
    rate: Option<u32>,
) -> Result<(Vec<String>, Vec<String>), String> {
    let names = shared.plan.names();
    let amqp = &shared.settings.amqp;
    let mut renewer = Renewer::new(amqp, &names.failed);
    let routes = Routes::default();
    let mut replay =
        Replay::new(To { publisher, jobs: &names.jobs, log, by: &work.by, rate, holding: HOLDING, routes: &routes });
    let mut notes = loop {
        let Some(turn) = shared.desk.turn().await else { break vec![STOPPING.to_owned()] };
        let mut visit = match Visit::open(amqp, &names.failed, None, || {}).await {
            Ok(visit) => visit.ending_when_asked(shared.interrupt.hold()),
            Err(error) if replay.tally.replayed == 0 => return Err(error.to_string()),
            Err(error) => break vec![error.to_string()],
        };
        let seen = |count| work.seen.store(count, Ordering::Relaxed);
        let done = replay.chosen(survey, &mut visit, &mut renewer, seen).await;
        let stopped = replay.tally.problem.is_some();
        // It stops at the first problem, and what it has not looked at is no riddle then.
        let missed = match done {
            Ok(Ended::Over) if !stopped => overlooked(&visit),
            _ => Vec::new(),
        };
        let sure = replay.make_sure(visit).await;
        drop(turn);
        match (done, sure) {
            (Err(error), _) | (_, Err(error)) => break vec![error.to_string()],
            (Ok(Ended::TimeIsUp), Ok(())) if !stopped => tokio::time::sleep(TURN).await,
            (Ok(_), Ok(())) => break missed,
        }
    };
    renewer.close().await;
    let tally = &replay.tally;
    notes.extend(tally.problem.as_ref().map(|problem| format!("stopped: {problem}")));
    let mut more = |count: u64, words: &str| {
        if count > 0 {
            notes.push(format!("{} {words}", messages(count)));
        }
    };
    more(tally.failed_again, "left: failed again meanwhile");
    more(tally.unreadable, "left: no jobs of ours");
    more(tally.not_published, "left: not confirmed by the broker, perhaps published nevertheless");
    more(tally.not_removed, "published, but still on the failed queue");
    let mut lines = vec![format!("{} put back", jobs(tally.replayed))];
    if tally.copies_removed > 0 {
        lines.push(format!("{} more removed: copies of the same jobs", messages(tally.copies_removed)));
    }
    Ok((lines, notes))
}

async fn discard(
    shared: &Shared,
    work: &Work,
    survey: &Survey,
    log: &DeliveryLog,
    because: &str,
    directory: &std::path::Path,
) -> Result<(Vec<String>, Vec<String>), String> {
    let names = shared.plan.names();
    let amqp = &shared.settings.amqp;
    let path = directory.join(format!("discarded-{}-{}.jsonl", work.begun.as_millisecond(), work.number));
    let mut renewer = Renewer::new(amqp, &names.failed);
    let visit = Visit::open(amqp, &names.failed, None, || {}).await.map_err(|error| error.to_string())?;
    let mut visit = visit.ending_when_asked(shared.interrupt.hold());
    let file = Export::create(&path).map_err(|error| format!("cannot make {}: {error}", path.display()))?;
    let mut removal = Removal::new(file, Doing { log, by: &work.by, because });
    let seen = |count| {
        work.seen.fetch_add(count, Ordering::Relaxed);
    };
    let done = removal.chosen(survey, &mut visit, &mut renewer, seen).await;
    let mut notes = overlooked(&visit);
    let sure = removal.make_sure(visit).await;
    renewer.close().await;
    notes.extend(done.err().map(|error| error.to_string()).or(sure.err().map(|error| error.to_string())));
    if removal.failed_again > 0 {
        notes.push(format!("{} left: failed again meanwhile", messages(removal.failed_again)));
    }
    let lines = vec![format!("{} discarded, written to {}", messages(removal.messages), path.display())];
    Ok((lines, notes))
}

/// Takes out of the survey what was delivered all the same; and why it cannot be told, if so.
pub async fn leave_delivered(shared: &Shared, survey: &mut Survey) -> (Left, Option<String>) {
    let (known, problem) = queue::known(shared, &survey.ids(), survey.oldest).await;
    (survey.leave_delivered(&known, |_| None), problem)
}
