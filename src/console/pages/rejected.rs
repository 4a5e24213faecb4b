//! Shows the rejected messages by cause, one of them, and the differences that its repair would make.

use std::path::Path;

use maud::{Markup, html};

use super::{Frame, Tab, notes, or_dash, when};
use crate::{
    cli::{
        explain::why_misplaced,
        readable::{messages, thousands},
    },
    console::{
        mask,
        query::{Query, segment},
        queue::{Found, Rejected},
    },
    dead_letters::repair::Change,
    event::FIELDS,
    store::Misplaced,
};

/// Returns the address of a message.
pub fn address(id: &str) -> String {
    format!("/rejected/{}", segment(id))
}

/// The fields of the form that repairs or discards a message.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Form {
    /// `requeue` or `discard`.
    pub action: String,
    /// The name of the field to change; empty for none.
    pub field: String,
    /// `text`, `json` or `remove`.
    pub how: String,
    /// The new value.
    pub value: String,
    /// The organization to name; empty for none.
    pub organization: String,
}

/// The result of a repair.
pub enum Difference {
    /// The message would still not be a usable event, for this reason.
    Unusable(String),
    /// The message would be a usable event.
    Usable {
        /// The differences; their values are not shown.
        changes: Vec<Change>,
        /// Why the store would not place the event.
        misplaced: Option<Misplaced>,
    },
}

/// A repair or a discard before it starts.
pub struct Preview<'a> {
    /// The message.
    pub id: &'a str,
    /// The form.
    pub form: &'a Form,
    /// The result of the repair; `None` for a discard.
    pub difference: Option<Difference>,
    /// The directory for files of discarded messages.
    pub directory: Option<&'a Path>,
}

/// Most messages of one cause that are listed.
pub const LISTED: usize = 100;

/// Builds the page of all causes, with the messages of one of them.
pub fn list(frame: &Frame, query: &Query, rejected: &Rejected) -> Markup {
    let content = html! {
        (notes(&rejected.notes))
        p role="status" {
            @if rejected.causes.is_empty() { "The rejected queue is empty." }
            @else { strong { (messages(rejected.present)) } " that are not usable events. Fix the publisher or the store first." }
        }
        @if !rejected.causes.is_empty() { (causes(frame, rejected)) }
        @if query.get("reason").is_some() { (listed(frame, rejected)) }
    };
    frame.page(Tab::Rejected, "Rejected messages", false, &content)
}

fn causes(frame: &Frame, rejected: &Rejected) -> Markup {
    html! {
        div.scroll tabindex="0" role="region" aria-label="Causes" {
            table {
                caption { "Rejected messages by cause, the most first" }
                thead { tr {
                    th.number scope="col" { "messages" } th scope="col" { "reason" } th scope="col" { "detail" } th scope="col" { "first" }
                    th scope="col" { "last" } th scope="col" { "what to do" }
                } }
                tbody {
                    @for cause in &rejected.causes {
                        @let link = Query::default().with(&[("reason", Some(&cause.reason)), ("detail", cause.detail.as_deref())]);
                        tr {
                            td.number { (thousands(cause.messages)) }
                            th scope="row" { a href={ "/rejected" (link.text()) } { (cause.reason) } }
                            td { (or_dash(cause.detail.as_deref())) }
                            td.nowrap { (when(cause.first, frame.now)) } td.nowrap { (when(cause.last, frame.now)) } td { (cause.meaning) }
                        }
                    }
                }
            }
        }
    }
}

fn listed(frame: &Frame, rejected: &Rejected) -> Markup {
    html! {
        h2 { "Messages of this cause" }
        div.scroll tabindex="0" role="region" aria-label="Messages of this cause" {
            table {
                caption { "The longest rejected first" }
                thead { tr { th scope="col" { "id" } th.number scope="col" { "bytes" } th scope="col" { "detail" } th scope="col" { "rejected" } } }
                tbody {
                    @for line in &rejected.lines {
                        tr {
                            td { a.id href=(address(&line.id)) { (line.id) } } td.number { (line.bytes) }
                            td { (or_dash(line.detail.as_deref())) } td.nowrap { (when(line.failed_at, frame.now)) }
                        }
                    }
                }
            }
        }
        @if rejected.lines.len() == LISTED { p.quiet { "The first " (LISTED) "; leadhook rejected list shows all." } }
    }
}

/// Builds the page of one message. `revealed` shows its data. A payload of more than `largest` bytes is not shown.
pub fn message(frame: &Frame, id: &str, found: &Found, largest: usize, revealed: bool) -> Markup {
    let record = &found.record;
    let copies = (found.copies > 1)
        .then(|| format!("{} messages have this id; the action applies to all of them.", found.copies));
    let content = html! {
        p.lead-in { span.id { (id) } }
        (notes(&copies.into_iter().collect::<Vec<_>>()))
        div.note.bad {
            p { strong { (record.reason.label()) } }
            p { (record.reason.meaning()) }
            @if let Some(detail) = &record.detail { p.quiet { (detail) } }
        }
        dl.facts { dt { "rejected" } dd { (when(record.failed_at, frame.now)) } }
        (payload(frame, id, found, largest, revealed))
        @if frame.acts() { (repair(frame, id)) }
    };
    frame.page(Tab::Rejected, "Rejected message", false, &content)
}

