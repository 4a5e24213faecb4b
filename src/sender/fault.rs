//! Maps errors to a [`Fault`]. Types decide, never texts: texts change with each release.

use std::{error::Error, io};

use rustix::io::Errno;
use rustls::{AlertDescription, CertificateError, OtherError};

use super::tls::{IncompleteChain, SelfSigned, WeakKey};
use crate::delivery::fault::{Fault, HttpFault, TlsFault};

/// Returns whether this machine lacks files, memory, buffers or ports, so the other side is not at fault.
pub(super) fn is_ours(error: &io::Error) -> bool {
    let ours = [Errno::MFILE, Errno::NFILE, Errno::NOMEM, Errno::NOBUFS, Errno::ADDRNOTAVAIL];
    error.raw_os_error().is_some_and(|code| ours.iter().any(|errno| errno.raw_os_error() == code))
}

/// Classifies an error of a TLS handshake. `identified`: the worker has a client certificate to show.
pub(super) fn classify_handshake(error: &io::Error, identified: bool) -> Fault {
    // Without a TLS error, the other side left in the middle of the handshake.
    Fault::Tls(find::<rustls::Error>(error).map_or(TlsFault::Other, |error| classify_tls(error, identified)))
}

/// Classifies an error of sending a request or waiting for the head of its answer.
pub(super) fn classify_answer(error: &hyper::Error, identified: bool) -> Fault {
    // With TLS 1.3, a receiver that wants a client certificate says so only in place of its answer.
    if let Some(error) = find::<rustls::Error>(error) {
        Fault::Tls(classify_tls(error, identified))
    } else if error.is_parse_too_large() {
        Fault::Http(HttpFault::HeaderTooLarge)
    } else if error.is_parse() {
        Fault::Http(HttpFault::Malformed)
    } else {
        Fault::Http(HttpFault::Closed)
    }
}

/// Returns whether the other side closed the connection, in any way.
pub(super) fn is_closed(error: &hyper::Error) -> bool {
    let kinds = [
        io::ErrorKind::UnexpectedEof,
        io::ErrorKind::ConnectionReset,
        io::ErrorKind::ConnectionAborted,
        io::ErrorKind::BrokenPipe,
        io::ErrorKind::NotConnected,
    ];
    let closed = || find::<io::Error>(error).is_some_and(|error| kinds.contains(&error.kind()));
    error.is_incomplete_message() || error.is_canceled() || error.is_closed() || closed()
}

fn classify_tls(error: &rustls::Error, identified: bool) -> TlsFault {
    use rustls::Error::{AlertReceived, InvalidCertificate, PeerIncompatible};
    match error {
        InvalidCertificate(error) => classify_certificate(error),
        PeerIncompatible(_)
        | AlertReceived(
            AlertDescription::HandshakeFailure
            | AlertDescription::ProtocolVersion
            | AlertDescription::InsufficientSecurity,
        ) => TlsFault::NoCommonCipher,
        AlertReceived(
            AlertDescription::CertificateRequired
            | AlertDescription::NoCertificate
            | AlertDescription::BadCertificate
            | AlertDescription::UnsupportedCertificate
            | AlertDescription::UnknownCA
            | AlertDescription::CertificateUnknown
            | AlertDescription::CertificateExpired
            | AlertDescription::CertificateRevoked
            | AlertDescription::AccessDenied,
        ) if identified => TlsFault::ClientCertificateRefused,
        AlertReceived(
            AlertDescription::CertificateRequired
            | AlertDescription::NoCertificate
            | AlertDescription::BadCertificate
            | AlertDescription::UnknownCA
            | AlertDescription::CertificateUnknown
            | AlertDescription::AccessDenied,
        ) => TlsFault::ClientCertificateWanted,
        _ => TlsFault::Other,
    }
}

fn classify_certificate(error: &CertificateError) -> TlsFault {
    match error {
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => TlsFault::WrongHost,
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => TlsFault::Expired,
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => TlsFault::NotYetValid,
        // A bad signature: the certificate names a known authority, but another key signed it.
        CertificateError::UnknownIssuer | CertificateError::BadSignature => TlsFault::UnknownAuthority,
        CertificateError::UnsupportedSignatureAlgorithmContext { .. }
        | CertificateError::UnsupportedSignatureAlgorithmForPublicKeyContext { .. } => TlsFault::Weak,
        CertificateError::Other(OtherError(other)) if other.is::<WeakKey>() => TlsFault::Weak,
        CertificateError::Other(OtherError(other)) if other.is::<SelfSigned>() => TlsFault::SelfSigned,
        CertificateError::Other(OtherError(other)) if other.is::<IncompleteChain>() => TlsFault::IncompleteChain,
        _ => TlsFault::Other,
    }
}

fn find<'a, E: Error + 'static>(error: &'a (dyn Error + 'static)) -> Option<&'a E> {
    causes(error).find_map(|cause| cause.downcast_ref::<E>())
}

/// Returns the error and all its causes. The `source` of an `io::Error` skips the error that it wraps, so the wrapped
/// error is taken out by hand.
fn causes<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |&error| {
        let wrapped = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        wrapped.map(|inner| inner as &(dyn Error + 'static)).or_else(|| error.source())
    })
}
