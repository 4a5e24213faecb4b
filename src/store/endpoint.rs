//! URL, headers, secrets and certificates, which are inherited together.

use std::sync::Arc;

use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use url::Url;

use super::{
    ca_certificate::CaCertificate, client_certificate::ClientCertificate, declared::DeclaredWebhook, fields::Said,
    oauth2::Oauth2, secrets::SecretText,
};
use crate::delivery::signature::SigningSecret;

/// The source of an effective value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ValueSource {
    /// The organization's webhook.
    Organization,
    /// The campaign's webhook.
    Campaign,
    /// The default, because neither sets the value.
    Default,
}

impl ValueSource {
    /// Returns `organization`, `campaign` or `default`.
    pub fn name(self) -> &'static str {
        match self {
            ValueSource::Organization => "organization",
            ValueSource::Campaign => "campaign",
            ValueSource::Default => "default",
        }
    }
}

/// The values that are inherited together.
pub(super) struct Endpoint {
    pub(super) url: Option<Url>,
    pub(super) url_origin: ValueSource,
    pub(super) headers: HeaderMap,
    pub(super) header_origins: Vec<(HeaderName, ValueSource)>,
    pub(super) secrets: Vec<SecretText>,
    pub(super) secrets_origin: ValueSource,
    pub(super) client_certificate: Option<Arc<ClientCertificate>>,
    pub(super) client_certificate_origin: ValueSource,
    pub(super) ca_certificate: Option<Arc<CaCertificate>>,
    pub(super) ca_certificate_origin: ValueSource,
    pub(super) oauth2: Option<Arc<Oauth2>>,
    pub(super) oauth2_origin: ValueSource,
}

impl Default for Endpoint {
    fn default() -> Endpoint {
        Endpoint {
            url: None,
            url_origin: ValueSource::Default,
            headers: HeaderMap::new(),
            header_origins: Vec::new(),
            secrets: Vec::new(),
            secrets_origin: ValueSource::Default,
            client_certificate: None,
            client_certificate_origin: ValueSource::Default,
            ca_certificate: None,
            ca_certificate_origin: ValueSource::Default,
            oauth2: None,
            oauth2_origin: ValueSource::Default,
        }
    }
}

impl Endpoint {
    /// Applies the values of a block. A header replaces one of the same name, and every other value replaces the
    /// previous one.
    pub(super) fn take(&mut self, block: &DeclaredWebhook, origin: ValueSource) {
        if let Said::Value(url) = &block.url {
            (self.url, self.url_origin) = (Some(url.clone()), origin);
        }
        if let Said::Value(secrets) = &block.signing_secrets {
            (self.secrets, self.secrets_origin) = (secrets.clone(), origin);
        }
        if let Said::Value(client_certificate) = &block.client_certificate {
            (self.client_certificate, self.client_certificate_origin) = (Some(client_certificate.clone()), origin);
        }
        if let Said::Value(ca_certificate) = &block.ca_certificate {
            (self.ca_certificate, self.ca_certificate_origin) = (Some(ca_certificate.clone()), origin);
        }
        if let Said::Value(oauth2) = &block.oauth2 {
            (self.oauth2, self.oauth2_origin) = (Some(oauth2.clone()), origin);
        }
        for (name, value) in &block.headers {
            self.header(name, value, origin);
        }
    }

    fn header(&mut self, name: &HeaderName, value: &HeaderValue, origin: ValueSource) {
        let (name, value) = (&unshared_name(name), unshared_value(value));
        self.headers.insert(name.clone(), value);
        self.header_origins.retain(|(earlier, _)| earlier != name);
        self.header_origins.push((name.clone(), origin));
    }
}

/// Copies a name. A clone would share memory with the documents, see `load.rs`.
pub(super) fn unshared_name(name: &HeaderName) -> HeaderName {
    HeaderName::from_bytes(name.as_str().as_bytes()).unwrap_or_else(|_| name.clone())
}

/// Copies a value. A clone would share memory with the documents, see `load.rs`.
pub(super) fn unshared_value(value: &HeaderValue) -> HeaderValue {
    let mut copy = HeaderValue::from_bytes(value.as_bytes()).unwrap_or_else(|_| value.clone());
    copy.set_sensitive(value.is_sensitive());
    copy
}

/// Parses a secret again. It was valid when it was read, so none is lost here.
pub(super) fn parse(text: &SecretText) -> Option<SigningSecret> {
    SigningSecret::parse(text.expose()).ok()
}
