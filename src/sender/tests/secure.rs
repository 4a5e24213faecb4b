//! TLS against real servers, with certificates of the test's own authority.

use std::{path::PathBuf, sync::Arc};

use http_body_util::BodyExt;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType, IsCa, KeyPair, date_time_ymd,
};
use rustls::{
    ServerConfig,
    pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer},
    version::{TLS12, TLS13},
};
use tokio_rustls::TlsAcceptor;

use super::*;
use crate::settings::TlsVersion;

/// An authority, and the file that makes it trusted.
struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    directory: tempfile::TempDir,
}

impl Authority {
    fn new() -> Authority {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("ca.pem"), issuer.pem()).unwrap();
        Authority { issuer, directory }
    }

    fn file(&self) -> PathBuf {
        self.directory.path().join("ca.pem")
    }

    /// Returns a client certificate, read from PEM.
    fn identity(&self) -> ClientCertificate {
        let (params, key) = leaf(|_| {});
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        ClientCertificate::parse(&certificate.pem(), &key.serialize_pem()).unwrap()
    }

    fn signs(&self, change: impl FnOnce(&mut CertificateParams)) -> Pair {
        let (params, key) = leaf(change);
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        (certificate.der().clone(), PrivatePkcs8KeyDer::from(key.serialize_der()).into())
    }
}

type Pair = (rustls::pki_types::CertificateDer<'static>, PrivateKeyDer<'static>);

fn leaf(change: impl FnOnce(&mut CertificateParams)) -> (CertificateParams, KeyPair) {
    let mut params = CertificateParams::new(vec!["localhost".to_owned(), "127.0.0.1".to_owned()]).unwrap();
    params.use_authority_key_identifier_extension = true;
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, "a receiver");
    change(&mut params);
    (params, KeyPair::generate().unwrap())
}

/// The name of every authority here.
fn named() -> DistinguishedName {
    CertificateParams::default().distinguished_name
}

fn self_signed(change: impl FnOnce(&mut CertificateParams)) -> Pair {
    let (mut params, key) = leaf(change);
    params.use_authority_key_identifier_extension = false;
    let certificate = params.self_signed(&key).unwrap();
    (certificate.der().clone(), PrivatePkcs8KeyDer::from(key.serialize_der()).into())
}

/// Starts an HTTPS server that answers every POST with the HTTP version of the request.
async fn server(
    (certificate, key): Pair,
    versions: &[&'static rustls::SupportedProtocolVersion],
    alpn: &[&str],
) -> SocketAddr {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(versions)
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)
        .unwrap();
    config.alpn_protocols = alpn.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
    serve(config).await
}

async fn serve(config: ServerConfig) -> SocketAddr {
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                let Ok(stream) = acceptor.accept(stream).await else { return };
                let service = hyper::service::service_fn(|request: Request<Incoming>| async move {
                    let (version, host) = (request.version(), request.uri().host().map(str::to_owned));
                    let body = request.into_body().collect().await?.to_bytes();
                    let said = format!("{version:?} {} {}", host.unwrap_or_default(), body.len());
                    Ok::<_, hyper::Error>(http::Response::new(Full::new(Bytes::from(said))))
                });
                let serving = hyper_util::server::conn::auto::Builder::new(hyper_util::rt::TokioExecutor::new());
                let _ = serving.serve_connection(hyper_util::rt::TokioIo::new(stream), service).await;
            });
        }
    });
    address
}

fn trusting(authority: Option<&Authority>, minimum_version: TlsVersion) -> Sender {
    let egress = Egress { allow: this_machine(), ..Egress::default() };
    Sender::new(&egress, &Tls { ca_file: authority.map(Authority::file), minimum_version }).unwrap()
}

async fn said(sender: &Sender, url: &str) -> Result<String, Fault> {
    let exchange =
        sender.post(to("acme", &url.parse().unwrap(), LONG), HeaderMap::new(), Bytes::from_static(b"{}")).await;
    exchange.result.map(|answer| answer.snippet.unwrap_or_default())
}

const BOTH: &[&rustls::SupportedProtocolVersion] = &[&TLS13, &TLS12];

#[tokio::test]
async fn extra_authorities_are_trusted_and_http_2_is_never_spoken() {
    let authority = Authority::new();
    let two = server(authority.signs(|_| {}), BOTH, &["h2", "http/1.1"]).await;
    let one = server(authority.signs(|_| {}), BOTH, &["http/1.1"]).await;
    let none = server(authority.signs(|_| {}), BOTH, &[]).await;
    let sender = trusting(Some(&authority), TlsVersion::V1_2);
    let url = |address: SocketAddr| format!("https://localhost:{}/", address.port());
    for _ in 0..2 {
        assert_eq!(said(&sender, &url(two)).await.unwrap(), "HTTP/1.1  2");
        assert_eq!(said(&sender, &url(one)).await.unwrap(), "HTTP/1.1  2");
        assert_eq!(said(&sender, &url(none)).await.unwrap(), "HTTP/1.1  2");
    }
    // The certificate is also for an address.
    assert_eq!(said(&sender, &format!("https://{two}/")).await.unwrap(), "HTTP/1.1  2");
}

