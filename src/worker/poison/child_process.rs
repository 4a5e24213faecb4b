//! One child process as its worker sees it: starts it, asks it, and notices its death. [`super::child`] is its inside.

use std::{
    borrow::Cow,
    collections::HashMap,
    ffi::OsString,
    path::Path,
    process::{ExitStatus, Stdio},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines},
    process::{ChildStdin, ChildStdout, Command},
    sync::{Notify, Semaphore, mpsc, oneshot},
};
use tracing::{debug, warn};

use super::child::{Answer, Message, READY, Request, Work};
use crate::{delivery::exchange::Exchange, metrics::Metrics, os_error};

/// Most suspects in one child at a time. The others wait outside, as messages that were not started.
const SEATS: usize = 64;

/// Longest start of a child.
const STARTING: Duration = Duration::from_secs(20);

/// Longest rehearsal. It waits for nothing, and takes milliseconds.
const REHEARSING: Duration = Duration::from_secs(10);

/// How much longer than its target's timeout an attempt may take.
const BEYOND_TIMEOUT: Duration = Duration::from_secs(5);

/// Most suspects that the log line about a death names; the others are counted.
const NAMED: usize = 5;

/// How to start a child.
#[derive(Clone, Debug, Default)]
pub struct Recipe {
    /// Arguments for the program that this process runs.
    pub arguments: Vec<OsString>,
}

/// The death of a child with a suspect in it.
#[derive(Clone, Debug)]
pub(crate) struct Died {
    /// How it died, in words.
    pub(crate) how: Arc<str>,
    /// Whether a message can be the cause. If not, the child was killed from outside.
    pub(crate) by_message: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Shared,
    Alone,
}

impl Kind {
    fn label(self) -> &'static str {
        match self {
            Kind::Shared => "shared",
            Kind::Alone => "alone",
        }
    }
}

/// A child process. It ends when this is dropped.
pub(crate) struct Child {
    /// Revision of the webhook store when it was started: it reads the store once.
    revision: String,
    seats: Arc<Semaphore>,
    requests: mpsc::UnboundedSender<String>,
    next: AtomicU64,
    state: Arc<State>,
}

struct State {
    asked: Mutex<Result<HashMap<u64, Asked>, Died>>,
    /// Notified when a request has taken too long.
    hangs: Notify,
}

/// A request without an answer yet.
struct Asked {
    id: String,
    answer: oneshot::Sender<Answer>,
}

impl State {
    fn asked(&self) -> MutexGuard<'_, Result<HashMap<u64, Asked>, Died>> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn answer(&self, line: &str) -> Option<()> {
        let (number, answer) = line.split_once(' ')?;
        let (number, answer) = (number.parse().ok()?, serde_json::from_str(answer).ok()?);
        let asked = self.asked().as_mut().ok()?.remove(&number)?;
        // The task that asked may have ended.
        let _ = asked.answer.send(answer);
        Some(())
    }
}

impl Child {
    /// Returns the revision of the webhook store that it was started with.
    pub(crate) fn revision(&self) -> &str {
        &self.revision
    }

    /// Returns its free seats.
    pub(crate) fn seats(&self) -> Arc<Semaphore> {
        self.seats.clone()
    }

    pub(crate) fn is_alive(&self) -> bool {
        self.state.asked().is_ok()
    }

    /// Asks the child to rehearse a message; `id` names it in the log.
    pub(crate) async fn rehearse(&self, work: Work, message: &Message, id: &str) -> Result<(), Died> {
        self.ask(work, message, id, REHEARSING).await.map(drop)
    }

    /// Asks the child to make the next attempt of a job. Returns `None` if the child does not know the target.
    pub(crate) async fn attempt(
        &self,
        message: &Message,
        id: &str,
        timeout: Duration,
    ) -> Result<Option<Exchange>, Died> {
        match self.ask(Work::Attempt(timeout), message, id, timeout + BEYOND_TIMEOUT).await? {
            Answer::Exchange(exchange) => Ok(Some(exchange)),
            Answer::Survived | Answer::NoTarget => Ok(None),
        }
    }

    async fn ask(&self, work: Work, message: &Message, id: &str, patience: Duration) -> Result<Answer, Died> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let request = serde_json::to_string(&Request { work, message: Cow::Borrowed(message) }).unwrap_or_default();
        let (sender, answer) = oneshot::channel();
        match &mut *self.state.asked() {
            Ok(asked) => asked.insert(number, Asked { id: id.to_owned(), answer: sender }),
            Err(died) => return Err(died.clone()),
        };
        // If this fails, the child is dead and the answer says so.
        let _ = self.requests.send(format!("{number} {request}\n"));
        let mut answer = std::pin::pin!(answer);
        let answer = match tokio::time::timeout(patience, &mut answer).await {
            Ok(answer) => answer,
            Err(_) => {
                self.state.hangs.notify_one();
                answer.await
            }
        };
        match answer {
            Ok(answer) => Ok(answer),
            // The sender is dropped only after the death has been noted.
            Err(_) => Err(self
                .state
                .asked()
                .as_ref()
                .err()
                .cloned()
                .unwrap_or_else(|| Died { how: "it ended".into(), by_message: false })),
        }
    }
}

