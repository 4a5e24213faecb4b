//! Searches the delivery log by lead, submission or campaign.

use maud::{Markup, html};

use super::{Frame, Tab, choice, field, or_dash, when};
use crate::{
    cli::{
        deliveries::words,
        output::{Tone, human_duration},
        readable::{clock, counted},
    },
    console::{
        log::{Answer, Reach},
        query::{Query, segment},
    },
    delivery_log::{Delivery, What},
};

/// The kinds of ids to search by.
pub const BY: [&str; 3] = ["lead", "submission", "campaign"];

/// The result of a search.
pub enum Result<'a> {
    /// No id was given.
    Unasked,
    /// The search could not be answered, for this reason.
    Wrong(String),
    /// The deliveries that were found, from that time on.
    Found(&'a Answer, jiff::Timestamp),
}

/// Builds the page.
pub fn page(frame: &Frame, query: &Query, result: Result<'_>) -> Markup {
    let content = html! {
        form.filters method="get" action="/search" role="search" {
            (choice_by(query.get("by")))
            (field("q", "q", "Id", query.get("q"), "lead_abc123"))
            (field("since", "since", "Since", query.get("since"), "24h, 9:00 or 2024-06-15"))
            (choice("event", "event", "Event", query.get("event"), crate::event::EventKind::ALL.map(|kind| kind.name())))
            button { "Search" }
        }
        @match result {
            Result::Unasked => p.quiet { "Reads the delivery log, by default of the last 24 hours. Ids must match exactly." },
            Result::Wrong(why) => div.note.bad role="alert" { p { (why) } },
            Result::Found(answer, since) => (found(frame, answer, since)),
        }
    };
    frame.page(Tab::Search, "Search", false, &content)
}

fn choice_by(value: Option<&str>) -> Markup {
    html! {
        div.field {
            label for="by" { "Look for a" }
            select id="by" name="by" {
                @for word in BY { option value=(word) selected[value == Some(word)] { (word) } }
            }
        }
    }
}

/// Says at which time a reading was cut short.
pub fn reach(reach: &Reach) -> Markup {
    html! {
        @if let Some(at) = reach.broken_off_at {
            div.note.warn role="status" {
                p { strong { "Incomplete: " } "reading took longer than a page may, and ended with the records of " (clock(at)) ". What was \
                    written later is missing. Ask for a shorter time, or use leadhook deliveries." }
            }
        }
    }
}

fn found(frame: &Frame, answer: &Answer, since: jiff::Timestamp) -> Markup {
    let many = answer.deliveries.len() as u64;
    html! {
        (reach(&answer.reach))
        @if answer.deliveries.is_empty() {
            p role="status" { "Nothing found since " (clock(since)) "." }
        } @else {
            p role="status" {
                @if answer.more { "The latest " } (counted(many, "delivery", "deliveries")) @if answer.more { "; there are more" }
                " since " (clock(since)) span.quiet { " (" (counted(answer.records, "record", "records")) ", " (human_duration(answer.reach.took)) ")" }
            }
            div.scroll tabindex="0" role="region" aria-label="Deliveries" {
                table {
                    caption { "Deliveries, the latest first" }
                    thead { tr {
                        th scope="col" { "when" } th scope="col" { "state" } th scope="col" { "event" } th scope="col" { "lead" }
                        th scope="col" { "campaign" } th scope="col" { "target" } th scope="col" { "attempt" } th scope="col" { "result" }
                        th scope="col" { "note" } th scope="col" { "id" }
                    } }
                    tbody { @for one in &answer.deliveries { (row(frame, one, since)) } }
                }
            }
        }
    }
}

fn row(frame: &Frame, one: &Delivery, since: jiff::Timestamp) -> Markup {
    let mut note = words::note(one.state, one.next, one.reason.as_deref(), one.by.as_deref());
    if let Some(at) = one.delivered_at.filter(|_| one.state != What::Delivered) {
        note = format!("{note}; delivered at {}", clock(at)).trim_start_matches("; ").to_owned();
    }
    html! {
        tr {
            td.nowrap { (when(Some(one.at), frame.now)) }
            td { (state(one.state)) }
            td.nowrap { (or_dash(one.event.as_deref())) }
            td { (or_dash(one.lead.as_deref())) }
            td { (or_dash(one.campaign.as_deref())) }
            td { (or_dash(one.target.as_deref())) }
            td.number { (words::attempts(one.attempt, one.of)) }
            td.nowrap { (words::result(one.status, one.error.as_deref())) }
            td { (note) }
            td {
                @match &one.id {
                    Some(id) => a.id href={ "/deliveries/" (segment(id)) "?since=" (since) } title=(id) { (shortened(id)) },
                    None => span.quiet { "–" },
                }
            }
        }
    }
}

/// Returns the first 14 characters of an id, enough to tell it from others in a list.
pub fn shortened(id: &str) -> &str {
    id.char_indices().nth(14).map_or(id, |(at, _)| &id[..at])
}

/// Shows the state of a delivery.
pub fn state(what: What) -> Markup {
    let tone = match words::tone(what) {
        Tone::Good => "good",
        Tone::Bad => "bad",
        Tone::Warning => "warn",
        Tone::Quiet | Tone::Strong => "plain",
    };
    html! { span class={ "badge " (tone) } { (words::state(what)) } }
}
