//! The failed, rejected and unreadable queue as the commands see them: browsing with a progress bar, selecting, notes.

use std::time::Duration;

use lapin::types::ShortString;

use super::{
    arguments::explain_nothing,
    output::{self, Exit, Refusal},
    readable::{counted, messages, progress, thousands},
};
use crate::{
    broker::{publisher::Publisher, topology::Plan},
    dead_letters::{
        browse::{Browse, Guard, Held},
        browse_error::BrowseError,
        filter::Filter,
        given_ids::Resolved,
        interrupt::Interrupt,
        record::Record,
        renew::{Renewer, look},
        selection::{Choice, Selection, Selector},
    },
    delivery::ladder::Ladder,
    delivery_log::{self, DeliveryLog},
    os_error,
    settings::{Amqp, Settings},
};

/// Longest wait for the delivery log to record the actions of this command.
const CLOSING: Duration = Duration::from_secs(10);

/// The failed, rejected or unreadable queue, for the commands that work on it.
pub(super) struct DeadLetters<'a> {
    pub amqp: &'a Amqp,
    pub queue: ShortString,
    /// The name of the queue in messages.
    pub called: &'static str,
    pub jobs: ShortString,
    /// The stream of the delivery log.
    pub log: ShortString,
    pub settings: &'a Settings,
    pub plan: Plan,
    pub interrupt: Interrupt,
}

impl DeadLetters<'_> {
    pub fn of(settings: &Settings) -> Result<DeadLetters<'_>, Refusal> {
        let plan = Plan::new(&settings.amqp, &Ladder::for_backoff(&settings.backoff));
        let names = plan.names();
        let (queue, jobs, log) = (names.failed.clone(), names.jobs.clone(), names.log.clone());
        let interrupt = Interrupt::listen();
        let interrupt = interrupt.map_err(|error| {
            let text = format!("cannot listen for signals: {}", os_error::words(&error));
            Refusal::cannot_start(text, "raise the limits of this process")
        })?;
        Ok(DeadLetters { amqp: &settings.amqp, queue, called: "failed queue", jobs, log, settings, plan, interrupt })
    }

    /// Returns whether this is a queue of messages that are not jobs.
    pub fn has_no_jobs(&self) -> bool {
        self.queue != self.plan.names().failed
    }

    pub fn of_rejected(settings: &Settings) -> Result<DeadLetters<'_>, Refusal> {
        let letters = DeadLetters::of(settings)?;
        Ok(DeadLetters { queue: letters.plan.names().rejected.clone(), called: "rejected queue", ..letters })
    }

    pub fn of_unreadable(settings: &Settings) -> Result<DeadLetters<'_>, Refusal> {
        let letters = DeadLetters::of(settings)?;
        Ok(DeadLetters { queue: letters.plan.names().unreadable.clone(), called: "unreadable queue", ..letters })
    }

    pub async fn browse(&self, at_most: Option<u64>) -> Result<Browse, Refusal> {
        let queue = self.called;
        let waiting = || output::note(&format!("another leadhook command or console is reading the {queue}; waiting"));
        let browse = Browse::open(self.amqp, &self.queue, at_most, waiting).await.map_err(refusal)?;
        Ok(browse.ending_when_asked(self.interrupt.hold()))
    }

    /// Shows every message of the queue to `see`, and gives them all back.
    pub async fn look(&self, quiet: bool, see: impl FnMut(&Held)) -> Result<Seen, Refusal> {
        let mut browse = self.browse(None).await?;
        let bar = progress("reading", browse.expected(), quiet);
        let mut renewer = Renewer::new(self.amqp, &self.queue);
        let looked = look(&mut browse, &mut renewer, see, |count| bar.inc(count)).await;
        bar.finish_and_clear();
        renewer.close().await;
        if let Err(error) = looked {
            browse.leave().await;
            return Err(refusal(error));
        }
        warn_about_limits(self, &browse, &renewer);
        let seen = Seen { present: browse.present(), notes: notes_about_unseen(&browse) };
        browse.leave().await;
        Ok(seen)
    }

    /// Returns the messages that a choice means now, with notes about messages that it may have missed. With `raw` a
    /// filter also matches messages that are not jobs.
    pub async fn selection(&self, choice: Choice, raw: bool, quiet: bool) -> Result<(Selection, Vec<String>), Refusal> {
        self.selection_seeing(choice, raw, quiet, |_| {}).await
    }

    /// Works like `selection`, and also shows every message to `see`.
    pub async fn selection_seeing(
        &self,
        choice: Choice,
        raw: bool,
        quiet: bool,
        mut see: impl FnMut(&Record),
    ) -> Result<(Selection, Vec<String>), Refusal> {
        let filter = match &choice {
            Choice::Matching(filter) => filter.clone(),
            Choice::Named(_) => Filter::default(),
        };
        let mut selector = Selector::new(choice).with_raw(raw);
        let look = self.look(quiet, |held| {
            selector.add(&held.record);
            see(&held.record);
        });
        let seen = look.await?;
        let selection = selector.finish();
        if selection.chosen.is_empty() {
            let Filter { organization, campaign, target, .. } = &filter;
            explain_nothing(self.settings, organization.as_deref(), campaign.as_deref(), target.as_deref());
        }
        match ambiguous(&selection.resolved) {
            Some(refusal) => Err(refusal),
            None => Ok((selection, seen.notes)),
        }
    }

    /// Starts the delivery log on the connection of `publisher`, to record the actions of people.
    pub fn delivery_log(&self, publisher: &Publisher) -> DeliveryLog {
        delivery_log::start(self.settings, &self.plan, publisher, None)
    }
}

