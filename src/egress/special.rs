//! Recognizes addresses that are not public, and says what they are.
//!
//! The tables contain every entry of IANA's IPv4 and IPv6 Special-Purpose Address Registries (as of 2025-10). This
//! includes entries that the registries call globally reachable, because no webhook needs relays, anycast name servers
//! or protocol assignments. The tables also contain:
//!
//! - multicast addresses (RFC 5771, RFC 4291)
//! - site-local addresses (RFC 3879)
//! - platform addresses of clouds that look public
//!
//! In IPv6 only 2000::/3 is public, because IANA has assigned nothing else as global unicast.
//!
//! No existing crate is both maintained and complete: they stop at RFC 6890 of 2013, or leave out ranges that embed an
//! IPv4 address.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{Ipv4Net, Ipv6Net};

/// The kinds of addresses that are not public.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub enum Special {
    /// "This host", 0.0.0.0/8 and ::
    Unspecified,
    /// The machine itself.
    Loopback,
    /// RFC 1918.
    Private,
    /// Unique-local, fc00::/7, and the site-local addresses before them.
    UniqueLocal,
    /// Shared address space of carriers, 100.64.0.0/10. Clouds use it for their own services as well.
    Shared,
    /// Link-local, where the metadata services of clouds are.
    LinkLocal,
    /// Addresses of a cloud's platform that look public or internal.
    Platform,
    /// Multicast and broadcast.
    Multicast,
    /// For examples in documents.
    Documentation,
    /// For benchmarks of network devices.
    Benchmarking,
    /// IPv4 addresses written in or translated from IPv6: mapped, compatible, NAT64, 6to4, Teredo.
    Embedded,
    /// Assigned to protocols, relays and name servers.
    Protocol,
    /// Not assigned, discarded, or reserved.
    Reserved,
}

impl Special {
    /// Describes the kind for people: "a loopback address".
    pub fn name(self) -> &'static str {
        match self {
            Special::Unspecified => "an unspecified address",
            Special::Loopback => "a loopback address",
            Special::Private => "a private address",
            Special::UniqueLocal => "a unique-local address",
            Special::Shared => "an address of shared address space",
            Special::LinkLocal => "a link-local address",
            Special::Platform => "an address of a cloud's platform",
            Special::Multicast => "a multicast or broadcast address",
            Special::Documentation => "a documentation address",
            Special::Benchmarking => "a benchmarking address",
            Special::Embedded => "an IPv6 address that embeds an IPv4 address",
            Special::Protocol => "an address assigned to a protocol",
            Special::Reserved => "a reserved address",
        }
    }

    /// Returns whether machines of a company's own network have such addresses. Only these can be allowed by the name
    /// of a host. Otherwise the owner of the name could point it at the metadata service of a cloud.
    pub fn is_inside(self) -> bool {
        match self {
            Special::Loopback | Special::Private | Special::UniqueLocal | Special::Shared => true,
            Special::Unspecified
            | Special::LinkLocal
            | Special::Platform
            | Special::Multicast
            | Special::Documentation
            | Special::Benchmarking
            | Special::Embedded
            | Special::Protocol
            | Special::Reserved => false,
        }
    }
}

/// Returns the kind of the address, or `None` for a public unicast one.
pub fn special(address: IpAddr) -> Option<Special> {
    match address {
        IpAddr::V4(address) => special_v4(address),
        IpAddr::V6(address) => special_v6(address),
    }
}

/// Returns the IPv4 address to which NAT64 translates an address with the well-known prefix (RFC 6052, section 2.1).
pub(super) fn translated(address: IpAddr) -> Option<IpAddr> {
    match address {
        IpAddr::V6(address) if NAT64.contains(&address) => {
            let [.., a, b, c, d] = address.octets();
            Some(IpAddr::V4(Ipv4Addr::new(a, b, c, d)))
        }
        _ => None,
    }
}

const NAT64: Ipv6Net = v6([0x64, 0xff9b, 0, 0, 0, 0, 0, 0], 96);