#[tokio::test]
async fn each_fault_of_a_certificate_has_its_own_name() {
    let (authority, stranger) = (Authority::new(), Authority::new());
    let wrong_host = authority.signs(|params| {
        params.subject_alt_names = vec![rcgen::SanType::DnsName("other.example".try_into().unwrap())];
    });
    let expired = authority.signs(|params| {
        (params.not_before, params.not_after) = (date_time_ymd(2020, 1, 1), date_time_ymd(2021, 1, 1));
    });
    let early = authority.signs(|params| {
        (params.not_before, params.not_after) = (date_time_ymd(2100, 1, 1), date_time_ymd(2101, 1, 1));
    });
    let authority_itself = self_signed(|params| params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained));
    let sender = trusting(Some(&authority), TlsVersion::V1_2);
    for (identity, expected) in [
        (wrong_host, TlsFault::WrongHost),
        (expired, TlsFault::Expired),
        (early, TlsFault::NotYetValid),
        (self_signed(|_| {}), TlsFault::SelfSigned),
        // It bears the name of the authority.
        (self_signed(|params| params.distinguished_name = named()), TlsFault::SelfSigned),
        (authority_itself, TlsFault::SelfSigned),
        (stranger.signs(|_| {}), TlsFault::UnknownAuthority),
    ] {
        let address = server(identity, BOTH, &[]).await;
        let url = format!("https://localhost:{}/", address.port());
        assert_eq!(said(&sender, &url).await, Err(Fault::Tls(expected)), "{expected:?}");
    }
    // Without the file, its authority is unknown too.
    let address = server(authority.signs(|_| {}), BOTH, &[]).await;
    let url = format!("https://localhost:{}/", address.port());
    assert_eq!(said(&trusting(None, TlsVersion::V1_2), &url).await, Err(Fault::Tls(TlsFault::UnknownAuthority)));
}

#[tokio::test]
async fn versions_older_than_the_setting_are_not_spoken() {
    let authority = Authority::new();
    let old = server(authority.signs(|_| {}), &[&TLS12], &[]).await;
    let url = format!("https://localhost:{}/", old.port());
    assert!(said(&trusting(Some(&authority), TlsVersion::V1_2), &url).await.is_ok());
    let refused = said(&trusting(Some(&authority), TlsVersion::V1_3), &url).await;
    assert_eq!(refused, Err(Fault::Tls(TlsFault::NoCommonCipher)));
}

