//! From what a store says to what holds: inheritance field by field, with the origin of every value.
//!
//! One rule is about safety. URL, headers, secrets, certificates and `oauth2` go together: a campaign with a URL of its own
//! gets none of the organization's, because that would hand its credentials to another host. The test is `credentials_never_follow_to_another_url`.

use std::{collections::HashSet, sync::Arc};

use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderName, HeaderValue};
use url::Url;

use super::{
    authority::Authority,
    declared::{Declared, DeclaredCampaign, DeclaredOrganization, DeclaredWebhook, DeclaredWebhooks, UnselectedEvents},
    event_set::EventSet,
    fields::Said,
    identity::Identity,
    oauth2::Oauth2,
    problem::Problems,
    secrets::SecretText,
    target::{DEFAULT_RETRY_ATTEMPTS, DEFAULT_TIMEOUT, Target, TargetKey, circuit_name},
};
use crate::delivery::{
    rules::{Rules, Statuses},
    signature::SigningSecret,
};

/// Where an effective value was said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// In the organization's webhook.
    Organization,
    /// In the campaign's webhook.
    Campaign,
    /// Nowhere: the default holds.
    Default,
}

impl Origin {
    /// `organization`, `campaign` or `default`.
    pub fn name(self) -> &'static str {
        match self {
            Origin::Organization => "organization",
            Origin::Campaign => "campaign",
            Origin::Default => "default",
        }
    }
}

/// One organization of the store.
#[derive(Debug)]
pub struct Organization {
    /// Its id.
    pub id: Arc<str>,
    /// Its own webhooks; several only where they are named.
    pub webhooks: Box<[Webhook]>,
    /// The campaigns that the store lists, in the order of their ids.
    pub campaigns: Box<[Campaign]>,
}

/// One listed campaign.
#[derive(Debug)]
pub struct Campaign {
    /// Its id.
    pub id: Arc<str>,
    /// Whose settings hold for it.
    pub rule: CampaignRule,
}

/// Whose settings hold for a campaign.
#[derive(Debug)]
pub enum CampaignRule {
    /// The organization's, as they are.
    Inherit,
    /// Its own.
    Override {
        /// The campaign's webhooks, completed from the organization's.
        webhooks: Box<[Webhook]>,
        /// What becomes of events that none of them selects.
        unselected_events: UnselectedEvents,
    },
}

/// One webhook with everything inherited.
#[derive(Debug)]
pub struct Webhook {
    /// The key of its target.
    pub key: TargetKey,
    /// `false`: it gets no events.
    pub enabled: bool,
    /// Which events it selects.
    pub events: EventSet,
    /// Where it goes. Always there if `enabled`; a disabled webhook may be incomplete.
    pub target: Option<Arc<Target>>,
    /// Where its values were said.
    pub origins: Origins,
}

/// Where the values of a webhook were said.
#[derive(Debug)]
pub struct Origins {
    /// Of `enabled`; never inherited.
    pub enabled: Origin,
    /// Of `url`.
    pub url: Origin,
    /// Of `events`.
    pub events: Origin,
    /// Of each header.
    pub headers: Box<[(HeaderName, Origin)]>,
    /// Of `signing_secrets`; [`Origin::Default`] if there are none.
    pub signing_secrets: Origin,
    /// Of `client_certificate`; [`Origin::Default`] if there is none.
    pub client_certificate: Origin,
    /// Of `ca_certificate`; [`Origin::Default`] if there is none.
    pub ca_certificate: Origin,
    /// Of `oauth2`; [`Origin::Default`] if there is none.
    pub oauth2: Origin,
    /// Of `retry_attempts`.
    pub retry_attempts: Origin,
    /// Of `timeout`.
    pub timeout: Origin,
    /// Of `max_in_flight`; [`Origin::Default`] where the service's own limit is all.
    pub max_in_flight: Origin,
    /// Of `max_per_second`; [`Origin::Default`] if there is no limit.
    pub max_per_second: Origin,
    /// Of `accept`; [`Origin::Default`] if only 2xx means delivered.
    pub accept: Origin,
    /// Of `never_retry`; [`Origin::Default`] if no status besides 410 is final.
    pub never_retry: Origin,
    /// Of `accept_if`; [`Origin::Default`] if every 2xx means delivered.
    pub accept_if: Origin,
    /// Of `keep_refused`.
    pub keep_refused: Origin,
}

/// Completes every scope, in the order of the ids. The problems say what is missing; the result is whole only if they hold no
/// error. Texts that many targets have in common are held once.
pub(super) fn organizations(declared: &Declared, problems: &mut Problems) -> Box<[Organization]> {
    declared.organizations.iter().map(|(id, declared)| organization(id, declared, problems)).collect()
}

