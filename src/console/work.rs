//! Runs replays, requeues and discards. A page starts them, and they go on without it. Each runs the code of the
//! command line, and is as safe to interrupt. Only one runs at a time: the one that has the turn at the queue.

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
use lapin::types::ShortString;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::info;

use super::{
    access::Access,
    queue::{self, DeadLetters},
};
use crate::{
    broker::publisher::{Link, Publisher},
    cli::{
        dead_letters::notes_about_unseen,
        readable::{jobs, messages},
    },
    dead_letters::{
        browse::Browse,
        export::Export,
        remove::{Doing, Removal},
        renew::Renewer,
        repair::Repair,
        replay::{Ended, Replay, To},
        requeue::{self, Requeued},
        reroute::Routes,
        selection::{Choice, Excluded, Selection},
    },
    delivery_log::{self, DeliveryLog},
    os_error,
};

/// Most actions that are remembered.
const KEPT: usize = 50;

/// Longest wait for the broker to take messages.
const CONNECT: Duration = Duration::from_secs(10);

/// Longest wait until the delivery log has recorded the actions.
const CLOSING: Duration = Duration::from_secs(10);

/// Pause between two browses of a paced replay, so that pages can read the queue.
const TURN: Duration = Duration::from_millis(500);

const STOPPING: &str = "the console is stopping";

/// The action.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Send the jobs again.
    Replay {
        /// Most jobs per second; `None` for as fast as the broker takes them.
        rate: Option<u32>,
    },
    /// Remove the jobs from the queue, into a file.
    Discard {
        /// The reason.
        because: String,
        /// The directory of the file.
        directory: PathBuf,
    },
    /// Put a rejected message back onto the events queue.
    Requeue {
        /// The repair; `None` to put the message back unchanged.
        repair: Option<Repair>,
    },
    /// Remove a rejected message from the queue, into a file.
    DiscardRejected {
        /// The reason.
        because: String,
        /// The directory of the file.
        directory: PathBuf,
    },
}

impl Kind {
    /// Returns the name in logs and addresses.
    pub fn name(&self) -> &'static str {
        match self {
            Kind::Replay { .. } => "replay",
            Kind::Discard { .. } | Kind::DiscardRejected { .. } => "discard",
            Kind::Requeue { .. } => "requeue",
        }
    }

    /// Returns whether the action is about rejected messages. Otherwise it is about failed jobs.
    pub fn is_of_rejected(&self) -> bool {
        matches!(self, Kind::Requeue { .. } | Kind::DiscardRejected { .. })
    }
}

/// The state of an action.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// It is running.
    Running,
    /// It has ended, and everything was done.
    Done(Vec<String>),
    /// It has ended, and some messages were left.
    Partly(Vec<String>),
    /// It did not start, for this reason.
    Refused(String),
}

/// One action: a replay, a requeue or a discard.
pub struct Work {
    /// Its number in this process.
    pub number: u64,
    /// The action.
    pub kind: Kind,
    /// The person who started it.
    pub by: String,
    /// The time of its start.
    pub begun: Timestamp,
    /// The number of jobs that the person agreed to.
    pub agreed: u64,
    seen: AtomicU64,
    state: Mutex<State>,
}

impl Work {
    /// Returns the state.
    pub fn state(&self) -> State {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Returns the number of messages looked at so far.
    pub fn seen(&self) -> u64 {
        self.seen.load(Ordering::Relaxed)
    }

    #[cfg(test)]
    pub(super) fn for_tests(kind: Kind, state: State) -> Work {
        let (by, begun) = ("<anna>".to_owned(), Timestamp::UNIX_EPOCH);
        Work { number: 1, kind, by, begun, agreed: 2, seen: AtomicU64::new(7), state: Mutex::new(state) }
    }
}

/// Recent actions.
#[derive(Default)]
pub struct Works {
    all: Mutex<(u64, VecDeque<Arc<Work>>)>,
    tasks: TaskTracker,
}

impl Works {
    /// Returns the action with that number.
    pub fn get(&self, number: u64) -> Option<Arc<Work>> {
        let all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        all.1.iter().find(|work| work.number == number).cloned()
    }

    /// Waits until all running actions have ended.
    pub async fn end(&self) {
        self.tasks.close();
        self.tasks.wait().await;
    }

