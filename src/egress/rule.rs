//! One entry of `egress.allow` or `egress.deny`: a network or a host, for all organizations or for one.

use std::{fmt, net::IpAddr, str::FromStr};

use ipnet::IpNet;

/// `10.8.0.0/16`, `10.8.1.2`, `hooks.internal.example` or `*.internal.example`, followed by ` for acme` if it applies
/// to one organization only.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    pub(super) what: What,
    /// The organization to which it applies; `None` for all.
    pub organization: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum What {
    Network(IpNet),
    /// In the form of a parsed URL: lower case, punycode, without a dot at the end.
    Host(String),
    /// Every name below this one, but not this one.
    Below(String),
}

impl Rule {
    /// Returns whether the address is in the network that this rule names.
    pub(super) fn holds_address(&self, address: IpAddr) -> bool {
        matches!(&self.what, What::Network(network) if network.contains(&address))
    }

    /// Returns whether this rule names the host. `host` is that of a parsed URL.
    pub(super) fn names_host(&self, host: &str) -> bool {
        let host = host.trim_end_matches('.');
        match &self.what {
            What::Network(_) => false,
            What::Host(name) => host.eq_ignore_ascii_case(name),
            What::Below(name) => {
                host.len() > name.len() + 1
                    && host.is_char_boundary(host.len() - name.len())
                    && host[host.len() - name.len()..].eq_ignore_ascii_case(name)
                    && host.as_bytes()[host.len() - name.len() - 1] == b'.'
            }
        }
    }
}

impl FromStr for Rule {
    type Err = String;

    fn from_str(text: &str) -> Result<Rule, String> {
        let (what, organization) = match text.trim().split_once(" for ") {
            None => (text.trim(), None),
            Some((what, organization)) => (what.trim(), Some(organization.trim().to_owned())),
        };
        if organization.as_deref().is_some_and(|id| !crate::store::is_id(id)) {
            return Err(format!("{text:?} names no organization behind \"for\""));
        }
        Ok(Rule { what: what_of(what).ok_or_else(|| wrong(text))?, organization })
    }
}

fn wrong(text: &str) -> String {
    format!(
        "{text:?} is neither a network nor a host: write 10.8.0.0/16, 10.8.1.2, hooks.example.com or *.example.com, and \
         \" for ORGANIZATION\" behind it if it is for one only"
    )
}

fn what_of(text: &str) -> Option<What> {
    if let Ok(address) = text.parse::<IpAddr>() {
        return Some(What::Network(address.into()));
    }
    if text.contains('/') {
        // 10.8.0.1/16 is a mistake: it may mean the address or the network.
        return text.parse::<IpNet>().ok().filter(|net| net.trunc() == *net).map(What::Network);
    }
    let (name, below) = text.strip_prefix("*.").map_or((text, false), |name| (name, true));
    let url::Host::Domain(name) = url::Host::parse(name.strip_suffix('.').unwrap_or(name)).ok()? else { return None };
    if name.is_empty() || name.contains('*') {
        return None;
    }
    Some(if below { What::Below(name) } else { What::Host(name) })
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.what {
            What::Network(network) if network.prefix_len() == network.max_prefix_len() => {
                write!(f, "{}", network.addr())
            }
            What::Network(network) => write!(f, "{network}"),
            What::Host(name) => f.write_str(name),
            What::Below(name) => write!(f, "*.{name}"),
        }?;
        match &self.organization {
            Some(organization) => write!(f, " for {organization}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(text: &str) -> Rule {
        text.parse().unwrap()
    }

    #[test]
    fn rules_are_shown_as_they_are_written() {
        for text in ["10.8.0.0/16", "10.8.1.2", "fd00::/8 for acme", "hooks.example.com", "*.example.com for a:b.c"] {
            assert_eq!(rule(text).to_string(), text);
        }
        assert_eq!(rule("Hooks.EXAMPLE.com.").to_string(), "hooks.example.com");
        assert_eq!(rule("bücher.example").to_string(), "xn--bcher-kva.example");
    }

    #[test]
    fn what_is_no_rule_is_told() {
        for text in [
            "",
            "10.8.0.1/16",
            "10.8/16",
            "10.8.0.0/33",
            "a b",
            "*",
            "*.",
            "a*.example",
            "http://a",
            "a for",
            "a for b c",
        ] {
            assert!(text.parse::<Rule>().is_err(), "{text}");
        }
    }

    #[test]
    fn names_hold_for_themselves_and_stars_for_what_is_below() {
        assert!(rule("a.example").names_host("A.example."));
        assert!(!rule("a.example").names_host("b.a.example"));
        assert!(rule("*.a.example").names_host("b.a.example") && rule("*.a.example").names_host("c.b.a.example."));
        for other in ["a.example", "xa.example", ".a.example", "b.a.example.evil.example", "ba.example"] {
            assert!(!rule("*.a.example").names_host(other), "{other}");
        }
        assert!(rule("10.8.0.0/16").holds_address("10.8.255.1".parse().unwrap()));
        assert!(!rule("10.8.0.0/16").holds_address("::ffff:10.8.0.1".parse().unwrap()));
        assert!(!rule("10.8.0.0/16").names_host("10.8.0.1"));
    }
}
