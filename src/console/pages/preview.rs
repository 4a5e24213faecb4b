//! Shows what a replay or discard would do, before it starts.

use std::path::Path;

use jiff::Timestamp;

use maud::{Markup, html};

use super::{Frame, Tab, notes};
use crate::{
    cli::readable::{clock, jobs, messages},
    console::query::Query,
};

/// A replay or discard before it starts.
pub struct Preview<'a> {
    /// `replay` or `discard`.
    pub action: &'a str,
    /// The ids or filters of the form.
    pub query: &'a Query,
    /// The times that the filters `since` and `before` mean.
    pub times: (Option<Timestamp>, Option<Timestamp>),
    /// Whether the person ticked ids. Otherwise all jobs that match are meant.
    pub by_id: bool,
    /// The number of jobs.
    pub count: u64,
    /// Notes about jobs that would be left, that may have been delivered, or that are gone.
    pub notes: Vec<String>,
    /// Messages that match but are not jobs.
    pub unreadable: u64,
    /// The directory for files of discarded jobs.
    pub directory: Option<&'a Path>,
}

/// Builds the page.
pub fn page(frame: &Frame, preview: &Preview<'_>) -> Markup {
    let replay = preview.action == "replay";
    let title = if replay { "Replay failed jobs" } else { "Discard failed jobs" };
    let possible = preview.count > 0 && (replay || preview.directory.is_some());
    let content = html! {
        (notes(&preview.notes))
        p.big role="status" {
            strong { (jobs(preview.count)) } @if replay { " would be replayed." } @else { " would be removed for good." }
        }
        (which(preview))
        @if preview.unreadable > 0 { p { (messages(preview.unreadable)) " that are not jobs would be left." } }
        @if replay {
            p { "Each is delivered again under the same webhook-id, with all its attempts. Copies of a job count once." }
        } @else if let Some(directory) = preview.directory {
            p { "They are written to a file in " code { (directory.display()) } " first. They will not be delivered." }
        } @else {
            div.note.bad role="alert" { p { "The console cannot discard: console.discard_directory is not set. Use leadhook failed discard." } }
        }
        @if possible { (confirm(frame, preview, replay)) }
        p { a href={ "/failed" (preview.query.filters().text()) } { "Back to the list, without changes" } }
    };
    frame.page(Tab::Failed, title, false, &content)
}

fn which(preview: &Preview<'_>) -> Markup {
    html! {
        @if preview.by_id {
            details.box { summary { "Which" } ul { @for id in preview.query.all("id") { li.id { (id) } } } }
        } @else if preview.query.filters().pairs().is_empty() {
            p { "These are all jobs on the failed queue." }
        } @else {
            dl.facts { @for (name, value) in preview.query.filters().pairs() { dt { (name) } dd { (meant(preview, name, value)) } } }
        }
    }
}

/// Shows a value of a filter, with the time that it means.
fn meant(preview: &Preview<'_>, name: &str, value: &str) -> Markup {
    let at = match name {
        "since" => preview.times.0,
        "before" => preview.times.1,
        _ => None,
    };
    html! { (value) @if let Some(at) = at { " (" (clock(at)) ")" } }
}

fn confirm(frame: &Frame, preview: &Preview<'_>, replay: bool) -> Markup {
    html! {
        form.actions method="post" action={ "/failed/" (preview.action) } {
            (frame.proof())
            input type="hidden" name="agreed" value=(preview.count);
            @if preview.by_id {
                input type="hidden" name="which" value="chosen";
                @for id in preview.query.all("id") { input type="hidden" name="id" value=(id); }
            } @else {
                input type="hidden" name="which" value="matching";
                input type="hidden" name="previewed" value=(frame.now.as_millisecond());
                @for (name, value) in preview.query.filters().pairs() { input type="hidden" name=(name) value=(value); }
            }
            @if replay {
                div.field {
                    label for="rate" { "Jobs a second, at most" }
                    input id="rate" name="rate" type="number" min="1" max="100000" placeholder="as fast as possible" autocomplete="off";
                }
            } @else {
                div.field.wide {
                    label for="because" { "Reason, for the delivery log; do not write data of a lead" }
                    input id="because" name="because" required maxlength="200" autocomplete="off";
                }
            }
            button class=(if replay { "" } else { "danger" }) {
                @if replay { "Replay " (jobs(preview.count)) } @else { "Discard " (jobs(preview.count)) }
            }
        }
    }
}
