//! Shows one failed job: the reason, what to do, every attempt, and the payload, which is masked until a person asks
//! for it.

use std::time::Duration;

use maud::{Markup, html};

use super::{Frame, Tab, notes, or_dash, when};
use crate::{
    cli::{
        deliveries::words,
        output::human_duration,
        readable::{clock, counted},
    },
    console::{mask, query::segment, queue::Found},
    delivery_log::Delivered,
    job::Job,
};

/// Builds the page. `revealed` shows the data of the lead.
pub fn page(frame: &Frame, id: &str, found: &Found, revealed: bool) -> Markup {
    let record = &found.record;
    let mut hints = Vec::new();
    match found.delivered {
        Some(Delivered::At(at)) => {
            hints.push(format!("A copy of this job was delivered at {}: a crash had made the copy.", clock(at)))
        }
        Some(Delivered::Unknown) => hints.push("The delivery log cannot tell whether it was delivered too.".to_owned()),
        Some(Delivered::Never) | None => {}
    }
    if found.copies > 1 {
        hints.push(format!("There are {} copies of it; a replay sends one for all.", found.copies));
    }
    let content = html! {
        p.lead-in { span.id { (id) } }
        (notes(&hints))
        div.note.bad {
            p { strong { (record.reason.label()) } ", for: " (record.reason.owner().label()) }
            p { (record.reason.meaning()) }
            @if let Some(detail) = &record.detail { p.quiet { (detail) } }
        }
        @match &record.content {
            Ok(job) => { (facts(frame, found, job)) (attempts(job, revealed)) (payload(frame, id, found, revealed)) (actions(frame, id, job)) },
            Err(unreadable) => p { "This message is not a job: " (unreadable.problem) ". It stays on the queue, and cannot be replayed." },
        }
    };
    frame.page(Tab::Failed, "Failed job", false, &content)
}

fn facts(frame: &Frame, found: &Found, job: &Job) -> Markup {
    html! {
        dl.facts {
            dt { "failed" } dd { (when(found.record.failed_at, frame.now)) }
            dt { "event" } dd { (job.kind.name()) }
            dt { "lead" } dd { (or_dash(job.lead_id().as_deref())) }
            dt { "submission" } dd { (or_dash(job.submission.as_deref())) }
            dt { "campaign" } dd { a href={ "/settings?campaign=" (segment(&job.campaign)) "&organization=" (segment(&job.organization)) } { (job.campaign) } }
            dt { "organization" } dd { (job.organization) }
            dt { "target" } dd { (job.target) }
            dt { "happened" } dd { (when(job.event_time, frame.now)) }
            dt { "first seen" } dd { (when(Some(job.first_seen), frame.now)) }
            dt { "attempts" } dd { (job.attempt) }
            dt { "replays" } dd { (job.replays) }
        }
    }
}

fn attempts(job: &Job, revealed: bool) -> Markup {
    let entries = job.history.entries();
    html! {
        h2 { "Attempts" }
        @if entries.is_empty() { p.quiet { "No attempt was made." } } @else {
            div.scroll tabindex="0" role="region" aria-label="Attempts" {
                table {
                    caption { "Attempts, the oldest first" }
                    thead { tr {
                        th scope="col" { "when" } th.number scope="col" { "attempt" } th scope="col" { "result" } th.number scope="col" { "took" }
                        th scope="col" { "answer" }
                    } }
                    tbody {
                        @for entry in entries {
                            tr {
                                td.nowrap { (clock(entry.at)) } td.number { (entry.attempt) }
                                td.nowrap { (words::result_of(entry)) }
                                td.number.nowrap { (human_duration(Duration::from_millis(entry.ms))) }
                                td {
                                    @match &entry.snippet {
                                        Some(snippet) if revealed => code { (snippet) },
                                        Some(snippet) => span.quiet { (counted(snippet.len() as u64, "byte", "bytes")) ", masked" },
                                        None => span.quiet { "–" },
                                    }
                                }
                            }
                        }
                    }
                }
            }
        }
    }
}

fn payload(frame: &Frame, id: &str, found: &Found, revealed: bool) -> Markup {
    html! {
        h2 { "Payload" }
        @if revealed {
            div.note.warn role="status" { p { "This is the data of a lead. Your name has been logged." } }
            pre tabindex="0" aria-label="Payload" { (mask::shown(&found.body)) }
        } @else {
            pre tabindex="0" aria-label="Payload, masked" { (mask::masked(&found.body)) }
            @if frame.acts() {
                form method="post" action={ "/failed/" (segment(id)) "/reveal" } {
                    (frame.proof())
                    button.plain { "Show the data of the lead" }
                    span.quiet { " Your name will be logged." }
                }
            } @else { p.quiet { "The data of the lead needs the role act." } }
        }
    }
}

fn actions(frame: &Frame, id: &str, job: &Job) -> Markup {
    html! {
        p.links {
            a href={ "/deliveries/" (segment(id)) "?since=" (job.first_seen) } { "Its records in the delivery log" }
        }
        @if frame.acts() {
            form.actions method="get" action="/failed/preview" {
                input type="hidden" name="which" value="chosen";
                input type="hidden" name="id" value=(id);
                button name="action" value="replay" { "Replay …" }
                button.plain name="action" value="discard" { "Discard …" }
            }
        }
    }
}
