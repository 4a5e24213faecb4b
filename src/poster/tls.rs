//! TLS to receivers: whom to trust, which versions to speak. Verification cannot be switched off, by nobody.

use std::{path::Path, sync::Arc};

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

/// The settings of all connections to receivers.
///
/// # Errors
/// When `tls.ca_file` cannot be read or holds no certificate, or nobody is trusted at all.
pub(super) fn config(tls: &Tls) -> anyhow::Result<ClientConfig> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let extra = tls.ca_file.as_deref().map(authorities).transpose()?.unwrap_or_default();
    let platform = Verifier::new_with_extra_roots(extra, provider.clone())
        .context("cannot set up HTTPS: are the system's CA certificates installed?")?;
    let versions: &[&rustls::SupportedProtocolVersion] = match tls.minimum_version {
        TlsVersion::V1_2 => &[&rustls::version::TLS13, &rustls::version::TLS12],
        TlsVersion::V1_3 => &[&rustls::version::TLS13],
    };
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(versions)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Telling { platform }))
        .with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}

/// The same as somebody.
pub(super) fn identified(config: &ClientConfig, identity: &Identity) -> ClientConfig {
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

/// The platform's verifier, which tells certificates that are signed by themselves from those of unknown authorities. It
/// accepts and refuses just what that one does.
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
        verified
            .map_err(|error| if is_of_nobody(&error) && signs_itself(certificate) { own(SelfSigned) } else { error })
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

/// Nobody known has signed it, whatever name it bears; or it is an authority itself, which is refused before its signature is looked at.
fn is_of_nobody(error: &Error) -> bool {
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
