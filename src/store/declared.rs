//! The values that the files of a store set, key by key, before inheritance.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use reqwest::header::{HeaderName, HeaderValue};
use url::Url;

use super::{
    answers::DeclaredAnswers, ca_certificate::CaCertificate, client_certificate::ClientCertificate, document::KeyPath,
    event_set::EventSet, fields::Said, oauth2::Oauth2, problem::Place, secrets::SecretText,
};

/// The values of all files together.
#[derive(Default)]
pub(super) struct Declared {
    pub organizations: BTreeMap<String, DeclaredOrganization>,
    pub default_organization: Option<(String, Place)>,
    /// Whether a file could not be read or parsed. It may hold the missing values, so these are not reported.
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

/// What happens to events that an overriding campaign does not select.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UnselectedEvents {
    /// They are dropped: `unselected_events: drop`.
    Drop,
    /// The organization's targets get them: `unselected_events: organization`, the default.
    Organization,
}

/// `webhook` or `webhooks` of a scope.
pub(super) enum DeclaredWebhooks {
    /// Neither key is set.
    Nothing,
    /// A key is set, but its value is invalid and already among the problems.
    Unusable(Place),
    /// `webhook`
    Single(Place, Box<DeclaredWebhook>),
    /// `webhooks`
    Named(Place, Vec<DeclaredWebhook>),
}

impl DeclaredWebhooks {
    /// Returns the place of the key, if one is set.
    pub(super) fn place(&self) -> Option<&Place> {
        match self {
            DeclaredWebhooks::Nothing => None,
            DeclaredWebhooks::Unusable(place)
            | DeclaredWebhooks::Single(place, _)
            | DeclaredWebhooks::Named(place, _) => Some(place),
        }
    }

    /// Returns the webhooks, whether one or several.
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
    /// The name of its target; only in a `webhooks` list.
    pub name: Option<String>,
    /// The place of the key `webhook`, or of the entry of the list.
    pub place: Place,
    pub path: KeyPath,
    pub enabled: Said<bool>,
    pub url: Said<Url>,
    pub events: Said<EventSet>,
    pub headers: Vec<(HeaderName, HeaderValue)>,
    pub signing_secrets: Said<Vec<SecretText>>,
    pub client_certificate: Said<Arc<ClientCertificate>>,
    pub ca_certificate: Said<Arc<CaCertificate>>,
    pub oauth2: Said<Arc<Oauth2>>,
    pub retry_attempts: Said<u32>,
    pub timeout: Said<Duration>,
    pub max_in_flight: Said<Option<u32>>,
    pub max_per_second: Said<Option<f64>>,
    pub answers: DeclaredAnswers,
}

impl DeclaredWebhook {
    /// Makes a block without any key, which inherits everything.
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
