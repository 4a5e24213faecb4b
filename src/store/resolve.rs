//! Finds the targets of an event, and the current state of a waiting job's target. Pure: only one revision of the store
//! and the names in the message decide.
//!
//! The test `every_combination` in `store/tests/resolution.rs` holds the table of all cases.

use std::{collections::HashMap, fmt, sync::Arc, time::Duration};

use super::{
    declared::UnselectedEvents,
    effective::{Campaign, CampaignRule, Organization, Webhook},
    event_set::EventSet,
    problem::Problems,
    target::{Target, TargetKey},
};
use crate::event::EventKind;

/// The result of resolving an event.
#[derive(Debug)]
pub enum Resolution {
    /// The targets. Each gets one delivery.
    Targets(Vec<Arc<Target>>),
    /// No target receives the event. This is a normal result.
    NoTarget(NoTarget),
    /// The event cannot be placed in the store, so it is rejected.
    Misplaced(Misplaced),
}

/// Why no target receives an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum NoTarget {
    /// `disabled`: the organization's webhook is disabled.
    Disabled,
    /// `event_not_selected`: no webhook that applies selects the event.
    EventNotSelected,
    /// `campaign_disabled`: the campaign's webhooks for the event are disabled.
    CampaignDisabled,
}

impl NoTarget {
    /// All reasons.
    pub const ALL: [NoTarget; 3] = [NoTarget::Disabled, NoTarget::EventNotSelected, NoTarget::CampaignDisabled];

    /// Returns the reason as metric label and log field.
    pub fn name(self) -> &'static str {
        match self {
            NoTarget::Disabled => "disabled",
            NoTarget::EventNotSelected => "event_not_selected",
            NoTarget::CampaignDisabled => "campaign_disabled",
        }
    }
}

/// Why an event cannot be placed in the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Misplaced {
    /// The store does not list the campaign, and neither the message nor `default_organization` names an organization.
    UnknownCampaign,
    /// The organization is not in the store.
    UnknownOrganization,
    /// The store places the campaign in another organization than the message says.
    OrganizationMismatch,
}

impl Misplaced {
    /// Returns the reason as metric label and log field.
    pub fn name(self) -> &'static str {
        match self {
            Misplaced::UnknownCampaign => "unknown_campaign",
            Misplaced::UnknownOrganization => "unknown_organization",
            Misplaced::OrganizationMismatch => "organization_mismatch",
        }
    }
}

/// The state of a job's target in the current store.
#[derive(Debug)]
pub enum TargetState {
    /// The job goes to this target.
    Active(Arc<Target>),
    /// The target exists, but `enabled: false` switches it off.
    Disabled,
    /// The store does not have the target.
    Unknown,
    /// The key, or the campaign that it names, belongs to another organization than the job.
    Moved,
}

/// The place of an event in the store.
#[derive(Clone, Copy, Debug)]
pub struct Placed<'s> {
    /// Its organization.
    pub organization: &'s Organization,
    /// Its campaign, if the store lists it.
    pub campaign: Option<&'s Campaign>,
}

/// One immutable revision of the whole store.
pub struct Store {
    /// In the order of their ids.
    organizations: Box<[Organization]>,
    /// From an id to the index in `organizations`.
    by_id: HashMap<Arc<str>, u32>,
    /// One lookup finds a campaign. A lookup that misses the CPU caches costs more than the rest of a resolution.
    campaigns: HashMap<Arc<str>, Listed>,
    default_organization: Option<String>,
    revision: String,
    warnings: Problems,
}

/// The position of a campaign in the store.
#[derive(Clone, Copy)]
struct Listed {
    /// Index of its organization.
    organization: u32,
    /// Index among the campaigns of that organization.
    campaign: u32,
}

impl Store {
    /// Finds the targets of an event. Pure; `organization` is the one that the message names, if any.
    pub fn resolve(&self, campaign: &str, organization: Option<&str>, kind: EventKind) -> Resolution {
        match self.place(campaign, organization) {
            Ok(placed) => placed.targets(kind),
            Err(misplaced) => Resolution::Misplaced(misplaced),
        }
    }

