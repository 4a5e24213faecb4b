//! Checks each document against the schema, and merges them: `organizations`, their `campaigns`,
//! `default_organization`.
//!
//! Files are merged by one rule: nothing may be defined twice. An organization may appear in several files, each with
//! some of its campaigns. Its webhook and each campaign have one place.

use std::collections::BTreeMap;

use super::{
    declared::{Declared, DeclaredCampaign, DeclaredOrganization, DeclaredWebhooks, UnselectedEvents},
    document::{Entry, KeyPath, Node, Value},
    fields::{Fields, ID_RULE, Said, is_id},
    problem::Problems,
    secrets::Vault,
    webhook,
};

/// The keys of a document.
const KEYS: [&str; 2] = ["organizations", "default_organization"];

/// Adds the values of one document.
pub(super) fn read(document: &Node, declared: &mut Declared, vault: &mut Vault<'_>, problems: &mut Problems) {
    if let Value::Nothing = document.value {
        problems.error(&document.place, "", "is empty; a store begins with `organizations`");
        declared.incomplete = true;
        return;
    }
    let Some(fields) = Fields::of(document, &KeyPath::default(), problems) else {
        declared.incomplete = true;
        return;
    };
    // A missing value may be under a misspelled key.
    declared.incomplete |= fields.iter().any(|(entry, _)| !KEYS.contains(&entry.key.as_str()));
    fields.expect(&KEYS, belongs_into_organization, problems);
    if let Said::Value((id, place)) = fields.text("default_organization", "the id of an organization", problems) {
        match &declared.default_organization {
            None => declared.default_organization = Some((id.to_owned(), place.clone())),
            Some((_, first)) => {
                problems.error(
                    place,
                    "default_organization",
                    format!("is already defined at {first}; keep one of them"),
                );
            }
        }
    }
    let Some(entry) = fields.get("organizations") else { return };
    let path = fields.path.key("organizations");
    let Some(organizations) = Fields::of(&entry.node, &path, problems) else {
        declared.incomplete = true;
        return;
    };
    for (entry, path) in organizations.iter() {
        organization(entry, path, declared, vault, problems);
    }
}

/// Checks the rules that need all documents together.
pub(super) fn check_whole(declared: &Declared, source: &str, problems: &mut Problems) {
    unique_campaigns(&declared.organizations, problems);
    if declared.incomplete {
        return;
    }
    if declared.organizations.is_empty() {
        problems.general(format!("{source}: holds no organization; a store begins with `organizations`"));
    }
    for (id, organization) in &declared.organizations {
        if let DeclaredWebhooks::Nothing = organization.webhooks {
            problems.error(
                &organization.place,
                &organization.path,
                format!(
                    "lacks `webhook` (or `webhooks`); if only campaigns of {id} have webhooks, write \
                     `webhook: {{ enabled: false }}`"
                ),
            );
        }
    }
    let Some((id, place)) = &declared.default_organization else { return };
    let count = declared.organizations.len();
    if count > 1 {
        let text = format!(
            "is allowed only in a store with one organization, and this one has {count}; let the messages name their \
             organization instead"
        );
        problems.error(place, "default_organization", text);
    } else if count == 1 && !declared.organizations.contains_key(id) {
        let known = declared.organizations.keys().next().map_or("", String::as_str);
        problems.error(place, "default_organization", format!("is not in this store; its organization is `{known}`"));
    }
}

fn organization(entry: &Entry, path: KeyPath, declared: &mut Declared, vault: &mut Vault<'_>, problems: &mut Problems) {
    if !is_id(&entry.key) {
        problems.error(&entry.place, &path, format!("is not an organization id; an id is {ID_RULE}"));
        declared.incomplete = true;
    }
    let Some(fields) = Fields::of(&entry.node, &path, problems) else {
        declared.incomplete = true;
        return;
    };
    fields.expect(&["webhook", "webhooks", "campaigns"], belongs_into_webhook, problems);
    let webhooks = webhook::read(&fields, vault, problems);
    let organization = declared.organizations.entry(entry.key.clone()).or_insert_with(|| DeclaredOrganization {
        place: entry.place.clone(),
        path: path.clone(),
        webhooks: DeclaredWebhooks::Nothing,
        campaigns: BTreeMap::new(),
    });
    match (organization.webhooks.place(), webhooks.place()) {
        (_, None) => {}
        (None, Some(_)) => organization.webhooks = webhooks,
        (Some(first), Some(second)) => {
            let text = format!("has its webhook already at {first}; keep one of them");
            problems.error(second, &path, text);
        }
    }
    let Some(entry) = fields.get("campaigns") else { return };
    let Some(campaigns) = Fields::of(&entry.node, &path.key("campaigns"), problems) else { return };
    for (entry, path) in campaigns.iter() {
        let Some(campaign) = campaign(entry, &path, vault, problems) else { continue };
        match organization.campaigns.get(&entry.key) {
            None => {
                organization.campaigns.insert(entry.key.clone(), campaign);
            }
            Some(first) => {
                let text = format!("is already defined at {}; keep one of them", first.place);
                problems.error(&entry.place, &path, text);
            }
        }
    }
}

fn campaign(entry: &Entry, path: &KeyPath, vault: &mut Vault<'_>, problems: &mut Problems) -> Option<DeclaredCampaign> {
    if !is_id(&entry.key) {
        problems.error(&entry.place, path, format!("is not a campaign id; an id is {ID_RULE}"));
    }
    let fields = Fields::of(&entry.node, path, problems)?;
    fields.expect(&["override", "webhook", "webhooks", "unselected_events"], belongs_into_webhook, problems);
    Some(DeclaredCampaign {
        place: entry.place.clone(),
        path: path.clone(),
        overrides: fields.truth("override", problems),
        webhooks: webhook::read(&fields, vault, problems),
        unselected_events: unselected_events(&fields, problems),
    })
}

fn unselected_events(fields: &Fields<'_>, problems: &mut Problems) -> Said<UnselectedEvents> {
    match fields.text("unselected_events", "`drop` or `organization`", problems) {
        Said::Nothing => Said::Nothing,
        Said::Unusable => Said::Unusable,
        Said::Value(("organization", _)) => Said::Value(UnselectedEvents::Organization),
        Said::Value(("drop", _)) => Said::Value(UnselectedEvents::Drop),
        Said::Value((_, place)) => {
            let text = "must be `drop` or `organization` (whose targets then get these events)";
            problems.error(place, fields.path.key("unselected_events"), text);
            Said::Unusable
        }
    }
}

/// Reports campaign ids that occur twice. They must be unique in the whole store, because an event may name only its
/// campaign.
fn unique_campaigns(organizations: &BTreeMap<String, DeclaredOrganization>, problems: &mut Problems) {
    let mut first: BTreeMap<&str, (&str, &DeclaredCampaign)> = BTreeMap::new();
    for (organization, declared) in organizations {
        for (id, campaign) in &declared.campaigns {
            let Some((other, earlier)) = first.insert(id, (organization, campaign)) else { continue };
            let text = format!(
                "is a campaign of the organization `{other}` too, at {}; campaign ids are unique in the whole store",
                earlier.place
            );
            problems.error(&campaign.place, &campaign.path, text);
        }
    }
}

fn belongs_into_webhook(key: &str) -> Option<&'static str> {
    webhook::KEYS.contains(&key).then_some("it belongs under `webhook`")
}

fn belongs_into_organization(key: &str) -> Option<&'static str> {
    match key {
        "webhook" | "webhooks" | "campaigns" => Some("it belongs under `organizations.<id>`"),
        _ => None,
    }
}
