//! The `ca_certificate` key of a webhook: the authorities that are trusted for its receiver.

use std::fmt;

use aws_lc_rs::digest::{SHA256, digest};
use jiff::Timestamp;
use rustls::pki_types::CertificateDer;

use super::{
    certificate,
    document::{KeyPath, Node},
    headers,
    problem::Problems,
    secrets::Vault,
};

/// The only authorities, or self-signed certificates, that are trusted for a target.
pub struct CaCertificate {
    certificates: Vec<CertificateDer<'static>>,
    fingerprint: [u8; 32],
}

impl CaCertificate {
    /// Reads one or several certificates from PEM.
    ///
    /// # Errors
    /// Says what is wrong with them, without their contents.
    pub fn parse(pem: &str) -> Result<CaCertificate, &'static str> {
        if pem.contains("PRIVATE KEY-----") {
            return Err("holds a private key; only certificates belong here");
        }
        let certificates = certificate::read_pem(pem)?;
        if certificates.iter().any(|certificate| webpki::anchor_from_trusted_cert(certificate).is_err()) {
            return Err("holds a certificate that cannot vouch for another one, such as one of X.509 version 1");
        }
        let whole: Vec<u8> = certificates.iter().flat_map(|certificate| certificate.to_vec()).collect();
        let fingerprint = digest(&SHA256, &whole).as_ref().try_into().unwrap_or_default();
        Ok(CaCertificate { certificates, fingerprint })
    }

    /// Returns the certificates in DER, in the order of the text.
    pub fn certificates(&self) -> &[CertificateDer<'static>] {
        &self.certificates
    }

    /// Returns a SHA-256 digest of the certificates in their order.
    pub fn fingerprint(&self) -> [u8; 32] {
        self.fingerprint
    }

    /// Returns the earliest expiry among them.
    pub fn expiry(&self) -> Option<Timestamp> {
        certificate::first_expiry(&self.certificates)
    }
}

impl fmt::Debug for CaCertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Authority({} certificates)", self.certificates.len())
    }
}

/// Reads `ca_certificate`: PEM in a text or in a file, as for secrets.
pub(super) fn read(
    node: &Node,
    path: &KeyPath,
    vault: &mut Vault<'_>,
    problems: &mut Problems,
) -> Option<CaCertificate> {
    let text = headers::secret(node, path, vault, problems)?;
    CaCertificate::parse(text.expose()).map_err(|text| problems.error(&node.place, path, text)).ok()
}
