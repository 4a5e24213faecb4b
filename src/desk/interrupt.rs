//! Ctrl-C, SIGTERM, or the end of a console, while messages are held.
//!
//! A process that dies while it holds part of the queue gives that part back behind the rest: nothing is lost, and the order
//! is another one. So whoever is asked to end while a visit lasts ends the visit first. A command that is asked twice, or while
//! nothing is held, ends at once.

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::{
    sync::CancellationToken,
    task::{TaskTracker, task_tracker::TaskTrackerToken},
};

/// Exit code of a process that is ended at once, as shells give it: 128 and the number of SIGINT.
pub const ENDED: i32 = 130;

/// Whether somebody asked for the end, and who still holds something.
#[derive(Clone, Default)]
pub struct Interrupt {
    asked: CancellationToken,
    held: TaskTracker,
}

/// Messages are held as long as this lives.
pub struct Holding {
    asked: CancellationToken,
    _held: TaskTrackerToken,
}

impl Interrupt {
    /// For a command: listens to SIGINT and SIGTERM from now on. Needs a tokio runtime.
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

    /// For a process that has an end of its own, which is then waited for with [`Interrupt::released`].
    pub fn at(asked: CancellationToken) -> Interrupt {
        Interrupt { asked, held: TaskTracker::new() }
    }

    /// From now on messages are held.
    pub fn hold(&self) -> Holding {
        Holding { asked: self.asked.clone(), _held: self.held.token() }
    }

    /// Waits until nobody holds anything, or will.
    pub async fn released(&self) {
        self.held.close();
        self.held.wait().await;
    }
}

impl Holding {
    /// Whether the visit must end.
    pub fn is_over(&self) -> bool {
        self.asked.is_cancelled()
    }

    /// Waits until it must.
    pub async fn over(&self) {
        self.asked.cancelled().await;
    }
}
