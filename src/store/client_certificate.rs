//! The `client_certificate` key of a webhook: a certificate and its private key, for receivers that ask for one.

use std::{fmt, sync::Arc};

use aws_lc_rs::digest::{SHA256, digest};
use jiff::Timestamp;
use rustls::{
    crypto::aws_lc_rs::default_provider,
    pki_types::{PrivateKeyDer, pem::PemObject},
    sign::CertifiedKey,
};

use super::{
    certificate,
    document::{KeyPath, Node},
    fields::Fields,
    headers,
    problem::Problems,
    secrets::Vault,
};

/// A certificate with its chain, and its private key. `Debug` shows nothing of them.
pub struct ClientCertificate {
    key: Arc<CertifiedKey>,
    fingerprint: [u8; 32],
    expiry: Option<Timestamp>,
}

impl ClientCertificate {
    /// Reads certificate and key from PEM.
    ///
    /// # Errors
    /// Says what is wrong with them, without their contents.
    pub fn parse(certificate: &str, key: &str) -> Result<ClientCertificate, &'static str> {
        let chain = certificate::read_pem(certificate)?;
        if chain.first().is_some_and(certificate::excludes_clients) {
            return Err(
                "holds a certificate that is not for clients: its extended key usage lacks client authentication",
            );
        }
        let expiry = certificate::first_expiry(&chain);
        let key = PrivateKeyDer::from_pem_slice(key.as_bytes())
            .map_err(|_| "holds no private key in PEM, or an encrypted one (`-----BEGIN PRIVATE KEY-----`)")?;
        let mut whole: Vec<u8> = chain.iter().flat_map(|certificate| certificate.to_vec()).collect();
        whole.extend_from_slice(key.secret_der());
        let fingerprint = digest(&SHA256, &whole).as_ref().try_into().unwrap_or_default();
        zeroize::Zeroize::zeroize(&mut whole);
        let key = CertifiedKey::from_der(chain, key, &default_provider())
            .map_err(|_| "holds a key of another certificate, or of a kind that is not known")?;
        Ok(ClientCertificate { key: Arc::new(key), fingerprint, expiry })
    }

    /// Returns certificate and key in the form that TLS needs.
    pub fn key(&self) -> Arc<CertifiedKey> {
        self.key.clone()
    }

    /// Returns the earliest expiry in the chain.
    pub fn expiry(&self) -> Option<Timestamp> {
        self.expiry
    }

    /// Returns a SHA-256 digest of certificate, chain and key.
    pub fn fingerprint(&self) -> [u8; 32] {
        self.fingerprint
    }
}

impl fmt::Debug for ClientCertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Identity(hidden)")
    }
}

/// Reads `client_certificate: { certificate: ..., key: ... }`. Each part is a text or a file, as for other secrets.
pub(super) fn read(
    node: &Node,
    path: &KeyPath,
    vault: &mut Vault<'_>,
    problems: &mut Problems,
) -> Option<ClientCertificate> {
    let fields = Fields::of(node, path, problems)?;
    fields.expect(&["certificate", "key"], |_| None, problems);
    let mut part = |key: &str, problems: &mut Problems| match fields.get(key) {
        Some(entry) => {
            if key == "key" {
                headers::note_in_clear(&entry.node, &path.key(key), vault);
            }
            headers::secret(&entry.node, &path.key(key), vault, problems)
        }
        None => {
            problems.error(
                &node.place,
                path,
                format!("lacks `{key}`; write {{ certificate: {{ file: NAME }}, key: {{ file: NAME }} }}"),
            );
            None
        }
    };
    let (certificate, key) = (part("certificate", problems), part("key", problems));
    let (certificate, key) = (certificate?, key?);
    let parsed = ClientCertificate::parse(certificate.expose(), key.expose());
    parsed.map_err(|text| problems.error(&node.place, path, text)).ok()
}
