//! The input of one POST.

use std::{sync::Arc, time::Duration};

use url::Url;

use crate::store::{CaCertificate, ClientCertificate, Oauth2};

/// The destination of one POST, and the credentials for it.
#[derive(Clone, Copy)]
pub struct Post<'a> {
    /// The organization whose egress rules apply.
    pub organization: &'a str,
    /// The URL to call.
    pub url: &'a Url,
    /// `<organization> <origin>` ([`crate::store::Target::circuit`]). Connections are shared within one circuit.
    pub circuit: &'a Arc<str>,
    /// Our client certificate, if the receiver asks for one.
    pub client_certificate: Option<&'a ClientCertificate>,
    /// The authority to trust for this receiver, in place of those that the worker trusts.
    pub ca_certificate: Option<&'a CaCertificate>,
    /// The credentials for the token in the `Authorization` header, if the receiver wants one.
    pub oauth2: Option<&'a Arc<Oauth2>>,
    /// Limit for the whole exchange.
    pub timeout: Duration,
    /// Whether to return the answer's body, up to [`super::BODY_LIMIT`].
    pub whole_body: bool,
}
