//! Asks the delivery log about jobs on the failed queue.

use std::collections::BTreeSet;

use jiff::Timestamp;

use crate::{
    cli::{dead_letters::DeadLetters, output::Refusal, readable::progress},
    dead_letters::selection::Selection,
    delivery_log::{Known, LogError},
};

/// Asks the log about these jobs, the oldest of which was first seen at `since`. If the log cannot be read, no job is
/// known, and the second value says why.
pub(super) async fn ask(
    letters: &DeadLetters<'_>,
    ids: &BTreeSet<&str>,
    since: Option<Timestamp>,
    quiet: bool,
) -> (Known, Option<String>) {
    let Some(since) = since.filter(|_| !ids.is_empty()) else { return (Known::default(), None) };
    let bar = progress("reading the delivery log", u64::MAX, quiet);
    let read = Known::read(letters.amqp, &letters.log, ids, since, |progress| {
        if progress.read % 16 == 1 {
            bar.set_length(progress.of);
            bar.set_position(progress.read);
        }
    });
    let read = read.await;
    bar.finish_and_clear();
    match read {
        Ok(known) => (known, None),
        Err(error @ LogError::Missing(_)) => (Known::default(), Some(error.to_string())),
        Err(error) => (Known::default(), Some(format!("cannot read the delivery log: {error}"))),
    }
}

/// Keeps in the selection only jobs that were also delivered: a crash made a copy of them, and the copy failed.
///
/// # Errors
/// The log cannot be read.
pub(super) async fn keep_delivered(
    letters: &DeadLetters<'_>,
    selection: &mut Selection,
    quiet: bool,
) -> Result<(), Refusal> {
    let (known, problem) = ask(letters, &selection.ids(), selection.oldest, quiet).await;
    if let Some(problem) = problem {
        let text = format!("cannot tell which failed jobs were delivered too: {problem}");
        return Err(Refusal::cannot_start(text, "make the delivery log available, or leave out --delivered"));
    }
    selection.keep_delivered(&known);
    Ok(())
}