/// Closes the log of this command's actions. Returns a note if some of them were not recorded.
pub(super) async fn close_log(log: DeliveryLog) -> Option<String> {
    let unwritten = log.close(CLOSING).await;
    let records = counted(unwritten, "record", "records");
    (unwritten > 0).then(|| format!("{records} could not be written to the delivery log: it does not say who did this"))
}

/// The result of a look at a queue.
pub(super) struct Seen {
    /// Messages on the queue.
    pub present: u64,
    /// Notes about messages that the look may have missed; empty if it saw all.
    pub notes: Vec<String>,
}

fn refusal(error: BrowseError) -> Refusal {
    let exit = if matches!(error, BrowseError::Interrupted) { Exit::Findings } else { Exit::CannotStart };
    Refusal { exit, text: error.to_string(), help: error.help().to_owned() }
}

/// Returns notes about messages that a browse may have missed; empty if it saw all.
pub(crate) fn notes_about_unseen(browse: &Browse) -> Vec<String> {
    let mut notes = Vec::new();
    if browse.missing() > 0 {
        let (missing, were) = (thousands(browse.missing()), if browse.missing() == 1 { "is" } else { "are" });
        notes.push(format!(
            "{missing} of {} {were} held by another reader, and not seen here",
            messages(browse.expected())
        ));
    } else if browse.others() {
        notes.push("another program reads the queue too; the messages that it holds are not seen here".to_owned());
    }
    if browse.expected() < browse.present() {
        notes.push(format!(
            "only the first {} of {} were read",
            thousands(browse.expected()),
            messages(browse.present())
        ));
    }
    notes
}

/// Warns about problems that do not change the exit code.
pub(super) fn warn_about_limits(letters: &DeadLetters<'_>, browse: &Browse, renewer: &Renewer<'_>) {
    if browse.guard() == Guard::Unlocked {
        output::warn(&format!(
            "the user of amqp.urls may not declare the lock \"{}.browse\" (configure permission): \
             two people who look at the same time may see half of the list each",
            letters.amqp.prefix
        ));
    }
    if let Some(problem) = &renewer.problem {
        output::warn(&format!(
            "a message that was looked at over 10,000 times could not be published again: {problem}"
        ));
    }
}

/// Returns a refusal if a beginning fits several ids. It names these ids.
pub(super) fn ambiguous(resolved: &Resolved) -> Option<Refusal> {
    let said: Vec<_> = resolved
        .ambiguous
        .iter()
        .map(|(said, ids)| format!("\"{}\" fits several messages: {}", output::printable(said), ids.join(", ")))
        .collect();
    (!said.is_empty()).then(|| Refusal::usage(said.join("; "), "write more of the id"))
}

/// Creates the refusal of an id that is too short.
pub(super) fn too_short(why: String) -> Refusal {
    Refusal::usage(why, "write more of the id")
}