/// The first range that contains the address decides, so narrow ranges come before wide ones.
const V4: &[(Ipv4Net, Special)] = &[
    (v4(0, 0, 0, 0, 8), Special::Unspecified),
    (v4(10, 0, 0, 0, 8), Special::Private),
    // The metadata services of Alibaba Cloud.
    (v4(100, 100, 100, 0, 24), Special::Platform),
    (v4(100, 64, 0, 0, 10), Special::Shared),
    (v4(127, 0, 0, 0, 8), Special::Loopback),
    // Azure's "wire server", a public address that belongs to the platform.
    (v4(168, 63, 129, 16, 32), Special::Platform),
    (v4(169, 254, 0, 0, 16), Special::LinkLocal),
    (v4(172, 16, 0, 0, 12), Special::Private),
    (v4(192, 0, 2, 0, 24), Special::Documentation),
    (v4(192, 0, 0, 0, 24), Special::Protocol),
    (v4(192, 31, 196, 0, 24), Special::Protocol),
    (v4(192, 52, 193, 0, 24), Special::Protocol),
    (v4(192, 88, 99, 0, 24), Special::Protocol),
    (v4(192, 168, 0, 0, 16), Special::Private),
    (v4(192, 175, 48, 0, 24), Special::Protocol),
    (v4(198, 18, 0, 0, 15), Special::Benchmarking),
    (v4(198, 51, 100, 0, 24), Special::Documentation),
    (v4(203, 0, 113, 0, 24), Special::Documentation),
    (v4(224, 0, 0, 0, 4), Special::Multicast),
    (v4(255, 255, 255, 255, 32), Special::Multicast),
    (v4(240, 0, 0, 0, 4), Special::Reserved),
];

const V6: &[(Ipv6Net, Special)] = &[
    (v6([0, 0, 0, 0, 0, 0, 0, 0], 128), Special::Unspecified),
    (v6([0, 0, 0, 0, 0, 0, 0, 1], 128), Special::Loopback),
    // Mapped, compatible, and translated (RFC 2765) addresses.
    (v6([0, 0, 0, 0, 0, 0xffff, 0, 0], 96), Special::Embedded),
    (v6([0, 0, 0, 0, 0, 0, 0, 0], 96), Special::Embedded),
    (v6([0, 0, 0, 0, 0xffff, 0, 0, 0], 96), Special::Embedded),
    // NAT64, well-known and local-use prefixes.
    (NAT64, Special::Embedded),
    (v6([0x64, 0xff9b, 1, 0, 0, 0, 0, 0], 48), Special::Embedded),
    // Teredo and 6to4.
    (v6([0x2001, 0, 0, 0, 0, 0, 0, 0], 32), Special::Embedded),
    (v6([0x2002, 0, 0, 0, 0, 0, 0, 0], 16), Special::Embedded),
    (v6([0x2001, 2, 0, 0, 0, 0, 0, 0], 48), Special::Benchmarking),
    (v6([0x2001, 0, 0, 0, 0, 0, 0, 0], 23), Special::Protocol),
    (v6([0x2001, 0xdb8, 0, 0, 0, 0, 0, 0], 32), Special::Documentation),
    (v6([0x3fff, 0, 0, 0, 0, 0, 0, 0], 20), Special::Documentation),
    (v6([0x2620, 0x4f, 0x8000, 0, 0, 0, 0, 0], 48), Special::Protocol),
    // Segment routing.
    (v6([0x5f00, 0, 0, 0, 0, 0, 0, 0], 16), Special::Protocol),
    // Time, names and metadata of AWS, and the metadata of Google Cloud.
    (v6([0xfd00, 0xec2, 0, 0, 0, 0, 0, 0], 64), Special::Platform),
    (v6([0xfd20, 0xce, 0, 0, 0, 0, 0, 0], 64), Special::Platform),
    (v6([0xfc00, 0, 0, 0, 0, 0, 0, 0], 7), Special::UniqueLocal),
    (v6([0xfec0, 0, 0, 0, 0, 0, 0, 0], 10), Special::UniqueLocal),
    (v6([0xfe80, 0, 0, 0, 0, 0, 0, 0], 10), Special::LinkLocal),
    (v6([0xff00, 0, 0, 0, 0, 0, 0, 0], 8), Special::Multicast),
];

/// The global unicast addresses that IANA has assigned.
const GLOBAL: Ipv6Net = v6([0x2000, 0, 0, 0, 0, 0, 0, 0], 3);

const fn v4(a: u8, b: u8, c: u8, d: u8, bits: u8) -> Ipv4Net {
    Ipv4Net::new_assert(Ipv4Addr::new(a, b, c, d), bits)
}

const fn v6(groups: [u16; 8], bits: u8) -> Ipv6Net {
    let [a, b, c, d, e, f, g, h] = groups;
    Ipv6Net::new_assert(Ipv6Addr::new(a, b, c, d, e, f, g, h), bits)
}

fn special_v4(address: Ipv4Addr) -> Option<Special> {
    V4.iter().find(|(range, _)| range.contains(&address)).map(|(_, special)| *special)
}