fn organization(id: &str, declared: &DeclaredOrganization, problems: &mut Problems) -> Organization {
    let mut tenant = Tenant { id: id.into(), circuits: HashSet::new() };
    let webhooks = declared.webhooks.all().iter().map(|own| {
        let scope = Scope { campaign: None, parent: None, parent_is_unusable: false };
        scope.complete(own, &mut tenant, problems)
    });
    let webhooks = webhooks.collect();
    let campaigns = declared
        .campaigns
        .iter()
        .map(|(id, campaign)| {
            let rule = rule(&mut tenant, id, campaign, &declared.webhooks, problems);
            Campaign { id: id.as_str().into(), rule }
        })
        .collect();
    Organization { id: tenant.id, webhooks, campaigns }
}

/// What the targets of one organization have in common.
struct Tenant {
    id: Arc<str>,
    circuits: HashSet<Arc<str>>,
}

impl Tenant {
    fn circuit(&mut self, url: &Url) -> Arc<str> {
        let name = circuit_name(&self.id, url);
        if let Some(known) = self.circuits.get(&name) {
            return known.clone();
        }
        self.circuits.insert(name.clone());
        name
    }
}

fn rule(
    tenant: &mut Tenant,
    id: &str,
    declared: &DeclaredCampaign,
    parents: &DeclaredWebhooks,
    problems: &mut Problems,
) -> CampaignRule {
    if declared.overrides.value() != Some(&true) {
        if !matches!(declared.overrides, Said::Unusable) {
            warn_of_no_effect(declared, problems);
        }
        return CampaignRule::Inherit;
    }
    let whole;
    let own = match &declared.webhooks {
        DeclaredWebhooks::Nothing => {
            whole = inherit_all(declared, parents, problems);
            whole.as_slice()
        }
        other => other.all(),
    };
    let parent_is_unusable = matches!(parents, DeclaredWebhooks::Unusable(_));
    let webhooks = own
        .iter()
        .map(|own| {
            let parent = parent(own, parents);
            Scope { campaign: Some(id), parent, parent_is_unusable }.complete(own, tenant, problems)
        })
        .collect();
    let unselected_events = declared.unselected_events.value().copied().unwrap_or(UnselectedEvents::Organization);
    CampaignRule::Override { webhooks, unselected_events }
}

fn warn_of_no_effect(declared: &DeclaredCampaign, problems: &mut Problems) {
    if let Some(place) = declared.webhooks.place() {
        let text = "the campaign's webhook settings have no effect without `override: true`; \
                    the organization's settings hold";
        problems.warning(place, &declared.path, text);
    }
    if declared.unselected_events.is_said() {
        let text = "`unselected_events` has no effect without `override: true`";
        problems.warning(&declared.place, &declared.path, text);
    }
}

/// `override: true` without a webhook: a target of the campaign's own with all the organization's values. Among several
/// named targets of the organization nothing is guessed.
fn inherit_all(
    declared: &DeclaredCampaign,
    parents: &DeclaredWebhooks,
    problems: &mut Problems,
) -> Vec<DeclaredWebhook> {
    match parents {
        DeclaredWebhooks::Nothing | DeclaredWebhooks::Unusable(_) => Vec::new(),
        DeclaredWebhooks::Single(..) => {
            let text = "`override: true` without a `webhook` takes every value from the organization, but counts as \
                        enabled by itself";
            problems.warning(&declared.place, &declared.path, text);
            vec![DeclaredWebhook::empty(declared.place.clone(), declared.path.key("webhook"))]
        }
        DeclaredWebhooks::Named(..) => {
            let text = "has `override: true` but no `webhooks`; list the targets of the campaign by name";
            problems.error(&declared.place, &declared.path, text);
            Vec::new()
        }
    }
}

/// The organization's webhook that a campaign's inherits from: the only one for the only one, else the one of the same name.
fn parent<'d>(own: &DeclaredWebhook, parents: &'d DeclaredWebhooks) -> Option<&'d DeclaredWebhook> {
    parents.all().iter().find(|parent| parent.name == own.name)
}

/// Where a webhook stands and what it inherits from.
struct Scope<'d> {
    campaign: Option<&'d str>,
    parent: Option<&'d DeclaredWebhook>,
    /// There is something to inherit from, but it is already among the problems.
    parent_is_unusable: bool,
}

