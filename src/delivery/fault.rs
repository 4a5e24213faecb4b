//! Why an attempt got no answer. Each fault is also a metric label and a log field.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize};

use crate::egress::Refusal;

/// Why there was no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Fault {
    /// The whole exchange took longer than the target's timeout.
    Timeout,
    /// The name could not be resolved.
    Dns(DnsFault),
    /// No process listens, or the network is unreachable.
    Connect,
    /// TLS handshake or verification failed.
    Tls(TlsFault),
    /// The receiver did not answer in HTTP.
    Http(HttpFault),
    /// The token endpoint gave no token.
    Oauth(TokenFault),
    /// The egress proxy could not be used. The target is not at fault, so this costs no attempt.
    Proxy,
    /// The egress proxy refused to connect, because of our credentials or of the receiver. This costs no attempt.
    ProxyRefused,
    /// This machine lacks files, memory or ports. The target is not at fault, so this costs no attempt.
    Local,
    /// The URL holds a forbidden address. Final.
    ForbiddenAddress(Refusal),
    /// The name leads only to forbidden addresses. Retried, because a name server may say so for an hour.
    ForbiddenName(Refusal),
    /// The URL is `http://`, and `egress.plain_http` is off. Final.
    PlainHttp,
    /// No request can be made from the target's URL and headers. Final.
    UnusableTarget,
    /// The attempt panicked. This is our own fault, but it costs one attempt.
    Panic,
}

/// Why a name could not be resolved.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum DnsFault {
    /// The name does not exist, or has no address.
    NoSuchName,
    /// The name servers answered with an error.
    ServerFailure,
    /// The name servers did not answer.
    NoAnswer,
}

/// Why TLS failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum TlsFault {
    /// The certificate is for another host.
    WrongHost,
    /// The certificate has expired.
    Expired,
    /// The certificate is not valid yet.
    NotYetValid,
    /// The certificate is self-signed.
    SelfSigned,
    /// The certificate is not signed by an authority that the worker trusts.
    UnknownAuthority,
    /// The certificate comes without its intermediate certificates.
    IncompleteChain,
    /// The certificate's key or signature is too weak.
    Weak,
    /// The two sides have no TLS version or cipher in common.
    NoCommonCipher,
    /// The receiver wants a client certificate, and the target has none.
    ClientCertificateWanted,
    /// The receiver refuses the target's client certificate.
    ClientCertificateRefused,
    /// Any other fault: the receiver does not speak TLS, breaks off, or breaks the rules.
    Other,
}

/// Why the token endpoint gave no token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum TokenFault {
    /// The endpoint answered with this status and without a token.
    Answered(u16),
    /// The endpoint did not answer. Holds the [`Fault::label`] of the reason.
    Failed(#[serde(deserialize_with = "read_label")] Label),
}

/// A [`Fault::label`].
pub type Label = &'static str;

fn read_label<'de, D: Deserializer<'de>>(from: D) -> Result<Label, D::Error> {
    let text = String::deserialize(from)?;
    Ok(Fault::all().into_iter().map(Fault::label).find(|label| *label == text).unwrap_or_default())
}

/// Why the bytes of the receiver are not an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum HttpFault {
    /// The bytes are not HTTP.
    NotHttp,
    /// The lines of the head contradict each other or HTTP, such as two different lengths.
    Malformed,
    /// Status line and headers are longer than 64 KiB.
    HeaderTooLarge,
    /// The connection was closed before the whole head arrived.
    Closed,
}

impl DnsFault {
    /// All DNS faults.
    pub const ALL: [DnsFault; 3] = [DnsFault::NoSuchName, DnsFault::ServerFailure, DnsFault::NoAnswer];

    /// Returns the name in metrics, logs and the history.
    pub fn label(self) -> &'static str {
        match self {
            DnsFault::NoSuchName => "dns_no_such_name",
            DnsFault::ServerFailure => "dns_server_failure",
            DnsFault::NoAnswer => "dns_no_answer",
        }
    }
}

impl TlsFault {
    /// All TLS faults.
    pub const ALL: [TlsFault; 11] = [
        TlsFault::WrongHost,
        TlsFault::Expired,
        TlsFault::NotYetValid,
        TlsFault::SelfSigned,
        TlsFault::UnknownAuthority,
        TlsFault::IncompleteChain,
        TlsFault::Weak,
        TlsFault::NoCommonCipher,
        TlsFault::ClientCertificateWanted,
        TlsFault::ClientCertificateRefused,
        TlsFault::Other,
    ];

    /// Returns the name in metrics, logs and the history.
    pub fn label(self) -> &'static str {
        match self {
            TlsFault::WrongHost => "tls_wrong_host",
            TlsFault::Expired => "tls_expired",
            TlsFault::NotYetValid => "tls_not_yet_valid",
            TlsFault::SelfSigned => "tls_self_signed",
            TlsFault::UnknownAuthority => "tls_unknown_authority",
            TlsFault::IncompleteChain => "tls_incomplete_chain",
            TlsFault::Weak => "tls_weak",
            TlsFault::NoCommonCipher => "tls_no_common_cipher",
            TlsFault::ClientCertificateWanted => "tls_client_certificate_wanted",
            TlsFault::ClientCertificateRefused => "tls_client_certificate_refused",
            TlsFault::Other => "tls",
        }
    }
}

impl HttpFault {
    /// All HTTP faults.
    pub const ALL: [HttpFault; 4] =
        [HttpFault::NotHttp, HttpFault::Malformed, HttpFault::HeaderTooLarge, HttpFault::Closed];

    /// Returns the name in metrics, logs and the history.
    pub fn label(self) -> &'static str {
        match self {
            HttpFault::NotHttp => "not_http",
            HttpFault::Malformed => "malformed_answer",
            HttpFault::HeaderTooLarge => "header_too_large",
            HttpFault::Closed => "closed_without_answer",
        }
    }
}

impl Fault {
    /// Returns one fault of each label, in the order of the definition.
    pub fn all() -> Vec<Fault> {
        let mut all = vec![Fault::Timeout];
        all.extend(DnsFault::ALL.map(Fault::Dns));
        all.push(Fault::Connect);
        all.extend(TlsFault::ALL.map(Fault::Tls));
        all.extend(HttpFault::ALL.map(Fault::Http));
        all.extend([Fault::Oauth(TokenFault::Failed("")), Fault::Proxy, Fault::ProxyRefused, Fault::Local]);
        all.extend([Fault::ForbiddenAddress, Fault::ForbiddenName].map(|fault| fault(Refusal::Denied)));
        all.extend([Fault::PlainHttp, Fault::UnusableTarget, Fault::Panic]);
        all
    }

    /// Returns the name in metrics, logs and the history.
    pub fn label(self) -> &'static str {
        match self {
            Fault::Timeout => "timeout",
            Fault::Dns(fault) => fault.label(),
            Fault::Connect => "connect",
            Fault::Tls(fault) => fault.label(),
            Fault::Http(fault) => fault.label(),
            Fault::Oauth(_) => "oauth",
            Fault::Proxy => "proxy",
            Fault::ProxyRefused => "proxy_refused",
            Fault::Local => "local",
            Fault::ForbiddenAddress(_) => "forbidden_address",
            Fault::ForbiddenName(_) => "forbidden_name",
            Fault::PlainHttp => "plain_http",
            Fault::UnusableTarget => "unusable_target",
            Fault::Panic => "panic",
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.label())
    }
}
