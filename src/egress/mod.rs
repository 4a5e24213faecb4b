//! Which addresses webhooks may reach. Tenants write the URLs, and the worker runs inside the operator's network. So it
//! calls only public unicast addresses, unless the operator allows others.
//!
//! Each address is judged right before [`crate::sender`] dials it. The text of a URL alone never allows a call.

mod rule;
mod special;

use std::{collections::BTreeSet, fmt, net::IpAddr};

use url::{Host, Url};

pub use self::{
    rule::Rule,
    special::{Special, special},
};

/// Why an address may not be called.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub enum Refusal {
    /// `egress.deny` names its network or host.
    Denied,
    /// The address is not public, and `egress.allow` does not name it.
    Special(Special),
}

impl Refusal {
    /// Describes the refusal for people. Shows no address, because not every reader of a failed job may know internal
    /// addresses.
    pub fn name(self) -> &'static str {
        match self {
            Refusal::Denied => "an address that egress.deny names",
            Refusal::Special(special) => special.name(),
        }
    }
}

/// The rules for one organization, or for all organizations without rules of their own.
#[derive(Clone, Debug, Default)]
pub struct Guard {
    allow: Vec<Rule>,
    deny: Vec<Rule>,
}

impl Guard {
    /// Combines the rules for all organizations with those for `organization`.
    pub fn new(allow: &[Rule], deny: &[Rule], organization: Option<&str>) -> Guard {
        let holds = |rule: &&Rule| rule.organization.is_none() || rule.organization.as_deref() == organization;
        let of = |rules: &[Rule]| rules.iter().filter(holds).cloned().collect();
        Guard { allow: of(allow), deny: of(deny) }
    }

    /// Checks whether `egress.deny` names the host. If the proxy resolves names, nothing else can be checked.
    ///
    /// # Errors
    /// Returns [`Refusal::Denied`] if so.
    pub fn judge_name(&self, host: &str) -> Result<(), Refusal> {
        if self.deny.iter().any(|rule| rule.names_host(host)) { Err(Refusal::Denied) } else { Ok(()) }
    }

    /// Returns whether `egress.allow` names the host itself.
    pub fn allows_name(&self, host: &str) -> bool {
        self.allow.iter().any(|rule| rule.names_host(host))
    }

    /// Checks whether `address` may be called. `host` is the host of the URL that led to it, or the address itself.
    ///
    /// # Errors
    /// Returns why not. A denial takes precedence over everything. An address that is not public needs a rule that
    /// names its network. A rule for the host's name is enough for internal addresses ([`Special::is_inside`]).
    pub fn judge(&self, host: &str, address: IpAddr) -> Result<(), Refusal> {
        // An address with the well-known prefix of NAT64 (RFC 6052) leads to the IPv4 address in it.
        if let Some(translated) = special::translated(address) {
            self.judge(host, translated)?;
        }
        let plain = address.to_canonical();
        let hit = |rule: &Rule| rule.holds_address(address) || rule.holds_address(plain) || rule.names_host(host);
        if self.deny.iter().any(hit) {
            return Err(Refusal::Denied);
        }
        let Some(special) = special(address) else { return Ok(()) };
        let allowed =
            self.allow.iter().any(|rule| rule.holds_address(address) || (special.is_inside() && rule.names_host(host)));
        if allowed { Ok(()) } else { Err(Refusal::Special(special)) }
    }
}

/// Checks a URL of an organization, whose guard `guard` makes, before any name is resolved. Objects to `http://` without
/// `plain_http`, and to an address that may not be called. The words are for the store's author, and show nothing of the URL.
pub fn objection(plain_http: bool, guard: impl FnOnce() -> Guard, url: &Url) -> Option<Objection> {
    if url.scheme() == "http" && !plain_http {
        let what = "begins with http://, and egress.plain_http is off".to_owned();
        return Some(Objection { what, reason: "plain_http", remedy: "" });
    }
    let address = match url.host()? {
        Host::Ipv4(address) => IpAddr::V4(address),
        Host::Ipv6(address) => IpAddr::V6(address),
        Host::Domain(_) => return None,
    };
    let refusal = guard().judge(url.host_str()?, address).err()?;
    let remedy = match refusal {
        Refusal::Denied => "",
        Refusal::Special(_) => "; egress.allow could name it",
    };
    Some(Objection { what: format!("leads to {}", refusal.name()), reason: "forbidden_address", remedy })
}

/// Why the rules forbid a URL, and the reason with which its jobs will fail.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Objection {
    /// The fault of the URL: `leads to a private address`.
    pub what: String,
    /// A reason of docs/reference/reasons.md.
    pub reason: &'static str,
    /// How to fix it; may be empty.
    pub remedy: &'static str,
}

/// Shows `leads to a private address: its jobs will fail as forbidden_address; egress.allow could name it`.
impl fmt::Display for Objection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: its jobs will fail as {}{}", self.what, self.reason, self.remedy)
    }
}

