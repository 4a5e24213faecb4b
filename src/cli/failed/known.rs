//! What the delivery log says about jobs that rest on the failed queue.

use std::collections::BTreeSet;

use jiff::Timestamp;

use super::Desk;
use crate::{
    cli::{output::Refusal, readable::progress},
    delivery_log::{Known, LogError},
    desk::survey::Survey,
};

/// What the log knows of these jobs, the oldest of which was first seen at `since`. Where it cannot be read it knows nothing;
/// why not, in words.
pub(super) async fn ask(
    desk: &Desk<'_>,
    ids: &BTreeSet<&str>,
    since: Option<Timestamp>,
    quiet: bool,
) -> (Known, Option<String>) {
    let Some(since) = since.filter(|_| !ids.is_empty()) else { return (Known::default(), None) };
    let bar = progress(u64::MAX, quiet);
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
        Err(error) => (Known::default(), Some(format!("the delivery log cannot be read: {error}"))),
    }
}

/// Leaves in the survey only what was delivered all the same.
///
/// # Errors
/// The log cannot be asked.
pub(super) async fn keep_delivered(desk: &Desk<'_>, survey: &mut Survey, quiet: bool) -> Result<(), Refusal> {
    let (known, problem) = ask(desk, &survey.ids(), survey.oldest, quiet).await;
    if let Some(problem) = problem {
        return Err(Refusal::cannot_start(format!("what was delivered all the same is unknown: {problem}")));
    }
    survey.keep_delivered(&known);
    Ok(())
}
