//! Resolves a name to addresses that may be dialled.
//!
//! Three rules make names safe to depend on:
//! - The hosts file takes precedence. A host with a dot is an absolute name, because a search list has sent leads to
//!   the wrong host. A single label uses the search list only if `egress.allow` names it.
//! - Name servers are asked in their order. The next one is asked after 300 ms of silence or a failure. Its "no such
//!   name" counts only if all servers before it have failed.
//! - A and AAAA are asked at once (RFC 8305, section 3). The first answer is used after 50 ms at most; a later one is
//!   used until a connection exists.
//!
//! `getaddrinfo` is not used: a lookup cannot be cancelled, and a slow name server would hold a thread for each
//! webhook. Other sources of the C library (NSS) are not asked.

use std::{
    collections::{HashMap, VecDeque},
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use futures::{
    FutureExt, StreamExt,
    future::{self, BoxFuture, Either, Fuse, FusedFuture, Shared},
    stream::FuturesUnordered,
};
use hickory_resolver::{
    Hosts, Resolver as Hickory, TokioResolver,
    config::{ConnectionConfig, LookupIpStrategy, NameServerConfig, ResolverConfig, ResolverOpts},
    lookup::Lookup,
    net::{DnsError, NetError, runtime::TokioRuntimeProvider},
    proto::{
        op::Query,
        rr::{Name, RecordType},
    },
    system_conf,
};

use super::fault;
use crate::{
    delivery::fault::{DnsFault, Fault},
    egress::{Guard, Refusal},
};

/// Limit for each of two tries to ask one server. The attempt's own deadline takes precedence if it is earlier.
const PATIENCE: Duration = Duration::from_secs(5);

/// Silence after which the next server is asked as well.
const NEXT_SERVER: Duration = Duration::from_millis(300);

/// How long the answer of one family waits for the other one (RFC 8305, section 3, recommends 50 ms).
const OTHER_FAMILY: Duration = Duration::from_millis(50);

/// The most answers that are remembered, each for its TTL.
const REMEMBERED: usize = 4096;

/// The longest time that a name without addresses is remembered. A customer who corrects it does not wait for an hour.
const NONE_REMEMBERED: Duration = Duration::from_secs(30);

/// The most addresses of one name that are judged. Real services have a dozen.
const MOST: usize = 64;

/// Why a question has no addresses as its answer.
#[derive(Clone, Copy)]
enum Unanswered {
    /// The server says that there are no such addresses.
    Negative,
    /// The server fails, or does not answer.
    Failed(Fault),
}

/// Asks name servers. Cheap to clone; clones share the remembered answers.
#[derive(Clone)]
pub(super) struct Resolver(Arc<Inner>);

struct Inner {
    hosts: Hosts,
    servers: Vec<TokioResolver>,
    search: Vec<Name>,
    remembered: Mutex<HashMap<(Name, RecordType), Remembered>>,
}

/// Addresses, and until when they are valid. The list is empty if there certainly are none.
type Remembered = (Vec<IpAddr>, Instant);

impl Resolver {
    /// Makes a resolver that asks `servers`, or those of the system if there are none.
    ///
    /// # Errors
    /// Fails if the system's `resolv.conf` or hosts file cannot be read.
    pub(super) fn new(servers: &[SocketAddr]) -> anyhow::Result<Resolver> {
        let (config, options) = if servers.is_empty() {
            system_conf::read_system_conf()?
        } else {
            let config = ResolverConfig::from_parts(None, Vec::new(), servers.iter().map(server).collect());
            (config, ResolverOpts::default())
        };
        Resolver::with(&config, options, Hosts::from_system()?)
    }

    fn with(system: &ResolverConfig, mut options: ResolverOpts, hosts: Hosts) -> anyhow::Result<Resolver> {
        options.timeout = options.timeout.min(PATIENCE);
        options.attempts = options.attempts.min(2);
        options.ip_strategy = LookupIpStrategy::Ipv4AndIpv6;
        options.cache_size = 0;
        let one = |server: &NameServerConfig| {
            let config = ResolverConfig::from_parts(None, Vec::new(), vec![server.clone()]);
            let mut builder = Hickory::builder_with_config(config, TokioRuntimeProvider::default());
            *builder.options_mut() = options.clone();
            builder.build()
        };
        Ok(Resolver(Arc::new(Inner {
            hosts,
            servers: system.name_servers().iter().map(one).collect::<Result<_, _>>()?,
            search: system.search().to_vec(),
            remembered: Mutex::default(),
        })))
    }

    /// Returns the addresses of `host` that may be called, at least one. `host` is a name or an address, as a URL has
    /// it.
    ///
    /// # Errors
    /// [`Fault::ForbiddenAddress`] if `host` is a forbidden address, [`Fault::ForbiddenName`] if it is a name with only
    /// such addresses, and [`Fault::Dns`] if it is a name that cannot be resolved.
    pub(super) async fn addresses(&self, host: &str, guard: &Arc<Guard>) -> Result<Addresses, Fault> {
        if let Some(address) = literal(host) {
            guard.judge(host, address).map_err(Fault::ForbiddenAddress)?;
            return Ok(Addresses::of(vec![address]));
        }
        let (found, late) = self.lookup(host, guard).await?;
        let (mut ready, mut refused) = judge(host, guard, found);
        let judging = {
            let (host, guard) = (host.to_owned(), guard.clone());
            late.map(move |found| judge(&host, &guard, found.unwrap_or_default()))
        };
        let mut late = judging.boxed().fuse();
        if ready.is_empty() {
            let (more, also_refused) = (&mut late).await;
            (ready, refused) = (more, refused.or(also_refused));
        }
        match (ready.is_empty(), refused) {
            (false, _) if late.is_terminated() => Ok(Addresses::of(ready)),
            (false, _) => Ok(Addresses { ready: ready.into(), late: late.map(|(more, _)| more).boxed().fuse() }),
            (true, Some(refusal)) => Err(Fault::ForbiddenName(refusal)),
            (true, None) => Err(Fault::Dns(DnsFault::NoSuchName)),
        }
    }

    /// Returns the addresses of a name that came first, and the question about the other family if that is late.
    async fn lookup(&self, host: &str, guard: &Guard) -> Result<(Vec<IpAddr>, Question), Fault> {
        let name = Name::from_ascii(host).map_err(|_| Fault::Dns(DnsFault::NoSuchName))?;
        let known = self.0.in_hosts_file(&name);
        if !known.is_empty() {
            return Ok((known, answered(Ok(Vec::new()))));
        }
        let mut found = Err(Fault::Dns(DnsFault::NoSuchName));
        for name in self.0.candidates(name, host, guard) {
            found = self.both_families(&name).await;
            // The next domain of the search list counts only if this one certainly has no such name.
            if !matches!(found, Err(Fault::Dns(DnsFault::NoSuchName))) {
                break;
            }
        }
        found
    }

    /// Asks for both families at once. Once one has addresses, waits for the other for at most [`OTHER_FAMILY`].
    async fn both_families(&self, name: &Name) -> Result<(Vec<IpAddr>, Question), Fault> {
        let (first, other) = match future::select(self.ask(name, RecordType::AAAA), self.ask(name, RecordType::A)).await
        {
            Either::Left((first, other)) | Either::Right((first, other)) => (first, other),
        };
        match first {
            Ok(found) => match tokio::time::timeout(OTHER_FAMILY, other.clone()).await {
                Ok(more) => Ok((in_turn(found, more.unwrap_or_default()), answered(Ok(Vec::new())))),
                Err(_) => Ok((found, other)),
            },
            Err(first) => match (other.await, first) {
                (Ok(found), _) => Ok((found, answered(Ok(Vec::new())))),
                (Err(Unanswered::Failed(fault)), _) | (_, Unanswered::Failed(fault)) => Err(fault),
                (Err(Unanswered::Negative), Unanswered::Negative) => Err(Fault::Dns(DnsFault::NoSuchName)),
            },
        }
    }

    /// Returns one question, which can be kept and awaited later.
    fn ask(&self, name: &Name, kind: RecordType) -> Question {
        let (inner, name) = (self.0.clone(), name.clone());
        async move { inner.ask(&name, kind).await }.boxed().shared()
    }
}

/// The question about one family.
type Question = Shared<BoxFuture<'static, Result<Vec<IpAddr>, Unanswered>>>;

fn answered(answer: Result<Vec<IpAddr>, Unanswered>) -> Question {
    future::ready(answer).boxed().shared()
}

/// Addresses that may be called.
pub(super) struct Addresses {
    /// In dialling order.
    pub(super) ready: VecDeque<IpAddr>,
    /// The addresses of the other family, if its answer is late.
    pub(super) late: Fuse<BoxFuture<'static, Vec<IpAddr>>>,
}

impl Addresses {
    fn of(ready: Vec<IpAddr>) -> Addresses {
        Addresses { ready: ready.into(), late: Fuse::terminated() }
    }

    /// Returns all addresses, and waits for those that are late.
    pub(super) async fn all(self) -> Vec<IpAddr> {
        let mut all = Vec::from(self.ready);
        if !self.late.is_terminated() {
            all.extend(self.late.await);
        }
        all
    }
}

/// Returns the addresses that may be called, and why the first of the others may not.
fn judge(host: &str, guard: &Guard, found: Vec<IpAddr>) -> (Vec<IpAddr>, Option<Refusal>) {
    let (mut allowed, mut refused) = (Vec::new(), None);
    for address in found.into_iter().take(MOST) {
        match guard.judge(host, address) {
            Ok(()) => allowed.push(address),
            Err(refusal) => refused = refused.or(Some(refusal)),
        }
    }
    (allowed, refused)
}

impl Inner {
    fn in_hosts_file(&self, name: &Name) -> Vec<IpAddr> {
        let of = |kind| self.hosts.lookup_static_host(&Query::query(name.clone(), kind));
        [RecordType::A, RecordType::AAAA].into_iter().filter_map(of).flat_map(|found| addresses(&found)).collect()
    }

    /// Returns the absolute names that `host` may stand for, in the order to ask for them.
    fn candidates(&self, mut name: Name, host: &str, guard: &Guard) -> Vec<Name> {
        let searched = name.num_labels() == 1 && !host.ends_with('.') && guard.allows_name(host);
        let mut names = Vec::new();
        if searched {
            names.extend(self.search.iter().filter_map(|domain| name.clone().append_domain(domain).ok()));
        }
        name.set_fqdn(true);
        names.push(name);
        names
    }

    /// Asks one question, to one server after the other.
    async fn ask(&self, name: &Name, kind: RecordType) -> Result<Vec<IpAddr>, Unanswered> {
        match self.remembered(name, kind) {
            Some(none) if none.is_empty() => return Err(Unanswered::Negative),
            Some(found) => return Ok(found),
            None => {}
        }
        let mut verdicts: Vec<Option<Unanswered>> = Vec::new();
        let mut no_longer_than = NONE_REMEMBERED;
        let mut asked = FuturesUnordered::new();
        loop {
            if verdicts.len() < self.servers.len() {
                let (nth, server) = (verdicts.len(), &self.servers[verdicts.len()]);
                asked.push(server.lookup(name.clone(), kind).map(move |answer| (nth, answer)));
                verdicts.push(None);
            }
            let more = verdicts.len() < self.servers.len();
            let (nth, answer) = if more {
                match tokio::time::timeout(NEXT_SERVER, asked.next()).await {
                    Ok(Some(answered)) => answered,
                    Ok(None) | Err(_) => continue,
                }
            } else {
                match asked.next().await {
                    Some(answered) => answered,
                    None => break,
                }
            };
            verdicts[nth] = Some(match answer {
                Ok(found) if !addresses(&found).is_empty() => {
                    return Ok(self.remember(name, kind, addresses(&found), found.valid_until()));
                }
                Ok(_) => Unanswered::Negative,
                Err(error) => {
                    no_longer_than = no_longer_than.min(negative_ttl(&error));
                    unanswered(&error)
                }
            });
            // Only the first server that has not failed counts.
            let first = verdicts.iter().find(|verdict| !matches!(verdict, Some(Unanswered::Failed(_))));
            if let Some(Some(negative)) = first {
                self.remember(name, kind, Vec::new(), Instant::now() + no_longer_than);
                return Err(*negative);
            }
        }
        Err(verdicts.into_iter().flatten().next().unwrap_or(Unanswered::Failed(Fault::Dns(DnsFault::NoAnswer))))
    }

    fn remembered(&self, name: &Name, kind: RecordType) -> Option<Vec<IpAddr>> {
        let remembered = self.remembered.lock().unwrap_or_else(PoisonError::into_inner);
        let (found, until) = remembered.get(&(name.clone(), kind))?;
        (*until > Instant::now()).then(|| found.clone())
    }

    fn remember(&self, name: &Name, kind: RecordType, found: Vec<IpAddr>, until: Instant) -> Vec<IpAddr> {
        let mut remembered = self.remembered.lock().unwrap_or_else(PoisonError::into_inner);
        if remembered.len() >= REMEMBERED {
            let now = Instant::now();
            remembered.retain(|_, (_, until)| *until > now);
        }
        if remembered.len() < REMEMBERED {
            remembered.insert((name.clone(), kind), (found.clone(), until));
        }
        found
    }
}

/// Returns IPv6 and IPv4 addresses in turn (RFC 8305, section 4).
fn in_turn(one: Vec<IpAddr>, other: Vec<IpAddr>) -> Vec<IpAddr> {
    let (six, four): (Vec<_>, Vec<_>) = one.into_iter().chain(other).partition(IpAddr::is_ipv6);
    let (mut six, mut four) = (six.into_iter(), four.into_iter());
    let mut all = Vec::new();
    loop {
        let next: Vec<_> = six.next().into_iter().chain(four.next()).collect();
        if next.is_empty() {
            return all;
        }
        all.extend(next);
    }
}

fn addresses(found: &Lookup) -> Vec<IpAddr> {
    found.answers().iter().filter_map(|record| record.data.ip_addr()).collect()
}

/// Returns how long the server allows its "no such name" to be remembered: zero if it does not say (RFC 2308, section
/// 5).
fn negative_ttl(error: &NetError) -> Duration {
    match error {
        NetError::Dns(DnsError::NoRecordsFound(none)) => {
            Duration::from_secs(none.negative_ttl.unwrap_or_default().into())
        }
        _ => NONE_REMEMBERED,
    }
}

fn unanswered(error: &NetError) -> Unanswered {
    if error.is_no_records_found() || error.is_nx_domain() {
        return Unanswered::Negative;
    }
    Unanswered::Failed(match error {
        // hickory reports the same if no socket is available.
        NetError::NoConnections if lacks_sockets() => Fault::Local,
        NetError::Dns(DnsError::ResponseCode(_)) => Fault::Dns(DnsFault::ServerFailure),
        _ => Fault::Dns(DnsFault::NoAnswer),
    })
}

/// Returns whether this machine has no file descriptor or port for a socket.
fn lacks_sockets() -> bool {
    std::net::UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).is_err_and(|error| fault::is_ours(&error))
}

/// Returns the address in the host of a URL, if it is one. The URL parser has already converted every notation
/// (decimal, octal, hexadecimal, short) to this one.
pub(super) fn literal(host: &str) -> Option<IpAddr> {
    host.trim_start_matches('[').trim_end_matches(']').parse().ok()
}

fn server(address: &SocketAddr) -> NameServerConfig {
    let on_port = |mut connection: ConnectionConfig| {
        connection.port = address.port();
        connection
    };
    let connections = vec![on_port(ConnectionConfig::udp()), on_port(ConnectionConfig::tcp())];
    NameServerConfig::new(address.ip(), true, connections)
}

#[cfg(test)]
mod tests;