#[tokio::test]
async fn a_receiver_that_wants_a_certificate_of_ours_is_told_apart() {
    let authority = Authority::new();
    for versions in [&[&TLS13][..], &[&TLS12][..]] {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(authority.issuer.der().clone()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let clients = rustls::server::WebPkiClientVerifier::builder_with_provider(roots.into(), provider.clone());
        let (certificate, key) = authority.signs(|_| {});
        let config = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(versions)
            .unwrap()
            .with_client_cert_verifier(clients.build().unwrap())
            .with_single_cert(vec![certificate], key)
            .unwrap();
        let url = format!("https://localhost:{}/", serve(config).await.port());
        let refused = said(&trusting(Some(&authority), TlsVersion::V1_2), &url).await;
        // If the receiver's alert is lost with the connection, we know only that TLS failed or the connection broke.
        let told = [
            Fault::Tls(TlsFault::ClientCertificateWanted),
            Fault::Tls(TlsFault::Other),
            Fault::Http(HttpFault::Closed),
        ];
        assert!(refused.as_ref().is_err_and(|fault| told.contains(fault)), "{versions:?}: {refused:?}");
    }
}

/// A receiver that asks gets the certificate of the target, and no connection of another target is reused.
#[tokio::test]
async fn a_target_shows_its_own_certificate_and_shares_no_connection_with_others() {
    let authority = Authority::new();
    for versions in [&[&TLS13][..], &[&TLS12][..]] {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(authority.issuer.der().clone()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let clients = rustls::server::WebPkiClientVerifier::builder_with_provider(roots.into(), provider.clone());
        let (certificate, key) = authority.signs(|_| {});
        let config = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(versions)
            .unwrap()
            .with_client_cert_verifier(clients.build().unwrap())
            .with_single_cert(vec![certificate], key)
            .unwrap();
        let url = format!("https://localhost:{}/", serve(config).await.port()).parse().unwrap();
        let sender = trusting(Some(&authority), TlsVersion::V1_2);
        let (ours, strange) = (authority.identity(), Authority::new().identity());
        let post = async |identity: Option<&ClientCertificate>| {
            let post = Post { client_certificate: identity, ..to("acme", &url, LONG) };
            sender.post(post, HeaderMap::new(), Bytes::from_static(b"{}")).await.result.map(|answer| answer.status)
        };
        for _ in 0..2 {
            assert_eq!(post(Some(&ours)).await, Ok(200));
            assert!(post(None).await.is_err(), "a connection with a certificate was reused without one");
            assert!(post(Some(&strange)).await.is_err(), "a certificate of an unknown authority was accepted");
        }
    }
}

/// A target's own authority replaces the system's authorities.
#[tokio::test]
async fn a_targets_own_authority_is_the_only_one() {
    let (ours, theirs) = (Authority::new(), Authority::new());
    let url = async |pair| format!("https://localhost:{}/", server(pair, BOTH, &[]).await.port()).parse().unwrap();
    let sender = trusting(Some(&ours), TlsVersion::V1_2);
    let post = async |url: &Url, pem: Option<&str>| {
        let authority = pem.map(|pem| crate::store::CaCertificate::parse(pem).unwrap());
        let post = Post { ca_certificate: authority.as_ref(), ..to("acme", url, LONG) };
        sender.post(post, HeaderMap::new(), Bytes::from_static(b"{}")).await.result.map(|answer| answer.status)
    };
    let (of_ours, of_theirs): (Url, Url) = (url(ours.signs(|_| {})).await, url(theirs.signs(|_| {})).await);
    let unknown = Err(Fault::Tls(TlsFault::UnknownAuthority));
    let both = format!("{}{}", ours.issuer.pem(), theirs.issuer.pem());
    for _ in 0..2 {
        assert_eq!(post(&of_theirs, Some(&theirs.issuer.pem())).await, Ok(200));
        assert_eq!(post(&of_theirs, None).await, unknown, "a connection with other trust was reused");
        assert_eq!(post(&of_ours, None).await, Ok(200));
        assert_eq!(post(&of_ours, Some(&theirs.issuer.pem())).await, unknown);
        assert_eq!(post(&of_ours, Some(&both)).await, Ok(200));
    }
    // A target may trust a self-signed certificate, even one that calls itself an authority.
    let leaf = self_signed(|_| {});
    let authority_itself = self_signed(|params| params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained));
    for pair in [leaf, authority_itself] {
        let pem = pem(&pair.0);
        let of_itself: Url = url(pair).await;
        assert_eq!(post(&of_itself, Some(&pem)).await, Ok(200));
        assert_eq!(post(&of_itself, None).await, Err(Fault::Tls(TlsFault::SelfSigned)));
        assert_eq!(post(&of_itself, Some(&theirs.issuer.pem())).await, Err(Fault::Tls(TlsFault::SelfSigned)));
    }
    // The certificate's name and time count.
    let other = self_signed(|params| {
        params.subject_alt_names = vec![rcgen::SanType::DnsName("other.example".try_into().unwrap())];
    });
    let expired = self_signed(|params| {
        (params.not_before, params.not_after) = (date_time_ymd(2020, 1, 1), date_time_ymd(2021, 1, 1));
    });
    let early = self_signed(|params| {
        (params.not_before, params.not_after) = (date_time_ymd(2100, 1, 1), date_time_ymd(2101, 1, 1));
    });
    for (pair, fault) in [(other, TlsFault::WrongHost), (expired, TlsFault::Expired), (early, TlsFault::NotYetValid)] {
        let pem = pem(&pair.0);
        assert_eq!(post(&url(pair).await, Some(&pem)).await, Err(Fault::Tls(fault)));
    }
}

fn pem(certificate: &rustls::pki_types::CertificateDer<'_>) -> String {
    use base64::{Engine, prelude::BASE64_STANDARD};
    let body = BASE64_STANDARD.encode(certificate);
    format!("-----BEGIN CERTIFICATE-----\n{body}\n-----END CERTIFICATE-----\n")
}

/// A certificate that says where to get its issuer's comes from an intermediate authority, whose certificate must be
/// sent too.
#[tokio::test]
async fn a_chain_without_its_intermediate_authority_is_told_apart() {
    let (root, intermediate) = (Authority::new(), Authority::new());
    // AuthorityInfoAccess: caIssuers, http://a.example (RFC 5280, section 4.2.2.1).
    let mut access = vec![0x30, 0x1e, 0x30, 0x1c, 0x06, 0x08, 0x2b, 6, 1, 5, 5, 7, 0x30, 2, 0x86, 0x10];
    access.extend(b"http://a.example");
    let pair = intermediate.signs(|params| {
        params.custom_extensions =
            vec![rcgen::CustomExtension::from_oid_content(&[1, 3, 6, 1, 5, 5, 7, 1, 1], access.clone())];
    });
    let url = format!("https://localhost:{}/", server(pair, BOTH, &[]).await.port());
    let result = said(&trusting(Some(&root), TlsVersion::V1_2), &url).await;
    assert_eq!(result, Err(Fault::Tls(TlsFault::IncompleteChain)));
}

#[test]
fn a_file_without_authorities_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("ca.pem");
    let refused = || {
        let tls = Tls { ca_file: Some(path.clone()), minimum_version: TlsVersion::V1_2 };
        format!("{:#}", Sender::new(&Egress::default(), &tls).err().unwrap())
    };
    assert!(refused().contains("ca.pem"));
    std::fs::write(&path, "no certificate\n").unwrap();
    assert!(refused().contains("holds no certificate"), "{}", refused());
}
