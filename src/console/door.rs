//! Decides who may use the console, before any other part of a request is read.
//!
//! * **Host**: on loopback, only its own names and those of `console.hosts` are accepted. Otherwise a foreign page
//!   could point its own name at this machine, and read the console through a browser on it (DNS rebinding).
//! * **Credentials**: HTTP basic authentication or a bearer token. All digests are always compared, in constant time.
//! * **Role**: a request that changes something, or shows the data of a lead, is a POST and needs the role `act`.
//! * **Token**: a POST needs a token that only this process's pages for this person have. The POST must not come from
//!   another origin.

use aws_lc_rs::{constant_time, digest, hmac, rand};
use axum::{
    body::Body,
    http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header},
    response::Response,
};
use base64::{Engine, prelude::BASE64_STANDARD, prelude::BASE64_URL_SAFE_NO_PAD};

use crate::settings::{Console, Credential, Role, Rotating};

/// A person who may use the console.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Visitor {
    /// The name in logs.
    pub name: String,
    /// The allowed actions.
    pub role: Role,
}

/// Why a request is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refused {
    /// The request has no credentials.
    Missing,
    /// The credentials are wrong. Holds the name, or an empty text if no such name is known.
    Wrong(String),
}

/// Checks requests.
pub struct Door {
    credentials: Rotating<Vec<Credential>>,
    hosts: Vec<String>,
    loopback: bool,
    /// The key of this process, so tokens of an earlier process are invalid. `None` on a system without randomness;
    /// then every form is refused.
    key: Option<hmac::Key>,
}

impl Door {
    /// Creates the door with the hosts and credentials of the settings.
    pub fn new(settings: &Console) -> Door {
        let credentials = settings.credentials.clone();
        Door {
            credentials,
            hosts: settings.hosts.clone(),
            loopback: settings.listen.ip().is_loopback(),
            key: hmac::Key::generate(hmac::HMAC_SHA256, &rand::SystemRandom::new()).ok(),
        }
    }

    /// Returns whether a browser may use the host name of this request.
    pub fn knows_host(&self, headers: &HeaderMap) -> bool {
        let Some(host) = single(headers, &header::HOST).map(str::to_ascii_lowercase) else { return false };
        let bare = host.rsplit_once(':').filter(|(_, port)| port.bytes().all(|b| b.is_ascii_digit()));
        let bare = bare.map_or(host.as_str(), |(bare, _)| bare);
        let named = |known: &String| *known == host || *known == bare;
        let address = bare.trim_start_matches('[').trim_end_matches(']').parse::<std::net::IpAddr>();
        match self.loopback {
            true => {
                bare == "localhost"
                    || address.is_ok_and(|address| address.is_loopback())
                    || self.hosts.iter().any(named)
            }
            false => self.hosts.is_empty() || self.hosts.iter().any(named),
        }
    }

    /// Returns the name that a request claims, to count wrong secrets. It is empty if no such name is known.
    pub fn claims(&self, headers: &HeaderMap) -> String {
        let claimed = credentials(headers).and_then(|(name, _)| name).unwrap_or_default();
        if self.credentials.now().iter().any(|one| one.name == claimed) { claimed } else { String::new() }
    }

    /// Identifies the person behind a request.
    ///
    /// # Errors
    /// The credentials are missing or wrong.
    pub fn visitor(&self, headers: &HeaderMap) -> Result<Visitor, Refused> {
        let known = self.credentials.now();
        if known.is_empty() {
            return Ok(Visitor { name: "this machine".to_owned(), role: Role::Read });
        }
        if !headers.contains_key(header::AUTHORIZATION) {
            return Err(Refused::Missing);
        }
        let wrong = || Refused::Wrong(self.claims(headers));
        let (name, secret) = credentials(headers).ok_or_else(wrong)?;
        let digest = digest::digest(&digest::SHA256, secret.as_bytes());
        let mut found = None;
        for known in known.iter() {
            let same = constant_time::verify_slices_are_equal(digest.as_ref(), &known.digest).is_ok();
            if same && name.as_ref().is_none_or(|name| *name == known.name) {
                found = Some(Visitor { name: known.name.clone(), role: known.role });
            }
        }
        found.ok_or_else(wrong)
    }