    /// Finds the target of a waiting job. `organization` is the organization of the job.
    ///
    /// Ignores which events are selected now: the target was chosen when the event arrived.
    pub fn target(&self, organization: &str, key: &TargetKey) -> TargetState {
        let (named, campaign) = key.scope();
        if named != organization {
            return TargetState::Moved;
        }
        let webhooks = match campaign.map(|campaign| self.listed(campaign)) {
            Some(Some((current, _))) if &*current.id != organization => return TargetState::Moved,
            Some(Some((_, campaign))) => campaign.webhooks(),
            Some(None) => &[],
            None => self.organization(organization).map_or(&[][..], |organization| &organization.webhooks),
        };
        match webhooks.iter().find(|webhook| webhook.key == *key) {
            Some(Webhook { enabled: true, target: Some(target), .. }) => TargetState::Active(target.clone()),
            Some(_) => TargetState::Disabled,
            None => TargetState::Unknown,
        }
    }

    /// Finds the organization and the campaign of an event. A listed campaign determines its organization. A message
    /// that names another one is misplaced, so that no tenant's leads go to the URL of another.
    pub fn place(&self, campaign: &str, organization: Option<&str>) -> Result<Placed<'_>, Misplaced> {
        let unlisted = match (self.listed(campaign), organization) {
            (Some((listed, _)), Some(said)) if &*listed.id != said => return Err(Misplaced::OrganizationMismatch),
            (Some((organization, campaign)), _) => return Ok(Placed { organization, campaign: Some(campaign) }),
            (None, Some(said)) => said,
            (None, None) => self.default_organization.as_deref().ok_or(Misplaced::UnknownCampaign)?,
        };
        let organization = self.organization(unlisted).ok_or(Misplaced::UnknownOrganization)?;
        Ok(Placed { organization, campaign: None })
    }

    fn organization(&self, id: &str) -> Option<&Organization> {
        self.organizations.get(*self.by_id.get(id)? as usize)
    }

    fn listed(&self, campaign: &str) -> Option<(&Organization, &Campaign)> {
        let Listed { organization, campaign } = *self.campaigns.get(campaign)?;
        let organization = self.organizations.get(organization as usize)?;
        Some((organization, organization.campaigns.get(campaign as usize)?))
    }

    /// Iterates over the organizations, in the order of their ids.
    pub fn organizations(&self) -> impl Iterator<Item = &Organization> {
        self.organizations.iter()
    }

    /// Returns the number of listed campaigns.
    pub fn campaign_count(&self) -> usize {
        self.campaigns.len()
    }

    /// Returns the organization of an unlisted campaign when the message names none.
    pub fn default_organization(&self) -> Option<&str> {
        self.default_organization.as_deref()
    }

    /// Iterates over the webhooks of all organizations and of all overriding campaigns.
    pub fn webhooks(&self) -> impl Iterator<Item = &Webhook> {
        self.organizations.iter().flat_map(|organization| {
            let campaigns = organization.campaigns.iter().flat_map(|campaign| campaign.webhooks());
            organization.webhooks.iter().chain(campaigns)
        })
    }

    /// Returns the longest timeout of an enabled target. `shutdown.grace` must exceed it.
    pub fn longest_timeout(&self) -> Option<Duration> {
        let enabled = self.webhooks().filter(|webhook| webhook.enabled);
        enabled.filter_map(|webhook| webhook.target.as_ref()).map(|target| target.timeout).max()
    }

    /// Returns 12 hexadecimal digits that identify the contents of the files and of everything they refer to.
    pub fn revision(&self) -> &str {
        &self.revision
    }

    /// Returns the probable mistakes for which a store is not refused.
    pub fn warnings(&self) -> &Problems {
        &self.warnings
    }

    /// Builds a store from checked parts.
    pub(super) fn new(
        organizations: Box<[Organization]>,
        default_organization: Option<String>,
        revision: String,
        warnings: Problems,
    ) -> Store {
        let by_id = (0..).zip(&organizations).map(|(at, organization)| (organization.id.clone(), at)).collect();
        let campaigns = (0..).zip(&organizations).flat_map(|(organization, of)| {
            (0..).zip(&of.campaigns).map(move |(campaign, of)| (of.id.clone(), Listed { organization, campaign }))
        });
        let campaigns = campaigns.collect();
        Store { organizations, by_id, campaigns, default_organization, revision, warnings }
    }
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store").field("revision", &self.revision).finish_non_exhaustive()
    }
}

