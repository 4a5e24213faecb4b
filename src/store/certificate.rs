//! Checks certificates before they are used: their form, expiry and purpose.

use jiff::Timestamp;
use rustls::pki_types::{CertificateDer, pem::PemObject};
use x509_parser::{certificate::X509Certificate, prelude::FromDer};

/// Reads all certificates of a text in PEM, at least one.
///
/// # Errors
/// Says what is wrong with them, without their contents.
pub(super) fn read_pem(pem: &str) -> Result<Vec<CertificateDer<'static>>, &'static str> {
    let certificates = CertificateDer::pem_slice_iter(pem.as_bytes()).collect::<Result<Vec<_>, _>>();
    let certificates = certificates.map_err(|_| "holds a certificate that is not PEM")?;
    if certificates.is_empty() {
        return Err("holds no certificate in PEM (`-----BEGIN CERTIFICATE-----`)");
    }
    match certificates.iter().all(|certificate| parsed(certificate).is_some()) {
        true => Ok(certificates),
        false => Err("holds a certificate that is not X.509"),
    }
}

/// Returns the earliest expiry of these certificates.
pub(super) fn first_expiry(certificates: &[CertificateDer<'_>]) -> Option<Timestamp> {
    let expiry = |certificate| Timestamp::from_second(parsed(certificate)?.validity().not_after.timestamp()).ok();
    certificates.iter().filter_map(expiry).min()
}

/// Returns whether a certificate names purposes, but not client authentication. One that names none is valid for all.
pub(super) fn excludes_clients(certificate: &CertificateDer<'_>) -> bool {
    let usage = |certificate: X509Certificate<'_>| {
        let usage = certificate.extended_key_usage().ok()??.value;
        Some(!usage.client_auth && !usage.any)
    };
    parsed(certificate).and_then(usage).unwrap_or(false)
}

fn parsed<'c>(certificate: &'c CertificateDer<'_>) -> Option<X509Certificate<'c>> {
    X509Certificate::from_der(certificate).ok().map(|(_, certificate)| certificate)
}
