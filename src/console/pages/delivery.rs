//! Shows the story of one delivery: all its records.

use std::time::Duration;

use maud::{Markup, html};

use super::{Frame, Tab, or_dash, search, when};
use crate::{
    cli::{deliveries::words, output::human_duration, readable::clock},
    console::{log::Story, query::segment},
    delivery_log::{Entry, What},
};

/// Builds the page.
pub fn page(frame: &Frame, id: &str, story: &Story) -> Markup {
    let content = html! {
        p.lead-in { span.id { (id) } }
        (search::reach(&story.reach))
        @if let Some(since) = story.since {
            p.quiet { "Records from " (clock(since)) " on; " a href={ "/deliveries/" (segment(id)) "?since=all" } { "read the whole log" } "." }
        }
        @match story.records.last() {
            None => {
                p role="status" { "The delivery log has no record of this delivery in that time. It may be older than the log, or the log is switched off." }
            }
            Some((_, last)) => { (facts(frame, story, last)) (timeline(story)) }
        }
        p { a.button href={ "/failed/" (segment(id)) } { "Look for it on the failed queue" } }
    };
    frame.page(Tab::Search, "Delivery", true, &content)
}

fn facts(frame: &Frame, story: &Story, last: &Entry<'static>) -> Markup {
    let first = |of: for<'e> fn(&'e Entry<'static>) -> Option<&'e str>| story.records.iter().find_map(|(_, it)| of(it));
    html! {
        dl.facts {
            dt { "state" } dd { (search::state(last.what)) " " (when(Some(last.time()), frame.now)) }
            dt { "event" } dd { (or_dash(first(|it| it.event.as_deref()))) }
            dt { "lead" } dd { (or_dash(first(|it| it.lead.as_deref()))) }
            dt { "submission" } dd { (or_dash(first(|it| it.submission.as_deref()))) }
            dt { "campaign" } dd { (or_dash(first(|it| it.campaign.as_deref()))) }
            dt { "organization" } dd { (or_dash(first(|it| it.organization.as_deref()))) }
            dt { "target" } dd { (or_dash(first(|it| it.target.as_deref()))) }
        }
    }
}

fn timeline(story: &Story) -> Markup {
    html! {
        h2 { "What happened" }
        ol.timeline {
            @for (writer, entry) in &story.records { (entry_of_timeline(writer, entry)) }
        }
        @if story.left_out > 0 { p.quiet { (story.left_out) " records in the middle are not shown." } }
    }
}

fn entry_of_timeline(writer: &str, entry: &Entry<'static>) -> Markup {
    let tried =
        matches!(entry.what, What::Delivered | What::Refused | What::Retry | What::Failed) && entry.attempt.is_some();
    let note = words::note_of(entry);
    html! {
        li {
            div.when { time datetime=(entry.time()) { (format!("{:.3}", entry.time())) } }
            div {
                (search::state(entry.what))
                @if tried {
                    " attempt " (words::attempts(entry.attempt, entry.of)) ": "
                    strong { (words::result(entry.status, entry.error.as_deref())) }
                    @if let Some(ms) = entry.ms { " in " (human_duration(Duration::from_millis(ms))) }
                }
                @if !note.is_empty() { p { (note) } }
                @if let Some(next) = entry.next_time().filter(|_| entry.what != What::Retry) { p { "next attempt " (clock(next)) } }
                p.quiet { (writer.rsplit_once('/').map_or(writer, |(process, _)| process)) }
            }
        }
    }
}
