//! What the handlers answer with.

use axum::http::StatusCode;
use jiff::Timestamp;
use maud::Markup;

use super::{door::Visitor, pages::Frame, shared::Shared};

/// A page, or a page with an error and its status.
pub type Shown = Result<Markup, (StatusCode, Markup)>;

impl Frame {
    /// Creates the frame for this person, now.
    pub(super) fn of(shared: &Shared, visitor: Visitor) -> Frame {
        Frame { token: shared.door.token(&visitor), visitor, now: Timestamp::now() }
    }
}

/// Returns a page that says what is wrong.
pub(super) fn refuse(frame: &Frame, status: StatusCode, title: &str, text: &str) -> (StatusCode, Markup) {
    (status, frame.trouble(title, text))
}

/// Formats a problem and its help as sentences for a page.
pub(super) fn sentence(what: &str, help: &str) -> String {
    let capital = |text: &str| {
        let mut letters = text.chars();
        letters.next().map(|first| first.to_uppercase().chain(letters).collect::<String>()).unwrap_or_default()
    };
    format!("{}. {}.", capital(what), capital(help))
}