/// Returns whether this is an ISATAP address (RFC 5214): its last 64 bits are `0000:5efe` or `0200:5efe` and an IPv4
/// address. A machine with such an interface would send to that IPv4 address, whatever the prefix.
fn is_isatap(address: Ipv6Addr) -> bool {
    let groups = address.segments();
    groups[4] & !0x0200 == 0 && groups[5] == 0x5efe
}

fn special_v6(address: Ipv6Addr) -> Option<Special> {
    let listed = V6.iter().find(|(range, _)| range.contains(&address)).map(|(_, special)| *special);
    listed
        .or_else(|| is_isatap(address).then_some(Special::Embedded))
        .or_else(|| (!GLOBAL.contains(&address)).then_some(Special::Reserved))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Checks the first and the last address of each range.
    #[test]
    fn every_range_holds_from_its_first_to_its_last_address() {
        for (range, expected) in V4 {
            for address in [range.network(), range.broadcast()] {
                let found = special_v4(address);
                let narrower =
                    V4.iter().any(|(other, _)| other != range && range.contains(other) && other.contains(&address));
                assert!(narrower || found == Some(*expected), "{address} of {range}: {found:?}");
                assert!(found.is_some(), "{address}");
            }
        }
        for (range, expected) in V6 {
            for address in [range.network(), range.broadcast()] {
                let found = special_v6(address);
                let narrower =
                    V6.iter().any(|(other, _)| other != range && range.contains(other) && other.contains(&address));
                assert!(narrower || found == Some(*expected), "{address} of {range}: {found:?}");
                assert!(found.is_some(), "{address}");
            }
        }
    }

    #[test]
    fn what_lies_right_beside_a_range_is_public() {
        for public in [
            "1.0.0.0",
            "9.255.255.255",
            "11.0.0.0",
            "100.63.255.255",
            "100.128.0.0",
            "126.255.255.255",
            "128.0.0.0",
            "168.63.129.15",
            "168.63.129.17",
            "169.253.255.255",
            "169.255.0.0",
            "172.15.255.255",
            "172.32.0.0",
            "191.255.255.255",
            "192.0.1.0",
            "192.0.3.0",
            "192.31.195.255",
            "192.31.197.0",
            "192.52.194.0",
            "192.88.98.255",
            "192.88.100.0",
            "192.167.255.255",
            "192.169.0.0",
            "192.175.47.255",
            "192.175.49.0",
            "198.17.255.255",
            "198.20.0.0",
            "198.51.99.255",
            "198.51.101.0",
            "203.0.112.255",
            "203.0.114.0",
            "223.255.255.255",
            "8.8.8.8",
            "2000::",
            "2000:ffff::1",
            "2001:200::",
            "2001:db7:ffff::",
            "2001:db9::",
            "2003::",
            "2620:4f:7fff::",
            "2620:4f:8001::",
            "2606:4700::1111",
            "3ffe:ffff::",
            "3fff:1000::",
        ] {
            assert_eq!(special(public.parse().unwrap()), None, "{public}");
        }
    }

    #[test]
    fn addresses_in_disguise_are_known() {
        for (address, expected) in [
            ("::ffff:127.0.0.1", Special::Embedded),
            ("::ffff:8.8.8.8", Special::Embedded),
            ("::127.0.0.1", Special::Embedded),
            ("::ffff:0:7f00:1", Special::Embedded),
            ("64:ff9b::a9fe:a9fe", Special::Embedded),
            ("64:ff9b:1::a00:1", Special::Embedded),
            ("2002:7f00:1::", Special::Embedded),
            ("2001:0:4136:e378:8000:63bf:3fff:fdd2", Special::Embedded),
            ("2a00:1450::5efe:7f00:1", Special::Embedded),
            ("2a00:1450::200:5efe:7f00:1", Special::Embedded),
            ("169.254.169.254", Special::LinkLocal),
            ("100.100.100.200", Special::Platform),
            ("168.63.129.16", Special::Platform),
            ("192.0.0.192", Special::Protocol),
            ("fd00:ec2::254", Special::Platform),
            ("fec0::1", Special::UniqueLocal),
            ("100::1", Special::Reserved),
            ("4000::1", Special::Reserved),
            ("e000::1", Special::Reserved),
            ("255.255.255.255", Special::Multicast),
            ("ff02::1", Special::Multicast),
        ] {
            assert_eq!(special(address.parse().unwrap()), Some(expected), "{address}");
        }
    }
}