impl Campaign {
    /// Returns the campaign's own webhooks, which exist only with `override: true`.
    pub fn webhooks(&self) -> &[Webhook] {
        match &self.rule {
            CampaignRule::Inherit => &[],
            CampaignRule::Override { webhooks, .. } => webhooks,
        }
    }
}

impl<'s> Placed<'s> {
    /// Returns the events of an overriding campaign that still go to targets of the organization, and the keys of those
    /// targets.
    ///
    /// Uses the resolution itself, so that the answer cannot differ from its behavior.
    pub fn left_events(&self) -> (EventSet, Vec<&'s TargetKey>) {
        let overriding = self.campaign.is_some_and(|campaign| matches!(campaign.rule, CampaignRule::Override { .. }));
        if !overriding {
            return (EventSet::NONE, Vec::new());
        }
        let own = &self.organization.webhooks;
        let takes = |kind| match self.targets(kind) {
            Resolution::Targets(targets) => own.iter().any(|own| targets.iter().any(|target| target.key == own.key)),
            Resolution::NoTarget(_) | Resolution::Misplaced(_) => false,
        };
        let left = EventKind::ALL.into_iter().filter(|kind| takes(*kind)).fold(EventSet::NONE, EventSet::with);
        let concerned = |webhook: &&Webhook| webhook.enabled && left.iter().any(|kind| webhook.events.contains(kind));
        (left, own.iter().filter(concerned).map(|webhook| &webhook.key).collect())
    }

    /// Resolves an event of this place (docs/reference/webhook-store.md). Never returns [`Resolution::Misplaced`].
    pub fn targets(&self, kind: EventKind) -> Resolution {
        match self.campaign.map(|campaign| &campaign.rule) {
            None | Some(CampaignRule::Inherit) => match ask(&self.organization.webhooks, kind) {
                Answer::Wanted(targets) => Resolution::Targets(targets),
                Answer::WantedByDisabled | Answer::AllDisabled => Resolution::NoTarget(NoTarget::Disabled),
                Answer::Unwanted => Resolution::NoTarget(NoTarget::EventNotSelected),
            },
            Some(CampaignRule::Override { webhooks, unselected_events }) => match ask(webhooks, kind) {
                Answer::Wanted(targets) => Resolution::Targets(targets),
                // The campaign's own webhooks decide about this event, so the organization must not get it instead.
                Answer::WantedByDisabled | Answer::AllDisabled => Resolution::NoTarget(NoTarget::CampaignDisabled),
                Answer::Unwanted => match unselected_events {
                    UnselectedEvents::Drop => Resolution::NoTarget(NoTarget::EventNotSelected),
                    UnselectedEvents::Organization => self.left_to_organization(kind),
                },
            },
        }
    }

    /// Resolves an event that an overriding campaign does not select. The reason is `disabled` only if a disabled
    /// webhook of the organization selects the event.
    fn left_to_organization(&self, kind: EventKind) -> Resolution {
        match ask(&self.organization.webhooks, kind) {
            Answer::Wanted(targets) => Resolution::Targets(targets),
            Answer::WantedByDisabled => Resolution::NoTarget(NoTarget::Disabled),
            Answer::AllDisabled | Answer::Unwanted => Resolution::NoTarget(NoTarget::EventNotSelected),
        }
    }
}

/// Which webhooks of one scope select an event.
enum Answer {
    /// Enabled ones, with these targets.
    Wanted(Vec<Arc<Target>>),
    /// Only disabled ones.
    WantedByDisabled,
    /// None, and none is enabled.
    AllDisabled,
    /// None, but some are enabled.
    Unwanted,
}

fn ask(webhooks: &[Webhook], kind: EventKind) -> Answer {
    let selecting = || webhooks.iter().filter(|webhook| webhook.events.contains(kind));
    let targets: Vec<_> =
        selecting().filter(|webhook| webhook.enabled).filter_map(|webhook| webhook.target.clone()).collect();
    if !targets.is_empty() {
        Answer::Wanted(targets)
    } else if selecting().next().is_some() {
        Answer::WantedByDisabled
    } else if webhooks.iter().any(|webhook| webhook.enabled) {
        Answer::Unwanted
    } else {
        Answer::AllDisabled
    }
}
