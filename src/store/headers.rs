//! The headers of a webhook: which names a store may set, and what a value may be.

use reqwest::header::{CONTENT_TYPE, HeaderName, HeaderValue, USER_AGENT};

use super::{
    document::{KeyPath, Node, Value},
    fields::Fields,
    problem::Problems,
    secrets::{SecretText, Vault},
};
use crate::delivery::request;

/// Names that belong to HTTP or to the delivery itself (docs/how-to/receive.md). `Content-Type` and `User-Agent` may say more than
/// Leadhook does by itself, see [`addition`].
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

/// Families of such names.
const RESERVED_FAMILIES: [&str; 4] = ["content-", "leadhook-", "proxy-", "webhook-"];

/// Headers of one webhook. What servers take is about a hundred in all; and far beyond any use, a map of headers cannot
/// hold more than some ten thousand, and panics.
const MOST: usize = 50;

/// Bytes of one value: common servers take 8 KiB for a header line, some for all of them.
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

/// Whether a header of this name holds a credential, as far as names tell.
fn is_credential(name: &str) -> bool {
    let words = ["auth", "cookie", "key", "password", "secret", "signature", "token"];
    words.iter().any(|word| name.contains(word))
}

/// Notes a secret that is a text and refers to nothing outside of the store.
pub(super) fn note_in_clear(node: &Node, path: &KeyPath, vault: &mut Vault<'_>) {
    if matches!(&node.value, Value::Text(text) if !text.contains("${")) {
        vault.stands_in_clear(&node.place, path);
    }
}

/// A text with variables, or a map that names a file: the two forms of header values and signing secrets.
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
        .map_err(|_| "is no header name; letters, digits and - _ . are usual".to_owned())?;
    let reserved = name.as_str();
    if name == CONTENT_TYPE {
        return Ok(name);
    }
    if RESERVED.contains(&reserved) || RESERVED_FAMILIES.iter().any(|family| reserved.starts_with(family)) {
        return Err("is a reserved header: HTTP or Leadhook sets it itself; use a name of your own".to_owned());
    }
    Ok(name)
}

/// Checks the values of two headers that Leadhook sets itself: some receivers want a charset, and some tell senders apart by a
/// suffix to `User-Agent`.
fn addition(name: &HeaderName, value: HeaderValue) -> Result<HeaderValue, String> {
    if *name == CONTENT_TYPE && !request::is_json_in_utf8(&value) {
        return Err("must be `application/json; charset=utf-8` or left out: a body is JSON in UTF-8".to_owned());
    }
    if *name == USER_AGENT && value.is_empty() {
        return Err("is empty; write what is to stand behind `leadhook/<version>`, or leave it out".to_owned());
    }
    Ok(value)
}

/// Printable ASCII and tabs: what every HTTP server takes. The value itself is never part of the message.
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
