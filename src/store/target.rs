//! A target: one configured destination, and the key by which jobs refer to it.

use std::{fmt, sync::Arc, time::Duration};

use reqwest::header::HeaderMap;
use url::Url;

use super::{ca_certificate::CaCertificate, client_certificate::ClientCertificate, oauth2::Oauth2};
use crate::delivery::{rules::Rules, signature::SigningSecret};

/// `<organization>` or `<organization>/<campaign>`, plus `#<name>` if a scope has several targets. Cheap to clone.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TargetKey(Arc<str>);

impl TargetKey {
    /// Builds the key of a scope's target.
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

    /// Reads the key in a job's header. Checks only its size, 1 to 512 bytes, and not whether the store has the target.
    pub fn parse(key: &str) -> Option<TargetKey> {
        (!key.is_empty() && key.len() <= 512).then(|| TargetKey(key.into()))
    }

    /// Returns the key as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns the target's own name, if its scope has several targets.
    pub fn name(&self) -> Option<&str> {
        self.as_str().split_once('#').map(|(_, name)| name)
    }

    /// Returns the organization and the campaign that the key names. Ids contain neither `/` nor `#`.
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

/// Retries if neither campaign nor organization sets `retry_attempts`.
pub(super) const DEFAULT_RETRY_ATTEMPTS: u32 = 5;

/// Timeout if neither campaign nor organization sets `timeout`.
pub(super) const DEFAULT_TIMEOUT: Duration = Duration::from_secs(30);

/// One configured destination, with inheritance resolved.
pub struct Target {
    /// Stable name of this target.
    pub key: TargetKey,
    /// The organization it belongs to.
    pub organization: Arc<str>,
    /// The URL that gets the POST.
    pub url: Url,
    /// Headers to add, with secrets resolved. Every value is marked as sensitive.
    pub headers: HeaderMap,
    /// Standard Webhooks secrets. Each request is signed with all of them.
    pub signing_secrets: Vec<SigningSecret>,
    /// The certificate to show if the receiver asks for one.
    pub client_certificate: Option<Arc<ClientCertificate>>,
    /// The authorities to trust for the receiver; `None` for those that the worker trusts.
    pub ca_certificate: Option<Arc<CaCertificate>>,
    /// How the worker gets the token for the `Authorization` header.
    pub oauth2: Option<Arc<Oauth2>>,
    /// Retries after the first attempt, 1 to 10.
    pub retry_attempts: u32,
    /// Time for the whole exchange, 1 to 120 s.
    pub timeout: Duration,
    /// Most attempts in flight over all workers, 1 to 1000, if set. `delivery.max_in_flight` applies to each worker as
    /// well.
    pub max_in_flight: Option<u32>,
    /// Most attempts per second over all workers, 0.1 to 10,000, if set.
    pub max_per_second: Option<f64>,
    /// The rules that say what its answers mean.
    pub rules: Rules,
    /// The name of its circuit, `<organization> <origin>`.
    pub circuit: Arc<str>,
}

/// Names a circuit, `<organization> <origin>`: the attempts of one organization at one origin share a limit.
pub fn circuit_name(organization: &str, url: &Url) -> Arc<str> {
    format!("{organization} {}", url.origin().ascii_serialization()).into()
}

impl Target {
    /// Makes a target without headers and secrets, with defaults for everything else.
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

    /// Returns scheme, host and port. A table must not show more of the URL, because paths and queries may hold tokens.
    pub fn origin(&self) -> String {
        self.url.origin().ascii_serialization()
    }
}

/// Shows only the origin of the URL, no header value and no secret.
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
