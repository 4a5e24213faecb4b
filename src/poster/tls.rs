//! TLS to receivers: whom to trust, which versions to speak. Verification cannot be switched off.

use std::{
    collections::HashMap,
    path::Path,
    sync::{Arc, Mutex, PoisonError},
};

use anyhow::Context;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, OtherError, SignatureScheme,
    client::{
        Resumption,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, ServerName, UnixTime, pem::PemObject},
    sign::SingleCertAndKey,
};
use rustls_platform_verifier::Verifier;

use crate::{
    settings::{Tls, TlsVersion},
    store::Identity,
};

/// The certificate is signed by itself.
#[derive(Debug, thiserror::Error)]
#[error("the certificate is signed by itself")]
pub(super) struct SelfSigned;

/// The certificate comes alone, and its issuer is an intermediate authority by all appearance.
#[derive(Debug, thiserror::Error)]
#[error("the certificate comes without those of intermediate authorities")]
pub(super) struct IncompleteChain;

/// Certificates of ours whose configs are kept.
const IDENTITIES: usize = 1000;

/// The configs of TLS: one for each certificate of ours, and one without.
pub(super) struct Configs {
    common: Arc<ClientConfig>,
    identified: Mutex<HashMap<[u8; 32], Arc<ClientConfig>>>,
}

impl Configs {
    /// Those of these settings. The system's trusted certificates are read (`SSL_CERT_FILE` and `SSL_CERT_DIR` are honoured).
    ///
    /// # Errors
    /// When `tls.ca_file` cannot be read or holds no certificate, or no authority is trusted at all.
    pub(super) fn new(tls: &Tls) -> anyhow::Result<Configs> {
        Ok(Configs { common: Arc::new(config(tls)?), identified: Mutex::default() })
    }

    /// The config for who we are.
    pub(super) fn of(&self, identity: Option<&Identity>) -> Arc<ClientConfig> {
        let Some(identity) = identity else { return self.common.clone() };
        let mut identified = self.identified.lock().unwrap_or_else(PoisonError::into_inner);
        // Certificates are renewed, and the configs of old ones are in no use any more.
        if identified.len() >= IDENTITIES && !identified.contains_key(&identity.print()) {
            identified.clear();
        }
        identified.entry(identity.print()).or_insert_with(|| Arc::new(with_identity(&self.common, identity))).clone()
    }
}

fn config(tls: &Tls) -> anyhow::Result<ClientConfig> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let extra = tls.ca_file.as_deref().map(authorities).transpose()?.unwrap_or_default();
    let platform = Verifier::new_with_extra_roots(extra, provider.clone())
        .context("cannot set up HTTPS: are the system's CA certificates installed?")?;
    let versions: &[&rustls::SupportedProtocolVersion] = match tls.minimum_version {
        TlsVersion::V1_2 => &[&rustls::version::TLS13, &rustls::version::TLS12],
        TlsVersion::V1_3 => &[&rustls::version::TLS13],
    };
    let config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(versions)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Telling { platform }))
        .with_no_client_auth();
    Ok(config)
}

fn with_identity(config: &ClientConfig, identity: &Identity) -> ClientConfig {
    let mut config = config.clone();
    config.client_auth_cert_resolver = Arc::new(SingleCertAndKey::from(identity.key()));
    // What was resumed was opened by somebody else.
    config.resumption = Resumption::default();
    config
}

fn authorities(path: &Path) -> anyhow::Result<Vec<CertificateDer<'static>>> {
    let told = || format!("tls.ca_file: {}", path.display());
    let found =
        CertificateDer::pem_file_iter(path).and_then(Iterator::collect::<Result<Vec<_>, _>>).with_context(told)?;
    anyhow::ensure!(!found.is_empty(), "{}: holds no certificate in PEM", told());
    Ok(found)
}

/// The platform's verifier, which also tells why the issuer of a certificate is unknown. It accepts and refuses just what that
/// one does.
#[derive(Debug)]
struct Telling {
    platform: Verifier,
}

impl ServerCertVerifier for Telling {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let verified = self.platform.verify_server_cert(certificate, intermediates, name, ocsp, now);
        verified.map_err(|error| match error {
            error if !is_of_unknown_issuer(&error) => error,
            _ if signs_itself(certificate) => own(SelfSigned),
            _ if intermediates.is_empty() && names_its_issuers_certificate(certificate) => own(IncompleteChain),
            error => error,
        })
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.platform.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.platform.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.platform.supported_verify_schemes()
    }
}

fn own(error: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(error))))
}

/// No known authority has signed it, whatever name it bears; or it is an authority itself, which is refused before its signature
/// is looked at.
fn is_of_unknown_issuer(error: &Error) -> bool {
    match error {
        Error::InvalidCertificate(CertificateError::UnknownIssuer | CertificateError::BadSignature) => true,
        Error::InvalidCertificate(CertificateError::Other(OtherError(other))) => {
            matches!(other.downcast_ref::<webpki::Error>(), Some(webpki::Error::CaUsedAsEndEntity))
        }
        _ => false,
    }
}

fn signs_itself(certificate: &CertificateDer<'_>) -> bool {
    webpki::EndEntityCert::try_from(certificate).is_ok_and(|cert| cert.issuer() == cert.subject())
}

/// Certificates of public authorities say where that of their issuer, an intermediate authority, can be had (RFC 5280, section
/// 4.2.2.1). Those of private authorities seldom do.
fn names_its_issuers_certificate(certificate: &CertificateDer<'_>) -> bool {
    use x509_parser::{extensions::ParsedExtension, oid_registry::OID_PKIX_ACCESS_DESCRIPTOR_CA_ISSUERS as ISSUERS};
    let Ok((_, certificate)) = x509_parser::parse_x509_certificate(certificate) else { return false };
    certificate.extensions().iter().any(|extension| match extension.parsed_extension() {
        ParsedExtension::AuthorityInfoAccess(access) => {
            access.accessdescs.iter().any(|description| description.access_method == ISSUERS)
        }
        _ => false,
    })
}
