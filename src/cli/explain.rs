//! `leadhook explain`: shows the targets of a campaign's events and the origins of their values, or why there is
//! no target.
//!
//! Shows names of headers but never their values, and no part of a URL after its path, because tokens are often there.

mod words;

use std::{collections::BTreeMap, time::Duration};

use serde::Serialize;

use super::{
    arguments::{self, Output},
    output::{self, Exit, Refusal, after_help},
    schedule::Schedule,
};
use crate::{
    delivery::rules::{Condition, Statuses},
    event::EventKind,
    settings::{Backoff, Settings},
    store::{
        CampaignRule, EventSet, Misplaced, NoTarget, Placed, Resolution, Store, Target, UnselectedEvents, ValueSource,
        Webhook,
    },
};

/// The user's question.
#[derive(Clone, Copy, Debug)]
pub struct Question<'a> {
    /// The campaign's id.
    pub campaign: &'a str,
    /// The organization that the message would name.
    pub organization: Option<&'a str>,
    /// One event, or all of them.
    pub event: Option<EventKind>,
}

/// The settings of the service that are part of the answer.
#[derive(Clone, Copy, Debug)]
pub struct Service<'a> {
    /// The retry schedule.
    pub backoff: &'a Backoff,
    /// Most attempts in flight for one organization and URL origin.
    pub max_in_flight: usize,
    /// The age at which a job fails as `expired`.
    pub maximum_age: Duration,
}

impl Service<'_> {
    /// Takes these settings from all settings.
    pub fn of(settings: &Settings) -> Service<'_> {
        let delivery = &settings.delivery;
        Service { backoff: &settings.backoff, max_in_flight: delivery.max_in_flight, maximum_age: delivery.maximum_age }
    }
}

/// Show where the events of a campaign would go, and why
///
/// For each event the targets, or the reason why there is none; for each target its values, and where each of them
/// comes from.
#[derive(clap::Args)]
#[command(after_help = after_help(
    "leadhook explain --campaign ABC\nleadhook explain -c ABC --event lead.failed --json",
    "the events go nowhere"
))]
pub struct Args {
    /// Id of the campaign, as in the event
    #[arg(short, long, value_name = "ID")]
    campaign: String,
    /// Only this event
    #[arg(short, long, value_name = "EVENT", value_parser = arguments::event())]
    event: Option<EventKind>,
    /// Organization that the message would name
    #[arg(short, long, value_name = "ID")]
    organization: Option<String>,
    #[command(flatten)]
    output: Output,
}

/// Loads the store and prints the answer.
///
/// # Errors
/// The store cannot be used, or the answer cannot be written.
pub fn run(args: &Args, settings: &Settings) -> Result<Exit, Refusal> {
    let store = arguments::open_store(settings)?;
    let question = Question { campaign: &args.campaign, organization: args.organization.as_deref(), event: args.event };
    let (text, exit) = explain(&store, &Service::of(settings), question, args.output.json);
    output::print(&text).map_err(|error| Refusal::unwritable(&error))?;
    if store.place(question.campaign, question.organization).is_err() {
        let doubts = arguments::doubts(&store, question.organization, Some(question.campaign), None);
        doubts.iter().for_each(|doubt| output::help(doubt));
    }
    Ok(exit)
}

/// Returns the answer as text or as one JSON object, with [`Exit::Ok`] if there is a target and [`Exit::Findings`] (1)
/// otherwise.
pub fn explain(store: &Store, service: &Service<'_>, question: Question<'_>, json: bool) -> (String, Exit) {
    let answer = answer(store, service, question);
    let exit = if answer.targets.is_empty() { Exit::Findings } else { Exit::Ok };
    let text = if json {
        serde_json::to_string_pretty(&answer).unwrap_or_default()
    } else {
        answer.to_string().trim_end().to_owned()
    };
    (text, exit)
}

/// The whole answer about a campaign.
#[derive(Debug, Serialize)]
pub(crate) struct Answer {
    pub(crate) campaign: String,
    /// The campaign's organization, if the store can tell.
    pub(crate) organization: Option<String>,
    /// Whether the store lists the campaign.
    pub(crate) listed: bool,
    /// Whether the campaign overrides its organization.
    pub(crate) overrides: bool,
    /// Why the campaign has no organization.
    pub(crate) misplaced: Option<Reason>,
    pub(crate) events: Vec<EventAnswer>,
    pub(crate) targets: Vec<TargetAnswer>,
    pub(crate) notes: Vec<String>,
}

/// A name for programs and a sentence for people.
#[derive(Debug, Serialize)]
pub(crate) struct Reason {
    pub(crate) reason: &'static str,
    pub(crate) text: String,
}

#[derive(Debug, Serialize)]
pub(crate) struct EventAnswer {
    pub(crate) event: &'static str,
    pub(crate) targets: Vec<String>,
    pub(crate) no_target: Option<Reason>,
}

