//! The broker over TLS: custom authorities, a client certificate, and clear errors.

use std::{
    net::{Ipv4Addr, TcpListener},
    path::{Path, PathBuf},
};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType, IsCa, KeyPair, KeyUsagePurpose,
    date_time_ymd,
};

use crate::{
    harness::{PATIENCE, World, event, eventually, receiver},
    node::Node,
};

/// A test's own authority, and its certificates as files.
struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    directory: tempfile::TempDir,
}

impl Authority {
    fn new() -> Authority {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("ca.pem"), issuer.pem()).unwrap();
        Authority { issuer, directory }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Writes `<name>.pem` and `<name>.key`.
    fn sign(&self, name: &str, host: &str, change: impl FnOnce(&mut CertificateParams)) {
        let mut params = CertificateParams::new(vec![host.to_owned()]).unwrap();
        // Must differ from the authority's name, or the certificate would look self-signed.
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, name);
        change(&mut params);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        std::fs::write(self.file(&format!("{name}.pem")), certificate.pem()).unwrap();
        std::fs::write(self.file(&format!("{name}.key")), key.serialize_pem()).unwrap();
    }
}

/// Opens another port of the node, with TLS, and returns it.
fn listen(node: &Node, authority: &Authority, name: &str, asks_for_ours: bool) -> u16 {
    let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port();
    let shown = |path: &Path| path.to_str().unwrap().to_owned();
    let verify =
        if asks_for_ours { "{verify,verify_peer},{fail_if_no_peer_cert,true}" } else { "{verify,verify_none}" };
    node.eval(&format!(
        "application:ensure_all_started(ssl), rabbit_networking:start_ssl_listener({{\"127.0.0.1\", {port}, inet}}, \
             [{{cacertfile,\"{}\"}},{{certfile,\"{}\"}},{{keyfile,\"{}\"}},{verify}], 1).",
        shown(&authority.file("ca.pem")),
        shown(&authority.file(&format!("{name}.pem"))),
        shown(&authority.file(&format!("{name}.key"))),
    ));
    port
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_over_tls_is_verified_and_may_verify_us() {
    let authority = Authority::new();
    authority.sign("good", "127.0.0.1", |_| {});
    authority.sign("us", "leadhook", |_| {});
    authority.sign("elsewhere", "other.example", |_| {});
    authority.sign("expired", "127.0.0.1", |params| {
        (params.not_before, params.not_after) = (date_time_ymd(2020, 1, 1), date_time_ymd(2021, 1, 1));
    });
    let node = Node::private();
    let world = World::on(&node).await;
    let receiver = receiver("200").await;
    world.simple_store(&receiver.url(), "");
    let path = |name: &str| authority.file(name).to_str().unwrap().to_owned();
    let (ca, certificate, key) = (path("ca.pem"), path("us.pem"), path("us.key"));
    let trusting = ("LEADHOOK__AMQP__CA_FILE", ca.as_str());
    let ours =
        [("LEADHOOK__AMQP__CLIENT_CERTIFICATE", certificate.as_str()), ("LEADHOOK__AMQP__CLIENT_KEY", key.as_str())];
    let url = |port: u16| format!("amqps://guest:guest@127.0.0.1:{port}/{}", world.vhost());

    let mut delivered = 0;
    for (asks_for_ours, environment) in [(false, vec![trusting]), (true, vec![trusting, ours[0], ours[1]])] {
        let url = url(listen(&node, &authority, "good", asks_for_ours));
        let worker = world.worker(&[&environment[..], &[("LEADHOOK__AMQP__URLS", url.as_str())]].concat()).await;
        delivered += 1;
        world.publish(event("ABC", delivered).as_bytes()).await;
        receiver.wait_for(delivered as usize, PATIENCE).await.unwrap();
        worker.stop().await;
    }

    for (name, asks_for_ours, environment, said) in [
        ("good", false, vec![], "UnknownIssuer"),
        ("elsewhere", false, vec![trusting], "not valid for name"),
        ("expired", false, vec![trusting], "expired"),
        ("good", true, vec![trusting], ""),
    ] {
        let url = url(listen(&node, &authority, name, asks_for_ours));
        let worker = world.start_worker(&[&environment[..], &[("LEADHOOK__AMQP__URLS", url.as_str())]].concat());
        eventually(&format!("{name}: {said:?} in the log"), async || {
            let log = worker.log();
            (log.contains("broker unreachable") && log.contains(said) && log.contains("amqps://127.0.0.1"))
                .then_some(())
        })
        .await;
        worker.not_ready().await;
        assert!(!worker.log().contains("guest"), "{}", worker.log());
        worker.stop().await;
    }

    let output = world.command().arg("run").env("LEADHOOK__AMQP__CA_FILE", path("missing.pem")).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(text.contains("amqp.ca_file") && text.contains("missing.pem"), "{text}");
}