    /// Returns the token for forms on this person's pages.
    pub fn token(&self, visitor: &Visitor) -> String {
        let tag = self.key.as_ref().map(|key| hmac::sign(key, visitor.name.as_bytes()));
        tag.map(|tag| BASE64_URL_SAFE_NO_PAD.encode(tag)).unwrap_or_default()
    }

    /// Returns whether a form came from one of this console's pages for this person.
    pub fn is_ours(&self, visitor: &Visitor, token: &str) -> bool {
        let token = BASE64_URL_SAFE_NO_PAD.decode(token).unwrap_or_default();
        self.key.as_ref().is_some_and(|key| hmac::verify(key, visitor.name.as_bytes(), &token).is_ok())
    }
}

/// Returns whether a browser says that the request came from a foreign page. Other programs say nothing about it.
pub fn is_foreign(headers: &HeaderMap) -> bool {
    let site = single(headers, &HeaderName::from_static("sec-fetch-site"));
    if site.is_some_and(|site| !matches!(site, "same-origin" | "none")) {
        return true;
    }
    let Some(origin) = headers.get(header::ORIGIN) else { return false };
    let host = single(headers, &header::HOST).unwrap_or_default();
    let from = origin.to_str().ok().and_then(|origin| origin.split_once("://")).map(|(_, host)| host);
    from.is_none_or(|from| !from.eq_ignore_ascii_case(host))
}

/// Returns whether a foreign page loads this in the background, for example as an image, because each look costs work.
/// Following a link from a foreign page is allowed.
pub fn is_embedded(headers: &HeaderMap) -> bool {
    let said = |name: &'static str| single(headers, &HeaderName::from_static(name));
    said("sec-fetch-site") == Some("cross-site") && said("sec-fetch-mode").is_some_and(|mode| mode != "navigate")
}

/// Returns the value of a header that occurs exactly once.
fn single<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    let mut all = headers.get_all(name).iter();
    let first = all.next()?.to_str().ok()?;
    all.next().is_none().then_some(first)
}

/// Returns the name, if there is one, and the secret of the credentials.
fn credentials(headers: &HeaderMap) -> Option<(Option<String>, String)> {
    let (scheme, value) = single(headers, &header::AUTHORIZATION)?.split_once(' ')?;
    if scheme.eq_ignore_ascii_case("bearer") {
        return Some((None, value.trim().to_owned()));
    }
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let text = String::from_utf8(BASE64_STANDARD.decode(value.trim()).ok()?).ok()?;
    let (name, secret) = text.split_once(':')?;
    Some((Some(name.to_owned()), secret.to_owned()))
}

/// The headers of every answer: only files of this console, no scripts in pages, no frames, no caching.
const HEADERS: [(&str, &str); 8] = [
    (
        "content-security-policy",
        "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; img-src 'self'; \
         form-action 'self'; frame-ancestors 'none'; base-uri 'none'",
    ),
    ("x-frame-options", "DENY"),
    ("x-content-type-options", "nosniff"),
    // Not "no-referrer": with it, browsers send "Origin: null" from this console's own forms, which is refused.
    ("referrer-policy", "same-origin"),
    ("cache-control", "no-store"),
    ("cross-origin-opener-policy", "same-origin"),
    ("cross-origin-resource-policy", "same-origin"),
    ("permissions-policy", "camera=(), geolocation=(), microphone=()"),
];

