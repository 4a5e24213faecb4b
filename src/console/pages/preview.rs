//! What would be done, before anything is.

use std::path::Path;

use maud::{Markup, html};

use super::{Frame, Tab, notes};
use crate::{
    cli::readable::{jobs, messages},
    console::query::Query,
};

/// What would be done.
pub struct Preview<'a> {
    /// `replay` or `discard`.
    pub action: &'a str,
    /// Ids or filters, as they were said.
    pub query: &'a Query,
    /// Whether ids were ticked; else all that match.
    pub by_id: bool,
    /// Jobs that it would be done with.
    pub count: u64,
    /// What would be left, or is not known.
    pub notes: Vec<String>,
    /// Messages that match and are no jobs.
    pub unreadable: u64,
    /// Where discarded jobs are written to.
    pub directory: Option<&'a Path>,
}

/// The page.
pub fn page(frame: &Frame, preview: &Preview<'_>) -> Markup {
    let replay = preview.action == "replay";
    let title = if replay { "Replay failed jobs" } else { "Discard failed jobs" };
    let possible = preview.count > 0 && (replay || preview.directory.is_some());
    let content = html! {
        (notes(&preview.notes))
        p.big role="status" {
            strong { (jobs(preview.count)) } @if replay { " would be put back." } @else { " would be taken away for good." }
        }
        (which(preview))
        @if preview.unreadable > 0 { p { (messages(preview.unreadable)) " that are no jobs would be left." } }
        @if replay {
            p { "Each is delivered anew under the same webhook-id, with all its attempts. Copies of a job count once." }
        } @else if let Some(directory) = preview.directory {
            p { "They are written to a file in " code { (directory.display()) } " first. They will not be delivered any more." }
        } @else {
            div.note.bad role="alert" { p { "The console discards nothing: console.discard_directory is not set. Use leadhook failed discard." } }
        }
        @if possible { (confirm(frame, preview, replay)) }
        p { a href={ "/failed" (preview.query.filters().text()) } { "Back to the list, and do nothing" } }
    };
    frame.page(Tab::Failed, title, false, &content)
}

fn which(preview: &Preview<'_>) -> Markup {
    html! {
        @if preview.by_id {
            details.box { summary { "Which" } ul { @for id in preview.query.all("id") { li.id { (id) } } } }
        } @else if preview.query.filters().pairs().is_empty() {
            p { "That is all there is on the failed queue." }
        } @else {
            dl.facts { @for (name, value) in preview.query.filters().pairs() { dt { (name) } dd { (value) } } }
        }
    }
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
                    label for="rate" { "At most so many jobs a second" }
                    input id="rate" name="rate" type="number" min="1" max="100000" placeholder="as fast as it can" autocomplete="off";
                }
            } @else {
                div.field.wide {
                    label for="because" { "Why, for the delivery log; name no lead's data" }
                    input id="because" name="because" required maxlength="200" autocomplete="off";
                }
            }
            button class=(if replay { "" } else { "danger" }) {
                @if replay { "Put " (jobs(preview.count)) " back" } @else { "Discard " (jobs(preview.count)) }
            }
        }
    }
}
