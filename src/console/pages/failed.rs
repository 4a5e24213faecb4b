//! The failed jobs: a list, filters, and the forms that replay or discard them.

use maud::{Markup, html};

use super::{Frame, Tab, choice, field, notes, or_dash, search::shortened, when};
use crate::{
    cli::{
        deliveries::words,
        readable::{clock, counted, messages, thousands},
    },
    console::{
        query::{Query, segment},
        queue::{KEPT, Looked},
    },
    dead_letters::{filter, listing::Line, stats::Row},
    delivery_log::Delivered,
    event::EventKind,
};

/// Most jobs on a page.
pub const ON_A_PAGE: usize = 100;

/// Builds the page. `problems` are invalid values, or reasons why the queue could not be read.
pub fn page(frame: &Frame, query: &Query, looked: Option<&Looked>, problems: &[String]) -> Markup {
    let content = html! {
        (filters(query))
        @if !problems.is_empty() {
            div.note.bad role="alert" { @for problem in problems { p { (problem) } } }
        }
        @if let Some(looked) = looked { (list(frame, query, looked)) }
    };
    frame.page(Tab::Failed, "Failed jobs", false, &content)
}

fn filters(query: &Query) -> Markup {
    let reasons = filter::reasons();
    let get = |name| query.get(name);
    html! {
        details.box open[!query.filters().pairs().is_empty()] {
            summary { "Filters" }
            form.filters method="get" action="/failed" {
                (field("organization", "organization", "Organization", get("organization"), ""))
                (field("campaign", "campaign", "Campaign", get("campaign"), ""))
                (field("target", "target", "Target", get("target"), "acme/ABC"))
                (choice("event", "event", "Event", get("event"), EventKind::ALL.map(|kind| kind.name())))
                (choice("reason", "reason", "Reason", get("reason"), reasons))
                (field("error", "error", "Last attempt", get("error"), "timeout, status"))
                (field("lead", "lead", "Lead", get("lead"), ""))
                (field("submission", "submission", "Submission", get("submission"), ""))
                (field("since", "since", "Failed since", get("since"), "2h, 9:00 or 2024-06-15"))
                (field("before", "before", "Failed before", get("before"), "1d"))
                button { "Filter" }
                a.button.plain href="/failed" { "All" }
            }
        }
    }
}

fn list(frame: &Frame, query: &Query, looked: &Looked) -> Markup {
    let matching = looked.listing.matching();
    let filtered = !query.filters().pairs().is_empty();
    let lines = looked.listing.lines();
    let pages = lines.len().div_ceil(ON_A_PAGE).max(1);
    let at = usize::try_from(query.number("page", 1)).unwrap_or(1).clamp(1, pages);
    let shown = lines.iter().skip((at - 1) * ON_A_PAGE).take(ON_A_PAGE);
    html! {
        (notes(&looked.notes))
        p role="status" {
            @if matching == 0 && !filtered { "Nothing has failed." }
            @else if matching == 0 { "No failed job matches." }
            @else { strong { (counted(matching, "failed job", "failed jobs")) } @if filtered { " of " (messages(looked.present)) } }
            span.quiet { " · seen " (when(Some(looked.at), frame.now)) " · " }
            a href={ "/failed" (query.filters().with(&[("fresh", Some("1"))]).text()) } { "look again" }
        }
        @if matching > 0 {
            details.box { summary { "By target and reason" } (rows(frame, &looked.rows, 50)) }
            form method="get" action="/failed/preview" {
                (table(frame, looked, shown))
                @if let Some(why) = looked.log_problem() { p.quiet { "The delivery log cannot tell whether these were delivered too: " (why) "." } }
                (pager(query, at, pages))
                @if matching > KEPT as u64 { p.quiet { "Pages show the first " (thousands(KEPT as u64)) "; filters show the rest." } }
                @if frame.acts() { (actions(query, matching)) }
            }
        }
        (unreadable(frame, looked))
    }
}

fn actions(query: &Query, matching: u64) -> Markup {
    html! {
        @for (name, value) in query.filters().pairs() { input type="hidden" name=(name) value=(value); }
        fieldset.actions {
            legend { "Replay or discard" }
            div.choices {
                label { input type="radio" name="which" value="chosen" checked; " the ticked jobs" }
                label { input type="radio" name="which" value="matching"; " all " (thousands(matching)) " that match" }
            }
            button name="action" value="replay" { "Replay …" }
            button.plain name="action" value="discard" { "Discard …" }
            p.quiet { "The next page shows what would be done, and asks." }
        }
    }
}