/// Returns the organizations that have rules of their own.
pub fn organizations<'r>(rules: impl IntoIterator<Item = &'r Rule>) -> BTreeSet<&'r str> {
    rules.into_iter().filter_map(|rule| rule.organization.as_deref()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(texts: &[&str]) -> Vec<Rule> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    fn judge(guard: &Guard, host: &str, address: &str) -> Result<(), Refusal> {
        guard.judge(host, address.parse().unwrap())
    }

    #[test]
    fn public_addresses_may_be_called_and_others_may_not() {
        let guard = Guard::default();
        assert_eq!(judge(&guard, "a.example", "93.184.216.34"), Ok(()));
        assert_eq!(judge(&guard, "a.example", "10.0.0.1"), Err(Refusal::Special(Special::Private)));
    }

    #[test]
    fn a_network_that_is_named_may_be_called_but_not_in_disguise() {
        let guard = Guard::new(&rules(&["10.8.0.0/16"]), &[], None);
        assert_eq!(judge(&guard, "a.example", "10.8.1.1"), Ok(()));
        assert!(judge(&guard, "a.example", "10.9.1.1").is_err());
        assert_eq!(judge(&guard, "a.example", "::ffff:10.8.1.1"), Err(Refusal::Special(Special::Embedded)));
    }

    #[test]
    fn what_lies_behind_an_allowed_nat64_is_judged_as_well() {
        let guard = Guard::new(&rules(&["64:ff9b::/96"]), &rules(&["93.184.216.0/24"]), None);
        assert_eq!(judge(&guard, "a.example", "64:ff9b::8.8.8.8"), Ok(()));
        assert_eq!(judge(&guard, "a.example", "64:ff9b::169.254.169.254"), Err(Refusal::Special(Special::LinkLocal)));
        assert_eq!(judge(&guard, "a.example", "64:ff9b::93.184.216.34"), Err(Refusal::Denied));
        assert_eq!(judge(&Guard::default(), "a.example", "64:ff9b::8.8.8.8"), Err(Refusal::Special(Special::Embedded)));
    }

    #[test]
    fn a_host_that_is_named_may_lie_inside_but_not_at_the_metadata_service() {
        let guard = Guard::new(&rules(&["crm.internal"]), &[], None);
        assert_eq!(judge(&guard, "crm.internal", "10.0.0.1"), Ok(()));
        assert_eq!(judge(&guard, "crm.internal", "169.254.169.254"), Err(Refusal::Special(Special::LinkLocal)));
        for platform in ["fd00:ec2::254", "fd20:ce::254", "100.100.100.200", "168.63.129.16"] {
            let refusal = judge(&guard, "crm.internal", platform);
            assert_eq!(refusal, Err(Refusal::Special(Special::Platform)), "{platform}");
        }
        assert!(judge(&guard, "other.internal", "10.0.0.1").is_err());
    }

    #[test]
    fn a_denial_goes_before_everything() {
        let guard = Guard::new(&rules(&["10.0.0.0/8"]), &rules(&["10.8.0.0/16", "8.8.8.8", "*.evil.example"]), None);
        assert_eq!(judge(&guard, "a.example", "10.9.0.1"), Ok(()));
        for (host, address) in
            [("a", "10.8.0.1"), ("a", "8.8.8.8"), ("b.evil.example", "1.1.1.1"), ("a", "::ffff:8.8.8.8")]
        {
            assert_eq!(judge(&guard, host, address), Err(Refusal::Denied), "{host} {address}");
        }
        assert_eq!(guard.judge_name("b.evil.example."), Err(Refusal::Denied));
        assert_eq!(guard.judge_name("evil.example"), Ok(()));
    }

    #[test]
    fn what_can_be_seen_of_a_url_is_said_beforehand() {
        let said = |plain_http, allow: &[&str], url: &str| {
            let guard = Guard::new(&rules(allow), &[], Some("acme"));
            objection(plain_http, || guard, &url.parse().unwrap()).map(|it| it.to_string())
        };
        assert!(said(false, &[], "http://a.example").unwrap().contains("plain_http"));
        assert_eq!(said(true, &[], "http://a.example"), None);
        assert!(said(false, &[], "https://0x7f.1/").unwrap().contains("a loopback address"));
        assert_eq!(said(false, &["127.0.0.1 for acme"], "https://127.1/"), None);
        assert!(said(false, &["127.0.0.1 for globex"], "https://[::ffff:127.0.0.1]/").is_some());
    }

    #[test]
    fn rules_for_an_organization_hold_for_it_alone() {
        let (allow, deny) = (rules(&["10.8.0.0/16 for acme"]), rules(&["8.8.8.8 for globex"]));
        let of = |organization| Guard::new(&allow, &deny, organization);
        assert_eq!(judge(&of(Some("acme")), "a", "10.8.0.1"), Ok(()));
        assert!(judge(&of(Some("globex")), "a", "10.8.0.1").is_err() && judge(&of(None), "a", "10.8.0.1").is_err());
        assert!(
            judge(&of(Some("globex")), "a", "8.8.8.8").is_err() && judge(&of(Some("acme")), "a", "8.8.8.8").is_ok()
        );
        assert_eq!(organizations(allow.iter().chain(&deny)).into_iter().collect::<Vec<_>>(), ["acme", "globex"]);
    }
}