/// Adds the headers of every answer.
pub fn add_headers(response: &mut Response) {
    for (name, value) in HEADERS {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
}

/// Creates a refusal in plain text, with the headers of every answer.
pub fn plain(status: StatusCode, text: &'static str) -> Response {
    let mut response = Response::new(Body::from(text));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    add_headers(&mut response);
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digest_of(secret: &str) -> [u8; 32] {
        digest::digest(&digest::SHA256, secret.as_bytes()).as_ref().try_into().unwrap()
    }

    fn door(listen: &str, hosts: &[&str], credentials: &[(&str, Role, &str)]) -> Door {
        let credentials = credentials.iter().map(|(name, role, secret)| Credential {
            name: (*name).to_owned(),
            role: *role,
            digest: digest_of(secret),
        });
        Door::new(&Console {
            listen: listen.parse().unwrap(),
            credentials: Rotating::said(credentials.collect()),
            hosts: hosts.iter().map(|host| (*host).to_owned()).collect(),
            discard_directory: None,
        })
    }

    fn headers(all: &[(&'static str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in all {
            headers.append(HeaderName::from_static(name), value.parse().unwrap());
        }
        headers
    }

    #[test]
    fn other_names_for_the_loopback_are_refused() {
        let check = |listen: &str, hosts: &[&str], host: &str, known: bool| {
            let door = door(listen, hosts, &[("a", Role::Act, "s")]);
            assert_eq!(door.knows_host(&headers(&[("host", host)])), known, "{listen} {hosts:?} {host}");
        };
        for host in ["localhost", "LOCALHOST:9465", "127.0.0.1:9465", "127.9.9.9", "[::1]:9465", "[::1]"] {
            check("127.0.0.1:9465", &[], host, true);
        }
        for host in ["evil.example", "127.0.0.1.evil.example", "localhost.evil.example:9465", "10.0.0.1", "", "a:b:c"] {
            check("127.0.0.1:9465", &[], host, false);
        }
        check("127.0.0.1:9465", &["console.example"], "console.example:443", true);
        check("0.0.0.0:9465", &[], "anything.example", true);
        check("0.0.0.0:9465", &["console.example"], "anything.example", false);
        check("0.0.0.0:9465", &["console.example:8443"], "console.example", false);
        assert!(!door("[::1]:1", &[], &[]).knows_host(&HeaderMap::new()));
        let twice = headers(&[("host", "localhost"), ("host", "evil.example")]);
        assert!(!door("[::1]:1", &[], &[]).knows_host(&twice));
    }

    #[test]
    fn credentials_identify_a_person() {
        let door = door("[::1]:1", &[], &[("anna", Role::Act, "s3cret:one"), ("ben", Role::Read, "s3cret2")]);
        let basic = |text: &str| headers(&[("authorization", &format!("Basic {}", BASE64_STANDARD.encode(text)))]);
        let anna = Visitor { name: "anna".into(), role: Role::Act };
        assert_eq!(door.visitor(&basic("anna:s3cret:one")), Ok(anna.clone()));
        assert_eq!(door.visitor(&headers(&[("authorization", "bearer s3cret:one")])), Ok(anna));
        assert_eq!(door.visitor(&HeaderMap::new()), Err(Refused::Missing));
        for (wrong, of) in [("anna:s3cret2", "anna"), ("ben:", "ben"), ("eve:s3cret2", ""), ("ben", "")] {
            assert_eq!(door.visitor(&basic(wrong)), Err(Refused::Wrong(of.into())), "{wrong}");
        }
        for wrong in ["Basic !!", "Bearer ", "Digest x", "x", "Bearer nothing"] {
            let refused = door.visitor(&headers(&[("authorization", wrong)]));
            assert_eq!(refused, Err(Refused::Wrong(String::new())), "{wrong}");
        }
    }

    #[test]
    fn without_credentials_this_machine_may_read_and_not_act() {
        let visitor = door("127.0.0.1:1", &[], &[]).visitor(&HeaderMap::new()).unwrap();
        assert_eq!(visitor.role, Role::Read);
    }

    #[test]
    fn a_token_is_good_for_one_person_in_one_process() {
        let settings = [("anna", Role::Act, "s"), ("ben", Role::Act, "t")];
        let (one, other) = (door("[::1]:1", &[], &settings), door("[::1]:1", &[], &settings));
        let anna = Visitor { name: "anna".into(), role: Role::Act };
        let ben = Visitor { name: "ben".into(), role: Role::Act };
        let token = one.token(&anna);
        assert!(one.is_ours(&anna, &token));
        assert!(!one.is_ours(&ben, &token) && !other.is_ours(&anna, &token));
        assert!(!one.is_ours(&anna, "") && !one.is_ours(&anna, &token[1..]));
    }

    #[test]
    fn pages_of_others_are_foreign() {
        let check = |all: &[(&'static str, &str)], foreign: bool| {
            let mut all = all.to_vec();
            all.push(("host", "localhost:9465"));
            assert_eq!(is_foreign(&headers(&all)), foreign, "{all:?}");
        };
        check(&[], false);
        check(&[("origin", "http://localhost:9465")], false);
        check(&[("origin", "https://localhost:9465"), ("sec-fetch-site", "same-origin")], false);
        check(&[("origin", "http://evil.example")], true);
        check(&[("origin", "http://localhost:1")], true);
        check(&[("origin", "null")], true);
        check(&[("sec-fetch-site", "cross-site")], true);
        check(&[("sec-fetch-site", "same-site")], true);
    }
}
