//! What the files of a store say, key by key, before anything is inherited.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use reqwest::header::{HeaderName, HeaderValue};
use url::Url;

use super::{
    answers::DeclaredAnswers, authority::Authority, document::KeyPath, event_set::EventSet, fields::Said,
    identity::Identity, oauth2::Oauth2, problem::Place, secrets::SecretText,
};

/// All files together.
#[derive(Default)]
pub(super) struct Declared {
    pub organizations: BTreeMap<String, DeclaredOrganization>,
    pub default_organization: Option<(String, Place)>,
    /// A file could not be read or parsed: what is missing may be in there, so that nothing is said of it.
    pub incomplete: bool,
}

/// One organization, perhaps from several files.
pub(super) struct DeclaredOrganization {
    pub place: Place,
    pub path: KeyPath,
    pub webhooks: DeclaredWebhooks,
    pub campaigns: BTreeMap<String, DeclaredCampaign>,
}

/// One campaign.
pub(super) struct DeclaredCampaign {
    pub place: Place,
    pub path: KeyPath,
    pub overrides: Said<bool>,
    pub webhooks: DeclaredWebhooks,
    pub unselected_events: Said<UnselectedEvents>,
}

/// What becomes of events that an overriding campaign does not select.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UnselectedEvents {
    /// They are dropped: `unselected_events: drop`.
    Drop,
    /// The organization's targets get them: `unselected_events: organization`, the default.
    Organization,
}

/// `webhook` or `webhooks` of a scope.
pub(super) enum DeclaredWebhooks {
    /// Neither key is there.
    Nothing,
    /// One of the keys is there, but what it says is already among the problems.
    Unusable(Place),
    /// `webhook`
    Single(Place, Box<DeclaredWebhook>),
    /// `webhooks`
    Named(Place, Vec<DeclaredWebhook>),
}

impl DeclaredWebhooks {
    /// Where the key stands.
    pub(super) fn place(&self) -> Option<&Place> {
        match self {
            DeclaredWebhooks::Nothing => None,
            DeclaredWebhooks::Unusable(place)
            | DeclaredWebhooks::Single(place, _)
            | DeclaredWebhooks::Named(place, _) => Some(place),
        }
    }

    /// The webhooks, one or several.
    pub(super) fn all(&self) -> &[DeclaredWebhook] {
        match self {
            DeclaredWebhooks::Nothing | DeclaredWebhooks::Unusable(_) => &[],
            DeclaredWebhooks::Single(_, webhook) => std::slice::from_ref(webhook),
            DeclaredWebhooks::Named(_, webhooks) => webhooks,
        }
    }
}

/// One webhook block.
pub(super) struct DeclaredWebhook {
    /// In lists only.
    pub name: Option<String>,
    /// The key `webhook`, or the entry of the list.
    pub place: Place,
    pub path: KeyPath,
    pub enabled: Said<bool>,
    pub url: Said<Url>,
    pub events: Said<EventSet>,
    pub headers: Vec<(HeaderName, HeaderValue)>,
    pub signing_secrets: Said<Vec<SecretText>>,
    pub client_certificate: Said<Arc<Identity>>,
    pub ca_certificate: Said<Arc<Authority>>,
    pub oauth2: Said<Arc<Oauth2>>,
    pub retry_attempts: Said<u32>,
    pub timeout: Said<Duration>,
    pub max_in_flight: Said<Option<u32>>,
    pub max_per_second: Said<Option<f64>>,
    pub answers: DeclaredAnswers,
}

impl DeclaredWebhook {
    /// A block without any key: everything is inherited.
    pub(super) fn empty(place: Place, path: KeyPath) -> DeclaredWebhook {
        DeclaredWebhook {
            name: None,
            place,
            path,
            enabled: Said::Nothing,
            url: Said::Nothing,
            events: Said::Nothing,
            headers: Vec::new(),
            signing_secrets: Said::Nothing,
            client_certificate: Said::Nothing,
            ca_certificate: Said::Nothing,
            oauth2: Said::Nothing,
            retry_attempts: Said::Nothing,
            timeout: Said::Nothing,
            max_in_flight: Said::Nothing,
            max_per_second: Said::Nothing,
            answers: DeclaredAnswers::NOTHING,
        }
    }
}