fn table<'a>(frame: &Frame, looked: &Looked, lines: impl Iterator<Item = &'a Line>) -> Markup {
    html! {
        div.scroll tabindex="0" role="region" aria-label="Failed jobs" {
            table {
                caption { "Failed jobs, the longest failed first" }
                thead { tr {
                    @if frame.acts() { th scope="col" { span.hidden { "ticked" } } }
                    th scope="col" { "failed" } th scope="col" { "id" } th scope="col" { "event" } th scope="col" { "campaign" }
                    th scope="col" { "target" } th.number scope="col" { "attempts" } th scope="col" { "last" } th scope="col" { "reason" }
                    th scope="col" { "owner" }
                } }
                tbody { @for line in lines { (row(frame, line, looked.delivered(line))) } }
            }
        }
    }
}

fn row(frame: &Frame, line: &Line, delivered: Option<Delivered>) -> Markup {
    let last = line.last.as_ref().map(|last| words::result(last.status, Some(&last.outcome)));
    html! {
        tr {
            @if frame.acts() { td { input type="checkbox" name="id" value=(line.id) aria-label={ "tick " (line.id) }; } }
            td.nowrap { (when(line.failed_at, frame.now)) }
            td { a.id href={ "/failed/" (segment(&line.id)) } title=(line.id) { (shortened(&line.id)) }
                @if line.copies > 1 { " " span.badge.plain { (line.copies) " copies" } }
                @if let Some(Delivered::At(at)) = delivered { " " span.badge.warn { "also delivered at " (clock(at)) } } }
            td.nowrap { (line.event) } td { (line.campaign) } td { (line.target) } td.number { (line.attempts) }
            td.nowrap { (or_dash(last.as_deref())) } td { span.badge.bad { (line.reason) } } td { (line.owner) }
        }
    }
}

fn pager(query: &Query, at: usize, pages: usize) -> Markup {
    let link = |to: usize| format!("/failed{}", query.filters().with(&[("page", Some(&to.to_string()))]).text());
    html! {
        @if pages > 1 {
            nav.pager aria-label="Pages of the list" {
                @if at > 1 { a rel="prev" href=(link(at - 1)) { "← before" } }
                span { "page " (at) " of " (pages) }
                @if at < pages { a rel="next" href=(link(at + 1)) { "next →" } }
            }
        }
    }
}

/// Builds the table of failed jobs by target and reason, with at most `most` rows.
pub fn rows(frame: &Frame, rows: &[Row], most: usize) -> Markup {
    html! {
        div.scroll tabindex="0" role="region" aria-label="Failed jobs by target and reason" {
            table {
                caption { "Failed jobs by target and reason, the most first" }
                thead { tr {
                    th.number scope="col" { "jobs" } th scope="col" { "target" } th scope="col" { "reason" } th scope="col" { "last" }
                    th scope="col" { "owner" } th scope="col" { "oldest" } th scope="col" { "newest" }
                } }
                tbody {
                    @for row in rows.iter().take(most) {
                        @let link = Query::default().with(&[("target", Some(&row.target)), ("reason", Some(&row.reason)), ("error", row.error.as_deref())]);
                        tr {
                            td.number { (thousands(row.jobs)) }
                            th scope="row" { a href={ "/failed" (link.text()) } { (row.target) } }
                            td { span.badge.bad { (row.reason) } } td { (or_dash(row.error.as_deref())) } td { (row.owner) }
                            td.nowrap { (when(row.oldest, frame.now)) } td.nowrap { (when(row.newest, frame.now)) }
                        }
                    }
                }
            }
        }
        @if rows.len() > most { p.quiet { (rows.len() - most) " more: leadhook failed stats" } }
    }
}

fn unreadable(frame: &Frame, looked: &Looked) -> Markup {
    let lines = looked.listing.unreadable();
    html! {
        @if !lines.is_empty() {
            h2 { (messages(looked.listing.unreadable_count())) " that are not jobs" }
            p { "They stay on the queue. Ask the engineers to look at them." }
            div.scroll tabindex="0" role="region" aria-label="Messages that are not jobs" {
                table {
                    caption { "Messages on the failed queue that are not jobs" }
                    thead { tr {
                        th scope="col" { "message id" } th scope="col" { "type" } th.number scope="col" { "bytes" } th scope="col" { "reason" }
                        th scope="col" { "problem" } th scope="col" { "failed" }
                    } }
                    tbody {
                        @for line in lines.iter().take(ON_A_PAGE) {
                            tr {
                                td { (or_dash(line.message_id.as_deref())) } td { (or_dash(line.kind.as_deref())) } td.number { (line.bytes) }
                                td { (line.reason) } td { (line.problem) } td.nowrap { (when(line.failed_at, frame.now)) }
                            }
                        }
                    }
                }
            }
        }
    }
}
