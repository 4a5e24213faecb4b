//! TLS to receivers: the authorities to trust, and the versions to speak. Verification cannot be switched off.

use std::{
    collections::HashMap,
    path::Path,
    sync::{Arc, Mutex, PoisonError},
};

use anyhow::Context;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, OtherError, RootCertStore, SignatureScheme,
    client::{
        Resumption, WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::{CryptoProvider, aws_lc_rs},
    pki_types::{CertificateDer, ServerName, UnixTime, pem::PemObject},
    server::ParsedCertificate,
    sign::SingleCertAndKey,
};
use rustls_platform_verifier::Verifier;

use crate::{
    delivery::fault::Fault,
    settings::{Tls, TlsVersion},
    store::{CaCertificate, ClientCertificate},
};

/// The certificate is self-signed.
#[derive(Debug, thiserror::Error)]
#[error("the certificate is signed by itself")]
pub(super) struct SelfSigned;

/// The certificate comes alone, and its issuer seems to be an intermediate authority.
#[derive(Debug, thiserror::Error)]
#[error("the certificate comes without those of intermediate authorities")]
pub(super) struct IncompleteChain;

/// The certificate has an RSA key of less than 2048 bits, which is too short to verify a signature.
#[derive(Debug, thiserror::Error)]
#[error("the key of the certificate is too short")]
pub(super) struct WeakKey;

/// The most configs that are kept besides the common one.
const OWN: usize = 1000;

type Versions = &'static [&'static rustls::SupportedProtocolVersion];

static NEW: Versions = &[&rustls::version::TLS13];

static NEW_AND_OLD: Versions = &[&rustls::version::TLS13, &rustls::version::TLS12];

/// The fingerprints of the client certificate and of the target's own authority.
type Fingerprints = (Option<[u8; 32]>, Option<[u8; 32]>);

/// The TLS configs: one for each pair of a client certificate and a target's own authority.
pub(super) struct Configs {
    versions: Versions,
    common: Arc<ClientConfig>,
    own: Mutex<HashMap<Fingerprints, Arc<ClientConfig>>>,
}

impl Configs {
    /// Makes the configs for these settings. Reads the system's trusted certificates (honours `SSL_CERT_FILE` and
    /// `SSL_CERT_DIR`).
    ///
    /// # Errors
    /// Fails if `tls.ca_file` cannot be read or holds no certificate, or if no authority is trusted at all.
    pub(super) fn new(tls: &Tls) -> anyhow::Result<Configs> {
        let extra = tls.ca_file.as_deref().map(authorities).transpose()?.unwrap_or_default();
        let platform = Verifier::new_with_extra_roots(extra, provider())
            .context("cannot set up HTTPS: are the system's CA certificates installed?")?;
        let versions = match tls.minimum_version {
            TlsVersion::V1_2 => NEW_AND_OLD,
            TlsVersion::V1_3 => NEW,
        };
        Ok(Configs {
            versions,
            common: Arc::new(config(versions, Vec::new(), Arc::new(platform))?),
            own: Mutex::default(),
        })
    }

    /// Returns the config for our client certificate and the authority to trust for the receiver.
    ///
    /// # Errors
    /// [`Fault::UnusableTarget`] if the authority cannot be used.
    pub(super) fn of(
        &self,
        client_certificate: Option<&ClientCertificate>,
        ca_certificate: Option<&CaCertificate>,
    ) -> Result<Arc<ClientConfig>, Fault> {
        if client_certificate.is_none() && ca_certificate.is_none() {
            return Ok(self.common.clone());
        }
        let fingerprints =
            (client_certificate.map(ClientCertificate::fingerprint), ca_certificate.map(CaCertificate::fingerprint));
        let mut own = self.own.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(config) = own.get(&fingerprints) {
            return Ok(config.clone());
        }
        // Certificates are renewed, and the configs of old ones are no longer used.
        if own.len() >= OWN {
            own.clear();
        }
        let trusting = match ca_certificate {
            None => Ok((*self.common).clone()),
            Some(ca_certificate) => trusting_only(self.versions, ca_certificate),
        };
        let mut config = trusting.map_err(|_| Fault::UnusableTarget)?;
        if let Some(client_certificate) = client_certificate {
            config = with_client_certificate(config, client_certificate);
        }
        Ok(own.entry(fingerprints).or_insert(Arc::new(config)).clone())
    }
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}

fn config(
    versions: Versions,
    trusted: Vec<CertificateDer<'static>>,
    verifier: Arc<dyn ServerCertVerifier>,
) -> anyhow::Result<ClientConfig> {
    // No protocol is offered by ALPN, so HTTP/1.1 is spoken.
    let builder = ClientConfig::builder_with_provider(provider()).with_protocol_versions(versions)?;
    Ok(builder
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Explaining { trusted, verifier }))
        .with_no_client_auth())
}

/// Makes a config that trusts the authorities and certificates of one target, and no others.
fn trusting_only(versions: Versions, ca_certificate: &CaCertificate) -> anyhow::Result<ClientConfig> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(ca_certificate.certificates().iter().cloned());
    let verifier = WebPkiServerVerifier::builder_with_provider(roots.into(), provider()).build()?;
    config(versions, ca_certificate.certificates().to_vec(), verifier)
}

