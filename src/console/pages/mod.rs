//! The pages: values in, markup out. A page only shows what its handler found.

pub mod delivery;
pub mod failed;
pub mod job;
pub mod layout;
pub mod overview;
pub mod preview;
pub mod rejected;
pub mod search;
pub mod settings;
pub mod work;

#[cfg(test)]
mod tests;

use jiff::Timestamp;
use maud::{Markup, html};

pub use layout::{Frame, Tab};

use crate::cli::readable::{age, clock};

/// Shows a time: its age, with the exact time as a tooltip.
fn when(at: Option<Timestamp>, now: Timestamp) -> Markup {
    html! {
        @match at {
            Some(at) => time datetime=(at) title=(clock(at)) { (age(Some(at), now)) },
            None => span.quiet { "–" },
        }
    }
}

/// Shows a text, or a dash.
fn or_dash(text: Option<&str>) -> Markup {
    html! { @match text { Some(text) => (text), None => span.quiet { "–" } } }
}

/// Shows warnings above a page.
fn notes(notes: &[String]) -> Markup {
    html! {
        @if !notes.is_empty() {
            div.note.warn role="status" {
                @for note in notes { p { (note) } }
            }
        }
    }
}

/// Shows a field of a form, with its label.
fn field(id: &str, name: &str, label: &str, value: Option<&str>, hint: &str) -> Markup {
    html! {
        div.field {
            label for=(id) { (label) }
            input id=(id) name=(name) value=[value] placeholder=[(!hint.is_empty()).then_some(hint)] autocomplete="off" spellcheck="false";
        }
    }
}

/// Shows a choice between words, with its label. The first entry means any.
fn choice<'a>(
    id: &str,
    name: &str,
    label: &str,
    value: Option<&str>,
    words: impl IntoIterator<Item = &'a str>,
) -> Markup {
    html! {
        div.field {
            label for=(id) { (label) }
            select id=(id) name=(name) {
                option value="" { "any" }
                @for word in words { option value=(word) selected[value == Some(word)] { (word) } }
            }
        }
    }
}
