//! The `oauth2` key of a webhook: how Leadhook gets a token for a receiver by client credentials (RFC 6749, section
//! 4.4).

use std::fmt;

use aws_lc_rs::digest::{Context, SHA256};
use url::Url;

use super::{
    document::{KeyPath, Node},
    fields::{Fields, Said},
    headers,
    problem::Problems,
    secrets::{SecretText, Vault},
    url as urls,
};

/// The server that issues tokens, and the client that requests them. `Debug` shows no secret.
pub struct Oauth2 {
    /// The URL that issues tokens.
    pub token_url: Url,
    /// The id of the client.
    pub client_id: String,
    client_secret: SecretText,
    /// The scopes to request, separated by blanks.
    pub scope: Option<String>,
}

impl Oauth2 {
    /// Makes one for tests.
    #[cfg(test)]
    pub(crate) fn new(token_url: Url, client_id: &str, client_secret: &str, scope: Option<&str>) -> Oauth2 {
        let client_secret = SecretText::of(client_secret);
        Oauth2 { token_url, client_id: client_id.to_owned(), client_secret, scope: scope.map(str::to_owned) }
    }

    /// Returns the client's secret, for requesting a token only.
    pub fn client_secret(&self) -> &str {
        self.client_secret.expose()
    }

    /// Returns a SHA-256 digest of all values. A token serves only credentials with an equal digest.
    pub fn fingerprint(&self) -> [u8; 32] {
        let mut context = Context::new(&SHA256);
        let scope = self.scope.as_deref().unwrap_or_default();
        for part in [self.token_url.as_str(), &self.client_id, self.client_secret(), scope] {
            context.update(&(part.len() as u64).to_be_bytes());
            context.update(part.as_bytes());
        }
        context.finish().as_ref().try_into().unwrap_or_default()
    }
}

/// Shows only the origin of the URL, and no secret.
impl fmt::Debug for Oauth2 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let origin = self.token_url.origin().ascii_serialization();
        f.debug_struct("Oauth2").field("token_url", &origin).finish_non_exhaustive()
    }
}

/// Reads `oauth2: { token_url, client_id, client_secret, scope }`. Only `scope` is optional.
pub(super) fn read(node: &Node, path: &KeyPath, vault: &mut Vault<'_>, problems: &mut Problems) -> Option<Oauth2> {
    let fields = Fields::of(node, path, problems)?;
    fields.expect(&["token_url", "client_id", "client_secret", "scope"], |_| None, problems);
    for (key, what) in [
        ("token_url", "the URL that gives tokens"),
        ("client_id", "the name of the client that asks for them"),
        ("client_secret", "its secret: a text or `{ file: NAME }`"),
    ] {
        if fields.get(key).is_none() {
            problems.error(&node.place, path, format!("lacks `{key}`, {what}"));
        }
    }
    let instead = "write them as `client_id` and `client_secret` instead";
    let token_url = urls::read(&fields, "token_url", instead, problems);
    let client_id = text(&fields, "client_id", is_client, "printable ASCII, and no variable", problems);
    let scope = text(&fields, "scope", is_scope, "printable ASCII without quotes and backslashes", problems);
    let client_secret = fields.get("client_secret").and_then(|entry| {
        let path = path.key("client_secret");
        headers::note_in_clear(&entry.node, &path, vault);
        let secret = headers::secret(&entry.node, &path, vault, problems)?;
        let right = is_client(secret.expose());
        if !right {
            problems.error(&entry.node.place, &path, "must be printable ASCII and not empty");
        }
        right.then_some(secret)
    });
    let scope = match scope {
        Said::Nothing => None,
        Said::Unusable => return None,
        Said::Value(scope) => Some(scope),
    };
    Some(Oauth2 {
        token_url: token_url.value()?.clone(),
        client_id: client_id.value()?.clone(),
        client_secret: client_secret?,
        scope,
    })
}

fn text(
    fields: &Fields<'_>,
    key: &str,
    is_right: fn(&str) -> bool,
    must: &str,
    problems: &mut Problems,
) -> Said<String> {
    match fields.text(key, must, problems) {
        Said::Nothing => Said::Nothing,
        Said::Value((text, _)) if is_right(text) && !text.contains("${") => Said::Value(text.to_owned()),
        Said::Value((_, place)) => {
            problems.error(place, fields.path.key(key), format!("must be {must}, and not empty"));
            Said::Unusable
        }
        Said::Unusable => Said::Unusable,
    }
}

/// Returns whether a client's id or secret has only allowed characters, at least one (RFC 6749, appendix A).
fn is_client(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| (b' '..=b'~').contains(&byte))
}

/// Returns whether a scope has only allowed characters: words with one blank between them.
fn is_scope(text: &str) -> bool {
    let is_word =
        |word: &str| !word.is_empty() && word.bytes().all(|byte| matches!(byte, 0x21 | 0x23..=0x5b | 0x5d..=0x7e));
    text.split(' ').all(is_word)
}
