//! Reads the URLs of a store.

use url::Url;

use super::{
    fields::{Fields, Said},
    problem::Problems,
};

/// Reads a URL. `instead` says in messages where credentials belong.
pub(super) fn read(fields: &Fields<'_>, key: &str, instead: &str, problems: &mut Problems) -> Said<Url> {
    match fields.text(key, "an http or https URL", problems) {
        Said::Nothing => Said::Nothing,
        Said::Unusable => Said::Unusable,
        Said::Value((text, place)) => match parse_url(text, instead) {
            Ok(url) => Said::Value(url),
            Err(text) => {
                problems.error(place, fields.path.key(key), text);
                Said::Unusable
            }
        },
    }
}

/// Parses and checks a URL. No error contains the URL, because it may hold credentials.
fn parse_url(text: &str, instead: &str) -> Result<Url, String> {
    if text.contains("${") {
        return Err("contains `${`; variables are allowed in header values and secrets only, never in URLs".into());
    }
    if text.chars().any(|c| c.is_whitespace() || c.is_control()) {
        return Err("contains blanks or control characters; write them percent-encoded".into());
    }
    let url = Url::parse(text).map_err(|error| match error {
        url::ParseError::RelativeUrlWithoutBase => {
            "is not a complete URL; begin with `https://` or `http://`".to_owned()
        }
        error => format!("is not a URL: {error}; write `https://host/path`"),
    })?;
    if !matches!(url.scheme(), "http" | "https") {
        // The scheme is not shown, because it may be the user name of a URL without a scheme.
        return Err("has another scheme, but must begin with `https://` or `http://`".into());
    }
    if url.host_str().is_none_or(str::is_empty) {
        return Err("names no host; write `https://host/path`".into());
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(format!("holds a user name or password; {instead}"));
    }
    if url.fragment().is_some() {
        return Err("has a fragment (`#...`), which HTTP does not send; leave it out or write `%23`".into());
    }
    if url.port() == Some(0) {
        return Err("has the port 0, on which no server can listen".into());
    }
    Ok(url)
}