/// Returns the same config with a client certificate.
fn with_client_certificate(mut config: ClientConfig, client_certificate: &ClientCertificate) -> ClientConfig {
    config.client_auth_cert_resolver = Arc::new(SingleCertAndKey::from(client_certificate.key()));
    // The sessions that could be resumed were opened without the certificate.
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

fn valid_at(certificate: &CertificateDer<'_>, now: UnixTime) -> Result<(), Error> {
    let parsed = x509_parser::parse_x509_certificate(certificate);
    let (_, parsed) = parsed.map_err(|_| Error::InvalidCertificate(CertificateError::BadEncoding))?;
    let (validity, now) = (parsed.validity(), i64::try_from(now.as_secs()).unwrap_or(i64::MAX));
    match () {
        () if now < validity.not_before.timestamp() => Err(CertificateError::NotValidYet.into()),
        () if now > validity.not_after.timestamp() => Err(CertificateError::Expired.into()),
        () => Ok(()),
    }
}

/// Verifies as the inner verifier does, and also says why the issuer of a certificate is unknown. A target's own
/// certificates need no chain.
#[derive(Debug)]
struct Explaining {
    trusted: Vec<CertificateDer<'static>>,
    verifier: Arc<dyn ServerCertVerifier>,
}

impl ServerCertVerifier for Explaining {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        if self.trusted.iter().any(|trusted| trusted == certificate) {
            // Accepted even if it calls itself an authority, as self-signed certificates of OpenSSL do. Name and time
            // count.
            rustls::client::verify_server_name(&ParsedCertificate::try_from(certificate)?, name)?;
            valid_at(certificate, now)?;
            return Ok(ServerCertVerified::assertion());
        }
        let verified = self.verifier.verify_server_cert(certificate, intermediates, name, ocsp, now);
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
        let verified = self.verifier.verify_tls12_signature(message, certificate, signature);
        verified.map_err(|error| of_weak_key(error, certificate))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let verified = self.verifier.verify_tls13_signature(message, certificate, signature);
        verified.map_err(|error| of_weak_key(error, certificate))
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.verifier.supported_verify_schemes()
    }
}

fn own(error: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(error))))
}

/// Returns whether no known authority has signed the certificate, whatever name it bears. A certificate of an authority
/// counts too, because it is refused before its signature is checked.
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

/// Returns whether a certificate says where to get the certificate of its issuer (RFC 5280, section 4.2.2.1). Those of
/// public authorities do, because an intermediate authority issues them. Those of private authorities seldom do.
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

/// Turns a bad signature into a weak key if the key is short: such a key is noticed only when it has to verify
/// something.
fn of_weak_key(error: Error, certificate: &CertificateDer<'_>) -> Error {
    let is_short = || {
        let (_, parsed) = x509_parser::parse_x509_certificate(certificate).ok()?;
        let key = parsed.public_key().parsed().ok()?;
        Some(matches!(key, x509_parser::public_key::PublicKey::RSA(_)) && key.key_size() < 2048)
    };
    match error {
        Error::InvalidCertificate(CertificateError::BadSignature) if is_short().unwrap_or(false) => own(WeakKey),
        error => error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A certificate with an RSA key of 1024 bits.
    const SHORT: &str = "\
-----BEGIN CERTIFICATE-----\n\
MIICiTCCAXGgAwIBAgIUZjZQg9h4IDBQuS1d2A/INnzxavwwDQYJKoZIhvcNAQEL\n\
BQAwDTELMAkGA1UEAwwCY2EwHhcNMjYxMTMwMTM1OTA1WhcNMzYxMTI3MTM1OTA1\n\
WjAUMRIwEAYDVQQDDAlsb2NhbGhvc3QwgZ8wDQYJKoZIhvcNAQEBBQADgY0AMIGJ\n\
AoGBANMJ+7sYUkGEZFjK04ACX6fUZFx/OpheKmD0vReCzIh/jxYVYXtfAFbimxjP\n\
ksQwLxrCFZPZoC30JXfOPgkj6da/pWpcGRyB8TYKF9V5Soq5TiBqm1ZD2PSJUlPr\n\
DqvTehJc0tWeHxQd7/GqZHgjrraUuYabsYNaft2mqcqkYmXVAgMBAAGjXjBcMBoG\n\
A1UdEQQTMBGCCWxvY2FsaG9zdIcEfwAAATAdBgNVHQ4EFgQUL7xEB93jUp1xtJph\n\
uRbbV37y9ZQwHwYDVR0jBBgwFoAUxRHAwlwUByXLLCRVNKBwFgk1IbwwDQYJKoZI\n\
hvcNAQELBQADggEBAKM0EwNLrjBUJWupURhpCzUc4MaFTE5C+Dg1tqQjei59Sra9\n\
jeCDYbOX/aMLUqQfPr1kK9StqgVcbE4jOJBRRWXKpfJ5CYlultpAl7bu2IaeAQ8M\n\
7egrUz1dKSskpg6gmsSb+1dKRrrlOwnfKieJ4ugNvqKogjbtEcGRHP8cvpBxLq4E\n\
zMzRoi5D0p96mq3ZwmQOuyBeLkPecAEPM7nJR0xCM9xEzPgLRmCZYOHUQTNp2ngq\n\
Dyz8IyGywn/vwzStgx/dYKeCnyOgjuneWyM/XjJFfsRvvWjlI0Gjjy0ZZaQL2Ye0\n\
JKglEw2koDOf+T3RiumnA7osh6isulNscXYrn2I=\n\
-----END CERTIFICATE-----\n\
";

    #[test]
    fn a_short_key_is_told_apart_from_a_bad_signature() {
        let certificate = CertificateDer::from_pem_slice(SHORT.as_bytes()).unwrap();
        let bad = || Error::InvalidCertificate(CertificateError::BadSignature);
        assert!(matches!(of_weak_key(bad(), &certificate), Error::InvalidCertificate(CertificateError::Other(_))));
        let other = Error::InvalidCertificate(CertificateError::Revoked);
        assert_eq!(of_weak_key(other.clone(), &certificate), other);
        assert_eq!(of_weak_key(bad(), &CertificateDer::from(vec![1, 2])), bad());
    }
}
