//! Shows the state of a replay, a requeue or a discard.

use maud::{Markup, html};

use super::{Frame, Tab, when};
use crate::{
    cli::readable::{jobs, messages},
    console::work::{Kind, State, Work},
};

/// Builds the page.
pub fn page(frame: &Frame, work: &Work) -> Markup {
    let word = match work.kind {
        Kind::Replay { .. } => "Replay",
        Kind::Requeue { .. } => "Requeue",
        Kind::Discard { .. } | Kind::DiscardRejected { .. } => "Discard",
    };
    let title = format!("{word} {}", work.number);
    let state = work.state();
    let rejected = work.kind.is_of_rejected();
    let running = state == State::Running;
    let content = html! {
        dl.facts {
            dt { "begun by" } dd { (work.by) " " (when(Some(work.begun), frame.now)) }
            dt { "agreed to" } dd { @if rejected { (messages(work.agreed)) } @else { (jobs(work.agreed)) } }
        }
        @match state {
            State::Running => {
                div.note role="status" data-running { p { "Running: " (messages(work.seen())) " read. It goes on without this page." } }
                p { a.button href={ "/work/" (work.number) } { "Look again" } }
            }
            State::Done(lines) => div.note.good role="status" { @for line in &lines { p { (line) } } },
            State::Partly(lines) => div.note.warn role="status" { @for line in &lines { p { (line) } } },
            State::Refused(why) => div.note.bad role="alert" { p { "Nothing was done: " (why) } },
        }
        @if rejected { p { a href="/rejected" { "To the rejected messages" } } } @else { p { a href="/failed" { "To the failed jobs" } } }
    };
    frame.page(if rejected { Tab::Rejected } else { Tab::Failed }, &title, running, &content)
}
