//! Limits wrong secrets for each address and each known name: ten tries at once, then one every six seconds.
//!
//! When an address has used up its tries, it is refused even with a correct secret. Otherwise the limit would have no
//! effect. Each name has its own count, so that one person cannot lock out others behind the same proxy.

use std::{
    collections::BTreeMap,
    net::IpAddr,
    time::{Duration, Instant},
};

/// The number of tries at once.
const TRIES: u32 = 10;

/// The time after which one more try is allowed.
const AGAIN: Duration = Duration::from_secs(6);

/// Most addresses and names that are remembered. All others share one count.
const MOST: usize = 10_000;

/// Recent sign-ins with wrong secrets.
#[derive(Debug, Default)]
pub struct Throttle {
    known: BTreeMap<(Option<IpAddr>, String), Tries>,
    /// When entries without an effect were last removed. That takes time, so it is not done at each try.
    swept: Option<Instant>,
}

#[derive(Debug)]
struct Tries {
    left: u32,
    since: Instant,
}

impl Throttle {
    /// Allows another try, or returns the time to wait.
    pub fn may_try(&mut self, address: IpAddr, name: &str, now: Instant) -> Result<(), Duration> {
        let own = (Some(network(address)), name.to_owned());
        let key = if self.known.contains_key(&own) || self.known.len() < MOST { own } else { (None, String::new()) };
        let Some(tries) = self.known.get_mut(&key) else { return Ok(()) };
        tries.refill(now);
        if tries.left > 0 { Ok(()) } else { Err(AGAIN.saturating_sub(now.duration_since(tries.since))) }
    }

    /// Records a wrong secret.
    pub fn failed(&mut self, address: IpAddr, name: &str, now: Instant) {
        let due = self.swept.is_none_or(|swept| now.duration_since(swept) >= AGAIN);
        if self.known.len() >= MOST && due {
            self.swept = Some(now);
            self.known.retain(|_, tries| {
                tries.refill(now);
                tries.left < TRIES
            });
        }
        let full = self.known.len() >= MOST;
        let key = if full { (None, String::new()) } else { (Some(network(address)), name.to_owned()) };
        let tries = self.known.entry(key).or_insert(Tries { left: TRIES, since: now });
        tries.refill(now);
        if tries.left == TRIES {
            tries.since = now;
        }
        tries.left = tries.left.saturating_sub(1);
    }
}

impl Tries {
    fn refill(&mut self, now: Instant) {
        let more = now.duration_since(self.since).as_secs() / AGAIN.as_secs();
        let more = u32::try_from(more).unwrap_or(u32::MAX).min(TRIES);
        self.left = (self.left + more).min(TRIES);
        self.since += AGAIN * more;
    }
}

/// Returns the network of an address: a client with one IPv6 address has the whole /64 network.
fn network(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(long) => match long.to_ipv4_mapped() {
            Some(short) => short.into(),
            None => std::net::Ipv6Addr::from_bits(long.to_bits() >> 64 << 64).into(),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ten_tries_then_one_in_six_seconds() {
        let (mut throttle, now) = (Throttle::default(), Instant::now());
        let address = "10.0.0.1".parse().unwrap();
        for _ in 0..10 {
            assert_eq!(throttle.may_try(address, "anna", now), Ok(()));
            throttle.failed(address, "anna", now);
        }
        assert_eq!(throttle.may_try(address, "anna", now), Err(AGAIN));
        assert_eq!(throttle.may_try(address, "ben", now), Ok(()), "others are not locked out");
        assert_eq!(throttle.may_try("10.0.0.2".parse().unwrap(), "anna", now), Ok(()));
        let later = now + Duration::from_secs(6);
        assert_eq!(throttle.may_try(address, "anna", later), Ok(()));
        throttle.failed(address, "anna", later);
        assert!(throttle.may_try(address, "anna", later).is_err());
        assert_eq!(throttle.may_try(address, "anna", later + Duration::from_secs(600)), Ok(()));
    }

    #[test]
    fn the_addresses_of_one_network_share_their_tries_and_memory_is_bounded() {
        let (mut throttle, now) = (Throttle::default(), Instant::now());
        for n in 0..10 {
            throttle.failed(format!("2001:db8::{n:x}").parse().unwrap(), "", now);
        }
        assert!(throttle.may_try("2001:db8::ffff".parse().unwrap(), "", now).is_err());
        assert!(throttle.may_try("2001:db8:0:1::1".parse().unwrap(), "", now).is_ok());
        for n in 0..20_000_u32 {
            throttle.failed(IpAddr::from(n.to_be_bytes()), "", now);
        }
        assert!(throttle.known.len() <= MOST + 1);
        let strange = "172.16.0.1".parse().unwrap();
        assert!(throttle.may_try(strange, "", now).is_err(), "too many are known, so all others share their tries");
    }
}
