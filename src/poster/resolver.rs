//! From a name to addresses that may be dialled.
//!
//! Three rules make names safe to depend on:
//! - The hosts file goes first. A host with a dot is an absolute name: a search list has sent leads to the wrong host. A single
//!   label uses the search list only if `egress.allow` names it.
//! - Name servers are asked in their order. The next one is asked after 300 ms of silence or a failure; its "no such name" counts
//!   only when all servers before it have failed.
//! - A and AAAA are asked at once (RFC 8305, section 3). The first answer is used, 50 ms later at the most.
//!
//! `getaddrinfo` is not used: it cannot be given up, and a slow name server would hold a thread for each webhook. Other sources of
//! the C library (NSS) are not asked.

use std::{
    collections::HashMap,
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use futures::{FutureExt, StreamExt, stream::FuturesUnordered};
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
    delivery::outcome::{DnsFault, Fault},
    egress::Guard,
};

/// For each question to one server. The attempt's own deadline comes first where it is shorter.
const PATIENCE: Duration = Duration::from_secs(5);

/// After so much silence the next server is asked as well.
const NEXT_SERVER: Duration = Duration::from_millis(300);

/// How long the answer of one family waits for the other one (RFC 8305, section 3, which names 50 ms).
const OTHER_FAMILY: Duration = Duration::from_millis(50);

/// Answers remembered, for as long as they say.
const REMEMBERED: usize = 4096;

/// Most addresses of one name that are looked at. Real services have a dozen.
const MOST: usize = 64;

/// Why one question has no answer.
#[derive(Clone, Copy)]
enum Unanswered {
    /// The server says that there are no such addresses.
    Negative,
    /// The server cannot tell.
    Failed(Fault),
}

/// Asks name servers. Cheap to clone; clones share what they remember.
#[derive(Clone)]
pub(super) struct Resolver(Arc<Inner>);

struct Inner {
    hosts: Hosts,
    servers: Vec<TokioResolver>,
    search: Vec<Name>,
    remembered: Mutex<HashMap<(Name, RecordType), Lookup>>,
}

impl Resolver {
    /// Asks `servers`, or those of the system where there are none.
    ///
    /// # Errors
    /// When the system's `resolv.conf` or hosts file cannot be read.
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

    /// The addresses of `host`, a name or an address as it stands in a URL, that may be called. At least one.
    ///
    /// # Errors
    /// A literal address that may not be called is [`Fault::ForbiddenAddress`]; a name without any other address is
    /// [`Fault::ForbiddenName`]. A name without addresses is [`Fault::Dns`].
    pub(super) async fn addresses(&self, host: &str, guard: &Guard) -> Result<Vec<IpAddr>, Fault> {
        if let Some(address) = literal(host) {
            return guard.judge(host, address).map(|()| vec![address]).map_err(Fault::ForbiddenAddress);
        }
        let (mut allowed, mut refused) = (Vec::new(), None);
        for address in self.0.lookup(host, guard).await?.into_iter().take(MOST) {
            match guard.judge(host, address) {
                Ok(()) => allowed.push(address),
                Err(refusal) => refused = refused.or(Some(refusal)),
            }
        }
        match (allowed.is_empty(), refused) {
            (false, _) => Ok(allowed),
            (true, Some(refusal)) => Err(Fault::ForbiddenName(refusal)),
            (true, None) => Err(Fault::Dns(DnsFault::NoSuchName)),
        }
    }
}

impl Inner {
    /// All addresses of a name, those of IPv6 and IPv4 in turn.
    async fn lookup(&self, host: &str, guard: &Guard) -> Result<Vec<IpAddr>, Fault> {
        let name = Name::from_ascii(host).map_err(|_| Fault::Dns(DnsFault::NoSuchName))?;
        let known = self.in_hosts_file(&name);
        if !known.is_empty() {
            return Ok(known);
        }
        let mut problem = Fault::Dns(DnsFault::NoSuchName);
        for name in self.candidates(name, host, guard) {
            match self.both_families(&name).await {
                Ok(addresses) => return Ok(addresses),
                Err(fault) => problem = fault,
            }
        }
        Err(problem)
    }

    fn in_hosts_file(&self, name: &Name) -> Vec<IpAddr> {
        let of = |kind| self.hosts.lookup_static_host(&Query::query(name.clone(), kind));
        [RecordType::A, RecordType::AAAA].into_iter().filter_map(of).flat_map(|found| addresses(&found)).collect()
    }