#[derive(Debug, Serialize)]
pub(crate) struct TargetAnswer {
    pub(crate) key: String,
    /// The URL without its query.
    pub(crate) url: Sourced<String>,
    pub(crate) events: Sourced<Vec<&'static str>>,
    pub(crate) retry_attempts: Sourced<u32>,
    pub(crate) timeout_seconds: Sourced<u64>,
    /// The lower of two limits: the target's own and the service's (`delivery.max_in_flight`).
    pub(crate) max_in_flight: Sourced<usize>,
    /// `None` for no limit.
    pub(crate) max_per_second: Sourced<Option<f64>>,
    pub(crate) accept: Sourced<Statuses>,
    pub(crate) never_retry: Sourced<Statuses>,
    pub(crate) accept_if: Sourced<Option<Condition>>,
    pub(crate) keep_refused: Sourced<bool>,
    /// The number of secrets; never the secrets.
    pub(crate) signing_secrets: Sourced<usize>,
    /// Whether the target has one.
    pub(crate) client_certificate: Sourced<bool>,
    /// The number of certificates.
    pub(crate) ca_certificate: Sourced<usize>,
    /// The URL that issues tokens, without its query.
    pub(crate) oauth2: Sourced<Option<String>>,
    /// The names of headers and their origins; never their values.
    pub(crate) headers: BTreeMap<String, &'static str>,
    pub(crate) schedule: Schedule,
    pub(crate) jitter: f64,
    /// Counted from the event, or from the last replay.
    pub(crate) maximum_age_seconds: u64,
}

/// A value and its origin.
#[derive(Debug, Serialize)]
pub(crate) struct Sourced<T> {
    pub(crate) value: T,
    pub(crate) origin: &'static str,
}

/// Returns the answer as values, for the console.
pub(crate) fn answer(store: &Store, service: &Service<'_>, question: Question<'_>) -> Answer {
    let mut answer = Answer {
        campaign: question.campaign.to_owned(),
        organization: None,
        listed: false,
        overrides: false,
        misplaced: None,
        events: Vec::new(),
        targets: Vec::new(),
        notes: Vec::new(),
    };
    let placed = match store.place(question.campaign, question.organization) {
        Ok(placed) => placed,
        Err(misplaced) => {
            answer.misplaced = Some(Reason { reason: misplaced.name(), text: why_misplaced(misplaced).to_owned() });
            return answer;
        }
    };
    answer.organization = Some(placed.organization.id.to_string());
    answer.listed = placed.campaign.is_some();
    answer.overrides = overrides(&placed);
    let kinds = question.event.map_or(EventKind::ALL.to_vec(), |kind| vec![kind]);
    let mut used = Vec::new();
    for kind in kinds {
        let event = event_answer(&placed, kind);
        used.extend(event.targets.iter().cloned());
        answer.events.push(event);
    }
    let webhooks = placed.campaign.into_iter().flat_map(|campaign| campaign.webhooks());
    answer.targets = webhooks
        .chain(&placed.organization.webhooks)
        .filter(|webhook| used.iter().any(|key| key == webhook.key.as_str()))
        .filter_map(|webhook| target_answer(webhook, service))
        .collect();
    answer.notes = notes(&placed, &used);
    answer
}

fn overrides(placed: &Placed<'_>) -> bool {
    placed.campaign.is_some_and(|campaign| match campaign.rule {
        CampaignRule::Inherit => false,
        CampaignRule::Override { .. } => true,
    })
}

fn event_answer(placed: &Placed<'_>, kind: EventKind) -> EventAnswer {
    let (targets, no_target) = match placed.targets(kind) {
        Resolution::Targets(targets) => (targets.iter().map(|target| target.key.to_string()).collect(), None),
        Resolution::NoTarget(reason) => {
            (Vec::new(), Some(Reason { reason: reason.name(), text: why_none(reason, placed) }))
        }
        Resolution::Misplaced(reason) => {
            (Vec::new(), Some(Reason { reason: reason.name(), text: why_misplaced(reason).to_owned() }))
        }
    };
    EventAnswer { event: kind.name(), targets, no_target }
}

fn target_answer(webhook: &Webhook, service: &Service<'_>) -> Option<TargetAnswer> {
    let target = webhook.target.as_ref()?;
    let origins = &webhook.origins;
    Some(TargetAnswer {
        key: webhook.key.to_string(),
        url: sourced(shown_url(&target.url), origins.url),
        events: sourced(webhook.events.iter().map(EventKind::name).collect(), origins.events),
        retry_attempts: sourced(target.retry_attempts, origins.retry_attempts),
        timeout_seconds: sourced(target.timeout.as_secs(), origins.timeout),
        max_in_flight: max_in_flight(webhook, target, service),
        max_per_second: sourced(target.max_per_second, origins.max_per_second),
        accept: sourced(target.rules.accept.clone(), origins.accept),
        never_retry: sourced(target.rules.never_retry.clone(), origins.never_retry),
        accept_if: sourced(target.rules.accept_if.as_deref().cloned(), origins.accept_if),
        keep_refused: sourced(target.rules.keep_refused, origins.keep_refused),
        signing_secrets: sourced(target.signing_secrets.len(), origins.signing_secrets),
        client_certificate: sourced(target.client_certificate.is_some(), origins.client_certificate),
        ca_certificate: sourced(
            target.ca_certificate.as_ref().map_or(0, |authority| authority.certificates().len()),
            origins.ca_certificate,
        ),
        oauth2: sourced(target.oauth2.as_ref().map(|oauth2| shown_url(&oauth2.token_url)), origins.oauth2),
        headers: origins.headers.iter().map(|(name, origin)| (name.to_string(), origin.name())).collect(),
        schedule: Schedule::new(service.backoff, target.retry_attempts, target.timeout),
        jitter: service.backoff.jitter,
        maximum_age_seconds: service.maximum_age.as_secs(),
    })
}

