//! Shows the targets of a campaign, and the origins of their values.

use std::time::Duration;

use maud::{Markup, html};

use super::{Frame, Tab, field, notes};
use crate::{
    cli::{
        explain::{Answer, EventAnswer, TargetAnswer},
        schedule::human,
    },
    console::query::Query,
};

/// Builds the page.
pub fn page(frame: &Frame, query: &Query, answer: Option<&Answer>, problems: &[String]) -> Markup {
    let content = html! {
        form.filters method="get" action="/settings" {
            (field("campaign", "campaign", "Campaign", query.get("campaign"), "ABC"))
            (field("organization", "organization", "Organization, as the message names it", query.get("organization"), ""))
            button { "Explain" }
        }
        @if !problems.is_empty() {
            div.note.bad role="alert" { p { "The webhook store cannot be used here:" } @for problem in problems { p { (problem) } } }
        }
        @match answer {
            Some(answer) => (explained(answer)),
            None if problems.is_empty() => p.quiet { "Shows where each event of a campaign goes, and where each setting comes from. Secrets are not shown." },
            None => {},
        }
    };
    frame.page(Tab::Settings, "Campaign settings", false, &content)
}

fn explained(answer: &Answer) -> Markup {
    html! {
        @if let Some(misplaced) = &answer.misplaced {
            div.note.bad role="status" { p { strong { (misplaced.reason) } ": " (misplaced.text) } }
        } @else {
            p role="status" {
                "Campaign " strong { (answer.campaign) } @if !answer.listed { " (not listed)" } " of organization "
                strong { (answer.organization.as_deref().unwrap_or("–")) }
                @if answer.overrides { ": the campaign overrides." } @else { ": the organization's settings apply." }
            }
            (notes(&answer.notes))
            div.scroll tabindex="0" role="region" aria-label="Events" {
                table.narrow {
                    caption { "Where each event goes" }
                    thead { tr { th scope="col" { "event" } th scope="col" { "targets" } } }
                    tbody { @for event in &answer.events { (goes(event)) } }
                }
            }
            @for target in &answer.targets { (one(target)) }
        }
    }
}

fn goes(event: &EventAnswer) -> Markup {
    html! {
        tr {
            th scope="row" { (event.event) }
            td {
                @match &event.no_target {
                    None => (event.targets.join(", ")),
                    Some(reason) => { span.badge.plain { (reason.reason) } " " (reason.text) },
                }
            }
        }
    }
}

fn one(target: &TargetAnswer) -> Markup {
    let rows = target.rows();
    let waits: Vec<_> = target.schedule.waits.iter().map(|wait| human(wait.nominal)).collect();
    html! {
        h2 { "Target " (target.key) }
        div.scroll tabindex="0" role="region" aria-label={ "Settings of " (target.key) } {
            table.narrow {
                caption { "Settings of " (target.key) ", and where each comes from" }
                thead { tr { th scope="col" { "setting" } th scope="col" { "value" } th scope="col" { "from" } } }
                tbody { @for (name, value, origin) in rows { tr { th scope="row" { (name) } td.wrap { (value) } td { (origin) } } } }
            }
        }
        p { "Retries after " (waits.join(", ")) " (± " (format!("{:.0}", target.jitter * 100.0)) " %); worst case "
            (human(target.schedule.worst_case)) ", and expired " (human(Duration::from_secs(target.maximum_age_seconds))) " after it was first seen." }
    }
}
