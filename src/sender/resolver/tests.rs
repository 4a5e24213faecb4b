use std::{
    net::Ipv4Addr,
    sync::atomic::{AtomicBool, Ordering},
};

use hickory_resolver::proto::{
    op::{Message, ResponseCode},
    rr::{RData, Record},
};
use tokio::net::UdpSocket;

use super::*;
use crate::egress::Rule;

/// The reaction of a name server to a question.
#[derive(Clone)]
enum Reply {
    Addresses(&'static [&'static str]),
    Code(ResponseCode),
    Silence,
    Late(Duration, &'static [&'static str]),
}

use Reply::{Addresses, Code, Late, Silence};

struct NameServer {
    address: SocketAddr,
    asked: Arc<Mutex<Vec<String>>>,
}

impl NameServer {
    /// Answers each question as `reply` says, which gets the name and `A` or `AAAA`.
    async fn start(reply: impl Fn(&str, &str) -> Reply + Send + 'static) -> NameServer {
        let socket = Arc::new(UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap());
        let (address, asked) = (socket.local_addr().unwrap(), Arc::new(Mutex::new(Vec::new())));
        let noting = asked.clone();
        tokio::spawn(async move {
            let mut buffer = [0; 4096];
            while let Ok((size, from)) = socket.recv_from(&mut buffer).await {
                let question = Message::from_vec(&buffer[..size]).unwrap();
                let query = question.queries[0].clone();
                let (name, kind) = (query.name().to_ascii(), query.query_type());
                noting.lock().unwrap().push(format!("{name} {kind}"));
                let mut answer = question.into_response();
                let (addresses, wait) = match reply(name.trim_end_matches('.'), &kind.to_string()) {
                    Addresses(addresses) => (addresses, Duration::ZERO),
                    Late(wait, addresses) => (addresses, wait),
                    Code(code) => {
                        answer.metadata.response_code = code;
                        (&[][..], Duration::ZERO)
                    }
                    Silence => continue,
                };
                for address in addresses {
                    let data = match address.parse().unwrap() {
                        IpAddr::V4(address) if kind == RecordType::A => RData::A(address.into()),
                        IpAddr::V6(address) if kind == RecordType::AAAA => RData::AAAA(address.into()),
                        _ => continue,
                    };
                    answer.add_answer(Record::from_rdata(query.name().clone(), 60, data));
                }
                let (socket, bytes) = (socket.clone(), answer.to_vec().unwrap());
                tokio::spawn(async move {
                    tokio::time::sleep(wait).await;
                    socket.send_to(&bytes, from).await
                });
            }
        });
        NameServer { address, asked }
    }

    fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

/// Allows all addresses of this machine.
fn guard(more: &[&str]) -> Arc<Guard> {
    let allow: Vec<Rule> = ["127.0.0.0/8", "::1"].iter().chain(more).map(|rule| rule.parse().unwrap()).collect();
    Arc::new(Guard::new(&allow, &[], None))
}

async fn found(servers: &[&NameServer], host: &str) -> Result<Vec<String>, Fault> {
    let servers: Vec<_> = servers.iter().map(|server| server.address).collect();
    let found = Resolver::new(&servers).unwrap().addresses(host, &guard(&[])).await?;
    Ok(found.ready.iter().map(ToString::to_string).collect())
}

/// Returns the addresses of a name, and how long the lookup took.
async fn timed(servers: &[&NameServer], host: &str) -> (Result<Vec<String>, Fault>, Duration) {
    let begun = Instant::now();
    let found = found(servers, host).await;
    (found, begun.elapsed())
}

const NO_SUCH_NAME: Result<Vec<String>, Fault> = Err(Fault::Dns(DnsFault::NoSuchName));

/// Allowance for a busy machine.
const SLACK: Duration = Duration::from_secs(2);

#[tokio::test]
async fn a_silent_first_server_costs_a_moment() {
    let silent = NameServer::start(|_, _| Silence).await;
    let good = NameServer::start(|_, _| Addresses(&["127.0.0.1"])).await;
    let (found, took) = timed(&[&silent, &good], "hooks.example").await;
    assert_eq!(found.unwrap(), ["127.0.0.1"]);
    assert!(took >= NEXT_SERVER && took < NEXT_SERVER + SLACK, "{took:?}");
}

#[tokio::test]
async fn a_server_that_fails_is_left_at_once() {
    for code in [ResponseCode::ServFail, ResponseCode::Refused, ResponseCode::NotImp, ResponseCode::FormErr] {
        let failing = NameServer::start(move |_, _| Code(code)).await;
        let good = NameServer::start(|_, _| Addresses(&["127.0.0.1"])).await;
        assert_eq!(found(&[&failing, &good], "hooks.example").await.unwrap(), ["127.0.0.1"], "{code}");
        let failed = found(&[&failing, &failing], "hooks.example").await;
        assert_eq!(failed, Err(Fault::Dns(DnsFault::ServerFailure)), "{code}");
    }
}

/// In a container the first name server often knows the containers, and the second one only the internet.
#[tokio::test]
async fn no_such_name_counts_only_from_the_first_server_that_answers() {
    let none = NameServer::start(|_, _| Code(ResponseCode::NXDomain)).await;
    let empty = NameServer::start(|_, _| Addresses(&[])).await;
    let slow = NameServer::start(|_, _| Late(Duration::from_millis(900), &["127.0.0.1"])).await;
    let good = NameServer::start(|_, _| Addresses(&["127.0.0.1"])).await;
    let failing = NameServer::start(|_, _| Code(ResponseCode::ServFail)).await;
    assert_eq!(found(&[&good, &none], "receiver.example").await.unwrap(), ["127.0.0.1"]);
    assert_eq!(none.asked(), [""; 0], "the second server was asked although the first one had answered");
    assert_eq!(found(&[&slow, &none], "receiver.example").await.unwrap(), ["127.0.0.1"]);
    assert_eq!(found(&[&slow, &empty], "receiver.example").await.unwrap(), ["127.0.0.1"]);
    assert_eq!(found(&[&none, &good], "receiver.example").await, NO_SUCH_NAME);
    assert_eq!(found(&[&empty, &good], "receiver.example").await, NO_SUCH_NAME);
    assert_eq!(found(&[&failing, &none], "receiver.example").await, NO_SUCH_NAME);
}

#[tokio::test]
async fn a_family_that_is_dropped_costs_a_moment() {
    for dropped in ["AAAA", "A"] {
        let server = NameServer::start(move |_, kind| match kind == dropped {
            true => Silence,
            false => Addresses(&["127.0.0.1", "::1"]),
        })
        .await;
        let (found, took) = timed(&[&server], "hooks.example").await;
        assert_eq!(found.unwrap(), [if dropped == "A" { "::1" } else { "127.0.0.1" }]);
        assert!(took < SLACK, "{took:?} without {dropped}");
    }
}

#[tokio::test]
async fn both_families_are_tried_in_turn() {
    let server = NameServer::start(|_, _| Addresses(&["127.0.0.1", "127.0.0.2", "127.0.0.3", "::1"])).await;
    assert_eq!(found(&[&server], "hooks.example").await.unwrap(), ["::1", "127.0.0.1", "127.0.0.2", "127.0.0.3"]);
}

#[tokio::test]
async fn names_may_have_underscores() {
    let server = NameServer::start(|_, _| Addresses(&["127.0.0.1"])).await;
    for host in ["my_crm.example", "_hooks.example", "a_b._c.example", "xn--bcher-kva.example"] {
        assert_eq!(found(&[&server], host).await.unwrap(), ["127.0.0.1"], "{host}");
    }
}

/// The search list has sent leads to the wrong host.
#[tokio::test]
async fn only_a_single_label_that_is_allowed_by_name_uses_the_search_list() {
    let server = NameServer::start(|name, _| match name {
        "crm.corp.example" | "hooks.example.corp.example" | "hooks.example" => Addresses(&["127.0.0.1"]),
        _ => Code(ResponseCode::NXDomain),
    })
    .await;
    let search = ["first.example.", "corp.example."].map(|domain| Name::from_ascii(domain).unwrap());
    let config = ResolverConfig::from_parts(None, search.into(), vec![super::server(&server.address)]);
    let resolver = || Resolver::with(&config, ResolverOpts::default(), Hosts::default()).unwrap();
    let names = || {
        let mut asked: Vec<_> = server.asked.lock().unwrap().drain(..).filter(|line| line.ends_with(" A")).collect();
        asked.iter_mut().for_each(|line| line.truncate(line.len() - 3));
        asked
    };
    assert!(resolver().addresses("hooks.example", &guard(&["hooks.example"])).await.is_ok());
    assert_eq!(names(), ["hooks.example"]);
    assert!(resolver().addresses("other.example", &guard(&[])).await.is_err());
    assert_eq!(names(), ["other.example"]);
    assert!(resolver().addresses("crm", &guard(&[])).await.is_err());
    assert_eq!(names(), ["crm"]);
    assert!(resolver().addresses("crm", &guard(&["crm"])).await.is_ok());
    assert_eq!(names(), ["crm.first.example", "crm.corp.example"]);
    assert!(resolver().addresses("crm.", &guard(&["crm"])).await.is_err());
    assert_eq!(names(), ["crm"]);
}

/// A failure must not lead to the next domain, where another host may have the name.
#[tokio::test]
async fn a_search_list_is_left_at_a_failure() {
    let server = NameServer::start(|name, _| match name {
        "crm.second.example" => Addresses(&["127.0.0.1"]),
        _ => Code(ResponseCode::ServFail),
    })
    .await;
    let search = ["first.example.", "second.example."].map(|domain| Name::from_ascii(domain).unwrap());
    let config = ResolverConfig::from_parts(None, search.into(), vec![super::server(&server.address)]);
    let resolver = Resolver::with(&config, ResolverOpts::default(), Hosts::default()).unwrap();
    let found = resolver.addresses("crm", &guard(&["crm"])).await;
    assert_eq!(found.err(), Some(Fault::Dns(DnsFault::ServerFailure)));
    assert!(server.asked().iter().all(|line| line.starts_with("crm.first.example")), "{:?}", server.asked());
}

/// A late family is not lost: it may be the only one that works.
#[tokio::test]
async fn addresses_that_come_late_are_used() {
    let late = Duration::from_millis(400);
    for first in ["AAAA", "A"] {
        let server = NameServer::start(move |_, kind| match kind == first {
            true => Addresses(&["127.0.0.1", "::1"]),
            false => Late(late, &["127.0.0.1", "::1"]),
        })
        .await;
        let found = Resolver::new(&[server.address]).unwrap().addresses("hooks.example", &guard(&[])).await.unwrap();
        assert_eq!(found.ready.len(), 1, "{first}");
        assert_eq!(found.all().await.len(), 2, "{first}");
    }
    // If the first addresses are forbidden, the other family is awaited.
    let server = NameServer::start(move |_, kind| match kind {
        "AAAA" => Addresses(&["::"]),
        _ => Late(late, &["127.0.0.1"]),
    })
    .await;
    assert_eq!(found(&[&server], "hooks.example").await.unwrap(), ["127.0.0.1"]);
}

#[tokio::test]
async fn the_hosts_file_goes_first() {
    let server = NameServer::start(|_, _| Addresses(&["127.0.0.1"])).await;
    let mut hosts = Hosts::default();
    let name = Name::from_ascii("hooks.example.").unwrap();
    let query = Query::query(name.clone(), RecordType::A);
    let here = Lookup::from_rdata(query, RData::A(Ipv4Addr::new(127, 0, 0, 9).into()));
    hosts.insert(name, RecordType::A, here);
    let config = ResolverConfig::from_parts(None, Vec::new(), vec![super::server(&server.address)]);
    let resolver = Resolver::with(&config, ResolverOpts::default(), hosts).unwrap();
    let addresses = resolver.addresses("hooks.example", &guard(&[])).await.unwrap();
    assert_eq!(addresses.ready, [IpAddr::from([127, 0, 0, 9])]);
    assert_eq!(server.asked(), [""; 0]);
}

#[tokio::test]
async fn answers_are_remembered_and_faults_are_not() {
    let failing = Arc::new(AtomicBool::new(true));
    let fails = failing.clone();
    let server = NameServer::start(move |_, _| match fails.load(Ordering::SeqCst) {
        true => Code(ResponseCode::ServFail),
        false => Addresses(&["127.0.0.1", "::1"]),
    })
    .await;
    let resolver = Resolver::new(&[server.address]).unwrap();
    assert!(resolver.addresses("hooks.example", &guard(&[])).await.is_err());
    failing.store(false, Ordering::SeqCst);
    server.asked.lock().unwrap().clear();
    for _ in 0..3 {
        assert_eq!(resolver.addresses("hooks.example", &guard(&[])).await.unwrap().ready.len(), 2);
    }
    assert_eq!(server.asked().len(), 2, "{:?}", server.asked());
}

#[tokio::test]
async fn addresses_that_may_not_be_called_are_skipped() {
    let mixed = NameServer::start(|_, _| Addresses(&["10.0.0.1", "127.0.0.1", "::ffff:127.0.0.1"])).await;
    assert_eq!(found(&[&mixed], "hooks.example").await.unwrap(), ["127.0.0.1"]);
    let blocked = NameServer::start(|_, _| Addresses(&["0.0.0.0", "::"])).await;
    assert!(matches!(found(&[&blocked], "hooks.example").await, Err(Fault::ForbiddenName(_))));
    assert!(matches!(found(&[&blocked], "10.0.0.1").await, Err(Fault::ForbiddenAddress(_))));
}
