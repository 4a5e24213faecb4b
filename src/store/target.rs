//! A target: where a webhook goes, and the key by which jobs remember it.

use std::{fmt, sync::Arc, time::Duration};

use reqwest::header::HeaderMap;
use url::Url;

use super::{authority::Authority, identity::Identity, oauth2::Oauth2};
use crate::delivery::{rules::Rules, signature::SigningSecret};

/// `<organization>` or `<organization>/<campaign>`, plus `#<name>` where a scope has several targets. Cheap to clone.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TargetKey(Arc<str>);

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
        TargetKey(key.into())
    }

    /// A key as it stands in a job's header. Only its size is checked here: whether it exists is the store's to say.
    pub fn parse(key: &str) -> Option<TargetKey> {
        (!key.is_empty() && key.len() <= 512).then(|| TargetKey(key.into()))
    }

    /// The key as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The target's own name, where its scope has several.
    pub fn name(&self) -> Option<&str> {
        self.as_str().split_once('#').map(|(_, name)| name)
    }

    /// The organization and the campaign that the key names. Ids hold neither `/` nor `#`.
    pub(super) fn scope(&self) -> (&str, Option<&str>) {
        let scope = self.as_str().split_once('#').map_or(self.as_str(), |(scope, _)| scope);
        match scope.split_once('/') {
            None => (scope, None),
            Some((organization, campaign)) => (organization, Some(campaign)),
        }
    }
}

impl fmt::Display for TargetKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Retries where neither campaign nor organization says anything.
pub(super) const DEFAULT_RETRY_ATTEMPTS: u32 = 5;

/// Timeout where neither campaign nor organization says anything.
pub(super) const DEFAULT_TIMEOUT: Duration = Duration::from_secs(30);

/// Where a webhook goes: effective values, everything inherited already.
pub struct Target {
    /// Stable name of this target.
    pub key: TargetKey,
    /// The organization it belongs to.
    pub organization: Arc<str>,
    /// Where to POST.
    pub url: Url,
    /// Headers to add, secrets resolved; every value is marked sensitive.
    pub headers: HeaderMap,
    /// Standard Webhooks secrets, all of them active.
    pub signing_secrets: Vec<SigningSecret>,
    /// Who we are, if the receiver asks.
    pub client_certificate: Option<Arc<Identity>>,
    /// Who vouches for the receiver; none: the authorities that the worker trusts.
    pub ca_certificate: Option<Arc<Authority>>,
    /// Where the worker gets the token for the `Authorization` header.
    pub oauth2: Option<Arc<Oauth2>>,
    /// Retries after the first attempt, 1 to 10.
    pub retry_attempts: u32,
    /// Whole exchange, 1 to 120 s.
    pub timeout: Duration,
    /// Most attempts in flight that it wants over all workers, if it says so, 1 to 1000. The service's own limit for each
    /// worker applies as well.
    pub max_in_flight: Option<u32>,
    /// Most attempts each second that it wants over all workers, if it says so, 0.1 to 10,000.
    pub max_per_second: Option<f64>,
    /// What its answers mean.
    pub rules: Rules,
    /// The name under which attempts in flight are limited together, `<organization> <origin>`.
    pub circuit: Arc<str>,
}

/// `<organization> <origin>`: what one organization has in flight to one host is limited together.
pub fn circuit_name(organization: &str, url: &Url) -> Arc<str> {
    format!("{organization} {}", url.origin().ascii_serialization()).into()
}

impl Target {
    /// A target without headers and secrets, and with the defaults of everything else.
    pub fn plain(key: TargetKey, organization: &str, url: Url) -> Target {
        Target {
            key,
            organization: organization.into(),
            circuit: circuit_name(organization, &url),
            url,
            headers: HeaderMap::new(),
            signing_secrets: Vec::new(),
            client_certificate: None,
            ca_certificate: None,
            oauth2: None,
            retry_attempts: DEFAULT_RETRY_ATTEMPTS,
            timeout: DEFAULT_TIMEOUT,
            max_in_flight: None,
            max_per_second: None,
            rules: Rules::default(),
        }
    }

    /// Scheme, host and port: all of the URL that a table may show, since tokens travel in paths and queries.
    pub fn origin(&self) -> String {
        self.url.origin().ascii_serialization()
    }
}

/// Shows no URL beyond its host, no header value and no secret.
impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Target")
            .field("key", &self.key.as_str())
            .field("origin", &self.origin())
            .field("retry_attempts", &self.retry_attempts)
            .field("timeout", &self.timeout)
            .finish_non_exhaustive()
    }
}
