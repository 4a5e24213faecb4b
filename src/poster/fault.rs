//! Which [`Fault`] an error of the HTTP client is. Types decide, never texts: texts change with each release.

use std::{error::Error, io};

use hyper_util::client::legacy;
use rustls::{AlertDescription, CertificateError, OtherError};

use super::{
    bounded::TooSlow,
    dial::{ProxyFailed, Unreachable},
    resolver::{Forbidden, LookupFailed},
    tls::SelfSigned,
};
use crate::delivery::outcome::{Fault, TlsFault};

/// Sorts an error of sending a request and waiting for its answer's headers. `over_tls` is whether the URL says `https`.
pub(super) fn of_request(error: &legacy::Error, over_tls: bool) -> Fault {
    if let Some(Forbidden(refusal)) = find::<Forbidden>(error) {
        Fault::ForbiddenAddress(*refusal)
    } else if find::<TooSlow>(error).is_some() {
        Fault::Timeout
    } else if find::<LookupFailed>(error).is_some() {
        Fault::Dns
    } else if find::<ProxyFailed>(error).is_some() {
        Fault::Proxy
    } else if find::<Unreachable>(error).is_some() {
        Fault::Connect
    } else if let Some(error) = find::<rustls::Error>(error) {
        Fault::Tls(of_tls(error))
    } else if !error.is_connect() {
        Fault::Broken
    } else if over_tls && hung_up(error) {
        // The connection stood, and the other side left it in the middle of the handshake.
        Fault::Tls(TlsFault::Other)
    } else {
        Fault::Connect
    }
}

/// Sorts an error of reading a body.
pub(super) fn of_body(error: &hyper::Error) -> Fault {
    // With TLS 1.3 a receiver that misses a certificate of ours may say so only after its answer would have begun.
    find::<rustls::Error>(error).map_or(Fault::Broken, |error| Fault::Tls(of_tls(error)))
}

fn of_tls(error: &rustls::Error) -> TlsFault {
    match error {
        rustls::Error::InvalidCertificate(error) => of_certificate(error),
        rustls::Error::AlertReceived(
            AlertDescription::CertificateRequired
            | AlertDescription::BadCertificate
            | AlertDescription::UnknownCA
            | AlertDescription::CertificateUnknown
            | AlertDescription::CertificateExpired
            | AlertDescription::AccessDenied,
        ) => TlsFault::ClientCertificate,
        _ => TlsFault::Other,
    }
}

fn of_certificate(error: &CertificateError) -> TlsFault {
    match error {
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => TlsFault::WrongHost,
        CertificateError::Expired
        | CertificateError::ExpiredContext { .. }
        | CertificateError::NotValidYet
        | CertificateError::NotValidYetContext { .. } => TlsFault::Expired,
        // A bad signature: somebody else than the authority whose name it bears has signed it.
        CertificateError::UnknownIssuer | CertificateError::BadSignature => TlsFault::UnknownCa,
        CertificateError::Other(OtherError(other)) if other.is::<SelfSigned>() => TlsFault::SelfSigned,
        _ => TlsFault::Other,
    }
}

fn hung_up(error: &(dyn Error + 'static)) -> bool {
    let kinds = [io::ErrorKind::UnexpectedEof, io::ErrorKind::ConnectionReset, io::ErrorKind::BrokenPipe];
    causes(error).filter_map(|cause| cause.downcast_ref::<io::Error>()).any(|error| kinds.contains(&error.kind()))
}

fn find<'a, E: Error + 'static>(error: &'a (dyn Error + 'static)) -> Option<&'a E> {
    causes(error).find_map(|cause| cause.downcast_ref::<E>())
}

/// The error and everything below it. An `io::Error` that wraps another error is no link of the source chain (its
/// `source` is the wrapped error's), so it is opened by hand.
fn causes<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |&error| {
        let wrapped = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        wrapped.map(|inner| inner as &(dyn Error + 'static)).or_else(|| error.source())
    })
}