impl Scope<'_> {
    fn complete(&self, own: &DeclaredWebhook, tenant: &mut Tenant, problems: &mut Problems) -> Webhook {
        let (enabled, enabled_origin) = self.choose(&own.enabled, None, true);
        let (events, events_origin) =
            self.choose(&own.events, self.parent.map(|parent| &parent.events), EventSet::NONE);
        let (retry_attempts, retry_origin) =
            self.choose(&own.retry_attempts, self.parent.map(|parent| &parent.retry_attempts), DEFAULT_RETRY_ATTEMPTS);
        let (timeout, timeout_origin) =
            self.choose(&own.timeout, self.parent.map(|parent| &parent.timeout), DEFAULT_TIMEOUT);
        let (max_in_flight, max_in_flight_origin) =
            self.choose(&own.max_in_flight, self.parent.map(|parent| &parent.max_in_flight), None);
        let (max_per_second, max_per_second_origin) =
            self.choose(&own.max_per_second, self.parent.map(|parent| &parent.max_per_second), None);
        let parents = self.parent.map(|parent| &parent.answers);
        let (accept, accept_origin) =
            self.choose(&own.answers.accept, parents.map(|up| &up.accept), Statuses::default());
        let (never_retry, never_retry_origin) =
            self.choose(&own.answers.never_retry, parents.map(|up| &up.never_retry), Statuses::default());
        let (accept_if, accept_if_origin) = self.choose(&own.answers.accept_if, parents.map(|up| &up.accept_if), None);
        let (keep_refused, keep_refused_origin) =
            self.choose(&own.answers.keep_refused, parents.map(|up| &up.keep_refused), false);
        let endpoint = self.endpoint(own);
        let rules = Rules { accept, never_retry, accept_if, keep_refused, token: endpoint.oauth2.is_some() };
        if accept_origin != never_retry_origin {
            self.require_distinct(own, &rules, problems);
        }
        if keep_refused && rules.accept_if.is_none() && own.answers.keep_refused.is_said() {
            let text = "`keep_refused` has no effect without `accept_if`, because only that refuses deliveries";
            problems.warning(&own.place, &own.path, text);
        }
        let authorization = |(name, _): &(HeaderName, HeaderValue)| *name == AUTHORIZATION;
        let is_own = own.oauth2.is_said() || own.headers.iter().any(authorization);
        if is_own && endpoint.oauth2.is_some() && endpoint.headers.contains_key(AUTHORIZATION) {
            let text = "has `oauth2` and an `Authorization` header, which would hold the token; keep one of them";
            problems.error(&own.place, &own.path, text);
        }
        let unclear = matches!(own.enabled, Said::Unusable) || self.parent_is_unusable;
        if enabled && !unclear {
            self.require(own, "url", own.url.is_said() || self.parent.is_some_and(|up| up.url.is_said()), problems);
            let events = own.events.is_said() || self.parent.is_some_and(|up| up.events.is_said());
            self.require(own, "events", events, problems);
        }
        let key = TargetKey::new(&tenant.id, self.campaign, own.name.as_deref());
        let target = endpoint.url.map(|url| {
            let circuit = tenant.circuit(&url);
            Arc::new(Target {
                key: key.clone(),
                organization: tenant.id.clone(),
                url,
                headers: endpoint.headers,
                signing_secrets: endpoint.secrets.iter().filter_map(parse).collect(),
                client_certificate: endpoint.identity,
                ca_certificate: endpoint.authority,
                oauth2: endpoint.oauth2,
                retry_attempts,
                timeout,
                max_in_flight,
                max_per_second,
                rules,
                circuit,
            })
        });
        let origins = Origins {
            enabled: enabled_origin,
            url: endpoint.url_origin,
            events: events_origin,
            headers: endpoint.header_origins.into(),
            signing_secrets: endpoint.secrets_origin,
            client_certificate: endpoint.identity_origin,
            ca_certificate: endpoint.authority_origin,
            oauth2: endpoint.oauth2_origin,
            retry_attempts: retry_origin,
            timeout: timeout_origin,
            max_in_flight: max_in_flight_origin,
            max_per_second: max_per_second_origin,
            accept: accept_origin,
            never_retry: never_retry_origin,
            accept_if: accept_if_origin,
            keep_refused: keep_refused_origin,
        };
        Webhook { key, enabled, events, target, origins }
    }

    /// The origin of what this scope says itself.
    fn own_origin(&self) -> Origin {
        if self.campaign.is_some() { Origin::Campaign } else { Origin::Organization }
    }

    fn choose<T: Clone>(&self, own: &Said<T>, parent: Option<&Said<T>>, default: T) -> (T, Origin) {
        match (own.value(), parent.and_then(Said::value)) {
            (Some(own), _) => (own.clone(), self.own_origin()),
            (None, Some(parent)) => (parent.clone(), Origin::Organization),
            (None, None) => (default, Origin::Default),
        }
    }

    /// URL, headers, secrets, certificates and `oauth2`: together or not at all.
    fn endpoint(&self, own: &DeclaredWebhook) -> Endpoint {
        let mut endpoint = Endpoint::default();
        let lender = if own.url.is_said() { None } else { self.parent };
        if let Some(lender) = lender {
            endpoint.take(lender, Origin::Organization);
        }
        endpoint.take(own, self.own_origin());
        endpoint
    }

    /// A status of one list that is inherited must not be in the other list. Two lists of one block were compared when it was read.
    fn require_distinct(&self, own: &DeclaredWebhook, rules: &Rules, problems: &mut Problems) {
        if let Some(status) = rules.accept.shared_with(&rules.never_retry) {
            let text = format!(
                "has {status} in `accept` and in `never_retry`, one of them from the organization; \
                 it means delivered or failed, not both: write both lists here"
            );
            problems.error(&own.place, &own.path, text);
        }
    }

    fn require(&self, own: &DeclaredWebhook, key: &str, there: bool, problems: &mut Problems) {
        if there {
            return;
        }
        let text = match (self.campaign, self.parent, &own.name) {
            (None, ..) => format!("lacks `{key}`; add it, or write `enabled: false` to switch the webhook off"),
            (Some(_), Some(_), _) => format!("lacks `{key}`, and the organization's webhook has none to inherit"),
            (Some(_), None, Some(name)) => {
                format!("lacks `{key}`, and the organization has no target named `{name}` to inherit it from")
            }
            (Some(_), None, None) => {
                format!("lacks `{key}`, and the organization has no single `webhook` to inherit it from")
            }
        };
        problems.error(&own.place, &own.path, text);
    }
}

