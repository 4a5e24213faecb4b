//! The overview: queues, rates, targets in trouble.

use maud::{Markup, html};

use super::{Frame, Tab, when};
use crate::{
    cli::{output::human_duration, readable::thousands},
    console::{
        queue::Looked,
        watch::{Rates, Sight, Worker},
    },
    limits::{State, View},
};

/// Most targets in trouble that are shown.
const TROUBLED: usize = 20;

/// Builds the page.
pub fn page(frame: &Frame, sight: &Sight, looked: Option<&Looked>) -> Markup {
    let content = html! {
        @if let Some(problem) = &sight.broker_problem {
            div.note.bad role="alert" { p { "The broker cannot be asked: " (problem) } }
        }
        @if sight.at.is_none() { div.note role="status" { p { "The first look is under way." } } }
        (queues(sight))
        (rates(sight))
        (delays(sight))
        (targets(sight))
        @if let Some(looked) = looked { (failed(frame, looked)) }
        @if let Some(at) = sight.at { p.quiet { "Looked at " (when(Some(at), frame.now)) "." } }
    };
    frame.page(Tab::Overview, "Overview", true, &content)
}

fn queues(sight: &Sight) -> Markup {
    let queues = &sight.queues;
    let known = sight.at.is_some() && sight.broker_problem.is_none();
    let waiting: u64 = queues.delays.iter().map(|(_, messages)| messages).sum();
    let lasting = |of: fn(&Worker) -> std::time::Duration| {
        let lasting = sight.worker.as_ref().map(of).filter(|lasting| !lasting.is_zero());
        lasting.map(|lasting| format!("not empty for {}", human_duration(lasting)))
    };
    html! {
        h2 { "Queues" }
        ul.tiles {
            (tile("Events to dispatch", known.then_some(queues.events).flatten(), "", None, None))
            (tile("Jobs that are due", known.then_some(queues.jobs).flatten(), "", None, None))
            (tile("Jobs that wait", known.then_some(waiting), "", None, None))
            (tile("Failed jobs", known.then_some(queues.failed).flatten(), "bad", Some("/failed"), lasting(|it| it.failed_for)))
            (tile("Unreadable messages", known.then_some(queues.unreadable).flatten(), "bad", None, None))
            (tile("Rejected messages", known.then_some(queues.rejected).flatten(), "warn", None, lasting(|it| it.rejected_for)))
        }
    }
}

fn tile(name: &str, number: Option<u64>, tone: &str, link: Option<&str>, more: Option<String>) -> Markup {
    let tone = if number.is_some_and(|number| number > 0) { tone } else { "" };
    html! {
        li class={ "tile " (tone) } {
            span.name { @match link { Some(link) => a href=(link) { (name) }, None => (name) } }
            span.number { @match number { Some(number) => (thousands(number)), None => "–" } }
            @if let Some(more) = more { span.more { (more) } }
        }
    }
}

fn rates(sight: &Sight) -> Markup {
    html! {
        h2 { "Rates" }
        @match (&sight.worker, &sight.worker_problem) {
            (Some(Worker { rates: Some(rates), in_flight, .. }), _) => (each_rate(*rates, *in_flight)),
            (Some(_), _) => p.quiet { "Known as soon as the worker has been asked twice." },
            (None, Some(problem)) => p.quiet { "Unknown: " (problem) },
            (None, None) => p.quiet { "Unknown." },
        }
    }
}

fn each_rate(rates: Rates, in_flight: f64) -> Markup {
    let a_second = |rate: f64| format!("{rate:.1}/s");
    html! {
        ul.tiles {
            @for (name, rate) in [("Events", rates.events), ("Attempts", rates.attempts), ("Delivered", rates.delivered), ("Failed for good", rates.failed)] {
                li.tile { span.name { (name) } span.number { (a_second(rate)) } }
            }
            li.tile { span.name { "Attempts in flight" } span.number { (format!("{in_flight:.0}")) } }
        }
        p.quiet { "Of the worker on admin.listen, over the last minute." }
    }
}

fn delays(sight: &Sight) -> Markup {
    let most = sight.queues.delays.iter().map(|(_, messages)| *messages).max().unwrap_or(1);
    html! {
        h2 { "Waiting for their next attempt" }
        @if sight.queues.delays.is_empty() {
            p.quiet { "No job waits." }
        } @else {
            div.scroll tabindex="0" role="region" aria-label="Jobs that wait" {
                table.narrow {
                    caption { "Jobs on the delay ladder, by the delay queue they wait on" }
                    thead { tr { th scope="col" { "wait" } th.number scope="col" { "jobs" } th scope="col" { "share" } } }
                    tbody {
                        @for (delay, messages) in &sight.queues.delays {
                            tr {
                                th scope="row" { (human_duration(*delay)) }
                                td.number { (thousands(*messages)) }
                                td { meter min="0" max=(most) value=(messages) aria-label={ "jobs on this delay queue" } {} }
                            }
                        }
                    }
                }
            }
        }
    }
}

fn targets(sight: &Sight) -> Markup {
    let Some(worker) = &sight.worker else { return html! {} };
    let mut troubled: Vec<&View> =
        worker.circuits.iter().filter(|circuit| circuit.deferred > 0 || circuit.state != State::Healthy).collect();
    troubled.sort_by(|a, b| b.deferred.cmp(&a.deferred).then_with(|| a.organization.cmp(&b.organization)));
    html! {
        h2 { "Targets in trouble" }
        @if troubled.is_empty() {
            p.quiet { "None: all " (thousands(worker.circuits.len() as u64)) " with recent jobs are healthy." }
        } @else {
            div.scroll tabindex="0" role="region" aria-label="Targets in trouble" {
                table {
                    caption { "Targets that are not healthy, or have deferred jobs, most deferred first" }
                    thead { tr {
                        th scope="col" { "organization" } th scope="col" { "origin" } th scope="col" { "state" }
                        th.number scope="col" { "in flight" } th.number scope="col" { "limit" }
                        th.number scope="col" { "answers/s" } th.number scope="col" { "deferred" } th.number scope="col" { "not before" }
                    } }
                    tbody {
                        @for circuit in troubled.iter().take(TROUBLED) {
                            tr {
                                th scope="row" { (circuit.organization) } td { (circuit.origin) }
                                td { span.badge.warn { (circuit.state.label()) } }
                                td.number { (circuit.in_flight) } td.number { (circuit.limit) }
                                td.number { (format!("{:.1}", circuit.answers_per_second)) } td.number { (thousands(circuit.deferred)) }
                                td.number { @if circuit.paused_for_seconds > 0 { (circuit.paused_for_seconds) " s" } @else { "–" } }
                            }
                        }
                    }
                }
            }
            @if troubled.len() > TROUBLED { p.quiet { (troubled.len() - TROUBLED) " more: leadhook targets --troubled" } }
        }
    }
}

fn failed(frame: &Frame, looked: &Looked) -> Markup {
    html! {
        @if !looked.rows.is_empty() {
            h2 { "Failed jobs by target" }
            (super::failed::rows(frame, &looked.rows, 10))
            p.quiet { "From the failed queue as it was " (when(Some(looked.at), frame.now)) "." }
        }
    }
}