    /// The absolute names that `host` may stand for, in the order in which they are asked for.
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

    /// Asks for both families at once, and waits for the second answer no longer than [`OTHER_FAMILY`].
    async fn both_families(&self, name: &Name) -> Result<Vec<IpAddr>, Fault> {
        let (v6, v4) = (self.ask(name, RecordType::AAAA), self.ask(name, RecordType::A));
        let (mut v6, mut v4) = (std::pin::pin!(v6.fuse()), std::pin::pin!(v4.fuse()));
        let (first, second) = futures::select_biased! {
            first = v6 => {
                // Addresses of IPv6 are tried first anyhow, so theirs wait for nothing but a moment as well.
                let second = or_soon(&first, v4).await;
                (first, second)
            }
            first = v4 => {
                let second = or_soon(&first, v6).await;
                (second.unwrap_or(Err(Unanswered::Negative)), Some(first))
            }
        };
        let second = second.unwrap_or(Err(Unanswered::Negative));
        match (first, second) {
            (Ok(six), Ok(four)) => Ok(in_turn(six, four)),
            (Ok(one), Err(_)) | (Err(_), Ok(one)) => Ok(one),
            (Err(Unanswered::Failed(fault)), _) | (_, Err(Unanswered::Failed(fault))) => Err(fault),
            (Err(Unanswered::Negative), Err(Unanswered::Negative)) => Err(Fault::Dns(DnsFault::NoSuchName)),
        }
    }

    /// One question, to one server after the other.
    async fn ask(&self, name: &Name, kind: RecordType) -> Result<Vec<IpAddr>, Unanswered> {
        if let Some(found) = self.remembered(name, kind) {
            return Ok(found);
        }
        let mut verdicts: Vec<Option<Unanswered>> = Vec::new();
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
                Ok(found) if !addresses(&found).is_empty() => return Ok(self.remember(name, kind, found)),
                Ok(_) => Unanswered::Negative,
                Err(error) => unanswered(&error),
            });
            // All that counts is the first server that has not failed.
            let first = verdicts.iter().find(|verdict| !matches!(verdict, Some(Unanswered::Failed(_))));
            if let Some(Some(negative)) = first {
                return Err(*negative);
            }
        }
        Err(verdicts.into_iter().flatten().next().unwrap_or(Unanswered::Failed(Fault::Dns(DnsFault::NoAnswer))))
    }

    fn remembered(&self, name: &Name, kind: RecordType) -> Option<Vec<IpAddr>> {
        let remembered = self.remembered.lock().unwrap_or_else(PoisonError::into_inner);
        remembered.get(&(name.clone(), kind)).filter(|found| found.valid_until() > Instant::now()).map(addresses)
    }

    fn remember(&self, name: &Name, kind: RecordType, found: Lookup) -> Vec<IpAddr> {
        let addresses = addresses(&found);
        let mut remembered = self.remembered.lock().unwrap_or_else(PoisonError::into_inner);
        if remembered.len() >= REMEMBERED {
            let now = Instant::now();
            remembered.retain(|_, found| found.valid_until() > now);
        }
        if remembered.len() < REMEMBERED {
            remembered.insert((name.clone(), kind), found);
        }
        addresses
    }
}

/// The answer of the other family: at once needed where the first one has no address, and worth a moment where it has.
async fn or_soon<T>(first: &Result<Vec<IpAddr>, Unanswered>, other: impl Future<Output = T>) -> Option<T> {
    match first {
        Ok(_) => tokio::time::timeout(OTHER_FAMILY, other).await.ok(),
        Err(_) => Some(other.await),
    }
}

fn in_turn(six: Vec<IpAddr>, four: Vec<IpAddr>) -> Vec<IpAddr> {
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

fn unanswered(error: &NetError) -> Unanswered {
    if error.is_no_records_found() || error.is_nx_domain() {
        return Unanswered::Negative;
    }
    Unanswered::Failed(match error {
        NetError::Io(error) if fault::is_ours(error) => Fault::Local,
        NetError::Dns(DnsError::ResponseCode(_)) => Fault::Dns(DnsFault::ServerFailure),
        _ => Fault::Dns(DnsFault::NoAnswer),
    })
}

/// The address that the host of a URL is, if it is one. The parser of URLs has brought every notation (decimal, octal,
/// hexadecimal, short) to this one.
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
