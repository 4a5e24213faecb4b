//! Shows the differences that a repair makes, before a person agrees to it.

use std::{collections::BTreeMap, fmt::Write};

use lapin::types::ShortString;
use serde::Serialize;

use crate::{
    cli::{explain::why_misplaced, output, readable::messages},
    dead_letters::{
        browse::Held,
        repair::{Change, Repair},
        requeue::{Prepared, prepare},
    },
    settings::Settings,
    store::{self, Store},
};

/// Most messages whose values are shown.
const SHOWN: usize = 20;

/// Collects the differences.
pub(super) struct Preview<'a> {
    repair: &'a Repair,
    show_data: bool,
    max_event_bytes: usize,
    /// `None` if it cannot be read. The workers' store decides in any case.
    store: Option<Store>,
    answer: Answer,
}

/// The differences of all messages.
#[derive(Default, Serialize)]
pub(super) struct Answer {
    /// Messages with the same differences.
    changes: BTreeMap<String, Group>,
    /// Messages that would still not be usable events, by reason.
    unusable: BTreeMap<String, Group>,
    /// Messages that the workers would reject again, according to the webhook configuration files of this machine.
    rejected_again: BTreeMap<String, Group>,
    /// The first messages with their values, if the user asked for them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    shown: Vec<Shown>,
}

/// Messages that have something in common.
#[derive(Default, Serialize)]
struct Group {
    messages: u64,
    example: String,
}

/// One message with its values.
#[derive(Serialize)]
struct Shown {
    id: String,
    changes: Vec<Change>,
}

fn count(groups: &mut BTreeMap<String, Group>, what: String, id: &str) {
    let group = groups.entry(what).or_insert_with(|| Group { messages: 0, example: id.to_owned() });
    group.messages += 1;
}

impl Preview<'_> {
    /// Creates an empty preview. Reads the webhook store, and prints a note if that fails.
    pub(super) fn new<'a>(repair: &'a Repair, show_data: bool, settings: &Settings) -> Preview<'a> {
        let store = store::load(&settings.store.path, &settings.secrets).ok();
        if store.is_none() {
            let path = settings.store.path.display();
            output::note(&format!("the webhook store cannot be read, so campaigns are not looked up: {path}"));
        }
        let max_event_bytes = settings.delivery.max_event_bytes;
        Preview { repair, show_data, max_event_bytes, store, answer: Answer::default() }
    }

    /// Adds a chosen message.
    pub(super) fn add(&mut self, held: &Held, events: &ShortString) {
        let id = held.record.key();
        match prepare(held, events, self.max_event_bytes, Some(self.repair)) {
            Ok(prepared) => self.add_prepared(id, prepared),
            Err(why) => count(&mut self.answer.unusable, why, id),
        }
    }

    fn add_prepared(&mut self, id: &str, Prepared { event, changes, .. }: Prepared) {
        let names: Vec<_> = changes.iter().map(|change| format!("{} {}", change.field, change.how)).collect();
        let names = if names.is_empty() { "no difference".to_owned() } else { names.join(", ") };
        count(&mut self.answer.changes, names, id);
        let placed = self.store.as_ref().map(|store| store.place(&event.campaign, event.organization.as_deref()));
        if let Some(Err(misplaced)) = placed {
            count(&mut self.answer.rejected_again, why_misplaced(misplaced).to_owned(), id);
        }
        if self.show_data && self.answer.shown.len() < SHOWN {
            self.answer.shown.push(Shown { id: id.to_owned(), changes });
        }
    }

    /// Returns the number of messages that would be put back.
    pub(super) fn usable(&self) -> u64 {
        self.answer.changes.values().map(|group| group.messages).sum()
    }

    /// Returns the number of messages that would be left.
    pub(super) fn unusable(&self) -> u64 {
        self.answer.unusable.values().map(|group| group.messages).sum()
    }

    /// Returns the differences, for `--json`.
    pub(super) fn into_answer(self) -> Answer {
        self.answer
    }

    /// Formats the differences for people.
    pub(super) fn text(&self) -> String {
        let Answer { changes, unusable, rejected_again, shown } = &self.answer;
        let mut text = String::new();
        let mut line = |text_of: String| {
            let _ = writeln!(text, "{text_of}");
        };
        for (names, Group { messages: count, example }) in changes {
            line(format!(
                "{}: {} (such as {})",
                messages(*count),
                output::printable(names),
                output::printable(example)
            ));
        }
        for (why, Group { messages: count, example }) in unusable {
            let why = output::printable(why);
            line(format!("{} still not usable: {why} (such as {})", messages(*count), output::printable(example)));
        }
        for (why, Group { messages: count, example }) in rejected_again {
            line(format!(
                "warning: {} would be rejected again: {why} (such as {})",
                messages(*count),
                output::printable(example)
            ));
        }
        for Shown { id, changes } in shown {
            line(format!("\n{}", output::printable(id)));
            for Change { field, how, was, now } in changes {
                line(format!("  {} {how}", output::printable(field)));
                for (sign, value) in [("-", was), ("+", now)] {
                    if let Some(value) = value {
                        line(format!("    {sign} {}", output::printable(value)));
                    }
                }
            }
        }
        text.trim_end().to_owned()
    }
}
