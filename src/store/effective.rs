//! Resolves inheritance field by field, and keeps the origin of every value.
//!
//! One rule is about safety. URL, headers, secrets, certificates and `oauth2` go together. A campaign with its own URL
//! inherits none of them, because another host would then get the organization's credentials. The test is
//! `credentials_never_follow_to_another_url`.

use std::{collections::HashSet, sync::Arc};

use reqwest::header::{AUTHORIZATION, HeaderName, HeaderValue};
use url::Url;

use super::{
    declared::{Declared, DeclaredCampaign, DeclaredOrganization, DeclaredWebhook, DeclaredWebhooks, UnselectedEvents},
    endpoint::{Endpoint, ValueSource, parse},
    event_set::EventSet,
    fields::Said,
    problem::Problems,
    target::{DEFAULT_RETRY_ATTEMPTS, DEFAULT_TIMEOUT, Target, TargetKey, circuit_name},
};
use crate::delivery::rules::{Rules, Statuses};

/// One organization of the store.
#[derive(Debug)]
pub struct Organization {
    /// Its id.
    pub id: Arc<str>,
    /// Its own webhooks. If there are several, each has a name.
    pub webhooks: Box<[Webhook]>,
    /// The campaigns that the store lists, in the order of their ids.
    pub campaigns: Box<[Campaign]>,
}

/// One listed campaign.
#[derive(Debug)]
pub struct Campaign {
    /// Its id.
    pub id: Arc<str>,
    /// Which settings apply to it.
    pub rule: CampaignRule,
}

/// Which settings apply to a campaign.
#[derive(Debug)]
pub enum CampaignRule {
    /// The settings of the organization.
    Inherit,
    /// Its own settings.
    Override {
        /// The campaign's webhooks, with values inherited from the organization.
        webhooks: Box<[Webhook]>,
        /// What happens to events that none of them selects.
        unselected_events: UnselectedEvents,
    },
}

/// One webhook, with inheritance resolved.
#[derive(Debug)]
pub struct Webhook {
    /// The key of its target.
    pub key: TargetKey,
    /// Whether it gets events.
    pub enabled: bool,
    /// The events that it selects.
    pub events: EventSet,
    /// Its target. Always present if `enabled`; a disabled webhook may lack a URL.
    pub target: Option<Arc<Target>>,
    /// The origins of its values.
    pub origins: Origins,
}

/// The origins of the values of a webhook.
#[derive(Debug)]
pub struct Origins {
    /// ValueSource of `enabled`, which is never inherited.
    pub enabled: ValueSource,
    /// ValueSource of `url`.
    pub url: ValueSource,
    /// ValueSource of `events`.
    pub events: ValueSource,
    /// ValueSource of each header.
    pub headers: Box<[(HeaderName, ValueSource)]>,
    /// ValueSource of `signing_secrets`; [`ValueSource::Default`] if there are none.
    pub signing_secrets: ValueSource,
    /// ValueSource of `client_certificate`; [`ValueSource::Default`] if there is none.
    pub client_certificate: ValueSource,
    /// ValueSource of `ca_certificate`; [`ValueSource::Default`] if there is none.
    pub ca_certificate: ValueSource,
    /// ValueSource of `oauth2`; [`ValueSource::Default`] if there is none.
    pub oauth2: ValueSource,
    /// ValueSource of `retry_attempts`.
    pub retry_attempts: ValueSource,
    /// ValueSource of `timeout`.
    pub timeout: ValueSource,
    /// ValueSource of `max_in_flight`; [`ValueSource::Default`] if only the limit of the worker applies.
    pub max_in_flight: ValueSource,
    /// ValueSource of `max_per_second`; [`ValueSource::Default`] if the rate is unlimited.
    pub max_per_second: ValueSource,
    /// ValueSource of `accept`; [`ValueSource::Default`] if only 2xx means delivered.
    pub accept: ValueSource,
    /// ValueSource of `never_retry`; [`ValueSource::Default`] if no status besides 410 is final.
    pub never_retry: ValueSource,
    /// ValueSource of `accept_if`; [`ValueSource::Default`] if every 2xx means delivered.
    pub accept_if: ValueSource,
    /// ValueSource of `keep_refused`.
    pub keep_refused: ValueSource,
}

/// Completes every scope, in the order of the ids. Adds a problem for each missing value; the result is complete only
/// if none of them is an error. Targets of one organization share its id and the names of circuits.
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

/// The texts that the targets of one organization share.
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
                    the organization's settings apply";
        problems.warning(place, &declared.path, text);
    }
    if declared.unselected_events.is_said() {
        let text = "`unselected_events` has no effect without `override: true`";
        problems.warning(&declared.place, &declared.path, text);
    }
}

/// Handles `override: true` without a webhook: the campaign gets its own target with all values of the organization. If
/// the targets of the organization have names, this is an error.
fn inherit_all(
    declared: &DeclaredCampaign,
    parents: &DeclaredWebhooks,
    problems: &mut Problems,
) -> Vec<DeclaredWebhook> {
    match parents {
        DeclaredWebhooks::Nothing | DeclaredWebhooks::Unusable(_) => Vec::new(),
        DeclaredWebhooks::Single(..) => {
            let text = "`override: true` without a `webhook` inherits every value from the organization except \
                        `enabled`, which defaults to true";
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

/// Finds the webhook of the organization from which `own` inherits: the one of the same name, or the one without a
/// name.
fn parent<'d>(own: &DeclaredWebhook, parents: &'d DeclaredWebhooks) -> Option<&'d DeclaredWebhook> {
    parents.all().iter().find(|parent| parent.name == own.name)
}

/// The scope of a webhook, and the webhook from which it inherits.
struct Scope<'d> {
    campaign: Option<&'d str>,
    parent: Option<&'d DeclaredWebhook>,
    /// Whether the organization's webhook is invalid and already among the problems.
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
                client_certificate: endpoint.client_certificate,
                ca_certificate: endpoint.ca_certificate,
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
            client_certificate: endpoint.client_certificate_origin,
            ca_certificate: endpoint.ca_certificate_origin,
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

    /// Returns the origin of the values that this scope sets itself.
    fn own_origin(&self) -> ValueSource {
        if self.campaign.is_some() { ValueSource::Campaign } else { ValueSource::Organization }
    }

    fn choose<T: Clone>(&self, own: &Said<T>, parent: Option<&Said<T>>, default: T) -> (T, ValueSource) {
        match (own.value(), parent.and_then(Said::value)) {
            (Some(own), _) => (own.clone(), self.own_origin()),
            (None, Some(parent)) => (parent.clone(), ValueSource::Organization),
            (None, None) => (default, ValueSource::Default),
        }
    }

    /// Combines URL, headers, secrets, certificates and `oauth2`. They are inherited together or not at all.
    fn endpoint(&self, own: &DeclaredWebhook) -> Endpoint {
        let mut endpoint = Endpoint::default();
        let lender = if own.url.is_said() { None } else { self.parent };
        if let Some(lender) = lender {
            endpoint.take(lender, ValueSource::Organization);
        }
        endpoint.take(own, self.own_origin());
        endpoint
    }

    /// Reports a status that is in both lists, when one of them is inherited. The lists of one block are compared when
    /// it is read.
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
