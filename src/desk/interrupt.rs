//! Ctrl-C, or SIGTERM, while messages are held.
//!
//! A process that dies while it holds part of the queue gives that part back behind the rest: nothing is lost, and the order
//! is another one. So whoever is asked to end while a visit lasts ends the visit first. Asked twice, or while nothing is
//! held, the process ends at once.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// Exit code of a process that is ended at once, as shells give it: 128 and the number of SIGINT.
const ENDED: i32 = 130;

/// Whether somebody asked for the end.
#[derive(Clone, Default)]
pub struct Interrupt {
    asked: CancellationToken,
    held: Arc<AtomicUsize>,
}

/// Messages are held as long as this lives.
pub struct Holding(Interrupt);

impl Interrupt {
    /// Listens from now on. Needs a tokio runtime.
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
                if heard.asked.is_cancelled() || heard.held.load(Ordering::SeqCst) == 0 {
                    std::process::exit(ENDED);
                }
                heard.asked.cancel();
            }
        });
        Ok(interrupt)
    }

    /// From now on messages are held.
    pub fn hold(&self) -> Holding {
        self.held.fetch_add(1, Ordering::SeqCst);
        Holding(self.clone())
    }
}

impl Holding {
    /// Whether the visit must end.
    pub fn is_over(&self) -> bool {
        self.0.asked.is_cancelled()
    }
}

impl Drop for Holding {
    fn drop(&mut self) {
        self.0.held.fetch_sub(1, Ordering::SeqCst);
    }
}