fn payload(frame: &Frame, id: &str, found: &Found, largest: usize, revealed: bool) -> Markup {
    html! {
        h2 { "Payload" }
        @if found.body.len() > largest {
            p { (thousands(found.body.len() as u64)) " bytes are too large to be shown here: use " code { "leadhook rejected export" } "." }
        } @else if revealed {
            div.note.warn role="status" { p { "This may be the data of a lead. Your name has been logged." } }
            pre tabindex="0" aria-label="Payload" { (mask::shown(&found.body)) }
        } @else {
            pre tabindex="0" aria-label="Payload, masked" { (mask::masked(&found.body)) }
            @if frame.acts() {
                form method="post" action={ (address(id)) "/reveal" } {
                    (frame.proof())
                    button.plain { "Show the data" }
                    span.quiet { " Your name will be logged." }
                }
            } @else { p.quiet { "The data needs the role act." } }
        }
    }
}

fn repair(frame: &Frame, id: &str) -> Markup {
    html! {
        h2 { "Repair" }
        form.filters method="post" action={ (address(id)) "/preview" } {
            (frame.proof())
            div.field {
                label for="field" { "Field" }
                input id="field" name="field" list="fields" placeholder="none" autocomplete="off" spellcheck="false";
                datalist id="fields" { @for name in FIELDS { option value=(name) {} } }
            }
            div.field {
                label for="how" { "Change" }
                select id="how" name="how" {
                    option value="text" { "set to a text" }
                    option value="json" { "set to JSON" }
                    option value="remove" { "remove" }
                }
            }
            div.field { label for="value" { "Value" } input id="value" name="value" autocomplete="off" spellcheck="false"; }
            div.field {
                label for="organization" { "Organization" }
                input id="organization" name="organization" placeholder="as it is" autocomplete="off" spellcheck="false";
            }
            button name="action" value="requeue" { "Put back …" }
            button.plain name="action" value="discard" { "Discard …" }
        }
        p.quiet { "The next page shows the differences, and asks. All other bytes of the message stay. leadhook rejected edit changes a whole body." }
    }
}

/// Builds the page that asks the person to agree.
pub fn preview(frame: &Frame, preview: &Preview<'_>) -> Markup {
    let title = if preview.difference.is_some() { "Put a rejected message back" } else { "Discard a rejected message" };
    let content = html! {
        p.lead-in { span.id { (preview.id) } }
        @match &preview.difference {
            Some(Difference::Unusable(why)) => div.note.bad role="alert" { p { "It would still not be a usable event: " (why) } },
            Some(Difference::Usable { changes, misplaced }) => {
                (differences(changes))
                @if let Some(reason) = misplaced {
                    div.note.warn role="status" { p { "The worker would reject it again: " (why_misplaced(*reason)) "." } }
                }
                (confirm(frame, preview, "Put back", ""))
            },
            None => @match preview.directory {
                Some(directory) => {
                    p { "It is written to a file in " code { (directory.display()) } " first. It will not be delivered." }
                    (confirm(frame, preview, "Discard", "danger"))
                },
                None => div.note.bad role="alert" {
                    p { "The console cannot discard: console.discard_directory is not set. Use leadhook rejected discard." }
                },
            },
        }
        p { a href=(address(preview.id)) { "Back to the message, without changes" } }
    };
    frame.page(Tab::Rejected, title, false, &content)
}

fn differences(changes: &[Change]) -> Markup {
    html! {
        @if changes.is_empty() { p.big { "It goes back as it is." } } @else {
            p.big { "It goes back with these differences:" }
            ul { @for change in changes { li { (change.field) " " (change.how) } } }
        }
    }
}

fn confirm(frame: &Frame, preview: &Preview<'_>, word: &str, class: &str) -> Markup {
    let Form { action, field, how, value, organization } = preview.form;
    let hidden = [("action", action), ("field", field), ("how", how), ("value", value), ("organization", organization)];
    html! {
        form.actions method="post" action={ (address(preview.id)) "/act" } {
            (frame.proof())
            @for (name, value) in hidden { input type="hidden" name=(name) value=(value); }
            @if preview.difference.is_none() {
                div.field.wide {
                    label for="because" { "Reason, for the delivery log; do not write data of a lead" }
                    input id="because" name="because" required maxlength="200" autocomplete="off";
                }
            }
            button class=(class) { (word) }
        }
    }
}
