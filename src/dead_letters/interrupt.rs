//! Handles Ctrl-C, SIGTERM, or the end of a console, while messages are held.
//!
//! A process that dies while it holds part of the queue loses nothing, but that part goes back behind the rest. So a
//! process that is asked to end first ends its browse. A command that is asked twice, or while it holds nothing, ends at
//! once.

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::{
    sync::CancellationToken,
    task::{TaskTracker, task_tracker::TaskTrackerToken},
};

/// Exit code of a process that ends at once: 128 plus the number of SIGINT, as shells report it.
pub const ENDED: i32 = 130;

/// Whether the end was requested, and whether messages are held.
#[derive(Clone, Default)]
pub struct Interrupt {
    asked: CancellationToken,
    held: TaskTracker,
}

/// Marks messages as held while it lives.
pub struct Holding {
    asked: CancellationToken,
    _held: TaskTrackerToken,
}

impl Interrupt {
    /// Listens to SIGINT and SIGTERM from now on, for a command. Needs a tokio runtime.
    ///
    /// # Errors
    /// The process cannot listen to signals.
    pub fn listen() -> std::io::Result<Interrupt> {
        let interrupt = Interrupt::default();
        let (mut int, mut term) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
        let heard = interrupt.clone();
        tokio::spawn(async move {
            loop {
                tokio::select! { _ = int.recv() => {}, _ = term.recv() => {} }
                if heard.asked.is_cancelled() || heard.held.is_empty() {
                    std::process::exit(ENDED);
                }
                heard.asked.cancel();
            }
        });
        Ok(interrupt)
    }

    /// Creates an interrupt that `asked` triggers, for a process with its own shutdown. That process waits with
    /// [`Interrupt::released`].
    pub fn at(asked: CancellationToken) -> Interrupt {
        Interrupt { asked, held: TaskTracker::new() }
    }

    /// Marks messages as held while the returned value lives.
    pub fn hold(&self) -> Holding {
        Holding { asked: self.asked.clone(), _held: self.held.token() }
    }

    /// Waits until no messages are held.
    pub async fn released(&self) {
        self.held.close();
        self.held.wait().await;
    }
}

impl Holding {
    /// Returns whether the browse must end.
    pub fn is_interrupted(&self) -> bool {
        self.asked.is_cancelled()
    }

    /// Waits until the browse must end.
    pub async fn interrupted(&self) {
        self.asked.cancelled().await;
    }
}
