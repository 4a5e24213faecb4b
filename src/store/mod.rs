//! The webhook store: who wants which events where (DESIGN.md section 3). (Loading: to be written.)

use std::{collections::BTreeMap, fmt, sync::Arc, time::Duration};

use crate::event::EventKind;

/// `<organization>` or `<organization>/<campaign>`, plus `#<name>` where a scope has several targets.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TargetKey(String);

impl TargetKey {
    /// The key of a scope's target.
    pub fn new(organization: &str, campaign: Option<&str>, name: Option<&str>) -> TargetKey {
        let mut key = organization.to_owned();
        if let Some(campaign) = campaign {
            key.push('/');
            key.push_str(campaign);
        }
        if let Some(name) = name {
            key.push('#');
            key.push_str(name);
        }
        TargetKey(key)
    }

    /// A key as it stands in a job's header. Only its size is checked here: whether it exists is the store's to say.
    pub fn parse(key: &str) -> Option<TargetKey> {
        (!key.is_empty() && key.len() <= 512).then(|| TargetKey(key.to_owned()))
    }

    /// The key as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for TargetKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Where a webhook goes: effective values, everything inherited already.
pub struct Target {
    /// Stable name of this target.
    pub key: TargetKey,
    /// The organization it belongs to.
    pub organization: String,
    /// Where to POST.
    pub url: url::Url,
    /// Headers to add, secrets resolved; every value is marked sensitive.
    pub headers: reqwest::header::HeaderMap,
    /// Standard Webhooks secrets, all of them active.
    pub signing_secrets: Vec<crate::delivery::signature::SigningSecret>,
    /// Retries after the first attempt, 1 to 10.
    pub retry_attempts: u32,
    /// Whole exchange, 1 to 120 s.
    pub timeout: Duration,
}

/// What an event comes to.
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

/// What the store says of a job's target now.
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

/// One immutable revision of the whole store.
pub struct Store {
    _scopes: BTreeMap<String, ()>,
}

impl Store {
    /// Which targets an event goes to. Pure; `organization` is what the message names, if it does.
    pub fn resolve(&self, _campaign: &str, _organization: Option<&str>, _kind: EventKind) -> Resolution {
        Resolution::NoTarget(NoTarget::Disabled)
    }

    /// The target of a waiting job: `organization` is the job's own.
    pub fn target(&self, _organization: &str, _key: &TargetKey) -> TargetState {
        TargetState::Unknown
    }
}