/// Returns the target's limit, unless the service allows less.
fn max_in_flight(webhook: &Webhook, target: &Target, service: &Service<'_>) -> Sourced<usize> {
    match target.max_in_flight.map(|own| own as usize).filter(|own| *own <= service.max_in_flight) {
        Some(own) => sourced(own, webhook.origins.max_in_flight),
        None => Sourced { value: service.max_in_flight, origin: "settings" },
    }
}

fn sourced<T>(value: T, origin: ValueSource) -> Sourced<T> {
    Sourced { value, origin: origin.name() }
}

/// Returns the URL without its query, which may hold a token.
fn shown_url(url: &url::Url) -> String {
    let mut shown = url.clone();
    shown.set_query(None);
    match url.query() {
        None => shown.to_string(),
        Some(_) => format!("{shown}?..."),
    }
}

pub(crate) fn why_misplaced(reason: Misplaced) -> &'static str {
    match reason {
        Misplaced::UnknownCampaign => {
            "the store does not list this campaign, no organization was named, and there is no `default_organization`; \
             its events are rejected"
        }
        Misplaced::UnknownOrganization => "the store does not know this organization; its events are rejected",
        Misplaced::OrganizationMismatch => {
            "the store places this campaign in another organization than the one named; its events are rejected"
        }
    }
}

fn why_none(reason: NoTarget, placed: &Placed<'_>) -> String {
    let organization = &placed.organization.id;
    let rule = placed.campaign.map_or(&CampaignRule::Inherit, |campaign| &campaign.rule);
    match (reason, rule) {
        (NoTarget::Disabled, CampaignRule::Inherit) => {
            format!("the webhook of organization {organization} is switched off")
        }
        (NoTarget::Disabled, CampaignRule::Override { .. }) => format!(
            "the campaign leaves this event to organization {organization}, whose webhook for it is switched off"
        ),
        (NoTarget::EventNotSelected, CampaignRule::Inherit) => {
            format!("organization {organization} does not select this event")
        }
        (NoTarget::EventNotSelected, CampaignRule::Override { unselected_events, .. }) => match unselected_events {
            UnselectedEvents::Drop => {
                "the campaign does not select this event and says `unselected_events: drop`".to_owned()
            }
            UnselectedEvents::Organization => {
                format!("neither the campaign nor organization {organization} selects this event")
            }
        },
        (NoTarget::CampaignDisabled, _) => {
            "the campaign overrides its organization and has its webhook for this event switched off".to_owned()
        }
    }
}

/// Returns notes about settings that are easy to miss.
fn notes(placed: &Placed<'_>, used: &[String]) -> Vec<String> {
    let mut notes: Vec<String> = left_note(placed).into_iter().collect();
    let own = placed.campaign.into_iter().flat_map(|campaign| campaign.webhooks());
    for webhook in own.filter(|webhook| used.iter().any(|key| key == webhook.key.as_str())) {
        if webhook.origins.url == ValueSource::Campaign && lends_credentials(placed, webhook) {
            notes.push(format!(
                "{} has its own URL, so it inherits none of the organization's headers, secrets and certificates",
                webhook.key
            ));
        }
    }
    notes
}

/// Returns whether the organization has a webhook of the same name with credentials that the campaign does not inherit.
fn lends_credentials(placed: &Placed<'_>, webhook: &Webhook) -> bool {
    let name = |webhook: &Webhook| webhook.key.as_str().split_once('#').map(|(_, name)| name.to_owned());
    let lender = placed.organization.webhooks.iter().find(|other| name(other) == name(webhook));
    let target = lender.and_then(|lender| lender.target.as_ref());
    target.is_some_and(|target| {
        !target.headers.is_empty()
            || !target.signing_secrets.is_empty()
            || target.client_certificate.is_some()
            || target.ca_certificate.is_some()
            || target.oauth2.is_some()
    })
}

/// Returns a note that lists the events for which the organization's targets still apply beside an override.
pub(super) fn left_note(placed: &Placed<'_>) -> Option<String> {
    let (events, keys) = placed.left_events();
    let campaign = placed.campaign.filter(|_| events != EventSet::NONE)?;
    let keys: Vec<_> = keys.iter().map(|key| key.as_str()).collect();
    let (target, verb) = if keys.len() == 1 { ("target", "applies") } else { ("targets", "apply") };
    Some(format!(
        "beside the override of campaign {}, the organization's {target} {} still {verb} for {events}; \
         `unselected_events: drop` in the campaign turns that off",
        campaign.id,
        keys.join(", ")
    ))
}

#[cfg(test)]
mod tests;