/// Starts a child. An error says in words why it did not start, which is never the fault of a message.
pub(crate) async fn start(
    recipe: &Recipe,
    kind: Kind,
    revision: &str,
    metrics: &Arc<Metrics>,
) -> Result<Child, String> {
    let mut command = Command::new(program());
    command.arg0("leadhook").args(&recipe.arguments);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true);
    let mut process = command.spawn().map_err(|error| os_error::words(&error))?;
    let (Some(stdin), Some(stdout)) = (process.stdin.take(), process.stdout.take()) else {
        return Err("it has no standard input and output".into());
    };
    let mut lines = BufReader::new(stdout).lines();
    match tokio::time::timeout(STARTING, lines.next_line()).await {
        Ok(Ok(Some(line))) if line == READY => {}
        Ok(_) => {
            let status = tokio::time::timeout(Duration::from_secs(1), process.wait()).await;
            let status = status.ok().and_then(Result::ok).map_or("it does not work".into(), how);
            return Err(format!("{status} before it was ready; its own lines say why"));
        }
        Err(_) => return Err(format!("it was not ready within {} s", STARTING.as_secs())),
    }
    let (requests, sent) = mpsc::unbounded_channel();
    let state = Arc::new(State { asked: Mutex::new(Ok(HashMap::new())), hangs: Notify::new() });
    tokio::spawn(write(stdin, sent));
    tokio::spawn(supervise(process, lines, state.clone(), kind, metrics.clone()));
    let seats = Arc::new(Semaphore::new(SEATS));
    Ok(Child { revision: revision.to_owned(), seats, requests, next: AtomicU64::new(1), state })
}

/// Returns the program of this process, even if an upgrade has replaced it on disk.
fn program() -> std::path::PathBuf {
    let own = Path::new("/proc/self/exe");
    match own.exists() {
        true => own.to_owned(),
        false => std::env::current_exe().unwrap_or_else(|_| "leadhook".into()),
    }
}

/// Sends requests until the child is dropped, which closes its standard input, or dies.
async fn write(mut stdin: ChildStdin, mut requests: mpsc::UnboundedReceiver<String>) {
    while let Some(request) = requests.recv().await {
        if stdin.write_all(request.as_bytes()).await.is_err() {
            return;
        }
    }
}

/// Passes answers on until the child ends, and logs a death.
async fn supervise(
    mut process: tokio::process::Child,
    mut lines: Lines<BufReader<ChildStdout>>,
    state: Arc<State>,
    kind: Kind,
    metrics: Arc<Metrics>,
) {
    let mut hung = false;
    loop {
        tokio::select! {
            line = lines.next_line() => match line {
                Ok(Some(line)) if state.answer(&line).is_some() => {}
                Ok(Some(_)) => debug!("a child process said something unexpected"),
                Ok(None) | Err(_) => break,
            },
            () = state.hangs.notified() => {
                hung = true;
                break;
            }
        }
    }
    let status = match hung {
        true => None,
        // Its standard output ends a moment before the process does.
        false => tokio::time::timeout(Duration::from_secs(1), process.wait()).await.ok().and_then(Result::ok),
    };
    let how: Arc<str> = match status {
        Some(status) => how(status).into(),
        None => {
            let _ = process.kill().await;
            "it did not answer in time and was killed".into()
        }
    };
    let died = Died { how: how.clone(), by_message: status.is_none_or(can_be_a_messages_doing) };
    let asked = std::mem::replace(&mut *state.asked(), Err(died)).unwrap_or_default();
    if asked.is_empty() && status.is_some_and(|status| status.success()) {
        return;
    }
    metrics.child_died(kind.label());
    let suspects = asked.len();
    let ids: Vec<_> = asked.values().take(NAMED).map(|asked| asked.id.as_str()).collect();
    warn!(child = kind.label(), suspects, webhook_ids = ids.join(" "), status = %how, "a child process died");
    // Dropped only now, so that the waiting tasks find the death noted.
    drop(asked);
}

/// Returns whether a message can have ended a process like this: by an exit, or by a signal that a process raises
/// itself. A process that takes too much memory is ended by its own limit (SIGABRT). All other signals come from
/// outside. So does the SIGKILL of a kernel without memory, which chooses a child, whichever process took the memory.
fn can_be_a_messages_doing(status: ExitStatus) -> bool {
    use std::os::unix::process::ExitStatusExt;

    use rustix::process::Signal;
    const OWN: [Signal; 7] =
        [Signal::ABORT, Signal::SEGV, Signal::BUS, Signal::ILL, Signal::FPE, Signal::TRAP, Signal::SYS];
    status.signal().is_none_or(|signal| OWN.iter().any(|own| own.as_raw() == signal))
}

/// Returns how a process ended, in words.
fn how(status: ExitStatus) -> String {
    use std::os::unix::process::ExitStatusExt;
    match (status.signal(), status.code()) {
        (Some(signal), _) => format!("it was ended by signal {signal}"),
        (None, Some(code)) => format!("it exited with code {code}"),
        (None, None) => "it ended".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt;

    use super::*;

    #[test]
    fn a_kill_from_outside_is_not_the_doing_of_a_message() {
        // A raw status is the number of the signal, or has the exit code in its second byte.
        for own in [4, 6, 7, 8, 11, 0, 101 << 8] {
            assert!(can_be_a_messages_doing(ExitStatus::from_raw(own)), "{own}");
        }
        for outside in [1, 2, 3, 9, 15] {
            assert!(!can_be_a_messages_doing(ExitStatus::from_raw(outside)), "{outside}");
        }
    }
}