    /// Starts an action, and returns its number.
    pub fn begin(
        &self,
        access: &Arc<Access>,
        letters: &Arc<DeadLetters>,
        kind: Kind,
        by: &str,
        choice: Choice,
        agreed: u64,
    ) -> u64 {
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
        let (access, letters) = (access.clone(), letters.clone());
        let handle = tokio::runtime::Handle::current();
        // Runs on its own thread, because the code of `dead_letters` cannot move between threads.
        self.tasks.spawn_blocking(move || {
            let state = handle.block_on(run(&access, &letters, &work, choice)).unwrap_or_else(State::Refused);
            letters.forget();
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

async fn run(access: &Arc<Access>, letters: &DeadLetters, work: &Work, choice: Choice) -> Result<State, String> {
    let by_filter = matches!(choice, Choice::Matching(_));
    let names = access.plan.names();
    let queue = if work.kind.is_of_rejected() { &names.rejected } else { &names.failed };
    let (mut selection, mut notes) =
        letters.selection_on(access, queue, choice).await.map_err(|trouble| trouble.words())?;
    let mut excluded = Excluded::default();
    if by_filter && matches!(work.kind, Kind::Replay { .. }) {
        let (by_log, problem) = exclude_delivered(access, &mut selection).await;
        excluded = by_log;
        if excluded.unknown > 0 {
            let why = problem.unwrap_or_else(|| "they are older than the delivery log".to_owned());
            notes.push(format!("{} may have been delivered already: {why}", jobs(excluded.unknown)));
        }
    }
    let count = selection.chosen.len() as u64;
    // The person agreed to a number of jobs, and more may have failed since.
    if count > work.agreed {
        return Err(format!("you agreed to {}, and now {} match: look again", jobs(work.agreed), jobs(count)));
    }
    let publisher = Publisher::start(&access.settings.amqp, work.kind.name(), None, CancellationToken::new());
    let log = delivery_log::start(&access.settings, &access.plan, &publisher, None);
    let done = async {
        let mut link = publisher.link();
        let ready = tokio::time::timeout(CONNECT, link.wait_for(|link| *link == Link::Ready)).await;
        ready.map_err(|_| "the broker takes no messages now".to_owned())?.map_err(|error| error.to_string())?;
        match &work.kind {
            Kind::Replay { rate } => replay(access, letters, work, &selection, &publisher, &log, *rate).await,
            Kind::Discard { because, directory } | Kind::DiscardRejected { because, directory } => {
                let Some(_turn) = letters.turn().await else { return Err(STOPPING.to_owned()) };
                discard(access, work, queue, &selection, &log, (because, directory)).await
            }
            Kind::Requeue { repair } => {
                let Some(_turn) = letters.turn().await else { return Err(STOPPING.to_owned()) };
                requeue(access, work, &selection, &publisher, &log, repair.as_ref()).await
            }
        }
    }
    .await;
    let unwritten = log.close(CLOSING).await;
    publisher.close().await;
    let (lines, problems) = done?;
    notes.extend(problems);
    if unwritten > 0 {
        notes.push(format!("{unwritten} records could not be written to the delivery log"));
    }
    if excluded.delivered > 0 {
        notes.push(format!("{} left: delivered already, by the delivery log", jobs(excluded.delivered)));
    }
    if selection.unreadable > 0 {
        notes.push(format!("{} left: not jobs", messages(selection.unreadable)));
    }
    let state = if notes.is_empty() { State::Done } else { State::Partly };
    Ok(state([lines, notes].concat()))
}

/// Longest time that a paced replay publishes before the pages of the failed queue get their turn.
const HOLDING: Duration = Duration::from_secs(5);

async fn replay(
    access: &Access,
    letters: &DeadLetters,
    work: &Work,
    selection: &Selection,
    publisher: &Publisher,
    log: &DeliveryLog,
    rate: Option<u32>,
) -> Result<(Vec<String>, Vec<String>), String> {
    let names = access.plan.names();
    let amqp = &access.settings.amqp;
    let mut renewer = Renewer::new(amqp, &names.failed);
    let routes = Routes::default();
    let mut replay =
        Replay::new(To { publisher, jobs: &names.jobs, log, by: &work.by, rate, holding: HOLDING, routes: &routes });
    let mut notes = loop {
        let Some(turn) = letters.turn().await else { break vec![STOPPING.to_owned()] };
        let mut browse = match Browse::open(amqp, &names.failed, None, || {}).await {
            Ok(browse) => browse.ending_when_asked(access.interrupt.hold()),
            Err(error) if replay.tally.replayed == 0 => return Err(error.to_string()),
            Err(error) => break vec![error.to_string()],
        };
        let seen = |count| work.seen.store(count, Ordering::Relaxed);
        let done = replay.chosen(selection, &mut browse, &mut renewer, seen).await;
        let stopped = replay.tally.problem.is_some();
        // A replay that stops at a problem leaves the rest of the queue unread on purpose, so no message counts as
        // missed.
        let missed = match done {
            Ok(Ended::Over) if !stopped => notes_about_unseen(&browse),
            _ => Vec::new(),
        };
        let confirmed = replay.confirm_removed(browse).await;
        drop(turn);
        match (done, confirmed) {
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
    more(tally.failed_again, "left: failed again in the meantime");
    more(tally.unreadable, "left: not jobs");
    more(tally.not_published, "left: not confirmed by the broker, but perhaps published");
    more(tally.not_removed, "published, but still on the failed queue");
    let mut lines = vec![format!("{} replayed", jobs(tally.replayed))];
    if tally.copies_removed > 0 {
        lines.push(format!("{} more removed: copies of the same jobs", messages(tally.copies_removed)));
    }
    Ok((lines, notes))
}

async fn discard(
    access: &Access,
    work: &Work,
    queue: &ShortString,
    selection: &Selection,
    log: &DeliveryLog,
    (because, directory): (&str, &std::path::Path),
) -> Result<(Vec<String>, Vec<String>), String> {
    let amqp = &access.settings.amqp;
    let path = directory.join(format!("discarded-{}-{}.jsonl", work.begun.as_millisecond(), work.number));
    let mut renewer = Renewer::new(amqp, queue);
    let browse = Browse::open(amqp, queue, None, || {}).await.map_err(|error| error.to_string())?;
    let mut browse = browse.ending_when_asked(access.interrupt.hold());
    let file = Export::create(&path)
        .map_err(|error| format!("cannot create {}: {}", path.display(), os_error::words(&error)))?;
    let mut removal = Removal::new(file, Doing { log, by: &work.by, because });
    let seen = |count| {
        work.seen.fetch_add(count, Ordering::Relaxed);
    };
    let done = removal.chosen(selection, &mut browse, &mut renewer, seen).await;
    let mut notes = notes_about_unseen(&browse);
    let confirmed = removal.confirm_removed(browse).await;
    renewer.close().await;
    notes.extend(done.err().map(|error| error.to_string()).or(confirmed.err().map(|error| error.to_string())));
    if removal.failed_again > 0 {
        notes.push(format!("{} left: failed again in the meantime", messages(removal.failed_again)));
    }
    let lines = vec![format!("{} discarded, written to {}", messages(removal.messages), path.display())];
    Ok((lines, notes))
}

async fn requeue(
    access: &Access,
    work: &Work,
    selection: &Selection,
    publisher: &Publisher,
    log: &DeliveryLog,
    repair: Option<&Repair>,
) -> Result<(Vec<String>, Vec<String>), String> {
    let names = access.plan.names();
    let (amqp, max_event_bytes) = (&access.settings.amqp, access.settings.delivery.max_event_bytes);
    let mut renewer = Renewer::new(amqp, &names.rejected);
    let browse = Browse::open(amqp, &names.rejected, None, || {}).await.map_err(|error| error.to_string())?;
    let mut browse = browse.ending_when_asked(access.interrupt.hold());
    let to = requeue::To { publisher, events: &names.events, max_event_bytes, repair, log, by: &work.by };
    let mut tally = Requeued::default();
    let done = tally.chosen(to, selection, &mut browse, &mut renewer).await;
    let mut notes = if done.is_ok() { notes_about_unseen(&browse) } else { Vec::new() };
    let confirmed = tally.confirm_removed(browse).await;
    renewer.close().await;
    notes.extend(done.err().or(confirmed.err()).map(|error| error.to_string()));
    notes.extend(tally.problem.as_ref().map(|problem| format!("not published: {problem}")));
    if tally.unusable > 0 {
        let because = tally.unusable_because.as_deref().unwrap_or_default();
        notes.push(format!("{} left: not a usable event: {because}", messages(tally.unusable)));
    }
    if selection.chosen.is_empty() {
        notes.push("the message is no longer on the rejected queue".to_owned());
    }
    Ok((vec![format!("{} put back onto the events queue", messages(tally.requeued))], notes))
}

/// Removes from the selection the jobs that were also delivered. If the log cannot be read, the second value says why.
pub async fn exclude_delivered(access: &Access, selection: &mut Selection) -> (Excluded, Option<String>) {
    let (known, problem) = queue::known(access, &selection.ids(), selection.oldest).await;
    (selection.exclude_delivered(&known, |_| None), problem)
}
