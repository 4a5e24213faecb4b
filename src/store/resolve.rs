//! Which targets an event goes to, and what the store says of a waiting job's target. Pure: one revision of the store
//! and the names in the message decide, nothing else.
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

/// What an event comes to.
#[derive(Debug)]
pub enum Resolution {
    /// One job for each.
    Targets(Vec<Arc<Target>>),
    /// A normal result: nobody wants it.
    NoTarget(NoTarget),
    /// The event cannot be placed: rejected.
    Misplaced(Misplaced),
}

/// Why nobody wants an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum NoTarget {
    /// `disabled`: the organization's webhook is off.
    Disabled,
    /// `event_not_selected`
    EventNotSelected,
    /// `campaign_disabled`
    CampaignDisabled,
}

impl NoTarget {
    /// Every reason.
    pub const ALL: [NoTarget; 3] = [NoTarget::Disabled, NoTarget::EventNotSelected, NoTarget::CampaignDisabled];

    /// The reason as metric label and log field.
    pub fn name(self) -> &'static str {
        match self {
            NoTarget::Disabled => "disabled",
            NoTarget::EventNotSelected => "event_not_selected",
            NoTarget::CampaignDisabled => "campaign_disabled",
        }
    }
}

/// Why an event cannot be placed in the store. Ids named here are the store's or the message's routing ids, not lead data.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Misplaced {
    /// The campaign is not listed, the message names no organization and there is no default.
    UnknownCampaign,
    /// The organization is not in the store.
    UnknownOrganization,
    /// The store places the campaign in another organization than the message says.
    OrganizationMismatch,
}

impl Misplaced {
    /// The reason as metric label and log field.
    pub fn name(self) -> &'static str {
        match self {
            Misplaced::UnknownCampaign => "unknown_campaign",
            Misplaced::UnknownOrganization => "unknown_organization",
            Misplaced::OrganizationMismatch => "organization_mismatch",
        }
    }
}

/// What the store says of a job's target now.
#[derive(Debug)]
pub enum TargetState {
    /// Deliver there.
    Active(Arc<Target>),
    /// It is there but switched off (its own `enabled: false`, or its scope's).
    Disabled,
    /// Not in this store.
    Unknown,
    /// The campaign of this key belongs to another organization than the job's.
    Moved,
}

/// Where an event stands in the store.
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
    /// Where among them.
    by_id: HashMap<Arc<str>, u32>,
    /// One look says where a campaign is: each that misses the caches costs more than all the rest of a resolution.
    campaigns: HashMap<Arc<str>, Listed>,
    default_organization: Option<String>,
    revision: String,
    warnings: Problems,
}

/// Where a campaign is listed.
#[derive(Clone, Copy)]
struct Listed {
    /// Which organization.
    organization: u32,
    /// Which of its campaigns.
    campaign: u32,
}

impl Store {
    /// Which targets an event goes to. Pure; `organization` is what the message names, if it does.
    pub fn resolve(&self, campaign: &str, organization: Option<&str>, kind: EventKind) -> Resolution {
        match self.place(campaign, organization) {
            Ok(placed) => placed.targets(kind),
            Err(misplaced) => Resolution::Misplaced(misplaced),
        }
    }

    /// The target of a waiting job: `organization` is the job's own.
    ///
    /// Which events are selected plays no role any more: the job was accepted when the event came.
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

    /// Finds the organization and the campaign of an event. A listed campaign decides its organization, and a message
    /// that says otherwise is misplaced: this protects one tenant's leads from another's URL.
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

    /// The organizations, in the order of their ids.
    pub fn organizations(&self) -> impl Iterator<Item = &Organization> {
        self.organizations.iter()
    }

    /// How many campaigns are listed.
    pub fn campaign_count(&self) -> usize {
        self.campaigns.len()
    }

    /// Whose settings an unlisted campaign gets when the message names no organization.
    pub fn default_organization(&self) -> Option<&str> {
        self.default_organization.as_deref()
    }

    /// Every webhook of every scope that has its own.
    pub fn webhooks(&self) -> impl Iterator<Item = &Webhook> {
        self.organizations.iter().flat_map(|organization| {
            let campaigns = organization.campaigns.iter().flat_map(|campaign| campaign.webhooks());
            organization.webhooks.iter().chain(campaigns)
        })
    }

    /// The longest timeout of an enabled target: `shutdown.grace` must exceed it.
    pub fn longest_timeout(&self) -> Option<Duration> {
        let enabled = self.webhooks().filter(|webhook| webhook.enabled);
        enabled.filter_map(|webhook| webhook.target.as_ref()).map(|target| target.timeout).max()
    }

    /// 12 hexadecimal digits that stand for the contents of the files and of everything they refer to.
    pub fn revision(&self) -> &str {
        &self.revision
    }

    /// What is probably a mistake, but no reason to refuse the store.
    pub fn warnings(&self) -> &Problems {
        &self.warnings
    }

    /// Joins what was checked.
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
    /// The campaign's own webhooks: none unless it overrides.
    pub fn webhooks(&self) -> &[Webhook] {
        match &self.rule {
            CampaignRule::Inherit => &[],
            CampaignRule::Override { webhooks, .. } => webhooks,
        }
    }
}

impl<'s> Placed<'s> {
    /// Events of an overriding campaign that still go to targets of the organization, and those targets' keys.
    ///
    /// Asked of the resolution itself, so that what is said of it and what it does cannot differ.
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

    /// What an event of this place comes to: docs/reference/webhook-store.md. Never [`Resolution::Misplaced`].
    pub fn targets(&self, kind: EventKind) -> Resolution {
        match self.campaign.map(|campaign| &campaign.rule) {
            None | Some(CampaignRule::Inherit) => match ask(&self.organization.webhooks, kind) {
                Answer::Wanted(targets) => Resolution::Targets(targets),
                Answer::WantedByDisabled | Answer::AllDisabled => Resolution::NoTarget(NoTarget::Disabled),
                Answer::Unwanted => Resolution::NoTarget(NoTarget::EventNotSelected),
            },
            Some(CampaignRule::Override { webhooks, unselected_events }) => match ask(webhooks, kind) {
                Answer::Wanted(targets) => Resolution::Targets(targets),
                // The campaign speaks for this event, and says no: the organization must not get it instead.
                Answer::WantedByDisabled | Answer::AllDisabled => Resolution::NoTarget(NoTarget::CampaignDisabled),
                Answer::Unwanted => match unselected_events {
                    UnselectedEvents::Drop => Resolution::NoTarget(NoTarget::EventNotSelected),
                    UnselectedEvents::Organization => self.left_to_organization(kind),
                },
            },
        }
    }

    /// An event that an overriding campaign does not select. That the organization is off matters only if it would
    /// have wanted the event.
    fn left_to_organization(&self, kind: EventKind) -> Resolution {
        match ask(&self.organization.webhooks, kind) {
            Answer::Wanted(targets) => Resolution::Targets(targets),
            Answer::WantedByDisabled => Resolution::NoTarget(NoTarget::Disabled),
            Answer::AllDisabled | Answer::Unwanted => Resolution::NoTarget(NoTarget::EventNotSelected),
        }
    }
}

/// What the webhooks of one scope say to an event.
enum Answer {
    /// Enabled ones select it.
    Wanted(Vec<Arc<Target>>),
    /// Only disabled ones select it.
    WantedByDisabled,
    /// None selects it, and none is enabled.
    AllDisabled,
    /// None selects it, but some are enabled.
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