/// What goes together, while it is put together.
struct Endpoint {
    url: Option<Url>,
    url_origin: Origin,
    headers: HeaderMap,
    header_origins: Vec<(HeaderName, Origin)>,
    secrets: Vec<SecretText>,
    secrets_origin: Origin,
    identity: Option<Arc<Identity>>,
    identity_origin: Origin,
    authority: Option<Arc<Authority>>,
    authority_origin: Origin,
    oauth2: Option<Arc<Oauth2>>,
    oauth2_origin: Origin,
}

impl Default for Endpoint {
    fn default() -> Endpoint {
        Endpoint {
            url: None,
            url_origin: Origin::Default,
            headers: HeaderMap::new(),
            header_origins: Vec::new(),
            secrets: Vec::new(),
            secrets_origin: Origin::Default,
            identity: None,
            identity_origin: Origin::Default,
            authority: None,
            authority_origin: Origin::Default,
            oauth2: None,
            oauth2_origin: Origin::Default,
        }
    }
}

impl Endpoint {
    /// Puts what a block says over what is there: URL and secrets replace, headers replace those of the same name.
    fn take(&mut self, block: &DeclaredWebhook, origin: Origin) {
        if let Said::Value(url) = &block.url {
            (self.url, self.url_origin) = (Some(url.clone()), origin);
        }
        if let Said::Value(secrets) = &block.signing_secrets {
            (self.secrets, self.secrets_origin) = (secrets.clone(), origin);
        }
        if let Said::Value(identity) = &block.client_certificate {
            (self.identity, self.identity_origin) = (Some(identity.clone()), origin);
        }
        if let Said::Value(authority) = &block.ca_certificate {
            (self.authority, self.authority_origin) = (Some(authority.clone()), origin);
        }
        if let Said::Value(oauth2) = &block.oauth2 {
            (self.oauth2, self.oauth2_origin) = (Some(oauth2.clone()), origin);
        }
        for (name, value) in &block.headers {
            self.header(name, value, origin);
        }
    }

    fn header(&mut self, name: &HeaderName, value: &HeaderValue, origin: Origin) {
        let (name, value) = (&unshared_name(name), unshared_value(value));
        self.headers.insert(name.clone(), value);
        self.header_origins.retain(|(earlier, _)| earlier != name);
        self.header_origins.push((name.clone(), origin));
    }
}

/// A copy that holds nothing of what the files were read into, see `load.rs`: a clone would share it.
fn unshared_name(name: &HeaderName) -> HeaderName {
    HeaderName::from_bytes(name.as_str().as_bytes()).unwrap_or_else(|_| name.clone())
}

/// Likewise.
fn unshared_value(value: &HeaderValue) -> HeaderValue {
    let mut copy = HeaderValue::from_bytes(value.as_bytes()).unwrap_or_else(|_| value.clone());
    copy.set_sensitive(value.is_sensitive());
    copy
}

/// Every secret was parsed when it was read, so none is lost here.
fn parse(text: &SecretText) -> Option<SigningSecret> {
    SigningSecret::parse(text.expose()).ok()
}
