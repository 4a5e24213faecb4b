//! Asks the delivery log about jobs on the failed queue.

use std::collections::BTreeSet;

use jiff::Timestamp;

use super::Desk;
use crate::{
    cli::{output::Refusal, readable::progress},
    delivery_log::{Known, LogError},
    desk::survey::Survey,
};

/// Asks the log about these jobs, the oldest of which was first seen at `since`. If the log cannot be read, no job is
/// known, and the second value says why.
pub(super) async fn ask(
    desk: &Desk<'_>,
    ids: &BTreeSet<&str>,
    since: Option<Timestamp>,
    quiet: bool,
) -> (Known, Option<String>) {
    let Some(since) = since.filter(|_| !ids.is_empty()) else { return (Known::default(), None) };
    let bar = progress("reading the delivery log", u64::MAX, quiet);
    let read = Known::read(desk.amqp, &desk.log, ids, since, |progress| {
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

/// Keeps in the survey only jobs that were also delivered: a crash made a copy of them, and the copy failed.
///
/// # Errors
/// The log cannot be read.
pub(super) async fn keep_delivered(desk: &Desk<'_>, survey: &mut Survey, quiet: bool) -> Result<(), Refusal> {
    let (known, problem) = ask(desk, &survey.ids(), survey.oldest, quiet).await;
    if let Some(problem) = problem {
        let text = format!("cannot tell which failed jobs were delivered too: {problem}");
        return Err(Refusal::cannot_start(text, "make the delivery log available, or leave out --delivered"));
    }
    survey.keep_delivered(&known);
    Ok(())
}
