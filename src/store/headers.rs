//! The headers of a webhook: the names that a store may set, and the values that are allowed.

use reqwest::header::{CONTENT_TYPE, HeaderName, HeaderValue, USER_AGENT};

use super::{
    document::{KeyPath, Node, Value},
    fields::Fields,
    problem::Problems,
    secrets::{SecretText, Vault},
};
use crate::delivery::request;

/// Header names that a store may not set, because HTTP or Leadhook sets them (docs/how-to/receive.md). `Content-Type`
/// and `User-Agent` may be extended, see [`addition`].
const RESERVED: [&str; 10] = [
    "connection",
    "expect",
    "host",
    "keep-alive",
    "te",
    "traceparent",
    "trailer",
    "trailers",
    "transfer-encoding",
    "upgrade",
];

/// Prefixes of header names that a store may not set.
const RESERVED_FAMILIES: [&str; 4] = ["content-", "leadhook-", "proxy-", "webhook-"];

/// Most headers of one webhook. Servers accept about a hundred in all. A [`HeaderMap`](reqwest::header::HeaderMap)
/// panics at some tens of thousands.
const MOST: usize = 50;

/// Most bytes of one value. Common servers accept 8 KiB for one header line, and some accept 8 KiB for all of them.
const LONGEST: usize = 8192;

/// Reads `headers`: a map from names to values.
pub(super) fn read(
    node: &Node,
    path: &KeyPath,
    vault: &mut Vault<'_>,
    problems: &mut Problems,
) -> Vec<(HeaderName, HeaderValue)> {
    let mut headers: Vec<(HeaderName, HeaderValue)> = Vec::new();
    let mut seen: Vec<(HeaderName, usize)> = Vec::new();
    let Some(fields) = Fields::of(node, path, problems) else { return headers };
    let count = fields.iter().count();
    if count > MOST {
        problems.error(&node.place, path, format!("has {count} headers, but must have at most {MOST}"));
        return headers;
    }
    for (entry, path) in fields.iter() {
        let name = match name(&entry.key) {
            Ok(name) => name,
            Err(text) => {
                problems.error(&entry.place, &path, text);
                continue;
            }
        };
        if let Some((_, line)) = seen.iter().find(|(earlier, _)| *earlier == name) {
            let text = format!("is the same header as the one on line {line}: header names have no case");
            problems.error(&entry.place, &path, text);
            continue;
        }
        seen.push((name.clone(), entry.place.line));
        if is_credential(name.as_str()) {
            note_in_clear(&entry.node, &path, vault);
        }
        let Some(secret) = secret(&entry.node, &path, vault, problems) else { continue };
        match value(&secret).and_then(|value| addition(&name, value)) {
            Ok(value) => headers.push((name, value)),
            Err(text) => problems.error(&entry.node.place, &path, text),
        }
    }
    headers
}

/// Returns whether the name suggests that the header holds a credential.
fn is_credential(name: &str) -> bool {
    let words = ["auth", "cookie", "key", "password", "secret", "signature", "token"];
    words.iter().any(|word| name.contains(word))
}

/// Notes a secret that the store holds in plain text, without a variable or a file.
pub(super) fn note_in_clear(node: &Node, path: &KeyPath, vault: &mut Vault<'_>) {
    if matches!(&node.value, Value::Text(text) if !text.contains("${")) {
        vault.stands_in_clear(&node.place, path);
    }
}

/// Reads a header value or a secret: a text with variables, or a map that names a file.
pub(super) fn secret(
    node: &Node,
    path: &KeyPath,
    vault: &mut Vault<'_>,
    problems: &mut Problems,
) -> Option<SecretText> {
    let filled = match &node.value {
        Value::Text(text) => vault.fill(text),
        Value::Map(_) => return secret_file(node, path, vault, problems),
        Value::Nothing => Err("has no value; write a text or `{ file: NAME }`".to_owned()),
        other => Err(format!("is {}, but must be a text (in quotes) or `{{ file: NAME }}`", other.kind())),
    };
    filled.map_err(|text| problems.error(&node.place, path, text)).ok()
}

fn secret_file(node: &Node, path: &KeyPath, vault: &mut Vault<'_>, problems: &mut Problems) -> Option<SecretText> {
    let fields = Fields::of(node, path, problems)?;
    fields.expect(&["file", "prefix"], |_| None, problems);
    let prefix = fields.text("prefix", "a text that is put before the file's contents", problems);
    if fields.get("file").is_none() {
        problems.error(&node.place, path, "lacks `file`, the name of a file under `secrets.directory`");
    }
    let (name, place) =
        fields.text("file", "the name of a file under `secrets.directory`", problems).value().copied()?;
    let contents = vault.file(name).map_err(|text| problems.error(place, fields.path.key("file"), text)).ok()?;
    match prefix.value() {
        None => Some(contents),
        Some((prefix, place)) => {
            let prefix =
                vault.fill(prefix).map_err(|text| problems.error(place, fields.path.key("prefix"), text)).ok()?;
            Some(prefix.followed_by(&contents))
        }
    }
}

fn name(text: &str) -> Result<HeaderName, String> {
    let name = HeaderName::from_bytes(text.as_bytes())
        .map_err(|_| "is not a header name; letters, digits and - _ . are usual".to_owned())?;
    let reserved = name.as_str();
    if name == CONTENT_TYPE {
        return Ok(name);
    }
    if RESERVED.contains(&reserved) || RESERVED_FAMILIES.iter().any(|family| reserved.starts_with(family)) {
        return Err("is a reserved header: HTTP or Leadhook sets it itself; use a name of your own".to_owned());
    }
    Ok(name)
}

/// Checks the values of the two headers that a store may extend. Some receivers want a charset in `Content-Type`, and
/// some tell senders apart by a suffix of `User-Agent`.
fn addition(name: &HeaderName, value: HeaderValue) -> Result<HeaderValue, String> {
    if *name == CONTENT_TYPE && !request::is_json_in_utf8(&value) {
        return Err("must be `application/json; charset=utf-8` or left out: a body is JSON in UTF-8".to_owned());
    }
    if *name == USER_AGENT && value.is_empty() {
        return Err("is empty; write what is to stand behind `leadhook/<version>`, or leave it out".to_owned());
    }
    Ok(value)
}

/// Checks that a value has only printable ASCII and tabs, which every HTTP server accepts. No error contains the value.
fn value(secret: &SecretText) -> Result<HeaderValue, String> {
    let text = secret.expose();
    if text.len() > LONGEST {
        return Err(format!("has {} bytes, but must have at most {LONGEST}: servers refuse more", text.len()));
    }
    if text.bytes().any(|byte| byte == b'\n' || byte == b'\r') {
        return Err(
            "contains a line break; a header value is one line (is there one at the end of a variable?)".to_owned()
        );
    }
    if !text.bytes().all(|byte| byte == b'\t' || (b' '..=b'~').contains(&byte)) {
        return Err("contains characters other than printable ASCII, which header values cannot carry".to_owned());
    }
    if text.trim_matches([' ', '\t']) != text {
        return Err("begins or ends with a blank, which HTTP would drop".to_owned());
    }
    let mut value = HeaderValue::from_str(text).map_err(|_| "cannot be a header value".to_owned())?;
    value.set_sensitive(true);
    Ok(value)
}
